"""The quarantine: what the hub could not even refuse, kept on the broker for an operator.

It is read by taking without acknowledging: whatever is not acknowledged until the connection is
closed is in the queue again, where it was.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue

from hub.delivery import broker, topology
from schemas import amqp
from schemas.refusal import Refused

MAX_READ = 500
"""Messages in one reading, the oldest; what lies beyond comes once these are dealt with."""

MAX_BYTES = 64 * 1024 * 1024
"""Of bodies in one reading, but for its last message: all of them are in memory until it ends."""

_TIMEOUT = 10.0
_AGAIN = 0.1


class Quarantine:
    """The queue of this name, on a connection of its own for each reading."""

    def __init__(self, url: Callable[[], str]) -> None:
        """Read it on the broker that is at this address then."""
        self._url = url
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Sequence[AbstractIncomingMessage]]:
        """The messages, one reader at a time: for a second one they would not be there.

        Raises:
            Refused: ``busy``: the broker cannot be reached, or another hub reads for long.
        """
        async with self._turn, contextlib.AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(
                    broker.connected(self._url(), "hub.quarantine")
                )
                async with asyncio.timeout(_TIMEOUT):
                    # Of another hub's reading we hear nothing.
                    while not await broker.claim(connection, topology.READER):  # noqa: ASYNC110
                        await asyncio.sleep(_AGAIN)
                channel = await connection.channel()
                taken = await _take(await channel.get_queue(amqp.QUARANTINE, ensure=False))
            except TimeoutError:
                raise Refused("busy", "The broker or another reader takes too long.") from None
            except Exception as error:  # noqa: BLE001 - aiormq has no type for a line being cut
                raise Refused("busy", f"The broker cannot be asked: {error}.") from None
            yield taken


async def _take(queue: AbstractQueue) -> list[AbstractIncomingMessage]:
    taken: list[AbstractIncomingMessage] = []
    size = 0
    while len(taken) < MAX_READ and size < MAX_BYTES:
        message = await queue.get(fail=False, timeout=_TIMEOUT)
        if message is None:
            break
        taken.append(message)
        size += len(message.body)
    return taken
