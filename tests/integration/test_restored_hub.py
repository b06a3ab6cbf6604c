"""The hub's machine is lost and its backup is old: real connectors bring back what came since."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from hub import recovery
from hub.cli.output import progress
from hub.ledger.verify import Check, verify
from tests import client
from tests.simulator.institution import Institution
from tests.simulator.waiting import until

REGION = ("kz", "kg", "tj", "tm", "uz")


async def joined(hub, folder):
    """Institutions that have joined; their daemons do not run yet."""
    made = []
    for code in REGION:
        one = Institution(code, folder, hub.connection.url, hub.vkey)
        bundle = await hub.operator.invite(code)
        fingerprint = await one.join(str(bundle["invitation"]))
        path = f"/v1/members/{code}/approve"
        assert (await hub.operator.post(path, fingerprint=fingerprint)).status == 200
        made.append(one)
    return made


async def exchanged(kz, kg, others):
    """Messages to all with all their receipts; gives the ids."""
    sent = [kz.send(audience=["region"]) for _ in range(5)]
    sent += [kg.send(audience=["kz", "tj"]) for _ in range(5)]
    for one in sent[:5]:
        await kz.settled(one)
    for one in sent[5:]:
        await kg.settled(one)
    await others[0].sees(*sent)
    return sent


def destroyed(settings):
    """Only what a careful operator keeps elsewhere is left: settings and keys."""
    folder = Path(settings.folder)
    for path in folder.glob("hub.sqlite*"):
        path.unlink()


async def signs_again(hub):
    async def stopped():
        return (await hub.operator.get("/v1/status"))["signing_stopped"]

    async with asyncio.timeout(90):
        while await stopped() is not None:
            await hub.operator.get("/log/checkpoint")


@pytest.fixture(params=["sqlite", "postgresql"])
async def stores(request, postgresql_server):
    """Where the lost database is, and where the restored one will be."""
    if request.param == "sqlite":
        yield ["sqlite:///hub.sqlite"] * 2
        return
    databases = [await postgresql_server.create(f"restored_hub_{number}") for number in range(2)]
    yield [database.url for database in databases]
    for database in databases:
        await database.drop()


@asynccontextmanager
async def restored(folder, stores):
    """The institutions at work, and a hub restored from a backup that misses the half of it.

    With them what was sent since, and the lost log and positions.
    """
    settings, file, members = client.new_settings(folder / "hub"), folder / "zip", folder / "them"
    members.mkdir()
    before, after = (replace(settings, store=replace(settings.store, url=url)) for url in stores)
    async with AsyncExitStack() as stack:
        async with client.running(before) as hub:
            kz, kg, *others = them = await joined(hub, members)
            for one in them:
                await stack.enter_async_context(one.running())
            await exchanged(kz, kg, others)
            made = await recovery.back_up(before, file, progress, with_key=False)
            since = await exchanged(kz, kg, others)
            entries = await hub.service.queries.entries(0, 10_000)
            positions = dict(hub.service.recorder.state.positions)
            assert made.size < len(entries)
        destroyed(before)
        await recovery.restore(after, file, progress)
        async with client.running(after) as hub:
            assert (await hub.operator.get("/v1/status"))["log_size"] == made.size
            yield hub, them, since, entries, positions


async def test_connectors_bring_back_what_was_accepted_since_the_backup(tmp_path, stores):
    async with restored(tmp_path, stores) as (hub, them, since, entries, positions):
        kz, *others = them
        await signs_again(hub)
        assert not hub.settings.restored.exists()
        assert (await hub.service.queries.entries(0, len(entries))) == entries
        stored, _ = await hub.service.queries.head()
        assert stored.positions == positions
        for message_id in since:
            copies = await hub.service.queries.deliveries(message_id)
            assert {copy.state for copy in copies} == {"received"}
        # It goes on, for everybody.
        new = kz.send(audience=["region"])
        await kz.settled(new)
        for one in others:
            await one.sees(new)
        found = await verify(Check(hub.service.queries, hub.service.offload, hub.vkey))
        assert (found.ok, found.problems) == (True, ())
        await until(lambda: all(followed(one, len(entries)) for one in them), "all follow")
    # Nobody saw a fork, a gap, or a message that is not what it was.
    raised = {kind for one in them for kind in one.alarm_kinds()}
    assert raised <= {"log-shrank", "hub-refuses", "hub-away"}


def followed(institution, size):
    return institution.ask(lambda store: store.size()) > size
