"""A full disk: the hub says "later", nothing is half-written, and it works again afterwards."""

import pytest
from sqlalchemy import text

from hub import app
from hub.store.database import Database, open_database
from tests.client import Answer


class Disk:
    """The room that the hub's database has."""

    database: Database

    async def open(self, url, folder):
        """Open a database and keep it, in place of ``open_database``."""
        self.database = await open_database(url, folder)
        return self.database

    async def fill(self):
        """No page more than there are."""
        await self._limit("(SELECT page_count FROM pragma_page_count)")

    async def clear(self):
        await self._limit("1073741823")

    async def _limit(self, pages):
        def work(connection):
            count = connection.execute(text(f"SELECT {pages}")).scalar_one()
            connection.execute(text(f"PRAGMA max_page_count={int(count)}"))

        await self.database.write(work)


@pytest.fixture
def disk(monkeypatch):
    made = Disk()
    monkeypatch.setattr(app, "open_database", made.open)
    return made


async def fill_up(disk, kz):
    """Send until the disk is full; what was not accepted, and what was."""
    await disk.fill()
    accepted: list[Answer] = []
    for _ in range(1_000):
        message = kz.message()
        answer = await kz.submit(kz.sign(message))
        if answer.status != 201:
            return message, answer, accepted
        accepted.append(answer)
    raise AssertionError("the disk never was full")


async def test_is_told_as_try_again_later(disk, hub, kz):
    _, answer, _ = await fill_up(disk, kz)
    assert (answer.status, answer.code) == (503, "storage")
    assert answer["retryable"] is True
    assert int(answer.headers["Retry-After"]) > 0


async def test_leaves_nothing_half_written(disk, hub, kz, kg):
    message, _, accepted = await fill_up(disk, kz)
    size = await hub.size()
    await kz.submit(kz.sign(message))
    assert await hub.size() == size
    answer = await kg.get("/v1/inbox", limit=1)
    assert answer["last"] == len(accepted)
    assert (await kz.get(f"/v1/messages/{message['id']}")).code == "not-found"


async def test_still_lets_everybody_read(disk, hub, kz, kg):
    _, _, accepted = await fill_up(disk, kz)
    items = await kg.inbox()
    assert [delivery.entry for _, delivery in items] == [each["entry"] for each in accepted][:100]


async def test_is_seen_from_outside_until_it_is_over(disk, hub, kz):
    message, _, _ = await fill_up(disk, kz)
    ready = await hub.account().get("/readyz")
    assert (ready.status, ready["ok"]) == (503, False)
    assert "full" in ready["reason"]
    await disk.clear()
    await kz.submit(kz.sign(message))
    assert (await hub.account().get("/readyz")).status == 200


async def test_is_got_over_with_every_message_once_and_a_log_that_verifies(disk, hub, kz, kg):
    message, _, accepted = await fill_up(disk, kz)
    await disk.clear()
    answer = await kz.submit(kz.sign(message))
    assert answer.status == 201
    position = hub.open(answer.acceptance())
    assert position.entry.subject == message["id"]
    last = (await kg.get("/v1/inbox", limit=1))["last"]
    assert last == len(accepted) + 1
    assert (await hub.operator.get("/v1/audit/verify"))["ok"] is True
