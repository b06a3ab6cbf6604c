"""What a periodic report counts, read page by page: the entries of some days under a checkpoint.

Of a copy the delivery row has the last receipt; the first one is found by the search index, which
is why a report covers no more of the log than is in it.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, func, select

from hub.ledger.report import NOTICE, Copy, Covered, Period, Refusal, SentMessage
from hub.store import index, search, tables
from schemas import entry as entries
from schemas.joint_action import Answer

MESSAGES = 100
"""Messages read at once: with all their content 25 MiB at most."""

REFUSALS = 1_000
"""Refusals read at once."""

_entry = tables.log_entries
_message = tables.messages
_delivery = tables.deliveries
_answer = tables.answers
_receipt = tables.receipts
_terms = tables.search_terms


def covered(connection: Connection, at: int | None) -> Covered | None:
    """The newest checkpoint over no more than the index has, or the one of this very size."""
    signed = tables.checkpoints.c
    indexed, _ = search.sizes(connection)
    query = (
        select(signed.size, signed.note, _entry.c.time)
        .join(_entry, _entry.c.idx == signed.size - 1)
        .where(signed.size <= indexed)
        .order_by(signed.size.desc())
        .limit(1)
    )
    if at is not None:
        query = query.where(signed.size == at)
    row = connection.execute(query).one_or_none()
    return None if row is None else Covered(row.size, row.note, row.time)


def messages(
    connection: Connection, period: Period, covered: Covered, after: int
) -> Sequence[SentMessage]:
    """The next messages accepted in a period, in the order of the log; at most ``MESSAGES``."""
    query = (
        select(_message)
        .where(*_within(connection, _message.c.idx, period, covered, after))
        .where(_message.c.accepted >= period.since, _message.c.accepted < period.until)
        .order_by(_message.c.idx)
        .limit(MESSAGES)
    )
    rows = connection.execute(query).all()
    copies = _copies(connection, [row.id for row in rows], covered.size)
    notices = [row.id for row in rows if row.kind.startswith(NOTICE)]
    answers = _answers(connection, notices, covered.size)
    return [
        SentMessage(
            row.idx,
            row.sender,
            row.kind,
            row.accepted,
            row.envelope or None,
            row.erased,
            copies.get(row.id, ()),
            answers.get(row.id, ()),
        )
        for row in rows
    ]


def refusals(
    connection: Connection, period: Period, covered: Covered, after: int
) -> Sequence[Refusal]:
    """The next refusals of messages in a period, in the order of the log."""
    query = (
        select(_entry.c.idx, _entry.c.actor, _entry.c.entry)
        .where(*_within(connection, _entry.c.idx, period, covered, after))
        .where(_entry.c.type == entries.MESSAGE_REFUSED)
        .where(_entry.c.time >= period.since, _entry.c.time < period.until)
        .order_by(_entry.c.idx)
        .limit(REFUSALS)
    )
    found = []
    for row in connection.execute(query):
        public = entries.decode(row.entry).public
        count = public.get("count", 1)
        assert isinstance(count, int)
        found.append(Refusal(row.idx, row.actor, str(public.get("code")), count))
    return found


def _within(
    connection: Connection, idx: ColumnElement[int], period: Period, covered: Covered, after: int
) -> tuple[ColumnElement[bool], ...]:
    """The part of the log in which the entries of a period can be, after one of them."""
    low = search.first_at(connection, period.since, -search.CLOCKS_APART)
    high = search.first_at(connection, period.until, search.CLOCKS_APART)
    return idx > max(after, low - 1), idx < min(high, covered.size)


def _copies(connection: Connection, ids: Sequence[str], size: int) -> Mapping[str, Sequence[Copy]]:
    query = (
        select(
            _delivery.c.message_id, _delivery.c.recipient, _delivery.c.state, _delivery.c.expires
        )
        .where(_delivery.c.message_id.in_(ids))
        .order_by(_delivery.c.message_id, _delivery.c.recipient)
    )
    received = _received(connection, ids, size)
    found: dict[str, list[Copy]] = {}
    for row in connection.execute(query):
        time = received.get((row.message_id, row.recipient))
        found.setdefault(row.message_id, []).append(
            Copy(row.recipient, row.state, row.expires, time)
        )
    return found


def _received(
    connection: Connection, ids: Sequence[str], size: int
) -> Mapping[tuple[str, str], str]:
    """When the first receipt about a message was recorded, by message and receiver."""
    by_term = {index.number(f"message:{each}"): each for each in ids}
    first = (
        select(_terms.c.term, _receipt.c.receiver, func.min(_terms.c.idx).label("idx"))
        .join(_receipt, _receipt.c.idx == _terms.c.idx)
        .where(_terms.c.term.in_([*by_term]), _terms.c.idx < size)
        .group_by(_terms.c.term, _receipt.c.receiver)
        .subquery("first")
    )
    query = select(first.c.term, first.c.receiver, _entry.c.time).join(
        _entry, _entry.c.idx == first.c.idx
    )
    return {(by_term[row.term], row.receiver): row.time for row in connection.execute(query)}


def _answers(
    connection: Connection, notices: Sequence[str], size: int
) -> Mapping[str, Sequence[Answer]]:
    query = select(_answer).where(_answer.c.notice.in_(notices), _answer.c.idx < size)
    found: dict[str, list[Answer]] = {}
    for row in connection.execute(query.order_by(_answer.c.idx)) if notices else ():
        found.setdefault(row.notice, []).append(
            Answer(row.idx, row.time, row.member, row.answer, row.message_id)
        )
    return found
