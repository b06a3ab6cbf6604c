"""What is kept for strangers: for how long, how much of it, and how many may wait."""

import asyncio
from datetime import timedelta

import pytest

from hub.doors.shelf import MAX_AGE, REST, Shelf
from schemas.refusal import Refused
from tests.client import Clock

FRESH = timedelta(seconds=10)


class Maker:
    """Makes bodies of a size, and counts them; a gate can hold it up."""

    def __init__(self, size=1):
        self.made = 0
        self.size = size
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self):
        self.made += 1
        self.begun.set()
        await self.gate.wait()
        return str(self.made).encode() * self.size


async def test_what_is_fresh_is_not_made_again():
    shelf, make, clock = Shelf(), Maker(), Clock()
    assert await shelf.get("/a", make, clock, FRESH) == b"1"
    clock.forward(seconds=9)
    assert await shelf.get("/a", make, clock, FRESH) == b"1"
    clock.forward(seconds=1)
    assert await shelf.get("/a", make, clock, FRESH) == b"2"


async def test_a_clock_that_is_set_back_makes_nothing_last_longer():
    shelf, make, clock = Shelf(), Maker(), Clock()
    await shelf.get("/a", make, clock, FRESH)
    clock.forward(hours=-1)
    assert await shelf.get("/a", make, clock, FRESH) == b"2"


async def test_those_who_ask_at_the_same_time_wait_for_one_making():
    shelf, make, clock = Shelf(), Maker(), Clock()
    asked = [shelf.get("/a", make, clock, FRESH) for _ in range(5)]
    assert await asyncio.gather(*asked) == [b"1"] * 5


async def test_whoever_would_wait_behind_too_many_is_told_to_come_back():
    shelf, make, clock = Shelf(max_waiting=2), Maker(), Clock()
    await shelf.get("/kept", make, clock, FRESH)
    make.gate.clear()
    make.begun.clear()
    waiting = [asyncio.create_task(shelf.get(a, make, clock, FRESH)) for a in ("/a", "/b")]
    await make.begun.wait()
    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(shelf.get("/c", make, clock, FRESH), 10)
    assert refused.value.code == "busy"
    assert await shelf.get("/kept", make, clock, FRESH) == b"1"
    make.gate.set()
    assert await asyncio.gather(*waiting) == [b"2", b"3"]
    assert await shelf.get("/c", make, clock, FRESH) == b"4"


async def test_making_leaves_most_of_the_time_to_others():
    shelf, clock, loop = Shelf(), Clock(), asyncio.get_running_loop()
    times = []

    async def make():
        times.append(loop.time())
        await asyncio.sleep(0.02)  # the work
        times.append(loop.time())
        return b"x"

    await asyncio.gather(*(shelf.get(address, make, clock, FRESH) for address in ("/a", "/b")))
    began, ended, began_again, _ = times
    assert began_again - ended >= 0.99 * REST * (ended - began)


async def test_no_more_is_kept_than_so_many_bytes():
    shelf, make, clock = Shelf(max_bytes=20), Maker(size=9), Clock()
    for address in ("/a", "/b", "/c"):
        await shelf.get(address, make, clock, FRESH)
    await shelf.get("/b", make, clock, FRESH)
    assert make.made == 3
    await shelf.get("/a", make, clock, FRESH)
    assert make.made == 4


async def test_what_is_larger_than_all_is_given_and_not_kept():
    shelf, make, clock = Shelf(max_bytes=8), Maker(size=9), Clock()
    assert await shelf.get("/a", make, clock, FRESH) == b"1" * 9
    assert await shelf.get("/a", make, clock, FRESH) == b"2" * 9


async def test_what_is_old_goes_when_something_new_comes():
    shelf, make, clock = Shelf(), Maker(), Clock()
    await shelf.get("/old", make, clock, FRESH)
    clock.forward(seconds=MAX_AGE.total_seconds() + 1)
    await shelf.get("/new", make, clock, FRESH)
    assert await shelf.get("/old", make, clock, timedelta(days=1)) == b"3"


async def test_a_refusal_is_not_kept():
    shelf, make, clock = Shelf(max_waiting=1), Maker(), Clock()

    async def refuse():
        raise Refused("not-found", "Nothing.")

    for _ in range(3):
        with pytest.raises(Refused):
            await shelf.get("/a", refuse, clock, FRESH)
    assert await shelf.get("/a", make, clock, FRESH) == b"1"
