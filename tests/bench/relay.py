"""``python -m tests.bench.relay URL each|once INBOXES``: a relay that verifies and records nothing.

It passes every submission on to all inboxes but the sender's: in a publish a recipient, or in one
publish for all. It is what the hub is compared with: the least that a broker's client does.
"""

import asyncio
import sys
from collections.abc import Sequence

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from schemas import amqp

PREFETCH = 600
"""What the hub takes at once, too."""


async def run(url: str, mode: str, inboxes: Sequence[str]) -> None:
    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=PREFETCH)
    out = await (await connection.channel()).get_exchange(amqp.DELIVERIES, ensure=False)
    queue = await channel.get_queue(amqp.SUBMISSIONS_QUEUE, ensure=False)
    tasks: set[asyncio.Task[None]] = set()

    async def relay(message: AbstractIncomingMessage) -> None:
        others = [inbox for inbox in inboxes if inbox != amqp.inbox(message.routing_key or "")]
        copies = [others] if mode == "once" else [[other] for other in others]
        await asyncio.gather(*(out.publish(copy(message, keys[1:]), keys[0]) for keys in copies))
        await message.ack()

    async def start(message: AbstractIncomingMessage) -> None:
        task = asyncio.create_task(relay(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await queue.consume(start)
    await asyncio.Event().wait()


def copy(message: AbstractIncomingMessage, others: Sequence[str]) -> aio_pika.Message:
    """The message as it goes out, to these queues besides the one that it is published to."""
    return aio_pika.Message(
        message.body,
        type=amqp.DELIVERY,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        headers={"CC": list(others)} if others else None,
    )


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], sys.argv[2], sys.argv[3].split(",")))
