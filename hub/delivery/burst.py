"""A burst: many publishes in one write, each with its own confirm.

aiormq publishes one message at a time, with a write, a timeout and a turn of the channel's lock for
each; that costs several times what the broker does for it. Here a whole batch takes one turn and is
one write; aiormq itself goes on matching confirms and returns.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import aiormq
import msgspec
from aio_pika.abc import AbstractChannel
from aiormq.abc import ChannelFrame
from aiormq.exceptions import DeliveryError
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from hub.delivery.broker import Stuck, Unconfirmed
from schemas import amqp

STUCK_SECONDS = 3.0
"""Without any confirm for so long, whoever a message is for keeps others waiting no longer."""

ALARM_SECONDS = 30.0
"""To wait for confirms under a memory or disk alarm: the broker says nothing then to anybody."""

_PERSISTENT = 2


class Outgoing(msgspec.Struct, frozen=True):
    """One message for one or several inboxes; an answer has no position in them."""

    type: str
    body: bytes
    codes: tuple[str, ...]
    positions: Mapping[str, int] = {}


async def channel_for(channel: AbstractChannel) -> aiormq.Channel:
    """What a burst is published on: the channel below aio-pika's, which has confirms on.

    It must have been opened so that a message that no queue takes is an error.
    """
    underlying = await channel.get_underlay_channel()
    assert isinstance(underlying, aiormq.Channel)
    return underlying


async def publish(
    channel: aiormq.Channel, burst: Sequence[Outgoing], alarm: Callable[[], bool]
) -> list[Unconfirmed | None]:
    """Publish all, persistent and mandatory; gives for each None or why it was not confirmed.

    One of those that are ``Stuck`` may be what keeps the others waiting.

    Where this raises, or is cancelled, nothing is known of any of them, and the channel is of no
    use any more: its count of deliveries may be ahead of the broker's.

    Raises:
        AMQPError: the channel is closed.
    """
    confirms: dict[str, asyncio.Future[object]] = {}
    async with channel.lock:
        frames: list[commands.Basic.Publish | ContentHeader | ContentBody] = []
        for outgoing in burst:
            channel.delivery_tag += 1
            name = str(channel.delivery_tag)
            confirms[name] = channel.confirmations[channel.delivery_tag] = channel.create_future()
            # By its id a returned message is known.
            channel.message_id_delivery_tag[name] = channel.delivery_tag
            frames += _frames(outgoing, name, channel.max_content_size)
        await channel.write_queue.put(ChannelFrame.marshall(channel.number, frames))
    try:
        silent = await _wait(confirms.values(), alarm)
    finally:
        for name in confirms:
            channel.message_id_delivery_tag.pop(name, None)
    return [_problem(confirm, silent=silent) for confirm in confirms.values()]


async def _wait(confirms: Iterable[asyncio.Future[object]], alarm: Callable[[], bool]) -> bool:
    """Wait as long as confirms come in; whether they ceased with an alarm."""
    late, rest = {*confirms}, ALARM_SECONDS
    while late:
        done, late = await asyncio.wait(late, timeout=STUCK_SECONDS)
        if not late or (done and not any(isinstance(_problem(one), Stuck) for one in done)):
            continue
        rest -= STUCK_SECONDS
        if not alarm() or rest <= 0:
            return rest <= 0
    return False


def _frames(
    outgoing: Outgoing, name: str, most: int
) -> Iterator[commands.Basic.Publish | ContentHeader | ContentBody]:
    first, *others = map(amqp.inbox, outgoing.codes)
    yield commands.Basic.Publish(exchange=amqp.DELIVERIES, routing_key=first, mandatory=True)
    properties = commands.Basic.Properties(
        content_type="application/json",
        headers={"CC": list(others)} if others else None,
        delivery_mode=_PERSISTENT,
        message_id=name,
        message_type=outgoing.type,
    )
    yield ContentHeader(body_size=len(outgoing.body), properties=properties)
    for start in range(0, len(outgoing.body), most):
        yield ContentBody(outgoing.body[start : start + most])


def _problem(confirm: asyncio.Future[object], *, silent: bool = False) -> Unconfirmed | None:
    if not confirm.done():
        confirm.cancel()
        if silent:
            return Unconfirmed(f"no confirm in {ALARM_SECONDS:.0f} seconds, in an alarm")
        return Stuck(f"no confirm in {STUCK_SECONDS:.0f} seconds")
    if confirm.cancelled():
        return Unconfirmed("the channel was closed")
    error = confirm.exception()
    if error is None:
        return None
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    # Refused: a queue that does not answer in time, or is full.
    return Stuck(reason) if type(error) is DeliveryError else Unconfirmed(reason)
