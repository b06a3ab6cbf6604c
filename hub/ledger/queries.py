"""What can be asked of the store, as a port: the doors ask it, ``hub.store.queries`` answers."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from hub.intake.batch import JoinRequest, State
from hub.ledger import report
from hub.ledger.retention import Cutoff
from schemas import merkle
from schemas.acceptance import Acceptance

MAX_PAGE = 1536 * 1024
"""Bytes of content on a page of an inbox or of receipts, which are 2 MiB in base64url. Whoever asks
on many connections and reads no answer takes this much of the hub's memory for each."""


class InboxItem(msgspec.Struct, frozen=True):
    """One position of an inbox; without an envelope it is a tombstone."""

    position: int
    acceptance: Acceptance
    envelope: bytes | None
    tombstone: str | None


class Event(msgspec.Struct, frozen=True):
    """A log entry as an operator sees it: its bytes, and its private part where it still exists."""

    index: int
    raw: bytes
    private: bytes | None


class LogRow(msgspec.Struct, frozen=True):
    """A row of the log as stored: the columns that searches use, and the bytes of the entry."""

    index: int
    type: str
    time: str
    actor: str
    subject: str | None
    raw: bytes


class EventFilter(msgspec.Struct, frozen=True):
    """What an operator searches for; everything given must hold.

    ``member`` takes part in whatever way, ``sender`` and ``recipient`` of a message. ``message``
    finds all that became of one, its receipts included. A goal as ``sdg`` finds its targets, too.
    ``text`` are words that all occur; ``*`` behind one makes it the beginning of a word. ``since``
    is included, ``until`` is not. With ``before``, an index, the newest come first.
    """

    type: str | None = None
    actor: str | None = None
    subject: str | None = None
    member: str | None = None
    sender: str | None = None
    recipient: str | None = None
    kind: str | None = None
    marking: str | None = None
    theme: str | None = None
    sdg: str | None = None
    thread: str | None = None
    message: str | None = None
    text: str | None = None
    since: str | None = None
    until: str | None = None
    after: int = -1
    before: int | None = None
    limit: int = 50


class Page(msgspec.Struct, frozen=True):
    """A page of a search.

    ``next`` is the index at which to go on, as ``after`` or ``before``, and null where nothing is
    left. A page with a ``next`` may have fewer events than asked for, even none: it is as far as
    the log was searched.
    """

    events: Sequence[Event]
    next: int | None


Counted: TypeAlias = Literal[
    "type", "actor", "member", "sender", "recipient", "kind", "marking", "theme", "sdg"
]
"""What can be counted: few values, each of many entries."""

Period: TypeAlias = Literal["day", "month", "year"]


class CountRow(msgspec.Struct, frozen=True):
    """How many entries of a period, such as 2026-07, have a value."""

    period: str
    value: str
    count: int


class Counts(msgspec.Struct, frozen=True):
    """Counts by period, the greatest first; of the first ``indexed`` entries of ``size``."""

    counts: Sequence[CountRow]
    indexed: int
    size: int


class MessageRow(msgspec.Struct, frozen=True):
    """What the store knows of one message; ``envelope`` is None once it is erased."""

    id: str
    index: int
    sender: str
    kind: str
    marking: str
    envelope: bytes | None


class DeliveryRow(msgspec.Struct, frozen=True):
    """What became of one copy of a message."""

    recipient: str
    position: int
    state: str
    receipt_index: int | None
    receipt_time: str | None
    reason: str | None


class AccessToken(msgspec.Struct, frozen=True):
    """An access token's account and scopes."""

    account: str
    scopes: tuple[str, ...]
    created: str
    revoked: str | None


class Session(msgspec.Struct, frozen=True):
    """A session at the console: since when, and when a person last did something.

    Either it is of an account and its scopes, or of whoever holds the key ``kid``.
    """

    account: str | None
    scopes: tuple[str, ...]
    created: str
    seen: str
    kid: str | None = None


class Flow(msgspec.Struct, frozen=True):
    """How many copies of one participant's messages went to another."""

    sender: str
    recipient: str
    copies: int


class CertificateRow(msgspec.Struct, frozen=True):
    """A client certificate that the authority issued."""

    serial: str
    code: str
    not_after: str
    pem: str


class Due(msgspec.Struct, frozen=True):
    """A message that a rule of retention says is to be erased."""

    id: str
    kind: str
    marking: str
    accepted: str
    rule: str


class News(msgspec.Struct, frozen=True):
    """What a part of the log brought, up to its present ``size``.

    ``touched`` are those with something new in their inbox or among their receipts; ``directory``
    says whether who is who has changed; ``erased`` are messages by their ids.
    """

    size: int
    touched: frozenset[str] = frozenset()
    directory: bool = False
    erased: frozenset[str] = frozenset()


class Queries(Protocol):
    """All reading of the hub. Each call sees one consistent snapshot."""

    async def head(self) -> tuple[State, bytes | None]:
        """The state as stored, and the last signed checkpoint, of one moment.

        Raises:
            ValueError: it cannot be what was recorded.
        """
        ...

    async def news(self, start: int) -> News:
        """What the entries from ``start`` on brought."""
        ...

    async def inbox(
        self, code: str, after: int, limit: int, now: str, below: int | None = None
    ) -> Sequence[InboxItem]:
        """The next items of an inbox, in order of position; only of entries below one.

        No more than ``MAX_PAGE`` has room for, but the next one always.
        """
        ...

    async def receipts(
        self, sender: str, after: int, limit: int, below: int | None = None
    ) -> Sequence[tuple[int, Acceptance]]:
        """The receipts for a sender's messages, by log index; only those below one.

        No more than ``MAX_PAGE`` has room for, but the next one always.
        """
        ...

    async def acceptance(self, index: int) -> Acceptance | None:
        """The acceptance of one entry, under the checkpoint of the commit that wrote it.

        That of an erased message has no private part, and is under that of its erasure.
        """
        ...

    async def message(self, message_id: str) -> MessageRow | None:
        """One message."""
        ...

    async def deliveries(self, message_id: str) -> Sequence[DeliveryRow]:
        """What became of every copy of a message."""
        ...

    async def search(self, wanted: EventFilter) -> Page:
        """Log entries that match, by index; takes a bounded time, and may not get to the end."""
        ...

    async def events(self, wanted: EventFilter) -> Sequence[Event]:
        """Log entries that match, by index, as many as there are up to the limit."""
        ...

    async def counts(self, wanted: EventFilter, of: Counted, by: Period) -> Counts:
        """How many entries that match have each value of ``of``, by period; places do not count.

        Raises:
            Refused: ``bad-request``; too many entries would have to be looked at.
        """
        ...

    async def covered(self, at: int | None) -> report.Covered | None:
        """What a report covers: the newest checkpoint that the search index has caught up with.

        With ``at``, the checkpoint of this size; None where it has none or not caught up.
        """
        ...

    async def sent(
        self, period: report.Period, covered: report.Covered, after: int
    ) -> Sequence[report.SentMessage]:
        """The next messages accepted in a period, after this entry; none at its end."""
        ...

    async def refused(
        self, period: report.Period, covered: report.Covered, after: int
    ) -> Sequence[report.Refusal]:
        """The next refusals of messages in a period, after this entry; none at its end."""
        ...

    async def events_of_message(self, message_id: str) -> Sequence[Event]:
        """Every entry about one message, receipts included."""
        ...

    async def checkpoint(self) -> bytes | None:
        """The last signed checkpoint; None for an empty log."""
        ...

    async def tile(self, level: int, n: int) -> bytes | None:
        """The stored hashes of one tile."""
        ...

    async def tiles(self, wanted: frozenset[merkle.Tile]) -> Mapping[merkle.Tile, bytes]:
        """Several tiles at once."""
        ...

    async def entries(self, start: int, end: int) -> Sequence[bytes]:
        """The bytes of the entries ``start`` to ``end`` (exclusive)."""
        ...

    async def rows(self, start: int, end: int) -> Sequence[LogRow]:
        """The rows of the entries ``start`` to ``end`` (exclusive), as many as there are."""
        ...

    async def private(self, start: int, end: int) -> Mapping[int, tuple[bytes, bytes]]:
        """Salt and private part of the entries ``start`` to ``end`` that still have them."""
        ...

    async def missing(self, after: int = -1) -> Mapping[int, int | None]:
        """Entries after this one of messages and receipts that have no rows here, at most 1,000.

        With each the later entry that erased its message, if one did.
        """
        ...

    async def whole(self, given_up: frozenset[int]) -> int:
        """How many entries from the first one on miss nothing, but for what was given up."""
        ...

    async def join_request(self, code: str) -> JoinRequest | None:
        """The open invitation of a code, with the request made with it."""
        ...

    async def access_token(self, digest: str) -> AccessToken | None:
        """The access token with this hash, revoked or not."""
        ...

    async def access_tokens(self) -> Sequence[AccessToken]:
        """All access tokens, without their hashes."""
        ...

    async def session(self, digest: str) -> Session | None:
        """The session with this hash; None also where its token was revoked."""
        ...

    async def certificates(self) -> Sequence[CertificateRow]:
        """The newest certificate of each participant."""
        ...

    async def due_to_expire(self, now: str) -> Mapping[str, tuple[str, ...]]:
        """Messages whose time is over, with the recipients that do not have them."""
        ...

    async def due_to_erase(self, cutoffs: Sequence[Cutoff], limit: int) -> Sequence[Due]:
        """Messages that are due, the oldest of each kind and marking first."""
        ...

    async def undecided(self, limit: int) -> Sequence[str]:
        """Messages whose content is gone though no entry says so, as after a restore."""
        ...

    async def waiting(self) -> Mapping[str, int]:
        """Copies without a receipt, for each recipient."""
        ...

    async def oldest_waiting(self) -> Mapping[str, str]:
        """When the oldest copy without a receipt was accepted, for each recipient that has one."""
        ...

    async def flows(self, senders: Sequence[str], since: str) -> Sequence[Flow]:
        """Who sent how much to whom since a time, the largest first."""
        ...

    async def tally(self, types: Sequence[str], since: str) -> Mapping[str, int]:
        """How many entries of these types were recorded since a time; without those of none."""
        ...
