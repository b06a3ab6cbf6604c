"""SQLite: what must hold before the hub believes it can keep a promise.

One writer connection and a few readers, write-ahead log, ``synchronous=FULL`` asserted (WAL with
NORMAL does not sync on commit: an accepted message could be lost with the power). A file that is
not ours or is damaged is refused with a sentence, never repaired or overwritten.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from hub.backup import BackupError
from hub.settings import StartError
from hub.store.migrations import upgrade

APPLICATION_ID = 0x4E485249
"""``NHRI``: the mark in the header of our SQLite files."""

_READERS = 4

_PATIENCE = 10_000
"""Milliseconds."""

_UNUSABLE = "The database {path} cannot be used ({reason}); restore a backup or name another file."

T = TypeVar("T")


class SqliteDatabase:
    """One SQLite file. A whole transaction is one hop to a thread, not each of its statements.

    (With a hop there and back for each statement, a group commit of 30 messages took 35 ms where it
    now takes less than half.)
    """

    shared = False

    def __init__(self, writer: Engine, reader: Engine, lock: int) -> None:
        """Keep the two engines and the descriptor of the lock file."""
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._write_thread = ThreadPoolExecutor(1, "writer")
        self._read_threads = ThreadPoolExecutor(_READERS, "reader")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do something in a writing transaction, committed when ``work`` returns."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._write_thread, _transact, self._writer, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do something in a reading transaction: every statement in it sees the same state."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._read_threads, _transact, self._reader, work)

    async def scrub(self) -> bool:
        """Empty the write-ahead log, which has the pages as they were before.

        In the file itself ``secure_delete`` has overwritten what was deleted. False while a reader
        still needs the log.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._write_thread, _empty_log, self._writer)

    async def close(self) -> None:
        """Wait for what is running, close all connections and give the lock back."""
        await asyncio.to_thread(self._write_thread.shutdown)
        await asyncio.to_thread(self._read_threads.shutdown)
        self._reader.dispose()
        self._writer.dispose()
        os.close(self._lock)


def _transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _empty_log(writer: Engine) -> bool:
    with contextlib.closing(writer.raw_connection()) as connection:
        cursor = connection.cursor()
        try:
            # Nobody's commit waits for a slow reader: the next round tries again.
            cursor.execute("PRAGMA busy_timeout=100")
            (busy, _, _) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            cursor.execute(f"PRAGMA busy_timeout={_PATIENCE}")
        return not busy


async def open_sqlite(path: Path) -> SqliteDatabase:
    """Open a database file, creating or migrating it as needed.

    Raises:
        StartError: it is not ours, damaged, in use by another hub, or cannot be written.
    """
    lock = _lock(path)
    try:
        database = _open(path, lock)
    except BaseException:
        os.close(lock)
        raise
    try:
        await _prepare(database, path)
    except BaseException:
        await database.close()
        raise
    return database


def _lock(path: Path) -> int:
    """Take the lock file, so that a second hub or an offline command cannot write beside us."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"The database {path} cannot be opened: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StartError(f"Another hub is using the database {path}; stop it first.") from None
    return descriptor


def _open(path: Path, lock: int) -> SqliteDatabase:
    if path.exists():
        _check_mark(path)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    url = f"sqlite:///{path}"
    # What stands in a row is nobody's to read in a log.
    writer = create_engine(
        url, poolclass=QueuePool, pool_size=1, max_overflow=0, hide_parameters=True
    )
    reader = create_engine(
        url, poolclass=QueuePool, pool_size=_READERS, max_overflow=0, hide_parameters=True
    )
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        event.listen(engine, "connect", _pragmas)
        event.listen(engine, "begin", _begin(begin))
    return SqliteDatabase(writer, reader, lock)


def _check_mark(path: Path) -> None:
    """Look before anything is set: already the journal mode would be written into the file."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as found:
            (mark,) = found.execute("PRAGMA application_id").fetchone()
            (tables,) = found.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise StartError(_UNUSABLE.format(path=path, reason=error)) from None
    if mark != APPLICATION_ID and tables:
        raise StartError(f"{path} is the database of another program; name another file.")


def _pragmas(connection: object, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # the driver must not begin
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_PATIENCE}",
        "secure_delete=ON",
        "journal_size_limit=67108864",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.execute("PRAGMA synchronous")
    assert cursor.fetchone() == (2,), "SQLite did not take synchronous=FULL"
    cursor.close()


def _begin(statement: str):  # type: ignore[no-untyped-def]
    def begin(connection) -> None:  # type: ignore[no-untyped-def]
        connection.exec_driver_sql(statement)

    return begin


async def _prepare(database: SqliteDatabase, path: Path) -> None:
    def prepare(connection: Connection) -> None:
        damage = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
        if damage != "ok":
            raise StartError(f"The database {path} is damaged ({damage}); restore a backup.")
        connection.execute(text(f"PRAGMA application_id={APPLICATION_ID}"))
        upgrade(connection)

    try:
        await database.write(prepare)
    except DatabaseError as error:
        raise StartError(_UNUSABLE.format(path=path, reason=error.orig)) from None


async def glance(path: Path, work: Callable[[Connection], T]) -> T:
    """Do something in one reading transaction, also while a hub writes.

    Raises:
        BackupError: the file is not there, not ours, or damaged.
    """
    if not _files(path):
        raise BackupError(f"There is no database {path} yet: there is nothing to keep.")
    try:
        _check_mark(path)
        reader = create_engine("sqlite://", creator=_opener(path), poolclass=NullPool)
        event.listen(reader, "begin", _begin("BEGIN"))
        return await asyncio.to_thread(_transact, reader, work)
    except DatabaseError as error:
        raise BackupError(f"The database {path} cannot be read: {error.orig}.") from None
    except StartError as error:
        raise BackupError(str(error)) from None


def _opener(path: Path) -> Callable[[], sqlite3.Connection]:
    def connect() -> sqlite3.Connection:
        # Not mode=ro: such a connection leaves its write-ahead log behind, even where it is empty.
        uri = f"{path.as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA query_only=ON")
        return connection

    return connect


async def fill(path: Path, work: Callable[[Connection], T]) -> T:
    """Make a database file, in one transaction.

    Raises:
        StartError: a hub uses it.
        BackupError: there is one already, or the disk did not take it; then there is none.
    """
    found = _files(path)
    if found:
        names = ", ".join(map(str, found))
        raise BackupError(
            f"There is a database already: {names}. Move it away and keep it, it is evidence; "
            "nothing is restored over it."
        )

    def marked(connection: Connection) -> T:
        connection.execute(text(f"PRAGMA application_id={APPLICATION_ID}"))
        return work(connection)

    lock = _lock(path)
    database = _open(path, lock)
    try:
        done = await database.write(marked)
    except BaseException as error:
        await database.close()
        for file in _files(path):
            file.unlink()
        if isinstance(error, DatabaseError):
            raise BackupError(f"The database {path} cannot be written: {error.orig}.") from None
        raise
    await database.close()
    return done


def _files(path: Path) -> list[Path]:
    """The files of a database that are there.

    A write-ahead log alone is one of them: SQLite would write it into the next file of its name.
    """
    return [each for end in ("", "-wal", "-shm") if (each := Path(f"{path}{end}")).exists()]
