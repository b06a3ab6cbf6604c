"""A connection to RabbitMQ that comes back: connect, use, say what is wrong, back off, again.

aio-pika's own "robust" connections publish into the void while they reconnect; here whoever uses a
connection is told that it is gone, and starts afresh from what the database knows.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

import aio_pika
import msgspec
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelLockedResource, ChannelPreconditionFailed, DeliveryError

from hub.delivery import headers, topology
from schemas import amqp, jsontext

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 5.0
"""Seconds between attempts: doubled each time, unless a connection outlasted the pause before it.
On a line that is cut every few seconds most of the time has to be for work."""

HEARTBEAT = 15
"""Seconds; twice that without a sign of life ends a connection, here and at the broker."""

ALARM_SECONDS = 1.0
"""How often an alarm is looked for."""

PROBE_SECONDS = 2.0
"""For one message to be confirmed: less than the publisher's own patience, so that it does not end
again with an inbox that was just found to work."""

_ALARM = (
    "RabbitMQ is short of memory or disk and takes no message until there is room; "
    "rabbitmq-diagnostics alarms says which (deploy/runbooks/broker-away.md)."
)

_CONNECT_TIMEOUT = 10.0
_CLOSE_TIMEOUT = 5.0
_LOST_AFTER = 6.0

headers.tolerate()

log = structlog.get_logger("hub.broker")


class Unconfirmed(Exception):
    """The broker did not confirm: nothing was promised, and it may or may not have it."""


class Stuck(Unconfirmed):
    """Not for this inbox: its queue may be without a leader, while others work."""


class Ended(Exception):
    """A channel ended, or its consumer was cancelled; the text is the broker's reason."""


class Depth(msgspec.Struct, frozen=True):
    """A queue: messages that wait in it, and how many take them."""

    waiting: int
    consumers: int


async def keep(
    url: Callable[[], str], name: str, use: Callable[[AbstractConnection], Awaitable[None]]
) -> None:
    """Run ``use`` on a fresh connection again and again until cancelled.

    Args:
        url: gives, before each connection, amqp:// or amqps:// with the vhost; ``cafile``,
            ``certfile``, ``keyfile`` and ``auth=external`` may stand in its query.
        name: shown in the broker's list of connections and in our log.
        use: works on a connection; it returns or raises when the connection has ended.
    """
    _quieten_libraries()
    pause = FIRST_PAUSE
    while True:
        reason, lasted = await _attempt(url, name, use)
        if lasted > pause:
            pause = FIRST_PAUSE
        log.warning("broker.away", link=name, reason=reason, again_in=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _quieten_libraries() -> None:
    """What they find wrong is said here, once and with what follows from it."""
    for library in ("aio_pika", "aiormq"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


async def _attempt(
    url: Callable[[], str], name: str, use: Callable[[AbstractConnection], Awaitable[None]]
) -> tuple[str, float]:
    """One connection to its end; gives the reason of that, and how many seconds it was used."""
    clock = asyncio.get_running_loop().time
    began = None
    try:
        async with connected(url(), name) as connection:
            if _is_to_stop():
                raise asyncio.CancelledError  # it was lost while connecting, as ``stop`` says
            log.info("broker.connected", link=name)
            began = clock()
            await use(connection)
        reason = "the connection was closed"
    except asyncio.CancelledError:
        # aiormq cancels whoever waits on a connection that it gives up; that is no end of ours.
        if _is_to_stop():
            raise
        reason = "the connection gave no sign of life"
    except Exception as error:  # noqa: BLE001 - also the store's: the next attempt starts afresh
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return reason, 0.0 if began is None else clock() - began


def _is_to_stop() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextlib.asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection, closed at the end whatever comes.

    Raises:
        AMQPError, OSError: the broker cannot be reached or does not let us in.
    """
    address = aio_pika.connection.make_url(url, heartbeat=HEARTBEAT)
    connection = aio_pika.Connection(address, client_properties={"connection_name": name})
    try:
        await connection.connect(timeout=_CONNECT_TIMEOUT)
        yield connection
    finally:
        # Of one whose other end is silent nothing is waited for.
        with contextlib.suppress(Exception):
            await asyncio.wait_for(connection.close(), _CLOSE_TIMEOUT)


async def watch_alarm(connection: AbstractConnection, told: Callable[[bool], None]) -> None:
    """Say when an alarm for memory or disk keeps the broker from reading this connection.

    Never ends; ``told`` hears when it begins and when it is over.
    """
    assert connection.transport is not None  # it is connected
    while True:
        try:
            await asyncio.wait_for(connection.transport.ready(), ALARM_SECONDS)
        except TimeoutError:
            told(True)
            log.warning("broker.alarm", advice=_ALARM)
            await connection.transport.ready()
            told(False)
            log.info("broker.alarm-over")
        await asyncio.sleep(ALARM_SECONDS)


async def takes_too_much(url: str) -> bool:
    """Whether the broker takes what is larger than ``MAX_MESSAGE``; tried with one to nobody.

    On a connection of its own: under an alarm the broker reads no more from one that published.

    Raises:
        AMQPError, OSError, TimeoutError: it cannot be found out now.
    """
    async with connected(url, "hub.check") as connection, asyncio.timeout(_CONNECT_TIMEOUT):
        channel = await connection.channel()
        message = aio_pika.Message(bytes(topology.MAX_MESSAGE + 1))
        try:
            await channel.default_exchange.publish(message, "nobody", mandatory=False)
        except ChannelPreconditionFailed:
            return False
        return True


async def takes(url: str, code: str) -> bool:
    """Whether the broker takes something for somebody; tried with an answer to nothing.

    On a connection of its own: a queue that does not answer holds up what comes behind it.

    Raises:
        Exception: it cannot be found out now; aiormq has no type for a line being cut.
    """
    try:
        async with connected(url, "hub.probe") as connection, asyncio.timeout(_CONNECT_TIMEOUT):
            return await _takes(connection, code)
    except asyncio.CancelledError:
        if _is_to_stop():
            raise
        raise Ended("the connection gave no sign of life") from None


async def _takes(connection: AbstractConnection, code: str) -> bool:
    channel = await connection.channel(on_return_raises=True)
    exchange = await channel.get_exchange(amqp.DELIVERIES, ensure=False)
    body = jsontext.encode(amqp.Acceptances([]))
    # It outlives nobody's interest: who is not there does not need it later.
    nothing = aio_pika.Message(body, type=amqp.ACCEPTANCE, expiration=60)
    try:
        await exchange.publish(nothing, amqp.inbox(code), timeout=PROBE_SECONDS)
    except DeliveryError:
        return False  # refused, or there is no such queue
    except TimeoutError:
        # Under an alarm the broker reads nothing: that says nothing of this inbox.
        assert connection.transport is not None  # it is connected
        await asyncio.wait_for(connection.transport.ready(), ALARM_SECONDS)
        return False
    return True


async def claim(connection: AbstractConnection, name: str) -> bool:
    """Take an exclusive queue, which is ours as long as this connection lasts; whether we have."""
    channel = await connection.channel()
    try:
        await channel.declare_queue(name, exclusive=True)
    except ChannelLockedResource:
        return False  # another hub has it
    await channel.close()
    return True


async def together(*works: Coroutine[Any, Any, object]) -> None:
    """Do several things at once until one of them ends; then none goes on, and its error counts."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await stop(tasks)


async def stop(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all of them have ended.

    Once is not enough: before Python 3.12 ``asyncio.wait_for``, which the libraries are full of,
    loses a cancellation that comes at the moment when what it waits for is done.
    """
    every: list[asyncio.Task[Any]] = [*tasks]
    while pending := [task for task in every if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_LOST_AFTER)
    await asyncio.gather(*every, return_exceptions=True)  # an error beside the first is no news


async def end_of(channel: AbstractChannel) -> None:
    """Wait until a channel ends or the broker cancels its consumer, as when a queue is deleted.

    Raises:
        Ended: it has; says why.
    """
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(reason: str) -> None:
        if not ended.done():
            ended.set_result(reason)

    underlying = await channel.get_underlay_channel()
    underlying.on_consumer_cancel_callbacks.add(lambda _: end("a queue was deleted"))
    channel.close_callbacks.add(lambda _, error: end(str(error or "") or "it was closed"))
    if channel.is_closed:
        end("it was closed")
    raise Ended(await ended)


async def declare(channel: AbstractChannel, codes: Iterable[str]) -> Mapping[str, Depth]:
    """Make what the hub needs and the inboxes of these participants; gives the inboxes' depths."""
    await declare_hub(channel)
    return await declare_inboxes(channel, codes)


async def declare_inboxes(channel: AbstractChannel, codes: Iterable[str]) -> Mapping[str, Depth]:
    """Make the inboxes of these participants; gives their depths, by code."""
    depths = {}
    for code in codes:
        depths[code] = await _declare_queue(channel, topology.inbox_queue(code))
        await _bind(channel, topology.inbox_binding(code))
    return depths


async def declare_hub(channel: AbstractChannel) -> Mapping[str, Depth]:
    """Make what the hub itself needs; gives the depths of its queues, by their names."""
    for exchange in topology.EXCHANGES:
        await channel.declare_exchange(exchange.name, exchange.type, durable=True)
    depths = {queue.name: await _declare_queue(channel, queue) for queue in topology.HUB_QUEUES}
    for binding in topology.HUB_BINDINGS:
        await _bind(channel, binding)
    return depths


async def _declare_queue(channel: AbstractChannel, queue: topology.Queue) -> Depth:
    declared = await channel.declare_queue(
        queue.name, durable=True, arguments=dict(queue.arguments)
    )
    found = declared.declaration_result
    return Depth(found.message_count or 0, found.consumer_count or 0)


async def _bind(channel: AbstractChannel, binding: topology.Binding) -> None:
    queue = await channel.get_queue(binding.destination, ensure=False)
    await queue.bind(binding.source, binding.routing_key)
