"""The journal: every statement that changes the database, each run once for all rows of a batch."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from sqlalchemy import (
    Connection,
    Executable,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub.intake.batch import NOTHING, Batch, Loaded, Needs, Receipted, State
from hub.intake.recorder import StorageError
from hub.ledger.sequence import Appended, Sequenced, Tree
from hub.settings import StartError
from hub.store import erasures, facts, subscriptions, tables
from hub.store.database import Database
from hub.store.postgresql import copy
from schemas import entry as entries
from schemas import merkle
from schemas.directory import Directory
from schemas.encoding import format_time

T = TypeVar("T")

_entry = tables.log_entries
_checkpoint = tables.checkpoints
_delivery = tables.deliveries
_message = tables.messages
_join = tables.join_requests
_token = tables.access_tokens
_session = tables.sessions
_webhook = tables.webhook_deliveries

# In this order: a row comes after the rows that it refers to. A table stands for inserting.
STATEMENTS: Mapping[str, Executable | Table] = MappingProxyType(
    {
        "private": tables.log_private,
        "message": tables.messages,
        "delivery": _delivery,
        "answer": tables.answers,
        "receipt": tables.receipts,
        "expired": update(_delivery)
        .where(
            _delivery.c.recipient == bindparam("receiver"),
            _delivery.c.message_id == bindparam("expired_id"),
            _delivery.c.state == "waiting",
        )
        .values(state="expired"),
        "erase": update(_message)
        .where(_message.c.id == bindparam("erased_id"))
        .values(erased=bindparam("decision")),
        "copies_erased": update(_delivery)
        .where(_delivery.c.message_id == bindparam("its_id"), _delivery.c.state == "waiting")
        .values(state="erased"),
        "certificate": tables.certificates,
        "use_token": tables.used_tokens,
        # Before a new one of the same batch: approved and at once held again.
        "end_invitation": delete(_join).where(_join.c.code == bindparam("ended_code")),
        "invitation": text(
            "INSERT INTO join_requests (code, invitation, expires) "
            "VALUES (:code, :invitation, :expires) ON CONFLICT (code) DO UPDATE SET "
            "invitation = excluded.invitation, expires = excluded.expires, kid = NULL, "
            "fingerprint = NULL, statement = NULL, received = NULL"
        ),
        "join_request": update(_join)
        .where(
            _join.c.code == bindparam("request_code"),
            _join.c.invitation == bindparam("under"),
        )
        .values(
            kid=bindparam("kid"),
            fingerprint=bindparam("fingerprint"),
            statement=bindparam("statement"),
            received=bindparam("received"),
        ),
        "access_token": _token,
        "revoke_tokens": update(_token)
        .where(_token.c.account == bindparam("revoked_account"), _token.c.revoked.is_(None))
        .values(revoked=bindparam("time")),
        "session": _session,
        "seen_session": update(_session)
        .where(_session.c.hash == bindparam("seen_hash"))
        .values(seen=bindparam("at")),
        "subscription": tables.subscriptions,
        "subscription_changed": subscriptions.CHANGE,
        "webhook_reported": update(_webhook)
        .where(
            _webhook.c.subscription == bindparam("of"),
            _webhook.c.idx == bindparam("at"),
            # Sent again meanwhile, it is reported again.
            _webhook.c.state == bindparam("was"),
        )
        .values(reported=bindparam("report")),
        "end_session": delete(_session).where(_session.c.hash == bindparam("ended_hash")),
    }
)


_COPIED_FROM = 16
"""Rows."""

_LOOKS = 400
"""SELECTs in one UNION; SQLite's limit is 500."""

_COUNT_SENT = text(
    "INSERT INTO sent_counts (sender, minute, count) VALUES (:sender, :minute, :count) "
    "ON CONFLICT (sender, minute) DO UPDATE SET count = sent_counts.count + excluded.count"
)


class Journal:
    """Writes batches to a database; the adapter behind the recorder's port of this name."""

    def __init__(self, database: Database) -> None:
        """Write to this database."""
        self._database = database

    async def transact(self, work: Callable[["Transaction"], T]) -> T:
        """Do something in one transaction, committed when ``work`` returns.

        Raises:
            StorageError: the database did not take it; it was rolled back.
        """
        try:
            return await self._database.write(lambda connection: work(Transaction(connection)))
        except (DataError, IntegrityError, ProgrammingError):
            raise  # not the disk's fault but ours, about some row of the batch
        except DBAPIError as error:
            raise StorageError(str(error.orig)) from error
        except (OSError, StartError, PoolTimeout) as error:
            raise StorageError(str(error)) from error


class Transaction:
    """One writing transaction."""

    def __init__(self, connection: Connection) -> None:
        """Use this connection, whose transaction has begun."""
        self._connection = connection

    def head(self, known: int) -> tuple[int, bytes | None]:
        """Lock the head of the log until the end of the transaction.

        Gives its size, and what was signed when the log had a known size. Every writer takes this
        lock first, so that no two of them append at the same place.
        """
        signed = select(_checkpoint.c.note).where(_checkpoint.c.size == known).scalar_subquery()
        query = select(tables.log_head.c.size, signed.label("signed")).with_for_update()
        row = self._connection.execute(query).one()
        return int(row.size), row.signed

    def root(self, size: int) -> bytes:
        """The root of the first entries, of which there are as many."""
        tiles = facts.load_tiles(self._connection, merkle.tiles_for_root(size))
        return merkle.tree_root(size, tiles)

    def state(self, known: State) -> State:
        """The state as stored, when ``known`` was stored before it."""
        return load_state(self._connection, known)

    def facts(self, needs: Needs, now: datetime) -> Loaded:
        """What the jobs asked for."""
        return facts.load(self._connection, needs, now)

    def append(self, entries: Sequence[Sequenced]) -> Sequence[bytes]:
        """Write log entries, and read their bytes back."""
        rows: list[Mapping[str, object]] = [
            {
                "idx": sequenced.index,
                "type": sequenced.entry.type,
                "time": sequenced.entry.time,
                "actor": sequenced.entry.actor,
                "subject": sequenced.entry.subject,
                "entry": sequenced.raw,
            }
            for sequenced in entries
        ]
        _insert(self._connection, _entry, rows)
        first = entries[0].index
        written = select(_entry.c.entry).where(_entry.c.idx >= first).order_by(_entry.c.idx)
        return self._connection.execute(written).scalars().all()

    def write(self, batch: Batch, appended: Appended | None) -> None:
        """Write all else of a batch."""
        if appended is not None:
            _write_log(self._connection, appended)
        for name, statement in STATEMENTS.items():
            rows = batch.rows.get(name)
            if not rows:
                continue
            if isinstance(statement, Table):
                _insert(self._connection, statement, rows)
            else:
                self._connection.execute(statement, rows)
        _write_receipted(self._connection, batch.receipted)
        erasures.take_content(
            self._connection, [str(row["erased_id"]) for row in batch.rows.get("erase", ())]
        )
        if batch.sent:
            minute = int(batch.now.timestamp()) // 60
            self._connection.execute(
                _COUNT_SENT,
                [
                    {"sender": sender, "minute": minute, "count": count}
                    for sender, count in batch.sent.items()
                ],
            )


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    # For a few rows COPY takes longer: it is two round trips.
    if connection.dialect.name == "postgresql" and len(rows) >= _COPIED_FROM:
        copy(connection, table, rows)
    else:
        connection.execute(insert(table), rows)


def _write_receipted(connection: Connection, receipted: Mapping[Receipted, list[int]]) -> None:
    """Update the deliveries that receipts are for: one statement for many positions."""
    for change, positions in receipted.items():
        for start in range(0, len(positions), facts.CHUNK):
            connection.execute(
                update(_delivery)
                .where(
                    _delivery.c.recipient == change.receiver,
                    _delivery.c.position.in_(positions[start : start + facts.CHUNK]),
                )
                .values(
                    state=change.state,
                    receipt_idx=change.index,
                    receipt_time=change.time,
                    reason=change.reason,
                )
            )


def _write_log(connection: Connection, appended: Appended) -> None:
    private = [
        {"idx": sequenced.index, "salt": sequenced.salt, "private": sequenced.private}
        for sequenced in appended.entries
        if sequenced.private is not None
    ]
    if private:
        _insert(connection, tables.log_private, private)
    connection.execute(
        text(
            "INSERT INTO tiles (level, n, hashes) VALUES (:level, :n, :hashes) "
            "ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes"
        ),
        [
            {"level": level, "n": n, "hashes": hashes}
            for (level, n), hashes in appended.tiles.items()
        ],
    )
    size = appended.tree.size
    connection.execute(insert(_checkpoint), [{"size": size, "note": appended.checkpoint}])
    connection.execute(update(tables.log_head).values(size=size))


def load_state(connection: Connection, known: State = NOTHING) -> State:
    """The state that the database holds: the tree's edge, the directory, the inboxes' positions.

    Args:
        connection: where it is stored.
        known: an earlier state; of the directory only what came since then is read.

    Raises:
        ValueError: it cannot be what was recorded.
    """
    size = connection.execute(select(tables.log_head.c.size)).scalar()
    if size is None:
        raise ValueError("the head of the log is missing")
    edge = facts.load_tiles(connection, merkle.edge_tiles(size))
    directory = _load_directory(connection, known)
    tree = Tree(size, edge, merkle.tree_root(size, edge))
    return State(tree, directory, _load_positions(connection, directory))


def _load_directory(connection: Connection, known: State) -> Directory:
    """The directory, of entries that still hash to their tiles: who is who is never guessed."""
    query = (
        select(_entry.c.idx, _entry.c.entry)
        .where(_entry.c.type.in_(entries.DIRECTORY_TYPES), _entry.c.idx >= known.tree.size)
        .order_by(_entry.c.idx)
    )
    rows = connection.execute(query).all()
    places = {row.idx: divmod(row.idx, merkle.TILE_WIDTH) for row in rows}
    tiles = facts.load_tiles(connection, frozenset((0, n) for n, _ in places.values()))
    directory = known.directory
    for row in rows:
        n, place = places[row.idx]
        start = place * merkle.HASH_SIZE
        if merkle.leaf_hash(row.entry) != tiles.get((0, n), b"")[start : start + merkle.HASH_SIZE]:
            raise ValueError(f"entry {row.idx} is not the one that was recorded")
        directory = directory.apply(row.idx, entries.decode(row.entry))
    return directory


def _load_positions(connection: Connection, directory: Directory) -> dict[str, int]:
    # For each a look at the end of the index; grouped, all of it would be read.
    looks = [
        select(literal(code).label("code"), func.max(_delivery.c.position).label("last")).where(
            _delivery.c.recipient == code
        )
        for code in directory.participants
    ]
    positions: dict[str, int] = {}
    for start in range(0, len(looks), _LOOKS):
        for row in connection.execute(union_all(*looks[start : start + _LOOKS])):
            if row.last is not None:
                positions[row.code] = row.last
    return positions


async def forget(database: Database, now: datetime) -> None:
    """Drop what has no use any more: ids of expired tokens, counts long past, old sessions."""
    seconds = int(now.timestamp())
    tokens, counts = tables.used_tokens, tables.sent_counts
    yesterday = format_time(now - timedelta(days=1))

    def work(connection: Connection) -> None:
        connection.execute(delete(tokens).where(tokens.c.expires < seconds))
        connection.execute(delete(counts).where(counts.c.minute < seconds // 60 - 120))
        connection.execute(delete(_session).where(_session.c.created < yesterday))

    await database.write(work)
