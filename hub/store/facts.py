"""Reading what the jobs of a batch have to know: a few queries for any number of jobs."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, func, select, tuple_

from hub.intake.admission import Known, Notice, Opened
from hub.intake.batch import Delivery, JoinRequest, Loaded, Needs
from hub.intake.submission import notice_of
from hub.store import subscriptions, tables
from schemas import entry as entries
from schemas import merkle, message, signature
from schemas.joint_action import Answer

CHUNK = 900
"""Bound variables in one statement; SQLite's oldest limit is 999."""

T = TypeVar("T")


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(sorted(values))  # type: ignore[type-var]
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def load(connection: Connection, needs: Needs, now: datetime) -> Loaded:
    """Read all facts that the jobs asked for."""
    return Loaded(
        messages=_messages(connection, needs.messages),
        notices={
            notice_id: notice
            for notice_id in sorted(needs.notices)
            if (notice := _notice(connection, notice_id)) is not None
        },
        tokens=_tokens(connection, needs.tokens),
        sent=_sent(connection, needs.senders, now),
        deliveries=_deliveries(connection, needs.deliveries),
        joins=_joins(connection, needs.joins),
        copies=_copies(connection, needs.copies),
        holds=_holds(connection, needs.holds),
        subscriptions=subscriptions.by_id(connection, needs.subscriptions),
        owned=subscriptions.owned(connection, needs.owners),
    )


def _messages(connection: Connection, ids: set[str]) -> dict[str, Known]:
    table = tables.messages.c
    found: dict[str, Known] = {}
    for chunk in _chunks(ids):
        query = select(table.id, table.idx, table.sender, table.payload_digest, table.erased).where(
            table.id.in_(chunk)
        )
        for row in connection.execute(query):
            found[row.id] = Known(row.idx, row.sender, row.payload_digest or None, row.erased)
    return found


def _copies(connection: Connection, ids: set[str]) -> dict[str, dict[str, str]]:
    table = tables.deliveries.c
    found: dict[str, dict[str, str]] = {}
    for chunk in _chunks(ids):
        query = (
            select(table.message_id, table.recipient, table.state)
            .where(table.message_id.in_(chunk))
            .order_by(table.recipient)
        )
        for row in connection.execute(query):
            found.setdefault(row.message_id, {})[row.recipient] = row.state
    return found


def _holds(connection: Connection, ids: set[str]) -> dict[str, int]:
    table = tables.log_entries.c
    found: dict[str, int] = {}
    for chunk in _chunks(ids):
        query = (
            select(table.subject, table.idx, table.type)
            .where(table.subject.in_(chunk), table.type.in_(tables.HOLDING))
            .order_by(table.idx)
        )
        for row in connection.execute(query):
            found[row.subject] = row.idx
            if row.type == entries.MESSAGE_RELEASED:
                del found[row.subject]
    return found


def _notice(connection: Connection, notice_id: str) -> Notice | None:
    table = tables.messages.c
    query = select(table.envelope).where(
        table.id == notice_id, table.kind.startswith("joint_action_notice.")
    )
    raw = (connection.execute(query)).scalar_one_or_none()
    if not raw:  # or it was erased
        return None
    jws = signature.parse(raw, signature.MESSAGE_TYPE)
    opened = Opened(raw, jws, message.parse(jws.payload))
    delivery = tables.deliveries.c
    recipients = connection.execute(
        select(delivery.recipient).where(delivery.message_id == notice_id)
    )
    notice = notice_of(opened, frozenset(row.recipient for row in recipients))
    answers = connection.execute(select(tables.answers).where(tables.answers.c.notice == notice_id))
    return Notice(
        notice.sender,
        notice.payload,
        notice.audience,
        notice.content,
        notice.recipients,
        [Answer(a.idx, a.time, a.member, a.answer, a.message_id) for a in answers],
    )


def _tokens(connection: Connection, tokens: set[str]) -> set[str]:
    found: set[str] = set()
    for chunk in _chunks(tokens):
        query = select(tables.used_tokens.c.jti).where(tables.used_tokens.c.jti.in_(chunk))
        found.update(row.jti for row in connection.execute(query))
    return found


def _sent(connection: Connection, senders: set[str], now: datetime) -> dict[str, int]:
    table = tables.sent_counts.c
    an_hour_ago = int(now.timestamp()) // 60 - 60
    query = (
        select(table.sender, func.sum(table.count).label("total"))
        .where(table.sender.in_(sorted(senders)), table.minute > an_hour_ago)
        .group_by(table.sender)
    )
    if not senders:
        return {}
    return {row.sender: int(row.total) for row in connection.execute(query)}


def _deliveries(
    connection: Connection, wanted: dict[str, set[int]]
) -> dict[tuple[str, int], Delivery]:
    delivery, sent = tables.deliveries.c, tables.messages.c
    rows: list[Row[*tuple[Any, ...]]] = []
    for recipient, positions in wanted.items():
        for chunk in _chunks(positions):
            query = (
                select(
                    delivery.recipient,
                    delivery.position,
                    delivery.message_id,
                    delivery.state,
                    delivery.receipt_idx,
                    sent.sender,
                    sent.accepted,
                    sent.idx,
                )
                .join(tables.messages, sent.id == delivery.message_id)
                .where(delivery.recipient == recipient, delivery.position.in_(chunk))
            )
            rows += connection.execute(query).all()
    # Of a few hundred entries the tiles are read much faster than the entries.
    leaves = load_tiles(connection, frozenset((0, row.idx // merkle.TILE_WIDTH) for row in rows))
    return {
        (row.recipient, row.position): Delivery(
            row.message_id,
            row.sender,
            row.accepted,
            _leaf(leaves, row.idx),
            row.state,
            row.receipt_idx,
        )
        for row in rows
    }


def _leaf(leaves: Mapping[merkle.Tile, bytes], index: int) -> bytes:
    n, place = divmod(index, merkle.TILE_WIDTH)
    start = place * merkle.HASH_SIZE
    return leaves[0, n][start : start + merkle.HASH_SIZE]


def load_tiles(connection: Connection, wanted: frozenset[merkle.Tile]) -> dict[merkle.Tile, bytes]:
    """The stored tiles of those that are wanted."""
    table = tables.tiles.c
    found: dict[merkle.Tile, bytes] = {}
    ordered = sorted(wanted)
    for start in range(0, len(ordered), 400):  # two bound variables each; SQLite's limit was 999
        query = select(table.level, table.n, table.hashes).where(
            tuple_(table.level, table.n).in_(ordered[start : start + 400])
        )
        for row in connection.execute(query):
            found[row.level, row.n] = row.hashes
    return found


def _joins(connection: Connection, codes: set[str]) -> dict[str, JoinRequest]:
    table = tables.join_requests
    if not codes:
        return {}
    rows = connection.execute(select(table).where(table.c.code.in_(sorted(codes))))
    return {
        row.code: JoinRequest(
            row.invitation, row.expires, row.kid, row.fingerprint, row.statement, row.received
        )
        for row in rows
    }
