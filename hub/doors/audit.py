"""The auditors' routes: search, timeline, why, and the check of the whole log."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from hub import certificates
from hub.doors.service import Asked, Service, answer, query
from hub.intake import membership
from hub.ledger import explain, search
from hub.ledger.queries import Counted, Event, EventFilter, Period
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext
from schemas.encoding import TIME_PATTERN, UUID7_PATTERN, parse_time
from schemas.jsontext import MAX_SAFE_INTEGER, Json
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS, SDG_GOALS, SDG_TARGETS, THEMES

_SDGS = frozenset({*map(str, SDG_GOALS), *SDG_TARGETS})

_KNOWN: Mapping[str, tuple[Callable[[str], object], str]] = {
    "type": (re.compile(r"[a-z]+\.[a-z_]+").fullmatch, "a type of entry, such as message.accepted"),
    "kind": (re.compile(r".+\.v[0-9]+").fullmatch, "a kind, such as activity_bulletin.v1"),
    "marking": (MARKINGS.__contains__, f"a marking; those are {', '.join(MARKINGS)}"),
    "theme": (THEMES.__contains__, "a theme, such as children"),
    "sdg": (_SDGS.__contains__, "a goal or target, such as 16 or 16.3"),
}
"""What can stand in a log, of types and kinds also by other versions: what cannot is a mistake,
and an empty answer would be taken for "it did not happen"."""

Moment = Annotated[str, Meta(pattern=TIME_PATTERN)]


class Filters(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True
):
    """What is searched for; everything given must hold.

    ``member`` takes part in whatever way. ``message`` finds all that became of one, its receipts
    included. A goal as ``sdg`` finds its targets, too. ``text`` are words of messages marked
    TLP:CLEAR or TLP:GREEN that all occur, in whatever language; ``*`` behind one makes it the
    beginning of a word. ``since`` is included, ``until`` is not.
    """

    type: str | None = None
    actor: str | None = None
    subject: str | None = None
    member: str | None = None
    sender: str | None = None
    recipient: str | None = None
    kind: str | None = None
    marking: str | None = None
    theme: str | None = None
    sdg: str | None = None
    thread: str | None = None
    message: str | None = None
    text: str | None = None
    since: Moment | None = None
    until: Moment | None = None


class Search(Filters, frozen=True, kw_only=True):
    """A search, oldest first and beyond ``after``; with ``before``, newest first and below it."""

    after: Annotated[int, Meta(ge=-1, le=MAX_SAFE_INTEGER)] = -1
    before: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class Counting(Filters, frozen=True, kw_only=True):
    """Entries that match, counted by the value of ``of`` and by period."""

    of: Counted
    by: Period = "month"


class Whom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For whom to explain."""

    member: Annotated[str, Meta(min_length=1)]


def event_filter(wanted: Filters) -> EventFilter:
    """What the parameters of a request ask for.

    Raises:
        Refused: ``bad-request``; nothing could be found by it.
    """
    values = msgspec.to_builtins(wanted)
    given = EventFilter(**{n: values[n] for n in EventFilter.__struct_fields__ if n in values})
    _check_times(given)
    for name, value in values.items():
        if isinstance(value, str) and "\x00" in value:
            raise Refused("bad-request", f"{name}: U+0000 occurs nowhere.")
    for name, (known, sort) in _KNOWN.items():
        if name in values and not known(values[name]):
            raise Refused("bad-request", f"{values[name]!r} is not {sort}.")
    if given.text is not None and not 1 <= len(search.asked(given.text)) <= search.MAX_WORDS:
        raise Refused("bad-request", f"text: give one to {search.MAX_WORDS} words to search for.")
    return given


def _check_times(given: EventFilter) -> None:
    try:
        for time in filter(None, (given.since, given.until)):
            parse_time(time)
    except ValueError as error:
        raise Refused("bad-request", f"since and until: {error}.") from None


async def note(hub: Service, asked: Asked, question: object) -> None:
    """Every query is itself an entry: who asked what can be asked, too."""
    private = jsontext.encode({"path": asked.request.path, "query": question})
    draft = Draft(entries.OPERATOR_QUERY, asked.principal.name, private=private)
    await hub.change(membership.append(draft))


def _event(event: Event) -> dict[str, object]:
    return {
        "index": event.index,
        "entry": entries.decode(event.raw),
        "private": _private(event.private),
    }


def _private(raw: bytes | None) -> Json:
    return None if raw is None else jsontext.parse(raw)


async def events(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/events``: entries that match, in order; go on with ``next``."""
    question = query(asked, Search)
    wanted = event_filter(question)
    await note(hub, asked, question)
    page = await hub.queries.search(wanted)
    return answer({"events": [_event(event) for event in page.events], "next": page.next})


async def counts(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/counts``: how many entries match, by a value of theirs and by period."""
    question = query(asked, Counting)
    wanted = event_filter(question)
    await note(hub, asked, question)
    return answer(await hub.queries.counts(wanted, question.of, question.by))


def message_id(asked: Asked) -> str:
    """The id in the path."""
    given = asked.request.match_info["id"]
    if not re.fullmatch(UUID7_PATTERN, given):
        raise Refused("not-found", "The id of a message is a UUIDv7, in small letters.")
    return given


async def message(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/messages/{id}``: the timeline of one message."""
    about = message_id(asked)
    await note(hub, asked, about)
    found = await hub.queries.events_of_message(about)
    if not found:
        raise Refused("not-found", "The log has no message with this id.")
    row = await hub.queries.message(about)
    timeline = {
        "id": about,
        "message": row
        and {"sender": row.sender, "kind": row.kind, "marking": row.marking, "index": row.index},
        "acceptance": row and await hub.queries.acceptance(row.index),
        "deliveries": await hub.queries.deliveries(about),
        "events": [_event(event) for event in found],
    }
    return answer(timeline)


async def why(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/messages/{id}/why?member=``: received by which rule, or why not."""
    about = message_id(asked)
    if not asked.request.query.get("member"):
        raise Refused("bad-request", "Say which member: ?member=tm.")
    member = query(asked, Whom).member
    await note(hub, asked, {"id": about, "member": member})
    found = await hub.queries.events_of_message(about)
    copies = await hub.queries.deliveries(about)
    return answer(explain.why(member, found, copies, hub.recorder.state.directory))


async def check(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/verify``: the stored log is hashed again, whole.

    A mismatch stops all signing, and a log that is found whole again ends that.
    """
    verdict = await hub.patrol.pass_at_once()
    return answer(verdict)


async def status(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/status``: what an operator at night wants to know first."""
    state = hub.recorder.state
    states: dict[str, int] = {}
    for participant in state.directory.participants.values():
        states[participant.state] = states.get(participant.state, 0) + 1
    folder = hub.settings.folder or os.curdir
    standing = await hub.witnesses.standing()
    return answer(
        {
            "version": hub.version,
            "instance": hub.instance,
            "origin": hub.settings.origin,
            "vkey": str(hub.vkey),
            "log_size": state.tree.size,
            "participants": states,
            "waiting_deliveries": await hub.queries.waiting(),
            "waiting_jobs": hub.recorder.waiting,
            "store_failing": hub.recorder.failing,
            "signing_stopped": hub.witnesses.stopped,
            "quorum_wanted": hub.witnesses.policy(state.directory) is not None,
            "quorum_size": standing.last and standing.last.size,
            "witnesses": standing.watchers,
            "free_disk_bytes": shutil.disk_usage(folder).free,
            "certificate_days": certificates.own_days_left(hub.settings, hub.clock()),
        }
    )
