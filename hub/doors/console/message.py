"""A message: who has it and why, who does not and why not, and all that the log has about it."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors import audit, readings
from hub.doors.console import wording
from hub.doors.console.overview import names
from hub.doors.console.pages import bdi, time
from hub.doors.console.visit import Visit
from hub.doors.console.wording import Title
from hub.ledger import explain
from hub.ledger.explain import Clause, Finding
from hub.ledger.queries import DeliveryRow, Event, EventFilter, MessageRow
from schemas import entry as entries
from schemas import jsontext, signature
from schemas.directory import Directory
from schemas.entry import AcceptedPrivate, RefusedPrivate
from schemas.message import Text
from schemas.refusal import Refused

NEIGHBOURS = 50
"""Messages of a thread that are shown."""

_ORDER = ("refused", "expired", "erased", "waiting", "left out", "received", "read", "not joined")
"""How it can stand, in the order of the table: what somebody may have to do something about."""


class Stated(msgspec.Struct, frozen=True):
    """Why somebody has to read a message, from the form."""

    reason: Annotated[str, Meta(max_length=500)] = ""


class Row(msgspec.Struct, frozen=True):
    """A participant: how the message stands with it, and why; ``receipt`` is an entry."""

    code: str
    name: str
    stands: str
    clauses: Sequence[Clause]
    position: int | None
    time: str | None
    receipt: int | None


class Line(msgspec.Struct, frozen=True):
    """An entry about the message."""

    index: int
    time: str
    type: str
    actor: str


class Neighbour(msgspec.Struct, frozen=True):
    """Another message of the thread."""

    id: str
    time: str
    sender: str
    title: Title | None


class Refusal(msgspec.Struct, frozen=True):
    """Why the hub took no message of this id."""

    code: str
    detail: str | None


class View(msgspec.Struct, frozen=True):
    """The page.

    ``first`` is the entry that accepted it, or refused it where ``refusal`` says why. ``erased``
    is the entry that erased it. ``reading`` is why its text is not shown for the asking: a refusal
    that a reason lifts or, where ``never``, none.
    """

    id: str
    first: Line
    names: Mapping[str, str]
    kind: str | None
    marking: str | None
    thread: str | None
    title: Title | None
    refusal: Refusal | None
    erased: Line | None
    reading: str | None
    never: bool
    rows: Sequence[Row]
    lines: Sequence[Line]
    neighbours: Sequence[Neighbour]


class Read(msgspec.Struct, frozen=True):
    """The page with the text: what was signed, and the entry that says who read it here."""

    id: str
    recorded: int
    texts: Mapping[str, Text]
    payload: str


async def show(visit: Visit) -> web.Response:
    """``GET /console/messages/{id}``."""
    hub, about = visit.hub, audit.message_id(visit.asked)
    await audit.note(hub, visit.asked, about)
    events = await hub.queries.events_of_message(about)
    message = await hub.queries.message(about)
    copies = await hub.queries.deliveries(about)
    directory = hub.recorder.state.directory
    called = names(directory, visit.language)
    if not events:
        raise Refused("not-found", "The log has no message with this id.")
    lines = [line(event) for event in events]
    accepted = next((e for e in events if line(e).type == entries.MESSAGE_ACCEPTED), None)
    thread = _thread(accepted)
    refused = _reading(visit, message)
    view = View(
        id=about,
        first=line(accepted or events[-1]),
        names=called,
        kind=message.kind if message else None,
        marking=message.marking if message else None,
        thread=thread,
        title=await wording.title(visit, message),
        refusal=None if accepted else _refusal(events[-1]),
        erased=next((one for one in lines if one.type == entries.MESSAGE_ERASED), None),
        reading=refused.detail if refused else None,
        never=refused is not None and refused.code != "reason-needed",
        rows=rows(events, copies, directory, called) if accepted else (),
        lines=lines,
        neighbours=await _neighbours(visit, about, thread or about),
    )
    return visit.page("message.html", view)


async def read(visit: Visit) -> web.Response:
    """``POST /console/messages/{id}/text``: what it says, after that was recorded.

    It is answered with the page itself: whoever loads it again reads it again, and is recorded.
    """
    about, reason = audit.message_id(visit.asked), visit.form(Stated).reason
    envelope = await readings.stored(visit.hub, visit.asked, about)
    recorded = await readings.record(visit.hub, visit.asked, about, envelope, reason)
    payload = jsontext.parse(signature.parse(envelope, signature.MESSAGE_TYPE).payload)
    shown = msgspec.json.format(jsontext.encode(payload)).decode()
    view = Read(about, recorded, wording.texts(envelope, visit.language), shown)
    return visit.page("text.html", view, here=f"/console/messages/{about}")


# --- What is shown ---


def line(event: Event) -> Line:
    """An entry as a line."""
    entry = entries.decode(event.raw)
    return Line(event.index, entry.time, entry.type, entry.actor)


def rows(
    events: Sequence[Event],
    copies: Sequence[DeliveryRow],
    directory: Directory,
    called: Mapping[str, str],
) -> Sequence[Row]:
    """Everybody with the reason; first those who should have the message and do not."""
    codes = {*directory.participants, *(copy.recipient for copy in copies)}
    found = [explain.find(code, events, copies, directory) for code in codes]
    made = [_row(one, called.get(one.member, one.member)) for one in found]
    place = {stands: at for at, stands in enumerate(_ORDER)}
    return sorted(made, key=lambda row: (place.get(row.stands, len(place)), row.code))


def _row(found: Finding, name: str) -> Row:
    copy = found.copy
    clauses = [Clause(clause.text, _shown(clause.values, name)) for clause in found.clauses]
    position, receipt = (copy.position, copy.receipt_index) if copy else (None, None)
    return Row(found.member, name, found.stands, clauses, position, found.time, receipt)


def _shown(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """What stands in a sentence, as a page shows it."""
    as_text = {key: bdi(str(value)) for key, value in values.items()}
    moment = values.get("time")
    if moment is not None:
        as_text["time"] = time(str(moment))
    return {**as_text, "member": bdi(name)}


def _thread(accepted: Event | None) -> str | None:
    if accepted is None or accepted.private is None:
        return None
    return jsontext.decode(accepted.private, AcceptedPrivate).thread


def _refusal(event: Event) -> Refusal:
    code = entries.public_member(entries.decode(event.raw), "code")
    detail = event.private and jsontext.decode(event.private, RefusedPrivate).detail
    return Refusal(str(code), detail or None)


def _reading(visit: Visit, message: MessageRow | None) -> Refused | None:
    """Why the text is not shown for the asking; of no text, nothing."""
    if message is None or message.envelope is None:
        return None
    return readings.refusal(visit.hub, visit.asked, message.envelope, "")


async def _neighbours(visit: Visit, about: str, thread: str) -> Sequence[Neighbour]:
    """The other messages of its thread; the first of them has none, and gives it its name."""
    queries = visit.hub.queries
    events = [
        *await queries.events(EventFilter(type=entries.MESSAGE_ACCEPTED, subject=thread)),
        *await queries.events(
            EventFilter(type=entries.MESSAGE_ACCEPTED, thread=thread, limit=NEIGHBOURS)
        ),
    ]
    made = []
    for entry in (entries.decode(event.raw) for event in events):
        if entry.subject is not None and entry.subject != about:
            title = await wording.title(visit, await queries.message(entry.subject))
            made.append(Neighbour(entry.subject, entry.time, entry.actor, title))
    return made
