"""Offload: functions run in one thread, in order, and each caller gets its own outcome."""

import asyncio
import threading

import pytest

from hub.intake.offload import Offload


@pytest.fixture
def offload():
    made = Offload()
    yield made
    made.close()


async def test_gives_the_result_from_another_thread(offload):
    assert await offload.run(threading.get_ident) != threading.get_ident()


async def test_raises_what_the_function_raises_to_its_caller_alone(offload):
    def fail():
        raise ValueError("no")

    calls = [offload.run(function) for function in (lambda: 1, fail, lambda: 2)]
    good, bad, also_good = await asyncio.gather(*calls, return_exceptions=True)
    assert (good, also_good) == (1, 2)
    assert isinstance(bad, ValueError)


async def test_runs_in_the_order_of_the_calls(offload):
    done = []
    await asyncio.gather(*(offload.run(lambda n=n: done.append(n)) for n in range(200)))
    assert done == list(range(200))


async def test_goes_on_when_a_caller_has_gone(offload):
    entered, leave = threading.Event(), threading.Event()

    def wait():
        entered.set()
        leave.wait(10)

    gone = asyncio.create_task(offload.run(wait))
    await asyncio.to_thread(entered.wait, 10)
    gone.cancel()
    later = asyncio.create_task(offload.run(lambda: "still here"))
    leave.set()
    assert await later == "still here"
    assert gone.cancelled()
