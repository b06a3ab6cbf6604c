"""Two hubs on one PostgreSQL: who waits at one of them is woken by what the other one records."""

import asyncio
import contextlib
import shutil

import pytest
from msgspec.structs import replace

from tests import client
from tests.broker import eventually
from tests.ports import free_port
from tests.setback import put_back, rows

PATIENCE = 90
"""Seconds; a long poll that nobody woke would last for 60."""


@pytest.fixture
async def hubs(settings, clock, postgresql, tmp_path):
    """Two hubs, at whose one kz and kg have joined."""
    shared = replace(settings, store=replace(settings.store, url=postgresql.url))
    shutil.copytree(settings.folder, tmp_path / "other")
    http = replace(shared.http, port=free_port())
    other = replace(shared, http=http, folder=str(tmp_path / "other"))
    async with client.running(shared) as one:
        for code in ("kz", "kg"):
            await one.operator.join(one.participant(code))
        async with client.running(other) as two:
            yield one, two


@contextlib.asynccontextmanager
async def waiting(hub, code, path, **query):
    """A long poll at a hub, which has nothing to give yet."""
    polling = asyncio.create_task(hub.participant(code).get(path, wait=60, **query))
    while code not in hub.service.bells._bells:
        await hub.operator.get("/livez")
    async with asyncio.timeout(PATIENCE):
        yield polling


async def test_a_message_wakes_its_recipient_at_the_other_hub(hubs):
    one, two = hubs
    async with waiting(one, "kg", "/v1/inbox") as polling:
        await two.participant("kz").send(audience=["kg"])
        answer = await polling
    assert [item["position"] for item in answer["deliveries"]] == [1]
    assert answer["last"] == 1


async def test_a_receipt_wakes_its_sender_at_the_other_hub(hubs):
    one, two = hubs
    await two.participant("kz").send(audience=["kg"])
    kg = two.participant("kg")
    async with waiting(one, "kz", "/v1/receipts") as polling:
        await kg.post("/v1/receipts", kg.receipt(*await kg.inbox()))
        assert len((await polling)["receipts"]) == 1


async def test_an_event_stream_goes_on_with_what_the_other_hub_accepts(hubs):
    one, two = hubs
    async with one.participant("kg").events() as stream, asyncio.timeout(PATIENCE):
        for number in (1, 2, 3):
            await two.participant("kz").send(audience=["kg"])
            assert (await anext(stream)).id == number


async def test_whom_the_other_hub_suspends_does_not_go_on_reading(hubs):
    one, two = hubs
    async with one.participant("kg").events() as stream, asyncio.timeout(PATIENCE):
        await two.operator.post("/v1/members/kg/suspend", reason="a test")
        assert [event.id async for event in stream] == []
    assert (await one.participant("kg").get("/v1/inbox")).code == "forbidden"


async def test_what_came_while_the_database_did_not_answer_is_not_passed_over(hubs, monkeypatch):
    one, two = hubs
    look, away, looked = one.service.queries.news, asyncio.Event(), asyncio.Event()
    away.set()

    async def news(start):
        looked.set()
        if away.is_set():
            raise ConnectionError
        return await look(start)

    monkeypatch.setattr(one.service.queries, "news", news)
    async with waiting(one, "kg", "/v1/inbox") as polling:
        await two.participant("kz").send(audience=["kg"])
        looked.clear()
        await looked.wait()
        away.clear()
        assert len((await polling)["deliveries"]) == 1


async def test_both_stop_signing_when_the_database_lost_what_one_of_them_committed(hubs):
    one, two = hubs
    database = one.service.queries._database
    kept = await rows(database)
    await one.participant("kz").send(audience=["kg"])

    async def followed():
        return two.service.recorder.state.tree.size == await one.size()

    await eventually(followed, "the other hub has followed")
    await put_back(database, kept)
    size = await one.size()

    async def stopped():
        answers = [await hub.operator.get("/v1/status") for hub in hubs]
        return all("was restored" in (answer["signing_stopped"] or "") for answer in answers)

    await eventually(stopped, "both have stopped")
    for hub in hubs:
        assert (await hub.participant("kg").send()).code == "storage"
        # Over a restart as well: it waits for the witnesses, who know what is missing.
        assert hub.settings.restored.exists()
    assert await one.size() == size
