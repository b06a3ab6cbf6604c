"""Members and their keys: who takes part, how each stands, and what the log says of their keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from aiohttp import web

from hub import authority
from hub.doors.console import invitations
from hub.doors.console.done import Done, just_done
from hub.doors.console.pages import named
from hub.doors.console.visit import Visit
from hub.doors.service import Service
from hub.intake.certificates import CERTIFICATE_ISSUED
from hub.ledger.queries import EventFilter, LogRow
from schemas import entry as entries
from schemas.directory import PARTNERS, REGION, Directory, Participant, State
from schemas.encoding import parse_time
from schemas.entry import Entry
from schemas.refusal import Refused

HISTORY = 200
"""Entries of a participant's page, the newest."""

_SHOWN = frozenset({*entries.DIRECTORY_TYPES, CERTIFICATE_ISSUED})


class Row(msgspec.Struct, frozen=True):
    """A participant as the list shows it.

    ``since`` is when its key began to hold, ``days`` how many its certificate is still good for,
    ``warn`` whether that is to be said; ``asks`` says that it waits for its fingerprint.
    """

    code: str
    name: str
    role: str
    state: str
    groups: Sequence[str]
    kid: str | None
    since: str | None
    days: int | None
    warn: bool
    sent: str | None
    copies: int
    asks: bool


class Group(msgspec.Struct, frozen=True):
    """A thematic network, and who is in it."""

    code: str
    members: Sequence[str]


class View(msgspec.Struct, frozen=True):
    """The list."""

    rows: Sequence[Row]
    groups: Sequence[Group]
    done: Done | None


class Key(msgspec.Struct, frozen=True):
    """A signing key, and the times between which it holds."""

    kid: str
    since: str | None
    until: str | None
    expires: str | None
    ended: bool


class Step(msgspec.Struct, frozen=True):
    """An entry about a participant; ``detail`` is the reason or serial in its public part."""

    index: int
    type: str
    time: str
    actor: str
    detail: str | None


class Page(msgspec.Struct, frozen=True):
    """A participant's page. ``bundle``: the visitor's browser can fetch the bundle it made.

    ``tls``: a certificate can be made for the request that was registered at the join.
    """

    row: Row
    names: Mapping[str, str]
    country: str | None
    keys: Sequence[Key]
    history: Sequence[Step]
    ends: str | None
    invited_until: str | None
    bundle: bool
    tls: bool
    done: Done | None


# --- Handlers ---


async def show(visit: Visit) -> web.Response:
    """``GET /console/members``."""
    directory = visit.hub.recorder.state.directory
    certificates = await _ends(visit.hub)
    copies = await visit.hub.queries.waiting()
    rows = [
        await _row(visit, participant, certificates, copies)
        for participant in sorted(directory.participants.values(), key=lambda p: p.code)
    ]
    groups = [Group(code, members) for code, members in sorted(directory.groups.items())]
    return visit.page("members.html", View(rows, groups, await just_done(visit)))


async def show_one(visit: Visit) -> web.Response:
    """``GET /console/members/{code}``."""
    hub = visit.hub
    known = participant(visit)
    directory, certificates = hub.recorder.state.directory, await _ends(hub)
    size = hub.recorder.state.tree.size
    wanted = EventFilter(subject=known.code, before=size, limit=HISTORY)
    told = [(e.index, entries.decode(e.raw)) for e in await hub.queries.events(wanted)]
    invited = await hub.queries.join_request(known.code)
    page = Page(
        row=await _row(visit, known, certificates, await hub.queries.waiting()),
        names=known.names,
        country=known.country,
        keys=keys(directory, known.code, {index: entry.time for index, entry in told}),
        history=history(told),
        ends=certificates.get(known.code),
        invited_until=invited.expires if invited else None,
        bundle=invitations.offered(visit, invited.invitation if invited else None),
        tls=hub.authority is not None and bool(known.keys and known.keys.tls_request),
        done=await just_done(visit),
    )
    return visit.page("member.html", page)


def participant(visit: Visit) -> Participant:
    """The participant that the address names.

    Raises:
        Refused: ``not-found``.
    """
    code = visit.request.match_info["code"]
    found = visit.hub.recorder.state.directory.participants.get(code)
    if found is None:
        raise Refused("not-found", f"There is no participant {code}.")
    return found


async def _ends(hub: Service) -> Mapping[str, str]:
    """When the newest certificate of each participant ends."""
    return {row.code: row.not_after for row in await hub.queries.certificates()}


async def _row(
    visit: Visit, known: Participant, certificates: Mapping[str, str], copies: Mapping[str, int]
) -> Row:
    hub = visit.hub
    directory, size = hub.recorder.state.directory, hub.recorder.state.tree.size
    key = directory.keys.get(known.kid or "")
    began: Sequence[LogRow] = await hub.queries.rows(key.since, key.since + 1) if key else ()
    last = EventFilter(type=entries.MESSAGE_ACCEPTED, sender=known.code, before=size, limit=1)
    sent = [entries.decode(event.raw).time for event in await hub.queries.events(last)]
    waits = known.state in {State.INVITED, State.HELD} and await _asks(hub, known.code)
    days = days_left(certificates.get(known.code), hub.clock())
    return Row(
        code=known.code,
        name=named(known.names, visit.language, known.code),
        role=known.role,
        state=known.state,
        groups=groups(directory, known.code),
        kid=known.kid,
        since=began[0].time if began else None,
        days=days,
        warn=days is not None and days <= max(authority.WARN_DAYS),
        sent=sent[0] if sent else None,
        copies=copies.get(known.code, 0),
        asks=waits,
    )


async def _asks(hub: Service, code: str) -> bool:
    request = await hub.queries.join_request(code)
    return request is not None and request.kid is not None


# --- What the pages say ---


def groups(directory: Directory, code: str) -> Sequence[str]:
    """The groups that a participant is in."""
    every = (REGION, PARTNERS, *sorted(directory.groups))
    return [group for group in every if code in (directory.members_of(group) or ())]


def days_left(not_after: str | None, now: datetime) -> int | None:
    """Whole days until a certificate ends; negative once it has."""
    return None if not_after is None else authority.days_left(parse_time(not_after), now)


def keys(directory: Directory, code: str, times: Mapping[int, str]) -> Sequence[Key]:
    """A participant's signing keys, the newest first; ``times`` are those of the log's entries."""
    own = (key for key in directory.keys.values() if key.member == code)
    return [
        Key(
            key.kid,
            times.get(key.since),
            None if key.until is None else times.get(key.until),
            key.expires,
            key.until is not None,
        )
        for key in sorted(own, key=lambda key: -key.since)
    ]


def history(told: Sequence[tuple[int, Entry]]) -> Sequence[Step]:
    """The entries about a participant's standing and keys."""
    return [
        Step(index, entry.type, entry.time, entry.actor, _detail(entry))
        for index, entry in told
        if entry.type in _SHOWN
    ]


def _detail(entry: Entry) -> str | None:
    found = entries.public_member(entry, "reason") or entries.public_member(entry, "serial")
    return str(found) if found else None
