"""How fast an endpoint is posted to. Pure: time is an argument.

Of an endpoint one moment is kept: when all that was posted would have been, had it gone at an even
pace. How far that lies ahead is how much of the burst is used up.
"""

from datetime import datetime, timedelta
from typing import Final

PER_SECOND: Final = 100
"""Posts to one endpoint, over any longer time."""

BURST: Final = 100
"""Posts to an endpoint that was left alone for a second, as fast as they go."""

_EACH: Final = timedelta(seconds=1) / PER_SECOND

_FURTHEST: Final = 2 * BURST * _EACH
"""What lies further ahead was posted before the clock was set back."""


class Pace:
    """What was posted of late to each endpoint."""

    def __init__(self) -> None:
        self._even: dict[str, datetime] = {}

    def room(self, endpoint: str, now: datetime) -> int:
        """How many posts may begin now."""
        return max(0, BURST - -(-(self._from(endpoint, now) - now) // _EACH))

    def next(self, endpoint: str, now: datetime) -> datetime:
        """When there is room for one."""
        return max(now, self._from(endpoint, now) - (BURST - 1) * _EACH)

    def take(self, endpoint: str, count: int, now: datetime) -> None:
        """So many posts begin."""
        self._even[endpoint] = self._from(endpoint, now) + count * _EACH

    def forget(self, now: datetime) -> None:
        """Drop the endpoints of which nothing has to be known any more."""
        self._even = {
            name: even for name, even in self._even.items() if now < even <= now + _FURTHEST
        }

    def _from(self, endpoint: str, now: datetime) -> datetime:
        even = self._even.get(endpoint, now)
        return even if now <= even <= now + _FURTHEST else now
