"""A database that goes back to what it was, as after a failover to a standby that was behind."""

from sqlalchemy import insert

from hub.store import tables


async def rows(database):
    """Every row of every table, as it can be put back."""

    def work(connection):
        return {
            table: [row._asdict() for row in connection.execute(table.select()).all()]
            for table in tables.metadata.sorted_tables
        }

    return await database.read(work)


async def put_back(database, kept):
    """Make the database what it was."""

    def work(connection):
        for table in reversed(kept):
            connection.execute(table.delete())
        for table, stored in kept.items():
            if stored:
                connection.execute(insert(table), stored)

    await database.write(work)
