"""Opening a PostgreSQL database. Several hubs may share it: the head of the log is one locked row."""

from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hub.settings import StartError
from hub.store.migrations import upgrade

_READERS = 4

_MIGRATION_LOCK = 0x4E485249
"""``NHRI``: hubs that start together migrate one after the other."""

# Without any of these a commit that was acknowledged can be lost or torn.
_MUST_NOT_BE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


async def open_engines(url: URL) -> tuple[AsyncEngine, AsyncEngine]:
    """A writer and a reader for the database, brought to date.

    Raises:
        StartError: it cannot be reached, is another program's, or does not keep what it commits.
    """
    driver = url.set(drivername="postgresql+asyncpg")
    # A server that was restarted leaves dead connections behind: each is tried before its use.
    writer = create_async_engine(driver, pool_size=1, max_overflow=0, pool_pre_ping=True)
    reader = create_async_engine(
        driver,
        pool_size=_READERS,
        max_overflow=0,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
    )
    try:
        async with writer.begin() as connection:
            await _check(connection)
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            await connection.run_sync(upgrade)
    except (DBAPIError, OSError) as error:
        await _dispose(writer, reader)
        reason = str(getattr(error, "orig", error)).rstrip(".")
        raise StartError(
            f"The database {url.host}/{url.database} cannot be used ({reason}); "
            "is PostgreSQL running, and are address, user and password right?"
        ) from None
    except StartError:
        await _dispose(writer, reader)
        raise
    return writer, reader


async def _check(connection: AsyncConnection) -> None:
    for setting, refused in _MUST_NOT_BE.items():
        value = (await connection.execute(text(f"SHOW {setting}"))).scalar_one()
        if value == refused:
            raise StartError(
                f"PostgreSQL runs with {setting} = {value}: it can lose what it has committed. "
                f"Set {setting} = on and restart it."
            )
    foreign = await connection.execute(
        text(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() "
            "AND NOT EXISTS (SELECT 1 FROM information_schema.tables "
            "WHERE table_schema = current_schema() AND table_name = 'log_head')"
        )
    )
    if foreign.scalar_one():
        raise StartError("The database holds another program's tables; name an empty database.")


async def _dispose(*engines: AsyncEngine) -> None:
    for engine in engines:
        await engine.dispose()
