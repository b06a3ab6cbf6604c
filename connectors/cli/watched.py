"""What a sender watches, told one by one: receipts, recipients, and entries about oneself."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from connectors import alarms, monitor
from connectors.cli import reading
from connectors.cli.site import Site
from connectors.store import Reader
from connectors.tables import Alarm, Expected
from schemas.encoding import parse_time

_OVERDUE = "receipt-overdue"
_MISSING = "recipient-missing"
_UNASKED = ("own-keys", "own-standing", "own-message")

KINDS = frozenset({_OVERDUE, _MISSING, *_UNASKED})
"""The kinds of alarm that are told here."""


class About(msgspec.Struct, frozen=True):
    """What of the exchange something is about; ``since`` is a time of the exchange."""

    message: str | None
    member: str | None
    since: str


class Watched(msgspec.Struct, frozen=True):
    """One thing that is not as it should be. ``alarm`` is None until the daemon has raised it."""

    sentence: str
    advice: str
    about: About
    alarm: Alarm | None


def all_of(
    site: Site, reader: Reader, standing: Sequence[Alarm], now: datetime
) -> Iterator[tuple[str, str, list[Watched]]]:
    """By name: the words for when all is well, and what is not."""
    overdue = [*_overdue(site, reader, standing, now)]
    yield "receipts", "none is overdue", overdue
    missing = [_missing(site, reader, one) for one in standing if one.kind == _MISSING]
    yield "recipients", "the hub left out nobody", missing
    unasked = [_unasked(site, one) for one in standing if one.kind in _UNASKED]
    yield "about us", "the log has nothing that we did not ask for", unasked


def _overdue(
    site: Site, reader: Reader, standing: Sequence[Alarm], now: datetime
) -> Iterator[Watched]:
    """By the store itself: what fell due since the daemon last looked counts as well."""
    raised = {one.subject: one for one in standing if one.kind == _OVERDUE}
    due = monitor.due_before(now, site.config.receipts.overdue_hours)
    for expected in reader.waiting_receipts(due):
        alarm = raised.get(monitor.subject(expected))
        yield Watched(
            f"{expected.recipient} has not confirmed {_message(site, reader, expected.id)}, "
            f"accepted {site.local(expected.since)}, {_age(expected, now)}",
            alarms.KINDS[_OVERDUE].advice,
            About(expected.id, expected.recipient, expected.since),
            alarm,
        )


def _age(expected: Expected, now: datetime) -> str:
    hours = (now - parse_time(expected.since)) // timedelta(hours=1)
    return f"{hours} hours ago" if hours < 48 else f"{hours // 24} days ago"


def _missing(site: Site, reader: Reader, alarm: Alarm) -> Watched:
    message_id, _, code = alarm.subject.partition(" ")
    return Watched(
        f"{code} should receive {_message(site, reader, message_id)} and the hub left it out, "
        f"found {site.local(alarm.time)}",
        alarms.KINDS[_MISSING].advice,
        About(message_id, code, alarm.time),
        alarm,
    )


def _unasked(site: Site, alarm: Alarm) -> Watched:
    """The subject of an entry about a message is its id; of the others it is their index."""
    kind = alarms.KINDS[alarm.kind]
    message_id = alarm.subject if alarm.kind == "own-message" else None
    return Watched(
        f"{kind.title}. {alarm.sentence} ({site.local(alarm.time)})",
        kind.advice,
        About(message_id, site.code, alarm.time),
        alarm,
    )


def _message(site: Site, reader: Reader, message_id: str) -> str:
    read = reading.known(reader, message_id)
    title = reading.title(reader, read, site.profile.languages) if read else None
    return f"“{title}” ({message_id})" if title else message_id
