"""Checking the whole stored log: every entry is hashed again, up to the signed root."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from hub.intake.offload import Offload
from hub.ledger.queries import Queries
from schemas import checkpoint, merkle
from schemas import entry as entries
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
    """Hash the stored entries again and compare with all that is derived from them.

    That is the tiles, the last checkpoint, and the private parts that were not erased.
    """
    note = await queries.checkpoint()
    if note is None:
        lost = ("The log has entries, but no checkpoint.",) if await queries.entries(0, 1) else ()
        return Verdict(0, "", 0, not lost, lost)
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
        changed = await offload.run(_hasher(size, tree, raws))
        stored = await queries.tiles(frozenset(changed))
        private = await queries.private(size, end)
        problems += _compare_tiles(changed, stored) + _compare_entries(size, raws, private)
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


def _compare_tiles(hashed: merkle.Tiles, stored: merkle.Tiles) -> list[str]:
    problems = []
    for (level, n), hashes in hashed.items():
        found = stored.get((level, n), b"")
        for offset in range(0, len(hashes), merkle.HASH_SIZE):
            place = slice(offset, offset + merkle.HASH_SIZE)
            if hashes[place] != found[place]:
                first = (n * merkle.TILE_WIDTH + offset // merkle.HASH_SIZE) << (8 * level)
                problems.append(
                    f"Entry {first} is not the one that was recorded."
                    if level == 0
                    else f"Tile {n} of level {level} is not right from entry {first} on."
                )
    return problems


def _compare_entries(
    start: int, raws: Sequence[bytes], private: Mapping[int, tuple[bytes, bytes]]
) -> list[str]:
    problems = []
    for index, raw in enumerate(raws, start):
        try:
            committed = entries.decode(raw).private
        except Refused as refusal:
            problems.append(f"Entry {index} cannot be read: {refusal.detail}")
            continue
        if index in private and entries.digest(b"".join(private[index])) != committed:
            problems.append(f"The private part of entry {index} is not the one recorded.")
    return problems
