"""Filling the search index, behind the commits: a crash loses nothing of it, and delays no commit.

How far it is stands in the row that is written with its entries. After a crash it goes on there;
set to 0 with the tables emptied, it is made again from the log.
"""

import asyncio
import contextlib
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog
from sqlalchemy import Connection, Table, delete, insert, select, text, update

from hub.ledger import search
from hub.ledger.search import Indexed, Sent, Source
from hub.store import tables
from hub.store.database import Database
from hub.store.postgresql import copy
from schemas.encoding import UUID7_PATTERN

BATCH = 250
"""Entries taken at once: on SQLite a commit may have to wait for the writing of so many."""

LULL_SECONDS = 0.3
"""So long nothing is committed, and a burst is taken to be over: commits go first."""

PATIENCE_SECONDS = 10.0
"""How long a burst may last until some of it is indexed all the same. Until then a search reads
what came meanwhile from the log."""

GIVE_WAY = 9
"""How many times as long as it took the index rests where the log has grown meanwhile: of a busy
hub it takes a tenth, and catches up later."""

ROUND_SECONDS = 20.0
"""How often it looks for what another hub has committed."""

log = structlog.get_logger("hub")

_entry = tables.log_entries
_private = tables.log_private
_message = tables.messages
_delivery = tables.deliveries
_terms = tables.search_terms
_counts = tables.search_counts
_totals = tables.search_totals
_vocabulary = tables.search_vocabulary
_head = tables.search_head

_COUNT = text(
    "INSERT INTO search_counts (term, day, count) VALUES (:term, :day, :count) "
    "ON CONFLICT (term, day) DO UPDATE SET count = search_counts.count + excluded.count"
)

_COUNT_IN_ALL = text(
    "INSERT INTO search_totals (term, count) VALUES (:term, :count) "
    "ON CONFLICT (term) DO UPDATE SET count = search_totals.count + excluded.count"
)

_COUNT_WORD = text(
    "INSERT INTO search_vocabulary (word, count) VALUES (:word, :count) "
    "ON CONFLICT (word) DO UPDATE SET count = search_vocabulary.count + excluded.count"
)

# FTS5 knows its rows by rowid.
_WORDS = {
    "sqlite": text("INSERT INTO search_words (rowid, words) VALUES (:idx, :words)"),
    "postgresql": text(
        "INSERT INTO search_words (idx, words) VALUES "
        "(:idx, array_to_tsvector(string_to_array(:words, ' ')))"
    ),
}
_WORDS_OF = {
    "sqlite": text("SELECT words FROM search_words WHERE rowid = :idx"),
    "postgresql": text(
        "SELECT array_to_string(tsvector_to_array(words), ' ') FROM search_words WHERE idx = :idx"
    ),
}
_FORGET_WORDS = {
    "sqlite": text("DELETE FROM search_words WHERE rowid = :idx"),
    "postgresql": text("DELETE FROM search_words WHERE idx = :idx"),
}

WORDS_BLOCK = 1 << 15
"""Entries in a block. PostgreSQL's index of words has no order; with the block among the words a
search asks for one block after the other, the newest first, and stops when it has enough."""

_MERGE = text("INSERT INTO search_words (search_words, rank) VALUES ('merge', :pages)")

_MERGED_PAGES = 500
"""Pages of FTS5 that are merged in one transaction: some ten milliseconds."""


class Index:
    """Fills the index of a database. Hubs that share it take turns."""

    def __init__(self, database: Database) -> None:
        """Fill the index of this database."""
        self._database = database

    async def advance(self) -> bool:
        """Take the next entries into the index; tells whether more are waiting."""
        head, found = await self._database.read(_next)
        if not found:
            return False
        made = await asyncio.to_thread(lambda: [search.index(source) for source in found])
        await self._database.write(lambda connection: _write(connection, head, made))
        return len(found) == BATCH


async def follow(index: Index, committed: asyncio.Event, paused: Callable[[], bool]) -> None:
    """Fill the index behind the commits, ours and other hubs'; ours go first.

    Args:
        index: to be filled.
        committed: is set by every commit of ours.
        paused: whether the log lacks what a restored hub gets back from others; it would be
            missing in the index for ever.
    """
    patience = 0.0  # when a hub starts, there is nobody to go first
    while True:
        await _lull(committed, patience)
        more, began = False, time.monotonic()
        try:
            if not paused():
                more = await index.advance()
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("index.failed", reason=str(error))
        if more:
            patience = GIVE_WAY * (time.monotonic() - began) if committed.is_set() else 0
            continue
        patience = PATIENCE_SECONDS
        with contextlib.suppress(TimeoutError):
            # Not ``wait_for``, which loses a cancellation that comes with the last commit.
            async with asyncio.timeout(ROUND_SECONDS):
                await committed.wait()


async def _lull(committed: asyncio.Event, patience: float) -> None:
    """Until there was no commit for ``LULL_SECONDS``, but no longer than ``patience`` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while True:
                committed.clear()
                await asyncio.sleep(LULL_SECONDS)
                if not committed.is_set():
                    return


def _next(connection: Connection) -> tuple[tuple[int, int], Sequence[Source]]:
    size, forgotten = connection.execute(select(_head.c.size, _head.c.forgotten)).one()
    return (size, forgotten), sources(connection, size, size + BATCH)


def sources(connection: Connection, start: int, end: int) -> Sequence[Source]:
    """What the index takes from the entries ``start`` to ``end`` (exclusive)."""
    entries = (
        select(_entry.c.idx, _entry.c.entry, _private.c.private)
        .outerjoin(_private, _private.c.idx == _entry.c.idx)
        .where(_entry.c.idx >= start, _entry.c.idx < end)
        .order_by(_entry.c.idx)
    )
    sent = _sent(connection, start, end)
    return [
        Source(row.idx, row.entry, row.private, sent.get(row.idx))
        for row in connection.execute(entries)
    ]


def _sent(connection: Connection, start: int, end: int) -> Mapping[int, Sent]:
    there = (_message.c.idx >= start, _message.c.idx < end)
    recipients: dict[int, list[str]] = {}
    copies = (
        select(_message.c.idx, _delivery.c.recipient)
        .join(_delivery, _delivery.c.message_id == _message.c.id)
        .where(*there)
    )
    for row in connection.execute(copies):
        recipients.setdefault(row.idx, []).append(row.recipient)
    messages = select(
        _message.c.idx,
        _message.c.kind,
        _message.c.marking,
        _message.c.thread,
        _message.c.envelope,
    ).where(*there)
    return {
        row.idx: Sent(row.kind, row.marking, row.thread, recipients.get(row.idx, ()), row.envelope)
        for row in connection.execute(messages)
    }


def _write(connection: Connection, head: tuple[int, int], made: Sequence[Indexed]) -> None:
    locked = select(_head.c.size, _head.c.forgotten).with_for_update()
    if tuple(connection.execute(locked).one()) != head:
        # Another hub was faster, or something was erased that we have read before: look again.
        return
    size, _ = head
    _insert(
        connection,
        _terms,
        [{"term": number(term), "idx": each.index} for each in made for term in each.terms],
    )
    _count(
        connection,
        Counter(
            (term, each.time[:10])
            for each in made
            for term in each.terms
            if search.is_counted(term)
        ),
    )
    words = [
        {"idx": each.index, "words": " ".join(_lexemes(connection, each))}
        for each in made
        if each.words
    ]
    if words:
        connection.execute(_WORDS[connection.dialect.name], words)
        counts = Counter(word for each in made for word in each.words)
        _count_words(connection, counts)
    connection.execute(update(_head).values(size=size + len(made)))


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    if connection.dialect.name == "postgresql":
        copy(connection, table, rows)
    else:
        connection.execute(insert(table), rows)


def _count(connection: Connection, counts: Mapping[tuple[str, str], int]) -> None:
    """Add to the counts of terms, each of a day."""
    days = [{"term": term, "day": day, "count": count} for (term, day), count in counts.items()]
    if days:
        connection.execute(_COUNT, days)
        connection.execute(_COUNT_IN_ALL, days)


def _count_words(connection: Connection, counts: Mapping[str, int]) -> None:
    rows = [{"word": word, "count": count} for word, count in sorted(counts.items())]
    connection.execute(_COUNT_WORD, rows)


def number(term: str) -> int:
    """The number of 64 bits that stands for a term in the table.

    It is the beginning of the term's SHA-256; that of a message's id has 24 bits of the id's time
    before 40 of these, so that what is written at one time stands together. That two terms have one
    number is as good as impossible, and then a search finds too much, not too little. The terms
    themselves would take twice the space.
    """
    digits = hashlib.sha256(term.encode()).hexdigest()[:16]
    value = term.partition(":")[2]
    if re.fullmatch(UUID7_PATTERN, value):
        digits = value[2:8] + digits[6:]
    return int.from_bytes(bytes.fromhex(digits), "big", signed=True)


def _lexemes(connection: Connection, each: Indexed) -> Iterable[str]:
    if connection.dialect.name == "postgresql":
        return sorted({*each.words, block_word(each.index // WORDS_BLOCK)})
    return sorted(each.words)


def block_word(block: int) -> str:
    """The word that stands for a block; no text has it."""
    return f"#{block}"


def forget(connection: Connection, message_id: str) -> None:
    """Take the content of a message out of the index: its words, its themes and goals.

    Called in the transaction that erases the message, while its row is still there. What the log
    says of it, such as its sender and its marking, goes on being found.
    """
    # Locked before anything is read: what is being indexed right now has read the message before.
    connection.execute(select(_head.c.size).with_for_update())
    connection.execute(update(_head).values(forgotten=_head.c.forgotten + 1))
    query = (
        select(_entry.c.idx, _entry.c.time)
        .join(_message, _message.c.idx == _entry.c.idx)
        .where(_message.c.id == message_id)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return
    _forget_words(connection, row.idx)
    erasable = {number(term): term for term in search.ERASABLE}
    erased = delete(_terms).where(_terms.c.idx == row.idx, _terms.c.term.in_(erasable))
    found = connection.execute(erased.returning(_terms.c.term)).scalars().all()
    _count(connection, {(erasable[each], row.time[:10]): -1 for each in found})


def _forget_words(connection: Connection, idx: int) -> None:
    dialect = connection.dialect.name
    words = connection.execute(_WORDS_OF[dialect], {"idx": idx}).scalar_one_or_none()
    if words is None:
        return
    connection.execute(_FORGET_WORDS[dialect], {"idx": idx})
    for word in words.split():
        ours = _vocabulary.c.word == word
        connection.execute(update(_vocabulary).where(ours).values(count=_vocabulary.c.count - 1))
        connection.execute(delete(_vocabulary).where(ours, _vocabulary.c.count <= 0))


async def purge(database: Database) -> None:
    """Have the words that were forgotten leave SQLite's files.

    FTS5 only notes what was deleted; the words go when all that was written before and since is
    merged. That is done bit by bit, so that commits come in between.
    """
    pages = -_MERGED_PAGES  # negative to begin
    while await database.write(partial(_merge, pages=pages)):
        pages = _MERGED_PAGES


def _merge(connection: Connection, pages: int) -> bool:
    """Merge some pages of words; tells whether there may be more."""
    if connection.dialect.name == "postgresql":
        return False  # there VACUUM does it
    changes = text("SELECT total_changes()")
    before = connection.execute(changes).scalar_one()
    connection.execute(_MERGE, {"pages": pages})
    return bool(connection.execute(changes).scalar_one() - before >= 2)


def clear(connection: Connection) -> None:
    """Empty the index; it is made again from the log."""
    connection.execute(select(_head.c.size).with_for_update())
    for table in (_terms, _counts, _totals, _vocabulary):
        connection.execute(delete(table))
    connection.execute(text("DELETE FROM search_words"))
    connection.execute(update(_head).values(size=0))
