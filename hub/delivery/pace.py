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


class Pace:
    """What was posted of late to each endpoint."""

    def __init__(self) -> None:
        self._even: dict[str, datetime] = {}

    def room(self, endpoint: str, now: datetime) -> int:
        """How many posts may begin now."""
        ahead = max(self._even.get(endpoint, now) - now, timedelta())
        return max(0, BURST - -(-ahead // _EACH))

    def next(self, endpoint: str, now: datetime) -> datetime:
        """When there is room for one."""
        return max(now, self._even.get(endpoint, now) - (BURST - 1) * _EACH)

    def take(self, endpoint: str, count: int, now: datetime) -> None:
        """So many posts begin."""
        self._even[endpoint] = max(now, self._even.get(endpoint, now)) + count * _EACH

    def forget(self, now: datetime) -> None:
        """Drop the endpoints of which nothing has to be known any more."""
        self._even = {name: even for name, even in self._even.items() if even > now}
