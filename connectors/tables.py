"""The tables of a connector's store, and beside them the structs that their rows are read into.

The fields of a struct are the columns of its table, in the same order.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal

import msgspec

from connectors.alarms import KINDS, Severity
from schemas import jsontext
from schemas.acceptance import Acceptance, Delivery
from schemas.encoding import unb64url
from schemas.receipt import Status

APPLICATION_ID: Final = 0x4E485249
"""``NHRI``: marks the file as ours (SQLite ``application_id``)."""

UPGRADES: Final = (
    """
CREATE TABLE cosigned (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note BLOB NOT NULL
) STRICT
""",
    """
CREATE TABLE erased (
    id TEXT PRIMARY KEY,
    log_index INTEGER NOT NULL,
    time TEXT NOT NULL
) STRICT, WITHOUT ROWID
""",
    """
ALTER TABLE alarms ADD COLUMN mailed TEXT;
ALTER TABLE alarms ADD COLUMN taken TEXT;
CREATE TABLE mail_trouble (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    since TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT
""",
    "CREATE TABLE recent (log_index INTEGER PRIMARY KEY, raw BLOB NOT NULL) STRICT",
)
"""What makes of each version of the tables the next one; ``SCHEMA`` is the first."""

VERSION: Final = 1 + len(UPGRADES)
"""Of the tables (SQLite ``user_version``)."""

SCHEMA: Final = """
CREATE TABLE identity (code TEXT NOT NULL, log TEXT NOT NULL) STRICT;

CREATE TABLE sent (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    reply_to TEXT,
    envelope BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'accepted', 'refused')),
    queued TEXT NOT NULL,
    settled TEXT,
    code TEXT,
    detail TEXT,
    acceptance BLOB,
    log_index INTEGER,
    entry_hash BLOB,
    accepted TEXT
) STRICT;
CREATE INDEX sent_replies ON sent (reply_to) WHERE reply_to IS NOT NULL;

CREATE TABLE expected (
    id TEXT NOT NULL REFERENCES sent (id),
    recipient TEXT NOT NULL,
    position INTEGER NOT NULL,
    since TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'received', 'read', 'refused')),
    log_index INTEGER,
    time TEXT,
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (id, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX expected_waiting ON expected (since) WHERE state = 'waiting';

CREATE TABLE receipts (
    log_index INTEGER PRIMARY KEY,
    receiver TEXT NOT NULL,
    acceptance BLOB NOT NULL
) STRICT;

CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    receipt BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'recorded', 'refused')),
    log_index INTEGER,
    acceptance BLOB,
    detail TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX answers_pending ON answers (number) WHERE state = 'pending';

CREATE TABLE inbox (
    position INTEGER PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('valid', 'invalid', 'expired', 'erased')),
    raw BLOB NOT NULL,
    received TEXT NOT NULL,
    id TEXT,
    sender TEXT,
    kind TEXT,
    reply_to TEXT,
    log_index INTEGER,
    entry_hash BLOB,
    accepted TEXT,
    reason TEXT NOT NULL DEFAULT '',
    status TEXT CHECK (status IN ('received', 'refused')),
    answer INTEGER REFERENCES answers (number)
) STRICT;
CREATE UNIQUE INDEX inbox_once ON inbox (sender, id) WHERE state = 'valid';
CREATE INDEX inbox_ids ON inbox (id);
CREATE INDEX inbox_replies ON inbox (reply_to) WHERE reply_to IS NOT NULL;
CREATE INDEX inbox_owed ON inbox (sender) WHERE status IS NOT NULL AND answer IS NULL;
CREATE VIEW owed AS
    SELECT sender, id, entry_hash, position, status, reason FROM inbox
    WHERE status IS NOT NULL AND answer IS NULL;

CREATE TABLE tiles (
    level INTEGER NOT NULL,
    n INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_entries (
    log_index INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    raw BLOB NOT NULL
) STRICT;

CREATE TABLE followed (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note BLOB NOT NULL,
    served INTEGER NOT NULL,
    seen TEXT NOT NULL
) STRICT;

CREATE TABLE alarms (
    number INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    time TEXT NOT NULL,
    sentence TEXT NOT NULL,
    evidence BLOB NOT NULL,
    ended TEXT,
    UNIQUE (kind, subject)
) STRICT;

CREATE TABLE cursors (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
"""


class SentState(StrEnum):
    """Where a message of ours stands."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REFUSED = "refused"


class InboxState(StrEnum):
    """What stands at a position of the inbox; only ``VALID`` is shown as a message."""

    VALID = "valid"
    INVALID = "invalid"
    EXPIRED = "expired"
    ERASED = "erased"


class Identity(msgspec.Struct, frozen=True):
    """The one institution and the one log (its verifier key) that a store is about."""

    code: str
    log: str


class Sent(msgspec.Struct, frozen=True):
    """A message of ours.

    ``code`` and ``detail`` say why it was refused, or what kept the last attempt from being
    answered. ``accepted`` is the time of the log's entry, all others are this machine's.
    ``raw`` is the acceptance, or the recorded refusal where there is one, as JSON.
    """

    id: str
    kind: str
    reply_to: str | None
    envelope: bytes
    state: SentState
    queued: str
    settled: str | None
    code: str | None
    detail: str | None
    raw: bytes | None
    index: int | None
    entry_hash: bytes | None
    accepted: str | None

    @property
    def acceptance(self) -> Acceptance | None:
        """The acceptance, or the recorded refusal, as it came."""
        return None if self.raw is None else jsontext.decode(self.raw, Acceptance)


class Expected(msgspec.Struct, frozen=True):
    """A receipt that a recipient owes, or gave: ``state`` is waiting, received, read or refused.

    ``since`` is the time of the acceptance, ``index`` and ``time`` those of the recorded receipt.
    """

    id: str
    recipient: str
    position: int
    since: str
    state: Literal["waiting"] | Status
    index: int | None
    time: str | None
    reason: str


class Received(msgspec.Struct, frozen=True):
    """What stands at one position of the inbox.

    ``raw`` is the delivery as JSON, or a tombstone's acceptance. Of an erased message the log does
    not say the position any more, nor the kind. ``accepted`` is the time of the
    log's entry, ``received`` this machine's. ``status`` is what we tell the sender, None where no
    receipt is owed; ``answer`` is the number of the receipt that says it.
    """

    position: int
    state: InboxState
    raw: bytes
    received: str
    id: str | None = None
    sender: str | None = None
    kind: str | None = None
    reply_to: str | None = None
    index: int | None = None
    entry_hash: bytes | None = None
    accepted: str | None = None
    reason: str = ""
    status: Status | None = None
    answer: int | None = None

    @property
    def acceptance(self) -> Acceptance:
        """The acceptance, as it came."""
        if self.state in (InboxState.EXPIRED, InboxState.ERASED):
            return jsontext.decode(self.raw, Acceptance)
        return jsontext.decode(self.raw, Delivery).acceptance

    @property
    def envelope(self) -> bytes:
        """The signed envelope, as it came; empty for what was erased or has expired."""
        if self.state in (InboxState.EXPIRED, InboxState.ERASED):
            return b""
        return unb64url(jsontext.decode(self.raw, Delivery).envelope)


class Erased(msgspec.Struct, frozen=True):
    """A message that the hub erased by a decision: the entry that says so, and its time."""

    id: str
    index: int
    time: str


class Owed(msgspec.Struct, frozen=True):
    """A receipt that we owe for one position, before it is signed."""

    sender: str
    id: str
    entry_hash: bytes
    position: int
    status: Status
    reason: str


class Answer(msgspec.Struct, frozen=True):
    """A delivery receipt of ours, signed once and kept, so that it is offered as the same bytes."""

    number: int
    sender: str
    receipt: bytes


class RecordedReceipt(msgspec.Struct, frozen=True):
    """Another's receipt for messages of ours, with its proof: ``raw`` is the acceptance as JSON."""

    index: int
    receiver: str
    raw: bytes


class TileRow(msgspec.Struct, frozen=True):
    """A tile of the log's tree, computed here."""

    level: int
    n: int
    hashes: bytes


class LogEntry(msgspec.Struct, frozen=True):
    """An entry of the log that is kept, as it came: of the directory, or about ourselves."""

    index: int
    type: str
    raw: bytes


class Content(msgspec.Struct, frozen=True):
    """What an entry commits to, where we hold it; ``envelope`` for that of a message."""

    acceptance: Acceptance
    envelope: bytes | None = None


class Followed(msgspec.Struct, frozen=True):
    """How far the log was followed. All entries below ``size`` were read and hashed here.

    ``note`` is the signed checkpoint. ``served`` is the size that the hub last gave as its newest,
    and ``seen`` when that was.
    """

    size: int
    root: bytes
    note: bytes
    served: int
    seen: str


class Cosigned(msgspec.Struct, frozen=True):
    """The checkpoint that our witness key cosigned last; ``note`` has our cosignature."""

    size: int
    root: bytes
    note: bytes


class Alarm(msgspec.Struct, frozen=True):
    """A finding that was raised; ``ended`` where it is over.

    ``mailed`` is the ``time`` of the last raising that a mail server took, at ``taken``: an alarm
    waits to be mailed while ``mailed`` is not ``time``.
    """

    number: int
    kind: str
    subject: str
    time: str
    sentence: str
    evidence: bytes
    ended: str | None
    mailed: str | None = None
    taken: str | None = None

    @property
    def severity(self) -> Severity:
        """The severity of its kind."""
        return KINDS[self.kind].severity


class MailTrouble(msgspec.Struct, frozen=True):
    """What keeps mails from being taken, as the server said it last, and since when."""

    since: str
    detail: str


class Figures(msgspec.Struct, frozen=True):
    """The store in figures."""

    identity: Identity
    followed: Followed | None
    cosigned: Cosigned | None
    sent: Mapping[str, int]
    waiting_receipts: int
    inbox: Mapping[str, int]
    last_position: int
    first_gap: int | None
    unanswered: int
