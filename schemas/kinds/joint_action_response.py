"""``joint_action_response.v1``: an answer to a notice, or a step of its proposer.

A plain ``accept`` carries the institution's own JWS signature over the *notice's* payload, so that
anyone can assemble one envelope with all signatures (``schemas.joint_action``).
"""

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.encoding import UUID7_PATTERN
from schemas.refusal import Refused
from schemas.signature import JwsSignature

if TYPE_CHECKING:
    from schemas.message import Message

Answer = Literal["accept", "accept_with_reservation", "decline", "withdraw"]
Step = Literal["start", "conclude", "cancel"]

ANSWERS: tuple[Answer, ...] = ("accept", "accept_with_reservation", "decline", "withdraw")
STEPS: tuple[Step, ...] = ("start", "conclude", "cancel")


class JointActionResponse(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The content of a response. ``notice`` is the id of the notice's message.

    Optional words stand in the message's ``texts``; with ``accept_with_reservation`` they say the
    reservation and must be there.
    """

    notice: Annotated[str, Meta(pattern=UUID7_PATTERN)]
    answer: Literal[
        "accept", "accept_with_reservation", "decline", "withdraw", "start", "conclude", "cancel"
    ]
    signature: JwsSignature | None = None


def check(message: "Message", content: object) -> None:
    """Check what the types cannot say.

    Raises:
        Refused: ``schema``, with the path.
    """
    assert isinstance(content, JointActionResponse)
    if message.in_reply_to != content.notice:
        raise Refused("schema", "in_reply_to must be the notice that is answered.", "$.in_reply_to")
    if (content.answer == "accept") != (content.signature is not None):
        raise Refused(
            "schema",
            "An accept, and only an accept, carries the signature over the notice.",
            "$.content.signature",
        )
    if content.answer == "accept_with_reservation" and not message.texts:
        raise Refused("schema", "Say the reservation in the texts.", "$.texts")
