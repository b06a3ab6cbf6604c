"""Log entries: the audit log's one kind of line, with a public part and an erasable private part.

An entry commits to its private bytes by SHA-256(salt ‖ private bytes). Members may read the log, so
the public part must not tell who writes to whom about what. The salt (32 bytes) and the private
bytes live beside the log and can be erased: every proof stays valid and nothing is left to guess.
"""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas import jsontext, text
from schemas.encoding import TIME_PATTERN, b64url
from schemas.jsontext import Json
from schemas.refusal import Refused

MAX_ENTRY = 65_535
"""Bytes; a C2SP entry bundle has 16-bit lengths."""

SALT_SIZE = 32

MESSAGE_ACCEPTED = "message.accepted"
MESSAGE_REFUSED = "message.refused"
RECEIPTS_RECORDED = "receipts.recorded"
MESSAGE_ERASED = "message.erased"
MESSAGE_HELD = "message.held"
MESSAGE_RELEASED = "message.released"
DELIVERY_EXPIRED = "delivery.expired"
DELIVERY_ERASED = "delivery.erased"
MEMBER_INVITED = "member.invited"
MEMBER_JOINED = "member.joined"
MEMBER_HELD = "member.held"
MEMBER_SUSPENDED = "member.suspended"
MEMBER_RESUMED = "member.resumed"
KEY_ROTATED = "key.rotated"
KEY_REVOKED = "key.revoked"
KEY_REPLACED = "key.replaced"
GROUP_CHANGED = "group.changed"
OPERATOR_QUERY = "operator.query"
OPERATOR_EXPORT = "operator.export"
OPERATOR_BODY_READ = "operator.body_read"
WITNESS_OVERDUE = "witness.overdue"
WITNESS_RETURNED = "witness.returned"
HUB_STARTED = "hub.started"
HUB_STOPPED = "hub.stopped"

HUB = "hub"
"""The actor of what the hub does by itself."""

DIRECTORY_TYPES = (
    MEMBER_INVITED,
    MEMBER_JOINED,
    MEMBER_HELD,
    MEMBER_SUSPENDED,
    MEMBER_RESUMED,
    KEY_ROTATED,
    KEY_REVOKED,
    KEY_REPLACED,
    GROUP_CHANGED,
)
"""The entries that a directory is folded from."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the log. ``subject`` and ``private`` are null where there is none."""

    v: int
    type: Annotated[str, Meta(pattern=r"^[a-z]+\.[a-z_]+$(?!\n)")]
    time: Annotated[str, Meta(pattern=TIME_PATTERN)]
    actor: str
    subject: str | None
    public: dict[str, object]
    private: str | None


class Recipient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a message stands in one inbox, and by which rule it went there."""

    position: Annotated[int, Meta(ge=1)]
    reason: str


class AcceptedPrivate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private part of ``message.accepted``: shown to the sender and to each recipient."""

    envelope: str
    kind: str
    marking: str
    thread: str | None
    recipients: dict[str, Recipient]
    left_out: dict[str, str]


class RefusedPrivate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private part of ``message.refused``."""

    detail: str
    path: str | None
    envelope: str


def digest(data: bytes) -> str:
    """SHA-256 in base64url."""
    return b64url(hashlib.sha256(data).digest())


def commitment(salt: bytes, private: bytes) -> str:
    """SHA-256(salt ‖ private), the ``private`` member of an entry."""
    if len(salt) != SALT_SIZE:
        raise ValueError("a salt has 32 bytes")
    return digest(salt + private)


def encode(entry: Entry) -> bytes:
    """The bytes that are hashed into the tree.

    Raises:
        ValueError: the entry is larger than ``MAX_ENTRY``.
    """
    raw = jsontext.encode(entry)
    if len(raw) > MAX_ENTRY:
        raise ValueError(f"a log entry has at most {MAX_ENTRY} bytes, this one {len(raw)}")
    return raw


def decode(raw: bytes) -> Entry:
    """Read an entry.

    Raises:
        Refused: the bytes are not an entry of version 1.
    """
    entry = jsontext.decode(raw, Entry)
    if entry.v != 1:
        raise Refused("schema", f"Entries of version {entry.v} are not known here.", "$.v")
    text.check_time(entry.time, "$.time")
    return entry


def public_member(entry: Entry, name: str) -> Json:
    """One member of the public part, or None."""
    value: Json = msgspec.to_builtins(entry.public.get(name))
    return value
