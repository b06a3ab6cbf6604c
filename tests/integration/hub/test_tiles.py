"""The log as anyone's tools fetch it: what may be kept for how long, and how it is packed."""

import gzip

import aiohttp
import pytest

from schemas import merkle

IMMUTABLE = "private, max-age=31536000, immutable"


@pytest.fixture
async def fetch(hub):
    """Fetch a file of the log with a token, its body as it came over the wire."""
    token = await hub.operator.token("mirror", "log")
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def get(path, accepts="identity"):
            headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": accepts}
            async with session.get(f"{hub.settings.url}/log/{path}", headers=headers) as response:
                return response.status, response.headers, await response.read()

        yield get


async def test_the_checkpoint_is_asked_for_each_time(fetch):
    status, headers, _ = await fetch("checkpoint", "gzip")
    assert (status, headers["Cache-Control"]) == (200, "no-cache")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Content-Encoding" not in headers


async def test_tiles_and_bundles_full_or_not_never_change_and_say_so(hub, fetch):
    await grow(hub, merkle.TILE_WIDTH + 3)
    for path in ("tile/0/000", "tile/0/001.p/3", "tile/1/000.p/1", "tile/0/000.p/7"):
        status, headers, body = await fetch(path)
        assert (status, headers["Cache-Control"]) == (200, IMMUTABLE), path
        assert headers["Content-Type"] == "application/octet-stream"
        assert (headers.get("Content-Encoding"), len(body) % merkle.HASH_SIZE) == (None, 0)
    for path in ("tile/entries/000", "tile/entries/001.p/3", "tile/entries/000.p/7"):
        _, headers, _ = await fetch(path)
        assert (headers["Cache-Control"], headers["Vary"]) == (IMMUTABLE, "Accept-Encoding"), path


async def test_a_bundle_is_packed_for_whoever_takes_that_and_is_the_same_bundle(hub, fetch):
    await grow(hub, 40)
    path = "tile/entries/000.p/40"
    _, plain_headers, plain = await fetch(path)
    _, headers, packed = await fetch(path, "gzip;q=0.5, br")
    assert "Content-Encoding" not in plain_headers
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain) / 2
    assert len(merkle.decode_bundle(plain)) == 40
    assert (await fetch(path, "gzip"))[2] == packed


async def test_what_is_not_there_yet_may_be_there_soon_and_is_not_kept(hub, fetch):
    size = await hub.size()
    status, headers, _ = await fetch(merkle.tile_path("entries", 0, size + 1))
    assert (status, headers["Cache-Control"]) == (404, "no-store")


async def grow(hub, size):
    """Let the log have so many entries, by questions of an operator."""
    while await hub.size() < size:
        await hub.operator.get("/v1/audit/events", limit=1)
