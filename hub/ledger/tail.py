"""The missing tail of a log that was restored from an older copy, from what others hold. Pure."""

from collections.abc import Iterator

from hub.ledger import sequence
from hub.ledger.sequence import Appended, LogKey, Sequenced, Tree
from schemas import checkpoint, merkle
from schemas import entry as entries
from schemas.checkpoint import Checkpoint
from schemas.encoding import unb64url
from schemas.note import NoteError
from schemas.refusal import Refused
from schemas.tail import Piece


def extend(tree: Tree, piece: Piece, key: LogKey) -> Appended:
    """The entries of a piece as they are written after a tree.

    The checkpoint of their size is signed anew where the one that was shown is larger: it is of a
    tree that this key has signed already as a part of that.

    Raises:
        Refused: ``conflict``: the piece begins elsewhere; ``bad-request``: it is not of this log.
    """
    if piece.start != tree.size:
        raise Refused("conflict", f"The log has {tree.size} entries here; go on from there.")
    try:
        head = checkpoint.open_checkpoint(piece.checkpoint.encode(), key.vkey)
        raws = [unb64url(raw) for raw in piece.entries]
        changed = merkle.append(tree.size, tree.edge, [merkle.leaf_hash(raw) for raw in raws])
        known = {**tree.edge, **changed}
        size = tree.size + len(raws)
        root = merkle.tree_root(size, known)
        proof = [unb64url(each) for each in piece.proof]
        merkle.verify_consistency(size, head.size, root, head.root, proof)
    except (NoteError, ValueError) as error:
        raise Refused("bad-request", f"The entries are not those of this log: {error}") from None
    note = piece.checkpoint.encode()
    if size != head.size:
        made = Checkpoint(key.vkey.name, size, root)
        note = checkpoint.sign_checkpoint(made, key.vkey, key.private)
    written = [
        Sequenced(index, entries.decode(raw), raw, None, None)
        for index, raw in enumerate(raws, tree.size)
    ]
    edge = {tile: known[tile] for tile in merkle.edge_tiles(size)}
    return sequence.Appended(written, changed, note, Tree(size, edge, root), {})


def erased(appended: Appended) -> Iterator[tuple[str, int]]:
    """Which messages these entries erased: what a backup brought back of them goes again."""
    for sequenced in appended.entries:
        entry = sequenced.entry
        if entry.type == entries.MESSAGE_ERASED and entry.subject is not None:
            yield entry.subject, sequenced.index
