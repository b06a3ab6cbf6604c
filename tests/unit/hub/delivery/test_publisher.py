"""Who is behind is fed from the database: in order, over what is lost, once the log is whole."""

import asyncio

import pytest

from hub.delivery import broker
from hub.delivery.broker import Depth
from hub.delivery.lanes import Lane, Lanes, Owed
from hub.delivery.publisher import Publisher
from hub.delivery.stuck import StuckInboxes
from schemas.acceptance import Acceptance
from tests import builders


class Unmeasured:
    """Nobody asks here how it goes."""

    def published(self, seconds, failed):
        pass

    def queues(self, depths):
        pass


async def works(code):
    """No inbox is stuck."""
    return True


class Stored:
    """The part of the port ``LaneStore`` that is asked here: one recipient's positions."""

    def __init__(self, *positions, received=()):
        self.positions = positions
        self.received = received
        self.asked = 0
        self.asked_first = lambda: None

    async def lasts(self, codes):
        return {code: max(self.positions) for code in codes if self.positions}

    async def first_waiting(self, code):
        waiting = set(self.positions) - set(self.received)
        self.asked_first()
        return min(waiting, default=None)

    async def owed(self, code, after, limit, codes, now, again):
        self.asked += 1
        accepted = Acceptance("", None, None, "")
        there = [position for position in self.positions if position > after]
        fed = [at for at in there if at > again or at not in self.received]
        first = (fed or there[-1:] or [0])[0]
        return [
            Owed(100 + position, accepted, None, {code: position}, frozenset(), has_receipt)
            for position in there
            if first <= position < first + limit
            for has_receipt in [frozenset({code} if position in self.received else ())]
        ]


class Work(asyncio.Event):
    """What the feeder waits for; ``done`` is set while it does."""

    def __init__(self):
        super().__init__()
        self.done = asyncio.Event()

    def set(self):
        self.done.clear()
        super().set()

    def clear(self):
        super().clear()
        self.done.set()


class Feeding:
    """A publisher that fills the inbox of kg, upon a broker that takes everything."""

    def __init__(self, stored, *, parked=False):
        self.paused = False
        self.published: list[int] = []
        self.publisher = Publisher(
            *(stored, lambda: ("kg",), builders.time, Unmeasured(), lambda: self.paused),
            StuckInboxes(works),
        )
        self.publisher._work = self.work = Work()
        lane = Lane(0, 0, 0, parked=parked)
        self.publisher._lanes = Lanes({"kg": lane})

    async def feed(self):
        """Look, as every second, and feed until there is nothing more to be fed."""
        await self.publisher._look()
        tasks = [asyncio.create_task(each) for each in (self.publisher._feed(), self.take())]
        await self.work.done.wait()
        await broker.stop(tasks)

    async def survey(self):
        """Look at the queues, as now and then; the test says what there is."""
        await self.publisher._survey(None)  # type: ignore[arg-type]  # no broker is asked

    async def take(self):
        """What the broker does."""
        while True:
            waiting = await self.publisher._waiting.get()
            self.published.append(waiting.outgoing.positions["kg"])
            self.publisher._confirm(waiting)


@pytest.mark.parametrize(
    "there",
    [[2, 3, 4], [1, 2, 5, 6], [1, 300, 301], [*range(1, 150), *range(160, 260)]],
    ids=["at the beginning", "within a page", "longer than a page", "between pages"],
)
async def test_what_was_given_up_as_lost_holds_up_nothing_behind_it(there):
    one = Feeding(Stored(*there))
    await one.feed()
    assert one.published == there
    assert one.publisher._lanes.cursors() == {"kg": there[-1]}


@pytest.mark.parametrize("end", [7, 500], ids=["within a page", "over many pages"])
@pytest.mark.parametrize("more", [[], ["end"]], ids=["the last has a receipt", "has none"])
async def test_what_has_a_receipt_is_not_published_again_behind_what_has_none(end, more):
    waiting = [2, 5, *(end for _ in more)]
    there = range(1, end + 1)
    stored = Stored(*there, received=set(there) - set(waiting))
    one = Feeding(stored)
    await one.feed()
    await one.publisher._again("kg")
    await one.feed()
    assert one.published == 2 * waiting
    assert one.publisher._lanes.cursors() == {"kg": end}
    assert stored.asked < 10


async def test_what_comes_while_it_is_found_that_nothing_waits_is_published():
    stored = Stored(1, 2, 3, received={1, 2, 3})
    one = Feeding(stored, parked=True)
    await one.publisher._look()

    def another():
        stored.positions = (1, 2, 3, 4)
        one.publisher._lanes.note({"kg": 4})

    stored.asked_first = another
    await one.publisher._again("kg")
    one.publisher._lanes["kg"].parked = False
    await one.feed()
    assert one.published == [4]


async def test_what_a_restored_log_lacks_is_waited_for():
    stored = Stored(2, 3)
    one = Feeding(stored)
    one.paused = True
    await one.feed()
    assert (one.published, stored.asked) == ([], 0)
    stored.positions = (1, 2, 3)
    one.paused = False
    await one.feed()
    assert one.published == [1, 2, 3]


async def test_a_page_that_was_read_while_content_came_back_is_not_taken(monkeypatch):
    stored = Stored(2, 3)
    one = Feeding(stored)
    read = stored.owed

    async def restored_meanwhile(*given):
        one.paused = True
        return await read(*given)

    monkeypatch.setattr(stored, "owed", restored_meanwhile)
    await one.feed()
    assert (one.published, one.publisher._lanes["kg"].published) == ([], 0)


async def test_after_the_database_went_back_positions_are_given_and_published_once_more():
    stored = Stored(1, 2, 3, 4)
    one = Feeding(stored)
    await one.feed()
    stored.positions = (1, 2)
    await one.feed()
    stored.positions = (1, 2, 3)
    await one.feed()
    assert one.published == [1, 2, 3, 4, 3]


async def test_whose_lane_is_freed_is_not_begun_anew_before_the_log_is_whole(monkeypatch):
    async def declare(channel, codes=()):
        return dict.fromkeys(codes, Depth(0, 1))

    monkeypatch.setattr(broker, "declare_hub", declare)
    monkeypatch.setattr(broker, "declare_inboxes", declare)
    stored = Stored(2, 3)
    one = Feeding(stored, parked=True)
    one.paused = True
    await one.survey()
    await one.feed()
    stored.positions = (1, 2, 3)
    one.paused = False
    await one.survey()
    await one.feed()
    assert one.published == [1, 2, 3]
