"""The page of a report: figures go into the template and come out as one HTML file.

Nothing of what participants wrote is among the figures; the page names institutions and codes. It
loads nothing and runs nothing, and the same figures give the same bytes.
"""

import gettext
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import msgspec
from babel.numbers import format_decimal
from jinja2 import Template

from hub.doors.console import languages, pages
from hub.ledger.report import FAILED, Fate, Figures, ranked
from schemas.refusal import REFUSALS
from schemas.vocabulary import SDG_GOALS, THEMES

BAR = 160.0
"""Width of the widest bar, in the units of its picture."""

_LEAST, _MOST = 2.0, 9.5
"""Of the scale of times: powers of ten of milliseconds, from a tenth of a second to a month."""

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000))

SHARES = (50, 90, 99)
"""The quantiles that are shown, in per cent."""


class Row(msgspec.Struct, frozen=True):
    """A line of a table: what it is about, and how many there are now and were before."""

    label: str
    now: int
    before: int
    code: str = ""
    sender: str = ""

    @property
    def change(self) -> int:
        """By how many there are more."""
        return self.now - self.before


class Table(msgspec.Struct, frozen=True):
    """Lines with their bars, drawn to one scale."""

    rows: Sequence[Row]

    def width(self, count: int) -> float:
        """How long the bar of so many is."""
        most = max(max(row.now, row.before) for row in self.rows)
        return round(BAR * count / most, 1) if most else 0.0


class Times(msgspec.Struct, frozen=True):
    """How long copies took to be received by one institution, in milliseconds."""

    label: str
    code: str
    copies: int
    quantiles: Sequence[int]
    before: int | None

    @property
    def places(self) -> Sequence[float]:
        """Where the quantiles stand on the scale."""
        return [place(found) for found in self.quantiles]


class Failures(msgspec.Struct, frozen=True):
    """How many of the copies for one institution failed, in each of the ways of ``FAILED``."""

    label: str
    code: str
    counts: Sequence[int]


class Column(msgspec.Struct, frozen=True):
    """The messages of one step of the period, and how high their column is, of 100.

    ``rest`` is what stands before ``label`` where there is room for it: a year, or year and month.
    """

    rest: str
    label: str
    messages: int
    height: float


class View(msgspec.Struct, frozen=True):
    """All that the page shows.

    What a row of ``totals``, ``kinds``, ``actions`` or ``fates`` is about stands as its code; the
    template has the words.
    """

    now: Figures
    before: Figures
    totals: Table
    columns: Sequence[Column]
    senders: Table
    recipients: Table
    kinds: Table
    themes: Table
    goals: Table
    actions: Table
    times: Sequence[Times]
    answers: Sequence[int]
    fates: Table
    failures: Sequence[Failures]
    refusals: Table
    command: str

    @property
    def unfinished(self) -> bool:
        """Whether the log ends within the period."""
        return self.now.covered.time < self.now.period.until

    @property
    def note(self) -> str:
        """The checkpoint, as it was signed."""
        return self.now.covered.note.decode()


def render(now: Figures, before: Figures, names: Mapping[str, str], language: str) -> str:
    """The page.

    Args:
        now: the figures of the period.
        before: those of the period before, under the same checkpoint.
        names: what each institution is called in the language, by its code.
        language: one of ``languages.LANGUAGES``.
    """
    locale = languages.locale(language)
    number = partial(format_decimal, locale=locale)
    return _template().render(
        view=view(now, before, names, language),
        language=language,
        number=number,
        change=lambda by: "±0" if by == 0 else f"{'+' if by > 0 else '−'}{number(abs(by))}",
        length=lambda found: _length(found, number),
        **pages.translators(_catalogues()[language], number),
    )


@cache
def _catalogues() -> Mapping[str, gettext.NullTranslations]:
    return languages.load(__package__)


@cache
def _template() -> Template:
    return pages.environment(__package__).get_template("report.html")


def _length(found: int, number: Callable[[float], str]) -> tuple[str, str]:
    """A duration of milliseconds in the greatest unit that it has one of, and which that is."""
    unit, size = next((each for each in _UNITS if found >= each[1]), _UNITS[-1])
    count = found / size
    return number(round(count, 0 if count >= 100 else 1)), unit


def place(found: int) -> float:
    """Where a duration stands on the scale of times."""
    power = math.log10(max(found, 1))
    share = (min(max(power, _LEAST), _MOST) - _LEAST) / (_MOST - _LEAST)
    return round(BAR * share, 1)


def view(now: Figures, before: Figures, names: Mapping[str, str], language: str) -> View:
    """What the page shows of the figures."""

    def name(code: str) -> str:
        return names.get(code, code)

    return View(
        now=now,
        before=before,
        totals=Table(_totals(now, before)),
        columns=_columns(now),
        senders=_table(now.senders, before.senders, name),
        recipients=_table(_by_recipient(now), _by_recipient(before), name),
        kinds=_table(now.kinds, before.kinds),
        themes=_table(now.themes, before.themes, lambda code: THEMES[code][language]),
        goals=_table(
            {str(goal): count for goal, count in now.goals.items()},
            {str(goal): count for goal, count in before.goals.items()},
            lambda code: SDG_GOALS[int(code)][language],
        ),
        actions=_table(_by_state(now), _by_state(before)),
        times=_times(now, before, name),
        answers=[now.answers.quantile(share) for share in SHARES] if len(now.answers) else [],
        fates=Table([Row("", now.of_copies(f), before.of_copies(f), f) for f in Fate]),
        failures=_failures(now, name),
        refusals=_refusals(now, before),
        command=_command(now, language),
    )


def _table(
    now: Mapping[str, int],
    before: Mapping[str, int],
    label: Callable[[str], str] = lambda code: "",
) -> Table:
    rows = [Row(label(c), now.get(c, 0), before.get(c, 0), c) for c in ranked(now, before)]
    return Table(rows)


def _totals(now: Figures, before: Figures) -> Sequence[Row]:
    counted: Mapping[str, Callable[[Figures], int]] = {
        "messages": lambda figures: figures.messages,
        "copies": lambda figures: figures.of_copies(),
        "received": lambda figures: figures.of_copies(Fate.RECEIVED),
        "failed": lambda figures: figures.of_copies(*FAILED),
        "actions": lambda figures: figures.actions.total(),
        "refusals": lambda figures: figures.refusals.total(),
    }
    return [Row("", count(now), count(before), code) for code, count in counted.items()]


def _columns(now: Figures) -> Sequence[Column]:
    most = max(now.steps.values(), default=1)
    columns = []
    for step in now.period.steps():
        rest, dash, label = step.rpartition("-")
        count = now.steps[step]
        columns.append(Column(rest + dash, label, count, round(100 * count / most, 1)))
    return columns


def _by_recipient(figures: Figures) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for (recipient, _), count in figures.copies.items():
        found[recipient] += count
    return found


def _by_state(figures: Figures) -> Mapping[str, int]:
    return {state or "unknown": count for state, count in figures.actions.items()}


def _times(now: Figures, before: Figures, name: Callable[[str], str]) -> Sequence[Times]:
    return [
        Times(
            name(code),
            code,
            len(found),
            [found.quantile(share) for share in SHARES],
            before.times[code].quantile(SHARES[0]) if code in before.times else None,
        )
        for code, found in sorted(now.times.items())
    ]


def _failures(now: Figures, name: Callable[[str], str]) -> Sequence[Failures]:
    codes = sorted({recipient for recipient, found in now.copies if found in FAILED})
    return [
        Failures(name(code), code, [now.copies[code, found] for found in FAILED]) for code in codes
    ]


def _refusals(now: Figures, before: Figures) -> Table:
    return Table(
        [
            Row(
                REFUSALS[code].title if code in REFUSALS else code,
                now.refusals[sender, code],
                before.refusals[sender, code],
                code,
                sender,
            )
            for sender, code in sorted({*now.refusals, *before.refusals})
        ]
    )


def _command(now: Figures, language: str) -> str:
    """What gives the same page again."""
    return (
        f"nhri-hub audit report --from {now.period.first} --to {now.period.last} "
        f"--language {language} --at {now.covered.size} -o report.html"
    )
