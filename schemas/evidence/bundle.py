"""What is in the evidence of a message: its envelope, and log entries under one checkpoint.

The entries are the message's acceptance (or refusal), what else the log has about it, the delivery
receipts, and the history of the keys that signed any of it. All are proven under the same
checkpoint, so that they stand in one history; its signature lines are those of the log and of the
witnesses that are named here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas import cosignature, jsontext, merkle, note, proof, signature
from schemas import entry as entries
from schemas.checkpoint import Checkpoint, open_checkpoint
from schemas.directory import Directory
from schemas.encoding import UUID7_PATTERN, b64url, unb64url
from schemas.merkle import Tile
from schemas.note import Note, Vkey
from schemas.proof import Proof

ABOUT_MESSAGE = (entries.DELIVERY_EXPIRED, entries.DELIVERY_ERASED, entries.MESSAGE_ERASED)
"""What the log can say of a message after it was accepted, besides receipts."""


class Proven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log entry with its proof of inclusion; bytes in base64url.

    ``private`` and ``salt`` are null where the entry has no private part, or it is not shown.
    ``proof`` are the hashes from the entry's sibling to the root's child (RFC 6962 §2.1.1).
    """

    index: Annotated[int, Meta(ge=0, le=jsontext.MAX_SAFE_INTEGER)]
    entry: str
    private: str | None
    salt: str | None
    proof: Annotated[tuple[str, ...], Meta(max_length=proof.MAX_HASHES)]


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file ``evidence.json``, from which all other files follow.

    ``log`` and ``witnesses`` are verifier keys: who signed the ``checkpoint`` (a signed note). They
    prove nothing by standing here. ``envelope`` is null where the message itself is not shown.
    """

    v: Literal[1]
    id: Annotated[str, Meta(pattern=UUID7_PATTERN)]
    log: str
    witnesses: tuple[str, ...]
    checkpoint: str
    envelope: str | None
    entries: tuple[Proven, ...]


class Row(msgspec.Struct, frozen=True):
    """A log entry as it is stored."""

    index: int
    raw: bytes
    private: bytes | None = None
    salt: bytes | None = None


class Head(msgspec.Struct, frozen=True):
    """A checkpoint with the signature lines that can be verified, and whose they are."""

    checkpoint: Checkpoint
    note: Note
    log: Vkey
    witnesses: tuple[Vkey, ...]


def head(raw: bytes, log: Vkey, witnesses: Iterable[Vkey]) -> Head:
    """A signed checkpoint without the lines of those whom nobody here knows.

    Raises:
        NoteError: the log did not sign it, or a line claims a known key and does not verify.
    """
    checkpoint, signed = open_checkpoint(raw, log), note.parse_note(raw)
    cosigned = tuple(cosignature.cosigners(signed, witnesses))
    known = {(vkey.name, vkey.key_id) for vkey in (log, *cosigned)}
    kept = (line for line in signed.signatures if (line.name, line.key_id) in known)
    return Head(checkpoint, Note(signed.text, tuple(dict.fromkeys(kept))), log, cosigned)


def chosen(heads: Iterable[Head], index: int) -> Head | None:
    """The checkpoint to prove an entry under: of those that cover it, the one most cosigned.

    Among equals it is the newest: it covers more receipts. None where none covers it.
    """
    covering = [head for head in heads if head.checkpoint.size > index]
    return max(covering, key=lambda h: (len(h.witnesses), h.checkpoint.size), default=None)


def parties(
    envelope: bytes | None, rows: Iterable[Row], of: Head, directory: Directory
) -> frozenset[str]:
    """The codes whose key history belongs to the evidence: all that signed any of it."""
    codes = {vkey.name.removeprefix(f"{of.log.name}/") for vkey in of.witnesses}
    signed = [] if envelope is None else [(envelope, signature.MESSAGE_TYPE)]
    for row in rows:
        entry = entries.decode(row.raw)
        codes.add(entry.actor)
        if entry.type == entries.RECEIPTS_RECORDED and row.private is not None:
            signed.append((row.private, signature.DELIVERY_TYPE))
    for raw, kind in signed:
        kids = {s.kid for s in signature.parse(raw, kind).signatures}
        codes |= {key.member for kid, key in directory.keys.items() if kid in kids}
    return frozenset(codes & directory.participants.keys())


def tiles(rows: Iterable[Row], of: Head) -> frozenset[Tile]:
    """The tiles that ``assemble`` reads."""
    size = of.checkpoint.size
    wanted = (merkle.tiles_for_inclusion(row.index, size) for row in rows)
    return frozenset[Tile]().union(*wanted)


def assemble(
    message_id: str,
    envelope: bytes | None,
    rows: Iterable[Row],
    of: Head,
    known: Mapping[Tile, bytes],
) -> Evidence:
    """Put the evidence together; nothing is verified.

    Args:
        message_id: the message.
        envelope: as it was sent, or None where it is not to be shown.
        rows: the entries, in any order; each below the checkpoint's size.
        of: the checkpoint.
        known: the tiles that ``tiles`` names.

    Raises:
        ProofError: an entry lies beyond the checkpoint, or a tile is missing.
    """
    ordered = sorted({row.index: row for row in rows}.values(), key=lambda row: row.index)
    proofs = merkle.inclusion_proofs([row.index for row in ordered], of.checkpoint.size, known)
    return Evidence(
        v=1,
        id=message_id,
        log=str(of.log),
        witnesses=tuple(map(str, of.witnesses)),
        checkpoint=note.encode(of.note).decode(),
        envelope=None if envelope is None else b64url(envelope),
        entries=tuple(map(_recorded, ordered, proofs)),
    )


def _recorded(row: Row, hashes: Sequence[bytes]) -> Proven:
    return Proven(
        row.index,
        b64url(row.raw),
        None if row.private is None else b64url(row.private),
        None if row.salt is None else b64url(row.salt),
        tuple(map(b64url, hashes)),
    )


def proof_of(recorded: Proven, checkpoint: str) -> Proof:
    """The tlog-proof of an entry.

    Raises:
        ValueError: its parts are not what they must be.
    """
    hashes = tuple(map(unb64url, recorded.proof))
    return Proof(recorded.index, hashes, checkpoint.encode())
