"""Who is posted to next, so that no endpoint takes what others need. Pure: no I/O, no clock.

What was claimed stands in line before its endpoint. An endpoint has ``PER_ENDPOINT`` posts at a
time; those that fail have slots of their own and one delivery in hand. Where an endpoint begins to
fail, what stands in line is still posted. Among the endpoints with something in line and a post to
spare, the one that waits longest is next.
"""

from collections import Counter, deque
from typing import Final, Generic, TypeVar

import msgspec

PER_ENDPOINT: Final = 4
"""Posts to one endpoint at a time."""

IN_LINE: Final = 12
"""Deliveries to an endpoint that are claimed while others are posted, so that no slot is idle."""

FAILING_SHARE: Final = 4
"""Endpoints that fail have one slot for so many of the others."""

_IN_HAND: Final = (PER_ENDPOINT + IN_LINE) // PER_ENDPOINT
"""Deliveries in hand for each slot."""

T = TypeVar("T")


class Line(msgspec.Struct, frozen=True):
    """Where a delivery stands: before its endpoint, apart where that fails."""

    endpoint: str
    failing: bool


class Lines(Generic[T]):
    """The lines, and how many posts go on; ``next`` begins one, ``done`` ends it."""

    def __init__(self, slots: int) -> None:
        """``slots`` is how many posts go on at a time to endpoints that do not fail."""
        self._slots = {False: slots, True: max(1, slots // FAILING_SHARE)}
        self._most = {False: _IN_HAND * slots, True: self._slots[True]}
        self._waiting: dict[Line, deque[T]] = {}
        self._ready: dict[bool, deque[Line]] = {False: deque(), True: deque()}
        self._parked: dict[str, list[Line]] = {}
        self._in_hand = Counter[str]()
        self._held = Counter[bool]()
        self._posts = Counter[str]()
        self._busy = Counter[bool]()

    @property
    def in_hand(self) -> int:
        """Deliveries that are claimed and not done."""
        return self._held.total()

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be claimed."""
        return all(self._held[failing] >= most for failing, most in self._most.items())

    def room(self, line: Line) -> int:
        """How many more may be claimed for it.

        None until half of what it may have is gone: claiming few at a time costs as much.
        """
        most = 1 if line.failing else PER_ENDPOINT + IN_LINE
        free = most - self._in_hand[line.endpoint]
        if 2 * free < most:
            return 0
        return min(free, self._most[line.failing] - self._held[line.failing])

    def hold(self, line: Line, count: int) -> None:
        """There is so much less room while it is being claimed."""
        self._in_hand[line.endpoint] += count
        self._held[line.failing] += count

    def free(self, line: Line, count: int) -> None:
        """What was held is room again."""
        self._held[line.failing] -= count
        self._in_hand[line.endpoint] -= count
        if not self._in_hand[line.endpoint]:
            del self._in_hand[line.endpoint]

    def add(self, line: Line, item: T) -> None:
        """What was claimed goes to the end of its line."""
        self.hold(line, 1)
        waiting = self._waiting.setdefault(line, deque())
        waiting.append(item)
        if len(waiting) == 1:
            self._ready[line.failing].append(line)

    def next(self) -> tuple[Line, T] | None:
        """What may be posted now; it takes a slot until it is ``done``."""
        for failing, ready in self._ready.items():
            while ready and self._busy[failing] < self._slots[failing]:
                line = ready.popleft()
                if self._posts[line.endpoint] < PER_ENDPOINT:
                    return line, self._begin(line)
                self._parked.setdefault(line.endpoint, []).append(line)
        return None

    def _begin(self, line: Line) -> T:
        self._posts[line.endpoint] += 1
        self._busy[line.failing] += 1
        waiting = self._waiting[line]
        item = waiting.popleft()
        if waiting:
            self._ready[line.failing].append(line)
        else:
            del self._waiting[line]
        return item

    def done(self, line: Line) -> None:
        """A post has ended: its slot is free."""
        self._busy[line.failing] -= 1
        self._posts[line.endpoint] -= 1
        if not self._posts[line.endpoint]:
            del self._posts[line.endpoint]
        self.free(line, 1)
        for parked in self._parked.pop(line.endpoint, ()):
            self._ready[parked.failing].append(parked)
