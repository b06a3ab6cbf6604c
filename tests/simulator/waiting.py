"""Waiting for something to become so, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Callable

DEADLINE = 90.0
"""Seconds; far more than anything here takes, so that a slow machine is not a failure."""


async def until(condition: Callable[[], object], what: str = "", seconds: float = DEADLINE) -> None:
    """Return once a condition holds; fail, naming it, when the deadline is over first."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not so within {seconds:g} s: {what or condition}")
        await asyncio.sleep(0.01)
