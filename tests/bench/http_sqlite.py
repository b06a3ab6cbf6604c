"""The hub on HTTP and SQLite with everything on, against a bare aiohttp POST that only answers."""

import asyncio
import contextlib
import socket
import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from hub import settings as configuration
from hub.settings import Settings
from tests.bench import load
from tests.bench.load import Figures

ROUNDS = 3
MESSAGES = 3_000
PATH = "/v1/messages"

BARE = """
import sys
import uvloop
from aiohttp import web

async def answer(request):
    await request.read()
    return web.Response(body=b"x" * 1500, status=201)

application = web.Application()
application.router.add_post("/v1/messages", answer)
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None,
            loop=uvloop.new_event_loop())
"""


class HttpFigures(msgspec.Struct, frozen=True):
    """The median round; ``ratio`` is hub to bare; memory in MB after all rounds."""

    bare: Figures
    hub: Figures
    ratio: float
    hub_resident_mb: float


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that is ended with the block."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.terminate()
        await started.wait()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def resident_mb(pid: int) -> float:
    """Resident memory of a process (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def new_hub(folder: Path) -> Settings:
    """Settings of a new hub without a quota that would stop the load."""
    path = configuration.initialise(folder, "hub.example", free_port())
    unlimited = "messages_per_hour = 1000000000"
    path.write_text(path.read_text().replace("messages_per_hour = 2000", unlimited))
    return configuration.load(path, {})


async def listening(host: str, port: int) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def measure(folder: Path) -> HttpFigures:
    """Rounds of bare and hub in turn, on a new hub in ``folder``."""
    settings = new_hub(folder)
    bare_port = free_port()
    serve = "import sys; from hub.cli.main import main; sys.argv[0] = 'nhri-hub'; main()"
    config = str(folder / "hub.toml")
    async with (
        process("-c", BARE, str(bare_port)),
        process("-c", serve, "serve", "--config", config) as hub,
    ):
        await listening("127.0.0.1", bare_port)
        await listening(settings.http.host, settings.http.port)
        keys = await load.join_members(settings)
        rounds = [
            (
                await _round(f"http://127.0.0.1:{bare_port}{PATH}", keys, settings),
                await _round(f"{settings.url}{PATH}", keys, settings),
            )
            for _ in range(ROUNDS)
        ]
        resident = resident_mb(hub.pid)
    middle = statistics.median_low([one.per_second / bare.per_second for bare, one in rounds])
    bare, one = next(r for r in rounds if r[1].per_second / r[0].per_second == middle)
    return HttpFigures(bare, one, middle, resident)


async def _round(url: str, keys: load.KeyRing, settings: Settings) -> Figures:
    signed = [
        (body, load.token(keys[code], code, settings.origin, PATH))
        for code, body in load.messages(keys, MESSAGES)
    ]
    return await load.post_all(url, signed)
