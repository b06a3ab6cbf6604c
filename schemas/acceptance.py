"""What the hub gives back: an acceptance is the log entry itself, with its proof of inclusion.

There is no other promise to keep: whoever holds an acceptance can show, to anyone who knows the
log's key, that the entry stands in the log. Refusals of authenticated senders and recorded receipts
have the same form.
"""

import msgspec

from schemas import entry as entries
from schemas import jsontext, merkle, note, proof
from schemas.checkpoint import Checkpoint
from schemas.encoding import b64url, unb64url
from schemas.entry import Entry
from schemas.note import Vkey
from schemas.refusal import Refused


class Acceptance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On the wire. ``entry``, ``private`` and ``salt`` are the exact bytes in base64url.

    ``proof`` is a C2SP tlog-proof under the checkpoint signed in the same commit. Of an erased
    message ``private`` and ``salt`` are null, and the checkpoint is that of the erasure's commit:
    whoever follows the log up to it has read the decision there.
    """

    entry: str
    private: str | None
    salt: str | None
    proof: str


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An acceptance with the envelope, as its recipients get it; the envelope in base64url."""

    entry: str
    private: str
    salt: str
    proof: str
    envelope: str

    @property
    def acceptance(self) -> Acceptance:
        """The delivery without its envelope."""
        return Acceptance(self.entry, self.private, self.salt, self.proof)


class Tombstone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stands at the position of a message that was erased or has expired: no position is lost."""

    position: int
    tombstone: str
    acceptance: Acceptance


class Opened(msgspec.Struct, frozen=True):
    """An acceptance whose every claim was checked; ``private`` is empty where it was erased."""

    entry: Entry
    entry_hash: bytes
    index: int
    private: bytes
    checkpoint: Checkpoint


class Broken(ValueError):
    """An acceptance does not hold: evidence against the hub, to be kept."""


def pack(entry: bytes, private: bytes | None, salt: bytes | None, proof_text: str) -> Acceptance:
    """Put an acceptance on the wire; without its private part and salt where they were erased."""
    return Acceptance(
        b64url(entry),
        None if private is None else b64url(private),
        None if salt is None else b64url(salt),
        proof_text,
    )


def deliver(acceptance: Acceptance, envelope: bytes) -> Delivery:
    """An acceptance with its envelope; of an erased message there is no delivery."""
    assert acceptance.private is not None
    assert acceptance.salt is not None
    return Delivery(
        acceptance.entry, acceptance.private, acceptance.salt, acceptance.proof, b64url(envelope)
    )


def open_acceptance(acceptance: Acceptance, log: Vkey) -> Opened:
    """Check an acceptance: log signature, inclusion, and that the private part is the one meant.

    Raises:
        Broken: anything in it does not hold, or its private part was erased.
    """
    opened = _open_entry(acceptance, log)
    if acceptance.private is None or acceptance.salt is None:
        raise Broken("the private part was erased")
    try:
        private, salt = unb64url(acceptance.private), unb64url(acceptance.salt)
        if opened.entry.private != entries.commitment(salt, private):
            raise Broken("the private part is not the one that the entry commits to")
    except ValueError as error:
        raise Broken(str(error)) from None
    return msgspec.structs.replace(opened, private=private)


def open_erased(acceptance: Acceptance, log: Vkey) -> Opened:
    """Check the acceptance of an erased message: log signature and inclusion are left of it.

    That it was erased by a decision is for the reader of the log to see: the entry
    ``message.erased`` stands below the checkpoint of this proof.

    Raises:
        Broken: it does not hold, is not that of a message, or its private part is there.
    """
    opened = _open_entry(acceptance, log)
    if acceptance.private is not None or acceptance.salt is not None:
        raise Broken("the private part of an erased message is there")
    if opened.entry.type != entries.MESSAGE_ACCEPTED:
        raise Broken(f"the entry is {opened.entry.type}, not {entries.MESSAGE_ACCEPTED}")
    return opened


def _open_entry(acceptance: Acceptance, log: Vkey) -> Opened:
    try:
        raw = unb64url(acceptance.entry)
        parsed = proof.parse(acceptance.proof)
        checkpoint = proof.verify(parsed, raw, log)
        entry = entries.decode(raw)
    except (note.NoteError, merkle.ProofError, ValueError) as error:
        raise Broken(str(error)) from None
    except Refused as refusal:
        raise Broken(str(refusal)) from None
    return Opened(entry, merkle.leaf_hash(raw), parsed.index, b"", checkpoint)


def accepted_private(opened: Opened) -> entries.AcceptedPrivate:
    """The private part of an opened ``message.accepted``.

    Raises:
        Broken: it is another entry, or its private part is not of that form.
    """
    if opened.entry.type != entries.MESSAGE_ACCEPTED:
        raise Broken(f"the entry is {opened.entry.type}, not {entries.MESSAGE_ACCEPTED}")
    try:
        return jsontext.decode(opened.private, entries.AcceptedPrivate)
    except Refused as refusal:
        raise Broken(str(refusal)) from None
