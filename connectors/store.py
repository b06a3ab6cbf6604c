"""What the connector knows, in one SQLite file: one writer (the daemon), any number of readers.

The writer holds a lock on a file beside the store for as long as it lives, so that a second daemon
is refused. The programs that only look (``inbox``, ``show``, ``doctor``) open the store read-only.

Every method that writes is called within ``transaction``; what one transaction holds is on the disk
whole (WAL, ``synchronous=FULL``) or not there at all.
"""

import fcntl
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from connectors import files
from connectors.alarms import Finding
from connectors.tables import (
    APPLICATION_ID,
    SCHEMA,
    UPGRADES,
    VERSION,
    Alarm,
    Answer,
    Content,
    Cosigned,
    Erased,
    Expected,
    Figures,
    Followed,
    Identity,
    LogEntry,
    MailTrouble,
    Owed,
    Received,
    RecordedReceipt,
    Sent,
    TileRow,
)
from schemas import entry as entries
from schemas import jsontext, merkle
from schemas.acceptance import Acceptance
from schemas.directory import Directory, DirectoryError
from schemas.merkle import Tile

Row = TypeVar("Row", bound=msgspec.Struct)
Value = str | int | bytes | None


RECENT = 50_000
"""Entries whose bytes are kept (some 20 MB): what a hub can lose between two backups."""


class StoreError(Exception):
    """The store cannot be opened, read or written; the message says why and what helps."""


class Reader:
    """The questions that can be asked of a store."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    @classmethod
    def open(cls, path: Path) -> "Reader":
        """Open read-only, also while a daemon writes.

        Raises:
            StoreError: there is no store yet, or the file is foreign or damaged.
        """
        if not path.exists():
            raise StoreError(f"There is no store at {path} yet: `nhri-connector run` makes it.")
        return Reader(_connect(path, "ro"), path)

    @property
    def folder(self) -> Path:
        """The folder that the store stands in."""
        return self._path.parent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is asked within is answered as of one moment, whatever the daemon writes."""
        try:
            self._connection.execute("BEGIN")
            yield
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}.") from error
        finally:
            if self._connection.in_transaction:
                self._connection.rollback()

    # --- What we sent ---

    def sent(self, message_id: str) -> Sent | None:
        """A message of ours."""
        return _first(self._rows(Sent, "SELECT * FROM sent WHERE id = ?", message_id))

    def sent_list(self, limit: int = 1000) -> list[Sent]:
        """Our messages, the newest first."""
        return self._rows(Sent, "SELECT * FROM sent ORDER BY id DESC LIMIT ?", limit)

    def expected(self, message_id: str) -> list[Expected]:
        """The receipts for a message of ours, given or not, by recipient."""
        sql = "SELECT * FROM expected WHERE id = ? ORDER BY recipient"
        return self._rows(Expected, sql, message_id)

    def expected_of(self, message_id: str, recipient: str) -> Expected | None:
        """The receipt of one recipient for a message of ours."""
        sql = "SELECT * FROM expected WHERE id = ? AND recipient = ?"
        return _first(self._rows(Expected, sql, message_id, recipient))

    def waiting_receipts(self, before: str = "~", limit: int = 1000) -> list[Expected]:
        """The receipts still owed for acceptances before a time, the oldest first.

        For what the hub erased none is owed.
        """
        sql = (
            "SELECT * FROM expected WHERE state = 'waiting' AND since < ? "
            "AND id NOT IN (SELECT id FROM erased) ORDER BY since, id, recipient LIMIT ?"
        )
        return self._rows(Expected, sql, before, limit)

    def receipts(self, after: int = -1, limit: int = 1000) -> list[RecordedReceipt]:
        """The receipts of others for our messages, with their proofs, by log index."""
        sql = "SELECT * FROM receipts WHERE log_index > ? ORDER BY log_index LIMIT ?"
        return self._rows(RecordedReceipt, sql, after, limit)

    def queued_before(self, time: str) -> list[Sent]:
        """Our messages without an answer that were queued before a time."""
        sql = "SELECT * FROM sent WHERE state = 'pending' AND queued < ? ORDER BY id"
        return self._rows(Sent, sql, time)

    def pending(self) -> dict[str, str | None]:
        """Our messages without an answer, each with the one that it replies to; by their ids."""
        rows = self._select("SELECT id, reply_to FROM sent WHERE state = 'pending'")
        return dict(msgspec.convert([*rows], list[tuple[str, str | None]]))

    def erased(self, message_id: str) -> Erased | None:
        """The hub's decision that erased a message, as the followed log has it."""
        return _first(self._rows(Erased, "SELECT * FROM erased WHERE id = ?", message_id))

    # --- What we received ---

    def inbox(self, after: int = 0, limit: int = 100) -> list[Received]:
        """What stands at the positions after one, by position; also what is not to be shown."""
        sql = "SELECT * FROM inbox WHERE position > ? ORDER BY position LIMIT ?"
        return self._rows(Received, sql, after, limit)

    def received(self, message_id: str) -> Received | None:
        """The message of an id in the inbox; a valid one before any other."""
        sql = "SELECT * FROM inbox WHERE id = ? ORDER BY state = 'valid' DESC, position LIMIT 1"
        return _first(self._rows(Received, sql, message_id))

    def valid(self, message_id: str) -> Received | None:
        """The valid message of an id in the inbox: there is one at most."""
        sql = "SELECT * FROM inbox WHERE id = ? AND state = 'valid'"
        return _first(self._rows(Received, sql, message_id))

    def at(self, position: int) -> Received | None:
        """What stands at one position."""
        return _first(self._rows(Received, "SELECT * FROM inbox WHERE position = ?", position))

    def last_position(self) -> int:
        """The highest position that is taken, 0 in an empty inbox."""
        return self._number("SELECT coalesce(max(position), 0) FROM inbox")

    def first_gap(self, after: int = 0) -> int | None:
        """The lowest position between ``after`` and the last one where nothing stands."""
        beyond = self.last_position() - after
        if self._number("SELECT count(*) FROM inbox WHERE position > ?", after) >= beyond:
            return None
        return self._number(
            "SELECT min(position) + 1 FROM"
            " (SELECT ? AS position UNION SELECT position FROM inbox WHERE position > ?)"
            " AS taken WHERE NOT EXISTS"
            " (SELECT 1 FROM inbox WHERE inbox.position = taken.position + 1)",
            after,
            after,
        )

    def owed(self, limit: int, after: str = "") -> list[Owed]:
        """The receipts that we owe the next sender and have not signed yet, by position."""
        sql = (
            "SELECT * FROM owed WHERE sender = (SELECT min(sender) FROM owed WHERE sender > ?)"
            " ORDER BY position LIMIT ?"
        )
        return self._rows(Owed, sql, after, limit)

    def pending_answers(self) -> list[int]:
        """The numbers of our receipts that the hub has not recorded yet, as they were made."""
        sql = "SELECT number FROM answers WHERE state = 'pending' ORDER BY number"
        return [msgspec.convert(number, int) for (number,) in self._select(sql)]

    def answer(self, number: int) -> Answer:
        """A receipt of ours."""
        sql = "SELECT number, sender, receipt FROM answers WHERE number = ?"
        [answer] = self._rows(Answer, sql, number)
        return answer

    def recorded_answer(self, number: int) -> Acceptance | None:
        """A receipt of ours as the hub recorded it; None where it has not."""
        sql = "SELECT acceptance FROM answers WHERE number = ? AND acceptance IS NOT NULL"
        raws = (msgspec.convert(raw, bytes) for (raw,) in self._select(sql, number))
        return next((jsontext.decode(raw, Acceptance) for raw in raws), None)

    # --- Joint actions ---

    def sent_replies(self, message_id: str) -> list[Sent]:
        """Our accepted replies to a message, by log index."""
        sql = "SELECT * FROM sent WHERE reply_to = ? AND state = 'accepted' ORDER BY log_index"
        return self._rows(Sent, sql, message_id)

    def received_replies(self, message_id: str) -> list[Received]:
        """Others' valid replies to a message, by log index."""
        sql = "SELECT * FROM inbox WHERE reply_to = ? AND state = 'valid' ORDER BY log_index"
        return self._rows(Received, sql, message_id)

    # --- The log ---

    def followed(self) -> Followed | None:
        """How far the log was followed; None before the first time."""
        sql = "SELECT size, root, note, served, seen FROM followed"
        return _first(self._rows(Followed, sql))

    def size(self) -> int:
        """The number of the log's entries that were followed."""
        followed = self.followed()
        return followed.size if followed else 0

    def cosigned(self) -> Cosigned | None:
        """The checkpoint that was cosigned last; None before the first time."""
        return _first(self._rows(Cosigned, "SELECT size, root, note FROM cosigned"))

    def tiles(self, wanted: Collection[Tile]) -> dict[Tile, bytes]:
        """Those of the wanted tiles that are known; what they hold beyond ``size`` is unproven."""
        sql = "SELECT * FROM tiles WHERE level = ? AND n = ?"
        found = [row for tile in wanted for row in self._rows(TileRow, sql, *tile)]
        return {(row.level, row.n): row.hashes for row in found}

    def root_at(self, size: int) -> bytes:
        """The root of the log's first entries, computed from what was followed.

        Raises:
            ProofError: fewer entries were followed.
        """
        if size > self.size():
            raise merkle.ProofError(f"The log was followed to {self.size()} entries, not {size}.")
        return merkle.tree_root(size, self.tiles(merkle.tiles_for_root(size)))

    def log_entries(self, since: int, until: int) -> list[LogEntry]:
        """The kept entries with ``since <= index < until``: of the directory, and of ourselves."""
        sql = "SELECT * FROM log_entries WHERE log_index >= ? AND log_index < ? ORDER BY log_index"
        return self._rows(LogEntry, sql, since, until)

    def recent(self, since: int, limit: int) -> list[bytes]:
        """The bytes of followed entries from an index on, without a gap; none where it is gone."""
        sql = (
            "SELECT log_index, raw FROM recent WHERE log_index >= ? AND log_index < ?"
            " ORDER BY log_index"
        )
        rows = self._select(sql, since, min(since + limit, self.size()))
        found = msgspec.convert([*rows], list[tuple[int, bytes]])
        return [raw for at, (index, raw) in enumerate(found, since) if at == index]

    def content(self, index: int) -> Content | None:
        """What we hold of an entry's content: our messages and receipts, and those for us."""
        sent = _first(
            self._rows(Sent, "SELECT * FROM sent WHERE log_index = ? AND state = 'accepted'", index)
        )
        if sent is not None and sent.acceptance is not None:
            return Content(sent.acceptance, sent.envelope)
        sql = "SELECT * FROM inbox WHERE log_index = ? AND state = 'valid'"
        received = _first(self._rows(Received, sql, index))
        if received is not None:
            return Content(received.acceptance, received.envelope)
        sql = (
            "SELECT acceptance FROM receipts WHERE log_index = ?1 UNION ALL"
            " SELECT acceptance FROM answers WHERE log_index = ?1 AND acceptance IS NOT NULL"
        )
        raws = (msgspec.convert(raw, bytes) for (raw,) in self._select(sql, index))
        return next((Content(jsontext.decode(raw, Acceptance)) for raw in raws), None)

    def last_directory_change(self) -> int:
        """The index of the newest followed entry that the directory is made of; -1 for none."""
        sql = (
            "SELECT coalesce(max(log_index), -1) FROM log_entries, followed"
            " WHERE log_index < size AND type NOT LIKE 'message.%'"
        )
        return self._number(sql)

    def directory(self, until: int | None = None) -> Directory:
        """The directory as the followed log has it, or had it before the entry ``until``.

        Changes that nobody was entitled to are left out; the alarm about them was raised when they
        were met.
        """
        directory = Directory()
        end = self.size() if until is None else min(until, self.size())
        for kept in self.log_entries(0, end):
            try:
                directory = directory.apply(kept.index, entries.decode(kept.raw))
            except DirectoryError:
                continue
        return directory

    # --- All of it ---

    def identity(self) -> Identity:
        """The institution and the log that this store is about."""
        return self._rows(Identity, "SELECT * FROM identity")[0]

    def cursor(self, name: str, default: int) -> int:
        """A place in a list of the hub's, up to which everything was dealt with."""
        rows = self._select("SELECT value FROM cursors WHERE name = ?", name)
        return next((msgspec.convert(value, int) for (value,) in rows), default)

    def alarms(self, *, ended: bool = False) -> list[Alarm]:
        """The findings that were raised, the newest first; also those that are over, if asked."""
        sql = "SELECT * FROM alarms WHERE ended IS NULL OR ? ORDER BY number DESC"
        return self._rows(Alarm, sql, ended)

    def unmailed(self, since: str) -> list[Alarm]:
        """The alarms that no mail server took yet, the oldest first.

        Those that were over before ``since`` are no news any more.
        """
        sql = (
            "SELECT * FROM alarms WHERE mailed IS NOT time AND (ended IS NULL OR ended >= ?)"
            " ORDER BY number"
        )
        return self._rows(Alarm, sql, since)

    def last_mailed(self) -> dict[str, str]:
        """When a mail server last took an alarm of each kind."""
        sql = "SELECT kind, max(taken) FROM alarms WHERE taken IS NOT NULL GROUP BY kind"
        return dict(msgspec.convert([*self._select(sql)], list[tuple[str, str]]))

    def mail_trouble(self) -> MailTrouble | None:
        """What keeps mails from being taken; None while nothing does."""
        return _first(self._rows(MailTrouble, "SELECT since, detail FROM mail_trouble"))

    def status(self) -> Figures:
        """The store in figures."""
        waiting = (
            "SELECT count(*) FROM expected WHERE state = 'waiting'"
            " AND id NOT IN (SELECT id FROM erased)"
        )
        unanswered = (
            "SELECT count(*) FROM inbox LEFT JOIN answers ON answer = number"
            " WHERE status IS NOT NULL AND coalesce(answers.state, 'pending') = 'pending'"
        )
        return Figures(
            identity=self.identity(),
            followed=self.followed(),
            cosigned=self.cosigned(),
            sent=self._counts("SELECT state, count(*) FROM sent GROUP BY state"),
            waiting_receipts=self._number(waiting),
            inbox=self._counts("SELECT state, count(*) FROM inbox GROUP BY state"),
            last_position=self.last_position(),
            first_gap=self.first_gap(),
            unanswered=self._number(unanswered),
        )

    def _select(self, sql: str, *values: Value) -> Iterator[tuple[Value, ...]]:
        # A damaged page shows itself only when its rows are read.
        try:
            yield from self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}.") from error

    def _rows(self, into: type[Row], sql: str, *values: Value) -> list[Row]:
        names = into.__struct_fields__
        return [
            msgspec.convert(dict(zip(names, row, strict=True)), into)
            for row in self._select(sql, *values)
        ]

    def _number(self, sql: str, *values: Value) -> int:
        ((number,),) = self._select(sql, *values)
        return msgspec.convert(number, int)

    def _counts(self, sql: str) -> dict[str, int]:
        return dict(msgspec.convert([*self._select(sql)], list[tuple[str, int]]))


class Store(Reader):
    """The store, open for its one writer."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: int) -> None:
        super().__init__(connection, path)
        self._lock = lock

    @classmethod
    def open_for(cls, path: Path, code: str, log: str) -> "Store":
        """Open for writing, as the only writer; make the store where there is none.

        Args:
            path: the file; a lock file stands beside it.
            code: the institution whose store it is.
            log: the verifier key of the one log that it follows.

        Raises:
            StoreError: another daemon runs, the file is foreign, damaged, or about another
                institution or log, or the disk does not take it.
        """
        lock = _take_lock(path.with_name("lock"))
        try:
            store = cls(_connect(path, "rwc"), path, lock)
        except StoreError:
            os.close(lock)
            raise
        try:
            path.chmod(0o600)  # SQLite gives its other files the same mode
            store._prepare(Identity(code, log))
        except StoreError:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the file and let another daemon have it."""
        super().close()
        os.close(self._lock)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written within is committed together, durably, or not at all.

        Nothing within may wait for the network: the other tasks write through the same connection.

        Raises:
            StoreError: the disk is full or failing; nothing of it was written.
        """
        self._write("BEGIN IMMEDIATE")
        try:
            yield
            self._write("COMMIT")
        finally:
            # After a COMMIT that failed, as after an exception within.
            if self._connection.in_transaction:
                self._connection.rollback()

    def _prepare(self, identity: Identity) -> None:
        """Make the tables where there are none; see that the store is durable, whole and right."""
        self._write("PRAGMA journal_mode = WAL")
        self._write("PRAGMA synchronous = FULL")
        self._write("PRAGMA foreign_keys = ON")
        if [*self._select("PRAGMA journal_mode")] != [("wal",)] or self._number(
            "PRAGMA synchronous"
        ) != 2:
            raise StoreError(f"{self._path}: this disk cannot hold a durable database.")
        if self._number("PRAGMA user_version") == 0:
            # A crash in here leaves an empty file, which the next start fills.
            with self.transaction():
                for statement in SCHEMA.split(";"):
                    self._write(statement)
                self._write("INSERT INTO identity VALUES (?, ?)", identity.code, identity.log)
                self._write(f"PRAGMA application_id = {APPLICATION_ID}")
                self._write("PRAGMA user_version = 1")
        for version in range(self._number("PRAGMA user_version"), VERSION):
            with self.transaction():
                for statement in UPGRADES[version - 1].split(";"):
                    self._write(statement)
                self._write(f"PRAGMA user_version = {version + 1}")
        if [*self._select("PRAGMA quick_check(1)")] != [("ok",)]:
            raise StoreError(f"{self._path} is damaged; bring it back from a backup.")
        known = self.identity()
        if known.code != identity.code:
            raise StoreError(f"{self._path} is the store of {known.code}, not {identity.code}.")
        if known.log != identity.log:
            raise StoreError(
                f"{self._path} follows another log, {known.log}; a hub never changes its log's key."
            )

    # --- What we sent ---

    def add_sent(
        self, message_id: str, kind: str, reply_to: str | None, envelope: bytes, now: str
    ) -> None:
        """Note a message before it is offered for the first time.

        It takes the place of one that was refused under its id.
        """
        self._write("DELETE FROM sent WHERE id = ? AND state = 'refused'", message_id)
        self._write(
            "INSERT INTO sent (id, kind, reply_to, envelope, state, queued)"
            " VALUES (?, ?, ?, ?, 'pending', ?)",
            *(message_id, kind, reply_to, envelope, now),
        )

    def note_trouble(self, message_id: str, code: str, detail: str) -> None:
        """Say what keeps a message from being answered."""
        self._write(
            "UPDATE sent SET code = ?, detail = ? WHERE id = ? AND state = 'pending'"
            " AND (code IS NOT ? OR detail IS NOT ?)",
            *(code, detail, message_id, code, detail),
        )

    def settle(self, sent: Sent) -> None:
        """Keep the answer to a message that was pending: acceptance or refusal."""
        self._write(
            "UPDATE sent SET state = ?, settled = ?, code = ?, detail = ?, acceptance = ?,"
            " log_index = ?, entry_hash = ?, accepted = ? WHERE id = ?",
            *(sent.state, sent.settled, sent.code, sent.detail, sent.raw),
            *(sent.index, sent.entry_hash, sent.accepted, sent.id),
        )

    def expect_receipts(self, message_id: str, recipients: Mapping[str, int], since: str) -> None:
        """Note who owes a receipt, each with the message's position in its inbox."""
        self._many(
            "INSERT INTO expected (id, recipient, position, since, state)"
            " VALUES (?, ?, ?, ?, 'waiting')",
            [(message_id, code, position, since) for code, position in recipients.items()],
        )

    def add_receipt(self, receipt: RecordedReceipt) -> None:
        """Keep another's receipt with its proof."""
        self._write(
            "INSERT OR IGNORE INTO receipts VALUES (?, ?, ?)",
            *(receipt.index, receipt.receiver, receipt.raw),
        )

    def settle_expected(self, expected: Expected) -> None:
        """Keep what a receipt says about one message."""
        self._write(
            "UPDATE expected SET state = ?, log_index = ?, time = ?, reason = ?"
            " WHERE id = ? AND recipient = ?",
            *(expected.state, expected.index, expected.time, expected.reason),
            *(expected.id, expected.recipient),
        )

    # --- What we received ---

    def add_received(self, received: Received) -> None:
        """Keep what stands at a position that was free."""
        self._write(
            "INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *msgspec.structs.astuple(received),
        )

    def add_answer(self, sender: str, receipt: bytes, positions: Iterable[int]) -> None:
        """Keep a signed receipt before it is offered, and the positions that it covers."""
        number = self._write(
            "INSERT INTO answers (sender, receipt, state) VALUES (?, ?, 'pending')",
            *(sender, receipt),
        ).lastrowid
        self._many(
            "UPDATE inbox SET answer = ? WHERE position = ?",
            [(number, position) for position in positions],
        )

    def answer_recorded(self, number: int, index: int, raw: bytes) -> None:
        """Note that the hub recorded a receipt of ours, with the proof."""
        self._write(
            "UPDATE answers SET state = 'recorded', log_index = ?, acceptance = ? WHERE number = ?",
            *(index, raw, number),
        )

    def owe_again(self, positions: Iterable[int]) -> None:
        """Note that the receipt signed for these positions did not come to say so in the log."""
        self._many(
            "UPDATE inbox SET answer = NULL WHERE position = ?",
            [(position,) for position in positions],
        )

    def answer_refused(self, number: int, detail: str) -> None:
        """Note that the hub will not record a receipt of ours."""
        self._write(
            "UPDATE answers SET state = 'refused', detail = ? WHERE number = ?", detail, number
        )

    # --- The log ---

    def stage(
        self,
        tiles: Mapping[Tile, bytes],
        kept: Iterable[tuple[int, str, bytes]],
        recent: Iterable[tuple[int, bytes]] = (),
    ) -> None:
        """Write what was read beyond ``size``: it counts only once ``set_followed`` says so."""
        self._many(
            "INSERT OR REPLACE INTO tiles VALUES (?, ?, ?)",
            [(level, n, hashes) for (level, n), hashes in tiles.items()],
        )
        self._many("INSERT INTO log_entries VALUES (?, ?, ?)", kept)
        self._many("INSERT OR REPLACE INTO recent VALUES (?, ?)", recent)
        self._write(
            "DELETE FROM recent WHERE log_index <= (SELECT max(log_index) FROM recent) - ?", RECENT
        )

    def unstage(self) -> None:
        """Forget the entries beyond ``size`` that an attempt before left without proof.

        Tiles need no cleaning: whoever reads them cuts them to ``size``, and they are overwritten.
        """
        for table in ("log_entries", "recent"):
            self._write(f"DELETE FROM {table} WHERE log_index >= ?", self.size())  # noqa: S608

    def note_erased(self, message_id: str, index: int, time: str) -> None:
        """Note that the log says that a message was erased; the first time counts."""
        self._write("INSERT OR IGNORE INTO erased VALUES (?, ?, ?)", message_id, index, time)

    def set_followed(self, followed: Followed) -> None:
        """Believe the log up to a size."""
        self._write(
            "INSERT OR REPLACE INTO followed VALUES (1, ?, ?, ?, ?, ?)",
            *(followed.size, followed.root, followed.note, followed.served, followed.seen),
        )

    def set_cosigned(self, cosigned: Cosigned) -> None:
        """Remember what is cosigned; a smaller tree never takes the place of a larger one."""
        self._write(
            "INSERT INTO cosigned VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET"
            " size = excluded.size, root = excluded.root, note = excluded.note"
            " WHERE excluded.size >= size",
            *(cosigned.size, cosigned.root, cosigned.note),
        )

    # --- All of it ---

    def set_cursor(self, name: str, value: int) -> None:
        """Move a cursor."""
        self._write("INSERT OR REPLACE INTO cursors VALUES (?, ?)", name, value)

    def raise_alarms(self, findings: Iterable[Finding], now: str) -> list[Finding]:
        """Keep findings; gives those that are new, or were over and are back."""
        return [finding for finding in findings if self._raise(finding, now)]

    def _raise(self, finding: Finding, now: str) -> bool:
        evidence = jsontext.encode(finding.evidence)
        cursor = self._write(
            "INSERT INTO alarms (kind, subject, time, sentence, evidence) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (kind, subject) DO UPDATE SET time = excluded.time,"
            " sentence = excluded.sentence, evidence = excluded.evidence, ended = NULL"
            " WHERE ended IS NOT NULL",
            *(finding.kind, finding.subject, now, finding.sentence, evidence),
        )
        return cursor.rowcount > 0

    def end_alarm(self, kind: str, subject: str, now: str) -> None:
        """Note that a finding is over, where it was raised."""
        self._write(
            "UPDATE alarms SET ended = ? WHERE kind = ? AND subject = ? AND ended IS NULL",
            *(now, kind, subject),
        )

    def note_mailed(self, alarms: Iterable[Alarm], now: str) -> None:
        """Note that a mail server took these alarms, as they were raised when it was asked."""
        self._many(
            "UPDATE alarms SET mailed = ?, taken = ? WHERE number = ?",
            [(alarm.time, now, alarm.number) for alarm in alarms],
        )

    def note_mail_trouble(self, detail: str, now: str) -> None:
        """Note what keeps mails from being taken; since when stays as it was."""
        self._write(
            "INSERT INTO mail_trouble VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE SET"
            " detail = excluded.detail",
            *(now, detail),
        )

    def end_mail_trouble(self) -> None:
        """Note that mails are taken."""
        self._write("DELETE FROM mail_trouble")

    def _write(self, sql: str, *values: Value) -> sqlite3.Cursor:
        try:
            return self._connection.execute(sql, values)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}.") from error

    def _many(self, sql: str, rows: Iterable[tuple[Value, ...]]) -> None:
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}.") from error


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None


def _take_lock(path: Path) -> int:
    """Hold the lock file: the kernel lets go of it when the process ends, however it ends."""
    try:
        files.make_folder(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreError(f"Another connector daemon already runs on {path.parent}.") from None
    return descriptor


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file and see that it is ours, before anything in it is touched."""
    try:
        uri = f"{path.resolve().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be opened: {error}.") from None
    try:
        _check_ours(connection, path, may_be_empty=mode == "rwc")
    except StoreError:
        connection.close()
        raise
    return connection


def _check_ours(connection: sqlite3.Connection, path: Path, *, may_be_empty: bool) -> None:
    try:
        ((application_id,),) = connection.execute("PRAGMA application_id")
        ((version,),) = connection.execute("PRAGMA user_version")
        ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.Error as error:
        raise StoreError(f"{path} is damaged or no database: {error}.") from None
    if application_id != APPLICATION_ID and tables:
        raise StoreError(f"{path} is not a connector's store; it was not touched.")
    if not tables and not may_be_empty:
        raise StoreError(f"There is nothing in {path} yet: `nhri-connector run` fills it.")
    if tables and version < VERSION and not may_be_empty:
        raise StoreError(f"{path} is of an older version: start the daemon, which brings it up.")
    if version > VERSION:
        raise StoreError(f"{path} is of a newer version, {version}; update this program.")
