"""Who is posted to next, so that nobody takes what others need. Pure: no I/O, no clock.

What was claimed stands in line before its endpoint. An endpoint has ``PER_ENDPOINT`` posts at a
time, and one more for subscriptions whose posts to it fail; these have slots of their own, and one
delivery in hand. Where an endpoint begins to fail, what stands in line is still posted. The slots
go to owners in turn, and to the lines of an owner in turn; an owner whose endpoints are slow never
has them all, as ``_Share`` says.
"""

from collections import Counter, deque
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

PER_ENDPOINT: Final = 4
"""Posts to one endpoint at a time, as long as they do not fail."""

IN_LINE: Final = 12
"""Deliveries to an endpoint that are claimed while others are posted, so that no slot is idle."""

FAILING_SHARE: Final = 4
"""Endpoints that fail have one slot for so many of the others."""

_IN_HAND: Final = (PER_ENDPOINT + IN_LINE) // PER_ENDPOINT
"""Deliveries in hand for each slot."""

T = TypeVar("T")

_Place: TypeAlias = tuple[str, bool]
"""An endpoint, and whether what goes there fails: what is well and what fails wait for no other."""


class Line(msgspec.Struct, frozen=True):
    """Where a delivery stands: before its endpoint, apart by owner and where that fails."""

    endpoint: str
    owner: str
    failing: bool

    @property
    def place(self) -> _Place:
        """Where its posts are counted, whoever's they are."""
        return self.endpoint, self.failing


class _Share:
    """Something that owners share: one may take more as long as it has less than is left.

    One owner gets half of it, ``n`` owners get a part in ``n + 1`` each, and the last part is
    always there for who comes next (Choudhury and Hahne, dynamic queue length thresholds, 1998).
    """

    def __init__(self, size: int) -> None:
        self._left = size
        self._taken = Counter[str]()

    @property
    def taken(self) -> int:
        return self._taken.total()

    def room(self, owner: str) -> int:
        """How many an owner may take one after the other."""
        return max(0, self._left - self._taken[owner] + 1) // 2

    def take(self, owner: str, count: int) -> None:
        self._left -= count
        self._taken[owner] += count
        if not self._taken[owner]:
            del self._taken[owner]


_Ready: TypeAlias = dict[str, deque[Line]]
"""Lines with something in them, by owner; both in the order of their turn."""


class Lines(Generic[T]):
    """The lines, and how many posts go on; ``next`` begins one, ``done`` ends it."""

    def __init__(self, slots: int) -> None:
        """``slots`` is how many posts go on at a time to endpoints that do not fail."""
        failing = max(1, slots // FAILING_SHARE)
        self._slots = {False: _Share(slots), True: _Share(failing)}
        self._hand = {False: _Share(_IN_HAND * slots), True: _Share(failing)}
        self._waiting: dict[Line, deque[T]] = {}
        self._ready: dict[bool, _Ready] = {False: {}, True: {}}
        self._parked: dict[_Place, list[Line]] = {}
        self._in_hand = Counter[_Place]()
        self._posts = Counter[_Place]()

    @property
    def in_hand(self) -> int:
        """Deliveries that are claimed and not done."""
        return sum(share.taken for share in self._hand.values())

    def room(self, line: Line) -> int:
        """How many more may be claimed for it.

        None until half of what it may have is gone: claiming few at a time costs as much.
        """
        most = 1 if line.failing else PER_ENDPOINT + IN_LINE
        free = most - self._in_hand[line.place]
        if 2 * free < most:
            return 0
        return min(free, self._hand[line.failing].room(line.owner))

    def hold(self, line: Line, count: int) -> None:
        """There is so much less room while it is being claimed."""
        self._in_hand[line.place] += count
        self._hand[line.failing].take(line.owner, count)

    def free(self, line: Line, count: int) -> None:
        """What was held is room again."""
        self._hand[line.failing].take(line.owner, -count)
        self._in_hand[line.place] -= count
        if not self._in_hand[line.place]:
            del self._in_hand[line.place]

    def add(self, line: Line, item: T) -> None:
        """What was claimed goes to the end of its line."""
        self.hold(line, 1)
        waiting = self._waiting.setdefault(line, deque())
        waiting.append(item)
        if len(waiting) == 1:
            self._queue(line)

    def next(self) -> tuple[Line, T] | None:
        """What may be posted now; it takes a slot until it is ``done``."""
        for failing, ready in self._ready.items():
            for owner in tuple(ready):
                if not self._slots[failing].room(owner):
                    continue
                line = self._pick(ready, owner)
                if line is not None:
                    return line, self._begin(line)
        return None

    def _pick(self, ready: _Ready, owner: str) -> Line | None:
        """The owner's next line whose endpoint has a post to spare; the others are parked."""
        lines = ready.pop(owner)
        while lines:
            line = lines.popleft()
            if self._posts[line.place] < (1 if line.failing else PER_ENDPOINT):
                if lines:
                    ready[owner] = lines  # behind the other owners
                return line
            self._parked.setdefault(line.place, []).append(line)
        return None

    def _begin(self, line: Line) -> T:
        self._posts[line.place] += 1
        self._slots[line.failing].take(line.owner, 1)
        waiting = self._waiting[line]
        item = waiting.popleft()
        if waiting:
            self._queue(line)
        else:
            del self._waiting[line]
        return item

    def _queue(self, line: Line) -> None:
        self._ready[line.failing].setdefault(line.owner, deque()).append(line)

    def done(self, line: Line) -> None:
        """A post has ended: its slot is free."""
        self._slots[line.failing].take(line.owner, -1)
        self._posts[line.place] -= 1
        if not self._posts[line.place]:
            del self._posts[line.place]
        self.free(line, 1)
        for parked in self._parked.pop(line.place, ()):
            self._queue(parked)
