"""kill -9 of the daemon at random points of its work: nothing is lost and nothing is doubled.

Two daemons, as processes of their own, send to each other through the simulated hub, which also
loses some answers after it recorded. One of them is killed when it has made a random number of
requests, and started again. A seed brings the same choices back.
"""

import asyncio
import random
import secrets
from collections import Counter
from contextlib import AsyncExitStack
from functools import partial

import pytest

from schemas import entry as entries
from schemas import receipt
from tests.simulator.institution import exchange
from tests.simulator.process import Process
from tests.simulator.waiting import until


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=pytest.mark.campaign)])
async def test_killing_the_daemon_anywhere_loses_and_doubles_nothing(kills):
    seed = secrets.randbits(32)
    print(f"seed of the kills: {seed}")
    await kill_and_check(kills, random.Random(seed))


async def kill_and_check(kills, chance):
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        daemons = {code: stack.enter_context(Process(one)) for code, one in them.items()}
        for daemon in daemons.values():
            daemon.start()
        sent: dict[str, list[str]] = {"kz": [], "kg": []}
        for _ in range(kills):
            for code, institution in them.items():
                sent[code] += [institution.send() for _ in range(3)]
            hub.weather.lose_answers = chance.randrange(2)
            victim = chance.choice(["kz", "kg"])
            enough = requests(hub, victim) + chance.randint(1, 12)
            await until(partial(has_requested, hub, victim, enough), f"{victim}: {enough} requests")
            await asyncio.sleep(chance.uniform(0, 0.02))  # somewhere within what follows
            daemons[victim].kill()
            daemons[victim].start()
        await everything_arrives(them, sent)
        nothing_is_doubled(hub, sent)
        for daemon in daemons.values():
            assert await daemon.stop() == 0
            names = [event["event"] for event in daemon.events()]
            assert names[-1] == "daemon.stopped"
            assert "alarm" not in names
            assert "daemon.failed" not in names


def has_requested(hub, code, count):
    return requests(hub, code) >= count


def requests(hub, code):
    return sum(asked == code for asked, _, _ in hub.requests)


async def everything_arrives(them, sent):
    kz, kg = them.values()
    for here, there in ((kz, kg), (kg, kz)):
        await until(partial(has_all, there, sent[here.code]), "received", seconds=60)
        for message_id in sent[here.code]:
            await here.settled(message_id)
        assert here.outbox.pending() == []
        rows = there.ask(lambda store: store.inbox(limit=10_000))
        assert [row.position for row in rows] == list(range(1, len(sent[here.code]) + 1))


def has_all(institution, message_ids):
    return all(map(institution.has, message_ids))


def nothing_is_doubled(hub, sent):
    logged = [entries.decode(raw) for raw in hub.history.raws]
    accepted = Counter(e.subject for e in logged if e.type == entries.MESSAGE_ACCEPTED)
    assert accepted == Counter(sent["kz"] + sent["kg"])
    receipted = Counter(
        item[0] for raw in hub.history.recorded_receipts for item in receipt.parse(raw)[1].items
    )
    assert receipted == accepted
