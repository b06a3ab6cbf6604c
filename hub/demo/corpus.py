"""The corpus: each public record becomes one message file, by fixed rules and nothing else.

The rules and the reading behind them are in ``deploy/demo/README.md``. Pure: what a file says
follows from the record, the names in the directory and ``now`` alone.
"""

import calendar
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from schemas import directory
from schemas.directory import REGION
from schemas.encoding import format_time

MEMBERS: Final = ("kz", "kg", "tj", "tm", "uz", "uz-nhrc")
PARTNERS: Final = ("ohchr", "undp", "ganhri", "apf", "ennhri")
PARTICIPANTS: Final = MEMBERS + PARTNERS

REGIONAL: Final = "regional"
"""The institution of a record that the institutions of the region made together."""

ANSWER_WITHIN: Final = timedelta(days=30)

BULLETIN: Final = "activity_bulletin.v1"
NOTICE: Final = "joint_action_notice.v1"

OUTSIDE: Final = MappingProxyType(
    {
        "x-az": "Commissioner for Human Rights (Ombudsman) of Azerbaijan",
        "x-ge": "Public Defender (Ombudsman) of Georgia",
        "x-iom": "International Organization for Migration (IOM)",
        "x-kg-prosecutor": "Prosecutor's Office of the Kyrgyz Republic",
        "x-md": "People's Advocate (Ombudsman) of Moldova",
        "x-ngo": "Non-governmental organisations",
        "x-osce": "Organization for Security and Co-operation in Europe (OSCE)",
        "x-pk": "Federal Ombudsman of Pakistan",
        "x-ru": "High Commissioner for Human Rights in the Russian Federation",
        "x-tr": "Ombudsman Institution of Türkiye",
        "x-unhcr": "Office of the United Nations High Commissioner for Refugees (UNHCR)",
        "x-unicef": "United Nations Children's Fund (UNICEF)",
        "x-unwomen": "UN Women",
    }
)
"""Organisations outside the directory: named in content, never addressed."""

# The first row with a word of the English title decides.
_ACTIVITY_WORDS: Final = (
    ("training", r"train(ing|ed)|workshops?|school|academy"),
    ("legislation", r"law|mandate|rules|functions"),
    ("report", r"reports?"),
    ("statistics", r"results|year|months|appeals"),
    ("statement", r"urges|statement"),
    ("monitoring", r"monitor(ing|ed)|pilot visits"),
    ("visit", r"visits?|inspects"),
    ("complaint_handling", r"reception|receive|legal help|answer|application"),
    ("campaign", r"awareness|week"),
    ("meeting", r"meet(s|ing)|consultations"),
)
_ACTION_WORDS: Final = (
    ("agreement", r"memorand(a|um)|agree(ment)?|protocol|roadmap|plan|declaration|association"),
    ("visit", r"visits?"),
    ("campaign", r"information"),
    ("meeting", r"meeting|conference|dialogue|reception|forum"),
)

_UNIT_ENDINGS: Final = (("_percent", "percent"), ("_uzs", "uzs"), ("days", "days"))

# The records write Uzbek in Latin letters.
_LANGUAGE: Final = MappingProxyType({"uz": "uz-Latn"})

Kind = Literal["activity_bulletin", "joint_action_notice", "consultation_notice", "case_referral"]


class RecordPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A city and its ISO 3166-1 alpha-2 country."""

    city: str
    country: str


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of ``records.ndjson``; ``date`` is a day or a month.

    Those are public, so that none of them has a ``marking``.
    """

    id: str
    date: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}(-[0-9]{2})?$")]
    institution: str
    kind: Kind
    title: dict[str, str]
    summary: dict[str, str]
    participants: tuple[str, ...]
    place: RecordPlace | None
    themes: tuple[str, ...]
    sdgs: tuple[int | str, ...]
    figures: dict[str, int | float]
    source: str
    source_lang: str
    marking: Literal["TLP:GREEN", "TLP:AMBER"] = "TLP:GREEN"


CONFIDENTIAL: Final = Record(
    id="demo-draft",
    date="2026-11",
    institution="kz",
    kind="activity_bulletin",
    title={
        "en": "Draft opinion on the mandate of inspectors of places of detention",
        "ru": "Проект заключения о мандате инспекторов мест лишения свободы",
    },
    summary={
        "en": "Made up for the demo: a draft for comment, which its marking keeps from partners.",
        "ru": "Придумано для показа: проект для замечаний, который гриф не допускает к партнёрам.",
    },
    participants=("kg", "tj", "uz", directory.PARTNERS),
    place=None,
    themes=("torture_prevention",),
    sdgs=(16,),
    figures={},
    source="https://example.org/draft",
    source_lang="en",
    marking="TLP:AMBER",
)
"""The one message that is no public record: not all have it, and ``why`` says by which rule."""


class CorpusError(ValueError):
    """A line that is no record; the sentence names the line."""


def parse(text: str) -> tuple[Record, ...]:
    """Read records, one JSON object a line, of institutions in the directory.

    Raises:
        CorpusError: a line is not a record, or nobody in the directory could send it.
    """
    records = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = msgspec.json.decode(line, type=Record)
        except msgspec.MsgspecError as error:
            raise CorpusError(f"Line {number} is not a record: {error}.") from None
        if sender(record) is None:
            raise CorpusError(f"Line {number}: nobody in the directory can send {record.id}.")
        records.append(record)
    return tuple(records)


def sender(record: Record) -> str | None:
    """Who sends the record; None where it names nobody of the directory."""
    if record.institution == REGIONAL:
        return next((code for code in record.participants if code in PARTICIPANTS), None)
    return record.institution if record.institution in PARTICIPANTS else None


def kind(record: Record) -> str:
    """The kind of message the record travels as.

    What the institutions of the region did together is theirs only when each has signed it, so that
    every regional record is a notice.
    """
    joint = record.kind == "joint_action_notice" or record.institution == REGIONAL
    return NOTICE if joint else BULLETIN


def audience(record: Record) -> tuple[str, ...]:
    """Whom the message names: participants of the directory but the sender, or else the region.

    A notice must reach somebody who can answer. One of the region invites every member, and one
    that names partners alone would invite nobody: both go to the region as well.
    """
    known = (*PARTICIPANTS, directory.PARTNERS)
    named = tuple(c for c in record.participants if c in known and c != sender(record))
    to_region = kind(record) == NOTICE and (
        record.institution == REGIONAL or not set(named) & set(MEMBERS)
    )
    return (*named, REGION) if to_region or not named else named


def invited(record: Record) -> tuple[str, ...]:
    """The members that a notice asks to answer: all its audience has, one by one."""
    to = audience(record)
    return tuple(
        code for code in MEMBERS if code != sender(record) and (code in to or REGION in to)
    )


def message_file(record: Record, names: Mapping[str, str], now: datetime) -> dict[str, object]:
    """The message file of a record, as ``nhri-connector send`` takes it.

    Args:
        record: what to say.
        names: English names of the directory's participants, by code.
        now: the moment of sending; answers to a notice are due 30 days later.
    """
    typed = _notice(record, now) if kind(record) == NOTICE else _bulletin(record, names)
    return {
        "kind": kind(record),
        "audience": list(audience(record)),
        "marking": record.marking,
        "texts": {
            _LANGUAGE.get(tag, tag): {"title": title, "summary": record.summary[tag]}
            for tag, title in record.title.items()
        },
        "themes": list(record.themes),
        "sdgs": list(record.sdgs),
        "content": typed | _common(record),
    }


def _bulletin(record: Record, names: Mapping[str, str]) -> dict[str, object]:
    partners = [
        {"name": names[code], "code": code} if code in names else {"name": OUTSIDE.get(code, code)}
        for code in record.participants
        if code not in (REGIONAL, directory.PARTNERS, sender(record))
    ]
    figures = [
        {"name": name, "value": value, "unit": unit(name)} for name, value in record.figures.items()
    ]
    return {"activity": activity(record), "partners": partners, "figures": figures}


def _notice(record: Record, now: datetime) -> dict[str, object]:
    return {
        "action": _by_title(record, _ACTION_WORDS, "other"),
        "invited": list(invited(record)),
        "answer_by": format_time(now + ANSWER_WITHIN),
    }


def _common(record: Record) -> dict[str, object]:
    language = _LANGUAGE.get(record.source_lang, record.source_lang)
    common: dict[str, object] = {
        "period": period(record.date),
        "links": [{"href": record.source, "language": language}],
    }
    if record.place is not None:
        common["place"] = {"country": record.place.country, "name": record.place.city}
    return common


def activity(record: Record) -> str:
    """The kind of activity, from the record's kind or else from its English title."""
    if record.kind == "consultation_notice":
        return "consultation"
    if record.kind == "case_referral":
        return "referral"
    return _by_title(record, _ACTIVITY_WORDS, "event" if record.place else "other")


def _by_title(record: Record, rows: Sequence[tuple[str, str]], otherwise: str) -> str:
    title = record.title["en"]
    return next(
        (code for code, words in rows if re.search(rf"\b({words})\b", title, re.IGNORECASE)),
        otherwise,
    )


def period(date: str) -> dict[str, str]:
    """First and last day of a date: the day itself, or the whole of a month."""
    if len(date) > len("YYYY-MM"):
        return {"start": date, "end": date}
    last = calendar.monthrange(int(date[:4]), int(date[5:]))[1]
    return {"start": f"{date}-01", "end": f"{date}-{last:02d}"}


def unit(figure: str) -> str:
    """In what a figure is counted, by its name."""
    return next((unit for ending, unit in _UNIT_ENDINGS if figure.endswith(ending)), "count")
