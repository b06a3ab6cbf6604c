"""The publisher: what the hub sends to inbox queues, deliveries as well as answers.

A fresh message goes out in one publish for all recipients that are live (``CC``); the others are
fed from the database, those at the same place together. ``mandatory`` tells only when *no* queue
matched, so that the queues are declared again in every round, and a delivery counts as done only
with the receiver's receipt.

Every hub answers its own senders. Of several hubs on one log only one fills the inboxes, the one
that has the broker's exclusive queue ``hub.carrier``; it finds what the others recorded by looking.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import aiormq
import msgspec
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection

from hub.delivery import broker, burst, topology
from hub.delivery.broker import Stuck, Unconfirmed
from hub.delivery.burst import Outgoing
from hub.delivery.lanes import MAX_OUTSTANDING, Lane, Lanes, Owed
from hub.delivery.stuck import StuckInboxes
from hub.intake.batch import Committed
from schemas import amqp, jsontext
from schemas.acceptance import Acceptance, Tombstone, deliver

MAX_WAITING = 2_000
"""Fresh messages that wait in memory; what comes beyond is fed from the database later."""

MAX_BURST = 200
"""Publishes in one write."""

FEED_PAGE = 100

LOOK_SECONDS = 1.0
"""How often the database is asked for what this hub was not told."""

ROUND_LOOKS = 10
"""Every so many looks, the queues are declared again and the cursors saved."""

SILENT_SECONDS = 60.0
"""A recipient that sent no receipt for so long while its queue is empty is fed again."""

CLAIM_SECONDS = 2.0
"""How often a hub that does not fill the inboxes tries to become the one that does."""

log = structlog.get_logger("hub.publisher")


class LaneStore(Protocol):
    """Where it is kept how far each inbox queue was filled."""

    async def lanes(self) -> Mapping[str, tuple[int, int, int]]:
        """For each recipient: published, last position, copies published and not receipted."""
        ...

    async def lasts(self, codes: Sequence[str]) -> Mapping[str, int]:
        """The last position assigned to each of these recipients, as far as there is one."""
        ...

    async def outstanding(self, code: str, after: int, upto: int) -> int:
        """Copies without a receipt among these positions of a recipient."""
        ...

    async def first_waiting(self, code: str) -> int | None:
        """The first position without a receipt."""
        ...

    async def owed(
        self, code: str, after: int, limit: int, codes: Sequence[str], now: str, again: int
    ) -> Sequence[Owed]:
        """The next messages of a recipient, and what others get in between, by log index.

        They begin with the first that is to be fed, or are the last if none is.

        Args:
            code: the recipient.
            after: its position before the first of them.
            limit: of its positions, how many at most.
            codes: it and the others; only their positions are told.
            now: what expires by then has expired.
            again: up to this position of the recipient, who is alone then, only what waits for a
                receipt is to be fed.
        """
        ...

    async def save_lanes(self, published: Mapping[str, int]) -> None:
        """Keep how far each inbox queue was filled."""
        ...


class Measures(Protocol):
    """Who is told how the publishing goes; must not wait."""

    def published(self, seconds: Sequence[float], failed: int) -> None:
        """How long each publish took to its confirm, and how many were not confirmed."""

    def queues(self, depths: Mapping[str, int]) -> None:
        """How many messages wait in each queue, by its name; none while it is not known here."""


class _Waiting(msgspec.Struct, frozen=True):
    """Something to publish, since when, and who waits for the broker to have it."""

    outgoing: Outgoing
    since: float
    confirmed: "asyncio.Future[None] | None" = None


class Publisher:
    """Publishes on a connection that ``hub.delivery.broker.keep`` renews."""

    def __init__(
        self,
        store: LaneStore,
        codes: Callable[[], Sequence[str]],
        clock: Callable[[], str],
        measures: Measures,
        paused: Callable[[], bool],
        stuck: StuckInboxes,
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> None:
        """Publish what the store has, to the participants that ``codes`` gives.

        While ``paused`` says that a restored log is being made whole, nobody is fed: what comes
        back later than what is behind it would be left out for ever. ``blocked`` says whether an
        alarm of the broker keeps it from publishing. To whom is ``stuck`` nothing is published.
        """
        self.blocked = False
        self.stuck = stuck
        self._measures = measures
        self._paused = paused
        self._max_outstanding = max_outstanding
        self._store = store
        self._codes = codes
        self._clock = clock
        self._lanes = Lanes({})
        self._ready = False
        self._settled = asyncio.Event()
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._made: frozenset[str] = frozenset()
        self._surveyed: frozenset[str] = frozenset()
        self._receipted: dict[str, float] = {}
        self._work = asyncio.Event()
        self._saved: Mapping[str, int] = {}

    def committed(self, committed: Committed) -> None:
        """Take over what a commit brought. Never waits: what does not fit is fed later."""
        if not self._ready:
            return  # it is found in the database when this hub begins to fill the inboxes
        self._lanes.settle(committed.receipts)
        now = time.monotonic()
        self._receipted.update(dict.fromkeys(committed.receipts, now))
        for message in committed.fresh:
            if self._waiting.qsize() >= MAX_WAITING:
                self._lanes.note(message.positions)
                continue
            targets = self._lanes.take(message.index, message.positions)
            if targets:
                body = _body(message.acceptance, message.envelope)
                self._put(_delivery(body, targets))
        self._work.set()

    async def answer(self, code: str, kind: str, body: object) -> None:
        """Send an acceptance or refusal to a participant; returns when the broker has it.

        Raises:
            Stuck: the broker takes nothing for this participant.
            Unconfirmed: the broker did not take it; what was submitted must not be acknowledged.
        """
        if code in self.stuck.shown:
            raise Stuck("its inbox is stuck")
        if code in self.stuck:
            raise Unconfirmed("its inbox may be stuck")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(Outgoing(kind, jsontext.encode(body), (code,)), future)
        await future

    def _put(self, outgoing: Outgoing, confirmed: "asyncio.Future[None] | None" = None) -> None:
        self._waiting.put_nowait(_Waiting(outgoing, time.perf_counter(), confirmed))

    async def settled(self) -> None:
        """Wait until it is known who fills the inboxes; then what is recorded goes straight out.

        What is recorded before that, and all that comes while it is caught up with, has to be read
        from the database again.
        """
        await self._settled.wait()

    async def use(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it ends."""
        # What nobody gets is raised: a queue is missing, and the next connection makes it.
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        self._made = frozenset()
        await self._make_queues(channel)
        bursts = await burst.channel_for(channel)
        try:
            await broker.together(
                self._publish(channel, bursts),
                self._carry(connection),
                broker.watch_alarm(connection, self._alarm),
                broker.end_of(channel),
            )
        finally:
            self._ready = False
            self.blocked = False
            self._settled.clear()
            self._drop_waiting()

    def _alarm(self, blocked: bool) -> None:
        self.blocked = blocked

    async def _carry(self, connection: AbstractConnection) -> None:
        """Fill the inboxes, once no other hub does."""
        while not await broker.claim(connection, topology.CARRIER):
            self._settled.set()
            await asyncio.sleep(CLAIM_SECONDS)
        # On a channel of its own: an answer to a question would hold up what is published.
        channel = await connection.channel()
        await self._load(channel)
        try:
            await broker.together(self._feed(), self._rounds(channel), broker.end_of(channel))
        finally:
            self._measures.queues({})
            # Without it, as after a crash, the last messages are published once more.
            with contextlib.suppress(Exception):
                await self._save()

    async def _load(self, channel: AbstractChannel) -> None:
        stored = await self._store.lanes()
        self._lanes = Lanes(
            {code: Lane(*numbers, parked=False) for code, numbers in stored.items()},
            self._max_outstanding,
            self.stuck,
        )
        await self._survey(channel)
        # What is committed between the reading and here is found by the first look.
        self._ready = True
        self._settled.set()
        self._work.set()
        log.info("publisher.carries", behind=self._lanes.to_feed())

    async def _make_queues(self, channel: AbstractChannel) -> None:
        """Make all queues, or the inboxes of who has joined since."""
        codes = frozenset(self._codes())
        if not self._made.issuperset(codes):
            await broker.declare(channel, codes - self._made)
            self._made = codes

    async def _publish(self, channel: AbstractChannel, bursts: aiormq.Channel) -> None:
        """Publish what waits, many at once, each with its confirm."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < MAX_BURST and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await self._make_queues(channel)
            except BaseException:
                for waiting in batch:
                    self._give_back(waiting)
                raise
            await self._send(bursts, batch)

    async def _send(self, bursts: aiormq.Channel, batch: Sequence[_Waiting]) -> None:
        """Publish a batch and wait for every confirm.

        Raises:
            Unconfirmed: the broker did not confirm all; the lanes know which.
        """
        problems: Sequence[Unconfirmed | None] = [Unconfirmed("it was not sent")] * len(batch)
        try:
            outgoing = [waiting.outgoing for waiting in batch]
            problems = await burst.publish(bursts, outgoing, lambda: self.blocked)
        finally:
            now, took = time.perf_counter(), []
            for waiting, problem in zip(batch, problems, strict=True):
                if problem is None:
                    took.append(now - waiting.since)
                    self._confirm(waiting)
                else:
                    self._give_back(waiting)
            self._measures.published(took, len(batch) - len(took))
        for waiting, problem in zip(batch, problems, strict=True):
            if isinstance(problem, Stuck):
                self.stuck.suspect(waiting.outgoing.codes)
        for problem in problems:
            if problem is not None:
                raise problem

    def _confirm(self, waiting: _Waiting) -> None:
        self._lanes.confirm(waiting.outgoing.positions)
        if waiting.confirmed is not None and not waiting.confirmed.done():
            waiting.confirmed.set_result(None)

    def _give_back(self, waiting: _Waiting) -> None:
        self._lanes.give_back(waiting.outgoing.positions)
        if waiting.confirmed is not None and not waiting.confirmed.done():
            waiting.confirmed.set_exception(Unconfirmed("the broker did not confirm"))

    def _drop_waiting(self) -> None:
        while not self._waiting.empty():
            self._give_back(self._waiting.get_nowait())

    async def _feed(self) -> None:
        """Bring recipients that are behind up to date, a page each in turn."""
        while True:
            behind = [] if self._paused() else self._lanes.to_feed()
            if not behind:
                self._work.clear()
                await self._work.wait()
            for code in behind:
                await self._feed_page(code)

    async def _feed_page(self, code: str) -> None:
        """Feed a recipient its next page; others that are at the same place get it as well."""
        lane = self._lanes[code]
        after = lane.published
        near = self._lanes.near(code)
        page = await self._store.owed(code, after, FEED_PAGE, near, self._clock(), lane.again)
        if lane.published != after or self._paused():
            return  # it was set back meanwhile, or content began to come back out of order
        # The log is whole: what is passed over was lost and given up, or came there before.
        lane.skip_to(
            next((own.positions[code] for own in page if code in own.positions), after + 1)
        )
        fed = [
            outgoing
            for owed in page
            for outgoing in _outgoing(
                owed, self._lanes.take(owed.index, owed.positions, owed.received)
            )
        ]
        if lane.published == after:
            lane.last = after  # nothing is there; another look will find what is
        if not fed:
            return
        # Behind what waits already, so that every recipient gets its messages in order.
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for outgoing in fed[:-1]:
            self._put(outgoing)
        self._put(fed[-1], end)
        await end

    async def _rounds(self, channel: AbstractChannel) -> None:
        """From time to time: look, and less often: queues are there, cursors are saved."""
        for number in itertools.count(1):
            await self._look()
            if number % ROUND_LOOKS == 0 or not self._surveyed.issuperset(self._codes()):
                await self._survey(channel)
                await self._save()
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Take over what other hubs recorded, and what this one recorded while it began."""
        codes = self._codes()
        before = self._lanes.lasts(codes)
        lasts = await self._store.lasts(codes)
        self._lanes.set_back(before, lasts)
        self._lanes.note(lasts)
        for code in self.stuck.mended():
            await self._again(code)
        for code in self._lanes.without_room():
            # Inboxes are taken in order: what is without a receipt far behind is not in the queue.
            lane = self._lanes[code]
            upto = lane.published
            after = upto - 2 * self._max_outstanding
            lane.outstanding = await self._store.outstanding(code, after, upto)
        self._work.set()

    async def _survey(self, channel: AbstractChannel) -> None:
        """Make the queues that are not there, see how full they are, and feed silent recipients."""
        own = await broker.declare_hub(channel)
        depths = await broker.declare_inboxes(channel, self._codes())
        named = {**own, **{amqp.inbox(code): depth for code, depth in depths.items()}}
        self._measures.queues({name: depth.waiting for name, depth in named.items()})
        now = time.monotonic()
        self._surveyed = frozenset(depths)
        if self._paused():
            return
        for code, depth in depths.items():
            if code in self.stuck:
                continue  # of its queue nothing is known
            freed = self._lanes.survey(code, depth.waiting, depth.consumers)
            since = self._receipted.setdefault(code, now)
            silent = self._lanes[code].outstanding and now - since >= SILENT_SECONDS
            if freed or (silent and not depth.waiting):
                await self._again(code)
                self._receipted[code] = now

    async def _again(self, code: str) -> None:
        """Publish again, from the database, what has no receipt."""
        lane = self._lanes[code]
        beyond = lane.last + 1  # what is assigned while the database is asked comes behind it
        first = await self._store.first_waiting(code)
        if first is not None:
            log.info("lane.again", recipient=code, position=first)
        lane.restart(beyond if first is None else first)
        self._work.set()

    async def _save(self) -> None:
        cursors = self._lanes.cursors()
        if cursors != self._saved:
            await self._store.save_lanes(cursors)
            self._saved = cursors

    @property
    def outstanding(self) -> Mapping[str, int]:
        """Copies on the broker without a receipt, by recipient."""
        return self._lanes.outstanding()


def _body(acceptance: Acceptance, envelope: bytes) -> bytes:
    return jsontext.encode(deliver(acceptance, envelope))


def _delivery(body: bytes, positions: Mapping[str, int]) -> Outgoing:
    return Outgoing(amqp.DELIVERY, body, tuple(positions), positions)


def _outgoing(owed: Owed, targets: Mapping[str, int]) -> Iterator[Outgoing]:
    """One publish for all who get the message, and one tombstone each for whom there is none."""
    live = {code: at for code, at in targets.items() if code not in owed.expired}
    if owed.envelope is None:
        for code, at in targets.items():
            yield _delivery(jsontext.encode(Tombstone(at, "erased", owed.acceptance)), {code: at})
        return
    if live:
        yield _delivery(_body(owed.acceptance, owed.envelope), live)
    for code in targets.keys() & owed.expired:
        tombstone = Tombstone(targets[code], "expired", owed.acceptance)
        yield _delivery(jsontext.encode(tombstone), {code: targets[code]})
