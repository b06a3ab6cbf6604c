"""Files to take away: entries of the log with their proofs, and what the log has of a message."""

import re
from typing import Final

from aiohttp import web

from hub.doors import audit, evidence, readings
from hub.doors.console.message import Stated
from hub.doors.console.visit import Visit
from hub.ledger import evidence as gathering
from schemas import jsontext, proof
from schemas.refusal import Refused

_JSON: Final = "application/json"


async def entry(visit: Visit) -> web.Response:
    """``GET /console/entries/{index}``: the bytes of an entry, as they are hashed into the tree."""
    index = _index(visit)
    found = await visit.hub.queries.entries(index, index + 1)
    if not found:
        raise Refused("not-found", "The log has no entry with this index.")
    return _file(found[0], f"entry-{index}.json", _JSON)


async def inclusion(visit: Visit) -> web.Response:
    """``GET /console/entries/{index}/proof``: that it is in the log (C2SP tlog-proof)."""
    hub, index = visit.hub, _index(visit)
    found = await gathering.proof(hub.queries, await evidence.log(hub), index)
    return _file(proof.encode(found).encode(), f"entry-{index}.tlog-proof", "text/plain")


async def acceptance(visit: Visit) -> web.Response:
    """``GET /console/messages/{id}/acceptance``: what its sender was promised."""
    hub, about = visit.hub, audit.message_id(visit.asked)
    await audit.note(hub, visit.asked, about)
    row = await hub.queries.message(about)
    found = row and await hub.queries.acceptance(row.index)
    if found is None:
        raise Refused("not-found", "The hub accepted no message with this id.")
    return _file(jsontext.encode(found), f"acceptance-{about}.json", _JSON)


async def proving(visit: Visit) -> web.Response:
    """``GET`` and ``POST /console/messages/{id}/evidence``: everything, as a zip.

    By GET it comes without a reason, and to auditors without the message.
    """
    return await evidence.answer(visit.hub, visit.asked, visit.form(Stated).reason)


async def envelope(visit: Visit) -> web.Response:
    """``POST /console/messages/{id}/envelope``: the message as it was signed; a reading of it."""
    about, reason = audit.message_id(visit.asked), visit.form(Stated).reason
    raw = await readings.stored(visit.hub, visit.asked, about)
    await readings.record(visit.hub, visit.asked, about, raw, reason)
    return _file(raw, f"message-{about}.jose.json", "application/jose+json")


def _index(visit: Visit) -> int:
    given = visit.request.match_info["index"]
    if not re.fullmatch("[0-9]{1,15}", given):
        raise Refused("not-found", "An entry has a number: its index in the log.")
    return int(given)


def _file(body: bytes, name: str, media_type: str) -> web.Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=body, content_type=media_type, headers=headers)
