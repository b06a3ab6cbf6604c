"""Checking the stored log: every entry is hashed again, up to the signed root.

The same check serves an operator who asks for all of it at once and the patrol, which goes on as
the log grows.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from hub.intake.offload import Offload
from hub.ledger.queries import Event, EventFilter, LogRow, Queries
from schemas import checkpoint, merkle
from schemas import entry as entries
from schemas.checkpoint import Checkpoint
from schemas.entry import Entry
from schemas.note import NoteError, Vkey

# The kinds of mismatch.
CHECKPOINT: Final = "checkpoint"
MISSING: Final = "missing"
ENTRY: Final = "entry"
TILE: Final = "tile"
ROOT: Final = "root"
COLUMN: Final = "column"
PRIVATE: Final = "private"

# Whether it is written as it must be was decided when it was hashed into the tree; to do it again,
# as every connector does, takes ten times as long as hashing.
_ENTRY = msgspec.json.Decoder(entries.Entry)

_STEP = 4 * merkle.TILE_WIDTH
"""Entries that are hashed in one step; mostly half a megabyte."""

_MAX_PROBLEMS = 100
"""More of them say nothing more."""


class Problem(msgspec.Struct, frozen=True):
    """One mismatch; ``index`` is the first entry concerned, None where it is about the whole."""

    kind: str
    index: int | None
    sentence: str


class Verdict(msgspec.Struct, frozen=True):
    """What was found; ``problems`` is empty when the log is what was signed.

    ``first_bad`` is the first entry that a problem is about, and ``kind`` what is wrong with it:
    ``checkpoint``, ``missing``, ``entry``, ``tile``, ``root``, ``column`` or ``private``.
    ``erased`` counts the private parts that are gone by recorded decisions. ``lost`` counts those
    that were lost with a database: of what only the hub ever had, such as what an operator asked,
    and of messages and receipts that nobody could bring back and an operator gave up.
    """

    size: int
    root: str
    entries: int
    ok: bool
    problems: tuple[str, ...]
    first_bad: int | None = None
    kind: str | None = None
    erased: int = 0
    lost: int = 0


async def verify(check: "Check") -> Verdict:
    """What a whole pass finds."""
    while await check.step():
        pass
    return check.verdict()


class Check:
    """One pass over the log, step by step; it holds the edge of the tree and no more.

    The stored entries are hashed again and compared with all that is derived from them: the tiles,
    the last checkpoint, the columns that searches use, and the private parts that were not erased.
    One that is gone is a problem unless an entry says that its message was erased, and one that is
    there although an entry says so is a problem, too.

    ``shrunken`` says that there are fewer entries than there were: the database went back to an
    earlier state. That is no edit of the log, and whatever else was found may come of it.
    """

    def __init__(
        self,
        queries: Queries,
        offload: Offload,
        vkey: Vkey,
        listed: frozenset[str] = frozenset(),
        given_up: frozenset[int] = frozenset(),
    ) -> None:
        """Begin at the first entry.

        Args:
            queries: read the store.
            offload: hashes off the event loop.
            vkey: the key that the log is signed with.
            listed: messages in the list of erasures when the hub started. Those that a backup had
                brought back are gone again, and the decision is recorded once something is signed.
            given_up: entries whose content was lost, and an operator decided to go on without it.
        """
        self.shrunken = False
        self._queries = queries
        self._offload = offload
        self._vkey = vkey
        self._head = Checkpoint(vkey.name, 0, merkle.EMPTY_ROOT)
        self._size = 0
        self._edge: merkle.Tiles = {}
        self._parts = _Parts(listed, given_up)
        self._problems: list[Problem] = []
        self._entries_hold = False
        self._over = False

    async def step(self) -> bool:
        """Check the next entries, up to the newest checkpoint; whether there are more.

        When all are checked, a further call looks whether the log has grown. If it raises, because
        the database is away, the check stands where it was.
        """
        try:
            if self._size == self._head.size and not self._over:
                await self._read_head()
            if self._size < self._head.size and not self._over:
                await self._read_entries(min(self._size + _STEP, self._head.size))
        except (TypeError, AttributeError) as error:
            # SQLite keeps whatever type somebody writes into a column; that must not look like a
            # database that is away.
            self._end(TILE, f"What belongs to entry {self._size} and later is no bytes: {error}.")
        if self._size == self._head.size and not self._over:
            async for problem in self._parts.settle(self._queries):
                self._found(problem)
        if self._problems and not self.shrunken:
            await self._look_whether_shrunken()
        return self._size < self._head.size and not self._over

    def verdict(self) -> Verdict:
        """What was found so far."""
        found = [self._judged(problem) for problem in self._problems]
        placed = [problem for problem in found if problem.index is not None]
        # The tiles above a wrong entry are wrong because of it, and begin before it.
        bad = [problem for problem in placed if problem.kind != TILE] or placed
        first = min(bad, key=lambda problem: problem.index or 0, default=None)
        return Verdict(
            self._head.size,
            self._head.root.hex() if self._head.size else "",
            self._size,
            not found,
            tuple(problem.sentence for problem in found),
            None if first is None else first.index,
            next((problem.kind for problem in (first, *found) if problem is not None), None),
            self._parts.erased,
            self._parts.lost,
        )

    def _judged(self, problem: Problem) -> Problem:
        """Entry and tile differ: where all entries lead to the signed root, it is the tile."""
        if problem.kind != ENTRY or not self._entries_hold:
            return problem
        sentence = f"The tile of entry {problem.index} is not right; the entry is."
        return Problem(TILE, problem.index, sentence)

    async def _read_head(self) -> None:
        # In this order: whatever has entries has a checkpoint by then.
        rows = await self._queries.rows(0, 1)
        note = await self._queries.checkpoint()
        if note is None:
            if rows or self._size:
                self._end(CHECKPOINT, "The log has entries, but no checkpoint.")
            return
        try:
            head = checkpoint.open_checkpoint(note, self._vkey)
        except NoteError as error:
            self._end(CHECKPOINT, f"The checkpoint does not hold: {error}")
            return
        if head.size < self._size:
            self._end(
                CHECKPOINT,
                f"The log has shrunk: {self._size} entries were checked, and the last checkpoint "
                f"is of {head.size}.",
            )
            return
        self._head = head
        self._check_root()

    async def _look_whether_shrunken(self) -> None:
        """What was found may come of it that the end of the log is gone, with its checkpoints."""
        rows = await self._queries.rows(0, 1)
        note = await self._queries.checkpoint()
        try:
            size = 0 if note is None else checkpoint.open_checkpoint(note, self._vkey).size
        except (NoteError, TypeError, AttributeError):
            return
        if size < self._head.size and (size or not rows):
            self.shrunken = self._over = True

    async def _read_entries(self, end: int) -> None:
        start = self._size
        rows = await self._queries.rows(start, end)
        private = await self._queries.private(start, end)
        gap = next((i for i, row in enumerate(rows, start) if row.index != i), start + len(rows))
        if gap < end:
            self._end(MISSING, f"Entry {gap} is missing.", gap)
            return
        raws: list[object] = [row.raw for row in rows]
        text = next((i for i, raw in enumerate(raws, start) if not isinstance(raw, bytes)), None)
        if text is not None:
            self._end(ENTRY, f"Entry {text} is not stored as bytes.", text)
            return
        hashing = partial(_hashed, start, self._edge, rows)
        changed = await self._offload.run(hashing)
        stored = await self._queries.tiles(frozenset(changed))
        read = await self._offload.run(lambda: [*_compare_rows(rows, private, self._parts)])
        self._found(*_compare_tiles(self._edge, changed, stored), *read)
        known = {**self._edge, **changed}
        self._edge = {tile: known[tile] for tile in merkle.edge_tiles(end)}
        self._size = end
        self._check_root()

    def _check_root(self) -> None:
        if self._size != self._head.size:
            return
        self._entries_hold = merkle.tree_root(self._size, self._edge) == self._head.root
        if not self._entries_hold:
            self._end(ROOT, "The root of the stored entries is not the one that was signed.")

    def _end(self, kind: str, sentence: str, index: int | None = None) -> None:
        """Nothing can be said about what comes after this."""
        self._found(Problem(kind, index, sentence))
        self._over = True

    def _found(self, *problems: Problem) -> None:
        self._problems += problems
        del self._problems[_MAX_PROBLEMS:]


def _hashed(start: int, edge: merkle.Tiles, rows: Sequence[LogRow]) -> dict[merkle.Tile, bytes]:
    return merkle.append(start, edge, [merkle.leaf_hash(row.raw) for row in rows])


def _compare_tiles(
    before: merkle.Tiles, hashed: merkle.Tiles, stored: merkle.Tiles
) -> Iterator[Problem]:
    """What differs in the hashes that are new since ``before``."""
    for (level, n), hashes in hashed.items():
        found = stored.get((level, n), b"")
        if found.startswith(hashes):
            continue  # a stored tile may have grown meanwhile
        for offset in range(len(before.get((level, n), b"")), len(hashes), merkle.HASH_SIZE):
            place = slice(offset, offset + merkle.HASH_SIZE)
            if hashes[place] != found[place]:
                first = (n * merkle.TILE_WIDTH + offset // merkle.HASH_SIZE) << (8 * level)
                yield (
                    Problem(ENTRY, first, f"Entry {first} is not the one that was recorded.")
                    if level == 0
                    else Problem(
                        TILE,
                        first,
                        f"Tile {n} of level {level} is not right from entry {first} on.",
                    )
                )


def _compare_rows(
    rows: Sequence[LogRow], private: Mapping[int, tuple[bytes, bytes]], parts: "_Parts"
) -> Iterator[Problem]:
    for row in rows:
        index = row.index
        try:
            entry = _ENTRY.decode(row.raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            yield Problem(ENTRY, index, f"Entry {index} cannot be read: {error}.")
            continue
        if (entry.type, entry.time, entry.actor, entry.subject) != (
            row.type,
            row.time,
            row.actor,
            row.subject,
        ):
            yield Problem(
                COLUMN,
                index,
                f"The columns of entry {index} say otherwise than the entry: a search is misled.",
            )
        yield from parts.compare(index, entry, private.get(index))


class _Parts:
    """The private parts against what the entries commit to, and against what they say is gone."""

    def __init__(self, listed: frozenset[str], given_up: frozenset[int]) -> None:
        self._listed = listed
        self._given_up = given_up
        self.erased = 0
        self.lost = 0
        self._gone: dict[str, int] = {}
        self._foreseen: set[str] = set()
        self._seen: dict[str, int] = {}

    def compare(
        self, index: int, entry: Entry, part: tuple[bytes, bytes] | None
    ) -> Iterator[Problem]:
        """The problems of one entry; the entries come in the order of the log."""
        if part is None:
            yield from self._missing(index, entry)
        elif entries.digest(b"".join(part)) != entry.private:
            sentence = f"The private part of entry {index} is not the one recorded."
            yield Problem(PRIVATE, index, sentence)
        if entry.type == entries.MESSAGE_ERASED:
            self._decided(index, entry)

    def _missing(self, index: int, entry: Entry) -> Iterator[Problem]:
        if entry.private is None:
            return
        if index in self._given_up:
            self.lost += 1
        elif entry.type == entries.MESSAGE_ACCEPTED and entry.subject is not None:
            self._gone[entry.subject] = index
        elif entry.type == entries.RECEIPTS_RECORDED:
            sentence = f"The private part of entry {index} is missing: a receipt is never erased."
            yield Problem(PRIVATE, index, sentence)
        else:
            self.lost += 1

    def _decided(self, index: int, entry: Entry) -> None:
        """An erasure comes after the acceptance whose private part it took, in one commit."""
        message_id = entry.subject or ""
        if message_id in self._foreseen:
            self._foreseen.remove(message_id)
        elif self._gone.pop(message_id, None) is not None:
            self.erased += 1
        else:
            self._seen[message_id] = index

    async def settle(self, queries: Queries) -> AsyncIterator[Problem]:
        """The problems of parts that are gone without a decision, or there in spite of one.

        Either may have changed since we read the acceptance, so that we look again. What is settled
        is forgotten before the next question: if that raises, nothing is told twice or lost.
        """
        for message_id, index in [*self._gone.items()]:
            found = await _event(queries, entries.MESSAGE_ERASED, message_id)
            del self._gone[message_id]
            if found is not None or message_id in self._listed:
                self.erased += 1
                self._foreseen.add(message_id)
            else:
                sentence = (
                    f"The private part of entry {index} is missing, and no entry says that "
                    f"message {message_id} was erased."
                )
                yield Problem(PRIVATE, index, sentence)
        for message_id, index in [*self._seen.items()]:
            found = await _event(queries, entries.MESSAGE_ACCEPTED, message_id)
            del self._seen[message_id]
            if found is not None and found.private is None:
                self.erased += 1
            else:
                sentence = (
                    f"Entry {index} erased {message_id}, but its private part is still there."
                )
                yield Problem(PRIVATE, index, sentence)


async def _event(queries: Queries, kind: str, message_id: str) -> Event | None:
    found = await queries.events(EventFilter(type=kind, subject=message_id, limit=1))
    return found[0] if found else None
