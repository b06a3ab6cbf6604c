"""How far each inbox queue of the broker was filled, as the database keeps it."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select, text

from hub.store import tables
from hub.store.database import Database

_delivery = tables.deliveries
_lane = tables.lanes


_SAVE = text(
    "INSERT INTO lanes (recipient, published) VALUES (:recipient, :published) "
    "ON CONFLICT (recipient) DO UPDATE SET published = excluded.published"
)


class StoredLanes:
    """The adapter behind the publisher's port ``LaneStore``."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database."""
        self._database = database

    async def lanes(self) -> Mapping[str, tuple[int, int, int]]:
        """For each recipient: published, last position, copies published and not receipted."""
        published = func.coalesce(_lane.c.published, 0)
        last = (
            select(
                _delivery.c.recipient,
                published.label("published"),
                func.max(_delivery.c.position).label("last"),
            )
            .outerjoin(_lane, _lane.c.recipient == _delivery.c.recipient)
            .group_by(_delivery.c.recipient, _lane.c.published)
        )
        outstanding = (
            select(_delivery.c.recipient, func.count().label("copies"))
            .join(_lane, _lane.c.recipient == _delivery.c.recipient)
            .where(_delivery.c.state == "waiting", _delivery.c.position <= _lane.c.published)
            .group_by(_delivery.c.recipient)
        )

        def work(connection: Connection) -> dict[str, tuple[int, int, int]]:
            waiting = {row.recipient: row.copies for row in connection.execute(outstanding)}
            return {
                row.recipient: (row.published, row.last, waiting.get(row.recipient, 0))
                for row in connection.execute(last)
            }

        return await self._database.read(work)

    async def first_waiting(self, code: str) -> int | None:
        """The first position without a receipt."""
        query = select(func.min(_delivery.c.position)).where(
            _delivery.c.recipient == code, _delivery.c.state == "waiting"
        )
        return await self._database.read(lambda connection: connection.execute(query).scalar_one())

    async def save_lanes(self, published: Mapping[str, int]) -> None:
        """Keep how far each inbox queue was filled."""
        rows = [{"recipient": code, "published": at} for code, at in published.items()]
        if rows:
            await self._database.write(lambda connection: connection.execute(_SAVE, rows))
