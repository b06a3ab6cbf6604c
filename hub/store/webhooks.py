"""What is owed to webhook subscriptions, as the database keeps it."""

import asyncio
from collections.abc import Mapping, Sequence, Set
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

import msgspec
import structlog
from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    Connection,
    TextClause,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    update,
)

from hub.delivery import schedule
from hub.delivery.deliveries import (
    EXCERPT,
    Attempt,
    Claimed,
    Dead,
    Looked,
    Match,
    Outcome,
    Result,
    Sent,
    Standing,
    Told,
    Turn,
)
from hub.delivery.schedule import DeliveryState
from hub.delivery.subscription import Subscription
from hub.delivery.wishes import Wishes
from hub.store import subscriptions, tables
from hub.store.database import Database
from hub.store.queries import acceptances_of
from schemas import message, signature
from schemas.directory import Directory
from schemas.encoding import format_time
from schemas.message import Message
from schemas.refusal import Refused

log = structlog.get_logger("hub")

BATCH = 250
"""Messages matched at once: on SQLite a commit may have to wait for the writing of so many."""

OWED = 10_000
"""Rows after which no further message of a batch is matched: what a thousand want is much."""

CLAIMED = 100
"""Subscriptions that are asked for what is due at once; SQLite's limit is 500."""

REPORTED = 1_000
"""Deliveries whose outcomes are read at once; what a thousand say fits into one entry."""

FORGOTTEN = 2_000
"""Deliveries that are dropped in one transaction."""

_row = tables.webhook_deliveries
_attempt = tables.webhook_attempts
_head = tables.webhook_head
_message = tables.messages
_copy = tables.deliveries
_subscription = tables.subscriptions

_LOCK = select(_head.c.size).with_for_update()

# A row that is there already was matched before.
_OWE = text(
    "INSERT INTO webhook_deliveries (subscription, idx, thread, state, attempts, next) "
    "VALUES (:subscription, :idx, :thread, 'waiting', 0, :next) "
    "ON CONFLICT (subscription, idx) DO NOTHING"
)

_OWE_AGAIN = text(
    "INSERT INTO webhook_deliveries (subscription, idx, thread, state, attempts, next) "
    "VALUES (:subscription, :idx, :thread, 'waiting', 0, :next) "
    "ON CONFLICT (subscription, idx) DO UPDATE SET state = 'waiting', attempts = 0, "
    "next = excluded.next, reported = NULL WHERE webhook_deliveries.state != 'waiting'"
)

_WITH_DUE = select(_subscription.c.id).where(
    _subscription.c.ended.is_(None),
    select(_row.c.idx)
    .where(
        _row.c.subscription == _subscription.c.id,
        tables.is_owed,
        _row.c.next <= bindparam("now"),
    )
    .exists(),
)

_own_rows = select(func.count()).where(_row.c.subscription == _subscription.c.id)
_STANDING = select(
    _subscription.c.id,
    _own_rows.where(tables.is_owed).scalar_subquery().label("waiting"),
    _own_rows.where(tables.is_dead).scalar_subquery().label("dead"),
    select(func.max(_attempt.c.time))
    .where(_attempt.c.subscription == _subscription.c.id)
    .scalar_subquery()
    .label("tried"),
)

# The rows of a turn come and go as one text, which is put together and taken apart by the database:
# with a step of a statement for each row, the thread would ask for the interpreter's lock as often,
# which the loop needs for posting.
_JSON = {
    "sqlite": {
        "rows": "json_each(:rows)",
        "gathered": "json_group_array("
        "json_array(subscription, due.idx, attempts, payload_digest = ''))",
    },
    "postgresql": {
        "rows": "json_array_elements(CAST(:rows AS json)) AS each (value)",
        "gathered": "json_agg("
        "json_build_array(subscription, due.idx, attempts, payload_digest = ''))",
    },
}

# The limit is each subscription's own, which no join can have on SQLite.
_DUE = (
    "SELECT * FROM (SELECT own.subscription, own.idx, own.attempts FROM webhook_deliveries AS own "
    "JOIN subscriptions ON subscriptions.id = own.subscription "
    "WHERE own.subscription = :whose_{n} AND own.state = 'waiting' AND own.next <= :now "
    "AND (NOT subscriptions.ordered OR NOT EXISTS (SELECT 1 FROM webhook_deliveries AS earlier "
    "WHERE earlier.subscription = own.subscription AND earlier.thread = own.thread "
    "AND earlier.idx < own.idx AND earlier.state = 'waiting')) "
    "ORDER BY own.next, own.idx LIMIT :most_{n}) AS due_{n}"
)

_GATHERED = (
    "SELECT CAST({gathered} AS TEXT) FROM ({due}) AS due JOIN messages ON messages.idx = due.idx"
)

_LEASED = (
    "UPDATE webhook_deliveries SET next = :until FROM (SELECT value->>0 AS subscription, "
    "CAST(value->>1 AS BIGINT) AS idx FROM {rows}) AS claimed "
    "WHERE webhook_deliveries.subscription = claimed.subscription "
    "AND webhook_deliveries.idx = claimed.idx"
)

# Settled twice, as after a lease ran out, the first word stands.
_SETTLED = (
    "UPDATE webhook_deliveries SET state = new.state, attempts = new.attempts, next = new.next "
    "FROM (SELECT value->>0 AS subscription, CAST(value->>1 AS BIGINT) AS idx, "
    "CAST(value->>2 AS INTEGER) AS before, value->>3 AS state, "
    "CAST(value->>4 AS INTEGER) AS attempts, value->>5 AS next FROM {rows}) AS new "
    "WHERE webhook_deliveries.subscription = new.subscription "
    "AND webhook_deliveries.idx = new.idx AND webhook_deliveries.attempts = new.before "
    "AND webhook_deliveries.state = 'waiting'"
)

_TRIED = (
    "INSERT INTO webhook_attempts (subscription, idx, attempt, time, status, error, excerpt) "
    "SELECT value->>0, CAST(value->>1 AS BIGINT), CAST(value->>2 AS INTEGER), value->>3, "
    "CAST(value->>4 AS INTEGER), value->>5, :empty FROM {rows} WHERE true "
    "ON CONFLICT (subscription, idx, attempt) DO UPDATE SET time = excluded.time, "
    "status = excluded.status, error = excluded.error, excerpt = excluded.excerpt"
)

_ANSWERED = (
    update(_attempt)
    .where(
        _attempt.c.subscription == bindparam("whose"),
        _attempt.c.idx == bindparam("at"),
        _attempt.c.attempt == bindparam("which"),
        # Its content may have been erased since it was posted.
        select(_message.c.idx)
        .where(_message.c.idx == bindparam("at"), _message.c.payload_digest != "")
        .exists(),
    )
    .values(excerpt=bindparam("answered"))
)


class Offered(msgspec.Struct, frozen=True):
    """A recorded message, and who has a copy of it."""

    index: int
    id: str
    accepted: str
    envelope: bytes
    recipients: frozenset[str]


class StoredWebhooks:
    """The adapter behind the port ``WebhookStore``."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database."""
        self._database = database

    async def subscriptions(self) -> Sequence[Subscription]:
        """All that have not ended."""
        return await self._database.read(
            lambda connection: subscriptions.find(connection, _subscription.c.ended.is_(None))
        )

    async def due(self, now: str) -> Set[str]:
        """The subscriptions that something is due for."""
        return await self._database.read(
            lambda connection: frozenset(connection.execute(_WITH_DUE, {"now": now}).scalars())
        )

    async def match(self, directory: Directory, size: int, now: str) -> tuple[bool, frozenset[str]]:
        """Note what the next entries of the log owe to whom.

        How far that is stands in the row that is written with it: after a crash it goes on there,
        so that nothing is owed twice and nothing is left out.
        """
        found = await self._database.read(lambda connection: _unmatched(connection, size))
        if found is None:
            return False, frozenset()
        before, end, wanting, rows = found
        matched, owed = await asyncio.to_thread(_owed, rows, wanting, directory, now)
        whole = len(matched) == len(rows) < BATCH
        upto = end if whole else matched[-1].index + 1

        def work(connection: Connection) -> bool:
            if connection.execute(_LOCK).scalar_one() != before:
                return False  # another hub was faster
            if owed:
                connection.execute(_OWE, owed)
            connection.execute(update(_head).values(size=upto))
            return True

        written = await self._database.write(work)
        whose = frozenset(str(each["subscription"]) for each in owed) if written else frozenset()
        return not (whole and written), whose

    async def turn(
        self, results: Sequence[Result], room: Mapping[str, int], now: str, until: str
    ) -> Turn:
        """Write what became of attempts, and take what is due, as much as there is room for."""

        def work(connection: Connection) -> Turn:
            connection.execute(_LOCK)  # no other hub claims meanwhile
            changed, told = _settle(connection, results) if results else ((), ())
            return Turn(changed, told, _claim(connection, room, now, until))

        return await self._database.write(work)

    async def sent(self, indices: Sequence[int]) -> Mapping[int, Sent]:
        """The messages of these entries."""
        query = select(
            *(_message.c.idx, _message.c.id, _message.c.marking),
            *(_message.c.expires, _message.c.envelope),
        ).where(_message.c.idx.in_(indices))

        def work(connection: Connection) -> dict[int, Sent]:
            acceptances = acceptances_of(connection, indices)
            return {
                row.idx: Sent(
                    *(row.idx, row.id, row.marking, row.expires),
                    acceptances[row.idx],
                    row.envelope or None,
                )
                for row in connection.execute(query)
            }

        return await self._database.read(work)

    async def subscription(self, subscription_id: str) -> Subscription | None:
        """One that has not ended."""
        there = (_subscription.c.id == subscription_id, _subscription.c.ended.is_(None))
        found = await self._database.read(lambda connection: subscriptions.find(connection, *there))
        return found[0] if found else None

    async def standing(self, subscription_ids: Sequence[str]) -> Mapping[str, Standing]:
        """What waits for each of these subscriptions."""
        query = _STANDING.where(_subscription.c.id.in_(subscription_ids))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {row.id: Standing(row.waiting, row.dead, row.tried) for row in rows}

    async def attempts(self, subscription_id: str, limit: int) -> Sequence[Attempt]:
        """The last attempts, the newest first."""
        query = (
            select(_attempt, _message.c.id.label("message"))
            .join(_message, _message.c.idx == _attempt.c.idx)
            .where(_attempt.c.subscription == subscription_id)
            .order_by(_attempt.c.time.desc(), _attempt.c.idx.desc())
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [
            Attempt(
                *(row.message, row.attempt, row.time, row.status, row.error),
                row.excerpt.decode("utf-8", "replace"),
            )
            for row in rows
        ]

    async def dead(self, subscription_id: str, limit: int) -> Sequence[Dead]:
        """Deliveries that were set aside, the oldest first."""
        query = (
            select(_row.c.idx, _row.c.attempts, _message.c.id)
            .join(_message, _message.c.idx == _row.c.idx)
            .where(_row.c.subscription == subscription_id, tables.is_dead)
            .order_by(_row.c.idx)
            .limit(limit)
        )
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [Dead(row.id, row.idx, row.attempts) for row in rows]

    async def look(
        self, subscription: Subscription, directory: Directory, since: str, until: str, after: int
    ) -> Looked:
        """A part of the messages of a time, beyond an index: those that the subscription wants."""
        within = (_message.c.accepted >= since, _message.c.accepted < until)
        return await self._look(subscription, directory, *within, _message.c.idx > after)

    async def look_back(
        self, subscription: Subscription, directory: Directory, since: str, until: str, before: int
    ) -> Looked:
        """The same from the newest on, below an index."""
        within = (_message.c.accepted >= since, _message.c.accepted < until)
        below = _message.c.idx < before
        return await self._look(subscription, directory, *within, below, newest=True)

    async def named(
        self, subscription: Subscription, directory: Directory, messages: Sequence[str]
    ) -> Sequence[Match]:
        """Those of these messages, a hundred at most, that the subscription wants."""
        looked = await self._look(subscription, directory, _message.c.id.in_(messages))
        return looked.matches

    async def _look(
        self,
        subscription: Subscription,
        directory: Directory,
        *conditions: ColumnElement[bool],
        newest: bool = False,
    ) -> Looked:
        offered = await self._database.read(
            lambda connection: _offered(connection, *conditions, newest=newest)
        )
        wishes = Wishes([subscription])
        matches = await asyncio.to_thread(
            lambda: [
                _match(each, sent)
                for each in offered
                if (sent := _parsed(each)) is not None
                and any(wishes.of(sent, each.recipients, directory))
            ]
        )
        following = offered[-1].index if len(offered) == BATCH else None
        return Looked(matches, len(offered), following)

    async def redrive(self, subscription_id: str, messages: Sequence[str], now: str) -> int:
        """Let deliveries that were set aside begin anew; all, where none are named. How many."""
        query = update(_row).where(_row.c.subscription == subscription_id, tables.is_dead)
        if messages:
            indices = select(_message.c.idx).where(_message.c.id.in_(messages))
            query = query.where(_row.c.idx.in_(indices))
        begin = query.values(state="waiting", attempts=0, next=now, reported=None)
        return await self._database.write(lambda connection: connection.execute(begin).rowcount)

    async def replay(self, subscription_id: str, matches: Sequence[Match], now: str) -> None:
        """Owe messages, also those that were sent before."""
        rows = [
            {"subscription": subscription_id, "idx": each.index, "thread": each.thread, "next": now}
            for each in matches
        ]
        if rows:
            await self._database.write(lambda connection: connection.execute(_OWE_AGAIN, rows))

    async def outcomes(self, now: str, before: str) -> Sequence[Outcome]:
        """What became of deliveries and is in no report yet, by subscription.

        The row of the head says who asked last: of the hubs of one log one gathers at a time.
        """
        taken = update(_head).where(_head.c.gathered <= before).values(gathered=now)
        query = (
            select(_row.c.subscription, _row.c.idx, _row.c.state, _row.c.attempts, _message.c.id)
            .join(_message, _message.c.idx == _row.c.idx)
            .where(tables.is_unreported)
            .order_by(_row.c.subscription, _row.c.idx)
            .limit(REPORTED)
        )

        def work(connection: Connection) -> Sequence[Outcome]:
            if not connection.execute(taken).rowcount:
                return ()
            return [
                Outcome(row.subscription, row.idx, row.id, row.state, row.attempts)
                for row in connection.execute(query)
            ]

        if not await self._database.read(lambda connection: connection.execute(query).first()):
            return ()
        return await self._database.write(work)

    async def owing(self) -> Mapping[DeliveryState, int]:
        """How many deliveries wait, and how many were set aside; each has an index of its own."""
        counted = {DeliveryState.WAITING: tables.is_owed, DeliveryState.DEAD: tables.is_dead}

        def work(connection: Connection) -> Mapping[DeliveryState, int]:
            return {
                state: connection.execute(select(func.count()).where(rows)).scalar_one()
                for state, rows in counted.items()
            }

        return await self._database.read(work)

    async def forget(self, before: str) -> bool:
        """Drop some of what was done before a time, and what is left of ended subscriptions."""
        last_old = (
            select(_message.c.idx)
            .where(_message.c.accepted < before)
            .order_by(_message.c.idx.desc())
            .limit(1)
        )
        reported = _row.c.reported.is_not(None)
        ended = select(_subscription.c.id).where(_subscription.c.ended.is_not(None))
        of_ended = and_(_row.c.subscription.in_(ended), or_(tables.is_owed, reported))

        over = and_(_row.c.state.in_(("delivered", "withheld")), reported)

        def find(connection: Connection) -> list[tuple[str, int]]:
            last = connection.execute(last_old).scalar()
            old = and_(_row.c.idx <= (-1 if last is None else last), over)
            rows = select(_row.c.subscription, _row.c.idx).limit(FORGOTTEN)
            return sorted(
                {
                    (row.subscription, row.idx)
                    for which in (old, of_ended)
                    for row in connection.execute(rows.where(which))
                }
            )

        def work(connection: Connection) -> bool:
            # One after the other: SQLite looks for no list of pairs by an index.
            for name, of_one in groupby(rows, itemgetter(0)):
                found = and_(_row.c.subscription == name, _row.c.idx.in_([i for _, i in of_one]))
                # Some may have been replayed since they were looked for.
                still = delete(_row).where(found, or_(over, of_ended)).returning(_row.c.idx)
                gone = connection.execute(still).scalars().all()
                tried = and_(_attempt.c.subscription == name, _attempt.c.idx.in_(gone))
                connection.execute(delete(_attempt).where(tried))
            return True

        # Looked for beside the writer, whom a long search must not hold up.
        rows = await self._database.read(find)
        if not rows:
            return False
        return await self._database.write(work)


def _match(offered: Offered, sent: Message) -> Match:
    return Match(
        *(offered.index, sent.id, sent.sender, sent.kind, sent.marking, offered.accepted),
        sent.thread or sent.id,
    )


Unmatched: TypeAlias = tuple[int, int, Sequence[Subscription], Sequence[Offered]]
"""How far was matched, how far the log goes, who wants something, and the next messages."""


def _unmatched(connection: Connection, known: int) -> Unmatched | None:
    end = min(known, connection.execute(select(tables.log_head.c.size)).scalar_one())
    size: int = connection.execute(select(_head.c.size)).scalar_one()
    there = subscriptions.find(connection, _subscription.c.ended.is_(None))
    wanting = [each for each in there if each.sent_to]
    if size >= end or not wanting:
        # Nobody wants anything: the head stays behind, and no commit is paid for it.
        return None
    start = max(size, min(each.start for each in wanting))
    offered = _offered(connection, _message.c.idx >= start, _message.c.idx < end)
    return size, end, wanting, offered


def _offered(
    connection: Connection, *conditions: ColumnElement[bool], newest: bool = False
) -> list[Offered]:
    """The next messages that still have their content."""
    query = (
        select(_message.c.idx, _message.c.id, _message.c.accepted, _message.c.envelope)
        .where(*conditions)
        .order_by(_message.c.idx.desc() if newest else _message.c.idx)
        .limit(BATCH)
    )
    rows = connection.execute(query).all()
    copies = select(_copy.c.message_id, _copy.c.recipient).where(
        _copy.c.message_id.in_([row.id for row in rows])
    )
    recipients: dict[str, set[str]] = {}
    for row in connection.execute(copies) if rows else ():
        recipients.setdefault(row.message_id, set()).add(row.recipient)
    return [
        Offered(row.idx, row.id, row.accepted, row.envelope, frozenset(recipients.get(row.id, ())))
        for row in rows
    ]


def _owed(
    offered: Sequence[Offered], wanting: Sequence[Subscription], directory: Directory, now: str
) -> tuple[Sequence[Offered], list[dict[str, object]]]:
    """The first of these messages, as many as ``OWED`` allows, and the rows of what they owe."""
    wishes, rows = Wishes(wanting), list[dict[str, object]]()
    for count, each in enumerate(offered, 1):
        sent = _parsed(each)
        if sent is None:
            continue
        rows += [
            {
                "subscription": subscription.id,
                "idx": each.index,
                "thread": sent.thread or sent.id,
                "next": now,
            }
            for subscription in wishes.of(sent, each.recipients, directory)
            if each.index >= subscription.start
        ]
        if len(rows) >= OWED:
            return offered[:count], rows
    return offered, rows


def _parsed(offered: Offered) -> Message | None:
    """The message; None where it was erased, or cannot be read, which holds up nobody behind it."""
    if not offered.envelope:
        return None
    try:
        return message.parse(signature.parse(offered.envelope, signature.MESSAGE_TYPE).payload)
    except Refused as refused:
        log.warning("webhook.unreadable", message_id=offered.id, reason=str(refused))
        return None


def _claim(
    connection: Connection, room: Mapping[str, int], now: str, until: str
) -> Sequence[Claimed]:
    found = list[tuple[str, int, int, bool | int]]()
    whose = list(room.items())
    for start in range(0, len(whose), CLAIMED):
        part = whose[start : start + CLAIMED]
        values: dict[str, object] = {"now": now}
        for place, (subscription, most) in enumerate(part):
            values |= {f"whose_{place}": subscription, f"most_{place}": most}
        due = " UNION ALL ".join(_DUE.format(n=place) for place in range(len(part)))
        query = _text(connection, _GATHERED, due=due)
        gathered = connection.execute(query, values).scalar_one()
        if gathered:
            found += msgspec.json.decode(gathered, type=list[tuple[str, int, int, bool | int]])
    if found:
        _each(connection, _LEASED, [row[:2] for row in found], until=until)
    return [
        Claimed(subscription, index, attempts + 1, bool(erased))
        for subscription, index, attempts, erased in sorted(found)
    ]


def _settle(
    connection: Connection, results: Sequence[Result]
) -> tuple[Sequence[Subscription], Sequence[Told]]:
    """Write what became of attempts, and how the endpoints stand after them.

    Of two results of one attempt, as after a pause of the machine, the first word stands.
    """
    first: dict[tuple[str, int, int], Result] = {}
    for each in results:
        attempt = (each.claimed.subscription, each.claimed.index, each.claimed.attempt)
        first.setdefault(attempt, each)
    results = list(first.values())
    _each(connection, _SETTLED, [_settled(each) for each in results])
    tried = [each for each in results if each.heard is not None]
    if tried:
        _each(connection, _TRIED, [_tried(each) for each in tried], empty=b"")
    said = [each for each in tried if each.answer.excerpt]
    if said:
        connection.execute(_ANSWERED, [_answered(each) for each in said])
    known = subscriptions.by_id(connection, {each.claimed.subscription for each in results})
    changed, told = _stand(known, results)
    subscriptions.stand(connection, [(known[each.id], each) for each in changed])
    return changed, told


def _each(
    connection: Connection, statement: str, rows: Sequence[Sequence[object]], **values: object
) -> None:
    """Execute a statement once for all these rows."""
    given = {"rows": msgspec.json.encode(rows).decode(), **values}
    connection.execute(_text(connection, statement), given)


def _text(connection: Connection, statement: str, **parts: str) -> TextClause:
    return text(statement.format_map(_JSON[connection.dialect.name] | parts))


def _settled(result: Result) -> Sequence[object]:
    claimed, due = result.claimed, result.due
    return (
        claimed.subscription,
        claimed.index,
        claimed.attempt - 1,
        due.state.value,
        claimed.attempt if result.heard is not None else claimed.attempt - 1,
        due.next and format_time(due.next),
    )


def _tried(result: Result) -> Sequence[object]:
    return (
        result.claimed.subscription,
        result.claimed.index,
        result.claimed.attempt,
        format_time(result.time),
        result.answer.status,
        result.answer.error,
    )


def _answered(result: Result) -> dict[str, object]:
    return {
        "whose": result.claimed.subscription,
        "at": result.claimed.index,
        "which": result.claimed.attempt,
        "answered": result.answer.excerpt[:EXCERPT],
    }


def _stand(
    known: Mapping[str, Subscription], results: Sequence[Result]
) -> tuple[Sequence[Subscription], Sequence[Told]]:
    """How endpoints stand after these results, in the order of their time."""
    after = dict(known)
    told: dict[str, Told] = {}
    for each in sorted(results, key=lambda result: result.time):
        subscription = after.get(each.claimed.subscription)
        if subscription is None or each.heard is None or subscription.id in told:
            continue  # what follows on a notice is written when that is recorded
        if each.url != subscription.url:
            continue  # of another address than it has now
        endpoint, notice = schedule.after_answer(subscription.endpoint, each.heard, each.time)
        moved = replace(subscription, endpoint=endpoint)
        if notice is not None:
            told[subscription.id] = Told(subscription, moved, notice)
        else:
            after[subscription.id] = moved
    changed = [each for name, each in after.items() if each != known[name]]
    return changed, list(told.values())
