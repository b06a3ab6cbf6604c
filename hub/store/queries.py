"""The answers to ``hub.ledger.queries``: every SELECT of the hub outside the recording loop."""

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, takewhile
from typing import Any

from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    Select,
    and_,
    func,
    or_,
    select,
    text,
    union,
)

from hub.intake.batch import JoinRequest, State
from hub.ledger import sequence
from hub.ledger.queries import (
    MAX_PAGE,
    AccessToken,
    CertificateRow,
    Counted,
    Counts,
    DeliveryRow,
    Due,
    Event,
    EventFilter,
    Flow,
    InboxItem,
    LogRow,
    MessageRow,
    News,
    Page,
    Period,
    Session,
)
from hub.ledger.report import Covered, Refusal, SentMessage
from hub.ledger.report import Period as Days
from hub.ledger.retention import Cutoff
from hub.ledger.sequence import Sequenced
from hub.store import counts, erasures, facts, journal, report, search, tables
from hub.store.database import Database
from schemas import entry as entries
from schemas import merkle
from schemas.acceptance import Acceptance
from schemas.refusal import Refused

_entry = tables.log_entries
_private = tables.log_private
_message = tables.messages
_delivery = tables.deliveries

_LAST_CHECKPOINT = (
    select(tables.checkpoints.c.note).order_by(tables.checkpoints.c.size.desc()).limit(1)
)

_EXPIRED = "expired"
_ERASED = "erased"

_ROUNDS = 2
"""Rounds of one search: at worst it takes some hundredths of a second."""

_MISSING = 1_000


class Queries:
    """Reads a database; the adapter behind the port of this name."""

    def __init__(self, database: Database) -> None:
        """Read this database."""
        self._database = database

    async def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return await self._database.read(lambda connection: connection.execute(query).all())

    async def head(self) -> tuple[State, bytes | None]:
        """The state as stored, and the last signed checkpoint, of one moment.

        Raises:
            ValueError: it cannot be what was recorded.
        """

        def work(connection: Connection) -> tuple[State, bytes | None]:
            state = journal.load_state(connection)
            count = connection.execute(select(func.count()).select_from(_entry)).scalar_one()
            if count != state.tree.size:
                raise ValueError(f"it has {count} entries where {state.tree.size} were recorded")
            return state, connection.execute(_LAST_CHECKPOINT).scalar_one_or_none()

        return await self._database.read(work)

    async def news(self, start: int) -> News:
        """What the entries from ``start`` on brought."""
        receipt = tables.receipts.c
        recipients = (
            select(_delivery.c.recipient)
            .join(_message, _message.c.id == _delivery.c.message_id)
            .where(_message.c.idx >= start)
        )
        senders = select(receipt.sender).where(receipt.idx >= start)
        changes = select(_entry.c.idx).where(
            _entry.c.type.in_(entries.DIRECTORY_TYPES), _entry.c.idx >= start
        )
        erasures = select(_message.c.id).where(_message.c.erased >= start)

        def work(connection: Connection) -> News:
            size: int = connection.execute(select(tables.log_head.c.size)).scalar_one()
            if size == start:
                return News(size)
            touched = frozenset(connection.execute(union(recipients, senders)).scalars())
            changed = connection.execute(changes.limit(1)).first() is not None
            erased = frozenset(connection.execute(erasures).scalars())
            return News(size, touched, changed, erased)

        return await self._database.read(work)

    async def inbox(
        self, code: str, after: int, limit: int, now: str, below: int | None = None
    ) -> Sequence[InboxItem]:
        """A page of an inbox, in order of position; only of entries below one."""
        query = (
            select(
                _delivery.c.position,
                _delivery.c.state,
                _message.c.idx,
                _message.c.expires,
                _message.c.erased,
                func.length(_message.c.envelope).label("size"),
            )
            .join(_message, _message.c.id == _delivery.c.message_id)
            .where(_delivery.c.recipient == code, _delivery.c.position > after)
            .order_by(_delivery.c.position)
            .limit(limit)
        )
        if below is not None:
            query = query.where(_message.c.idx < below)

        def work(connection: Connection) -> list[InboxItem]:
            rows = connection.execute(query).all()
            # What is being erased waits for the record; without it, nobody believes a tombstone.
            told = [
                (row, _tombstone(row, now))
                for row in takewhile(lambda row: row.size or row.erased is not None, rows)
            ]
            # The envelopes only once it is known which: all of the rows may have 25 MiB of them.
            told = told[: _room(0 if tombstone else row.size for row, tombstone in told)]
            whole = [row.idx for row, tombstone in told if not tombstone]
            envelopes = _envelopes(connection, whole)
            acceptances = acceptances_of(connection, [row.idx for row, _ in told])
            return [
                InboxItem(row.position, acceptances[row.idx], envelopes.get(row.idx), tombstone)
                for row, tombstone in told
            ]

        return await self._database.read(work)

    async def receipts(
        self, sender: str, after: int, limit: int, below: int | None = None
    ) -> Sequence[tuple[int, Acceptance]]:
        """A page of the receipts for a sender's messages, by log index; only those below one."""
        table = tables.receipts.c
        query = (
            select(table.idx, func.coalesce(func.length(_private.c.private), 0).label("size"))
            .outerjoin(_private, _private.c.idx == table.idx)
            .where(table.sender == sender, table.idx > after)
            .order_by(table.idx)
            .limit(limit)
        )
        if below is not None:
            query = query.where(table.idx < below)

        def work(connection: Connection) -> list[tuple[int, Acceptance]]:
            rows = connection.execute(query).all()
            indices = [row.idx for row in rows[: _room(row.size for row in rows)]]
            acceptances = acceptances_of(connection, indices)
            return [(index, acceptances[index]) for index in indices]

        return await self._database.read(work)

    async def acceptance(self, index: int) -> Acceptance | None:
        """The acceptance of one entry, under the checkpoint of its commit, or its erasure's."""
        found = await self._database.read(lambda connection: acceptances_of(connection, [index]))
        return found.get(index)

    async def message(self, message_id: str) -> MessageRow | None:
        """One message."""
        query = select(_message).where(_message.c.id == message_id)
        row = next(iter(await self._all(query)), None)
        if row is None:
            return None
        return MessageRow(row.id, row.idx, row.sender, row.kind, row.marking, row.envelope or None)

    async def deliveries(self, message_id: str) -> Sequence[DeliveryRow]:
        """What became of every copy of a message."""
        query = (
            select(_delivery)
            .where(_delivery.c.message_id == message_id)
            .order_by(_delivery.c.recipient)
        )
        rows = await self._all(query)
        return [
            DeliveryRow(
                row.recipient,
                row.position,
                row.state,
                row.receipt_idx,
                row.receipt_time,
                row.reason,
            )
            for row in rows
        ]

    async def search(self, wanted: EventFilter) -> Page:
        """Log entries that match, by index; takes a bounded time, and may not get to the end."""
        return await self._searched(wanted, _ROUNDS)

    async def events(self, wanted: EventFilter) -> Sequence[Event]:
        """Log entries that match, by index, as many as there are up to the limit."""
        return (await self._searched(wanted, None)).events

    async def _searched(self, wanted: EventFilter, rounds: int | None) -> Page:
        """Search round after round, each a transaction of its own: the log only grows."""
        place = "after" if wanted.before is None else "before"
        events: list[Event] = []
        done = 0
        while True:
            page = await self._database.read(partial(search.page, wanted=wanted))
            events += page.events
            done += 1
            left = wanted.limit - len(page.events)
            if page.next is None or left == 0 or done == rounds:
                return Page(events, page.next)
            wanted = replace(wanted, limit=left, **{place: page.next})

    async def counts(self, wanted: EventFilter, of: Counted, by: Period) -> Counts:
        """How many entries that match have each value of ``of``, by period; places do not count.

        Raises:
            Refused: ``bad-request``; too many entries would have to be looked at.
        """
        wanted = replace(wanted, after=-1, before=None)
        if counts.by_days(wanted):
            return await self._database.read(partial(counts.of_days, wanted=wanted, of=of, by=by))
        total = Counter[tuple[str, str]]()
        for _ in range(counts.MAX_LOOKED_AT // counts.BUDGET):
            part = await self._database.read(partial(counts.of_part, wanted=wanted, of=of, by=by))
            total.update(part.counts)
            if part.stop is None:
                return counts.made(total, part.indexed, part.size)
            wanted = replace(wanted, after=part.stop)
        detail = (
            f"More than {counts.MAX_LOOKED_AT:,} entries would have to be looked at; ask for less "
            "with since and until, or by a sender, a recipient or a kind."
        )
        raise Refused("bad-request", detail)

    async def covered(self, at: int | None) -> Covered | None:
        """The newest checkpoint that the search index has caught up with, or that of this size."""
        return await self._database.read(partial(report.covered, at=at))

    async def sent(self, period: Days, covered: Covered, after: int) -> Sequence[SentMessage]:
        """The next messages accepted in a period, after this entry; none at its end."""
        return await self._database.read(
            partial(report.messages, period=period, covered=covered, after=after)
        )

    async def refused(self, period: Days, covered: Covered, after: int) -> Sequence[Refusal]:
        """The next refusals of messages in a period, after this entry; none at its end."""
        return await self._database.read(
            partial(report.refusals, period=period, covered=covered, after=after)
        )

    async def events_of_message(self, message_id: str) -> Sequence[Event]:
        """Every entry about one message, receipts included."""
        receipted = (
            select(_delivery.c.receipt_idx)
            .where(_delivery.c.message_id == message_id, _delivery.c.receipt_idx.is_not(None))
            .scalar_subquery()
        )
        query = (
            select(_entry.c.idx, _entry.c.entry, _private.c.private)
            .outerjoin(_private, _private.c.idx == _entry.c.idx)
            .where(or_(_entry.c.subject == message_id, _entry.c.idx.in_(receipted)))
            .order_by(_entry.c.idx)
        )
        rows = await self._all(query)
        return [Event(row.idx, row.entry, row.private) for row in rows]

    async def checkpoint(self) -> bytes | None:
        """The last signed checkpoint; None for an empty log."""
        rows = await self._all(_LAST_CHECKPOINT)
        return rows[0].note if rows else None

    async def tile(self, level: int, n: int) -> bytes | None:
        """The stored hashes of one tile."""
        return (await self.tiles(frozenset({(level, n)}))).get((level, n))

    async def tiles(self, wanted: frozenset[merkle.Tile]) -> Mapping[merkle.Tile, bytes]:
        """Several tiles at once."""
        return await self._database.read(lambda connection: facts.load_tiles(connection, wanted))

    async def entries(self, start: int, end: int) -> Sequence[bytes]:
        """The bytes of the entries ``start`` to ``end`` (exclusive)."""
        query = (
            select(_entry.c.entry)
            .where(_entry.c.idx >= start, _entry.c.idx < end)
            .order_by(_entry.c.idx)
        )
        return [row.entry for row in await self._all(query)]

    async def rows(self, start: int, end: int) -> Sequence[LogRow]:
        """The rows of the entries ``start`` to ``end`` (exclusive), as many as there are."""
        query = select(_entry).where(_entry.c.idx >= start, _entry.c.idx < end)
        return [
            LogRow(row.idx, row.type, row.time, row.actor, row.subject, row.entry)
            for row in await self._all(query.order_by(_entry.c.idx))
        ]

    async def private(self, start: int, end: int) -> Mapping[int, tuple[bytes, bytes]]:
        """Salt and private part of the entries ``start`` to ``end`` that still have them."""
        query = select(_private).where(_private.c.idx >= start, _private.c.idx < end)
        rows = await self._all(query)
        return {row.idx: (row.salt, row.private) for row in rows}

    async def missing(self, after: int = -1) -> Mapping[int, int | None]:
        """Entries after this one of messages and receipts that have no rows here, at most 1,000.

        With each the later entry that erased its message, if one did.
        """
        query = (
            select(_entry.c.idx, _erased_by().label("erased"))
            .where(
                _entry.c.idx > after,
                or_(
                    _lacks(entries.MESSAGE_ACCEPTED, _message.c.idx),
                    _lacks(entries.RECEIPTS_RECORDED, tables.receipts.c.idx),
                ),
            )
            .order_by(_entry.c.idx)
            .limit(_MISSING)
        )
        return {row.idx: row.erased for row in await self._all(query)}

    async def whole(self, given_up: frozenset[int]) -> int:
        """How many entries from the first one on miss nothing, but for what was given up."""
        # Each by itself, so that no more is read than the index by type; of one more than were
        # given up, one was not.
        lacking = [
            select(_entry.c.idx).where(lacks).order_by(_entry.c.idx).limit(len(given_up) + 1)
            for lacks in (
                _lacks(entries.MESSAGE_ACCEPTED, _message.c.idx),
                _lacks(entries.RECEIPTS_RECORDED, tables.receipts.c.idx),
            )
        ]

        def work(connection: Connection) -> int:
            size: int = connection.execute(select(tables.log_head.c.size)).scalar_one()
            found = (index for query in lacking for index in connection.execute(query).scalars())
            return min((index for index in found if index not in given_up), default=size)

        return await self._database.read(work)

    async def join_request(self, code: str) -> JoinRequest | None:
        """The open invitation of a code, with the request made with it."""
        table = tables.join_requests
        row = next(iter(await self._all(select(table).where(table.c.code == code))), None)
        if row is None:
            return None
        return JoinRequest(
            row.invitation, row.expires, row.kid, row.fingerprint, row.statement, row.received
        )

    async def access_token(self, digest: str) -> AccessToken | None:
        """The access token with this hash, revoked or not."""
        found = await self._access_tokens(tables.access_tokens.c.hash == digest)
        return found[0] if found else None

    async def access_tokens(self) -> Sequence[AccessToken]:
        """All access tokens, without their hashes."""
        return await self._access_tokens()

    async def _access_tokens(self, *conditions: ColumnElement[bool]) -> Sequence[AccessToken]:
        table = tables.access_tokens
        query = select(table).where(*conditions).order_by(table.c.account, table.c.created)
        rows = await self._all(query)
        return [
            AccessToken(row.account, tuple(row.scopes.split()), row.created, row.revoked)
            for row in rows
        ]

    async def session(self, digest: str) -> Session | None:
        """The session with this hash; None also where its token was revoked."""
        session, token = tables.sessions.c, tables.access_tokens.c
        query = (
            select(session.kid, token.account, token.scopes, session.created, session.seen)
            .join(tables.access_tokens, token.hash == session.token, isouter=True)
            .where(session.hash == digest, token.revoked.is_(None))
        )
        row = next(iter(await self._all(query)), None)
        if row is None:
            return None
        scopes = tuple((row.scopes or "").split())
        return Session(row.account, scopes, row.created, row.seen, row.kid)

    async def certificates(self) -> Sequence[CertificateRow]:
        """The newest certificate of each participant."""
        table = tables.certificates
        rows = await self._all(select(table).order_by(table.c.code, table.c.not_after))
        newest = {
            row.code: CertificateRow(row.serial, row.code, row.not_after, row.pem) for row in rows
        }
        return list(newest.values())

    async def due_to_expire(self, now: str) -> Mapping[str, tuple[str, ...]]:
        """Messages whose time is over, with the recipients that do not have them."""
        query = (
            select(_delivery.c.message_id, _delivery.c.recipient)
            .where(_delivery.c.expires <= now, tables.is_waiting)
            .order_by(_delivery.c.message_id, _delivery.c.recipient)
            .limit(1_000)
        )
        due: dict[str, tuple[str, ...]] = {}
        for row in await self._all(query):
            due[row.message_id] = (*due.get(row.message_id, ()), row.recipient)
        return due

    async def due_to_erase(self, cutoffs: Sequence[Cutoff], limit: int) -> Sequence[Due]:
        """Messages that are due, the oldest of each kind and marking first."""

        def work(connection: Connection) -> list[Due]:
            found: list[Due] = []
            for cutoff in cutoffs:
                rows = connection.execute(_due(cutoff, limit - len(found)))
                found += (Due(r.id, r.kind, r.marking, r.accepted, cutoff.rule) for r in rows)
            return found

        return await self._database.read(work)

    async def undecided(self, limit: int) -> Sequence[str]:
        """Messages whose content is gone though no entry says so, as after a restore."""
        return await self._database.read(lambda connection: erasures.undecided(connection, limit))

    async def waiting(self) -> Mapping[str, int]:
        """Copies without a receipt, for each recipient."""
        query = (
            select(_delivery.c.recipient, func.count().label("copies"))
            .where(tables.is_waiting)
            .group_by(_delivery.c.recipient)
        )
        return {row.recipient: row.copies for row in await self._all(query)}

    async def oldest_waiting(self) -> Mapping[str, str]:
        """When the oldest copy without a receipt was accepted, for each recipient that has one."""
        first = (
            select(_delivery.c.recipient, func.min(_delivery.c.position).label("position"))
            .where(tables.is_waiting)
            .group_by(_delivery.c.recipient)
            .subquery()
        )
        at_first = and_(
            _delivery.c.recipient == first.c.recipient, _delivery.c.position == first.c.position
        )
        query = (
            select(_delivery.c.recipient, _message.c.accepted)
            .join(first, at_first)
            .join(_message, _message.c.id == _delivery.c.message_id)
        )
        return {row.recipient: row.accepted for row in await self._all(query)}

    async def flows(self, senders: Sequence[str], since: str) -> Sequence[Flow]:
        """Who sent how much to whom since a time, the largest first.

        With the senders named, the index over sender and time finds the messages.
        """
        copies = func.count().label("copies")
        query = (
            select(_message.c.sender, _delivery.c.recipient, copies)
            .join(_delivery, _delivery.c.message_id == _message.c.id)
            .where(_message.c.sender.in_(senders), _message.c.accepted >= since)
            .group_by(_message.c.sender, _delivery.c.recipient)
            .order_by(copies.desc(), _message.c.sender, _delivery.c.recipient)
        )
        return [Flow(row.sender, row.recipient, row.copies) for row in await self._all(query)]

    async def tally(self, types: Sequence[str], since: str) -> Mapping[str, int]:
        """How many entries of these types were recorded since a time; without those of none."""
        query = (
            select(_entry.c.type, func.count().label("entries"))
            .where(_entry.c.type.in_(types), _entry.c.time >= since)
            .group_by(_entry.c.type)
        )
        return {row.type: row.entries for row in await self._all(query)}


def _due(cutoff: Cutoff, limit: int) -> Select[Any]:
    return (
        select(_message.c.id, _message.c.kind, _message.c.marking, _message.c.accepted)
        .where(
            _message.c.kind == cutoff.kind,
            _message.c.marking == cutoff.marking,
            _message.c.accepted < cutoff.before,
            _message.c.erased.is_(None),
            _last_word_on_holding().is_distinct_from(entries.MESSAGE_HELD),
        )
        .order_by(_message.c.accepted)
        .limit(limit)
    )


def _last_word_on_holding() -> ScalarSelect[str]:
    """What the newest entry about holding a message says; nothing where there is none."""
    about = (_entry.c.subject == _message.c.id, _entry.c.type.in_(tables.HOLDING))
    newest = select(_entry.c.type).where(*about).order_by(_entry.c.idx.desc()).limit(1)
    return newest.correlate(_message).scalar_subquery()


def _room(sizes: Iterable[int]) -> int:
    """How many of the first of these a page has room for: one at least, whatever its size."""
    return max(1, bisect.bisect_right([*accumulate(sizes)], MAX_PAGE))


def _envelopes(connection: Connection, indices: Sequence[int]) -> dict[int, bytes]:
    """The envelopes of the messages of entries."""
    query = select(_message.c.idx, _message.c.envelope).where(_message.c.idx.in_(indices))
    return {row.idx: row.envelope for row in connection.execute(query)}


def _tombstone(row: Row[*tuple[Any, ...]], now: str) -> str | None:
    """What stands at a position instead of the message."""
    if not row.size:
        return _ERASED
    if row.state == _EXPIRED:
        return _EXPIRED
    late = row.expires is not None and row.expires <= now
    return _EXPIRED if row.state == "waiting" and late else None


def acceptances_of(connection: Connection, indices: Sequence[int]) -> dict[int, Acceptance]:
    """The acceptances of entries, each under the checkpoint of the commit that wrote it.

    Those of erased messages have no private part, and are under the checkpoint of the erasure's
    commit: it covers the decision. Until that is recorded they are under their own.
    """
    if not indices:
        return {}
    query = (
        select(
            *(_entry.c.idx, _entry.c.entry, _private.c.private, _private.c.salt),
            func.coalesce(_message.c.erased, _entry.c.idx).label("covered"),
        )
        .outerjoin(_private, _private.c.idx == _entry.c.idx)
        .outerjoin(_message, _message.c.idx == _entry.c.idx)
        .where(
            _entry.c.idx.in_(indices), or_(_private.c.idx.is_not(None), _message.c.id.is_not(None))
        )
    )
    rows = {row.idx: row for row in connection.execute(query)}
    by_checkpoint: dict[tuple[int, bytes], list[int]] = {}
    for index, head in _heads(connection, {index: row.covered for index, row in rows.items()}):
        by_checkpoint.setdefault(head, []).append(index)
    packed: dict[int, Acceptance] = {}
    for (size, note), members in by_checkpoint.items():
        members.sort()
        known = facts.load_tiles(connection, merkle.tiles_for_inclusions(members, size))
        proofs = merkle.inclusion_proofs(members, size, known)
        for index, hashes in zip(members, proofs, strict=True):
            row = rows[index]
            written = Sequenced(index, entries.decode(row.entry), row.entry, row.private, row.salt)
            packed[index] = sequence.pack(written, hashes, note)
    return packed


def _heads(
    connection: Connection, covered: Mapping[int, int]
) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """For each index the first signed checkpoint that covers what it is mapped to."""
    own = sorted(index for index, at in covered.items() if at == index)
    signed = _checkpoints(connection, own[0], own[-1]) if own else []
    sizes = [size for size, _ in signed]
    for index in own:
        yield index, signed[bisect.bisect_right(sizes, index)]
    # Erased long after they were accepted: one look-up each is less than all that lies between.
    for index, at in covered.items():
        if at != index:
            yield index, _checkpoints(connection, at, at)[0]


def _checkpoints(connection: Connection, first: int, last: int) -> list[tuple[int, bytes]]:
    """The signed checkpoints from the first that covers ``first`` to the first beyond ``last``."""
    rows = connection.execute(
        text(
            "SELECT size, note FROM checkpoints WHERE size > :first AND size <= "
            "(SELECT min(size) FROM checkpoints WHERE size > :last) ORDER BY size"
        ),
        {"first": first, "last": last},
    )
    return [(row.size, row.note) for row in rows]


def _erased_by() -> ScalarSelect[int]:
    """The entry that says that the message of this entry was erased."""
    later = _entry.alias()
    decision = (later.c.subject == _entry.c.subject, later.c.type == entries.MESSAGE_ERASED)
    return select(func.max(later.c.idx)).where(*decision).scalar_subquery()


def _lacks(kind: str, index: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether an entry of a type has no row in the table that such entries have theirs in."""
    return and_(_entry.c.type == kind, ~select(index).where(index == _entry.c.idx).exists())
