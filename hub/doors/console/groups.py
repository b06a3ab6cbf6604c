"""Thematic networks: who is in one from now on."""

import re
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from hub.doors.console.done import done
from hub.doors.console.overview import names
from hub.doors.console.visit import Visit
from hub.intake import membership
from schemas.directory import RESERVED_CODES
from schemas.encoding import CODE_PATTERN
from schemas.refusal import Refused

_BOX = "in-"
"""Before the code of a member, the name of its box."""


class Choice(msgspec.Struct, frozen=True):
    """A participant, and whether its box is ticked."""

    code: str
    name: str
    chosen: bool


class View(msgspec.Struct, frozen=True):
    """The page; ``known`` says that the group exists, so that its code is not to be typed."""

    code: str
    known: bool
    choices: Sequence[Choice]
    refused: str | None = None


async def show(visit: Visit) -> web.Response:
    """``GET /console/group``: with ``?code=``, that of a group that exists."""
    code = visit.request.query.get("code", "")
    groups = visit.hub.recorder.state.directory.groups
    if code and code not in groups:
        raise Refused("not-found", f"There is no group {code}.")
    return visit.page("group.html", _view(visit, code, groups.get(code, ())))


async def change(visit: Visit) -> web.Response:
    """``POST /console/group``."""
    code = visit.fields.get("code", "").strip()
    chosen = _chosen(visit.fields)
    try:
        if not re.fullmatch(CODE_PATTERN, code) or code in RESERVED_CODES:
            say = "A code has 2 to 16 small letters, digits or hyphens, and begins with a letter"
            raise Refused("bad-request", f"{say}; some are reserved.")
        job = membership.change_group(code, chosen, visit.principal.name)
        outcome = await visit.hub.change(job)
    except Refused as refusal:
        if refusal.row.status >= 500:
            raise
        view = msgspec.structs.replace(_view(visit, code, chosen), refused=refusal.detail)
        return visit.page("group.html", view, refusal.row.status)
    return done("/console/members", outcome.index)


def _chosen(fields: Mapping[str, str]) -> Sequence[str]:
    return [name.removeprefix(_BOX) for name in fields if name.startswith(_BOX)]


def _view(visit: Visit, code: str, chosen: Sequence[str]) -> View:
    directory = visit.hub.recorder.state.directory
    called = names(directory, visit.language)
    choices = [Choice(one, called[one], one in chosen) for one in sorted(called)]
    return View(code, code in directory.groups, choices)
