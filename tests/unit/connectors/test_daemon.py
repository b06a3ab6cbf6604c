"""The daemon's pace, how long it waits after failures, and its end."""

import asyncio
import contextlib

import pytest

from connectors import daemon
from connectors.daemon import Pace, backoff

PACE = Pace(first=1, longest=300)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (1000, 300)]
)
def test_it_waits_twice_as_long_after_each_failure_up_to_the_longest(failures, seconds):
    assert backoff(failures, PACE, chance=1.0) == seconds


def test_chance_takes_up_to_half_of_it_so_that_not_all_come_back_at_once():
    assert backoff(3, PACE, chance=0.0) == 2
    assert backoff(3, PACE, chance=0.5) == 3


async def test_it_ends_though_a_cancellation_is_lost(monkeypatch):
    monkeypatch.setattr(daemon, "LOST_AFTER", 0.01)

    async def loses_one():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def fails():
        raise ValueError("the disk is full")

    tasks = [asyncio.ensure_future(loses_one()), asyncio.ensure_future(fails())]
    await asyncio.sleep(0)
    async with asyncio.timeout(90):
        errors = await daemon.end(tasks)
    assert [str(error) for error in errors] == ["the disk is full"]
