"""The publisher: what the hub sends to inbox queues, deliveries as well as answers.

A fresh message goes out in one publish for all recipients that are live (``CC``); the others are
fed from the database. ``mandatory`` tells only when *no* queue matched, so that the queues are
declared again in every round, and a delivery counts as done only with the receiver's receipt.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import aio_pika
import msgspec
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError

from hub.delivery import topology
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
ROUND_SECONDS = 10.0

SILENT_SECONDS = 60.0
"""A recipient that sent no receipt for so long while its queue is empty is fed again."""

log = structlog.get_logger("hub.publisher")


class LaneStore(Protocol):
    """Where it is kept how far each inbox queue was filled."""

    async def lanes(self) -> Mapping[str, tuple[int, int, int]]:
        """For each recipient: published, last position, copies published and not receipted."""
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
    confirmed: "asyncio.Future[None] | None"


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
        self._receipted: dict[str, float] = {}
        self._work = asyncio.Event()
        self._saved: Mapping[str, int] = {}

    def committed(self, committed: Committed) -> None:
        """Take over what a commit brought. Never waits: what does not fit is fed later."""
        self._lanes.settle(committed.receipts)
        now = time.monotonic()
        self._receipted.update(dict.fromkeys(committed.receipts, now))
        for message in committed.fresh:
            if not self._ready or self._waiting.full():
                for code, position in message.positions.items():
                    lane = self._lanes[code]
                    lane.last = max(lane.last, position)
                continue
            targets = self._lanes.take(message.positions)
            if targets:
                keys = tuple(amqp.inbox(code) for code in targets)
                body = _body(message.acceptance, message.envelope)
                self._waiting.put_nowait(_Outgoing(amqp.DELIVERY, body, keys, targets, None))
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
        channel = await connection.channel(publisher_confirms=True)
        exchange = await self._declare(channel)
        await self._load()
        tasks = [
            asyncio.create_task(self._publish(exchange)),
            asyncio.create_task(self._feed(exchange)),
            asyncio.create_task(self._rounds(channel)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._ready = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._drop_waiting()

    async def _declare(self, channel: AbstractChannel) -> AbstractExchange:
        for exchange in topology.EXCHANGES:
            await channel.declare_exchange(exchange.name, exchange.type, durable=True)
        inboxes = [topology.inbox_queue(code) for code in self._codes()]
        for queue in (*topology.HUB_QUEUES, *inboxes):
            await channel.declare_queue(queue.name, durable=True, arguments=dict(queue.arguments))
        bindings = [topology.inbox_binding(code) for code in self._codes()]
        for binding in (*topology.HUB_BINDINGS, *bindings):
            bound = await channel.get_queue(binding.destination, ensure=False)
            await bound.bind(binding.source, binding.routing_key)
        return await channel.get_exchange(amqp.DELIVERIES, ensure=False)

    async def _load(self) -> None:
        stored = await self._store.lanes()
        self._lanes = Lanes(
            {code: Lane(*numbers) for code, numbers in stored.items()}, self._max_outstanding
        )
        self._ready = True
        self._work.set()

    async def _publish(self, exchange: AbstractExchange) -> None:
        """Publish what waits, many at once, each with its confirm."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < IN_FLIGHT and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            results = await asyncio.gather(
                *(_send(exchange, outgoing) for outgoing in batch), return_exceptions=True
            )
            failed = [
                (outgoing, result)
                for outgoing, result in zip(batch, results, strict=True)
                if isinstance(result, BaseException)
            ]
            for outgoing in batch:
                if outgoing.confirmed and not outgoing.confirmed.done():
                    outgoing.confirmed.set_result(None)
            for outgoing, _ in failed:
                self._give_back(outgoing)
            if failed:
                raise Unconfirmed(str(failed[0][1]))

    def _give_back(self, outgoing: _Outgoing) -> None:
        for code, position in outgoing.positions.items():
            self._lanes.rewind(code, position)
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
        items = await self._queries.inbox(code, lane.published, FEED_PAGE, self._clock())
        sent = []
        for item in items:
            if item.position != lane.published + 1:
                break  # a live publish went on from here
            self._lanes.advance(code, item.position)
            sent.append(_Outgoing(amqp.DELIVERY, _item(item), (amqp.inbox(code),), {}, None))
        start = lane.published - len(sent) + 1
        try:
            await asyncio.gather(*(_send(exchange, outgoing) for outgoing in sent))
        except (AMQPError, TimeoutError):
            self._lanes.rewind(code, start)
            raise
        if not items:
            lane.last = lane.published

    async def _rounds(self, channel: AbstractChannel) -> None:
        """From time to time: queues are there, cursors are saved, silent recipients are fed."""
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            await self._declare(channel)
            await self._save()
            now = time.monotonic()
            for code in self._lanes.outstanding():
                if now - self._receipted.setdefault(code, now) < SILENT_SECONDS:
                    continue
                queue = await channel.declare_queue(amqp.inbox(code), passive=True)
                if queue.declaration_result.message_count == 0:
                    await self._again(code)
                    self._receipted[code] = now

    async def _again(self, code: str) -> None:
        """Its queue is empty, but receipts are missing: publish again what has none."""
        first = await self._store.first_waiting(code)
        if first is not None:
            log.info("lane.again", recipient=code, position=first)
            lane = self._lanes[code]
            lane.published, lane.outstanding = min(lane.published, first - 1), 0
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


async def _send(exchange: AbstractExchange, outgoing: _Outgoing) -> None:
    first, *others = outgoing.keys
    message = aio_pika.Message(
        outgoing.body,
        type=outgoing.type,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={"CC": list(others)} if others else None,
    )
    await exchange.publish(message, first, mandatory=True, timeout=CONFIRM_TIMEOUT)
