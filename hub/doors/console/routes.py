"""The console's routes: who is let in, in which language, and what goes wrong as a page."""

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from importlib import resources
from types import MappingProxyType
from typing import TypeAlias

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler as RequestHandler
from yarl import URL

from hub.doors.access import CONSOLE, PARTICIPANTS, Role
from hub.doors.console import (
    actions,
    checkpoints,
    configuration,
    downloads,
    groups,
    invitations,
    languages,
    live,
    members,
    message,
    overview,
    quarantine,
    search,
    sessions,
    sign_in,
    subscribe,
    subscription,
    webhooks,
)
from hub.doors.console.headers import HEADERS
from hub.doors.console.pages import Pages
from hub.doors.console.sessions import Session
from hub.doors.console.visit import SIGN_IN, START, Visit, check_origin, fields, see
from hub.doors.service import Service, check_address
from schemas.refusal import Refused

Handler: TypeAlias = Callable[[Visit], Awaitable[web.StreamResponse]]

_STATIC: Mapping[str, str] = MappingProxyType(
    {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
)

_LANGUAGE = "nhri-language"
_YEAR = 365 * 24 * 60 * 60


class Problem(msgspec.Struct, frozen=True):
    """Why a page cannot be shown or an action was not done."""

    detail: str


async def _start(visit: Visit) -> web.Response:
    """``GET /console``."""
    return see(START)


async def _static(visit: Visit) -> web.Response:
    """``GET /console/static/{name}``."""
    name = visit.request.match_info["name"]
    if name not in _STATIC:
        raise Refused("not-found", "There is no such file.")
    raw = resources.files(__package__).joinpath("static", name).read_bytes()
    return web.Response(body=raw, content_type=_STATIC[name], charset="utf-8")


def _forms(
    path: str,
    names: Iterable[str],
    ask: Callable[[str, Visit], Awaitable[web.Response]],
    act: Callable[[str, Visit], Awaitable[web.Response]],
) -> dict[tuple[str, str], Handler]:
    """A page and its form for each of the names, under a path."""
    found: dict[tuple[str, str], Handler] = {}
    for name in names:
        found["GET", f"{path}/{name}"] = partial(ask, name)
        found["POST", f"{path}/{name}"] = partial(act, name)
    return found


HANDLERS: Mapping[tuple[str, str], Handler] = MappingProxyType(
    {
        ("GET", "/console"): _start,
        ("GET", "/console/"): overview.show,
        ("GET", "/console/static/{name}"): _static,
        ("GET", "/console/login"): sign_in.show,
        ("POST", "/console/logout"): sign_in.leave,
        ("GET", "/console/live"): live.stream,
        ("GET", "/console/search"): search.show,
        ("GET", "/console/search/export"): search.export,
        ("GET", "/console/messages/{id}"): message.show,
        ("GET", "/console/messages/{id}/acceptance"): downloads.acceptance,
        ("GET", "/console/messages/{id}/evidence"): downloads.proving,
        ("POST", "/console/messages/{id}/evidence"): downloads.proving,
        ("POST", "/console/messages/{id}/envelope"): downloads.envelope,
        ("POST", "/console/messages/{id}/text"): message.read,
        ("GET", "/console/entries/{index}"): downloads.entry,
        ("GET", "/console/entries/{index}/proof"): downloads.inclusion,
        ("GET", "/console/checkpoints"): checkpoints.show,
        ("GET", "/console/settings"): configuration.show,
        ("GET", "/console/members"): members.show,
        ("GET", "/console/members/{code}"): members.show_one,
        ("GET", "/console/members/{code}/bundle"): invitations.bundle,
        ("GET", "/console/invite"): invitations.show,
        ("POST", "/console/invite"): invitations.invite,
        ("GET", "/console/group"): groups.show,
        ("POST", "/console/group"): groups.change,
        ("GET", "/console/keys/{kid}/revoke"): actions.ask_revoke,
        ("POST", "/console/keys/{kid}/revoke"): actions.revoke,
        ("GET", "/console/webhooks"): webhooks.show,
        ("POST", "/console/webhooks"): subscribe.create,
        ("GET", "/console/webhooks/new"): subscribe.show,
        ("POST", "/console/webhooks/new"): subscribe.show,
        ("POST", "/console/webhooks/try"): subscribe.try_out,
        ("GET", "/console/webhooks/{id}"): subscription.show,
        ("POST", "/console/webhooks/{id}/test"): subscription.test,
        ("POST", "/console/webhooks/{id}/redrive"): subscription.redrive,
        ("GET", "/console/quarantine"): quarantine.show,
        ("GET", "/console/quarantine/{digest}"): quarantine.show_one,
        ("POST", "/console/quarantine/{digest}"): quarantine.read,
    }
    | _forms("/console/members/{code}", actions.ACTIONS, actions.ask, actions.act)
    | _forms("/console/webhooks/{id}", subscription.ACTIONS, subscription.ask, subscription.act)
    | _forms(
        "/console/quarantine/{digest}", quarantine.DECISIONS, quarantine.ask, quarantine.decide
    )
)


def build(hub: Service) -> Mapping[tuple[str, str], RequestHandler]:
    """What the HTTP door calls for each row of ``CONSOLE``."""
    pages = Pages()
    handlers: Mapping[tuple[str, str], Handler] = {
        **HANDLERS,
        ("POST", "/console/login"): partial(sign_in.enter, tries=sign_in.Tries()),
    }
    return {row: _guarded(hub, pages, handlers[row], allowed) for row, allowed in CONSOLE.items()}


def _guarded(
    hub: Service, pages: Pages, handler: Handler, allowed: frozenset[Role]
) -> RequestHandler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        asked = request.query.get("lang")
        remembered, accepted = request.cookies.get(_LANGUAGE), request.headers
        language = languages.choose(asked, remembered, accepted.get("Accept-Language", ""))
        visit = Visit(hub, pages, request, language)
        try:
            response = await _let_in(visit, handler, allowed)
        except Refused as refusal:
            response = visit.page("problem.html", Problem(refusal.detail), refusal.row.status)
        if response.prepared:  # a stream, which is over
            return response
        response.headers.update(HEADERS)
        if asked == language:
            response.set_cookie(_LANGUAGE, language, path="/console", max_age=_YEAR, samesite="Lax")
        return response

    return guarded


async def _let_in(visit: Visit, handler: Handler, allowed: frozenset[Role]) -> web.StreamResponse:
    posted = visit.request.method == "POST"
    if posted:
        check_origin(visit.hub, visit.request)
        visit = msgspec.structs.replace(visit, fields=await fields(visit.request))
    if Role.ANONYMOUS in allowed:
        return await handler(visit)
    session = await _session(visit)
    if session is None:
        here = visit.request.rel_url
        return see(str(URL(SIGN_IN).with_query(None if posted else {"next": str(here)})))
    visit = msgspec.structs.replace(visit, session=session)
    try:
        return await _do(visit, handler, allowed)
    except Refused as refusal:
        return visit.page("problem.html", Problem(refusal.detail), refusal.row.status)


async def _session(visit: Visit) -> Session | None:
    name = sessions.cookie_name(visit.hub.settings)
    return await sessions.find(visit.hub, visit.request.cookies.get(name))


async def _do(visit: Visit, handler: Handler, allowed: frozenset[Role]) -> web.StreamResponse:
    session, request = visit.session, visit.request
    assert session is not None
    if not session.principal.roles & allowed:
        raise Refused("forbidden", _forbidden(session.principal.roles))
    check_address(request)
    if request.method == "POST" and not _is_of(session, visit):
        raise Refused("forbidden", "The form is of another session; open its page again.")
    if request.headers.get("Sec-Fetch-Dest") != "empty":  # the page asks again by itself
        await sessions.see(visit.hub, session)
    return await handler(visit)


def _forbidden(roles: frozenset[Role]) -> str:
    if roles & PARTICIPANTS:
        return "This page is for the hub's operators and auditors."
    if Role.OPERATOR in roles:
        return "Only the participant itself can do that."
    return "Auditors look and change nothing; ask an operator."


def _is_of(session: Session, visit: Visit) -> bool:
    given = visit.fields.get("csrf", "").encode()
    return hmac.compare_digest(given, session.csrf.encode())
