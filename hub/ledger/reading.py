"""Reading at the hub: which of its own people may see the body of a message. Pure."""

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET

from schemas import jsontext, signature
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS

MIN_REASON = 10
"""Characters of a stated reason, the spaces around it not counted."""

Reader: TypeAlias = Literal["operator", "auditor"]


class Right(Enum):
    """What a reader may do with a body under one marking."""

    READ = "read"
    READ_WITH_REASON = "read with a stated reason"
    NEVER = "never"


_OPERATOR: Mapping[str, Right] = MappingProxyType(
    {
        "TLP:CLEAR": Right.READ,
        "TLP:GREEN": Right.READ,
        "TLP:AMBER": Right.READ_WITH_REASON,
        "TLP:AMBER+STRICT": Right.READ_WITH_REASON,
        "TLP:RED": Right.NEVER,
    }
)

RIGHTS: Mapping[Reader, Mapping[str, Right]] = MappingProxyType(
    {"operator": _OPERATOR, "auditor": MappingProxyType(dict.fromkeys(_OPERATOR, Right.NEVER))}
)
"""Reader -> marking -> right. Auditors have the metadata and the proofs."""

_NEVER: Mapping[Reader, str] = MappingProxyType(
    {
        "operator": "Nobody at the hub may read it: ask its sender or one of its receivers.",
        "auditor": "Auditors see proofs and no bodies: ask its sender, one of its receivers, or an "
        "operator with a reason.",
    }
)


class Body(msgspec.Struct, frozen=True):
    """What decides about reading a message. Bytes that are no message have no ``marking``."""

    marking: str | None = None
    sealed: bool = False
    expires: str | None = None


class Said(msgspec.Struct, frozen=True):
    """The private part of ``operator.body_read``: ``outcome`` is ``shown`` or a refusal's code."""

    path: str
    reason: str
    marking: str | None
    outcome: str


class _Payload(msgspec.Struct, frozen=True):
    """The members of a message that are looked at here."""

    marking: str | None = None
    sealed: object = UNSET
    expires: str | None = None


def body_of(envelope: bytes) -> Body:
    """What stands in an envelope itself, under its sender's signature, and in no row beside it."""
    try:
        payload = signature.parse(envelope, signature.MESSAGE_TYPE).payload
        said = jsontext.decode(payload, _Payload)
    except Refused:
        return Body()
    marking = said.marking if said.marking in MARKINGS else None
    return Body(marking, said.sealed is not UNSET, said.expires)


def reader(roles: Iterable[str]) -> Reader:
    """As whom somebody reads who has these roles; an operator who audits is an operator."""
    return "operator" if "operator" in roles else "auditor"


def refusal(who: Reader, body: Body, reason: str, now: str) -> Refused | None:
    """Why this reader may not see the body of a message; None where it may.

    What has no marking may be anything, and takes a reason.

    Returns:
        ``forbidden``, ``expired`` or ``reason-needed``, with what to do instead.
    """
    unknown = Right.READ_WITH_REASON if who == "operator" else Right.NEVER
    right = RIGHTS[who].get(body.marking or "", unknown)
    if body.sealed or right is Right.NEVER:
        return Refused("forbidden", f"{_name(body)}. {_NEVER[who]}")
    if body.expires is not None and body.expires <= now:
        return Refused("expired", f"It expired at {body.expires}; nobody at the hub reads it now.")
    if right is Right.READ_WITH_REASON and len(reason.strip()) < MIN_REASON:
        say = f"Say with `reason` why you have to read it, in {MIN_REASON} characters or more"
        return Refused("reason-needed", f"{_name(body)}. {say}; it is recorded.")
    return None


def _name(body: Body) -> str:
    if body.sealed:
        return "It is sealed"
    return "It has no marking" if body.marking is None else f"It is {body.marking}"
