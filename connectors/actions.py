"""Joint actions as this institution's store knows them: the notice, its answers, its signatures.

Whoever received the notice and the answers computes the same state from them (``schemas.
joint_action``), and can assemble one envelope with every signature, for anyone to verify.
"""

from collections.abc import Iterator

import msgspec

from connectors.store import Reader
from connectors.tables import Received, Sent, SentState
from schemas import joint_action, jsontext, message, signature
from schemas.directory import Directory
from schemas.joint_action import Action, Answer
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.kinds.joint_action_response import JointActionResponse
from schemas.message import Message
from schemas.refusal import Refused
from schemas.signature import JwsEnvelope, JwsSignature


class JointAction(msgspec.Struct, frozen=True):
    """A joint action: what was proposed, every answer in the log's order, and the state.

    ``signatures`` are the verified co-signatures over the notice of those whose plain ``accept``
    counts.
    """

    envelope: bytes
    notice: Message
    content: JointActionNotice
    answers: tuple[Answer, ...]
    action: Action
    signatures: tuple[JwsSignature, ...]


class _Reply(msgspec.Struct, frozen=True):
    """An accepted response, whose co-signature, where it has one, was verified."""

    answer: Answer
    signature: JwsSignature | None


def joint_action_of(reader: Reader, notice_id: str) -> JointAction:
    """The joint action that a notice proposed.

    Raises:
        Refused: ``unknown-action``: the store has no valid notice of that id.
    """
    envelope = _notice(reader, notice_id)
    payload = signature.parse(envelope, signature.MESSAGE_TYPE).payload
    notice = message.parse(payload)
    content = message.content(notice)
    if not isinstance(content, JointActionNotice):
        raise Refused("unknown-action", f"{notice_id} is {notice.kind}, no joint-action notice.")
    replies = list(_replies(reader, notice_id, payload))
    action = joint_action.evaluate(notice.sender, content, (reply.answer for reply in replies))
    counting = set(action.answers.values())
    signatures = [r.signature for r in replies if r.answer in counting and r.signature]
    answers = sorted((reply.answer for reply in replies), key=lambda answer: answer.index)
    return JointAction(envelope, notice, content, tuple(answers), action, tuple(signatures))


def assemble(joint: JointAction) -> bytes:
    """One envelope over the notice's payload, with the signatures of all who accepted it.

    Raises:
        Refused: there are more than 16.
    """
    notice = jsontext.decode(joint.envelope, JwsEnvelope)
    return joint_action.assemble(notice, joint.signatures)


def _notice(reader: Reader, notice_id: str) -> bytes:
    sent = reader.sent(notice_id)
    if sent is not None and sent.state is SentState.ACCEPTED:
        return sent.envelope
    received = reader.valid(notice_id)
    if received is None:
        raise Refused("unknown-action", f"There is no accepted notice {notice_id} in this store.")
    return received.envelope


def _replies(reader: Reader, notice_id: str, payload: bytes) -> Iterator[_Reply]:
    directory = reader.directory()
    rows: list[Sent | Received] = [*reader.sent_replies(notice_id)]
    rows += reader.received_replies(notice_id)
    for row in rows:
        read = message.parse(signature.parse(row.envelope, signature.MESSAGE_TYPE).payload)
        content = message.content(read)
        if not isinstance(content, JointActionResponse) or row.index is None:
            continue
        answer = Answer(row.index, row.accepted or "", read.sender, content.answer, read.id)
        if content.signature is None:
            yield _Reply(answer, None)
        elif _holds(content.signature, payload, answer, directory):
            yield _Reply(answer, content.signature)


def _holds(wire: JwsSignature, payload: bytes, answer: Answer, directory: Directory) -> bool:
    """Whether a co-signature is the member's own over the notice; else its answer never was."""
    for key in directory.keys.values():
        if key.member != answer.member or not key.valid_at(answer.index, answer.time):
            continue
        try:
            signature.verify_detached(wire, payload, signature.MESSAGE_TYPE, key.public)
        except Refused:
            continue
        return True
    return False
