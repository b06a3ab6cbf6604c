"""The flow between institutions as a picture: senders on the left, recipients on the right. Pure.

Each sender and each recipient is a bar as high as what it sent or received, and each pair a band
between their bars. All lengths are in the units of the picture's own box.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from hub.ledger.queries import Flow

_TOP = 14.0
_SPAN = 240.0
"""From the bars of one side to those of the other."""

_LETTER = 7.6
"""As wide as a digit of 12 units' height in the widest of the fonts that browsers take."""

_BESIDE = 8.0
"""From a bar to its label, and as much again as an edge."""

_BAR = 8.0
_GAP = 10.0
_ROW = 16.0
"""The least height of a bar, so that a small one still has room for its label."""

_FILL = 220.0
"""What all bars of one side share beyond that, by what they stand for."""

COLOURS = 8


class Bar(msgspec.Struct, frozen=True):
    """One side's participant: where its bar is, and the middle for its label."""

    code: str
    x: float
    y: float
    height: float
    copies: int

    @property
    def middle(self) -> float:
        """Where its label stands."""
        return round(self.y + self.height / 2, 1)


class Band(msgspec.Struct, frozen=True):
    """What one participant sent to another, as an SVG path; ``colour`` is the sender's."""

    sender: str
    recipient: str
    copies: int
    path: str
    colour: int


class Picture(msgspec.Struct, frozen=True):
    """The whole."""

    width: float
    height: float
    senders: Sequence[Bar]
    recipients: Sequence[Bar]
    bands: Sequence[Band]
    bar: float = _BAR


class Table(msgspec.Struct, frozen=True):
    """A row for each sender, a column for each recipient."""

    recipients: Sequence[str]
    rows: Sequence[tuple[str, Sequence[int]]]


def picture(flows: Sequence[Flow]) -> Picture | None:
    """The picture of some flows; None where there are none."""
    if not flows:
        return None
    sent = _totals((flow.sender, flow.copies) for flow in flows)
    received = _totals((flow.recipient, flow.copies) for flow in flows)
    left, right = _room(sent), _room(received)
    senders, recipients = _bars(sent, left), _bars(received, left + _BAR + _SPAN)
    width = left + _BAR + _SPAN + _BAR + right
    height = max(bars[-1].y + bars[-1].height for bars in (senders, recipients)) + _TOP
    bands = _bands(flows, senders, recipients)
    return Picture(round(width, 1), round(height, 1), senders, recipients, bands)


def table(flows: Sequence[Flow]) -> Table:
    """The same numbers as a table."""
    copies = {(flow.sender, flow.recipient): flow.copies for flow in flows}
    recipients = sorted({flow.recipient for flow in flows})
    rows = [
        (sender, [copies.get((sender, recipient), 0) for recipient in recipients])
        for sender in sorted({flow.sender for flow in flows})
    ]
    return Table(recipients, rows)


def _totals(pairs: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    totals: dict[str, int] = {}
    for code, copies in sorted(pairs):
        totals[code] = totals.get(code, 0) + copies
    return totals


def _room(totals: Mapping[str, int]) -> float:
    """How wide the longest label is, beside the bar."""
    return 2 * _BESIDE + _LETTER * max(len(f"{code} {n:,}") for code, n in totals.items())


def _bars(totals: Mapping[str, int], x: float) -> Sequence[Bar]:
    whole, y, bars = sum(totals.values()), _TOP, []
    for code, copies in totals.items():
        height = _ROW + _FILL * copies / whole
        bars.append(Bar(code, round(x, 1), round(y, 1), round(height, 1), copies))
        y += height + _GAP
    return bars


def _bands(
    flows: Sequence[Flow], senders: Sequence[Bar], recipients: Sequence[Bar]
) -> Sequence[Band]:
    """Bands leave and reach each bar in the order of the other side, so that few of them cross."""
    colours = {bar.code: number % COLOURS for number, bar in enumerate(senders)}
    left, right = ({bar.code: bar for bar in bars} for bars in (senders, recipients))
    leaving, reaching = ({code: bar.y for code, bar in side.items()} for side in (left, right))
    bands = []
    for flow in sorted(flows, key=lambda flow: (flow.sender, flow.recipient)):
        start, end = left[flow.sender], right[flow.recipient]
        thick = start.height * flow.copies / start.copies
        thin = end.height * flow.copies / end.copies
        path = _path(
            start.x + _BAR, leaving[flow.sender], thick, end.x, reaching[flow.recipient], thin
        )
        leaving[flow.sender] += thick
        reaching[flow.recipient] += thin
        bands.append(Band(flow.sender, flow.recipient, flow.copies, path, colours[flow.sender]))
    return bands


def _path(left: float, start: float, thick: float, right: float, end: float, thin: float) -> str:
    """A band from a place, height and thickness on the left to those on the right."""
    middle = (left + right) / 2
    return (
        f"M{left:g} {start:.1f}C{middle:g} {start:.1f} {middle:g} {end:.1f} {right:g} {end:.1f}"
        f"V{end + thin:.1f}C{middle:g} {end + thin:.1f} {middle:g} {start + thick:.1f} "
        f"{left:g} {start + thick:.1f}Z"
    )
