"""Lanes: how far each recipient's inbox queue has been filled. Pure: no I/O, no clock.

A recipient's positions are published in order, so that one number says what was published. A lane
is **live** when everything before the next position was published and the recipient has room: then
new messages reach it in the one publish for all recipients. Otherwise it is **behind**, and the
feeder publishes to it alone, from the database, until it has caught up.

The numbers are saved now and then. A crash forgets the last of them: those messages are published
again, and the receiver, which holds (sender, id) once, drops them. A delivery is done only when the
receiver's signed receipt is in.
"""

from collections.abc import Mapping

MAX_OUTSTANDING = 1_000
"""Published copies of one recipient without a receipt: the bound of its queue."""


class Lane:
    """One recipient."""

    def __init__(self, published: int, last: int, outstanding: int) -> None:
        """Start from what the database knows."""
        self.published = published
        self.last = last
        self.outstanding = outstanding

    @property
    def behind(self) -> bool:
        """Whether something is to be fed."""
        return self.published < self.last


class Lanes:
    """All recipients."""

    def __init__(self, lanes: Mapping[str, Lane], max_outstanding: int = MAX_OUTSTANDING) -> None:
        """Start from what the database knows."""
        self._lanes = dict(lanes)
        self._max_outstanding = max_outstanding

    def __getitem__(self, code: str) -> Lane:
        """The lane of a recipient; one that was never seen has nothing in it."""
        return self._lanes.setdefault(code, Lane(0, 0, 0))

    def take(self, positions: Mapping[str, int]) -> dict[str, int]:
        """Note a new message, and give the recipients that may get it in the common publish."""
        targets: dict[str, int] = {}
        for code, position in positions.items():
            lane = self[code]
            live = lane.published == position - 1 and lane.outstanding < self._max_outstanding
            lane.last = max(lane.last, position)
            if live:
                self.advance(code, position)
                targets[code] = position
        return targets

    def advance(self, code: str, position: int) -> None:
        """A position is being published."""
        lane = self[code]
        lane.published = position
        lane.outstanding += 1

    def rewind(self, code: str, position: int) -> None:
        """From this position on nothing was confirmed: the lane falls behind."""
        lane = self[code]
        if position <= lane.published:
            lane.outstanding = max(0, lane.outstanding - (lane.published - position + 1))
            lane.published = position - 1

    def settle(self, receipts: Mapping[str, int]) -> None:
        """So many receipts of each recipient came in."""
        for code, count in receipts.items():
            lane = self[code]
            lane.outstanding = max(0, lane.outstanding - count)

    def to_feed(self) -> list[str]:
        """The recipients that are behind and have room.

        A full one is fed again when half of its copies have receipts, not for each single one.
        """
        return [
            code
            for code, lane in self._lanes.items()
            if lane.behind and lane.outstanding <= self._max_outstanding // 2
        ]

    def outstanding(self) -> dict[str, int]:
        """The recipients with copies that have no receipt."""
        return {code: lane.outstanding for code, lane in self._lanes.items() if lane.outstanding}

    def cursors(self) -> dict[str, int]:
        """What to save."""
        return {code: lane.published for code, lane in self._lanes.items()}
