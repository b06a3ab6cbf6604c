"""Stuck inboxes: queues for which the broker confirms nothing while it takes what is for others.

For a quorum queue without a leader RabbitMQ waits five seconds, for each message anew, and with it
waits all that was published behind it on the same channel. So whoever the first message without a
confirm was for is suspected: the publisher begins anew on another connection and publishes nothing
to them until each has confirmed an answer to nothing, on a connection of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

ASK_SECONDS = 5.0
"""Between two attempts to put something into a stuck inbox."""

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
        self._shown: dict[str, bool] = {}
        self._suspected = asyncio.Event()

    def __contains__(self, code: object) -> bool:
        """Whether somebody is suspected, or more."""
        return code in self._shown

    @property
    def shown(self) -> frozenset[str]:
        """Into whose inboxes nothing could be put."""
        return frozenset(code for code, shown in self._shown.items() if shown)

    def suspect(self, codes: Iterable[str]) -> None:
        """One of these may be stuck."""
        for code in codes:
            self._shown.setdefault(code, False)
        self._suspected.set()

    async def ask(self) -> None:
        """Try again and again, as long as there are suspects; never ends."""
        while True:
            await self._suspected.wait()
            await asyncio.gather(*map(self._ask, [*self._shown]))
            if self._shown:
                await asyncio.sleep(ASK_SECONDS)
            else:
                self._suspected.clear()

    async def _ask(self, code: str) -> None:
        try:
            works = await self._takes(code)
        except Exception:  # noqa: BLE001 - it cannot be found out now: the broker is away
            return
        if not works:
            if not self._shown[code]:
                log.warning("inbox.stuck", recipient=code, advice=_ADVICE)
            self._shown[code] = True
        elif self._shown.pop(code):
            log.info("inbox.works-again", recipient=code)
