"""The log of refusals of those who did not show who they are: so many lines a minute, then a count.

They are not in the exchange's own log, which nobody but its participants may make longer.
"""

from datetime import datetime

import structlog

from hub.intake.meter import RefusalMeter
from schemas.refusal import Refused

PER_MINUTE = 30
"""Lines for one refusal code; what is beyond them in a minute is counted in one more."""

log = structlog.get_logger("hub.strangers")


class Strangers:
    """Says who was turned away. It remembers a count for each refusal code, and no stranger."""

    def __init__(self, per_minute: int = PER_MINUTE) -> None:
        """Nobody has come yet."""
        self._meter = RefusalMeter(per_minute)

    def refused(self, refusal: Refused, route: str, now: datetime) -> None:
        """Somebody was turned away at a route, which is named as our table has it."""
        if self._meter.note(refusal.code, now):
            log.info("stranger.refused", code=refusal.code, detail=refusal.detail, route=route)

    def tell(self, now: datetime) -> None:
        """Say how many were left out in the minutes that are over; to be called now and then."""
        for code, count in self._meter.overdue(now).items():
            log.warning("stranger.left-out", code=code, count=count)
