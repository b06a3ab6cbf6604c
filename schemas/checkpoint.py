"""C2SP tlog-checkpoint: a tree head as the text of a signed note.

The log of this project writes no extension lines, so that they are refused wherever they appear:
nobody could audit what they say.
"""

import re
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from schemas import note
from schemas.merkle import EMPTY_ROOT, HASH_SIZE, MAX_TREE_SIZE
from schemas.note import NoteError, Vkey

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class EmptyRootError(NoteError):
    """A checkpoint of no entries has another root than the empty tree."""


class Checkpoint(Struct, frozen=True):
    """The log ``origin`` had ``size`` entries whose tree has this ``root``.

    Raises NoteError when that cannot be a checkpoint.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or "\n" in self.origin:
            raise NoteError("A checkpoint's origin is one line and not empty.")
        if not 0 <= self.size <= MAX_TREE_SIZE:
            raise NoteError(f"A checkpoint's tree size is 0 to {MAX_TREE_SIZE}.")
        if len(self.root) != HASH_SIZE:
            raise NoteError(f"A checkpoint's root hash has {HASH_SIZE} bytes.")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise EmptyRootError("The checkpoint of an empty tree has another root.")


def format(checkpoint: Checkpoint) -> str:  # noqa: A001 - read as checkpoint.format
    """The note text of a checkpoint."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{note.b64(checkpoint.root)}\n"


def parse(text: str) -> Checkpoint:
    """Read the note text of a checkpoint, without believing anything in it.

    Raises:
        NoteError: it is not exactly what ``format`` gives.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1]:
        raise NoteError("A checkpoint has three lines: origin, tree size and root hash.")
    if len(lines) > 4:
        raise NoteError("The checkpoint has extension lines, which this log never writes.")
    origin, size, root, _ = lines
    if not _SIZE.fullmatch(size):
        raise NoteError("A checkpoint's tree size is a decimal number without leading zeroes.")
    return Checkpoint(origin, int(size), note.unb64(root))


def sign_checkpoint(checkpoint: Checkpoint, vkey: Vkey, private_key: Ed25519PrivateKey) -> bytes:
    """The whole signed note of a checkpoint.

    A log must not sign two checkpoints of which one does not extend the other; that is the caller's
    to ensure.

    Raises:
        NoteError: the key is of another origin, or is not the private key of ``vkey``.
    """
    _check_origin(checkpoint, vkey)
    text = format(checkpoint)
    return note.encode(note.Note(text, (note.sign(text, vkey, private_key),)))


def open_checkpoint(raw: bytes, vkey: Vkey) -> Checkpoint:
    """The checkpoint in a signed note, verified to be by this log.

    Raises:
        NoteError: the note is malformed, not signed by ``vkey``, or not of its origin.
    """
    signed = note.parse_note(raw)
    note.verify(signed, [vkey])
    checkpoint = parse(signed.text)
    _check_origin(checkpoint, vkey)
    return checkpoint


def _check_origin(checkpoint: Checkpoint, vkey: Vkey) -> None:
    if checkpoint.origin != vkey.name:
        raise NoteError(f"The checkpoint is of {checkpoint.origin}, the key of {vkey.name}.")
