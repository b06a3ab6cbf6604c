"""C2SP tlog-witness: whether a witness cosigns a checkpoint; pure, however it is asked.

A ``tlog-witness`` server is asked by the log and answers with ``Rejected.status``. Our witnesses
ask the hub instead (the body of the request is the same), for they reach it and not it them.

A witness that decides by ``check`` and stores what it cosigns before anybody sees the cosignature
never cosigns two checkpoints of which one does not extend the other.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from schemas import checkpoint, merkle, note
from schemas.checkpoint import Checkpoint, EmptyRootError
from schemas.merkle import HASH_SIZE, MAX_TREE_SIZE, ProofError
from schemas.note import NoteError, SignatureLine, Vkey

MAX_HASHES: Final = 63
MAX_SIZE: Final = note.MAX_SIZE + 4096
"""Bytes of a request: the note, and what stands before it."""

SIZE_TYPE: Final = "text/x.tlog.size"
"""Media type of the answer to a request that begins at another size than the witness is at."""

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")


class Accepted(Struct, frozen=True):
    """A checkpoint that the log signed; ``text`` is what a cosignature is of.

    ``note`` is the signed note with the log's signature alone.
    """

    checkpoint: Checkpoint
    text: str
    note: bytes


class Rejected(Exception):
    """A witness does not cosign.

    Args:
        status: as HTTP says it; 400 malformed, 403 not signed by the log, 404 unknown log, 409 the
            request begins at another size than ``size``, where the witness is, 422 the checkpoint
            is not shown to extend the one that was cosigned last.
        sentence: why.
        size: where the witness is, with 409 alone.
        theirs: what the log signed and is not shown to extend ours, with 422; or what is smaller
            than the old size, with 400.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        size: int | None = None,
        theirs: Accepted | None = None,
    ) -> None:
        """Keep the parts."""
        super().__init__(sentence)
        self.status = status
        self.size = size
        self.theirs = theirs

    @property
    def body(self) -> bytes:
        """What a server answers."""
        return f"{self if self.size is None else self.size}\n".encode()


class Request(Struct, frozen=True):
    """To cosign the checkpoint in ``note``, shown by ``proof`` to extend that of size ``old``."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes


def encode(request: Request) -> bytes:
    """The body of ``add-checkpoint``."""
    hashes = "".join(f"{note.b64(value)}\n" for value in request.proof)
    return f"old {request.old}\n{hashes}\n".encode() + request.note


def parse(raw: bytes) -> Request:
    """Read the body of ``add-checkpoint``, without believing anything in it.

    Raises:
        Rejected: 400.
    """
    try:
        if len(raw) > MAX_SIZE:
            raise NoteError(f"A request has at most {MAX_SIZE} bytes.")
        head, blank, signed = raw.partition(b"\n\n")
        first, *lines = head.decode("ascii").split("\n")
        old = _OLD.fullmatch(first)
        if old is None or int(old[1]) > MAX_TREE_SIZE or not blank:
            raise NoteError("A request begins with a line old, a size, and has an empty line.")
        if len(lines) > MAX_HASHES:
            raise NoteError(f"A consistency proof has at most {MAX_HASHES} hashes.")
        proof = tuple(note.unb64(line) for line in lines)
        if any(len(value) != HASH_SIZE for value in proof):
            raise NoteError(f"A hash is not {HASH_SIZE} bytes long.")
        return Request(int(old[1]), proof, signed)
    except (NoteError, UnicodeDecodeError) as error:
        raise Rejected(400, str(error)) from None


def check(request: Request, logs: Mapping[str, Vkey], latest: Mapping[str, Checkpoint]) -> Accepted:
    """Decide whether to cosign; what comes out may be, once it is stored.

    Args:
        request: what is asked.
        logs: the verifier keys of the logs that are witnessed, by origin.
        latest: the checkpoints that were cosigned last, by origin.

    Raises:
        Rejected: no, and why; the checks are those of tlog-witness, in its order.
    """
    accepted = _open(request.note, logs)
    theirs = accepted.checkpoint
    if request.old > theirs.size:
        raise Rejected(400, "The old size is greater than the checkpoint's.", theirs=accepted)
    ours = latest.get(theirs.origin)
    size = 0 if ours is None else ours.size
    if request.old != size:
        raise Rejected(409, f"The checkpoint cosigned last has {size} entries.", size)
    try:
        if ours is None or size == 0:
            # Anything extends the empty tree.
            if request.proof:
                raise ProofError("There is nothing to prove from the empty tree.")
        else:
            merkle.verify_consistency(size, theirs.size, ours.root, theirs.root, request.proof)
    except ProofError as error:
        raise Rejected(422, str(error), theirs=accepted) from None
    return accepted


def merge(raw: bytes, lines: Iterable[SignatureLine]) -> bytes:
    """A signed note with more signature lines, the latest one of each key.

    Raises:
        NoteError: there would be more lines, or bytes, than a note can have.
    """
    signed = note.parse_note(raw)
    latest = {(line.name, line.key_id): line for line in (*signed.signatures, *lines)}
    return note.encode(note.Note(signed.text, tuple(latest.values())))


def _open(raw: bytes, logs: Mapping[str, Vkey]) -> Accepted:
    """The checkpoint in a note, signed by the log that we know under its origin."""
    try:
        signed = note.parse_note(raw)
    except NoteError as error:
        raise Rejected(400, str(error)) from None
    origin, _, _ = signed.text.partition("\n")
    log = logs.get(origin)
    if log is None:
        raise Rejected(404, "No log of this origin is witnessed here.")
    try:
        note.verify(signed, [log])
    except NoteError as error:
        raise Rejected(403, str(error)) from None
    try:
        head = checkpoint.parse(signed.text)
    except EmptyRootError as error:
        raise Rejected(422, str(error)) from None
    except NoteError as error:
        raise Rejected(400, str(error)) from None
    own = tuple(s for s in signed.signatures if (s.name, s.key_id) == (log.name, log.key_id))
    return Accepted(head, signed.text, note.encode(note.Note(signed.text, own)))
