"""Looking up the hosts that strangers named, so that none whose servers are slow delays another.

The loop's own look-ups have very few threads together, of which a slow name holds one for as long
as the system's resolver tries; leaving it does not give the thread back.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeAlias

from aiohappyeyeballs import AddrInfoType

MOST: Final = 24
"""Hosts that are looked up at a time, each in a thread.

More than one owner's subscriptions (``hub.settings.Webhooks``) can name, and few of the threads
that the hub may have (``TasksMax`` of deploy/systemd/nhri-hub.service): where the system's name
servers do not answer, all of these are taken, and everything else needs threads as well.
"""

LookUp: TypeAlias = Callable[..., Sequence[AddrInfoType]]


class Names:
    """Looks hosts up, one host once at a time for all who wait for it. ``close`` it."""

    def __init__(self, look_up: LookUp = socket.getaddrinfo) -> None:
        """``look_up`` takes what ``socket.getaddrinfo`` takes, and may take its time."""
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(MOST, "names")
        self._under_way: dict[tuple[str, int], asyncio.Future[Sequence[AddrInfoType]]] = {}

    def close(self) -> None:
        """Begin no more look-ups; nobody waits for those that are under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """Where a host and port lead.

        Raises:
            socket.gaierror: nowhere.
        """
        asked = host, port
        found = self._under_way.get(asked)
        if found is None:
            look = partial(self._look_up, host, port, type=socket.SOCK_STREAM)
            found = asyncio.get_running_loop().run_in_executor(self._threads, look)
            self._under_way[asked] = found
            found.add_done_callback(lambda _: self._under_way.pop(asked))
        return await asyncio.shield(found)  # others may wait for it, too
