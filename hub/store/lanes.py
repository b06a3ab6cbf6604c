"""How far each inbox queue of the broker was filled, as the database keeps it."""

from collections.abc import Mapping, Sequence
from itertools import takewhile

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    func,
    literal,
    not_,
    or_,
    select,
    text,
    union_all,
)

from hub.delivery.lanes import Owed
from hub.store import tables
from hub.store.database import Database
from hub.store.queries import acceptances_of
from schemas.acceptance import Acceptance
from schemas.encoding import unb64url
from schemas.entry import AcceptedPrivate

_delivery = tables.deliveries
_message = tables.messages
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
            .where(tables.is_waiting, _delivery.c.position <= _lane.c.published)
            .group_by(_delivery.c.recipient)
        )

        def work(connection: Connection) -> dict[str, tuple[int, int, int]]:
            waiting = {row.recipient: row.copies for row in connection.execute(outstanding)}
            # A database that went back may have got the cursor of what it has lost.
            return {
                row.recipient: (
                    min(row.published, row.last),
                    row.last,
                    waiting.get(row.recipient, 0),
                )
                for row in connection.execute(last)
            }

        return await self._database.read(work)

    async def lasts(self, codes: Sequence[str]) -> Mapping[str, int]:
        """The last position assigned to each of these recipients, as far as there is one."""
        # One look-up in the index for each; grouping would read all deliveries there ever were.
        each = [
            select(
                literal(code).label("recipient"),
                select(func.max(_delivery.c.position))
                .where(_delivery.c.recipient == code)
                .scalar_subquery()
                .label("last"),
            )
            for code in codes
        ]
        if not each:
            return {}
        rows = await self._database.read(
            lambda connection: connection.execute(union_all(*each)).all()
        )
        return {row.recipient: row.last for row in rows if row.last is not None}

    async def outstanding(self, code: str, after: int, upto: int) -> int:
        """Copies without a receipt among these positions of a recipient."""
        query = (
            select(func.count())
            .select_from(_delivery)
            .where(
                _delivery.c.recipient == code,
                _delivery.c.position > after,
                _delivery.c.position <= upto,
                tables.is_waiting,
            )
        )
        return await self._database.read(lambda connection: connection.execute(query).scalar_one())

    async def first_waiting(self, code: str) -> int | None:
        """The first position without a receipt."""
        query = select(func.min(_delivery.c.position)).where(
            _delivery.c.recipient == code, tables.is_waiting
        )
        return await self._database.read(lambda connection: connection.execute(query).scalar_one())

    async def owed(
        self, code: str, after: int, limit: int, codes: Sequence[str], now: str, again: int
    ) -> Sequence[Owed]:
        """The next messages of a recipient, those of others among them, by log index.

        See ``hub.delivery.publisher.LaneStore.owed``.
        """
        own = (
            select(func.min(_message.c.idx).label("first"), func.max(_message.c.idx).label("last"))
            .join(_delivery, _delivery.c.message_id == _message.c.id)
            .where(_delivery.c.recipient == code)
        )
        theirs = (
            select(_delivery.c.message_id)
            .where(_delivery.c.message_id == _message.c.id, _delivery.c.recipient.in_(codes))
            .exists()
        )

        def work(connection: Connection) -> list[Owed]:
            first = _start(connection, code, after, again)
            if first is None:
                return []
            # With both ends given, no plan reads the whole backlog for a page.
            page = _delivery.c.position.between(first, first + limit - 1)
            ends = connection.execute(own.where(page)).one()
            rows = connection.execute(
                select(
                    *(_message.c.id, _message.c.idx, _message.c.expires),
                    *(_message.c.envelope, _message.c.erased),
                )
                .where(_message.c.idx.between(ends.first, ends.last), theirs)
                .order_by(_message.c.idx)
                .limit(2 * limit)
            ).all()
            # What is being erased waits for the record, and with it all behind it.
            whole = [*takewhile(lambda row: row.envelope or row.erased is not None, rows)]
            return _owed(connection, whole, codes, now, again)

        return await self._database.read(work)

    async def save_lanes(self, published: Mapping[str, int]) -> None:
        """Keep how far each inbox queue was filled."""
        rows = [{"recipient": code, "published": at} for code, at in published.items()]
        if rows:
            await self._database.write(lambda connection: connection.execute(_SAVE, rows))


def _start(connection: Connection, code: str, after: int, again: int) -> int | None:
    """Where the next that is to be fed stands, or the last if none is; None if there is no other.

    Positions have no gaps but where messages were lost with a database and given up.
    """
    position = _delivery.c.position
    first = select(func.min(position)).where(_delivery.c.recipient == code)
    last = select(func.max(position)).where(_delivery.c.recipient == code)
    unsigned = _delivery.c.receipt_idx.is_(None)
    looks = [first.where(position > max(after, again), unsigned), last.where(position > after)]
    if again:
        looks.insert(0, first.where(position.between(after + 1, again), tables.is_waiting))
    return next(
        (at for look in looks if (at := connection.execute(look).scalar_one()) is not None), None
    )


def _positions(accepted: Acceptance, codes: Sequence[str]) -> dict[str, int]:
    """Where these recipients have a message, as its log entry says."""
    assert accepted.private is not None
    private = msgspec.json.decode(unb64url(accepted.private), type=AcceptedPrivate)
    return {code: private.recipients[code].position for code in codes if code in private.recipients}


def _erased(
    connection: Connection, ids: Sequence[str], codes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Where these recipients have messages of which the log says it no more."""
    query = select(_delivery.c.message_id, _delivery.c.recipient, _delivery.c.position).where(
        _delivery.c.message_id.in_(ids), _delivery.c.recipient.in_(codes)
    )
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(query) if ids else ():
        found.setdefault(row.message_id, {})[row.recipient] = row.position
    return found


def _owed(
    connection: Connection,
    rows: Sequence[Row[*tuple[object, ...]]],
    codes: Sequence[str],
    now: str,
    again: int,
) -> list[Owed]:
    acceptances = acceptances_of(connection, [row.idx for row in rows])
    received = _received(connection, [row.id for row in rows], codes, again)
    late = [row.id for row in rows if row.expires is not None and row.expires <= now]
    expired = _expired(connection, late)
    erased = _erased(connection, [row.id for row in rows if not row.envelope], codes)
    return [
        Owed(
            row.idx,
            acceptances[row.idx],
            row.envelope or None,
            erased.get(row.id) or _positions(acceptances[row.idx], codes),
            expired.get(row.id, frozenset()),
            received.get(row.id, frozenset()),
        )
        for row in rows
    ]


def _expired(connection: Connection, late: Sequence[str]) -> dict[str, frozenset[str]]:
    """Of messages past their time: who had sent no receipt by then."""
    return _recipients(connection, late, _delivery.c.state.in_(("waiting", "expired")))


def _received(
    connection: Connection, ids: Sequence[str], codes: Sequence[str], again: int
) -> dict[str, frozenset[str]]:
    """Which of these recipients sent a receipt for a message, or had it and owe none."""
    had = and_(_delivery.c.position <= again, not_(tables.is_waiting))
    done = or_(_delivery.c.receipt_idx.is_not(None), had)
    return _recipients(connection, ids, and_(_delivery.c.recipient.in_(codes), done))


def _recipients(
    connection: Connection, ids: Sequence[str], which: ColumnElement[bool]
) -> dict[str, frozenset[str]]:
    """Some of the recipients of each of these messages."""
    query = select(_delivery.c.message_id, _delivery.c.recipient).where(
        _delivery.c.message_id.in_(ids), which
    )
    found: dict[str, frozenset[str]] = {}
    for row in connection.execute(query) if ids else ():
        found[row.message_id] = found.get(row.message_id, frozenset()) | {row.recipient}
    return found
