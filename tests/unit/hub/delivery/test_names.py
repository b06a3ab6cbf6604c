"""Looking hosts up: a slow name holds up nobody who asks for another."""

import asyncio
import socket
import threading

import pytest
import uvloop

from hub.delivery.names import MOST, Names
from hub.settings import Webhooks


class Resolver:
    """Names that begin with slow wait for the end of the test; those with no lead nowhere."""

    def __init__(self):
        self.end = threading.Event()
        self.asked = []

    def __call__(self, host, port, *, type):  # noqa: A002 - as the library names it
        self.asked.append(host)
        if host.startswith("slow"):
            self.end.wait(10)
        if host.startswith("no"):
            raise socket.gaierror("no such name")
        return [(socket.AF_INET, type, 0, "", (host, port))]


async def slow_and_quick():
    """What was asked for while many slow names and a good one are looked up."""
    resolver = Resolver()
    names = Names(resolver)
    slow = [
        asyncio.create_task(names(f"slow{number % (MOST - 1)}", 443)) for number in range(2 * MOST)
    ]
    try:
        async with asyncio.timeout(5):
            found = await names("quick", 443)
    finally:
        for task in slow[: MOST // 2]:
            task.cancel()
        resolver.end.set()
    told = await asyncio.gather(*slow, return_exceptions=True)
    names.close()
    return found, told, resolver.asked


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_slow_names_hold_up_no_other_and_each_is_asked_for_once(run):
    found, told, asked = run(slow_and_quick())
    assert [address for *_, address in found] == [("quick", 443)]
    assert sorted(asked) == sorted({*asked})
    assert len(asked) == MOST
    # Who gave up takes nothing from who waits for the same name.
    given_up = [each for each in told if isinstance(each, asyncio.CancelledError)]
    assert len(given_up) == MOST // 2
    assert all(each[0][4][0].startswith("slow") for each in told[MOST // 2 :])


def test_one_owner_s_slow_names_leave_threads_for_the_others():
    assert Webhooks().subscriptions < MOST


async def test_a_name_is_asked_for_again_once_it_was_answered():
    resolver = Resolver()
    names = Names(resolver)
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await names("no", 443)
    names.close()
    assert resolver.asked == ["no", "no"]
