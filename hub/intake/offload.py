"""Crypto off the event loop: calls are gathered while a thread works, and run together in it.

One hop to a thread costs about as much as verifying one signature; gathering makes it one hop for
many signatures under load, and one for one when idle.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_MAX_CALLS = 16
"""Calls in one hop; more would make the first of them wait for the last."""


class Offload:
    """Runs functions in one worker thread, in order."""

    def __init__(self) -> None:
        """Start the thread with the first call."""
        self._executor = ThreadPoolExecutor(1, "crypto")
        self._waiting: deque[tuple[Callable[[], object], asyncio.Future[object]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Run a function in the thread and give its result or raise its exception."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((function, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future  # type: ignore[return-value]

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            size = min(len(self._waiting), _MAX_CALLS)
            calls = [self._waiting.popleft() for _ in range(size)]
            results = await loop.run_in_executor(
                self._executor, _run_all, [function for function, _ in calls]
            )
            for (_, future), (result, error) in zip(calls, results, strict=True):
                if future.done():
                    continue  # whoever asked has gone
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(result)

    def close(self) -> None:
        """Stop the thread after the call it is in."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _run_all(
    functions: list[Callable[[], object]],
) -> list[tuple[object, BaseException | None]]:
    results: list[tuple[object, BaseException | None]] = []
    for function in functions:
        try:
            results.append((function(), None))
        except Exception as error:  # noqa: BLE001 - it is raised again in the caller
            results.append((None, error))
    return results
