"""Telling an open page that the log has grown, so that it asks for itself again."""

import asyncio

from aiohttp import web
from aiohttp_sse import sse_response

from hub.delivery import wakeup
from hub.doors.console import sessions
from hub.doors.console.headers import HEADERS
from hub.doors.console.visit import Visit

CHECK_SECONDS = 15.0
"""How long a session may have run out before its stream ends; revocations are heard by the bell."""

PAUSE_SECONDS = 1.0
"""Between two events: a page need not be drawn for each of a hundred messages."""


async def stream(visit: Visit) -> web.StreamResponse:
    """``GET /console/live``: the log's size whenever it has grown, until the session ends."""
    hub, session = visit.hub, visit.session
    assert session is not None
    told = -1
    async with sse_response(visit.request, headers=dict(HEADERS)) as response:
        while response.is_connected():
            # Taken before looking: what comes after the look rings it.
            bell = hub.bells.bell(wakeup.LOG)
            if await sessions.find(hub, session.secret) is None:
                await response.send("", event="ended")
                break
            size = hub.recorder.state.tree.size
            if size != told:
                await response.send(str(size), event="log")
                told = size
            if await wakeup.heard(bell, CHECK_SECONDS):
                await asyncio.sleep(PAUSE_SECONDS)
    return response
