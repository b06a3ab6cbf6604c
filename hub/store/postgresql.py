"""Opening a PostgreSQL database. Several hubs may share it: the log's head is one locked row."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TypeVar

import asyncpg
from sqlalchemy import URL, Connection, Table, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from hub.backup import BackupError
from hub.settings import StartError
from hub.store.loopthread import LoopThread
from hub.store.migrations import upgrade

_READERS = 4

_MIGRATION_LOCK = 0x4E485249
"""``NHRI``: hubs that start together migrate one after the other."""

# With any of these a commit that was acknowledged can be lost or torn.
_MUST_NOT_BE = {
    "fsync": ("off",),
    "synchronous_commit": ("off", "local"),
    "full_page_writes": ("off",),
}

# A hub whose machine or line is gone in the middle of a transaction holds the head of the log until
# the server finds that out: with its own settings, two hours later. These are the server's side.
_GIVEN_UP = {
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

# And ours, where the server is gone while its answer is waited for.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""Seconds, seconds, times."""

# While something that was sent is not acknowledged, the kernel sends that again and asks nothing: a
# server that goes as a statement is on its way to it would be missed for a quarter of an hour.
if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
    _KEEPALIVE[socket.TCP_USER_TIMEOUT] = 30_000  # milliseconds

_ERASED_FROM = (
    "messages",
    "log_private",
    "answers",
    "search_terms",
    "search_words",
    "search_vocabulary",
)

T = TypeVar("T")


class PostgresqlDatabase:
    """One PostgreSQL database.

    The writer has a loop of its own: on the doors' loop each statement's answer would queue behind
    whatever requests are being handled.
    """

    shared = True

    def __init__(self, url: URL) -> None:
        """Connect with the first transaction."""
        driver = url.set(drivername="postgresql+asyncpg")
        self._thread = LoopThread("writer")
        # Parameters are hidden: what stands in a row is nobody's to read in a log.
        self._writer = create_async_engine(
            driver,
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            connect_args={"server_settings": _GIVEN_UP},
        )
        self._reader = create_async_engine(
            driver,
            pool_size=_READERS,
            max_overflow=0,
            hide_parameters=True,
            isolation_level="REPEATABLE READ",
            # A plan that was kept from when a table was small reads all of it when it has grown.
            connect_args={"server_settings": {"plan_cache_mode": "force_custom_plan"}},
        )
        for engine in (self._writer, self._reader):
            event.listen(engine.sync_engine, "connect", _keep_alive)
            event.listen(engine.sync_engine, "checkout", _refuse_closed)
        event.listen(self._writer.sync_engine, "checkout", _refuse_unsafe)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do something in a writing transaction, committed when ``work`` returns.

        Raises:
            StartError: the server can lose what it commits.
        """
        return await self._thread.run(lambda: _transact(self._writer, work))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do something in a reading transaction: every statement in it sees the same state."""
        return await _transact(self._reader, work)

    async def scrub(self) -> bool:
        """Have dead rows removed, so that their space is written over in time."""
        # Beside the writer, whom it does not hold up.
        async with self._reader.connect() as connection:
            free = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await free.execute(text(f"VACUUM {', '.join(_ERASED_FROM)}"))
        return True

    async def close(self) -> None:
        """Wait for what is running and close all connections."""
        await self._reader.dispose()
        await self._thread.run(self._writer.dispose)
        await self._thread.close()


def _keep_alive(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """Have the kernel find out within half a minute that a server is gone."""
    # The driver has no option for it, and gives its socket to nobody.
    transport: asyncio.Transport = connection.driver_connection._transport
    line: socket.socket = transport.get_extra_info("socket")
    if line.family == socket.AF_UNIX:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        line.setsockopt(socket.IPPROTO_TCP, option, value)


def _refuse_closed(
    connection: DBAPIConnection, _entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Have the pool connect anew where a server that was restarted has hung up.

    The driver was told when it happened. SQLAlchemy's own ping would ask the server, in three round
    trips before every transaction: a fifth of what a commit takes.
    """
    driver: asyncpg.Connection = connection.driver_connection
    if driver.is_closed():
        raise DisconnectionError


def _refuse_unsafe(
    connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Write over no connection, a later one neither, to a server that can lose what it commits.

    After a failover it is another server, with settings of its own.
    """
    if "kept" in entry.info:
        return
    driver: asyncpg.Connection = connection.driver_connection
    for setting, refused in _MUST_NOT_BE.items():
        try:
            value = await_only(driver.fetchval("SELECT current_setting($1)", setting))
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise OSError(str(error)) from error
        if value in refused:
            raise StartError(
                f"PostgreSQL runs with {setting} = {value}: it can lose what it has committed. "
                f"Set {setting} = on and restart it."
            )
    entry.info["kept"] = True


async def _transact(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    async with engine.begin() as connection:
        return await connection.run_sync(work)


async def open_postgresql(url: URL) -> PostgresqlDatabase:
    """Open a database, bringing it to date.

    Raises:
        StartError: it cannot be reached, is another program's, or does not keep what it commits.
    """
    database = PostgresqlDatabase(url)
    try:
        await database.write(_prepare)
    except (DBAPIError, OSError) as error:
        await database.close()
        reason = str(getattr(error, "orig", error)).rstrip(".")
        raise StartError(
            f"The database {url.host}/{url.database} cannot be used ({reason}); "
            "is PostgreSQL running, and are address, user and password right?"
        ) from None
    except BaseException:
        await database.close()
        raise
    return database


async def glance(url: URL, work: Callable[[Connection], T]) -> T:
    """Do something in one reading transaction.

    Raises:
        BackupError: the database cannot be reached or read.
    """
    database = PostgresqlDatabase(url)
    try:
        return await database.read(work)
    except (DBAPIError, OSError) as error:
        raise BackupError(_unusable(url, error)) from None
    finally:
        await database.close()


async def fill(url: URL, work: Callable[[Connection], T]) -> T:
    """Fill an empty database, in one transaction.

    Raises:
        BackupError: it is not empty, or cannot be reached or written.
    """

    def into_empty(connection: Connection) -> T:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
        query = text(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()"
        )
        if connection.execute(query).scalar_one():
            raise BackupError(
                f"The database {url.host}/{url.database} is not empty. Keep it, it is evidence; "
                "make a new one with createdb and name it in store.url."
            )
        return work(connection)

    database = PostgresqlDatabase(url)
    try:
        return await database.write(into_empty)
    except (DBAPIError, OSError) as error:
        raise BackupError(_unusable(url, error)) from None
    finally:
        await database.close()


def _unusable(url: URL, error: Exception) -> str:
    reason = str(getattr(error, "orig", error)).rstrip(".")
    return (
        f"The database {url.host}/{url.database} cannot be used ({reason}); "
        "is PostgreSQL running, and are address, user and password right?"
    )


def copy(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows, all with the same columns, by COPY: a fraction of what as many INSERTs cost.

    Raises:
        OSError: the database did not take them.
        asyncpg.PostgresError: they cannot be right.
    """
    columns = list(rows[0])
    driver: asyncpg.Connection = connection.connection.driver_connection
    records = list(map(itemgetter(*columns), rows))
    try:
        await_only(driver.copy_records_to_table(table.name, records=records, columns=columns))
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError):
        raise
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise OSError(str(error)) from error


def _prepare(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
    foreign = connection.execute(
        text(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() "
            "AND NOT EXISTS (SELECT 1 FROM information_schema.tables "
            "WHERE table_schema = current_schema() AND table_name = 'log_head')"
        )
    )
    if foreign.scalar_one():
        raise StartError("The database holds another program's tables; name an empty database.")
    upgrade(connection)
