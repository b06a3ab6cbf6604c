"""Witnesses ask what there is to cosign, and bring their cosignatures (C2SP tlog-witness, pulled).

The bodies are those of the specification: ``add-checkpoint`` one way, a signed note the other.
"""

from collections.abc import Awaitable
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors.service import Asked, Service, answer, arriving, query
from hub.intake.recorder import StorageError
from schemas import jsontext
from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.refusal import TRY_AGAIN, Refused
from schemas.tail import MAX_BODY, Extended, Filled, Parts, Piece

T = TypeVar("T")


class Followed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many entries of this log the asker has read and hashed."""

    size: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]


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


async def wanted(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/witness/tail``: whether this hub was restored, and what it lacks since."""
    size = query(asked, Followed).size
    directory = hub.recorder.state.directory
    return answer(await hub.witnesses.followed(asked.principal.name, size, directory))


async def extend(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/witness/tail``: entries that follow on those that are left."""
    piece = await _brought(asked, Piece)
    return answer(Extended(await _stored(hub.restorer.extend(piece, asked.principal.name))))


async def fill(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/witness/parts``: private parts and envelopes of entries whose content is gone."""
    brought = await _brought(asked, Parts)
    return answer(Filled(await _stored(hub.restorer.fill(brought.parts))))


async def _brought(asked: Asked, into: type[T]) -> T:
    raw = await arriving(_read(asked.request))
    return jsontext.decode(raw, into)


async def _read(request: web.Request) -> bytes:
    raw = b""
    while chunk := await request.content.readany():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise Refused("too-large", f"At most {MAX_BODY} bytes at once; bring it in pieces.")
    return raw


async def _stored(work: Awaitable[int]) -> int:
    try:
        return await work
    except StorageError:
        raise Refused("storage", f"Nothing was stored; {TRY_AGAIN}.") from None
