"""Searching the log: a page takes a bounded time, however large the log and rare what is sought.

Of all terms and words that must hold, the rarest is followed through the log and the others are
looked up where it occurs. What is frequent and rarely meets would be followed for long: after
``BUDGET`` entries the search says how far it came, and goes on from there when it is asked again.
What is not yet in the index is searched too, by making its part of the index in memory.
"""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    cast,
    column,
    func,
    literal,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from hub.ledger import search
from hub.ledger.queries import Event, EventFilter, Page
from hub.ledger.search import Word
from hub.store import index, tables
from schemas.encoding import format_time, parse_time
from schemas.refusal import Refused

BUDGET = 1_000
"""Entries looked at in one round: some ten milliseconds."""

WORDS_BUDGET = 20_000
"""Entries with one word in which others are sought in one round; the database does it by itself."""

MAX_ENDINGS = 100
"""Words that a beginning may stand for: each is looked up for itself."""

TAIL = 250
"""Entries not yet in the index that are looked at for one page; each has to be read."""

CLOCKS_APART = timedelta(minutes=5)
"""By how much the time of an entry may be before that of an earlier one: hubs on one log have a
clock each, and a clock may be set back."""

_entry = tables.log_entries
_private = tables.log_private
_terms = tables.search_terms
_counts = tables.search_counts
_totals = tables.search_totals
_vocabulary = tables.search_vocabulary

# Entries stand in the log in the order of their times, so that halving finds the place of a time.
_FIRST_AT = text(
    "WITH RECURSIVE halving (low, high) AS ("
    "SELECT CAST(0 AS BIGINT), (SELECT size FROM log_head) UNION ALL SELECT "
    "CASE WHEN (SELECT time FROM log_entries WHERE idx = (low + high) / 2) < :time "
    "THEN (low + high) / 2 + 1 ELSE low END, "
    "CASE WHEN (SELECT time FROM log_entries WHERE idx = (low + high) / 2) < :time "
    "THEN high ELSE (low + high) / 2 END "
    "FROM halving WHERE low < high) SELECT low FROM halving WHERE low = high"
)

# Both give the order without sorting all that there is: FTS5, which knows its rows by rowid, has
# it; PostgreSQL is asked for one block after the other, and sorts each.
_WITH_WORDS = {
    "sqlite": "SELECT rowid AS idx FROM search_words WHERE search_words MATCH :words "
    "AND rowid >= :low AND rowid < :high ORDER BY rowid {order}",
    "postgresql": "SELECT found.idx FROM "
    "generate_series(CAST(:first AS BIGINT), CAST(:last AS BIGINT), CAST(:step AS BIGINT)) "
    "AS block CROSS JOIN LATERAL (SELECT idx FROM search_words "
    "WHERE words @@ CAST(CAST(:words AS TEXT) || ' & #' || block AS TSQUERY) "
    "AND idx >= :low AND idx < :high ORDER BY idx {order}) AS found",
}

_words_row = table("search_words", column("rowid"), column("idx"), column("words"))

_LAST_LETTER = chr(0x10FFFF)


class Span(msgspec.Struct, frozen=True):
    """A part of the log, ``low`` to ``high`` (exclusive), and from which end it is read."""

    low: int
    high: int
    newest_first: bool

    def within(self, low: int, high: int) -> "Span":
        """What of it is in another span."""
        return Span(max(self.low, low), min(self.high, high), self.newest_first)

    def first(self, count: int) -> "Span":
        """So many entries of it, those that are read first."""
        if self.newest_first:
            return self.within(self.high - count, self.high)
        return self.within(self.low, self.low + count)

    def up_to(self, last: int) -> "Span":
        """What of it is read up to an entry, with that."""
        return self.within(last, self.high) if self.newest_first else self.within(0, last + 1)

    @property
    def last(self) -> int:
        """The entry that is read last."""
        return self.low if self.newest_first else self.high - 1


class Scanned(msgspec.Struct, frozen=True):
    """What was found in a span, in its order.

    ``stop`` is the last entry that was looked at, null where all were.
    """

    found: Sequence[int] = ()
    stop: int | None = None


def page(connection: Connection, wanted: EventFilter) -> Page:
    """A page of a search, after one round through at most ``BUDGET`` entries."""
    indexed, size = sizes(connection)
    span = span_of(connection, wanted, size)
    parts = [(span.within(0, indexed), _in_index), (span.within(indexed, size), _in_tail)]
    found: list[int] = []
    stop = None
    for part, scan in reversed(parts) if span.newest_first else parts:
        if part.low < part.high and stop is None:
            scanned = scan(connection, wanted, part, wanted.limit - len(found))
            found += scanned.found
            stop = scanned.stop
    return Page(_events(connection, found), stop)


def sizes(connection: Connection) -> tuple[int, int]:
    """How many entries are in the index, and how many in the log."""
    size_of_log = select(tables.log_head.c.size).scalar_subquery()
    indexed, size = connection.execute(select(tables.search_head.c.size, size_of_log)).one()
    return indexed, size


def span_of(connection: Connection, wanted: EventFilter, size: int) -> Span:
    """The part of a log of this size in which what is wanted can be."""
    low, high = wanted.after + 1, size
    if wanted.before is not None:
        high = min(high, wanted.before)
    if wanted.since is not None:
        low = max(low, first_at(connection, wanted.since, -CLOCKS_APART))
    if wanted.until is not None:
        high = min(high, first_at(connection, wanted.until, CLOCKS_APART))
    return Span(low, high, wanted.before is not None)


def first_at(connection: Connection, time: str, shift: timedelta) -> int:
    """The first entry with a time not before this one, which is shifted first."""
    with contextlib.suppress(OverflowError):  # the very first and last minutes of all
        time = format_time(parse_time(time) + shift)
    found: int = connection.execute(_FIRST_AT, {"time": time}).scalar_one()
    return found


def _events(connection: Connection, indices: Sequence[int]) -> Sequence[Event]:
    """The entries with these indices, in their order."""
    query = (
        select(_entry.c.idx, _entry.c.entry, _private.c.private)
        .outerjoin(_private, _private.c.idx == _entry.c.idx)
        .where(_entry.c.idx.in_(indices))
    )
    rows = {row.idx: row for row in connection.execute(query)} if indices else {}
    return [Event(index, rows[index].entry, rows[index].private) for index in indices]


def _in_tail(connection: Connection, wanted: EventFilter, span: Span, limit: int) -> Scanned:
    near = span.first(TAIL)
    made = [search.index(source) for source in index.sources(connection, near.low, near.high)]
    if span.newest_first:
        made.reverse()
    found = [each.index for each in made if each.matches(wanted)][:limit]
    if len(found) == limit:
        return Scanned(found, found[-1])
    return Scanned(found, None if near == span else near.last)


class Sought(msgspec.Struct, frozen=True):
    """A word that must occur: the words that will do, and how many entries they have in all."""

    words: tuple[str, ...]
    count: int


class Lead(msgspec.Struct, frozen=True):
    """What is followed through the log: a term or words, or else every entry."""

    term: str | None = None
    words: tuple[Sought, ...] = ()


def _in_index(connection: Connection, wanted: EventFilter, span: Span, limit: int) -> Scanned:
    query, stop = bounded(connection, wanted, span, BUDGET, limit)
    found = connection.execute(query.limit(limit)).scalars().all()
    return Scanned(found, found[-1] if len(found) == limit else stop)


def bounded(
    connection: Connection, wanted: EventFilter, span: Span, budget: int, enough: int
) -> tuple[Select[Any], int | None]:
    """The entries of a span of the index that match, in its order.

    It looks at no more than ``budget`` entries, and gives the last of them if they may not be all.
    Where nothing else must hold of what is followed, ``enough`` are looked at.

    Raises:
        Refused: ``bad-request``; too many words have a beginning that is sought.
    """
    lead = lead_of(connection, wanted)
    near = _near(connection, lead, span)
    query, idx = _followed(connection, lead, near)
    conditions = _conditions(connection, wanted, lead, idx)
    most = budget if conditions else enough
    stop = connection.execute(query.offset(most - 1).limit(1)).scalar_one_or_none()
    if stop is None:
        return query.where(*conditions), None if near == span else near.last
    query, idx = _followed(connection, lead, near.up_to(stop))
    return query.where(*_conditions(connection, wanted, lead, idx)), stop


def lead_of(connection: Connection, wanted: EventFilter) -> Lead:
    """What is followed: the rarest of all that must hold."""
    terms = search.terms(wanted)
    words = tuple(_sought(connection, word) for word in search.asked(wanted.text))
    if len(terms) + len(words) < 2:
        return Lead(terms[0] if terms else None, words)
    counts = _frequencies(connection, wanted)
    rarest = min(terms, key=lambda term: counts.get(term, 0), default=None)
    if words and (rarest is None or _rarest(words) < counts.get(rarest, 0)):
        return Lead(words=words)
    return Lead(rarest)


def _rarest(words: Sequence[Sought]) -> int:
    return min(word.count for word in words)


def _sought(connection: Connection, word: Word) -> Sought:
    query = select(_vocabulary.c.word, _vocabulary.c.count).limit(MAX_ENDINGS + 1)
    if word.prefix:
        query = query.where(
            _vocabulary.c.word >= word.letters, _vocabulary.c.word < word.letters + _LAST_LETTER
        )
    else:
        query = query.where(_vocabulary.c.word == word.letters)
    found = connection.execute(query).all()
    if len(found) > MAX_ENDINGS:
        detail = (
            f"More than {MAX_ENDINGS} words begin with “{word.letters}”; "
            "write more of the word before the *."
        )
        raise Refused("bad-request", detail)
    words = tuple(sorted(each for each, _ in found))
    return Sought(words or (word.letters,), sum(count for _, count in found))


def _near(connection: Connection, lead: Lead, span: Span) -> Span:
    """What of a span is searched in one round: frequent words may never meet."""
    if len(lead.words) < 2:
        return span
    indexed, _ = sizes(connection)
    return span.first(1 + indexed * WORDS_BUDGET // (1 + _rarest(lead.words)))


def _frequencies(connection: Connection, wanted: EventFilter) -> Mapping[str, int]:
    """How many entries have each of the terms that are counted, in the days asked about."""
    terms = list(filter(search.is_counted, search.terms(wanted)))
    if not terms:
        return {}
    days = []
    if wanted.since is not None:
        days.append(_counts.c.day >= wanted.since[:10])
    if wanted.until is not None:
        days.append(_counts.c.day <= wanted.until[:10])
    query = select(_totals.c.term, _totals.c.count).where(_totals.c.term.in_(terms))
    if days:
        counted = select(_counts.c.term, func.sum(_counts.c.count)).group_by(_counts.c.term)
        query = counted.where(_counts.c.term.in_(terms), *days)
    return {term: int(count) for term, count in connection.execute(query)}


def _followed(
    connection: Connection, lead: Lead, span: Span
) -> tuple[Select[Any], ColumnElement[int]]:
    """What is followed, within a span and in its order, and the column of its indices."""
    if lead.words:
        idx = _with_words(connection.dialect.name, lead.words, span)
        return select(idx), idx
    idx = _entry.c.idx if lead.term is None else _terms.c.idx
    query = select(idx).where(idx >= span.low, idx < span.high)
    if lead.term is not None:
        query = query.where(_terms.c.term == index.number(lead.term))
    return query.order_by(idx.desc() if span.newest_first else idx), idx


def _with_words(dialect: str, words: Sequence[Sought], span: Span) -> ColumnElement[int]:
    blocks = (span.low // index.WORDS_BLOCK, (span.high - 1) // index.WORDS_BLOCK)
    first, last = reversed(blocks) if span.newest_first else blocks
    values = {
        "words": _expression(dialect, words),
        "low": span.low,
        "high": span.high,
        "first": first,
        "last": last,
        "step": -1 if span.newest_first else 1,
    }
    order = "DESC" if span.newest_first else "ASC"
    found = text(_WITH_WORDS[dialect].format(order=order))
    used = {name: value for name, value in values.items() if f":{name}" in found.text}
    subquery = found.bindparams(**used).columns(column("idx", tables.NUMBER)).subquery("followed")
    return subquery.c.idx


def _expression(dialect: str, words: Sequence[Sought]) -> str:
    """Words as the database asks for them. Letters and digits mean nothing else to it.

    No beginnings: either database would gather all entries with any of the words at once.
    """
    quote, any_of, all_of = ('"', " OR ", " AND ") if dialect == "sqlite" else ("'", " | ", " & ")
    each = (any_of.join(f"{quote}{word}{quote}" for word in sought.words) for sought in words)
    return all_of.join(f"({alternatives})" for alternatives in each)


def _conditions(
    connection: Connection, wanted: EventFilter, lead: Lead, idx: ColumnElement[int]
) -> list[ColumnElement[bool]]:
    """What else must hold of an entry that is followed.

    Each looks up one row. As a subquery that gives a value it is never made a join, for which a
    database might read all the rows of a frequent term.
    """
    row, entry = _terms.alias("row"), _entry.alias("entry")
    conditions: list[ColumnElement[bool]] = [
        select(row.c.idx)
        .where(row.c.term == index.number(term), row.c.idx == idx)
        .scalar_subquery()
        .is_not(None)
        for term in search.terms(wanted)
        if term != lead.term
    ]
    words = search.asked(wanted.text)
    if words and not lead.words:
        conditions.append(_has_words(connection.dialect.name, idx, words))
    time = select(entry.c.time).where(entry.c.idx == idx).scalar_subquery()
    if wanted.since is not None:
        conditions.append(time >= wanted.since)
    if wanted.until is not None:
        conditions.append(time < wanted.until)
    return conditions


def _has_words(dialect: str, idx: ColumnElement[int], words: Sequence[Word]) -> ColumnElement[bool]:
    """Whether the row of an entry has all these words; FTS5 would begin anew for each entry."""
    row = _words_row.alias("words_row")
    if dialect == "sqlite":
        parts = [f" {word.letters}{'' if word.prefix else ' '}" for word in words]
        key, padded = row.c.rowid, literal(" ") + row.c.words + literal(" ")
        has = [func.instr(padded, part) > 0 for part in parts]
    else:
        query = " & ".join(f"'{word.letters}'{':*' if word.prefix else ''}" for word in words)
        key, has = row.c.idx, [row.c.words.op("@@")(cast(query, TSQUERY))]
    return select(key).where(key == idx, *has).scalar_subquery().is_not(None)
