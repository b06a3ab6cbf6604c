"""Following the log: every entry is read and hashed here, so that nobody's word is needed.

The tree is built from the entries alone (RFC 6962), continuing the tree that was followed before.
If its root is the one in the hub's signed checkpoint, then that checkpoint extends the last one,
and the entries are those that everybody with this checkpoint has.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

import msgspec

from connectors import forks, monitor
from connectors.alarms import Finding
from connectors.events import Events
from connectors.link import HubRefused, Later, Link
from connectors.monitor import Own
from connectors.store import Store
from connectors.tables import Followed
from schemas import checkpoint as checkpoints
from schemas import entry as entries
from schemas import merkle
from schemas.checkpoint import Checkpoint
from schemas.directory import Directory
from schemas.encoding import format_time
from schemas.entry import Entry
from schemas.merkle import TILE_WIDTH, Tile
from schemas.note import NoteError, Vkey
from schemas.refusal import Refused

STAGE_TILES = 64
"""Tiles (of 8 KiB) that are held in memory before they are written, unproven yet."""

Kept = tuple[int, str, bytes]
"""An entry to keep: index, type, bytes."""


class Growth(msgspec.Struct):
    """The log beyond what was followed, as far as it was read. ``size`` entries have ``edge``."""

    size: int
    edge: dict[Tile, bytes]
    tiles: dict[Tile, bytes]
    kept: list[Kept]
    recent: list[tuple[int, bytes]] = []
    unreadable: int | None = None


def grow(growth: Growth, bundle: list[bytes], code: str) -> None:
    """Append the new entries of a bundle: those from ``growth.size`` on.

    Entries of the directory and about ourselves are kept, and what was erased; of all others the
    hash, and for some time their bytes, for a hub that loses them (``connectors.tail``).
    """
    new = bundle[growth.size % TILE_WIDTH :]
    changed = merkle.append(growth.size, growth.edge, [merkle.leaf_hash(raw) for raw in new])
    growth.recent.extend(enumerate(new, growth.size))
    for index, raw in enumerate(new, growth.size):
        try:
            entry = entries.decode(raw)
        except Refused:
            growth.unreadable = index
            continue
        kept = (*entries.DIRECTORY_TYPES, entries.MESSAGE_ERASED)
        if entry.type in kept or monitor.about_ourselves(entry, code):
            growth.kept.append((index, entry.type, raw))
    growth.size += len(new)
    growth.tiles.update(changed)
    known = growth.edge | changed
    growth.edge = {tile: known[tile] for tile in merkle.edge_tiles(growth.size)}


class Follower:
    """The one who follows the log, and knows the directory that follows from it."""

    def __init__(
        self,
        store: Store,
        link: Link,
        log: Vkey,
        own: Own,
        events: Events,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._link = link
        self._log = log
        self._own = own
        self._events = events
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._directory = store.directory()
        self._changed = store.last_directory_change()

    async def follow(self) -> None:
        """Follow the log to the checkpoint that the hub gives as its newest.

        Raises:
            LinkError: the hub cannot be reached, or does not show what it signed.
        """
        note = await self._link.checkpoint()
        try:
            newest = checkpoints.open_checkpoint(note, self._log)
        except NoteError as error:
            self._raise(
                Finding("log-key", "checkpoint", f"The checkpoint is not believed: {error}")
            )
            raise Later(str(error)) from None
        if await self.agrees(newest, note):
            self._served(newest, note)

    async def agrees(self, theirs: Checkpoint, note: bytes) -> bool:
        """Whether a signed checkpoint is of the history that we follow; follows up to it first.

        An inclusion proof that holds under such a checkpoint needs no more: the root stands for
        every entry, so that the entry proven is the very one that was read here. Raises the alarm
        where it is not so.

        Raises:
            LinkError: the hub cannot be reached, or does not show what it signed.
        """
        async with self._one_at_a_time:
            if theirs.size > self._store.size():
                return await self._extend(theirs, note)
            if self._store.root_at(theirs.size) == theirs.root:
                return True
            self._raise(monitor.forked(self._store.followed(), theirs, note))
            return False

    def directory_before(self, index: int) -> Directory:
        """The directory as it was when the entry ``index`` was recorded."""
        if index > self._changed:
            return self._directory
        return self._store.directory(index)

    @property
    def directory(self) -> Directory:
        """The directory as the followed log has it."""
        return self._directory

    async def _extend(self, theirs: Checkpoint, note: bytes) -> bool:
        growth = await self._read(theirs, note)
        if merkle.tree_root(theirs.size, growth.edge) != theirs.root:
            self._raise(monitor.forked(self._store.followed(), theirs, note))
            return False
        self._believe(growth, theirs, note)
        return True

    async def _read(self, theirs: Checkpoint, note: bytes) -> Growth:
        """Read the entries up to a signed size, by bundles, in bounded memory."""
        size = self._store.size()
        growth = Growth(size, self._store.tiles(merkle.edge_tiles(size)), {}, [])
        with self._store.transaction():
            self._store.unstage()
        while growth.size < theirs.size:
            grow(growth, await self._bundle(growth.size, theirs, note), self._own.code)
            if len(growth.tiles) >= STAGE_TILES:
                # A crash after this leaves rows beyond the size that is believed: they count for
                # nothing and are read again.
                with self._store.transaction():
                    self._store.stage(growth.tiles, growth.kept, growth.recent)
                growth.tiles, growth.kept, growth.recent = {}, [], []
        return growth

    async def _bundle(self, size: int, theirs: Checkpoint, note: bytes) -> list[bytes]:
        """The bundle that holds the entry ``size``, as wide as it is under a checkpoint."""
        n = size // TILE_WIDTH
        width = merkle.tile_width(0, n, theirs.size)
        try:
            bundle = merkle.decode_bundle(await self._link.entries(n, width))
            problem = f"bundle {n} has {len(bundle)} entries instead of {width}"
        except HubRefused as refused:
            if refused.code != "not-found":
                raise
            bundle, problem = [], refused.detail
        except ValueError as error:
            bundle, problem = [], str(error)
        if len(bundle) == width:
            return bundle
        self._raise(monitor.withheld(self._store.size(), theirs, note, problem))
        raise Later(f"The hub does not show the log that it signed: {problem}")

    def _believe(self, growth: Growth, theirs: Checkpoint, note: bytes) -> None:
        """Commit what the root has proven, with all that was found in it, at once.

        A crash before the commit: the same is read again. After it: nothing is found twice.
        """
        store, now = self._store, format_time(self._clock())
        known = store.followed()
        with store.transaction():
            store.stage(growth.tiles, growth.kept, growth.recent)
            directory, findings = self._judge(since=store.size(), until=theirs.size)
            if growth.unreadable is not None:
                sentence = f"Entry {growth.unreadable} and perhaps others cannot be read here."
                findings.append(Finding("log-unreadable", "entries", sentence))
            served, seen = (known.served, known.seen) if known else (0, now)
            store.set_followed(Followed(theirs.size, theirs.root, note, served, seen))
            raised = store.raise_alarms(findings, now)
            store.end_alarm("log-withheld", str(known.size if known else 0), now)
        self._directory = directory
        self._changed = store.last_directory_change()
        self._events.followed(theirs.size)
        self._events.findings(raised)

    def _judge(self, since: int, until: int) -> tuple[Directory, list[Finding]]:
        """Fold the new entries of the directory, and see what in them needs somebody's eyes.

        Whoever was there before we first looked, or before we were let in, is no news.
        """
        directory, findings = self._directory, list[Finding | None]()
        for kept in self._store.log_entries(since, until):
            entry = entries.decode(kept.raw)
            if entry.type == entries.MESSAGE_ERASED:
                findings.append(self._erased(kept.index, entry))
                continue
            ours = monitor.about_ourselves(entry, self._own.code)
            if ours:
                findings.append(monitor.unasked(self._own, kept.index, entry, directory))
            directory, impossible = monitor.fold(directory, kept.index, entry)
            findings.append(impossible)
            us = directory.participants.get(self._own.code)
            is_in = us is not None and us.kid is not None
            if since > 0 and is_in and not ours and not impossible:
                findings.append(monitor.changed(kept.index, entry))
        return directory, [finding for finding in findings if finding]

    def _erased(self, index: int, entry: Entry) -> Finding | None:
        """Note an erasure; a finding where we sent the message or have a copy of it."""
        store, message_id = self._store, entry.subject or ""
        store.note_erased(message_id, index, entry.time)
        waiting = [e for e in store.expected(message_id) if e.state == "waiting"]
        for expected in waiting:
            store.end_alarm(
                "receipt-overdue", monitor.subject(expected), format_time(self._clock())
            )
        if store.sent(message_id) is not None:
            return monitor.own_erased(index, entry, [expected.recipient for expected in waiting])
        if store.valid(message_id) is not None:
            return monitor.copy_erased(index, entry)
        return None

    def _served(self, newest: Checkpoint, note: bytes) -> None:
        """Note what the hub gives as its newest, and when it last gave anything."""
        store, now = self._store, format_time(self._clock())
        known = store.followed()
        if known is None:  # an empty log: there is nothing to hold against the hub yet
            return
        shrank = monitor.shrank(known, newest, note)
        served = max(known.served, newest.size)
        with store.transaction():
            store.set_followed(msgspec.structs.replace(known, served=served, seen=now))
            raised = store.raise_alarms([shrank] if shrank else [], now)
            store.end_alarm("log-key", "checkpoint", now)
        self._events.findings(raised)
        if shrank is not None:
            forks.keep(store.folder / "forks", shrank)

    def _raise(self, finding: Finding) -> None:
        with self._store.transaction():
            raised = self._store.raise_alarms([finding], format_time(self._clock()))
        self._events.findings(raised)
        forks.keep(self._store.folder / "forks", finding)
