"""Lanes: how far each recipient's inbox queue has been filled. Pure: no I/O, no clock.

A recipient's positions are published in order, so that one number says what was published. A lane
is **live** when everything before the next position was published and the recipient has room: then
new messages reach it in the one publish for all recipients. Otherwise it is **behind**, and the
feeder publishes to it alone, from the database, until it has caught up. A lane is **parked** while
its queue is not known to be there, or is full and nobody takes anything from it, as that of a
participant whose connector speaks HTTP: nothing is published to it then. Nor is anything to one
that is **stuck**: the broker does not confirm what is for it.

What is saved now and then is how far the broker has confirmed. A crash forgets the last of it:
those messages are published again, and the receiver, which holds (sender, id) once, drops them. A
delivery is done only when the receiver's signed receipt is in.
"""

from collections.abc import Container, Iterable, Mapping, Sequence, Set

import msgspec

from schemas.acceptance import Acceptance

MAX_OUTSTANDING = 1_000
"""Published copies of one recipient without a receipt: the bound of its queue."""


NEAR = 500
"""Log entries between two recipients that are fed together."""


class Owed(msgspec.Struct, frozen=True):
    """A message to be fed: its log index and each recipient's position.

    Without an envelope it was erased; ``expired`` are those for whom it came too late, and
    ``received`` those who need not get it again.
    """

    index: int
    acceptance: Acceptance
    envelope: bytes | None
    positions: Mapping[str, int]
    expired: frozenset[str]
    received: frozenset[str]


class Lane:
    """One recipient."""

    def __init__(self, published: int, last: int, outstanding: int, *, parked: bool = True) -> None:
        """Start from what the database knows."""
        self.published = published
        self.last = last
        self.outstanding = outstanding
        self.parked = parked
        self.reached = -1
        self._had = published
        self._unconfirmed: set[int] = set()

    @property
    def behind(self) -> bool:
        """Whether something is to be fed."""
        return self.published < self.last

    @property
    def again(self) -> int:
        """Up to this position only copies without a receipt are fed, since the broker had all.

        0: nothing goes again.
        """
        return self._had if self.published < self._had else 0

    @property
    def confirmed(self) -> int:
        """The broker has everything up to this position."""
        return min(self._unconfirmed, default=self.published + 1) - 1

    def advance(self, position: int, index: int) -> None:
        """A position, with the message of this log index, is being published."""
        self.published = position
        self.reached = index
        self.outstanding += 1
        self._unconfirmed.add(position)

    def skip_to(self, position: int) -> None:
        """What stood before this position was lost and given up, or came there: it is next."""
        self.published = position - 1

    def confirm(self, position: int) -> None:
        """The broker has a position."""
        self._unconfirmed.discard(position)

    def rewind(self, position: int) -> None:
        """From this position on nothing was confirmed: the lane falls behind."""
        self._had = min(self._had, position - 1)
        if position <= self.published:
            self.outstanding = max(0, self.outstanding - (self.published - position + 1))
            self.published = position - 1
            self._unconfirmed = {other for other in self._unconfirmed if other < position}

    def restart(self, first: int) -> None:
        """Publish again what has no receipt, from the first such position on."""
        self._had = max(self._had, self.confirmed)
        self.published = first - 1
        self.outstanding = 0
        self._unconfirmed.clear()


class Lanes:
    """All recipients."""

    def __init__(
        self,
        lanes: Mapping[str, Lane],
        max_outstanding: int = MAX_OUTSTANDING,
        stuck: Container[str] = frozenset(),
    ) -> None:
        """Start from what the database knows; ``stuck`` is looked at anew each time."""
        self._lanes = dict(lanes)
        self._max_outstanding = max_outstanding
        self._stuck = stuck

    def __getitem__(self, code: str) -> Lane:
        """The lane of a recipient; one that was never seen has nothing in it."""
        if code not in self._lanes:
            self._lanes[code] = Lane(0, 0, 0)
        return self._lanes[code]

    def take(
        self, index: int, positions: Mapping[str, int], received: Set[str] = frozenset()
    ) -> dict[str, int]:
        """Note a message, and give the recipients that may get it in one common publish.

        Those who have ``received`` it do not get it again.
        """
        targets: dict[str, int] = {}
        for code, position in positions.items():
            lane = self[code]
            in_turn = lane.published == position - 1 and self._is_open(code)
            if in_turn and code in received:
                lane.published, lane.reached = position, index
            elif in_turn and lane.outstanding < self._max_outstanding:
                lane.advance(position, index)
                targets[code] = position
            lane.last = max(lane.last, position)
        return targets

    def note(self, last: Mapping[str, int]) -> None:
        """These positions were assigned, here or by another hub: what is missing is to be fed."""
        for code, position in last.items():
            lane = self[code]
            lane.last = max(lane.last, position)

    def lasts(self, codes: Sequence[str]) -> dict[str, int]:
        """The last positions of these recipients that are known to be assigned."""
        return {code: self[code].last for code in codes}

    def set_back(self, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        """Forget what the database has forgotten: those positions are given to other messages.

        Args:
            before: what was known to be assigned before the database was asked: it had that, unless
                it went back.
            now: the last positions that it has assigned.
        """
        for code, last in before.items():
            if (there := now.get(code, 0)) < last:
                lane = self[code]
                lane.rewind(there + 1)
                lane.last = there

    def confirm(self, positions: Mapping[str, int]) -> None:
        """The broker has a message."""
        for code, position in positions.items():
            self[code].confirm(position)

    def give_back(self, positions: Mapping[str, int]) -> None:
        """The broker may not have a message."""
        for code, position in positions.items():
            self[code].rewind(position)

    def settle(self, receipts: Mapping[str, int]) -> None:
        """So many receipts of each recipient came in."""
        for code, count in receipts.items():
            lane = self[code]
            lane.outstanding = max(0, lane.outstanding - count)

    def survey(self, code: str, waiting: int, consumers: int) -> bool:
        """A recipient's queue has so much in it and so many who take it; whether that frees it."""
        lane = self[code]
        was_parked = lane.parked
        lane.parked = not consumers and waiting >= self._max_outstanding
        return was_parked and not lane.parked

    def to_feed(self) -> list[str]:
        """The recipients that are behind and have room, the one least far in the log first.

        Fed in this order they meet, and go on together.
        """
        ready = [(lane.reached, code) for code, lane in self._behind() if self._has_room(lane)]
        return [code for _, code in sorted(ready)]

    def near(self, code: str) -> list[str]:
        """A recipient, and those that are to be fed from about the same place in the log.

        Who is fed ``again`` is fed alone.
        """
        at = self[code].reached
        others = [] if self[code].again else self.to_feed()
        return [
            other
            for other in {code, *others}
            if other == code or (abs(self[other].reached - at) <= NEAR and not self[other].again)
        ]

    def without_room(self) -> list[str]:
        """The recipients that are behind and wait for receipts."""
        return [code for code, lane in self._behind() if not self._has_room(lane)]

    def _behind(self) -> Iterable[tuple[str, Lane]]:
        return (
            (code, lane)
            for code, lane in self._lanes.items()
            if lane.behind and self._is_open(code)
        )

    def _is_open(self, code: str) -> bool:
        return not self[code].parked and code not in self._stuck

    def _has_room(self, lane: Lane) -> bool:
        """A full one is fed again when half of it has receipts, not for each single one."""
        return lane.outstanding <= self._max_outstanding // 2

    def outstanding(self) -> dict[str, int]:
        """The recipients with copies that have no receipt."""
        return {code: lane.outstanding for code, lane in self._lanes.items() if lane.outstanding}

    def cursors(self) -> dict[str, int]:
        """What to save."""
        return {code: lane.confirmed for code, lane in self._lanes.items()}
