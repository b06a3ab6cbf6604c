"""``joint_action_notice.v1``: an institution proposes that several act together.

The proposer is the message's sender and the common text is the message's ``texts``: what an
institution accepts is the whole signed payload, so that nothing is said twice.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from schemas import text
from schemas.encoding import CODE_PATTERN, TIME_PATTERN
from schemas.kinds.activity_bulletin import Link, Period, Place, check_links, check_period
from schemas.refusal import Refused
from schemas.vocabulary import JOINT_ACTIONS

if TYPE_CHECKING:
    from schemas.message import Message

Code = Annotated[str, Meta(pattern=CODE_PATTERN)]


class JointActionNotice(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The content of a notice.

    ``invited`` are the members asked to answer, one by one; they need not be all of the audience.
    ``answer_by`` is compared with the time of an answer's acceptance.
    """

    action: str
    invited: Annotated[tuple[Code, ...], Meta(min_length=1, max_length=200)]
    answer_by: Annotated[str, Meta(pattern=TIME_PATTERN)]
    place: Place | None = None
    period: Period | None = None
    links: Annotated[tuple[Link, ...], Meta(max_length=50)] = ()


def check(message: "Message", content: object) -> None:
    """Check what the types cannot say.

    Raises:
        Refused: ``schema``, with the path.
    """
    assert isinstance(content, JointActionNotice)
    if content.action not in JOINT_ACTIONS:
        raise Refused(
            "schema", f"The joint actions are {', '.join(JOINT_ACTIONS)}.", "$.content.action"
        )
    if len(set(content.invited)) != len(content.invited):
        raise Refused("schema", "An institution is invited twice.", "$.content.invited")
    if message.sender in content.invited:
        raise Refused("schema", "The proposer does not invite itself.", "$.content.invited")
    check_period(content.period)
    check_links(content.links)
    text.check_time(content.answer_by, "$.content.answer_by")
    if content.answer_by <= message.created:
        raise Refused("schema", "The date to answer by has passed.", "$.content.answer_by")
