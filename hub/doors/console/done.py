"""What somebody has just done, said again from the log: a page that follows a form shows it.

The address names the entry and nothing else, so that a link of somebody else's claims nothing: an
entry of another account is not shown.
"""

import msgspec
from aiohttp import web

from hub.doors.console.visit import Visit, see

_DIGITS = 15


class Done(msgspec.Struct, frozen=True):
    """An entry of the account that is signed in."""

    index: int
    type: str


def done(path: str, index: int | None) -> web.Response:
    """Send the browser to a page that says what was recorded."""
    return see(path if index is None else f"{path}?done={index}")


async def just_done(visit: Visit) -> Done | None:
    """The entry that the address names, if it is one of the visitor's own."""
    given = visit.request.query.get("done", "")
    if not (given.isascii() and given.isdecimal() and len(given) <= _DIGITS):
        return None
    rows = await visit.hub.queries.rows(int(given), int(given) + 1)
    own = [row for row in rows if row.actor == visit.principal.name]
    return Done(own[0].index, own[0].type) if own else None
