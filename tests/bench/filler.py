"""``python -m tests.bench.filler ACCOUNTS COUNT``: sign so many submissions and publish them.

A process of its own, so that several can sign at once.
"""

import asyncio
import contextlib
import itertools
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import aio_pika
import uvloop
from aio_pika.abc import AbstractExchange

from schemas import amqp
from tests.bench import accounts, load

AT_ONCE = 200
"""Publishes at once whose confirm is awaited."""


async def fill(path: Path, count: int) -> None:
    """Each message goes out by its sender's own account; when this returns the broker has all."""
    members = accounts.read(path)
    async with contextlib.AsyncExitStack() as stack:
        exchanges = {}
        for code, account in members.items():
            connection = await stack.enter_async_context(await aio_pika.connect(account.url))
            exchanges[code] = await (await connection.channel()).get_exchange(
                amqp.SUBMISSIONS, ensure=False
            )
        signed = load.messages({code: one.private for code, one in members.items()}, count)
        while batch := list(itertools.islice(signed, AT_ONCE)):
            await asyncio.gather(*(publish(exchanges, code, body) for code, body in batch))


async def publish(exchanges: Mapping[str, AbstractExchange], code: str, body: bytes) -> None:
    """Publish a message as a connector does."""
    message = aio_pika.Message(
        body,
        type=amqp.MESSAGE,
        user_id=code,
        message_id=secrets.token_hex(8),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    await exchanges[code].publish(message, code)


if __name__ == "__main__":
    uvloop.run(fill(Path(sys.argv[1]), int(sys.argv[2])))
