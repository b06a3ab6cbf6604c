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

    ``proof`` is a C2SP tlog-proof under the checkpoint signed in the same commit.
    """

    entry: str
    private: str
    salt: str
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
    """An acceptance whose every claim was checked against the log's key."""

    entry: Entry
    entry_hash: bytes
    index: int
    private: bytes
    checkpoint: Checkpoint


class Broken(ValueError):
    """An acceptance does not hold: evidence against the hub, to be kept."""


def pack(entry: bytes, private: bytes, salt: bytes, proof_text: str) -> Acceptance:
    """Put an acceptance on the wire."""
    return Acceptance(b64url(entry), b64url(private), b64url(salt), proof_text)


def open_acceptance(acceptance: Acceptance, log: Vkey) -> Opened:
    """Check an acceptance: log signature, inclusion, and that the private part is the one meant.

    Raises:
        Broken: anything in it does not hold.
    """
    try:
        raw = unb64url(acceptance.entry)
        private = unb64url(acceptance.private)
        salt = unb64url(acceptance.salt)
        parsed = proof.parse(acceptance.proof)
        checkpoint = proof.verify(parsed, raw, log)
        entry = entries.decode(raw)
        if entry.private != entries.commitment(salt, private):
            raise Broken("the private part is not the one that the entry commits to")
    except (note.NoteError, merkle.ProofError, ValueError) as error:
        raise Broken(str(error)) from None
    except Refused as refusal:
        raise Broken(str(refusal)) from None
    return Opened(entry, merkle.leaf_hash(raw), parsed.index, private, checkpoint)


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
