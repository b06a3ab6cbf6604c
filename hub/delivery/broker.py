"""A connection to RabbitMQ that comes back: connect, use, say what is wrong, back off, again.

aio-pika's own "robust" connections publish into the void while they reconnect; here whoever uses a
connection is told that it is gone, and starts afresh from what the database knows.
"""

import asyncio
from collections.abc import Awaitable, Callable

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds between attempts; doubled each time."""

CONFIRM_TIMEOUT = 30.0
"""Seconds to wait for the broker's confirm; under a memory or disk alarm it says nothing."""


log = structlog.get_logger("hub.broker")


class Unconfirmed(Exception):
    """The broker did not confirm: nothing was promised, and it may or may not have it."""


async def keep(url: str, name: str, use: Callable[[AbstractConnection], Awaitable[None]]) -> None:
    """Run ``use`` on a fresh connection again and again until cancelled.

    Args:
        url: amqp:// or amqps://, with the vhost.
        name: shown in the broker's list of connections and in our log.
        use: works on a connection; it returns or raises when the connection has ended.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            connection = await aio_pika.connect(
                url, client_properties={"connection_name": name}, timeout=10
            )
            async with connection:
                log.info("broker.connected", link=name)
                pause = FIRST_PAUSE
                await use(connection)
            reason = "the connection was closed"
        except (AMQPError, OSError, TimeoutError, Unconfirmed) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
        log.warning("broker.away", link=name, reason=reason, again_in=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
