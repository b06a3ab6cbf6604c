"""Counting what the log holds: by day it stands in a table; what else is asked is looked up.

Counts are of what is in the index, and say how much of the log that is.
"""

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select

from hub.ledger import search as terms_of
from hub.ledger.queries import CountRow, Counts, EventFilter, Period
from hub.store import index, search, tables

BUDGET = 20_000
"""Entries looked at in one transaction."""

MAX_LOOKED_AT = 1_000_000
"""Entries looked at for one answer: some seconds."""

_DAY_BEGINS = "T00:00:00.000Z"

_LETTERS = {"year": 4, "month": 7, "day": 10}
"""How much of a time says in which year, month or day it is."""

_entry = tables.log_entries
_terms = tables.search_terms
_counts = tables.search_counts
_totals = tables.search_totals


def by_days(wanted: EventFilter) -> bool:
    """Whether the counts of whole days answer it."""
    times = [time for time in (wanted.since, wanted.until) if time is not None]
    nothing_else = not terms_of.terms(wanted) and not terms_of.asked(wanted.text)
    return nothing_else and all(time.endswith(_DAY_BEGINS) for time in times)


def of_days(connection: Connection, wanted: EventFilter, of: str, by: Period) -> Counts:
    """The counts of whole days, added up."""
    period = func.substr(_counts.c.day, 1, _LETTERS[by])
    named = _named(_counts.c.term, of)
    query = select(period, _counts.c.term, func.sum(_counts.c.count)).where(*named)
    if wanted.since is not None:
        query = query.where(_counts.c.day >= wanted.since[:10])
    if wanted.until is not None:
        query = query.where(_counts.c.day < wanted.until[:10])
    rows = connection.execute(query.group_by(period, _counts.c.term))
    indexed, size = search.sizes(connection)
    return made({(day, term): int(count) for day, term, count in rows}, indexed, size)


def _named(term: ColumnElement[str], of: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The terms of one name; the semicolon comes after the colon."""
    return term >= f"{of}:", term < f"{of};"


class Part(msgspec.Struct, frozen=True):
    """The counts of a part of the log, and the last entry of it if there is more."""

    counts: dict[tuple[str, str], int]
    stop: int | None
    indexed: int
    size: int


def of_part(connection: Connection, wanted: EventFilter, of: str, by: Period) -> Part:
    """Count what matches among the next ``BUDGET`` entries after ``wanted.after``."""
    indexed, size = search.sizes(connection)
    span = search.span_of(connection, wanted, indexed)
    if span.low >= span.high:
        return Part({}, None, indexed, size)
    named = connection.execute(select(_totals.c.term).where(*_named(_totals.c.term, of))).scalars()
    terms = {index.number(term): term for term in named}
    query, stop = search.bounded(connection, wanted, span, BUDGET, BUDGET)
    found = query.subquery("found")
    period = func.substr(_entry.c.time, 1, _LETTERS[by])
    counting = (
        select(period, _terms.c.term, func.count())
        .select_from(found)
        .join(_entry, _entry.c.idx == found.c.idx)
        .join(_terms, _terms.c.idx == found.c.idx)
        .where(_terms.c.term.in_(terms))
        .group_by(period, _terms.c.term)
    )
    rows = connection.execute(counting)
    counts = {(day, terms[number]): count for day, number, count in rows}
    return Part(counts, stop, indexed, size)


def made(counts: dict[tuple[str, str], int], indexed: int, size: int) -> Counts:
    """The answer, by period and the greatest first."""
    rows = [
        CountRow(period, term.partition(":")[2], count)
        for (period, term), count in counts.items()
        if count > 0
    ]
    rows.sort(key=lambda row: (row.period, -row.count, row.value))
    return Counts(rows, indexed, size)
