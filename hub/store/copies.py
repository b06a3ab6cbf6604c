"""The whole database as rows, and rows as the whole database, whichever kind either is of."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, Table, delete, func, insert, select, text, tuple_

from hub.backup import Advance, Backup, BackupError, Row, Snapshot
from hub.backup import Table as Rows
from hub.store import tables
from hub.store.migrations import newest, upgrade

_PAGE = 200
"""Rows read at a time: an envelope may have 256 KiB."""

_VERSIONS = "alembic_version"

_INDEX = "search_"
"""How the tables of the search index are called: each database has its own, made from the log."""


def snapshot(connection: Connection) -> Snapshot:
    """All rows, read while the transaction lasts; what hubs write meanwhile is not among them.

    Raises:
        BackupError: no hub ever signed anything here, or the tables are of another version.
    """
    if not connection.dialect.has_table(connection, _VERSIONS):
        raise BackupError("The database is empty: there is nothing to keep.")
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    if revision != newest():
        raise BackupError("The database is of another version: start the hub, and try again.")
    signed = tables.checkpoints
    last = select(signed.c.note).order_by(signed.c.size.desc()).limit(1)
    checkpoint = connection.execute(last).scalar()
    if checkpoint is None:
        raise BackupError("The log is empty: there is nothing to keep.")
    every = _kept(tables.metadata)
    counts = (connection.execute(select(func.count()).select_from(table)) for table in every)
    count = sum(found.scalar_one() for found in counts)
    return Snapshot(revision, checkpoint, count, (_rows(connection, table) for table in every))


def _kept(metadata: MetaData) -> list[Table]:
    return [
        table
        for table in metadata.sorted_tables
        if table.name != _VERSIONS and not table.name.startswith(_INDEX)
    ]


def _rows(connection: Connection, table: Table) -> Rows:
    return Rows(str(table.name), tuple(map(str, table.c.keys())), _pages(connection, table))


def _pages(connection: Connection, table: Table) -> Iterator[Row]:
    """The rows by primary key, page by page: neither driver holds all of them in memory."""
    key = list(table.primary_key.columns)
    ordered = select(table).order_by(*key).limit(_PAGE)
    query = ordered
    while page := connection.execute(query).all():
        yield from map(tuple, page)
        last = [getattr(page[-1], column.name) for column in key]
        query = ordered.where(tuple_(*key) > tuple_(*last))


def load(connection: Connection, backup: Backup, advance: Advance) -> None:
    """Fill an empty database. Older tables are made as they were, filled, and brought to date.

    Raises:
        BackupError: the backup is of a newer version, or its tables are not those of its version.
    """
    try:
        upgrade(connection, backup.manifest.revision)
    except CommandError:
        raise BackupError("The backup is of a newer version; update this program.") from None
    found = MetaData()
    found.reflect(connection)
    made = _kept(found)
    if {table.name for table in made} != set(backup.manifest.tables):
        raise BackupError("The backup does not have the tables of its version; take another one.")
    for table in reversed(made):
        connection.execute(delete(table))  # the migrations have put a first row into some
    done = 0
    for table in made:
        for count in _fill(connection, table, backup.table(table.name)):
            done += count
            advance(done, backup.manifest.rows)
    upgrade(connection)


def _fill(connection: Connection, table: Table, rows: Rows) -> Iterator[int]:
    """Insert the rows, and tell how many after each page."""
    if set(rows.columns) != set(table.c.keys()):
        raise BackupError(f"The backup's {table.name} has not the columns of its version.")
    while page := list(islice(rows.rows, _PAGE)):
        values: list[dict[str, Any]] = [dict(zip(rows.columns, row, strict=True)) for row in page]
        connection.execute(insert(table), values)
        yield len(values)
