"""The patrol: the stored log is hashed again, day by day, and as it grows.

It takes a few percent of a core: after each step it rests for many times as long as that took, so
that it gives way where the database is busy. A mismatch stops all signing: whoever edits the
database must not have the hub sign what comes after it.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from hub.ledger import verify
from hub.ledger.verify import Check, Verdict

ROUND_SECONDS = 24 * 3600.0
"""A whole pass begins this long after the last one did, or when that is through."""

FOLLOW_SECONDS = 1.0
"""How long after a commit its entries are hashed again, when nothing else is left to do."""

AWAY_SECONDS = 20.0
"""The next try where the database is away."""

REST = 30
"""Times as long as a step took: about three percent of a core."""

log = structlog.get_logger("hub.patrol")


class Patrol:
    """Who goes round, and what is to be done when something is wrong."""

    def __init__(
        self,
        begin: Callable[[], Check],
        distrust: Callable[[str | None], None],
        tell: Callable[[Verdict, bool], None],
        unfinished: Callable[[], bool],
        went_back: Callable[[], None],
        *,
        damaged: bool,
    ) -> None:
        """Prepare to go round.

        Args:
            begin: a new check, from the first entry on.
            distrust: is told why nothing may be signed; None when the log was found whole again.
            tell: is told what was found, and whether that was a whole pass from the first entry.
            unfinished: whether a log that was restored is still being made whole by others. What is
                not back yet is no damage, and nothing is signed meanwhile: nothing is judged.
            went_back: is told when the end of the log is gone, as after a failover to a standby
                that was behind. What is left is whole in itself: taken for damage, it would be
                found intact after a restart, and signed on from.
            damaged: the log was damaged when the hub ran last.
        """
        self._begin = begin
        self._distrust = distrust
        self._tell = tell
        self._unfinished = unfinished
        self._went_back = went_back
        self._damaged = damaged

    async def run(self) -> None:
        """Go round until cancelled."""
        while True:
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - a disk that fails; the next round looks again
                log.warning("patrol.failed", reason=str(error))
                await asyncio.sleep(AWAY_SECONDS)

    async def round(self) -> None:
        """One whole pass; then whatever is new, until the next one is due.

        After a mismatch the next one is due at once, to see whether the log was mended.
        """
        if self._unfinished():
            await asyncio.sleep(FOLLOW_SECONDS)
            return
        check, due = self._begin(), time.monotonic() + ROUND_SECONDS
        whole = False
        while not whole or (time.monotonic() < due and check.verdict().ok):
            began = time.monotonic()
            try:
                more = await check.step()
            except Exception as error:  # noqa: BLE001 - the database is away, and the upkeep says so
                log.warning("patrol.failed", reason=str(error))
                await asyncio.sleep(AWAY_SECONDS)
                continue
            if self._unfinished():
                return
            self._judge(check, passed=not more, whole=not more and not whole)
            whole = whole or not more
            took = time.monotonic() - began
            await asyncio.sleep(took * REST if more else max(took * REST, FOLLOW_SECONDS))

    async def pass_at_once(self) -> Verdict:
        """What a whole pass finds, for somebody who asks; it is acted upon as in a round."""
        before, check = self._unfinished(), self._begin()
        verdict = await verify.verify(check)
        if not before and not self._unfinished():
            self._judge(check, passed=True, whole=True)
        return verdict

    def _judge(self, check: Check, *, passed: bool, whole: bool) -> None:
        """Act upon what a check has found so far.

        Args:
            check: it.
            passed: it has reached the newest checkpoint.
            whole: it has just done so, from the first entry on.
        """
        verdict = check.verdict()
        if check.shrunken:
            log.error("log.shrunken", problems=verdict.problems[:3])
            self._went_back()
            return
        if not verdict.ok and not self._damaged:
            log.error(
                "log.damaged",
                first_bad=verdict.first_bad,
                kind=verdict.kind,
                problems=verdict.problems[:3],
            )
            self._damaged = True
            self._distrust(sentence(verdict))
        elif verdict.ok and whole and self._damaged:
            log.warning("log.intact", entries=verdict.entries)
            self._damaged = False
            self._distrust(None)
        if passed or not verdict.ok:
            self._tell(verdict, whole)


def sentence(verdict: Verdict) -> str:
    """Why nothing is signed."""
    where = "" if verdict.first_bad is None else f", first at entry {verdict.first_bad}"
    return (
        f"The stored log is not the one that was signed{where} ({verdict.kind}): "
        f"{verdict.problems[0]} Nothing is signed meanwhile (deploy/runbooks/log-damaged.md)"
    )
