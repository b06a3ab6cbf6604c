"""Signing in with an access token, or one that a participant's connector signed; and out."""

from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors.authentication import MAX_TOKEN
from hub.doors.console import sessions
from hub.doors.console.visit import SIGN_IN, START, Visit, local, menu, see
from hub.doors.service import Service
from schemas.refusal import Refused

TRIES_PER_MINUTE = 10
"""Wrong tokens of one address; what comes beyond them is not looked at."""

_MINUTE = timedelta(minutes=1)


class Form(msgspec.Struct, frozen=True):
    """What the form of the page says."""

    token: Annotated[str, Meta(max_length=MAX_TOKEN)]
    next: Annotated[str, Meta(max_length=2_000)] = START


class View(msgspec.Struct, frozen=True):
    """The page: where to go on to, and why the last try failed."""

    next: str
    refused: str | None = None


class Tries:
    """Counts wrong tokens for each address. Nobody can guess a token; nobody shall try for long."""

    def __init__(self) -> None:
        """Nobody has tried yet."""
        self._failed: dict[str, tuple[datetime, int]] = {}

    def check(self, address: str, now: datetime) -> None:
        """Whether an address may try.

        Raises:
            Refused: ``quota``.
        """
        self._failed = {a: (t, n) for a, (t, n) in self._failed.items() if now - t < _MINUTE}
        if self._failed.get(address, (now, 0))[1] >= TRIES_PER_MINUTE:
            raise Refused("quota", "Too many wrong tokens came from your address; wait a minute.")

    def failed(self, address: str, now: datetime) -> None:
        """A token was wrong."""
        start, count = self._failed.get(address, (now, 0))
        self._failed[address] = (start, count + 1)


async def show(visit: Visit) -> web.Response:
    """``GET /console/login``: the form."""
    sessions.secure(visit.hub.settings)
    return visit.page("login.html", View(local(visit.request.query.get("next", START))))


async def enter(visit: Visit, tries: Tries) -> web.Response:
    """``POST /console/login``: the token is right, and the session of whose it is begins."""
    hub, form = visit.hub, visit.form(Form)
    where, now = local(form.next), hub.clock()
    address = _address(hub, visit.request)
    try:
        sessions.secure(hub.settings)
        tries.check(address, now)
        session = await sessions.start(hub, form.token.strip(), SIGN_IN)
    except Refused as refusal:
        if refusal.row.status < 500:
            if refusal.code != "quota":
                tries.failed(address, now)
            # Which route and why, so many lines a minute; never the token.
            hub.strangers.refused(refusal, f"POST {SIGN_IN}", now)
        return visit.page("login.html", View(where, refusal.detail), refusal.row.status)
    home = menu(session.principal.roles)[0]
    response = see(where if where.startswith(home) else home)
    sessions.set_cookie(response, hub.settings, session.secret)
    return response


async def leave(visit: Visit) -> web.Response:
    """``POST /console/logout``: the session ends."""
    assert visit.session is not None
    await sessions.end(visit.hub, visit.session)
    response = see(SIGN_IN)
    sessions.del_cookie(response, visit.hub.settings)
    return response


def _address(hub: Service, request: web.Request) -> str:
    """Whose address it is. A proxy adds that of whoever asks it at the end of the header."""
    forwarded = request.headers.get("X-Forwarded-For", "") if hub.settings.http.url else ""
    return forwarded.rpartition(",")[2].strip() or request.remote or ""
