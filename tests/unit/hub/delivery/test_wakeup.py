"""Bells: whoever took a bell before looking misses nothing that comes after the look."""

import asyncio

from hub.delivery.wakeup import Bells, heard


async def test_a_ring_is_heard_by_everybody_who_waits_at_that_bell():
    bells = Bells()
    waiting = [asyncio.create_task(heard(bells.bell("kz"), 10)) for _ in range(3)]
    await asyncio.sleep(0)  # let them begin to wait
    bells.ring(["kz"])
    assert await asyncio.gather(*waiting) == [True, True, True]


async def test_a_ring_between_the_look_and_the_wait_is_heard():
    bells = Bells()
    bell = bells.bell("kz")
    bells.ring(["kz"])
    assert await heard(bell, 10)


async def test_a_ring_is_heard_once():
    bells = Bells()
    bells.bell("kz")
    bells.ring(["kz"])
    assert not await heard(bells.bell("kz"), 0)


async def test_a_ring_for_others_is_not_heard():
    bells = Bells()
    bell = bells.bell("kz")
    bells.ring(["kg", "tj"])
    assert not await heard(bell, 0)


async def test_a_ring_that_nobody_waits_for_does_no_harm():
    bells = Bells()
    bells.ring(["kz", "nobody"])
    assert not await heard(bells.bell("kz"), 0)


async def test_whoever_gives_up_waiting_leaves_the_bell_for_the_others():
    bells = Bells()
    patient = asyncio.create_task(heard(bells.bell("kz"), 10))
    assert not await heard(bells.bell("kz"), 0)
    bells.ring(["kz"])
    assert await patient
