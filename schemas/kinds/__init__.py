"""The kinds of message. A kind grows by a new version; the last two are taken.

Each module has one struct, the ``content`` of its kind, and a pure ``check`` of what the types
cannot say. ``KINDS`` is the one table of them.
"""

import re
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from schemas.kinds import activity_bulletin, joint_action_notice, joint_action_response
from schemas.refusal import Refused

if TYPE_CHECKING:
    from schemas.message import Message

Content: TypeAlias = (
    activity_bulletin.ActivityBulletin
    | joint_action_notice.JointActionNotice
    | joint_action_response.JointActionResponse
)

_KIND = re.compile(r"([a-z][a-z0-9_]{0,63})\.v([1-9][0-9]{0,3})")


class Kind(msgspec.Struct, frozen=True):
    """One row: the struct of the content, and its check against the whole message."""

    content: type[Content]
    check: "Callable[[Message, Content], None]"


KINDS = MappingProxyType(
    {
        "activity_bulletin.v1": Kind(activity_bulletin.ActivityBulletin, activity_bulletin.check),
        "joint_action_notice.v1": Kind(
            joint_action_notice.JointActionNotice, joint_action_notice.check
        ),
        "joint_action_response.v1": Kind(
            joint_action_response.JointActionResponse, joint_action_response.check
        ),
    }
)


def kind(name: str) -> Kind:
    """The row of a kind.

    Raises:
        Refused: ``unknown-kind``, or ``unsupported-version`` for a version not taken here.
    """
    row = KINDS.get(name)
    if row is not None:
        return row
    found = _KIND.fullmatch(name)
    versions = sorted(known for known in KINDS if found and known.startswith(f"{found[1]}.v"))
    if versions:
        raise Refused(
            "unsupported-version", f"Send {' or '.join(versions)} instead of {name}.", "$.kind"
        )
    raise Refused("unknown-kind", f"The kinds are {', '.join(KINDS)}.", "$.kind")
