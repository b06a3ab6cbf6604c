"""Inviting from the console: the form, and the bundle as a file.

The bundle's secret is kept nowhere at the hub. It goes into a cookie of the browser that made it,
for ten minutes and for that participant's pages alone; the file is made of it when it is fetched.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors import operators
from hub.doors.console import languages, sessions
from hub.doors.console.done import done
from hub.doors.console.visit import Visit
from hub.doors.operators import Invitation, Invite
from schemas import entry as entries
from schemas import jsontext
from schemas.encoding import CODE_PATTERN
from schemas.refusal import Refused

KEPT_SECONDS: Final = 10 * 60

_COOKIE: Final = "nhri-invitation"


class Form(msgspec.Struct, frozen=True):
    """What the form says, beside the names."""

    code: str = ""
    role: str = "member"
    country: str = ""
    contact: Annotated[str, Meta(max_length=2_000)] = ""


class View(msgspec.Struct, frozen=True):
    """The form as it is filled in; ``names`` has a field for each language of the console."""

    code: str
    role: str
    country: str
    contact: str
    names: Mapping[str, str]
    refused: str | None = None


async def show(visit: Visit) -> web.Response:
    """``GET /console/invite``; with ``?code=``, filled in for somebody who was invited before."""
    code = visit.request.query.get("code", "")
    known = visit.hub.recorder.state.directory.participants.get(code)
    if known is None:
        return visit.page("invite.html", View("", "member", "", "", {}))
    view = View(known.code, known.role, known.country or "", "", known.names)
    return visit.page("invite.html", view)


async def invite(visit: Visit) -> web.Response:
    """``POST /console/invite``."""
    names = _names(visit.fields)
    try:
        form = visit.form(Form)
        made = await operators.make_invitation(visit.hub, _wanted(form, names), _by(visit))
    except Refused as refusal:
        if refusal.row.status >= 500:
            raise
        shown = {name: visit.fields.get(name, "") for name in Form.__struct_fields__}
        view = View(**shown, names=names, refused=refusal.detail)
        return visit.page("invite.html", view, refusal.row.status)
    return invited(visit, form.code.strip(), made)


def _wanted(form: Form, names: Mapping[str, str]) -> Invite:
    code, country = form.code.strip(), form.country.strip().upper()
    if not re.fullmatch(CODE_PATTERN, code):
        say = "A code has 2 to 16 small letters, digits or hyphens, and begins with a letter."
        raise Refused("bad-request", say)
    if country and not re.fullmatch("[A-Z]{2}", country):
        raise Refused("bad-request", "A country is two letters of ISO 3166-1, such as KZ.")
    if not names:
        raise Refused("bad-request", "Give the name in at least one language.")
    wanted = {
        "code": code,
        "role": form.role,
        "names": names,
        "country": country or None,
        "contact": form.contact,
    }
    return jsontext.convert(wanted, Invite)


def _names(fields: Mapping[str, str]) -> Mapping[str, str]:
    """The names that were given, by language."""
    given = {tag: fields.get(f"name-{tag}", "").strip() for tag in languages.LANGUAGES}
    return {tag: name for tag, name in given.items() if name}


def _by(visit: Visit) -> str:
    return visit.principal.name


# --- The bundle ---


def invited(visit: Visit, code: str, made: Invitation) -> web.Response:
    """Go on to the participant's page, from which this browser can fetch the bundle."""
    response = done(f"/console/members/{code}", made.index)
    response.set_cookie(
        _COOKIE,
        made.secret,
        path=f"/console/members/{code}",
        max_age=KEPT_SECONDS,
        secure=sessions.secure(visit.hub.settings),
        httponly=True,
        samesite="Strict",
    )
    return response


def offered(visit: Visit, invitation: str | None) -> bool:
    """Whether the visitor's browser has the secret of the invitation with this digest."""
    secret = visit.request.cookies.get(_COOKIE, "")
    return invitation == entries.digest(secret.encode("utf-8", "replace"))


async def bundle(visit: Visit) -> web.Response:
    """``GET /console/members/{code}/bundle``: the file for the technician."""
    code, secret = visit.request.match_info["code"], visit.request.cookies.get(_COOKIE)
    known = visit.hub.recorder.state.directory.participants.get(code)
    if known is None or not secret:
        say = "A bundle can be fetched for ten minutes, in the browser that it was made in."
        raise Refused("not-found", f"{say} Make another one.")
    made = await operators.bundle(visit.hub, known.code, secret)
    return web.Response(
        body=msgspec.json.format(jsontext.encode(made), indent=2) + b"\n",
        content_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{known.code}.bundle.json"'},
    )
