"""A burst: many publishes in one write, each with its own confirm.

aiormq publishes one message at a time, with a write, a timeout and a turn of the channel's lock for
each; that costs several times what the broker does for it. Here a whole batch takes one turn and is
one write; aiormq itself goes on matching confirms and returns.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import aiormq
import msgspec
from aio_pika.abc import AbstractChannel
from aiormq.abc import ChannelFrame
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from schemas import amqp

CONFIRM_TIMEOUT = 30.0
"""Seconds to wait for the broker's confirms; under a memory or disk alarm it says nothing."""

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


async def publish(channel: aiormq.Channel, burst: Sequence[Outgoing]) -> list[str | None]:
    """Publish all, persistent and mandatory; gives for each None or why it was not confirmed.

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
        await asyncio.wait(confirms.values(), timeout=CONFIRM_TIMEOUT)
    finally:
        for name in confirms:
            channel.message_id_delivery_tag.pop(name, None)
    return [_problem(confirm) for confirm in confirms.values()]


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


def _problem(confirm: asyncio.Future[object]) -> str | None:
    if not confirm.done():
        confirm.cancel()
        return f"no confirm in {CONFIRM_TIMEOUT:.0f} seconds"
    if confirm.cancelled():
        return "the channel was closed"
    error = confirm.exception()
    return None if error is None else f"{type(error).__name__}: {error}".rstrip(": ")
