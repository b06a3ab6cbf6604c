"""Making a log large within its database: the entries that were written and indexed are copied.

A copy has times and ids of its own, and in every table the rows that the hub would have written.
Not so what no search and no commit reads: tiles hold random hashes, and receipts tell of the
message that they were copied from.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta

import msgspec
from sqlalchemy import Connection, insert, select, text

from hub.store import tables
from hub.store.index import WORDS_BLOCK, number
from schemas import merkle
from schemas.encoding import format_time, parse_time

THREAD = 300
"""Entries from the first message of a thread to that of the next."""


class Calendar(msgspec.Struct, frozen=True):
    """When each entry was written: ``span`` milliseconds from ``start`` have ``events`` of them."""

    start: int
    span: int
    events: int

    def time(self, index: int) -> str:
        """The time of an entry."""
        moment = parse_time("1970-01-01T00:00:00.000Z") + timedelta(milliseconds=self._at(index))
        return format_time(moment)

    def message_id(self, index: int) -> str:
        """The id of the message that an entry accepted: a UUIDv7 that ends with the index."""
        at = f"{self._at(index):012x}"
        return f"{at[:8]}-{at[8:]}-7000-8000-{index:012x}"

    def _at(self, index: int) -> int:
        return self.start + index * self.span // self.events


def _day_after(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def _functions(calendar: Calendar) -> Mapping[str, Callable[..., object]]:
    """What the statements call, for SQLite."""
    return {
        "time_of": calendar.time,
        "id_of": calendar.message_id,
        "number_of": number,
        "text_of": bytes.decode,
        "bytes_of": str.encode,
        "day_after": _day_after,
    }


# The same for PostgreSQL.
_AT = "({start} + idx * {span} / {events})"
_HEX = f"lpad(to_hex({_AT}), 12, '0')"
_FUNCTIONS = {
    "time_of(idx BIGINT) RETURNS TEXT": f"to_char(to_timestamp({_AT} / 1000.0) AT TIME ZONE 'UTC',"
    ' \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\')',
    "id_of(idx BIGINT) RETURNS TEXT": f"substr({_HEX}, 1, 8) || '-' || substr({_HEX}, 9)"
    " || '-7000-8000-' || lpad(to_hex(idx), 12, '0')",
    "number_of(term TEXT) RETURNS BIGINT": "CAST(CAST('x' || CASE WHEN split_part(term, ':', 2)"
    " LIKE '________-____-7%' THEN substr(split_part(term, ':', 2), 3, 6) || substr(digits, 7)"
    " ELSE digits END AS BIT(64)) AS BIGINT)"
    " FROM encode(substr(sha256(convert_to(term, 'UTF8')), 1, 8), 'hex') AS digits",
    "text_of(raw BYTEA) RETURNS TEXT": "convert_from(raw, 'UTF8')",
    "bytes_of(value TEXT) RETURNS BYTEA": "convert_to(value, 'UTF8')",
    "day_after(day TEXT, days BIGINT) RETURNS TEXT": "to_char(CAST(day AS DATE)"
    " + CAST(days AS INTEGER), 'YYYY-MM-DD')",
}

_COPIED = (
    """
    INSERT INTO log_entries (idx, type, time, actor, subject, entry)
    SELECT idx + :shift, type, time_of(idx + :shift), actor,
        CASE WHEN subject IS NULL THEN NULL ELSE id_of(idx + :shift) END,
        bytes_of(replace(replace(text_of(entry), time, time_of(idx + :shift)),
            coalesce(subject, '?'), id_of(idx + :shift)))
    FROM log_entries WHERE idx < :size ORDER BY idx
    """,
    """
    INSERT INTO log_private (idx, salt, private)
    SELECT idx + :shift, salt, private FROM log_private WHERE idx < :size ORDER BY idx
    """,
    """
    INSERT INTO messages
        (id, idx, sender, kind, marking, thread, accepted, payload_digest, envelope)
    SELECT id_of(idx + :shift), idx + :shift, sender, kind, marking,
        id_of(idx + :shift - idx % :thread), time_of(idx + :shift), payload_digest, envelope
    FROM messages WHERE idx < :size ORDER BY idx
    """,
    """
    INSERT INTO search_terms (term, idx)
    SELECT term, idx + :shift FROM search_terms WHERE idx < :size AND term IN
        (SELECT number_of(term) FROM search_totals)
    ORDER BY 1, 2
    """,
    """
    WITH made AS (SELECT * FROM messages WHERE idx >= :shift AND idx < :end)
    INSERT INTO search_terms (term, idx)
    SELECT number_of('message:' || id), idx FROM made
    UNION ALL SELECT number_of('message:' || id), idx + 1 FROM made
    UNION ALL SELECT number_of('subject:' || id), idx FROM made
    UNION ALL SELECT number_of('thread:' || thread), idx FROM made
    ORDER BY 1, 2
    """,
    """
    INSERT INTO search_counts (term, day, count)
    SELECT term, day_after(day, :days), count FROM counts_copied WHERE true
    ON CONFLICT (term, day) DO UPDATE SET count = search_counts.count + excluded.count
    """,
    "UPDATE search_totals SET count = count / :copy * (:copy + 1)",
    "UPDATE search_vocabulary SET count = count / :copy * (:copy + 1)",
    "UPDATE search_head SET size = :end",
    "UPDATE log_head SET size = :end",
)
_DELIVERIES_COPIED = """
    INSERT INTO deliveries (recipient, position, message_id, state)
    SELECT recipient, position + :before, id_of(idx + :shift), state
    FROM deliveries JOIN messages ON messages.id = message_id
    WHERE recipient = :code AND position <= :last ORDER BY position
"""
_WORDS_COPIED = {
    "sqlite": """
        INSERT INTO search_words (rowid, words)
        SELECT idx + :shift, words FROM words_copied ORDER BY idx
    """,
    "postgresql": """
        INSERT INTO search_words (idx, words)
        SELECT idx + :shift, words || array_to_tsvector(ARRAY['#' || (idx + :shift) / :block])
        FROM words_copied ORDER BY idx
    """,
}
_COUNTS_KEPT = "CREATE TABLE counts_copied AS SELECT * FROM search_counts"
_WORDS_KEPT = {
    "sqlite": "CREATE TABLE words_copied AS SELECT rowid AS idx, words FROM search_words",
    "postgresql": """
        CREATE TABLE words_copied AS
        SELECT idx, ts_delete(words, '#' || idx / :block) AS words FROM search_words
    """,
}


class Copies:
    """Copies of a log that is in the index; ``positions`` are the last of its inboxes."""

    def __init__(self, calendar: Calendar, size: int, positions: Mapping[str, int]) -> None:
        self.size = size
        self._calendar = calendar
        self._positions = positions

    def begin(self, connection: Connection) -> None:
        """Keep beside what is copied from while it grows."""
        if connection.dialect.name == "postgresql":
            values = msgspec.structs.asdict(self._calendar)
            for head, body in _FUNCTIONS.items():
                made = body.format(**values)
                connection.exec_driver_sql(
                    f"CREATE FUNCTION {head} LANGUAGE SQL IMMUTABLE AS $$ SELECT {made} $$"
                )
        for statement in (_COUNTS_KEPT, _WORDS_KEPT[connection.dialect.name]):
            _execute(connection, statement, {"block": WORDS_BLOCK})

    def add(self, connection: Connection, copy: int) -> None:
        """Write one more copy; the first of them is copy 1."""
        dialect = connection.dialect.name
        if dialect == "sqlite":
            driver = connection.connection.driver_connection
            for name, function in _functions(self._calendar).items():
                driver.create_function(name, -1, function)  # type: ignore[union-attr]
        calendar, shift = self._calendar, copy * self.size
        values: dict[str, int | str] = {
            "copy": copy,
            "shift": shift,
            "size": self.size,
            "end": shift + self.size,
            "thread": THREAD,
            "block": WORDS_BLOCK,
            "days": shift * calendar.span // calendar.events // 86_400_000,
        }
        for statement in (*_COPIED, _WORDS_COPIED[dialect]):
            _execute(connection, statement, values)
        for code, last in self._positions.items():
            _execute(
                connection,
                _DELIVERIES_COPIED,
                {**values, "code": code, "last": last, "before": copy * last},
            )

    def end(self, connection: Connection, copies: int) -> None:
        """Fill the tiles, and take away what was kept."""
        for name in ("counts_copied", "words_copied"):
            _execute(connection, f"DROP TABLE {name}", {})
        size, tile = self.size * (copies + 1), tables.tiles
        found = connection.execute(select(tile.c.level, tile.c.n, tile.c.hashes)).all()
        whole = {(row.level, row.n) for row in found if len(row.hashes) == _TILE}
        for level, n, length in _tiles(size):
            if (level, n) not in whole:
                connection.execute(tile.delete().where(tile.c.level == level, tile.c.n == n))
                hashes = random.Random(n).randbytes(length)
                connection.execute(insert(tile), {"level": level, "n": n, "hashes": hashes})


_TILE = merkle.TILE_WIDTH * merkle.HASH_SIZE


def _tiles(size: int) -> Iterator[tuple[int, int, int]]:
    """The tiles of a log, each with its bytes."""
    level = 0
    while size:
        for n in range(-(-size // merkle.TILE_WIDTH)):
            hashes = min(merkle.TILE_WIDTH, size - n * merkle.TILE_WIDTH)
            yield level, n, hashes * merkle.HASH_SIZE
        level, size = level + 1, size // merkle.TILE_WIDTH


def _execute(connection: Connection, statement: str, values: Mapping[str, object]) -> None:
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    connection.execute(text(statement), used)
