"""Telling systemd how the service is (sd_notify(3)); where systemd did not start it, nothing."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def told() -> AsyncIterator[None]:
    """Say READY, then a sign of life twice in each watchdog's time from this very loop, STOPPING.

    A loop that hangs gives no sign, and systemd starts the service again.
    """
    _notify("READY=1")
    alive = asyncio.create_task(_keep_alive())
    try:
        yield
    finally:
        alive.cancel()
        _notify("STOPPING=1")


async def _keep_alive() -> None:
    # Set where the unit has WatchdogSec=; the child of a service inherits it, but not its meaning.
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    while seconds:
        _notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket, of which the kernel writes the @ as a zero
        address = "\0" + address[1:]
    # systemd judges a missing message; a service that ends because of one helps nobody.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)
