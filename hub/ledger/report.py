"""The figures of a periodic report: counts, states and times, and nothing that anybody wrote. Pure.

They follow from the first entries of the log up to a checkpoint, so that the same checkpoint gives
the same figures, whatever came later. Only the themes and goals of a message go when its content is
erased; how many messages that is stands among the figures.
"""

import calendar
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from enum import StrEnum

import msgspec

from schemas import joint_action, jsontext, signature
from schemas.encoding import format_time, parse_time
from schemas.joint_action import ActionState, Answer
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.refusal import Refused
from schemas.vocabulary import SDG_GOALS, SDG_TARGETS, THEMES

OVERDUE = timedelta(hours=72)
"""How long a copy may be without a signed receipt; as long as a connector waits with its alarm."""

NOTICE = "joint_action_notice."
"""What the kinds of a notice begin with, in every version."""

_MONTH, _YEAR = len("2026-01"), len("2026")


class Period(msgspec.Struct, frozen=True):
    """Whole days in UTC, the first and the last."""

    first: date
    last: date

    @property
    def since(self) -> str:
        """The time at which it begins."""
        return f"{self.first.isoformat()}T00:00:00.000Z"

    @property
    def until(self) -> str:
        """The time at which it is over."""
        return f"{(self.last + timedelta(days=1)).isoformat()}T00:00:00.000Z"

    def before(self) -> "Period":
        """The period before: as many months where it is whole months, or else as many days."""
        last = self.first - timedelta(days=1)
        ends = calendar.monthrange(self.last.year, self.last.month)[1]
        if self.first.day == 1 and self.last.day == ends:
            first = _month(self.first, -(_months(self.last) - _months(self.first) + 1))
            return Period(first, last)
        return Period(self.first - (self.last - self.first) - timedelta(days=1), last)

    @property
    def step(self) -> int:
        """How much of a time, in characters, says in which of its steps it is.

        A step is a day within a month, a month within three years, and else a year.
        """
        if (self.last - self.first).days < 31:
            return len("2026-01-01")
        return _MONTH if _months(self.last) - _months(self.first) < 36 else _YEAR

    def steps(self) -> Sequence[str]:
        """All of its steps, in their order."""
        if self.step > _MONTH:
            days = range((self.last - self.first).days + 1)
            return [(self.first + timedelta(days=day)).isoformat() for day in days]
        months = range(_months(self.last) - _months(self.first) + 1)
        found = [_month(self.first, number).isoformat()[: self.step] for number in months]
        return list(dict.fromkeys(found))


def last_quarter(today: date) -> Period:
    """The last quarter of a year that is over."""
    begun = date(today.year, (today.month - 1) // 3 * 3 + 1, 1)
    return Period(_month(begun, -3), begun - timedelta(days=1))


def _months(day: date) -> int:
    return day.year * 12 + day.month - 1


def _month(day: date, ahead: int) -> date:
    """The first day of a month so many months later."""
    year, month = divmod(_months(day) + ahead, 12)
    return date(year, month + 1, 1)


class Covered(msgspec.Struct, frozen=True):
    """The checkpoint up to which the log is read, and the ``time`` of the last entry under it."""

    size: int
    note: bytes
    time: str


class Copy(msgspec.Struct, frozen=True):
    """What became of one copy.

    ``received`` is when the first receipt that its recipient signed was recorded, of those under
    the checkpoint. A copy that its recipient first refused and accepted later counts as received.
    """

    recipient: str
    state: str
    expires: str | None
    received: str | None


class SentMessage(msgspec.Struct, frozen=True):
    """An accepted message; ``answers`` are those to a notice, ``erased`` the entry that says so."""

    index: int
    sender: str
    kind: str
    accepted: str
    envelope: bytes | None
    erased: int | None
    copies: Sequence[Copy] = ()
    answers: Sequence[Answer] = ()


class Refusal(msgspec.Struct, frozen=True):
    """Refusals of one sender's for one reason; beyond a limit they stand together in one entry."""

    index: int
    sender: str
    code: str
    count: int


class Fate(StrEnum):
    """What became of a copy, as it stands at the checkpoint."""

    RECEIVED = "received"
    REFUSED = "refused"
    EXPIRED = "expired"
    ERASED = "erased"
    OVERDUE = "overdue"
    WAITING = "waiting"


FAILED = (Fate.REFUSED, Fate.EXPIRED, Fate.ERASED, Fate.OVERDUE)
"""What a report counts as a failure."""


def fate(sent: SentMessage, copy: Copy, covered: Covered) -> Fate:
    """What became of a copy, judged by the time of the last entry under the checkpoint."""
    if copy.received is not None:
        return Fate.REFUSED if copy.state == "refused" else Fate.RECEIVED
    if sent.erased is not None and sent.erased < covered.size:
        return Fate.ERASED
    if copy.expires is not None and copy.expires <= covered.time:
        return Fate.EXPIRED
    late = format_time(parse_time(sent.accepted) + OVERDUE) <= covered.time
    return Fate.OVERDUE if late else Fate.WAITING


class Durations:
    """Durations of any number in little memory: each is kept to its first three digits."""

    def __init__(self) -> None:
        """There are none yet."""
        self._counts: Counter[int] = Counter()

    def add(self, start: str, end: str) -> None:
        """From one time to another; hubs have a clock each, and none is less than nothing."""
        found = max((parse_time(end) - parse_time(start)) // timedelta(milliseconds=1), 0)
        unit = 10 ** max(len(str(found)) - 3, 0)
        self._counts[found // unit * unit] += 1

    def __len__(self) -> int:
        return self._counts.total()

    def quantile(self, share: int) -> int:
        """The least duration, in milliseconds, that so many per cent do not exceed."""
        left = -(-self._counts.total() * share // 100)
        for found, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return found
        raise ValueError("of no durations there is none")


class _Content(msgspec.Struct, frozen=True):
    """What of a message is counted; the rest of it is passed over."""

    themes: tuple[str, ...] = ()
    sdgs: tuple[int | str, ...] = ()
    content: object = None


class Figures:
    """The figures of one period, added up message by message."""

    def __init__(self, period: Period, covered: Covered) -> None:
        """Nothing was counted yet."""
        self.period = period
        self.covered = covered
        self.messages = 0
        self.erased = 0
        self.steps: Counter[str] = Counter()
        self.senders: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.themes: Counter[str] = Counter()
        self.goals: Counter[int] = Counter()
        self.copies: Counter[tuple[str, Fate]] = Counter()
        self.times: dict[str, Durations] = {}
        self.actions: Counter[ActionState | None] = Counter()
        self.answers = Durations()
        self.refusals: Counter[tuple[str, str]] = Counter()

    def take(self, messages: Iterable[SentMessage]) -> None:
        """Some more messages."""
        for sent in messages:
            self.messages += 1
            self.steps[sent.accepted[: self.period.step]] += 1
            self.senders[sent.sender] += 1
            self.kinds[sent.kind] += 1
            for copy in sent.copies:
                self._copy(sent, copy)
            content = _content(sent.envelope)
            if content is None:
                self.erased += 1
            else:
                self.themes.update(THEMES.keys() & content.themes)
                self.goals.update(_goals(content.sdgs))
            if sent.kind.startswith(NOTICE):
                self._action(sent, content)

    def refuse(self, refusals: Iterable[Refusal]) -> None:
        """Some more refusals."""
        for refusal in refusals:
            self.refusals[refusal.sender, refusal.code] += refusal.count

    def of_copies(self, *fates: Fate) -> int:
        """How many copies came to one of these ends; without any, all of them."""
        return sum(n for (_, found), n in self.copies.items() if not fates or found in fates)

    def _copy(self, sent: SentMessage, copy: Copy) -> None:
        found = fate(sent, copy, self.covered)
        self.copies[copy.recipient, found] += 1
        if copy.received is not None:
            times = self.times.setdefault(copy.recipient, Durations())
            times.add(sent.accepted, copy.received)

    def _action(self, sent: SentMessage, content: _Content | None) -> None:
        notice = _notice(content)
        if notice is None:
            self.actions[None] += 1
            return
        action = joint_action.evaluate(sent.sender, notice, sent.answers)
        self.actions[action.state] += 1
        for answer in action.answers.values():
            self.answers.add(sent.accepted, answer.time)


def _content(envelope: bytes | None) -> _Content | None:
    """What a message says that is counted; None for one that is gone."""
    if envelope is None:
        return None
    try:
        payload = signature.parse(envelope, signature.MESSAGE_TYPE).payload
        return jsontext.decode(payload, _Content)
    except Refused:
        return None  # edited in the store, which its receivers notice


def _notice(content: _Content | None) -> JointActionNotice | None:
    """What a notice says; None for one that is gone, and with it whom it invited."""
    if content is None:
        return None
    try:
        return jsontext.convert(content.content, JointActionNotice)
    except Refused:
        return None


def _goals(sdgs: Iterable[int | str]) -> set[int]:
    """The goals, also those of the targets."""
    goals = {SDG_TARGETS.get(sdg, 0) if isinstance(sdg, str) else sdg for sdg in sdgs}
    return SDG_GOALS.keys() & goals


def ranked(counts: Mapping[str, int], others: Mapping[str, int]) -> Sequence[str]:
    """What occurs in either, the greatest first."""
    return sorted({*counts, *others}, key=lambda key: (-counts.get(key, 0), key))
