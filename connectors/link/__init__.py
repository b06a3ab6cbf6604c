"""A link: how a connector talks to the hub. ``http`` is the first; each speaks this protocol.

A link carries bytes and types; it believes nothing. Whether what the hub says holds is for those
who ask. A newer hub may say more than is known here: what is not known is passed over.
"""

from typing import Literal, Protocol

import msgspec

from schemas.acceptance import Acceptance, Delivery
from schemas.tail import Parts, Piece, Wanted


class LinkError(Exception):
    """The hub gave no answer that settles the question; trying again later can help."""


class Unreachable(LinkError):
    """Nobody answered, or what answered is not the hub (a proxy, a captive portal)."""


class Later(LinkError):
    """The hub's answer does not hold, or cannot be judged yet: it is asked for again later."""


_ABOUT_US = frozenset(
    {
        "unauthenticated",
        "forbidden",
        "unknown-key",
        "revoked-key",
        "expired-key",
        "suspended",
        "not-found",
        "bad-request",
    }
)
"""Refusals of the one who asks, or of how: an operator or other settings can mend them."""


class HubRefused(LinkError):
    """The hub answered no, with a row of ``schemas.refusal`` or a code that is newer than ours.

    ``refusal`` is the recorded refusal of an authenticated sender's message, not yet verified.
    ``retry_after`` is in seconds. ``path`` leads to what is wrong in the request.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        refusal: Acceptance | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable
        self.retry_after = retry_after
        self.refusal = refusal
        self.path = path

    @property
    def final(self) -> bool:
        """Whether it is a verdict on what was offered, so that to offer it again is of no use."""
        return not self.retryable and (self.refusal is not None or self.code not in _ABOUT_US)


class InboxItem(msgspec.Struct, frozen=True):
    """One position of the inbox: a delivery, or a tombstone with the acceptance that was."""

    position: int
    delivery: Delivery | None = None
    tombstone: Literal["erased", "expired"] | None = None
    acceptance: Acceptance | None = None

    @property
    def proof(self) -> Acceptance | None:
        """The acceptance, whichever of the two it is; None where the item is neither or both."""
        if self.tombstone is not None:
            return self.acceptance if self.delivery is None else None
        return self.delivery.acceptance if self.delivery and self.acceptance is None else None


class InboxPage(msgspec.Struct, frozen=True):
    """A part of the inbox. ``last`` is the highest position that the hub assigned."""

    deliveries: tuple[InboxItem, ...]
    last: int


class ReceiptItem(msgspec.Struct, frozen=True):
    """A recorded receipt for the asker's own messages; ``position`` is its log index."""

    position: int
    acceptance: Acceptance


class ReceiptPage(msgspec.Struct, frozen=True):
    """A part of the receipts. ``last`` is the greatest log index of those there are."""

    receipts: tuple[ReceiptItem, ...]
    last: int


class Pending(msgspec.Struct, frozen=True):
    """The answer to a join: the hub waits for its operator to confirm the fingerprint."""

    code: str
    state: str
    fingerprint: str


class Link(Protocol):
    """What a connector asks of the hub. Every method raises ``LinkError``."""

    async def join(self, statement: bytes) -> Pending:
        """Ask to become a participant, with a signed ``join`` statement."""

    async def submit(self, envelope: bytes, traceparent: str | None = None) -> Acceptance:
        """Offer a message, in a trace; the same envelope again gives the first acceptance."""

    async def inbox(self, after: int, limit: int, wait: float) -> InboxPage:
        """What stands after a position, waiting up to ``wait`` seconds for something."""

    async def send_receipt(self, receipt: bytes) -> Acceptance:
        """Offer a delivery receipt; the same bytes again give the first answer."""

    async def receipts(self, after: int, limit: int, wait: float) -> ReceiptPage:
        """The receipts for our messages after a log index, waiting for one as ``inbox`` does."""

    async def checkpoint(self) -> bytes:
        """The log's newest signed checkpoint."""

    async def entries(self, n: int, width: int) -> bytes:
        """The first ``width`` entries of bundle ``n`` of the log (C2SP tlog-tiles)."""

    async def witness_request(self, old: int) -> bytes:
        """What there is to cosign for who is at size ``old`` (C2SP tlog-witness); maybe nothing."""

    async def witness_response(self, note: bytes) -> None:
        """Bring a checkpoint with our cosignatures, as a signed note."""

    async def tail_wanted(self, size: int) -> Wanted:
        """What the hub lacks, for who has followed the log to a size; it was restored, if any."""

    async def extend_tail(self, piece: Piece) -> int:
        """Bring entries that the hub lacks; gives how many it has now."""

    async def fill_tail(self, parts: Parts) -> int:
        """Bring content that the hub lacks; gives how much of it was taken."""

    async def close(self) -> None:
        """Let go of the connection."""
