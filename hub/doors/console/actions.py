"""What operators do about a participant: a page that says what will happen, and its form.

Each is the same job as that of its route under ``/v1``. What the hub refuses changes nothing, and
the page comes back with the reason and with what was typed.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors import certificates, operators
from hub.doors.console import invitations
from hub.doors.console.done import done
from hub.doors.console.members import participant
from hub.doors.console.pages import named
from hub.doors.console.visit import Visit
from hub.doors.operators import Approval, Reason
from hub.intake import membership
from hub.intake.certificates import CERTIFICATE_ISSUED
from hub.ledger.queries import EventFilter
from schemas import entry as entries
from schemas.directory import Participant, State
from schemas.refusal import Refused
from schemas.statement import FINGERPRINT_DIGITS, spoken


class Why(msgspec.Struct, frozen=True):
    """The form of most actions; the reason is recorded."""

    reason: Annotated[str, Meta(max_length=2_000)] = ""


class Compared(msgspec.Struct, frozen=True):
    """The digits that the technician read aloud, as they were typed."""

    fingerprint: str = ""


class Ended(msgspec.Struct, frozen=True):
    """Why a key ends."""

    reason: Literal["superseded", "lost", "compromised"]


class View(msgspec.Struct, frozen=True):
    """The page of an action. ``given`` is what the form said before it was refused."""

    code: str
    name: str
    given: Mapping[str, str]
    refused: str | None
    back: str
    fingerprint: str | None = None
    received: str | None = None
    kid: str | None = None


Doing: TypeAlias = Callable[[Visit, Participant], Awaitable[web.Response]]


class Action(msgspec.Struct, frozen=True):
    """What can be done while a participant is in one of these states."""

    states: frozenset[State]
    do: Doing


# --- Participants ---


async def ask(name: str, visit: Visit) -> web.Response:
    """``GET /console/members/{code}/…``: what will happen, and the form."""
    known = participant(visit)
    if known.state not in ACTIONS[name].states:
        raise Refused("conflict", f"{known.code} is {known.state}; this cannot be done now.")
    return visit.page(f"{name}.html", await _view(visit, name, known))


async def act(name: str, visit: Visit) -> web.Response:
    """``POST /console/members/{code}/…``: it is done, or the page says why not."""
    known = participant(visit)
    try:
        return await ACTIONS[name].do(visit, known)
    except Refused as refusal:
        if refusal.row.status >= 500:
            raise
        view = await _view(visit, name, known, refusal)
        return visit.page(f"{name}.html", view, refusal.row.status)


async def _view(
    visit: Visit, name: str, known: Participant, refusal: Refused | None = None
) -> View:
    view = _of(visit, known, refusal)
    if name != "approve":
        return view
    request = await visit.hub.queries.join_request(known.code)
    if request is None or request.fingerprint is None:
        raise Refused("not-found", f"No request to join as {known.code} is waiting.")
    digits = spoken(request.fingerprint)
    return msgspec.structs.replace(view, fingerprint=digits, received=request.received)


def _of(visit: Visit, known: Participant, refusal: Refused | None) -> View:
    return View(
        code=known.code,
        name=named(known.names, visit.language, known.code),
        given=visit.fields,
        refused=refusal.detail if refusal else None,
        back=f"/console/members/{known.code}",
    )


def _done(known: Participant, index: int | None) -> web.Response:
    return done(f"/console/members/{known.code}", index)


def _reason(visit: Visit) -> str:
    reason = visit.form(Why).reason.strip()
    if not reason:
        raise Refused("bad-request", "Say why; the reason is recorded in the log.")
    return reason


async def _approve(visit: Visit, known: Participant) -> web.Response:
    digits = "".join(visit.form(Compared).fingerprint.split())
    if len(digits) != FINGERPRINT_DIGITS or not (digits.isascii() and digits.isdecimal()):
        raise Refused("bad-request", f"A fingerprint has {FINGERPRINT_DIGITS} digits.")
    index = await operators.let_in(visit.hub, known.code, Approval(digits), visit.principal.name)
    return _done(known, index)


async def _hold(visit: Visit, known: Participant) -> web.Response:
    reason = Reason(_reason(visit))
    made = await operators.end_keys(visit.hub, known.code, reason, visit.principal.name)
    return invitations.invited(visit, known.code, made)


async def _suspend(visit: Visit, known: Participant) -> web.Response:
    return await _change_state(visit, known, entries.MEMBER_SUSPENDED)


async def _resume(visit: Visit, known: Participant) -> web.Response:
    return await _change_state(visit, known, entries.MEMBER_RESUMED)


async def _change_state(visit: Visit, known: Participant, kind: str) -> web.Response:
    by = visit.principal.name
    job = membership.change_state(kind, known.code, by, _reason(visit))
    return _done(known, (await visit.hub.change(job)).index)


async def _certify(visit: Visit, known: Participant) -> web.Response:
    hub = visit.hub
    await certificates.reissue(hub, known.code, visit.principal.name)
    size = hub.recorder.state.tree.size
    wanted = EventFilter(type=CERTIFICATE_ISSUED, subject=known.code, before=size, limit=1)
    return _done(known, (await hub.queries.events(wanted))[0].index)


ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "approve": Action(frozenset({State.INVITED, State.HELD}), _approve),
        "hold": Action(frozenset({State.ACTIVE, State.HELD}), _hold),
        "suspend": Action(frozenset({State.ACTIVE, State.HELD}), _suspend),
        "resume": Action(frozenset({State.SUSPENDED}), _resume),
        "certificate": Action(frozenset(State), _certify),
    }
)
"""By the last part of the address, which is the template's name, too."""


# --- Keys ---


async def ask_revoke(visit: Visit) -> web.Response:
    """``GET /console/keys/{kid}/revoke``."""
    return visit.page("revoke.html", _key_view(visit))


async def revoke(visit: Visit) -> web.Response:
    """``POST /console/keys/{kid}/revoke``."""
    view = _key_view(visit)
    try:
        reason = visit.form(Ended).reason
        job = membership.revoke_key(view.kid or "", reason, visit.principal.name)
        outcome = await visit.hub.change(job)
    except Refused as refusal:
        if refusal.row.status >= 500:
            raise
        shown = msgspec.structs.replace(view, refused=refusal.detail)
        return visit.page("revoke.html", shown, refusal.row.status)
    return done(view.back, outcome.index)


def _key_view(visit: Visit) -> View:
    directory = visit.hub.recorder.state.directory
    key = directory.keys.get(visit.request.match_info["kid"])
    if key is None:
        raise Refused("not-found", "No participant ever registered this key.")
    view = _of(visit, directory.participants[key.member], None)
    return msgspec.structs.replace(view, kid=key.kid)
