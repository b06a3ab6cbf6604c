"""The publisher: what the hub sends to inbox queues, deliveries as well as answers.

A fresh message goes out in one publish for all recipients that are live (``CC``); the others are
fed from the database. ``mandatory`` tells only when *no* queue matched, so that the queues are
declared again in every round, and a delivery counts as done only with the receiver's receipt.

Every hub answers its own senders. Of several hubs on one log only one fills the inboxes, the one
that has the broker's exclusive queue ``hub.carrier``; it finds what the others recorded by looking.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import aio_pika
import msgspec
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import ChannelClosed

from hub.delivery import broker, topology
from hub.delivery.broker import CONFIRM_TIMEOUT, Unconfirmed
from hub.delivery.lanes import MAX_OUTSTANDING, Lane, Lanes
from hub.intake.batch import Committed
from hub.ledger.queries import InboxItem, Queries
from schemas import amqp, jsontext
from schemas.acceptance import Acceptance, Delivery, Tombstone
from schemas.encoding import b64url

MAX_WAITING = 2_000
"""Publishes that wait in memory; what comes beyond is fed from the database later."""

IN_FLIGHT = 200
"""Publishes at once whose confirm is awaited."""

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

    async def save_lanes(self, published: Mapping[str, int]) -> None:
        """Keep how far each inbox queue was filled."""
        ...


class _Outgoing(msgspec.Struct, frozen=True):
    """One publish: its body, and the positions it covers (none for an answer)."""

    type: str
    body: bytes
    keys: tuple[str, ...]
    positions: Mapping[str, int]
    confirmed: "asyncio.Future[None] | None" = None


class Publisher:
    """Publishes on a connection that ``hub.delivery.broker.keep`` renews."""

    def __init__(
        self,
        queries: Queries,
        store: LaneStore,
        codes: Callable[[], Sequence[str]],
        clock: Callable[[], str],
        max_outstanding: int = MAX_OUTSTANDING,
    ) -> None:
        """Publish what the queries give, to the participants that ``codes`` gives."""
        self._max_outstanding = max_outstanding
        self._queries = queries
        self._store = store
        self._codes = codes
        self._clock = clock
        self._lanes = Lanes({})
        self._ready = False
        self._waiting: asyncio.Queue[_Outgoing] = asyncio.Queue(MAX_WAITING)
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
            if self._waiting.full():
                self._lanes.note(message.positions)
                continue
            targets = self._lanes.take(message.positions)
            if targets:
                keys = tuple(amqp.inbox(code) for code in targets)
                body = _body(message.acceptance, message.envelope)
                self._waiting.put_nowait(_Outgoing(amqp.DELIVERY, body, keys, targets))
        self._work.set()

    async def answer(self, code: str, kind: str, body: object) -> None:
        """Send an acceptance or refusal to a participant; returns when the broker has it.

        Raises:
            Unconfirmed: the broker did not take it; what was submitted must not be acknowledged.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keys = (amqp.inbox(code),)
        await self._waiting.put(_Outgoing(kind, jsontext.encode(body), keys, {}, future))
        await future

    async def use(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it ends."""
        # What nobody gets is raised: a queue is missing, and the next connection makes it.
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        self._made = frozenset()
        await self._make_queues(channel)
        exchange = await channel.get_exchange(amqp.DELIVERIES, ensure=False)
        try:
            await broker.together(
                self._publish(channel, exchange),
                self._carry(connection, exchange),
                broker.end_of(channel),
            )
        finally:
            self._ready = False
            self._drop_waiting()

    async def _carry(self, connection: AbstractConnection, exchange: AbstractExchange) -> None:
        """Fill the inboxes, once no other hub does."""
        while not await _claim(connection):  # noqa: ASYNC110 - another process has it
            await asyncio.sleep(CLAIM_SECONDS)
        # On a channel of its own: an answer to a question would hold up what is published.
        channel = await connection.channel()
        await self._load(channel)
        try:
            await broker.together(
                self._feed(exchange), self._rounds(channel), broker.end_of(channel)
            )
        finally:
            # Without it, as after a crash, the last messages are published once more.
            with contextlib.suppress(Exception):
                await self._save()

    async def _load(self, channel: AbstractChannel) -> None:
        stored = await self._store.lanes()
        self._lanes = Lanes(
            {code: Lane(*numbers, parked=False) for code, numbers in stored.items()},
            self._max_outstanding,
        )
        await self._survey(channel)
        # What is committed between the reading and here is found by the first look.
        self._ready = True
        self._work.set()
        log.info("publisher.carries", behind=self._lanes.to_feed())

    async def _make_queues(self, channel: AbstractChannel) -> None:
        """Make all queues, or the inboxes of who has joined since."""
        codes = frozenset(self._codes())
        if not self._made.issuperset(codes):
            await broker.declare(channel, codes - self._made)
            self._made = codes

    async def _publish(self, channel: AbstractChannel, exchange: AbstractExchange) -> None:
        """Publish what waits, many at once, each with its confirm."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < IN_FLIGHT and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await self._make_queues(channel)
            except BaseException:
                for outgoing in batch:
                    self._give_back(outgoing)
                raise
            await self._send_all(exchange, batch)

    async def _send_all(self, exchange: AbstractExchange, batch: Sequence[_Outgoing]) -> None:
        """Publish a batch and wait for every confirm.

        Raises:
            Unconfirmed: the broker did not confirm all; the lanes know which.
        """
        results = await asyncio.gather(
            *(self._send(exchange, outgoing) for outgoing in batch), return_exceptions=True
        )
        for error in results:
            if error is not None:
                raise Unconfirmed(f"{type(error).__name__}: {error}".rstrip(": "))

    async def _send(self, exchange: AbstractExchange, outgoing: _Outgoing) -> None:
        try:
            await _publish(exchange, outgoing)
        except BaseException:
            self._give_back(outgoing)
            raise
        self._lanes.confirm(outgoing.positions)
        if outgoing.confirmed is not None and not outgoing.confirmed.done():
            outgoing.confirmed.set_result(None)

    def _give_back(self, outgoing: _Outgoing) -> None:
        self._lanes.give_back(outgoing.positions)
        if outgoing.confirmed is not None and not outgoing.confirmed.done():
            outgoing.confirmed.set_exception(Unconfirmed("the broker did not confirm"))

    def _drop_waiting(self) -> None:
        while not self._waiting.empty():
            self._give_back(self._waiting.get_nowait())

    async def _feed(self, exchange: AbstractExchange) -> None:
        """Bring recipients that are behind up to date, a page each in turn."""
        while True:
            behind = self._lanes.to_feed()
            if not behind:
                self._work.clear()
                await self._work.wait()
            for code in behind:
                await self._feed_page(exchange, code)

    async def _feed_page(self, exchange: AbstractExchange, code: str) -> None:
        lane = self._lanes[code]
        after = lane.published
        items = await self._queries.inbox(code, after, FEED_PAGE, self._clock())
        if lane.published != after:
            return  # it was set back meanwhile
        for item in items:
            lane.advance(item.position)
        if not items:
            lane.last = lane.published
        keys = (amqp.inbox(code),)
        await self._send_all(
            exchange,
            [_Outgoing(amqp.DELIVERY, _item(item), keys, {code: item.position}) for item in items],
        )

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
        self._lanes.note(await self._store.lasts(self._codes()))
        for code in self._lanes.without_room():
            # Inboxes are taken in order: what is without a receipt far behind is not in the queue.
            lane = self._lanes[code]
            upto = lane.published
            after = upto - 2 * self._max_outstanding
            lane.outstanding = await self._store.outstanding(code, after, upto)
        self._work.set()

    async def _survey(self, channel: AbstractChannel) -> None:
        """Make the queues that are not there, see how full they are, and feed silent recipients."""
        depths = await broker.declare(channel, self._codes())
        now = time.monotonic()
        for code, depth in depths.items():
            freed = self._lanes.survey(code, depth.waiting, depth.consumers)
            since = self._receipted.setdefault(code, now)
            silent = self._lanes[code].outstanding and now - since >= SILENT_SECONDS
            if freed or (silent and not depth.waiting):
                await self._again(code)
                self._receipted[code] = now
        self._surveyed = frozenset(depths)

    async def _again(self, code: str) -> None:
        """Publish again, from the database, what has no receipt."""
        first = await self._store.first_waiting(code)
        if first is not None:
            log.info("lane.again", recipient=code, position=first)
        self._lanes[code].restart(first)
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


async def _claim(connection: AbstractConnection) -> bool:
    """Take the exclusive queue, which is ours as long as this connection lasts; whether we have."""
    channel = await connection.channel()
    try:
        await channel.declare_queue(topology.CARRIER, exclusive=True)
    except ChannelClosed:
        return False  # another hub has it
    await channel.close()
    return True


def _body(acceptance: Acceptance, envelope: bytes) -> bytes:
    return jsontext.encode(
        Delivery(
            acceptance.entry,
            acceptance.private,
            acceptance.salt,
            acceptance.proof,
            b64url(envelope),
        )
    )


def _item(item: InboxItem) -> bytes:
    if item.envelope is None:
        return jsontext.encode(Tombstone(item.position, item.tombstone or "", item.acceptance))
    return _body(item.acceptance, item.envelope)


async def _publish(exchange: AbstractExchange, outgoing: _Outgoing) -> None:
    first, *others = outgoing.keys
    message = aio_pika.Message(
        outgoing.body,
        type=outgoing.type,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={"CC": list(others)} if others else None,
    )
    await exchange.publish(message, first, mandatory=True, timeout=CONFIRM_TIMEOUT)
