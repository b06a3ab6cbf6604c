"""Sequencing: drafts become log entries, tiles, a root and one signed checkpoint. Pure.

Nothing here is true before the transaction that writes all of it has committed. A crash before
the commit leaves the old tree and its checkpoint; after it, the new. The checkpoint is signed
before the commit, but nobody has seen it: if the commit fails, it is thrown away, and the next one
of that size may be another. A checkpoint must therefore never leave the process before the commit.
"""

from collections.abc import Mapping, Sequence

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import acceptance, checkpoint, entry, merkle, proof
from schemas.acceptance import Acceptance
from schemas.checkpoint import Checkpoint
from schemas.entry import Entry
from schemas.note import Vkey


class Draft(msgspec.Struct, frozen=True):
    """An entry to be, without its time, salt and place in the log."""

    type: str
    actor: str
    subject: str | None = None
    public: dict[str, object] = {}
    private: bytes | None = None


class Tree(msgspec.Struct, frozen=True):
    """The head of the tree: its size, its root, and the partial tiles of its right edge.

    The edge is all that appending needs.
    """

    size: int = 0
    edge: Mapping[merkle.Tile, bytes] = {}
    root: bytes = merkle.EMPTY_ROOT


class LogKey(msgspec.Struct, frozen=True):
    """The log's signing key with its public name."""

    vkey: Vkey
    private: Ed25519PrivateKey


class Sequenced(msgspec.Struct, frozen=True):
    """One entry with its place, its bytes, and the private part it commits to, where it is left."""

    index: int
    entry: Entry
    raw: bytes
    private: bytes | None
    salt: bytes | None


class Appended(msgspec.Struct, frozen=True):
    """All that one commit writes to the log, and the tree after it."""

    entries: Sequence[Sequenced]
    tiles: Mapping[merkle.Tile, bytes]
    checkpoint: bytes
    tree: Tree
    acceptances: Mapping[int, Acceptance]


def write(draft: Draft, index: int, time: str, salt: bytes) -> Sequenced:
    """Give a draft its time, salt and place."""
    private = None if draft.private is None else entry.commitment(salt, draft.private)
    written = Entry(1, draft.type, time, draft.actor, draft.subject, draft.public, private)
    return Sequenced(
        index,
        written,
        entry.encode(written),
        draft.private,
        None if draft.private is None else salt,
    )


def append(
    tree: Tree, entries: Sequence[Sequenced], stored: Sequence[bytes], key: LogKey
) -> Appended:
    """Hash entries into the tree and sign its new root.

    ``stored`` are the bytes of the entries as the store gives them back: these are hashed. The
    acceptances (entry, private part, salt and proof under this very checkpoint) of the entries
    with a private part come with it.
    """
    leaves = [merkle.leaf_hash(raw) for raw in stored]
    changed = merkle.append(tree.size, tree.edge, leaves)
    size = tree.size + len(entries)
    known = {**tree.edge, **changed}
    root = merkle.tree_root(size, known)
    note = checkpoint.sign_checkpoint(Checkpoint(key.vkey.name, size, root), key.vkey, key.private)
    with_private = [sequenced for sequenced in entries if sequenced.private is not None]
    proofs = merkle.inclusion_proofs([s.index for s in with_private], size, known)
    acceptances = {
        sequenced.index: pack(sequenced, hashes, note)
        for sequenced, hashes in zip(with_private, proofs, strict=True)
    }
    edge = {tile: known[tile] for tile in merkle.edge_tiles(size)}
    return Appended(entries, changed, note, Tree(size, edge, root), acceptances)


def pack(sequenced: Sequenced, hashes: Sequence[bytes], note: bytes) -> Acceptance:
    """The acceptance of one entry, from its inclusion proof and a checkpoint."""
    return acceptance.pack(
        sequenced.raw,
        sequenced.private,
        sequenced.salt,
        proof.encode(proof.Proof(sequenced.index, tuple(hashes), note)),
    )
