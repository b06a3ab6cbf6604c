"""Counting refusals, so that nobody can fill the log with them. Pure: time is an argument."""

from datetime import datetime, timedelta

_MINUTE = timedelta(minutes=1)


class RefusalMeter:
    """Up to a limit, a participant's refusals are logged one by one; beyond it they are counted.

    What was counted is told in one entry a minute. The counts live in memory: a restart forgets the
    refusals of the current minute that were not logged one by one, which promise nothing to anyone.
    """

    def __init__(self, per_minute: int) -> None:
        """Allow so many logged refusals a participant and minute."""
        self._limit = per_minute
        self._windows: dict[str, tuple[datetime, int]] = {}

    def note(self, code: str, now: datetime) -> bool:
        """Count one refusal; tell whether it is to be logged by itself."""
        start, count = self._windows.get(code, (now, 0))
        self._windows[code] = (start, count + 1)
        return count < self._limit

    def overdue(self, now: datetime) -> dict[str, int]:
        """The counts beyond the limit of windows that are over; those windows are closed."""
        # Jobs count in another thread: over a copy, which is made at once.
        windows = dict(self._windows)
        closed = {c: n for c, (start, n) in windows.items() if now - start >= _MINUTE}
        for code in closed:
            del self._windows[code]
        return {c: n - self._limit for c, n in closed.items() if n > self._limit}
