"""The hub on HTTP and SQLite with everything on, against a bare aiohttp POST that only answers."""

import statistics
from pathlib import Path

import msgspec

from hub.settings import Settings
from tests.bench import hubs, load
from tests.bench.load import Figures
from tests.bench.processes import listening, process, resident_mb
from tests.bench.scale import Scale
from tests.ports import free_port

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


async def measure(folder: Path, scale: Scale) -> HttpFigures:
    """Rounds of bare and hub in turn, on a new hub in ``folder``."""
    settings = hubs.new(folder)
    bare_port = free_port()
    async with process("-c", BARE, str(bare_port)), hubs.serving(settings) as hub:
        await listening("127.0.0.1", bare_port)
        await listening(settings.http.host, settings.http.port)
        keys = await load.join_members(settings)
        rounds = [
            (
                await _round(f"http://127.0.0.1:{bare_port}{PATH}", keys, settings, scale.posts),
                await _round(f"{settings.url}{PATH}", keys, settings, scale.posts),
            )
            for _ in range(scale.rounds)
        ]
        resident = resident_mb(hub.pid)
    middle = statistics.median_low([one.per_second / bare.per_second for bare, one in rounds])
    bare, one = next(r for r in rounds if r[1].per_second / r[0].per_second == middle)
    return HttpFigures(bare, one, middle, resident)


async def _round(url: str, keys: load.KeyRing, settings: Settings, count: int) -> Figures:
    signed = [
        (body, load.token(keys[code], code, settings.origin, PATH))
        for code, body in load.messages(keys, count)
    ]
    return await load.post_all(url, signed)
