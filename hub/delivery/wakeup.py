"""Waking those who wait for something new: long polls and event streams, one bell a participant."""

import asyncio
from collections.abc import Iterable

LOG = ""
"""The bell that rings whenever the log has grown; no participant has this code."""


class Bells:
    """One bell for each participant; whoever waits hears the next ring."""

    def __init__(self) -> None:
        """Nobody waits yet."""
        self._bells: dict[str, asyncio.Event] = {}

    def ring(self, codes: Iterable[str]) -> None:
        """Something new is there for these participants."""
        for code in codes:
            bell = self._bells.pop(code, None)
            if bell is not None:
                bell.set()

    def bell(self, code: str) -> asyncio.Event:
        """The bell of the next ring.

        Take it before looking whether something is there: what comes after the look rings it.
        """
        return self._bells.setdefault(code, asyncio.Event())


async def heard(bell: asyncio.Event, seconds: float) -> bool:
    """Wait for a bell, at most so long; tell whether it rang."""
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return False
    return True
