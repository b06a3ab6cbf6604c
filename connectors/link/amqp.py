"""The link over RabbitMQ (AMQP 0-9-1): messages, receipts and the inbox; the rest goes over HTTP.

Two connections: under an alarm for memory or disk the broker reads nothing from one that publishes,
and the inbox goes on meanwhile. What the broker hands out is acknowledged once a later question
shows that it was stored. Whatever does not come over the broker, for whatever reason, is asked for
over HTTP: a broker that stumbles withholds nothing.
"""

import asyncio
import contextlib
import logging
import math
import random
import ssl
from collections.abc import AsyncIterator, Callable

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.abc import AbstractIncomingMessage as Incoming
from aio_pika.exceptions import AMQPError, DeliveryError, PublishError
from yarl import URL

from connectors.link import (
    HubRefused,
    InboxItem,
    InboxPage,
    Link,
    Pending,
    ReceiptPage,
    Unreachable,
)
from connectors.shown import shown
from schemas import amqp, jsontext
from schemas import entry as entries
from schemas.acceptance import Acceptance, Delivery
from schemas.encoding import unb64url
from schemas.entry import AcceptedPrivate
from schemas.refusal import Refused
from schemas.tail import Parts, Piece, Wanted

PREFETCH = 16
"""Messages that the broker hands out before one of them is acknowledged: two pages of the inbox."""

HEARTBEAT = 30
"""Seconds; twice that without a sign of life ends a connection, here and at the broker."""


class Patience(msgspec.Struct, frozen=True):
    """How long to wait, in seconds.

    ``connect``: for a connection; ``confirm``: for the broker to take what is published;
    ``answer``: for the hub's answer to it; ``gap``: for a position that later ones have overtaken;
    ``first`` and ``longest``: between two attempts to connect; it begins again with ``first`` after
    a connection that outlasted the pause before it.
    """

    connect: float = 15
    confirm: float = 60
    answer: float = 60
    gap: float = 2
    first: float = 1
    longest: float = 300


class AmqpLink:
    """A link to the hub through a broker, with another link for everything else.

    ``url`` gives the broker's address; it is asked before each connection, since passwords change.
    ``trouble`` is told of each connection that failed: what was being done, why it ended, and in
    how many seconds it is tried again.
    """

    def __init__(
        self,
        url: Callable[[], str],
        code: str,
        other: Link,
        trouble: Callable[[str, Exception, float], None],
        tls: ssl.SSLContext | None = None,
        *,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._url = url
        self._code = code
        self._other = other
        self._trouble = trouble
        self._tls = tls
        self._patience = patience
        self._chance = chance
        self._keeping: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._since = math.inf
        self._ended: asyncio.Future[str] | None = None
        self._exchange: AbstractExchange | None = None
        self._answers: dict[str, asyncio.Future[Acceptance | HubRefused]] = {}
        self._inbox: dict[int, tuple[InboxItem, Incoming]] = {}
        self._bell = asyncio.Event()
        self._stored = -1
        self._handed_out = -1

    # --- What goes over the broker ---

    async def submit(self, envelope: bytes, traceparent: str | None = None) -> Acceptance:
        """Publish a message, and wait for the hub's answer in our inbox."""
        return await self._offer(amqp.MESSAGE, envelope, traceparent)

    async def send_receipt(self, receipt: bytes) -> Acceptance:
        """Publish a delivery receipt, and wait for the hub's answer in our inbox."""
        return await self._offer(amqp.RECEIPT, receipt)

    async def inbox(self, after: int, limit: int, wait: float) -> InboxPage:
        """The next positions without a gap, from the broker, and otherwise over HTTP."""
        if after < self._stored:
            return await self._other.inbox(after, limit, wait)  # about a gap of long ago
        await self._store(after)
        if after == self._handed_out:
            # What the broker gave was not taken: the hub is asked for it once more.
            return await self._other.inbox(after, limit, 0)
        if not self._connected.is_set():
            return await self._other.inbox(after, limit, wait)
        await self._wait_for(after + 1, wait)
        run: list[InboxItem] = []
        while len(run) < limit and after + 1 + len(run) in self._inbox:
            run.append(self._inbox[after + 1 + len(run)][0])
        if not run:
            return await self._look(after, limit)
        self._handed_out = after
        return InboxPage(tuple(run), max(self._inbox))

    # --- What goes over the other link ---

    async def join(self, statement: bytes) -> Pending:
        """Over the other link: there is no account on the broker yet."""
        return await self._other.join(statement)

    async def receipts(self, after: int, limit: int, wait: float) -> ReceiptPage:
        """Over the other link."""
        return await self._other.receipts(after, limit, wait)

    async def checkpoint(self) -> bytes:
        """Over the other link."""
        return await self._other.checkpoint()

    async def witness_request(self, old: int) -> bytes:
        """As the other link."""
        return await self._other.witness_request(old)

    async def witness_response(self, note: bytes) -> None:
        """As the other link."""
        await self._other.witness_response(note)

    async def tail_wanted(self, size: int) -> Wanted:
        """As the other link."""
        return await self._other.tail_wanted(size)

    async def extend_tail(self, piece: Piece) -> int:
        """As the other link."""
        return await self._other.extend_tail(piece)

    async def fill_tail(self, parts: Parts) -> int:
        """As the other link."""
        return await self._other.fill_tail(parts)

    async def entries(self, n: int, width: int) -> bytes:
        """Over the other link."""
        return await self._other.entries(n, width)

    async def close(self) -> None:
        """Let go of all connections; what was not acknowledged is handed out again."""
        while self._keeping is not None and not self._keeping.done():
            # Before Python 3.12 ``wait_for``, which aio-pika is full of, can lose a cancellation,
            # one that comes at the moment when what it waits for is done.
            self._keeping.cancel()
            await asyncio.wait({self._keeping}, timeout=6)
        await self._other.close()

    # --- Offering ---

    async def _offer(self, kind: str, body: bytes, traceparent: str | None = None) -> Acceptance:
        # The same bytes have the same reference: an answer that comes late settles a later try.
        reference = entries.digest(body)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Acceptance | HubRefused] = loop.create_future()
        self._answers[reference] = answer
        try:
            await self._publish(kind, reference, body, traceparent)
            async with asyncio.timeout(self._patience.answer):
                outcome = await answer
        except TimeoutError:
            raise Unreachable("The hub did not answer over the broker in time.") from None
        finally:
            if self._answers.get(reference) is answer:
                del self._answers[reference]
        if isinstance(outcome, HubRefused):
            raise outcome
        return outcome

    async def _publish(
        self, kind: str, reference: str, body: bytes, traceparent: str | None
    ) -> None:
        submissions = await self._submissions()
        message = aio_pika.Message(
            body,
            type=kind,
            message_id=reference,
            user_id=self._code,
            content_type="application/jose+json",
            headers={} if traceparent is None else {"traceparent": traceparent},
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        patience = self._patience.confirm
        try:
            await submissions.publish(message, self._code, mandatory=True, timeout=patience)
        except PublishError:
            raise Unreachable("The broker has no queue for submissions now.") from None
        except DeliveryError:
            # A channel opened while the queue moved to another node is refused for ever (RabbitMQ
            # 3.10); the next one is not.
            _end(self._ended, "it refuses what is published")
            raise Unreachable("The broker refused it.") from None
        except TimeoutError:
            raise Unreachable(
                "The broker did not confirm in time; it may be short of memory or disk."
            ) from None
        except Exception as error:  # noqa: BLE001 - aiormq has no type for a line being cut
            raise Unreachable(f"The broker did not take it: {_reason(error)}.") from None
        except asyncio.CancelledError:
            if _is_to_stop():
                raise
            raise Unreachable("The connection to the broker ended.") from None

    async def _submissions(self) -> AbstractExchange:
        self._start()
        try:
            async with asyncio.timeout(self._patience.connect):
                await self._connected.wait()
        except TimeoutError:
            raise Unreachable("There is no connection to the broker.") from None
        assert self._exchange is not None
        return self._exchange

    # --- The inbox ---

    async def _store(self, after: int) -> None:
        """Everything up to here was stored: the broker need not keep it."""
        self._start()
        self._stored = after
        # All at once: while one is acknowledged, the connection may end and with it the rest.
        stored = [position for position in self._inbox if position <= after]
        for _, message in [self._inbox.pop(position) for position in stored]:
            await _acknowledge(message)

    async def _wait_for(self, position: int, wait: float) -> None:
        """Wait for a position, and not for long once later ones are there."""
        clock = asyncio.get_running_loop().time
        end = clock() + wait
        overtaken = False
        while position not in self._inbox and self._connected.is_set():
            if self._inbox and not overtaken:
                overtaken, end = True, min(end, clock() + self._patience.gap)
            self._bell.clear()
            try:
                async with asyncio.timeout_at(end):
                    await self._bell.wait()
            except TimeoutError:
                return

    async def _look(self, after: int, limit: int) -> InboxPage:
        """Nothing came over the broker: whether that is all there is."""
        try:
            return await self._other.inbox(after, limit, 0)
        except Unreachable:
            if self._inbox or not self._connected.is_set():
                raise
            return InboxPage((), after)

    async def _receive(self, message: Incoming) -> None:
        """Take what the broker hands out; what nobody here understands is passed over."""
        try:
            match message.type:
                case amqp.DELIVERY:
                    if self._deliver(message):
                        return  # acknowledged once it is stored
                case amqp.ACCEPTANCE:
                    for one in jsontext.decode(message.body, amqp.Acceptances).acceptances:
                        self._settle(one.id, one.acceptance)
                case amqp.REFUSAL:
                    refusal = jsontext.decode(message.body, amqp.Refusal)
                    self._settle(refusal.id, _refused(refusal))
        except (Refused, ValueError) as error:
            self._trouble("broker", Unreachable(f"It handed out what is no message: {error}"), 0)
        await _acknowledge(message)

    def _deliver(self, message: Incoming) -> bool:
        item = _item(message.body, self._code)
        if item.position <= self._stored or item.position in self._inbox:
            return False
        self._inbox[item.position] = (item, message)
        self._bell.set()
        return True

    def _settle(self, reference: str, outcome: Acceptance | HubRefused) -> None:
        answer = self._answers.get(reference)
        if answer is not None and not answer.done():
            answer.set_result(outcome)  # others are to what an earlier run offered

    # --- The connection ---

    def _start(self) -> None:
        if self._keeping is None:
            for library in ("aio_pika", "aiormq"):  # what they find wrong is told by us
                logging.getLogger(library).setLevel(logging.CRITICAL)
            self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Connect, use, say what is wrong, back off, again, for as long as it takes."""
        clock = asyncio.get_running_loop().time
        pause = self._patience.first
        while True:
            self._since, reason = math.inf, "it gave no sign of life"
            try:
                await self._session()
            except asyncio.CancelledError:
                if _is_to_stop():
                    raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                reason = _reason(error)
            if clock() - self._since > pause:
                pause = self._patience.first
            delay = pause * (0.5 + self._chance() / 2)
            self._trouble("broker", Unreachable(f"The broker is away: {reason}."), delay)
            await asyncio.sleep(delay)
            pause = min(2 * pause, self._patience.longest)

    async def _session(self) -> None:
        """Work on two connections until one of them ends.

        Raises:
            AMQPError: the reason.
        """
        async with self._connection("out") as out, self._connection("in") as incoming:
            sending = await out.channel(publisher_confirms=True, on_return_raises=True)
            receiving = await incoming.channel(publisher_confirms=False)
            await receiving.set_qos(prefetch_count=PREFETCH)
            queue = await receiving.get_queue(amqp.inbox(self._code), ensure=False)
            self._ended = ended = await _end_of(sending, receiving)
            try:
                await queue.consume(self._receive)
                self._exchange = await sending.get_exchange(amqp.SUBMISSIONS, ensure=False)
                if _is_to_stop():
                    raise asyncio.CancelledError  # it was lost while connecting, as ``close`` says
                self._connected.set()
                self._since = asyncio.get_running_loop().time()
                raise AMQPError(await ended)
            finally:
                # Delivery tags die with their channel: all of it is handed out again.
                self._connected.clear()
                self._inbox.clear()
                self._bell.set()

    @contextlib.asynccontextmanager
    async def _connection(self, direction: str) -> AsyncIterator[AbstractConnection]:
        connection = aio_pika.Connection(
            aio_pika.connection.make_url(self._url(), heartbeat=HEARTBEAT),
            ssl_context=self._tls,
            client_properties={"connection_name": f"{self._code} {direction}"},
        )
        try:
            await connection.connect(timeout=self._patience.connect)
            yield connection
        finally:
            # Of one whose other end is silent nothing is waited for.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(connection.close(), 5)


def address(url: str, certificate: str) -> str:
    """The broker's address, saying that a client certificate stands for a password."""
    parsed = URL(url)
    if certificate and parsed.password is None:
        parsed = parsed.update_query(auth="external")
    return str(parsed)


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS to the broker, from PEM files: whom to believe, and what to show.

    Empty is the authorities that the machine knows, and nothing.

    Raises:
        OSError: a file cannot be read or is no PEM file of its kind.
    """
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context


async def _end_of(*channels: AbstractChannel) -> "asyncio.Future[str]":
    """Done with the reason once one of the channels ends, or its queue is deleted."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    for channel in channels:
        underlying = await channel.get_underlay_channel()
        underlying.on_consumer_cancel_callbacks.add(lambda _: _end(ended, "our inbox was deleted"))
        channel.close_callbacks.add(
            lambda _, error: _end(ended, str(error or "") or "it closed the line")
        )
        if channel.is_closed:
            _end(ended, "it closed the line")
    return ended


def _end(ended: "asyncio.Future[str] | None", reason: str) -> None:
    if ended is not None and not ended.done():
        ended.set_result(reason)


async def _acknowledge(message: Incoming) -> None:
    """Where this fails the connection is gone, and the message is handed out again."""
    try:
        await message.ack()
    except asyncio.CancelledError:
        if _is_to_stop():
            raise
    except Exception:  # noqa: BLE001 - aiormq has no type for a line being cut
        return


def _item(body: bytes, code: str) -> InboxItem:
    """A delivery or a tombstone, with its position in our inbox as its private part has it."""
    value = jsontext.parse(body)
    if isinstance(value, dict) and "tombstone" in value:
        return jsontext.convert(value, InboxItem)
    delivery = jsontext.convert(value, Delivery)
    private = jsontext.decode(unb64url(delivery.private), AcceptedPrivate)
    recipient = private.recipients.get(code)
    if recipient is None:
        raise ValueError("it is for somebody else")
    return InboxItem(recipient.position, delivery)


def _refused(refusal: amqp.Refusal) -> HubRefused:
    return HubRefused(
        shown(refusal.code),
        shown(refusal.detail),
        retryable=refusal.retryable,
        refusal=refusal.refusal,
    )


def _reason(error: BaseException) -> str:
    return shown(str(error) or type(error).__name__).rstrip(".")


def _is_to_stop() -> bool:
    """Whether we are being cancelled, or only what waited on a connection that aiormq gave up."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
