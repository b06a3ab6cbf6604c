"""Opening a database: what must hold before the hub believes it can keep a promise.

SQLite: one writer connection and a few readers, write-ahead log, ``synchronous=FULL`` asserted (WAL
with NORMAL does not sync on commit: an accepted message could be lost with the power). A file that
is not ours or is damaged is refused with a sentence, never repaired or overwritten.
"""

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from hub.settings import StartError
from hub.store import postgresql
from hub.store.migrations import upgrade

APPLICATION_ID = 0x4E485249
"""``NHRI``: the mark in the header of our SQLite files."""

_READERS = 4


class Database:
    """One database: ``write`` gives the one writing transaction, ``read`` a consistent snapshot."""

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, lock: int | None) -> None:
        """Keep the two engines and, for SQLite, the descriptor of the lock file."""
        self._writer = writer
        self._reader = reader
        self._lock = lock

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A writing transaction, committed at the end of the block."""
        async with self._writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A reading transaction: every statement in it sees the same state."""
        async with self._reader.begin() as connection:
            yield connection

    async def close(self) -> None:
        """Close all connections and give the lock back."""
        await self._reader.dispose()
        await self._writer.dispose()
        if self._lock is not None:
            os.close(self._lock)


async def open_database(url: str, folder: Path) -> Database:
    """Open a database, creating or migrating it as needed.

    Raises:
        StartError: it is not ours, damaged, in use by another hub, or cannot be written.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return Database(*await postgresql.open_engines(parsed), lock=None)
    if parsed.get_backend_name() != "sqlite":
        raise StartError(f"The store {url} is neither sqlite:/// nor postgresql://.")
    path = (folder / (parsed.database or "hub.sqlite")).resolve()
    lock = _lock(path)
    try:
        database = _open_sqlite(path, lock)
        await _prepare_sqlite(database, path)
    except BaseException:
        os.close(lock)
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


def _open_sqlite(path: Path, lock: int) -> Database:
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    url = f"sqlite+aiosqlite:///{path}"
    writer = create_async_engine(url, pool_size=1, max_overflow=0)
    reader = create_async_engine(url, pool_size=_READERS, max_overflow=0)
    for engine, begin in ((writer, "BEGIN IMMEDIATE"), (reader, "BEGIN")):
        event.listen(engine.sync_engine, "connect", _pragmas)
        event.listen(engine.sync_engine, "begin", _begin(begin))
    return Database(writer, reader, lock)


def _pragmas(connection: object, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # type: ignore[attr-defined]  # the driver must not begin
    cursor = connection.cursor()  # type: ignore[attr-defined]
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=10000",
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


async def _prepare_sqlite(database: Database, path: Path) -> None:
    try:
        async with database.write() as connection:
            mark = (await connection.execute(text("PRAGMA application_id"))).scalar_one()
            tables = (await connection.execute(text("SELECT count(*) FROM sqlite_master"))).scalar()
            if mark != APPLICATION_ID and tables:
                raise StartError(f"{path} is the database of another program; name another file.")
            damage = (await connection.execute(text("PRAGMA quick_check(1)"))).scalar_one()
            if damage != "ok":
                raise StartError(f"The database {path} is damaged ({damage}); restore a backup.")
            await connection.execute(text(f"PRAGMA application_id={APPLICATION_ID}"))
            await connection.run_sync(upgrade)
    except DatabaseError as error:
        await database.close()
        reason = str(error.orig).rstrip(".")
        raise StartError(
            f"The database {path} cannot be used ({reason}); restore a backup or name another file."
        ) from None
    except StartError:
        await database.close()
        raise
