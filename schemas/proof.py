"""C2SP tlog-proof: that an entry is in the log, for anyone to verify offline."""

import re
from typing import Final

from msgspec import Struct

from schemas.checkpoint import Checkpoint, open_checkpoint
from schemas.merkle import HASH_SIZE, MAX_TREE_SIZE, ProofError, leaf_hash, verify_inclusion
from schemas.note import NoteError, Vkey, b64, unb64

HEADER: Final = "c2sp.org/tlog-proof@v1"
MAX_HASHES: Final = MAX_TREE_SIZE.bit_length()
"""The longest inclusion proof, in the largest tree."""

_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")


class Proof(Struct, frozen=True):
    """The entry's ``index``, its inclusion proof, and the signed note it leads to, as it came.

    ``extra`` is vouched for by nobody. Raises ProofError when that cannot be a proof.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_TREE_SIZE:
            raise ProofError(f"There is no entry {self.index}.")
        if len(self.hashes) > MAX_HASHES:
            raise ProofError(f"An inclusion proof has at most {MAX_HASHES} hashes.")
        if any(len(value) != HASH_SIZE for value in self.hashes):
            raise ProofError(f"A hash is not {HASH_SIZE} bytes long.")
        if self.extra == b"":
            raise ProofError("Extra data is left out when there is none.")


def encode(proof: Proof) -> str:
    """The proof's text, as ``parse`` reads it.

    Raises:
        ProofError: the checkpoint is not UTF-8.
    """
    try:
        checkpoint = proof.checkpoint.decode()
    except UnicodeDecodeError:
        raise ProofError("The proof's checkpoint is not UTF-8.") from None
    extra = [] if proof.extra is None else [f"extra {b64(proof.extra)}"]
    hashes = [b64(value) for value in proof.hashes]
    return "\n".join([HEADER, *extra, f"index {proof.index}", *hashes, "", checkpoint])


def parse(text: str) -> Proof:
    """Read a proof, without believing anything in it; its checkpoint is left for ``verify``.

    Raises:
        ProofError: the text is not exactly what ``encode`` gives.
    """
    head, blank, checkpoint = text.partition("\n\n")
    header, *lines = head.split("\n")
    if header != HEADER or not blank:
        raise ProofError(f"A proof starts with {HEADER} and ends with a checkpoint.")
    has_extra = bool(lines) and lines[0].startswith("extra ")
    extra_line = lines.pop(0) if has_extra else None
    index = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if index is None:
        raise ProofError("A proof has an index, a decimal number without leading zeroes.")
    try:
        extra = unb64(extra_line.removeprefix("extra ")) if extra_line else None
        hashes = tuple(unb64(line) for line in lines)
        return Proof(int(index[1]), hashes, checkpoint.encode(), extra)
    except (NoteError, UnicodeEncodeError) as error:
        raise ProofError(f"The proof is malformed: {error}") from None


def verify(proof: Proof, entry: bytes, vkey: Vkey) -> Checkpoint:
    """Check that the log of ``vkey`` signed a checkpoint whose tree has ``entry`` at the index.

    Returns:
        That checkpoint.

    Raises:
        NoteError: the checkpoint is malformed or not signed by the log.
        ProofError: the inclusion proof does not hold.
    """
    checkpoint = open_checkpoint(proof.checkpoint, vkey)
    verify_inclusion(proof.index, checkpoint.size, leaf_hash(entry), proof.hashes, checkpoint.root)
    return checkpoint
