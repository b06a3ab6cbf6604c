"""Admission: any bytes give one admitted message or one typed refusal. Pure.

``open_envelope`` needs nothing but the bytes and the directory, and costs the most (signatures), so
that it runs off the event loop and before the recorder's turn. ``admit`` decides with the facts of
the moment of recording; it repeats the check of the keys, which may have been revoked in between.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

import msgspec

from schemas import joint_action, jsontext, message, routing, signature
from schemas.directory import Directory
from schemas.encoding import b64url, format_time
from schemas.joint_action import Answer
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.kinds.joint_action_response import JointActionResponse
from schemas.message import Message
from schemas.refusal import Refused
from schemas.routing import Routing
from schemas.signature import Jws


class Opened(msgspec.Struct, frozen=True):
    """An envelope whose signatures hold and whose payload is a well-formed message."""

    raw: bytes
    jws: Jws
    message: Message

    @property
    def payload_digest(self) -> str:
        """SHA-256 of the payload: a message is known by it, never by its signature bytes."""
        return b64url(hashlib.sha256(self.jws.payload).digest())


class Known(msgspec.Struct, frozen=True):
    """What the hub remembers of a message that it accepted.

    Without a ``payload_digest`` its content is erased; ``erased`` is the entry that says so.
    """

    index: int
    sender: str
    payload_digest: str | None
    erased: int | None = None


class Notice(msgspec.Struct, frozen=True):
    """A joint action's notice as accepted, and the answers recorded so far."""

    sender: str
    payload: bytes
    audience: tuple[str, ...]
    content: JointActionNotice
    recipients: frozenset[str]
    answers: Sequence[Answer]


class Facts(msgspec.Struct, frozen=True):
    """What else admission has to know of this moment."""

    now: datetime
    index: int
    directory: Directory
    known: Known | None
    notice: Notice | None
    sent_this_hour: int
    messages_per_hour: int


class Duplicate(msgspec.Struct, frozen=True):
    """The same message again: it is answered with the first acceptance and not logged."""

    index: int


class Admitted(msgspec.Struct, frozen=True):
    """The message may be recorded, and goes to these recipients."""

    routing: Routing
    answer: Answer | None


def open_envelope(raw: bytes, directory: Directory) -> Opened:
    """Read an envelope and check every signature and the message's form.

    Raises:
        Refused: with the first thing that is wrong.
    """
    jws = signature.parse(raw, signature.MESSAGE_TYPE)
    signature.verify(jws, lambda kid: directory.key(kid).public)
    return Opened(raw, jws, message.parse(jws.payload))


def message_id(raw: bytes) -> str | None:
    """The id that a refused envelope claims, for the record; None where there is none to be had."""
    try:
        jws = signature.parse(raw, signature.MESSAGE_TYPE)
        value = jsontext.parse(jws.payload)
        return jsontext.convert(value, _Identified).id
    except Refused:
        return None


class _Identified(msgspec.Struct, frozen=True):
    id: message.MessageId


def admit(opened: Opened, identity: str, facts: Facts) -> Admitted | Duplicate:
    """Decide about an opened envelope.

    Args:
        opened: what ``open_envelope`` gave.
        identity: the code of the participant that the connection belongs to.
        facts: what is known at this moment.

    Raises:
        Refused: with the reason.
    """
    sent = opened.message
    if sent.sender != identity:
        raise Refused(
            "sender-mismatch", f"The message is {sent.sender}'s, the connection {identity}'s."
        )
    if facts.known is not None:
        return _again(opened, facts.known)
    _check_signers(opened, facts)
    routing.check_may_send(sent.sender, sent.marking, facts.directory)
    message.check_clock(sent, facts.now)
    routed = routing.route(sent.audience, sent.marking, sent.sender, facts.directory)
    answer = _check_joint_action(opened, routed, facts)
    if facts.sent_this_hour >= facts.messages_per_hour:
        raise Refused(
            "quota", f"{facts.messages_per_hour} messages an hour are the limit; try again later."
        )
    return Admitted(routed, answer)


def _again(opened: Opened, known: Known) -> Duplicate:
    if known.sender == opened.message.sender and known.payload_digest is None:
        # Whether it is the same again, nothing is left to tell.
        raise Refused(
            "erased",
            f"This message was accepted as entry {known.index} and erased since; if it has to be "
            "said again, give it a new id.",
            "$.id",
        )
    if known.sender != opened.message.sender or known.payload_digest != opened.payload_digest:
        raise Refused(
            "id-conflict",
            "Give the message a new id; this one was accepted with other content.",
            "$.id",
        )
    return Duplicate(known.index)


def _check_signers(opened: Opened, facts: Facts) -> None:
    time = format_time(facts.now)
    signers = {
        facts.directory.valid_key(s.kid, facts.index, time).member for s in opened.jws.signatures
    }
    if opened.message.sender not in signers:
        raise Refused("sender-unsigned", f"{opened.message.sender} itself has to sign.")


def _check_joint_action(opened: Opened, routed: Routing, facts: Facts) -> Answer | None:
    content = message.content(opened.message)
    if isinstance(content, JointActionNotice):
        _check_invited(content, routed, facts)
    if not isinstance(content, JointActionResponse):
        return None
    sender = opened.message.sender
    notice = facts.notice
    if notice is None or (sender != notice.sender and sender not in notice.recipients):
        # One answer for both, so that nobody learns which ids exist.
        raise Refused(
            "unknown-action",
            "No notice with this id was sent to you, or it was erased.",
            "$.content.notice",
        )
    answer = Answer(facts.index, format_time(facts.now), sender, content.answer, opened.message.id)
    joint_action.check_answer(notice.sender, notice.content, notice.answers, answer)
    _check_superseded(opened.message, notice)
    _check_everyone_hears(sender, routed, notice)
    if content.signature is not None:
        _check_cosignature(content.signature, sender, notice, facts)
    return answer


def _check_invited(content: JointActionNotice, routed: Routing, facts: Facts) -> None:
    for code in content.invited:
        participant = facts.directory.participants.get(code)
        if participant is None or participant.role != "member":
            raise Refused("schema", f"{code} is no member.", "$.content.invited")
        if code not in routed.recipients and code not in routed.left_out:
            raise Refused(
                "schema", f"{code} is invited but not in the audience.", "$.content.invited"
            )


def _check_superseded(sent: Message, notice: Notice) -> None:
    own = {answer.message_id for answer in notice.answers if answer.member == sent.sender}
    if sent.supersedes is not None and sent.supersedes not in own:
        raise Refused("schema", "It supersedes no answer of yours.", "$.supersedes")


def _check_everyone_hears(sender: str, routed: Routing, notice: Notice) -> None:
    """The state is the same everywhere only if an answer goes to all who have a part in it."""
    concerned = {notice.sender, *notice.content.invited} - {sender}
    missing = sorted(concerned - set(routed.recipients) - set(routed.left_out))
    if missing:
        raise Refused("schema", f"Address the answer to {', '.join(missing)} too.", "$.audience")


def _check_cosignature(
    wire: signature.JwsSignature, sender: str, notice: Notice, facts: Facts
) -> None:
    try:
        kid = signature.detached_kid(wire)
        key = facts.directory.valid_key(kid, facts.index, format_time(facts.now))
        if key.member != sender:
            raise Refused("unknown-key", "It is another institution's key.")
        signature.verify_detached(wire, notice.payload, signature.MESSAGE_TYPE, key.public)
    except Refused as refusal:
        raise Refused("bad-cosignature", refusal.detail, "$.content.signature") from None
