"""Whether what the hub hands over holds: pure, from bytes, against the log's key and the directory.

Two questions are kept apart. Is it *backed*: does the log have this entry, and are these the bytes
that the entry commits to? If not, the hub has given nothing at all. Is the message *valid*: did its
sender sign it, under the rules that hold for everybody? If not, the hub let through what it must
not, and its sender is told.
"""

import re

import msgspec

from schemas import acceptance as acceptances
from schemas import entry as entries
from schemas import jsontext, message, proof, receipt, routing, signature
from schemas.acceptance import Acceptance, Broken, Delivery, Opened
from schemas.directory import Directory
from schemas.encoding import CODE_PATTERN, UUID7_PATTERN, parse_time, unb64url
from schemas.entry import AcceptedPrivate, Entry, RefusedPrivate
from schemas.message import Message
from schemas.note import Vkey
from schemas.receipt import Receipt
from schemas.refusal import Refused
from schemas.routing import Routing

_ID = re.compile(UUID7_PATTERN)
_CODE = re.compile(CODE_PATTERN)
_KIND = re.compile(r"[a-z][a-z0-9_]{0,63}\.v[1-9][0-9]{0,3}")


class Backed(msgspec.Struct, frozen=True):
    """An acceptance that holds under the checkpoint it came with.

    Whether that checkpoint is of the history that we follow is the follower's to say; ``note`` is
    the signed checkpoint for it.
    """

    acceptance: Acceptance
    opened: Opened
    note: bytes


class Entered(msgspec.Struct, frozen=True):
    """A backed ``message.accepted`` with its private part."""

    backed: Backed
    private: AcceptedPrivate

    @property
    def message_id(self) -> str:
        """The id of the message that was accepted."""
        return self.backed.opened.entry.subject or ""


def back(acceptance: Acceptance, log: Vkey) -> Backed:
    """Check an acceptance against the log's key.

    Raises:
        Broken: the log's key does not stand behind it.
    """
    opened = acceptances.open_acceptance(acceptance, log)
    return Backed(acceptance, opened, proof.parse(acceptance.proof).checkpoint)


def back_erased(acceptance: Acceptance, log: Vkey) -> Backed:
    """Check the acceptance of an erased message against the log's key.

    That it was erased by a decision, the log says below the checkpoint of this proof.

    Raises:
        Broken: the log's key does not stand behind it, or it names no message and sender.
    """
    opened = acceptances.open_erased(acceptance, log)
    _check_names(opened.entry)
    return Backed(acceptance, opened, proof.parse(acceptance.proof).checkpoint)


def entered(backed: Backed) -> Entered:
    """Read a backed acceptance as that of a message.

    Raises:
        Broken: it is the acceptance of something else, or names what cannot be.
    """
    private = acceptances.accepted_private(backed.opened)
    _check_names(backed.opened.entry)
    if not _KIND.fullmatch(private.kind):
        raise Broken("the entry names no kind of message")
    return Entered(backed, private)


def _check_names(entry: Entry) -> None:
    if not _ID.fullmatch(entry.subject or "") or not _CODE.fullmatch(entry.actor):
        raise Broken("the entry names no message and sender")


def check_envelope(entry: Entered, envelope: bytes) -> None:
    """Whether an envelope is the one that the log commits to.

    Raises:
        Broken: it is another.
    """
    if entry.private.envelope != entries.digest(envelope):
        raise Broken("the log commits to another envelope than this one")


def check_own_acceptance(entry: Entered, code: str, message: Message, envelope: bytes) -> None:
    """Whether an acceptance is the one for a message that we sent.

    Raises:
        Broken: it is for another message, or says something else of it.
    """
    if entry.backed.opened.entry.actor != code or entry.message_id != message.id:
        raise Broken(f"it is about {entry.message_id}, not {message.id}")
    check_envelope(entry, envelope)
    _check_description(entry, message)


def check_own_refusal(backed: Backed, code: str, message_id: str, envelope: bytes) -> None:
    """Whether a recorded refusal is the one for a message that we sent.

    Raises:
        Broken: it is about something else.
    """
    entry = backed.opened.entry
    if (entry.type, entry.actor, entry.subject) != (entries.MESSAGE_REFUSED, code, message_id):
        raise Broken(f"it is {entry.type} about {entry.subject}, not our refusal of {message_id}")
    try:
        private = jsontext.decode(backed.opened.private, RefusedPrivate)
    except Refused as refusal:
        raise Broken(str(refusal)) from None
    if private.envelope != entries.digest(envelope):
        raise Broken("it is about another envelope than the one we sent")


def own_position(entry: Entered, code: str) -> int:
    """The position of a message in our inbox, as the log has it.

    Raises:
        Broken: it went to others.
    """
    recipient = entry.private.recipients.get(code)
    if recipient is None:
        raise Broken(f"{code} is not among the recipients that the log has")
    return recipient.position


def check_message(entry: Entered, envelope: bytes, directory: Directory) -> Message:
    """Whether a backed message is valid.

    Args:
        entry: the acceptance.
        envelope: the bytes that the acceptance commits to.
        directory: as it was before the entry.

    Raises:
        Refused: it should not have been accepted; says why.
    """
    recorded = entry.backed.opened.entry
    jws = signature.parse(envelope, signature.MESSAGE_TYPE)
    read = message.parse(jws.payload)
    if read.id != recorded.subject or read.sender != recorded.actor:
        raise Refused("sender-mismatch", "The log has it under another id or sender.")
    try:
        _check_description(entry, read)
    except Broken as broken:
        raise Refused("schema", f"The log describes it otherwise: {broken}.") from None
    index = entry.backed.opened.index
    keys = {s.kid: directory.valid_key(s.kid, index, recorded.time) for s in jws.signatures}
    signature.verify(jws, lambda kid: keys[kid].public)
    if read.sender not in {key.member for key in keys.values()}:
        raise Refused("sender-unsigned", f"{read.sender} did not sign it.")
    message.check_clock(read, parse_time(recorded.time))
    routing.check_may_send(read.sender, read.marking, directory)
    return read


def expand(read: Message, directory: Directory) -> Routing:
    """Who should receive a message, by our own reckoning.

    Raises:
        Refused: its audience or marking is not allowed.
    """
    return routing.route(read.audience, read.marking, read.sender, directory)


def check_receipt(backed: Backed, directory: Directory) -> Receipt:
    """Whether a recorded receipt is signed by its receiver.

    Args:
        backed: the acceptance of the entry ``receipts.recorded``.
        directory: as it is at the entry or later.

    Raises:
        Broken: it is not.
    """
    recorded = backed.opened.entry
    if recorded.type != entries.RECEIPTS_RECORDED:
        raise Broken(f"the entry is {recorded.type}, not {entries.RECEIPTS_RECORDED}")
    try:
        jws, read = receipt.parse(backed.opened.private)
        keys = {
            s.kid: directory.valid_key(s.kid, backed.opened.index, recorded.time)
            for s in jws.signatures
        }
        signature.verify(jws, lambda kid: keys[kid].public)
    except Refused as refusal:
        raise Broken(str(refusal)) from None
    if {key.member for key in keys.values()} != {read.receiver} or recorded.actor != read.receiver:
        raise Broken(f"it is not {read.receiver} alone that signed it")
    return read


def check_own_receipt(backed: Backed, code: str, sent: bytes, directory: Directory) -> set[int]:
    """The positions of a receipt of ours that are recorded in the entry the hub answered with.

    A receipt that says nothing new is answered with an earlier one, which may cover only a part of
    it: a connector that was restored from a backup has forgotten which receipts it gave.

    Args:
        backed: what the hub answered.
        code: who we are.
        sent: the receipt that was offered.
        directory: as it is at the entry or later.

    Raises:
        Broken: the entry is no receipt of ours, or says nothing of these messages.
    """
    recorded = backed.opened.entry
    if (recorded.type, recorded.actor) != (entries.RECEIPTS_RECORDED, code):
        raise Broken(f"the entry is {recorded.type} of {recorded.actor}")
    offered = _delivered(receipt.parse(sent)[1])
    if backed.opened.private == sent:
        return {position for *_, position in offered}
    known = offered & _delivered(check_receipt(backed, directory))
    if not known:
        raise Broken("the log commits to another receipt of ours, of other messages")
    return {position for *_, position in known}


def _delivered(read: Receipt) -> set[tuple[str, str, int]]:
    return {
        (message_id, entry_hash, position) for message_id, entry_hash, position, *_ in read.items
    }


def envelope_of(delivery: Delivery) -> bytes:
    """The envelope in a delivery.

    Raises:
        Broken: it is no base64url.
    """
    try:
        return unb64url(delivery.envelope)
    except ValueError as error:
        raise Broken(f"the envelope is {error}") from None


def _check_description(entry: Entered, read: Message) -> None:
    private = entry.private
    if (private.kind, private.marking, private.thread) != (read.kind, read.marking, read.thread):
        raise Broken("kind, marking or thread are not those of the message")
