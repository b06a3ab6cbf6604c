"""A thread with an event loop of its own: where PostgreSQL's writing transactions run.

A transaction is some dozen statements, each with its own wait. On the doors' loop every one of them
would queue behind whatever requests are being handled; here they follow one another at once.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines in its own thread, whoever asks."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``work`` there to its end, and give its result or raise its exception here.

        It is not cancelled with the caller: a transaction ends by itself, one way or the other.
        """

        async def there() -> T:
            return await work()

        future = asyncio.run_coroutine_threadsafe(there(), self._loop)
        return await asyncio.shield(asyncio.wrap_future(future))

    async def close(self) -> None:
        """Wait for what still runs there, then stop the thread."""
        drained = asyncio.run_coroutine_threadsafe(_others(), self._loop)
        await asyncio.wrap_future(drained)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _others() -> None:
    """Wait for every other task of this loop; a caller that went away left it running."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
