"""Searching the log: one form, and what it finds, the newest first. Every search is recorded."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from hub.doors import audit, exports
from hub.doors.audit import Filters
from hub.doors.console import sessions, wording
from hub.doors.console.overview import names
from hub.doors.console.visit import Visit
from hub.doors.console.wording import Title
from hub.doors.exports import Export
from hub.ledger.explain import RECEIVED
from hub.ledger.queries import DeliveryRow, Event, EventFilter, MessageRow
from schemas import entry as entries
from schemas.encoding import UUID7_PATTERN, format_time, parse_time
from schemas.kinds import KINDS
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS, SDG_GOALS, THEMES

PATH: Final = "/console/search"

ROWS = 25
"""Entries on a page."""

FIRST: Final = ("text", "sender", "recipient", "since", "until")
"""The fields that are always seen; the others are folded away until one of them is used."""

MORE: Final = ("type", "member", "kind", "marking", "theme", "sdg", "thread", "message", "actor")


class Option(msgspec.Struct, frozen=True):
    """One choice of a field; without a ``label`` the value says it itself."""

    value: str
    label: str | None = None


class Field(msgspec.Struct, frozen=True):
    """A field of the form; without ``options`` one writes into it."""

    name: str
    value: str
    options: Sequence[Option] | None


class Sent(msgspec.Struct, frozen=True):
    """What a row shows of a message; the ``title`` where whoever looks may read it."""

    kind: str
    marking: str
    title: Title | None
    recipients: Sequence[str]
    received: int
    erased: bool


class Row(msgspec.Struct, frozen=True):
    """An entry. ``about`` is the message that it is about, ``sent`` the one that it accepted."""

    index: int
    time: str
    type: str
    actor: str
    subject: str | None
    about: str | None
    sent: Sent | None


class View(msgspec.Struct, frozen=True):
    """The page. ``refused`` says why nothing was searched.

    ``older`` goes on below the entry ``reached``, ``newest`` back to the beginning; ``all_types``
    asks the same of all entries, where only messages were looked at.
    """

    first: Sequence[Field]
    more: Sequence[Field]
    unfolded: bool
    names: Mapping[str, str]
    all_types: str | None
    exports: Mapping[str, str]
    refused: str | None = None
    rows: Sequence[Row] = ()
    reached: int | None = None
    newest: str | None = None
    older: str | None = None


async def show(visit: Visit) -> web.Response:
    """``GET /console/search``: the form, with what it asks for; the newest messages at first."""
    hub, query = visit.hub, visit.request.query
    given = question(query)
    called = names(hub.recorder.state.directory, visit.language)
    view = _view(given, await _form(visit, given, called), called)
    try:
        wanted = filters(given)
        before = _before(query.get("before"), hub.recorder.state.tree.size)
        place = msgspec.structs.replace(audit.event_filter(wanted), before=before, limit=ROWS)
    except Refused as refusal:
        view = msgspec.structs.replace(view, refused=refusal.detail)
        return visit.page("search.html", view, refusal.row.status)
    await audit.note(hub, visit.asked, wanted)
    page = await hub.queries.search(place)
    view = msgspec.structs.replace(
        view,
        rows=[await _row(visit, event) for event in page.events],
        reached=page.next,
        newest=_address(given) if "before" in query else None,
        older=None if page.next is None else _address({**given, "before": str(page.next)}),
    )
    return visit.page("search.html", view)


async def export(visit: Visit) -> web.StreamResponse:
    """``GET /console/search/export``: all that the form asks for, as a file."""
    hub, query = visit.hub, visit.request.query
    given = msgspec.to_builtins(filters(question(query)))
    try:
        wanted = msgspec.convert({**given, "format": query.get("format")}, Export)
    except msgspec.ValidationError as error:
        raise Refused("bad-request", f"{error}.") from None
    return await exports.write(hub, visit.asked, wanted, partial(_holds, visit))


async def _holds(visit: Visit) -> None:
    assert visit.session is not None
    if await sessions.find(visit.hub, visit.session.secret) is None:
        raise Refused("unauthenticated", "The session has ended meanwhile.")


# --- What is asked for ---


def question(query: Mapping[str, str]) -> dict[str, str]:
    """The fields of the form that say something; messages are meant where no type is given."""
    named = {name: query.get(name, "").strip() for name in (*FIRST, *MORE)}
    given = {name: value for name, value in named.items() if value}
    of_all = "type" in query and not named["type"]
    return {"type": "", **given} if of_all else {"type": entries.MESSAGE_ACCEPTED, **given}


def filters(given: dict[str, str]) -> Filters:
    """The same for the store: a day is all of it.

    Raises:
        Refused: ``bad-request``.
    """
    try:
        days = {n: moment(given[n], over=n == "until") for n in ("since", "until") if n in given}
        return msgspec.convert(
            {name: value for name, value in (given | days).items() if value}, Filters
        )
    except ValueError:
        raise Refused("bad-request", "Give a day as YYYY-MM-DD.") from None


def moment(day: str, *, over: bool) -> str:
    """When a day begins, or when it is over.

    Raises:
        ValueError: it is not written as YYYY-MM-DD.
    """
    return format_time(parse_time(f"{day}T00:00:00.000Z") + timedelta(days=over))


def _before(given: str | None, size: int) -> int:
    """The index below which a page goes on; the whole log where none is given."""
    if given is None:
        return size
    if not re.fullmatch("[0-9]{1,15}", given):
        raise Refused("bad-request", "Go on with the link at the end of a page.")
    return int(given)


# --- The form ---

_OPTIONS: Mapping[str, Callable[[str], list[Option]]] = MappingProxyType(
    {
        "kind": lambda _: [Option(kind) for kind in KINDS],
        "marking": lambda _: [Option(marking) for marking in MARKINGS],
        "theme": lambda language: sorted(
            (Option(theme, titles[language]) for theme, titles in THEMES.items()),
            key=lambda option: option.label or "",
        ),
        "sdg": lambda language: [
            Option(str(goal), f"{goal}. {titles[language]}") for goal, titles in SDG_GOALS.items()
        ],
    }
)

_PARTICIPANTS = frozenset({"member", "sender", "recipient"})


async def _form(
    visit: Visit, given: Mapping[str, str], called: Mapping[str, str]
) -> Mapping[str, Field]:
    participants = [Option(code, f"{name} ({code})") for code, name in sorted(called.items())]
    options = {name: make(visit.language) for name, make in _OPTIONS.items()}
    options |= dict.fromkeys(_PARTICIPANTS, participants)
    # What the log has, and not a list that has to be kept up with it.
    counted = await visit.hub.queries.counts(EventFilter(), "type", "year")
    options["type"] = [Option(name) for name in sorted({row.value for row in counted.counts})]
    return {name: _field(name, given, options.get(name)) for name in (*FIRST, *MORE)}


def _field(name: str, given: Mapping[str, str], options: Sequence[Option] | None) -> Field:
    value = given.get(name, "")
    if options is not None and value and value not in {option.value for option in options}:
        options = [*options, Option(value)]
    return Field(name, value, options)


def _view(given: Mapping[str, str], form: Mapping[str, Field], called: Mapping[str, str]) -> View:
    """The page with the form, before anything was searched."""
    messages = given.get("type") == entries.MESSAGE_ACCEPTED
    return View(
        first=[form[name] for name in FIRST],
        more=[form[name] for name in MORE],
        unfolded=not messages or any(form[name].value for name in MORE if name != "type"),
        names=called,
        all_types=_address({**given, "type": ""}) if messages else None,
        exports={f: _address({**given, "format": f}, f"{PATH}/export") for f in ("csv", "ndjson")},
    )


def _address(fields: Mapping[str, str], path: str = PATH) -> str:
    return f"{path}?{urlencode(fields)}"


# --- What is found ---


async def _row(visit: Visit, event: Event) -> Row:
    queries, entry = visit.hub.queries, entries.decode(event.raw)
    about = entry.subject if re.fullmatch(UUID7_PATTERN, entry.subject or "") else None
    sent = None
    if entry.type == entries.MESSAGE_ACCEPTED and about is not None:
        message = await queries.message(about)
        if message is not None:
            title = await wording.title(visit, message)
            sent = _sent(message, title, await queries.deliveries(about))
    return Row(event.index, entry.time, entry.type, entry.actor, entry.subject, about, sent)


def _sent(message: MessageRow, title: Title | None, copies: Sequence[DeliveryRow]) -> Sent:
    return Sent(
        kind=message.kind,
        marking=message.marking,
        title=title,
        recipients=[copy.recipient for copy in copies],
        received=sum(copy.state in RECEIVED for copy in copies),
        erased=message.envelope is None,
    )
