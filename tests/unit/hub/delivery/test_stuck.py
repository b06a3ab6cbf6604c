"""Who is suspected to have a stuck inbox is asked, and found innocent or not."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from hub.delivery import broker, stuck
from hub.delivery.stuck import StuckInboxes
from tests.simulator.waiting import until


class Broker:
    """Takes nothing for those who are ``dead``; cannot be asked while ``away``."""

    def __init__(self, *dead):
        self.dead = {*dead}
        self.away = False
        self.asked: list[str] = []

    async def takes(self, code):
        self.asked.append(code)
        if self.away:
            raise ConnectionError
        return code not in self.dead


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(stuck, "ASK_SECONDS", 0)


@contextlib.asynccontextmanager
async def asking(inboxes):
    task = asyncio.create_task(inboxes.ask())
    try:
        yield
    finally:
        task.cancel()


async def test_of_the_recipients_of_one_message_the_stuck_one_is_found():
    broker = Broker("tj")
    inboxes = StuckInboxes(broker.takes)
    inboxes.suspect(["kz", "kg", "tj"])
    assert (("kz" in inboxes), inboxes.shown) == (True, frozenset())
    with capture_logs() as logs:
        async with asking(inboxes):
            await until(lambda: inboxes.shown == {"tj"} and "kz" not in inboxes)
            broker.dead.clear()
            await until(lambda: "tj" not in inboxes)
    assert [(line["event"], line["recipient"]) for line in logs] == [
        ("inbox.stuck", "tj"),
        ("inbox.works-again", "tj"),
    ]


async def test_nobody_is_taken_for_stuck_because_the_broker_is_away():
    broker = Broker()
    broker.away = True
    inboxes = StuckInboxes(broker.takes)
    inboxes.suspect(["kz"])
    async with asking(inboxes):
        await until(lambda: len(broker.asked) > 2)
        assert ("kz" in inboxes, inboxes.shown) == (True, frozenset())
        broker.away = False
        await until(lambda: "kz" not in inboxes)


async def test_nobody_is_asked_without_a_suspicion_and_a_later_one_is_followed():
    broker = Broker()
    inboxes = StuckInboxes(broker.takes)
    async with asking(inboxes):
        for _ in range(2):
            asked = len(broker.asked)
            await asyncio.sleep(0)
            assert len(broker.asked) == asked
            inboxes.suspect(["kz"])
            await until(lambda: "kz" not in inboxes)
    assert broker.asked == ["kz", "kz"]


async def test_it_stops_although_an_attempt_loses_its_cancellation(monkeypatch):
    """As ``asyncio.wait_for`` does before Python 3.12 (``hub.delivery.broker.stop``)."""
    monkeypatch.setattr(broker, "_LOST_AFTER", 0.1)
    monkeypatch.setattr(stuck, "ASK_SECONDS", 60)
    begun, lost = asyncio.Event(), asyncio.Event()

    async def takes(code):
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            lost.set()
        return False

    inboxes = StuckInboxes(takes)
    inboxes.suspect(["kz"])
    task = asyncio.create_task(inboxes.ask())
    await begun.wait()
    async with asyncio.timeout(30):
        await broker.stop([task])
    assert lost.is_set()
