"""A log as the files that a hub serves: what the tests of the command line look at."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import entry as entries
from schemas import merkle
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.entry import Entry
from schemas.note import Vkey

TIME = "2026-02-03T04:05:06.007Z"


def started(number: int) -> bytes:
    """One entry, unlike that of any other number."""
    return entries.encode(Entry(1, "hub.started", TIME, "hub", f"instance-{number}", {}, None))


def publish(raws: Sequence[bytes], vkey: Vkey, private: Ed25519PrivateKey) -> dict[str, bytes]:
    """Every file of the log that has these entries, by its path below the log's prefix."""
    tiles = merkle.append(0, {}, [merkle.leaf_hash(raw) for raw in raws])
    root = merkle.tree_root(len(raws), tiles)
    files = {
        merkle.tile_path(level, n, len(tile) // merkle.HASH_SIZE): tile
        for (level, n), tile in tiles.items()
    }
    for n, start in enumerate(range(0, len(raws), merkle.TILE_WIDTH)):
        bundle = raws[start : start + merkle.TILE_WIDTH]
        path = merkle.tile_path("entries", n, len(bundle))
        files[path] = merkle.encode_bundle(bundle)
    head = Checkpoint(vkey.name, len(raws), root)
    return {**files, "checkpoint": sign_checkpoint(head, vkey, private)}
