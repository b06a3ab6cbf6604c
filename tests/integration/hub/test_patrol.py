"""The log is edited behind the back of a running hub: who is told, and what stops."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub import upkeep
from hub.ledger import patrol
from tests import client
from tests.integration.hub.test_metrics import measures
from tests.setback import put_back, rows
from tests.simulator.waiting import DEADLINE


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Rounds follow one another at once."""
    for name in ("ROUND_SECONDS", "FOLLOW_SECONDS", "REST"):
        monkeypatch.setattr(patrol, name, 0)


def edit(settings, statement, *values):
    """What somebody does who may write to the database's file."""
    with closing(sqlite3.connect(Path(settings.folder) / "hub.sqlite")) as database, database:
        assert database.execute(statement, values).rowcount == 1


def stored(settings, column, index):
    """What stands in a row of the log."""
    with closing(sqlite3.connect(Path(settings.folder) / "hub.sqlite")) as database:
        database.row_factory = sqlite3.Row
        query = "SELECT * FROM log_entries WHERE idx = ?"
        return database.execute(query, (index,)).fetchone()[column]


def database_of(hub):
    """What the hub reads, to change it under it."""
    return hub.service.queries._database


async def stopped(hub):
    """Wait until the hub has stopped signing; gives why."""
    async with asyncio.timeout(DEADLINE):
        while (reason := (await hub.operator.get("/v1/status"))["signing_stopped"]) is None:
            pass
    return reason


async def verified(hub):
    """Wait until the patrol has hashed all that there is; gives the measures."""
    size = await hub.size()
    shown: dict[tuple[str, ...], float] = {}
    while shown.get(("nhri_hub_verified_entries",)) != size:
        shown = await measures(hub.operator)
    return shown


async def test_an_edited_row_stops_all_signing_and_everybody_who_looks_is_told(settings, clock):
    with capture_logs() as events:
        async with client.running(settings) as hub:
            raw = stored(settings, "entry", 3)
            edit(settings, "UPDATE log_entries SET entry = ? WHERE idx = 3", raw + b" ")
            reason = await stopped(hub)
            assert "first at entry 3 (entry): Entry 3 is not the one that was recorded" in reason
            answer = await hub.participant("kz").send()
            assert (answer.status, answer.code) == (503, "storage")
            ready = await hub.account().get("/readyz")
            assert (ready.status, ready["ok"]) == (503, False)
            assert "deploy/runbooks/log-damaged.md" in ready["reason"]
            shown = await measures(hub.operator)
            assert shown["nhri_hub_verified_problems",] > 0
            assert shown["nhri_hub_signing_stopped",] == 1
            verdict = await hub.operator.get("/v1/audit/verify")
            assert (verdict["ok"], verdict["first_bad"], verdict["kind"]) == (False, 3, "entry")
            assert (await hub.participant("kz").get("/v1/members")).status == 200
    told = [event for event in events if event["event"] == "log.damaged"]
    assert [(event["first_bad"], event["kind"]) for event in told] == [(3, "entry")]


async def test_signing_stays_stopped_over_a_restart_and_goes_on_when_the_row_is_mended(
    settings, clock, monkeypatch
):
    async with client.running(settings) as hub:
        raw = stored(settings, "entry", 0)
        edit(settings, "UPDATE log_entries SET entry = x'00' WHERE idx = 0")
        await stopped(hub)
    monkeypatch.setattr(patrol, "REST", 10_000)
    async with client.running(settings) as hub:
        assert (await hub.participant("kz").send()).code == "storage"
        edit(settings, "UPDATE log_entries SET entry = ? WHERE idx = 0", raw)
        assert (await hub.operator.get("/v1/audit/verify"))["ok"] is True
        assert (await hub.operator.get("/v1/status"))["signing_stopped"] is None
        assert (await hub.participant("kz").send()).status == 201
    assert not settings.damaged.exists()


async def test_the_patrol_finds_a_mended_log_whole_by_itself(settings, clock):
    async with client.running(settings) as hub:
        actor = stored(settings, "actor", 0)
        edit(settings, "UPDATE log_entries SET actor = 'kg' WHERE idx = 0")
        assert "(column)" in await stopped(hub)
        edit(settings, "UPDATE log_entries SET actor = ? WHERE idx = 0", actor)
        async with asyncio.timeout(DEADLINE):
            while (await hub.participant("kz").send()).code == "storage":
                pass
        assert not settings.damaged.exists()


async def test_a_message_that_somebody_emptied_is_no_erasure_of_ours(settings, clock, monkeypatch):
    looked, erase = asyncio.Event(), upkeep._erase

    async def looking(*given):
        await erase(*given)
        looked.set()

    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    monkeypatch.setattr(upkeep, "_erase", looking)
    monkeypatch.setattr(patrol, "ROUND_SECONDS", 3_600)  # what was looked at is not soon again
    async with client.running(settings) as hub, asyncio.timeout(DEADLINE):
        kz = hub.participant("kz")
        made = kz.message()
        assert (await kz.submit(kz.sign(made))).status == 201
        await verified(hub)
        part = "DELETE FROM log_private WHERE idx = (SELECT idx FROM messages WHERE id = ?)"
        edit(settings, part, made["id"])
        empty = "UPDATE messages SET envelope = x'', payload_digest = '' WHERE id = ?"
        edit(settings, empty, made["id"])
        for _ in range(2):  # the first may have begun before the edit
            looked.clear()
            await looked.wait()
        [problem] = (await hub.operator.get("/v1/audit/verify"))["problems"]
        assert f"no entry says that message {made['id']} was erased" in problem


async def test_what_is_new_is_hashed_as_it_comes_and_shows_in_the_measures(
    settings, clock, monkeypatch
):
    monkeypatch.setattr(patrol, "ROUND_SECONDS", 3_600)
    async with client.running(settings) as hub, asyncio.timeout(DEADLINE):
        await hub.participant("kz").send()
        shown = await verified(hub)
    assert shown["nhri_hub_verified_problems",] == 0
    assert shown["nhri_hub_verified_timestamp_seconds",] > 0


async def test_a_message_that_it_has_looked_at_can_be_erased_and_signing_goes_on(
    settings, clock, monkeypatch
):
    monkeypatch.setattr(patrol, "ROUND_SECONDS", 3_600)
    with capture_logs() as events:
        async with client.running(settings) as hub, asyncio.timeout(DEADLINE):
            kz = hub.participant("kz")
            made = kz.message()
            assert (await kz.submit(kz.sign(made))).status == 201
            await verified(hub)
            path = f"/v1/messages/{made['id']}/erase"
            assert (await hub.operator.post(path, reason="Request 12/26")).status == 200
            await verified(hub)
            assert (await hub.operator.get("/v1/status"))["signing_stopped"] is None
            assert (await kz.send()).status == 201
    assert not [event for event in events if event["event"] == "log.damaged"]


async def test_a_database_that_went_back_is_no_damage_and_its_hub_asks_before_it_signs(
    settings, clock, monkeypatch
):
    monkeypatch.setattr(patrol, "ROUND_SECONDS", 3_600)
    async with client.running(settings) as hub, asyncio.timeout(DEADLINE):
        database = database_of(hub)
        kept = await rows(database)
        assert (await hub.participant("kz").send()).status == 201
        await verified(hub)
        await put_back(database, kept)
        # Nobody sends meanwhile: the patrol is the first to see it.
        assert "was restored" in await stopped(hub)
        assert (settings.restored.exists(), settings.damaged.exists()) == (True, False)
        size = await hub.size()
    async with client.running(settings) as hub:
        # What is left is whole; whether it is all that was signed, the witnesses know.
        assert "was restored" in (await hub.operator.get("/v1/status"))["signing_stopped"]
        assert (await hub.participant("kz").send()).code == "storage"
        assert await hub.size() == size
