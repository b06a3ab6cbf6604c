"""The log as seen from outside: every tile and every entry is hashed again, and nothing believed.

The hub's signature stands under the root; every tile is checked against the hash that the tile
above has of it before it is looked at, kept or shown. So what comes out of ``walk`` is either what
the hub signed, or an error that names the first file that is not.
"""

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from hub.cli.output import Advance
from schemas import entry as entries
from schemas import merkle, note
from schemas.checkpoint import Checkpoint, open_checkpoint
from schemas.directory import Directory, DirectoryError
from schemas.merkle import HASH_SIZE, TILE_WIDTH, Level
from schemas.note import NoteError, Vkey
from schemas.refusal import Refused

CHECKPOINT: Final = "checkpoint"
REJECTED: Final = "checkpoint.rejected"

MAX_TILE: Final = TILE_WIDTH * HASH_SIZE
MAX_BUNDLE: Final = TILE_WIDTH * (2 + merkle.MAX_ENTRY_SIZE)

_IN_FLIGHT: Final = 8
"""Bundles asked for at the same time, so that a slow link is not waited for bundle by bundle."""

_REST: Final = 30
"""Times as long as a file took, when nobody waits."""

Fetch: TypeAlias = Callable[[str, int], Awaitable[bytes | None]]
"""Gives the file at a path below the log's prefix, up to a limit in bytes; None: there is none."""


class LogError(ValueError):
    """The log is not what the hub signed; the sentence says where. Evidence, to be kept."""


class Part(msgspec.Struct, frozen=True):
    """A verified file of the log: a tile, or with the level ``entries`` a bundle."""

    level: Level
    n: int
    data: bytes
    path: str


class Verified(msgspec.Struct, frozen=True):
    """How far a log was verified, and the directory that follows from its entries."""

    head: Checkpoint
    directory: Directory


async def head(fetch: Fetch, vkey: Vkey) -> tuple[bytes, Checkpoint]:
    """The log's checkpoint as it came, and verified.

    Raises:
        LogError: there is none, or it is not signed by the log's key.
    """
    raw = await fetch(CHECKPOINT, note.MAX_SIZE)
    if raw is None:
        raise LogError("The hub has no checkpoint.")
    try:
        return raw, open_checkpoint(raw, vkey)
    except NoteError as error:
        raise LogError(f"The checkpoint does not hold: {error}") from None


async def walk(fetch: Fetch, head: Checkpoint, start: int = 0) -> AsyncIterator[Part]:
    """Every tile and bundle of the log, verified; bundles in the order of their entries.

    Args:
        fetch: gives the log's files.
        head: the verified checkpoint that they must lead to.
        start: the first entry that is looked for; files of earlier ones alone are left out.

    Raises:
        LogError: a file is missing, or is not what the checkpoint says.
    """
    edge = {tile: await _tile(fetch, *tile, head.size) for tile in merkle.edge_tiles(head.size)}
    if merkle.tree_root(head.size, edge) != head.root:
        raise LogError("The newest tiles do not lead to the root that the hub signed.")
    # The highest tile stands for the first entries.
    for level, n in sorted(edge, reverse=True):
        async for part in _below(fetch, level, n, edge[level, n], head.size, start):
            yield part


async def check_extends(fetch: Fetch, earlier: Checkpoint, head: Checkpoint) -> None:
    """Check that a log only appends to what it was.

    Raises:
        LogError: it has shrunk, or is another than it was, or a file is missing.
    """
    if earlier.size > head.size:
        raise LogError(f"The log has shrunk from {earlier.size} entries to {head.size}.")
    if earlier.size == 0:
        return  # anything extends the empty log
    wanted = merkle.tiles_for_consistency(earlier.size, head.size)
    tiles = {tile: await _tile(fetch, *tile, head.size) for tile in wanted}
    try:
        proof = merkle.consistency_proof(earlier.size, head.size, tiles)
        merkle.verify_consistency(earlier.size, head.size, earlier.root, head.root, proof)
    except merkle.ProofError as error:
        raise LogError(f"It is not the log that had {earlier.size} entries: {error}") from None


async def _below(
    fetch: Fetch, level: int, n: int, tile: bytes, size: int, start: int
) -> AsyncIterator[Part]:
    """A verified tile, and all that its hashes vouch for from an entry on."""
    hashes = _hashes(tile)
    # How many of its hashes are of earlier entries alone.
    before = max((start >> (merkle.TILE_HEIGHT * level)) - n * TILE_WIDTH, 0)
    if before >= len(hashes):
        return
    yield _part(level, n, tile, size)
    if level == 0:
        yield await _bundle(fetch, n, tile, size)
        return
    children = (
        _child(fetch, level - 1, n * TILE_WIDTH + i, expected, size)
        for i, expected in enumerate(hashes[before:], before)
    )
    async with contextlib.aclosing(_ahead(children)) as verified:
        async for child, bundle in verified:
            if bundle is not None:
                yield child
                yield bundle
                continue
            async for part in _below(fetch, level - 1, child.n, child.data, size, start):
                yield part


async def _child(
    fetch: Fetch, level: int, n: int, expected: bytes, size: int
) -> tuple[Part, Part | None]:
    """The full tile that has the expected hash; with its bundle where it is of the lowest level."""
    tile = await _tile(fetch, level, n, size)
    part = _part(level, n, tile, size)
    if merkle.root(_hashes(tile)) != expected:
        raise LogError(f"{part.path} is not what the hub signed.")
    return part, await _bundle(fetch, n, tile, size) if level == 0 else None


async def _tile(fetch: Fetch, level: int, n: int, size: int) -> bytes:
    path = _path(level, n, size)
    data = await fetch(path, MAX_TILE)
    if data is None:
        raise LogError(f"{path} is missing, though the hub signed for it.")
    if len(data) != merkle.tile_width(level, n, size) * HASH_SIZE:
        raise LogError(f"{path} has a wrong length.")
    return data


async def _bundle(fetch: Fetch, n: int, tile: bytes, size: int) -> Part:
    """The entries that a verified tile has the hashes of."""
    path = _path("entries", n, size)
    data = await fetch(path, MAX_BUNDLE)
    if data is None:
        raise LogError(f"{path} is missing, though the hub signed for it.")
    try:
        hashes = b"".join(map(merkle.leaf_hash, merkle.decode_bundle(data)))
    except ValueError as error:
        raise LogError(f"{path} is broken: {error}") from None
    if hashes != tile:
        raise LogError(f"{path} does not hold the entries that the hub signed.")
    return Part("entries", n, data, path)


def _hashes(tile: bytes) -> list[bytes]:
    return [tile[i : i + HASH_SIZE] for i in range(0, len(tile), HASH_SIZE)]


def _part(level: int, n: int, tile: bytes, size: int) -> Part:
    return Part(level, n, tile, _path(level, n, size))


def _path(level: Level, n: int, size: int) -> str:
    width = merkle.tile_width(0 if level == "entries" else level, n, size)
    return merkle.tile_path(level, n, width)


async def _ahead(
    jobs: Iterable[Awaitable[tuple[Part, Part | None]]],
) -> AsyncGenerator[tuple[Part, Part | None]]:
    """The results in order, while the next few are under way already."""
    under_way: deque[asyncio.Future[tuple[Part, Part | None]]] = deque()
    try:
        for job in jobs:
            under_way.append(asyncio.ensure_future(job))
            if len(under_way) == _IN_FLIGHT:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def verify(
    fetch: Fetch, vkey: Vkey, advance: Advance, earlier: Verified | None = None
) -> Verified:
    """Check the log: signature, every hash, every entry, and who changed the directory.

    Args:
        fetch: gives the log's files.
        vkey: the key that the log is signed with, from a better source than the log.
        advance: is told how many entries are verified, of how many.
        earlier: what was verified before: only what came since is looked at, and that it extends
            that; without it, the whole log.

    Returns:
        The checkpoint that all of it leads to, and the directory then.

    Raises:
        LogError: something in it does not hold.
    """
    _, checkpoint = await head(fetch, vkey)
    start, directory = 0, Directory()
    if earlier is not None:
        await check_extends(fetch, earlier.head, checkpoint)
        start, directory = earlier.head.size, earlier.directory
    async for part in walk(fetch, checkpoint, start):
        if part.level == "entries":
            for index, raw in enumerate(merkle.decode_bundle(part.data), part.n * TILE_WIDTH):
                if index >= start:
                    directory = _fold(directory, index, raw)
            advance(min((part.n + 1) * TILE_WIDTH, checkpoint.size), checkpoint.size)
    return Verified(checkpoint, directory)


def gently(fetch: Fetch) -> Fetch:
    """The same, resting for many times as long as a file took: a few percent of what the hub can.

    For whoever checks a whole log again that nobody waits for.
    """

    async def rested(path: str, limit: int) -> bytes | None:
        began = time.monotonic()
        data = await fetch(path, limit)
        await asyncio.sleep((time.monotonic() - began) * _REST * _IN_FLIGHT)
        return data

    return rested


def _fold(directory: Directory, index: int, raw: bytes) -> Directory:
    try:
        return directory.apply(index, entries.decode(raw))
    except Refused as refused:
        raise LogError(f"Entry {index} is not an entry: {refused.detail}") from None
    except DirectoryError as error:
        raise LogError(f"Entry {index} changes the directory without a right to: {error}") from None


async def mirror(fetch: Fetch, vkey: Vkey, folder: Path, advance: Advance) -> Checkpoint:
    """Write the log as static files (C2SP tlog-tiles), the checkpoint last.

    A file is written only when it is verified, and never again: files that are there already are
    verified instead of fetched, so that an interrupted mirror goes on where it stopped.

    Raises:
        LogError: the log, or a file in the folder, is not what the hub signed. No file has changed,
            and the checkpoint that they were to lead to is kept beside the old one.
        OSError: a file cannot be read or written.
    """
    raw, checkpoint = await head(fetch, vkey)
    earlier = _kept_checkpoint(folder, vkey)

    async def from_folder_first(path: str, limit: int) -> bytes | None:
        found = _read(folder / path)
        return await fetch(path, limit) if found is None else found

    try:
        if earlier is not None:
            await check_extends(from_folder_first, earlier, checkpoint)
        async for part in walk(from_folder_first, checkpoint):
            _write_once(folder / part.path, part.data)
            if part.level == "entries":
                advance(min((part.n + 1) * TILE_WIDTH, checkpoint.size), checkpoint.size)
    except LogError as error:
        _write(folder / REJECTED, raw)
        raise LogError(
            f"{error} Either a file in {folder} was damaged (delete it and run this again), or the "
            f"hub does not keep to what it signed: then {folder / REJECTED} is the evidence."
        ) from None
    # A crash before this line leaves the old checkpoint, whose files are all still there.
    _write(folder / CHECKPOINT, raw)
    return checkpoint


def _kept_checkpoint(folder: Path, vkey: Vkey) -> Checkpoint | None:
    raw = _read(folder / CHECKPOINT)
    try:
        return None if raw is None else open_checkpoint(raw, vkey)
    except NoteError as error:
        raise LogError(f"{folder / CHECKPOINT} is not of this log: {error}") from None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write_once(path: Path, data: bytes) -> None:
    if not path.exists():
        _write(path, data)


def _write(path: Path, data: bytes) -> None:
    """All or nothing, also over a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
