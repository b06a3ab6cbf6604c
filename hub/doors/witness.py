"""Witnesses ask what there is to cosign, and bring their cosignatures (C2SP tlog-witness, pulled).

The bodies are those of the specification: ``add-checkpoint`` one way, a signed note the other.
"""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors.service import Asked, Service, answer, arriving, query
from schemas.jsontext import MAX_SAFE_INTEGER


class Cosigned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The size of the tree that was cosigned last; 0 by whoever never cosigned this log."""

    old: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]


async def request(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/witness/request``: the candidate with a proof from ``old``; empty: nothing to do.

    The body is that of ``add-checkpoint``. Whoever cosigned more entries than the hub has is
    refused as ``conflict``, and should show that checkpoint.
    """
    old = query(asked, Cosigned).old
    body = await hub.witnesses.request(asked.principal.name, old, hub.recorder.state.directory)
    return web.Response(body=body or b"", content_type="text/plain", charset="utf-8")


async def response(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/witness/response``: a checkpoint as signed note with the asker's cosignatures.

    A checkpoint that the hub signed and does not have stops all signing.
    """
    raw = await arriving(asked.request.read())
    directory = hub.recorder.state.directory
    quorum = await hub.witnesses.respond(asked.principal.name, raw, asked.token, directory)
    return answer({"quorum": quorum})
