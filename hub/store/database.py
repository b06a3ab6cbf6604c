"""A database as the store uses it: whole transactions, each a function over a connection."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from hub.settings import StartError
from hub.store import postgresql, sqlite

T = TypeVar("T")


class Database(Protocol):
    """One database, whatever kind."""

    @property
    def shared(self) -> bool:
        """Whether other hubs may write to it, too."""
        ...

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do something in a writing transaction, committed when ``work`` returns."""
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do something in a reading transaction: every statement in it sees the same state."""
        ...

    async def scrub(self) -> bool:
        """Let what was deleted leave the files, as far as that goes; whether it is done.

        docs/erasure.md says what remains outside of them, and for how long.
        """
        ...

    async def close(self) -> None:
        """Wait for what is running and close all connections."""
        ...


async def open_database(url: str, folder: Path) -> Database:
    """Open a database by its address, creating or migrating it as needed.

    Args:
        url: ``sqlite:///file`` (relative to ``folder``) or ``postgresql://…``.
        folder: where the settings file is.

    Raises:
        StartError: it is not ours, damaged, in use, or cannot be reached or written.
    """
    place = _place(url, folder)
    if isinstance(place, URL):
        return await postgresql.open_postgresql(place)
    return await sqlite.open_sqlite(place)


async def glance(url: str, folder: Path, work: Callable[[Connection], T]) -> T:
    """Do something in one reading transaction, also while a hub uses the database.

    Raises:
        StartError: the address is none.
        BackupError: the database is not there, not ours, damaged, or cannot be reached.
    """
    place = _place(url, folder)
    if isinstance(place, URL):
        return await postgresql.glance(place, work)
    return await sqlite.glance(place, work)


async def fill(url: str, folder: Path, work: Callable[[Connection], T]) -> T:
    """Make a database of an empty one, in one transaction: filled, or still empty.

    Raises:
        StartError: the address is none, or a hub uses it.
        BackupError: it is not empty, or cannot be reached or written.
    """
    place = _place(url, folder)
    if isinstance(place, URL):
        return await postgresql.fill(place, work)
    return await sqlite.fill(place, work)


def _place(url: str, folder: Path) -> URL | Path:
    """Where PostgreSQL is, or the file of SQLite."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StartError(f"The store {url} is no address of a database.") from None
    if parsed.get_backend_name() == "postgresql":
        return parsed
    if parsed.get_backend_name() == "sqlite":
        return (folder / (parsed.database or "hub.sqlite")).resolve()
    raise StartError(f"The store {url} is neither sqlite:/// nor postgresql://.")
