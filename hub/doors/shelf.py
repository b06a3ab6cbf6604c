"""What anybody may ask for, made once and kept for a moment: strangers cost the hub little.

One thing is made at a time, with a rest after each; a few askers wait for their turn, and the
others are asked to come back. What is kept has a limit in bytes; the oldest goes first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec

from schemas.refusal import TRY_AGAIN, Refused

MAX_BYTES = 32 * 2**20
MAX_WAITING = 16

REST = 3
"""How many times as long as a making took nothing is made: strangers get a quarter of the time."""

MAX_AGE = timedelta(minutes=10)
"""Nothing older is kept when something new is."""


class _Kept(msgspec.Struct, frozen=True):
    body: bytes
    made: datetime


class Shelf:
    """Bodies by address."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_waiting: int = MAX_WAITING) -> None:
        """Nothing is kept yet."""
        self._max_bytes = max_bytes
        self._max_waiting = max_waiting
        self._kept: dict[str, _Kept] = {}
        self._bytes = 0
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._rested = 0.0

    async def get(
        self,
        address: str,
        make: Callable[[], Awaitable[bytes]],
        clock: Callable[[], datetime],
        fresh: timedelta,
    ) -> bytes:
        """The body at an address, made anew when it was made longer ago than ``fresh``.

        Raises:
            Refused: ``busy``; or ``make`` refused, of which nothing is kept.
        """
        found = self._found(address, clock(), fresh)
        if found is not None:
            return found
        if self._waiting >= self._max_waiting:
            raise Refused("busy", f"Many ask at the same time; {TRY_AGAIN}.")
        self._waiting += 1
        try:
            async with self._turn:
                found = self._found(address, clock(), fresh)
                return found or await self._make(address, make, clock)
        finally:
            self._waiting -= 1

    async def _make(
        self, address: str, make: Callable[[], Awaitable[bytes]], clock: Callable[[], datetime]
    ) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._rested - loop.time())
        began = loop.time()
        made = clock()  # before it is looked for: what changes meanwhile is not in it
        try:
            body = await make()
        finally:
            self._rested = loop.time() + REST * (loop.time() - began)
        self._keep(address, _Kept(body, made))
        return body

    def _found(self, address: str, now: datetime, fresh: timedelta) -> bytes | None:
        kept = self._kept.get(address)
        # Set back, a clock would keep it for as long as it was set back by.
        if kept is None or not timedelta() <= now - kept.made < fresh:
            return None
        return kept.body

    def _keep(self, address: str, kept: _Kept) -> None:
        self._drop(address)
        self._kept[address] = kept
        self._bytes += len(kept.body)
        for each, old in list(self._kept.items()):  # as they were made
            if self._bytes <= self._max_bytes and old.made >= kept.made - MAX_AGE:
                break
            self._drop(each)

    def _drop(self, address: str) -> None:
        kept = self._kept.pop(address, None)
        if kept is not None:
            self._bytes -= len(kept.body)
