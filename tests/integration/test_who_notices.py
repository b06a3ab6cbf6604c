"""Who notices what: six attacks upon the exchange, each with what those see whom it concerns.

fork: two histories, one of them shown to one member
    That member, at the first sight of a checkpoint that the others have: alarm ``log-forked``, and
    both signed checkpoints in ``forks/``.
withheld: a message is accepted and not delivered
    Its receiver: alarm ``position-gap``. Its sender after 72 hours: alarm ``receipt-overdue``.
rollback: an older database is put in the place of the newest
    The first witness that asks: alarm ``log-shrank``. By it the hub itself: ``signing_stopped`` in
    the status, alert ``SigningStopped``; nothing is signed.
swapped: two entries change places in the database
    The hub's patrol: ``log.damaged`` with the first bad entry, alert ``LogDamaged``; nothing is
    signed. Whoever follows the log from its beginning: alarm ``log-forked``.
edited: a row is edited behind the hub's back
    The hub's patrol, as before. An auditor who hashes the log on another machine: ``audit verify``
    ends with 1 and names the file.
stolen: the log's key signs a shorter log of its own
    Every member that followed the true one: alarm ``log-shrank`` as a witness, which cosigns
    nothing, so that there is no quorum; alarm ``log-forked`` as a reader, with the evidence.

More cases of each are beside the parts that notice them: `connectors/test_dishonest_hub.py`,
`connectors/test_witness.py`, `hub/test_witnesses.py`, `hub/test_patrol.py`.
"""

import asyncio
import shutil
import sqlite3
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.cli import log_client
from hub.cli.access import Access
from hub.cli.client import connect
from hub.cli.log_client import LogError
from hub.ledger import patrol
from schemas import checkpoint
from tests import client
from tests.integration.connectors.test_dishonest_hub import calm, region, sentence
from tests.integration.connectors.test_witness import cosigned, cosigns, forks, joined
from tests.integration.connectors.test_witness import region as witnessing
from tests.simulator.institution import exchange
from tests.simulator.waiting import DEADLINE, until


async def test_a_fork_is_noticed_by_the_member_that_was_shown_the_other_history():
    async with region() as (hub, kz, kg, tj):
        hub.fork("kg")
        await until(lambda: kg.log.of("log.followed")[-1]["size"] == hub.history.size + 1, "kg")
        hub.fill(1)
        hub.lies.checkpoint = hub.history.checkpoint()
        await kg.alarmed("log-forked")
        sides = {checkpoint.open_checkpoint(raw, hub.log).root for raw in forks(kg).values()}
        assert len(sides) == 2
        assert calm(kz, tj)


async def test_a_withheld_message_is_noticed_by_its_receiver_and_by_its_sender():
    hours = timedelta()
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        await stack.enter_async_context(kz.running(clock=lambda: datetime.now(UTC) + hours))
        await stack.enter_async_context(kg.running())
        withheld, envelope = kz.compose()
        hub.lies.withhold.add(("kg", withheld))
        kz.outbox.put(envelope, withheld)
        await kg.alarmed("position-gap")
        assert "Position 1 of 1" in sentence(kg, "position-gap")
        assert calm(kz)
        hours = timedelta(hours=73)
        await kz.alarmed("receipt-overdue")
        assert "kg has given no receipt" in sentence(kz, "receipt-overdue")


async def test_a_rolled_back_database_is_noticed_by_a_witness_and_then_stopped_by_the_hub(
    tmp_path,
):
    settings = client.new_settings(tmp_path / "hub")
    folder, backup = Path(settings.folder), tmp_path / "backup"
    async with AsyncExitStack() as stack:
        async with client.running(settings) as hub:
            kz = await joined(hub, "kz", tmp_path)
            await stack.enter_async_context(kz.running())
            await until(lambda: cosigned(kz), "cosigned")
        shutil.copytree(folder, backup)
        async with client.running(settings) as hub:
            for _ in range(5):
                await hub.operator.get("/v1/audit/events", limit=1)  # each is an entry
            size = await hub.size()
            await until(lambda: cosigned(kz).size >= size, "cosigned")
        shutil.rmtree(folder)
        backup.rename(folder)
        async with client.running(settings) as hub:
            await kz.alarmed("log-shrank")
            status = await stopped(hub)
            assert "is an older copy" in status["signing_stopped"]
            assert (await invite(hub)).code == "storage"


@pytest.fixture
def hurry(monkeypatch):
    """The patrol goes round at once."""
    for name in ("ROUND_SECONDS", "FOLLOW_SECONDS", "REST"):
        monkeypatch.setattr(patrol, name, 0)


@pytest.fixture
def asleep(monkeypatch):
    """The patrol sees the log once, and then not for hours: the others are on their own."""
    monkeypatch.setattr(patrol, "REST", 1_000_000)


def write(settings, *statements):
    """What somebody does who may write to the database's file."""
    with closing(sqlite3.connect(Path(settings.folder) / "hub.sqlite")) as database, database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0


SWAP = (
    "UPDATE log_entries SET idx = -1 WHERE idx = 1",
    "UPDATE log_entries SET idx = 1 WHERE idx = 2",
    "UPDATE log_entries SET idx = 2 WHERE idx = -1",
)


async def test_swapped_entries_are_noticed_by_the_hub_itself(tmp_path, hurry):
    settings = client.new_settings(tmp_path / "hub")
    async with client.running(settings) as hub:
        await joined(hub, "kz", tmp_path)
        write(settings, *SWAP)
        status = await stopped(hub)
        assert "first at entry 1 (entry)" in status["signing_stopped"]
        assert (await invite(hub)).code == "storage"


async def test_swapped_entries_are_noticed_by_whoever_follows_from_the_beginning(tmp_path, asleep):
    settings = client.new_settings(tmp_path / "hub")
    async with client.running(settings) as hub:
        kz = await joined(hub, "kz", tmp_path)
        write(settings, *SWAP)
        async with kz.running():
            await kz.alarmed("log-forked")


EDIT = "UPDATE log_entries SET entry = CAST(substr(entry, 2) AS BLOB) WHERE idx = 0"


async def test_an_edited_row_is_noticed_by_the_hub_itself(tmp_path, hurry):
    settings = client.new_settings(tmp_path / "hub")
    async with client.running(settings) as hub:
        write(settings, EDIT)
        status = await stopped(hub)
        assert "first at entry 0 (entry)" in status["signing_stopped"]
        verdict = await hub.operator.get("/v1/audit/verify")
        assert (verdict["first_bad"], verdict["kind"]) == (0, "entry")
        shown = (await hub.operator.get("/metrics")).body.decode()
        assert "nhri_hub_verified_problems 0.0" not in shown


async def test_an_edited_row_is_noticed_by_an_auditor_who_does_not_ask_the_hub_for_its_opinion(
    tmp_path, asleep
):
    settings = client.new_settings(tmp_path / "hub")
    access = Access(Path(settings.folder) / "hub.toml")
    async with client.running(settings), connect(access, as_json=True) as hub:
        vkey = access.log_vkey(None)
        await log_client.verify(hub.fetch, vkey, lambda done, total: None)
        write(settings, EDIT)
        with pytest.raises(LogError, match=r"tile/entries/000.p/1 does not hold the entries"):
            await log_client.verify(hub.fetch, vkey, lambda done, total: None)


async def test_a_stolen_log_key_with_a_shorter_log_is_noticed_by_everybody_who_knew_the_true_one():
    async with witnessing("kz", "kg") as (hub, kz, kg):
        stolen = hub.history.another()
        hub.fill(5)
        for one in (kz, kg):
            await cosigns(one, hub.history)
        last = cosigned(kz)
        stolen.record("hub.started", "hub", "the thief's hub")
        assert stolen.size < hub.history.size
        hub.histories |= dict.fromkeys(("kz", "kg"), stolen)
        for one in (kz, kg):
            await one.alarmed("log-shrank")
        # Its own checkpoint, shown as the newest, is of another history than the one followed.
        hub.lies.checkpoint = stolen.checkpoint()
        for one in (kz, kg):
            await one.alarmed("log-forked")
            roots = {checkpoint.open_checkpoint(raw, hub.log).root for raw in forks(one).values()}
            assert stolen.root(stolen.size) in roots
        assert cosigned(kz) == last
        assert ("kz", stolen.size) not in hub.cosigned


async def stopped(hub):
    """Wait until the hub has stopped signing; its status then."""
    async with asyncio.timeout(DEADLINE):
        while not (status := await hub.operator.get("/v1/status"))["signing_stopped"]:
            pass
    return status


async def invite(hub):
    """Something that would be signed."""
    return await hub.operator.post("/v1/members", code="uz", role="member", names={"en": "UZ"})
