"""What is owed to webhook subscriptions, and the port to where that is kept."""

from collections.abc import Mapping, Sequence, Set
from datetime import datetime
from typing import Final, Protocol

import msgspec

from hub.delivery.guard import Answer
from hub.delivery.schedule import DeliveryState, Due, Heard, Notice
from hub.delivery.subscription import Subscription
from schemas.acceptance import Acceptance
from schemas.directory import Directory

EXCERPT: Final = 256
"""Bytes of an answer that are kept for the subscription's owner."""


class Sent(msgspec.Struct, frozen=True):
    """A recorded message; without an envelope it was erased."""

    index: int
    id: str
    marking: str
    expires: str | None
    acceptance: Acceptance
    envelope: bytes | None


class Claimed(msgspec.Struct, frozen=True):
    """A delivery that is ours to attempt; ``attempt`` counts from 1.

    ``erased``: the message's content was gone when it was claimed.
    """

    subscription: str
    index: int
    attempt: int
    erased: bool = False


class Result(msgspec.Struct, frozen=True):
    """What became of an attempt. ``url`` and ``heard`` are None where nothing was sent."""

    claimed: Claimed
    due: Due
    time: datetime
    heard: Heard | None = None
    answer: Answer = Answer()
    url: str | None = None


class Told(msgspec.Struct, frozen=True):
    """A subscription whose owner is to be told something, which is not written yet."""

    before: Subscription
    after: Subscription
    notice: Notice


class Turn(msgspec.Struct, frozen=True):
    """What a turn brought: endpoints that stand otherwise now, whom to tell, and what is ours."""

    changed: Sequence[Subscription] = ()
    told: Sequence[Told] = ()
    claimed: Sequence[Claimed] = ()


class Attempt(msgspec.Struct, frozen=True):
    """One attempt, as it is shown; ``excerpt`` to the subscription's owner alone."""

    message: str
    attempt: int
    time: str
    status: int | None
    error: str | None
    excerpt: str | None


class Dead(msgspec.Struct, frozen=True):
    """A delivery that was set aside after its last attempt."""

    message: str
    index: int
    attempts: int


class Standing(msgspec.Struct, frozen=True):
    """How many deliveries of a subscription wait or were set aside, and when it was tried last."""

    waiting: int
    dead: int
    tried: str | None


class Match(msgspec.Struct, frozen=True):
    """A message that a subscription is, or would be, sent."""

    index: int
    id: str
    sender: str
    kind: str
    marking: str
    accepted: str
    thread: str


class Looked(msgspec.Struct, frozen=True):
    """Messages that match, and how many were looked at; ``next`` is where to go on, by index."""

    matches: Sequence[Match]
    looked_at: int
    next: int | None


class Outcome(msgspec.Struct, frozen=True):
    """What became of a delivery, to be recorded."""

    subscription: str
    index: int
    message: str
    state: str
    attempts: int


class WebhookStore(Protocol):
    """Where subscriptions and what is owed to them are kept."""

    async def subscription(self, subscription_id: str) -> Subscription | None:
        """One that has not ended."""
        ...

    async def standing(self, subscription_ids: Sequence[str]) -> Mapping[str, Standing]:
        """What waits for each of these subscriptions."""
        ...

    async def attempts(self, subscription_id: str, limit: int) -> Sequence[Attempt]:
        """The last attempts, the newest first."""
        ...

    async def dead(self, subscription_id: str, limit: int) -> Sequence[Dead]:
        """Deliveries that were set aside, the oldest first."""
        ...

    async def look(
        self, subscription: Subscription, directory: Directory, since: str, until: str, after: int
    ) -> Looked:
        """A part of the messages of a time, beyond an index: those that the subscription wants."""
        ...

    async def look_back(
        self, subscription: Subscription, directory: Directory, since: str, until: str, before: int
    ) -> Looked:
        """The same from the newest on, below an index."""
        ...

    async def named(
        self, subscription: Subscription, directory: Directory, messages: Sequence[str]
    ) -> Sequence[Match]:
        """Those of these messages, a hundred at most, that the subscription wants."""
        ...

    async def redrive(self, subscription_id: str, messages: Sequence[str], now: str) -> int:
        """Let deliveries that were set aside begin anew; all, where none are named. How many."""
        ...

    async def replay(self, subscription_id: str, matches: Sequence[Match], now: str) -> None:
        """Owe messages, also those that were sent before."""
        ...

    async def outcomes(self, now: str, before: str) -> Sequence[Outcome]:
        """What became of deliveries and is in no report yet, by subscription.

        Nothing, where another hub or we have asked since ``before``.
        """
        ...

    async def owing(self) -> Mapping[DeliveryState, int]:
        """How many deliveries wait, and how many were set aside."""
        ...

    async def forget(self, before: str) -> bool:
        """Drop some of what was done before a time, and what is left of ended subscriptions.

        False once there is no more. What was set aside is kept for its owner to send again.
        """
        ...

    async def subscriptions(self) -> Sequence[Subscription]:
        """All that have not ended."""
        ...

    async def due(self, now: str) -> Set[str]:
        """The subscriptions that something is due for."""
        ...

    async def match(self, directory: Directory, size: int, now: str) -> tuple[bool, frozenset[str]]:
        """Note what the next entries of the log owe to whom, of those that the directory knows of.

        Tells whether more entries wait, and whose deliveries there are now.
        """
        ...

    async def turn(
        self, results: Sequence[Result], room: Mapping[str, int], now: str, until: str
    ) -> Turn:
        """Write what became of attempts, and take what is due, as much as there is room for.

        Both in one transaction. What an owner has to be told is left to the caller, who records it
        with the change.
        """
        ...

    async def sent(self, indices: Sequence[int]) -> Mapping[int, Sent]:
        """The messages of these entries."""
        ...
