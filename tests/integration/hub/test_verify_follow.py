"""``nhri-hub audit verify --follow`` beside a running hub."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from hub.cli import audit
from hub.cli.access import Access
from hub.cli.client import connect
from hub.cli.outcome import NotSo, Unreachable
from tests import client
from tests.integration.hub.test_patrol import edit
from tests.simulator.waiting import DEADLINE


class Following:
    """The command at work."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.notes: list[str] = []

    @asynccontextmanager
    async def beside(self, settings):
        """Started, and stopped in the end."""
        access = Access(Path(settings.folder) / "hub.toml")
        async with connect(access, as_json=True) as hub:
            task = asyncio.create_task(audit._follow(hub, access.log_vkey(None)))
            try:
                yield task
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def told(self, task, size):
        """Wait until it has said that the log has so many entries."""
        async with asyncio.timeout(DEADLINE):
            while size not in self.sizes and not task.done():
                await asyncio.wait([task], timeout=0.01)
        assert size in self.sizes, task


@pytest.fixture
def following(monkeypatch):
    made = Following()
    monkeypatch.setattr(audit, "FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(audit, "print_json_line", lambda head: made.sizes.append(head["size"]))
    monkeypatch.setattr(audit, "note", made.notes.append)
    return made


async def test_it_tells_the_head_at_once_and_whenever_the_log_has_grown(hub, kz, following):
    async with following.beside(hub.settings) as task:
        await following.told(task, await hub.size())
        assert len(following.sizes) == 1
        await kz.send()
        await kz.send()
        await following.told(task, await hub.size())
    assert following.sizes == sorted(set(following.sizes))


async def test_it_ends_when_the_hub_finds_its_log_edited(hub, following, monkeypatch):
    monkeypatch.setattr(audit, "ROUND_SECONDS", 0)
    async with following.beside(hub.settings) as task:
        await following.told(task, await hub.size())
        edit(hub.settings, "UPDATE log_entries SET subject = 'x' WHERE idx = 0")
        with pytest.raises(NotSo, match="The columns of entry 0 say otherwise"):
            await asyncio.wait_for(task, DEADLINE)


async def test_it_ends_when_the_log_served_is_another_than_before(hub, following, monkeypatch):
    async with following.beside(hub.settings) as task:
        await following.told(task, await hub.size())
        # Of the tiles alone: what was verified is compared with what is served now. Whatever is
        # written to them is edited, since the next commit would write the right ones again.
        with closing(sqlite3.connect(Path(hub.settings.folder) / "hub.sqlite")) as database:
            database.execute(
                "CREATE TRIGGER edit AFTER UPDATE ON tiles WHEN NEW.level = 0 BEGIN "
                "UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0; END"
            )
        await hub.participant("kz").send()
        with pytest.raises(NotSo, match=r"do not lead to the root|not the log"):
            await asyncio.wait_for(task, DEADLINE)


async def test_it_waits_for_a_hub_that_is_away_for_a_while(settings, clock, following):
    async with AsyncExitStack() as stack:
        async with client.running(settings) as hub:
            task = await stack.enter_async_context(following.beside(settings))
            await following.told(task, await hub.size())
        async with asyncio.timeout(DEADLINE):
            while not following.notes:
                await asyncio.wait([task], timeout=0.01)
        async with client.running(settings) as hub:
            await following.told(task, await hub.size())
    assert "Cannot reach the hub" in following.notes[0]


async def test_it_ends_when_there_never_was_a_hub(settings, following):
    async with following.beside(settings) as task:
        with pytest.raises(Unreachable):
            await task
