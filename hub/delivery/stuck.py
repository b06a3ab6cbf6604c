"""Stuck inboxes: queues for which the broker confirms nothing while it takes what is for others.

For a quorum queue without a leader RabbitMQ waits five seconds, for each message anew, and with it
waits all that was published on the same channel, also a little before. So whoever a message without
a confirm was for is suspected: the publisher begins anew, on another connection, and publishes to
none of them until each has confirmed an answer to nothing, on a connection of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from hub.delivery import broker

ASK_SECONDS = 5.0
"""Between two attempts to put something into a stuck inbox."""

AT_ONCE = 8
"""Attempts at the same time, each on a connection of its own."""

_ADVICE = (
    "RabbitMQ takes nothing for it, as where its queue has lost its leader; others go on "
    "(deploy/runbooks/inbox-stuck.md)."
)

log = structlog.get_logger("hub.publisher")


class StuckInboxes:
    """Those who are suspected, among them those for whom it was shown."""

    def __init__(self, takes: Callable[[str], Awaitable[bool]]) -> None:
        """``takes`` tries whether the broker takes something for somebody."""
        self._takes = takes
        # Whether it was shown.
        self._suspects: dict[str, bool] = {}
        self._mended: set[str] = set()
        self._unasked: asyncio.Queue[str] = asyncio.Queue()
        self._attempts = asyncio.Semaphore(AT_ONCE)

    def __contains__(self, code: object) -> bool:
        """Whether somebody is suspected, or more."""
        return code in self._suspects

    def __len__(self) -> int:
        """How many are suspected, or more."""
        return len(self._suspects)

    @property
    def shown(self) -> frozenset[str]:
        """Into whose inboxes nothing could be put."""
        return frozenset(code for code, shown in self._suspects.items() if shown)

    def mended(self) -> frozenset[str]:
        """Whose inboxes work again since this was asked before; what was in them may be lost."""
        mended = frozenset(self._mended)
        self._mended.clear()
        return mended

    def suspect(self, codes: Iterable[str]) -> None:
        """One of these may be stuck."""
        for code in codes:
            if code not in self._suspects:
                self._suspects[code] = False
                self._unasked.put_nowait(code)

    async def ask(self) -> None:
        """Try each suspect until it works; never ends."""
        asking: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._ask(await self._unasked.get()))
                asking.add(task)
                task.add_done_callback(asking.discard)
        finally:
            await broker.stop(asking)

    async def _ask(self, code: str) -> None:
        while not await self._works(code):  # noqa: ASYNC110 - nothing tells when a queue works
            await asyncio.sleep(ASK_SECONDS)
        if self._suspects.pop(code):
            log.info("inbox.works-again", recipient=code)
            self._mended.add(code)

    async def _works(self, code: str) -> bool:
        try:
            async with self._attempts:
                if await self._takes(code):
                    return True
        except Exception as error:  # noqa: BLE001 - it cannot be found out now
            log.warning("inbox.unsure", recipient=code, reason=str(error))
            return False
        if not self._suspects[code]:
            log.warning("inbox.stuck", recipient=code, advice=_ADVICE)
        self._suspects[code] = True
        return False
