"""The quarantine: what came over the broker and could not be answered, and what becomes of it."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors import quarantine
from hub.doors.answers import QuarantinedMessage
from hub.doors.console.done import Done, done, just_done
from hub.doors.console.visit import Visit
from hub.doors.quarantine import Decision
from hub.doors.service import Asked, Service
from schemas import signature
from schemas.refusal import Refused

SHOWN = 64 * 1024
"""Characters of a body that a page shows."""

_PAGE = "/console/quarantine"


class Form(msgspec.Struct, frozen=True):
    """Why; a body's is shorter than a decision's."""

    reason: Annotated[str, Meta(max_length=2_000)] = ""


class View(msgspec.Struct, frozen=True):
    """The list; None where there is no broker."""

    messages: Sequence[QuarantinedMessage] | None
    done: Done | None


class Page(msgspec.Struct, frozen=True):
    """One message; ``text`` is its body once it was asked for, ``cut`` whether there is more."""

    message: QuarantinedMessage
    text: str | None = None
    cut: bool = False
    refused: str | None = None
    given: Mapping[str, str] = {}


async def show(visit: Visit) -> web.Response:
    """``GET /console/quarantine``."""
    there = visit.hub.quarantine is not None
    messages = await quarantine.every(visit.hub) if there else None
    return visit.page("quarantine.html", View(messages, await just_done(visit)))


async def show_one(visit: Visit) -> web.Response:
    """``GET /console/quarantine/{digest}``: all but its body."""
    return visit.page("quarantined.html", Page(await _message(visit)))


async def read(visit: Visit) -> web.Response:
    """``POST /console/quarantine/{digest}``: the body; that it is read is recorded first.

    Nothing follows it: to load the page again is to read again, and is recorded again.
    """
    try:
        reason = visit.form(Form).reason
        message, raw = await quarantine.read(visit.hub, visit.asked, reason)
    except Refused as refusal:
        return await _refused(visit, "quarantined.html", refusal)
    text = readable(raw)
    return visit.page("quarantined.html", Page(message, text[:SHOWN], len(text) > SHOWN))


def readable(raw: bytes) -> str:
    """What a body says: an envelope's payload, or the bytes as text as far as they are."""
    with contextlib.suppress(Refused):
        raw = signature.parse(raw, signature.MESSAGE_TYPE).payload
    return raw.decode("utf-8", "replace")


# --- Deciding ---

Decide: TypeAlias = Callable[[Service, Asked, Decision], Awaitable[int | None]]

DECISIONS: Mapping[str, Decide] = MappingProxyType(
    {"release": quarantine.let_go, "discard": quarantine.throw_away}
)
"""By the last part of the address, which is the template's name, too."""


async def ask(name: str, visit: Visit) -> web.Response:
    """``GET /console/quarantine/{digest}/…``: what will happen, and the form."""
    return visit.page(f"{name}.html", Page(await _message(visit)))


async def decide(name: str, visit: Visit) -> web.Response:
    """``POST /console/quarantine/{digest}/…``."""
    try:
        reason = visit.form(Form).reason.strip()
        if not reason:
            raise Refused("bad-request", "Say why; the reason is recorded in the log.")
        index = await DECISIONS[name](visit.hub, visit.asked, Decision(reason))
    except Refused as refusal:
        return await _refused(visit, f"{name}.html", refusal)
    return done(_PAGE, index)


async def _refused(visit: Visit, template: str, refusal: Refused) -> web.Response:
    """The page once more, with the reason; what is no longer there has none."""
    if refusal.code == "not-found" or refusal.row.status >= 500:
        raise refusal
    page = Page(await _message(visit), refused=refusal.detail, given=visit.fields)
    return visit.page(template, page, refusal.row.status)


async def _message(visit: Visit) -> QuarantinedMessage:
    digest = visit.request.match_info["digest"]
    found = [one for one in await quarantine.every(visit.hub) if one.digest == digest]
    if not found:
        raise Refused("not-found", "No message in quarantine has this digest.")
    return found[0]
