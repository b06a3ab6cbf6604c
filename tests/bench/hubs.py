"""Hubs as processes of their own, without a quota that would stop the load."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

from hub import settings as configuration
from hub.settings import Settings
from tests.bench.processes import process
from tests.ports import free_port

UNBOUNDED: Final = 1_000_000_000

_SERVE = "import sys; from hub.cli.main import main; sys.argv[0] = 'nhri-hub'; main()"


def new(folder: Path, database: str = "", broker: str = "", outstanding: int = 1_000) -> Settings:
    """Settings of a new hub in a folder; ``outstanding`` bounds the inboxes, by default as usual.

    Without the URL of a database it has SQLite.
    """
    path = configuration.initialise(folder, "hub.example", free_port())
    text = path.read_text()
    text = text.replace("messages_per_hour = 2000", f"messages_per_hour = {UNBOUNDED}")
    if database:
        text = text.replace("sqlite:///hub.sqlite", database)
    if broker:
        text += f'\n[broker]\nurl = "{broker}"\noutstanding = {outstanding}\n'
    path.write_text(text)
    return configuration.load(path, {})


def starting(settings: Settings) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """The hub's process, which is not waited for."""
    config = f"{settings.folder}/hub.toml"
    return process("-c", _SERVE, "serve", "--config", config, quiet=True)


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The hub's process, its socket open."""
    async with starting(settings) as hub:
        async with asyncio.timeout(90):
            while not await _answers(settings.socket):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.05)
        yield hub


async def _answers(socket: Path) -> bool:
    """Whether somebody listens; the file is there a moment before."""
    try:
        _, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    writer.close()
    return True
