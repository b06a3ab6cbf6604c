"""What the routes answer, as the OpenAPI document describes it.

Tests compare the hub's real answers with these, member by member.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub.delivery.deliveries import Attempt, Dead, Match
from hub.delivery.schedule import EndpointState
from hub.delivery.subscription import Filter
from hub.doors.operators import Scope
from hub.ledger.queries import AccessToken, DeliveryRow, Due
from schemas.acceptance import Acceptance, Delivery, Tombstone
from schemas.directory import Code, Role, State
from schemas.encoding import HASH_PATTERN, TIME_PATTERN, UUID7_PATTERN
from schemas.entry import Entry

Hash = Annotated[str, Meta(pattern=HASH_PATTERN)]
Id = Annotated[str, Meta(pattern=UUID7_PATTERN)]
Time = Annotated[str, Meta(pattern=TIME_PATTERN)]
Fingerprint = Annotated[str, Meta(pattern=r"^[0-9]{30}$(?!\n)")]
Index = Annotated[int, Meta(ge=0)]


REF = "#/components/schemas/{name}"
"""How the document refers to a struct."""


class Alive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The process answers."""

    ok: Literal[True]


class Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether messages are taken; ``reason`` is why not."""

    ok: bool
    reason: str | None


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer to a join: an operator has to approve the fingerprint."""

    code: Code
    state: Literal["pending"]
    fingerprint: Fingerprint


class Delivered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message at its position in the inbox."""

    position: Annotated[int, Meta(ge=1)]
    delivery: Delivery


InboxItem = Annotated[
    msgspec.Raw,
    Meta(
        extra_json_schema={
            "anyOf": [{"$ref": REF.format(name=n.__name__)} for n in (Delivered, Tombstone)]
        }
    ),
]


class Inbox(msgspec.Struct, frozen=True):
    """A part of the inbox, which may be less than ``limit`` though there is more.

    ``last`` is the highest position assigned in this inbox.
    """

    deliveries: list[InboxItem]
    last: Index


class Erased(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message is erased; ``index`` is the entry that says so.

    ``received`` have signed that they have a copy, ``waiting`` have not and may have one.
    """

    index: Index
    received: list[Code]
    waiting: list[Code]


class Retained(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of retention in days, and the messages that are due; at most 500."""

    rules: dict[str, int]
    due: list[Due]


class SentReceipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recorded receipt. ``position`` is its log index; its JWS are the private bytes."""

    position: Index
    acceptance: Acceptance


class Receipts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Receipts for the asker's own messages, which may be less than ``limit`` though there is more.

    ``last`` is where to go on.
    """

    receipts: list[SentReceipt]
    last: Annotated[int, Meta(ge=-1)]


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log index of the entry that records a change."""

    index: Index


class SigningKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signing key; it holds at the log indices ``since <= index < until``."""

    kid: Hash
    member: Code
    x: Hash
    since: Index
    until: Index | None
    expires: Time | None


class SigningKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signing keys, ended ones included."""

    keys: list[SigningKey]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A participant. ``kid`` names its present signing key."""

    code: Code
    role: Role
    state: State
    names: dict[str, str]
    country: str | None
    kid: Hash | None


class Members(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everybody in the directory, and the thematic networks."""

    members: list[Member]
    groups: dict[str, list[Code]]


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request to join that waits for approval."""

    code: Code
    fingerprint: Fingerprint
    kid: Hash
    received: Time


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A participant's client certificate and the authority's, as PEM."""

    code: Code
    serial: Annotated[str, Meta(pattern=r"^[0-9a-f]{1,40}$(?!\n)")]
    not_after: Time
    days_left: int
    certificate: str
    authority: str


class Certificates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each participant's newest certificate, the next to end first.

    ``own`` are the days left of those that no participant holds: ``hub:authority``, ``hub:door``,
    ``hub:broker``, and ``server:NAME`` for each that ``nhri-hub ca server`` made; -1 for a file
    that cannot be read.
    """

    certificates: list[Certificate]
    own: dict[str, int]


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new access token, shown this once."""

    account: str
    scopes: list[Scope]
    token: Hash


class Tokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose access tokens there are, without the tokens."""

    tokens: list[AccessToken]


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A log entry with its private part, null where there is none or it was erased."""

    index: Index
    entry: Entry
    private: dict[str, object] | None


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Log entries that match.

    ``next`` is the ``after`` of the next page, or its ``before`` where the newest come first; null
    on the last. A page can have fewer events than asked for, or none, and still a ``next``: that is
    how far the log was searched in the time that one request may take.
    """

    events: list[Event]
    next: Index | None


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many entries of a period, such as 2026, 2026-07 or 2026-07-01, have a value."""

    period: str
    value: str
    count: Annotated[int, Meta(ge=1)]


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts by period, the greatest first; of the first ``indexed`` entries of ``size``."""

    counts: list[Count]
    indexed: Index
    size: Index


class Summary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the hub knows of an accepted message; ``index`` is that of its acceptance."""

    sender: Code
    kind: str
    marking: str
    index: Index


class Timeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All about one message; a refused one has events only."""

    id: str
    message: Summary | None
    acceptance: Acceptance | None
    deliveries: list[DeliveryRow]
    events: list[Event]


class MessageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message as its sender signed it (`/schemas/message.json`).

    ``recorded`` is the index of the entry that says who read it here.
    """

    id: str
    recorded: Index
    message: dict[str, object]


class QuarantinedMessage(msgspec.Struct, frozen=True):
    """A message in quarantine, named by the digest of its body.

    ``quarantined`` and ``reason`` are of the last record of it, null where there is none (too many
    came at once). ``copies`` with the same body count as one.
    """

    digest: Hash
    reason: str | None
    quarantined: Time | None
    user: str | None
    routing_key: str
    type: str | None
    message_id: str | None
    size: Index
    copies: Annotated[int, Meta(ge=1)]


class QuarantinedMessages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The messages in quarantine, the oldest first; at most 500."""

    messages: list[QuarantinedMessage]


class QuarantinedBody(QuarantinedMessage, frozen=True):
    """A message in quarantine with its body in base64url."""

    body: str


class Quorum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The cosignature was taken. ``quorum``: its checkpoint has one, and is served."""

    quorum: bool


class Witness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a witness is: the size that it cosigned last, and when."""

    code: Code
    size: Index
    time: Time


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator wants to know first.

    ``participants`` counts them by state, ``waiting_deliveries`` the copies without a receipt by
    recipient. ``store_failing`` is why the last commit failed, null where it did not;
    ``signing_stopped`` is why nothing is signed. ``quorum_size`` is the size of the last checkpoint
    with a quorum, null before the first; ``quorum_wanted`` tells whether the witnesses that there
    are can be one. ``certificate_days`` are what ``/v1/certificates`` calls ``own``.
    """

    version: str
    instance: str
    origin: str
    vkey: str
    log_size: Index
    participants: dict[str, int]
    waiting_deliveries: dict[str, int]
    waiting_jobs: int
    store_failing: str | None
    signing_stopped: str | None
    quorum_wanted: bool
    quorum_size: Index | None
    witnesses: list[Witness]
    free_disk_bytes: int
    certificate_days: dict[str, int]


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook subscription. ``state``: only what is active, failing or warned is sent to.

    ``key`` checks signatures v1a; ``failing_since`` and ``warned`` tell since when the endpoint
    fails, and when its owner was warned that it will be disabled.
    """

    id: Id
    owner: Code
    url: str
    filter: Filter
    ordered: bool
    state: EndpointState
    failing_since: Time | None
    warned: Time | None
    created: Time
    key: Annotated[str, Meta(pattern=r"^whpk_[A-Za-z0-9+/]{43}=$(?!\n)")]


class WishWithSecret(Wish, frozen=True):
    """A webhook subscription with its secret for signatures v1, shown this once."""

    secret: Annotated[str, Meta(pattern=r"^whsec_[A-Za-z0-9+/]{43}=$(?!\n)")]


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Webhook subscriptions, the oldest first."""

    subscriptions: list[Wish]


class Tried(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of the last days a filter lets in: the newest 100 messages, ``matched`` in all.

    ``whole`` is false where there were more messages than the newest that were looked at.
    """

    since: Time
    looked_at: Index
    whole: bool
    matched: Index
    messages: list[Match]


class Tested(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an endpoint made of a challenge; ``excerpt`` is for the owner alone."""

    proven: bool
    state: EndpointState
    status: int | None
    error: str | None
    excerpt: str | None


class Attempts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last 100 attempts, the newest first."""

    attempts: list[Attempt]


class DeadLetters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages that were set aside after their last attempt, the oldest first; at most 100."""

    dead: list[Dead]


class Redriven(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many messages are tried anew."""

    messages: Index


class Replayed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many messages are sent again; ``next`` is the ``after`` to go on with, or null."""

    messages: Index
    next: Index | None
