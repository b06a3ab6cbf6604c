"""Webhook subscriptions as rows of their table."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, select, update

from hub.delivery.schedule import Endpoint, EndpointState
from hub.delivery.subscription import Filter, Generation, Subscription
from hub.store import tables
from schemas.encoding import format_time, parse_time

_row = tables.subscriptions

CHANGE = (
    update(_row)
    .where(_row.c.id == bindparam("changed_id"))
    .values(
        {
            column: bindparam(column)
            for column in (
                *("owner", "url", "filter", "ordered", "secrets"),
                *("state", "failing_since", "warned", "start", "ended"),
            )
        }
    )
)
"""For the journal: everything of a row that can change."""

_STAND = (
    update(_row)
    .where(
        _row.c.id == bindparam("its_id"),
        # The recorder may have changed it since it was read.
        _row.c.state == bindparam("was"),
        _row.c.url == bindparam("its_url"),
    )
    .values({name: bindparam(name) for name in ("state", "failing_since", "warned")})
)


def find(connection: Connection, *conditions: ColumnElement[bool]) -> list[Subscription]:
    """The subscriptions that meet all conditions, the oldest first."""
    query = select(_row).where(*conditions).order_by(_row.c.id)
    return [_subscription(row) for row in connection.execute(query)]


def by_id(connection: Connection, ids: Iterable[str]) -> dict[str, Subscription]:
    """These subscriptions, ended ones too, as far as there are such."""
    wanted = sorted(ids)
    found = find(connection, _row.c.id.in_(wanted)) if wanted else []
    return {each.id: each for each in found}


def owned(connection: Connection, owners: Iterable[str]) -> dict[str, int]:
    """How many subscriptions these participants have."""
    wanted = sorted(owners)
    if not wanted:
        return {}
    query = (
        select(_row.c.owner, func.count().label("owned"))
        .where(_row.c.owner.in_(wanted), _row.c.ended.is_(None))
        .group_by(_row.c.owner)
    )
    return {row.owner: row.owned for row in connection.execute(query)}


def stand(connection: Connection, changed: Sequence[tuple[Subscription, Subscription]]) -> None:
    """Write how endpoints stand, each as it was and as it is."""
    rows = [
        {
            "its_id": each.id,
            "was": before.endpoint.state.value,
            "its_url": before.url,
            "state": each.endpoint.state.value,
            "failing_since": each.endpoint.failing_since
            and format_time(each.endpoint.failing_since),
            "warned": each.endpoint.warned and format_time(each.endpoint.warned),
        }
        for before, each in changed
    ]
    if rows:
        connection.execute(_STAND, rows)


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        row.id,
        row.owner,
        row.url,
        msgspec.json.decode(row.filter, type=Filter),
        row.ordered,
        msgspec.json.decode(row.secrets, type=tuple[Generation, ...]),
        Endpoint(
            EndpointState(row.state),
            row.failing_since and parse_time(row.failing_since),
            row.warned and parse_time(row.warned),
        ),
        row.start,
        row.created,
        row.ended,
    )
