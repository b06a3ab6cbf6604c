"""Checking the whole stored log: every entry is hashed again, up to the signed root."""

from collections.abc import Callable, Sequence

import msgspec

from hub.intake.offload import Offload
from hub.ledger.queries import Queries
from schemas import checkpoint, entry, merkle
from schemas.note import NoteError, Vkey
from schemas.refusal import Refused


class Verdict(msgspec.Struct, frozen=True):
    """What was found; ``problems`` is empty when the log is what was signed."""

    size: int
    root: str
    entries: int
    ok: bool
    problems: tuple[str, ...]


async def verify(queries: Queries, offload: Offload, vkey: Vkey) -> Verdict:
    """Hash the stored entries again and compare with the stored tiles and the last checkpoint."""
    note = await queries.checkpoint()
    if note is None:
        return Verdict(0, "", 0, True, ())
    try:
        signed = checkpoint.open_checkpoint(note, vkey)
    except NoteError as error:
        return Verdict(0, "", 0, False, (f"The checkpoint does not hold: {error}",))
    problems: list[str] = []
    tree: dict[merkle.Tile, bytes] = {}
    size = 0
    while size < signed.size:
        end = min(size + merkle.TILE_WIDTH, signed.size)
        raws = await queries.entries(size, end)
        if len(raws) != end - size:
            problems.append(f"Entries between {size} and {end - 1} are missing.")
            break
        stored = await queries.tile(0, size // merkle.TILE_WIDTH) or b""
        changed = await offload.run(_hasher(size, tree, raws))
        problems += _compare(size, changed[0, size // merkle.TILE_WIDTH], stored, raws)
        edge = merkle.edge_tiles(end)
        tree = {tile: hashes for tile, hashes in {**tree, **changed}.items() if tile in edge}
        size = end
    if size == signed.size and merkle.tree_root(size, tree) != signed.root:
        problems.append("The root of the stored entries is not the one that was signed.")
    return Verdict(signed.size, signed.root.hex(), size, not problems, tuple(problems[:100]))


def _hasher(
    size: int, tree: dict[merkle.Tile, bytes], raws: Sequence[bytes]
) -> Callable[[], dict[merkle.Tile, bytes]]:
    def run() -> dict[merkle.Tile, bytes]:
        leaves = [merkle.leaf_hash(raw) for raw in raws]
        return merkle.append(size, tree, leaves)

    return run


def _compare(start: int, hashed: bytes, stored: bytes, raws: Sequence[bytes]) -> list[str]:
    problems = []
    for offset in range(0, len(hashed), merkle.HASH_SIZE):
        index = start + offset // merkle.HASH_SIZE
        if hashed[offset : offset + 32] != stored[offset : offset + 32]:
            problems.append(f"Entry {index} is not the one that was recorded.")
    for offset, raw in enumerate(raws):
        try:
            entry.decode(raw)
        except Refused as refusal:
            problems.append(f"Entry {start + offset} cannot be read: {refusal.detail}")
    return problems
