"""The log as C2SP tlog-tiles: a checkpoint, hash tiles and entry bundles, for anyone's tools.

Partial tiles are cut from the stored rows, so that every size ever signed is served. A width that
is not there yet is not found: no hash is seen before the checkpoint that covers it is committed.
"""

import asyncio
import gzip
import re

from aiohttp import web

from hub.doors.service import Asked, Service
from schemas import merkle
from schemas.refusal import Refused

_IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}
_MUTABLE = {"Cache-Control": "no-cache"}

_GZIP = re.compile(
    r"(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q\s*=\s*(?P<q>[0-9.]+)\s*)?(?:,|$)", re.IGNORECASE
)


async def checkpoint(hub: Service, asked: Asked) -> web.Response:
    """``GET /log/checkpoint``: the last checkpoint with a quorum of witnesses.

    Before there was one, the one that waits for it or, without witnesses, the last one signed.
    """
    note = await hub.witnesses.served()
    if note is None:
        raise Refused("not-found", "The log is empty.")
    return web.Response(body=note, content_type="text/plain", charset="utf-8", headers=_MUTABLE)


async def tile(hub: Service, asked: Asked) -> web.Response:
    """``GET /log/tile/<L>/<N>[.p/<W>]`` and ``/log/tile/entries/<N>[.p/<W>]``."""
    try:
        level, n, width = merkle.parse_tile_path(asked.request.match_info["tile"])
    except ValueError as error:
        raise Refused("not-found", str(error)) from None
    start = n * merkle.TILE_WIDTH
    if start + width > merkle.MAX_TREE_SIZE:
        raise Refused("not-found", "No log has so many entries.")
    if level == "entries":
        entries = await hub.queries.entries(start, start + width)
        if len(entries) < width:
            raise Refused("not-found", "The log has no such entries yet.")
        return await _compressed(asked, merkle.encode_bundle(entries))
    hashes = await hub.queries.tile(level, n)
    if hashes is None or len(hashes) < width * merkle.HASH_SIZE:
        raise Refused("not-found", "The log has no such tile yet.")
    return web.Response(
        body=hashes[: width * merkle.HASH_SIZE],
        content_type="application/octet-stream",
        headers=_IMMUTABLE,
    )


async def _compressed(asked: Asked, bundle: bytes) -> web.Response:
    """A bundle, packed where the asker takes that; off the loop, since one may have 16 MB.

    Nothing is kept packed: whoever asks keeps it, as it never changes.
    """
    headers = {**_IMMUTABLE, "Vary": "Accept-Encoding"}
    if takes_gzip(asked.request.headers.get("Accept-Encoding", "")):
        bundle = await asyncio.to_thread(gzip.compress, bundle, compresslevel=5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=bundle, content_type="application/octet-stream", headers=headers)


def takes_gzip(accepted: str) -> bool:
    """Whether an ``Accept-Encoding`` names gzip, and not with the weight 0 (RFC 9110 §12.5.3)."""
    found = _GZIP.search(accepted)
    return found is not None and (found["q"] or "1").strip("0.") != ""
