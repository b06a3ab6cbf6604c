"""Sending webhooks: the port to where they are kept, and the worker that posts them.

A crash at any point: a row that was claimed is due again when its lease is over, and is sent with
the same ``webhook-id``. What was sent and not yet settled is sent once more; nothing is lost.

One endpoint delays nobody. It has ``PER_ENDPOINT`` posts at a time, one while it fails, and no
more a second than its ``Pace``; those that fail share slots of their own: endpoints that hang
cannot take what the others need.
"""

import asyncio
import contextlib
import heapq
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog

from hub.delivery import schedule
from hub.delivery.guard import Answer, Guard
from hub.delivery.keyring import Keyring
from hub.delivery.pace import Pace
from hub.delivery.schedule import DeliveryState, Due, EndpointState, Heard, Notice
from hub.delivery.subscription import Subscription, egress
from schemas import cloudevent, jsontext, webhook
from schemas.acceptance import Acceptance, deliver
from schemas.directory import Directory, State
from schemas.encoding import b64url, format_time

LEASE: Final = timedelta(minutes=2)
"""How long a claimed row is ours; more than the longest attempt takes."""

PER_ENDPOINT: Final = 4
"""Posts to one endpoint at a time."""

IN_LINE: Final = 4
"""Deliveries to an endpoint that are claimed while others are posted, so that no slot is idle.

One in line waits for one attempt at most, and both together take less than the ``LEASE``. Where an
endpoint begins to fail, those in line are still posted.
"""

FAILING_SHARE: Final = 4
"""Endpoints that fail have one slot for so many of the others."""

ROUND_SECONDS: Final = 20.0
"""How often everything is looked at again, for what another hub left or changed."""

GATHER_SECONDS: Final = 0.1
"""How long commits are gathered before they are matched."""

EXCERPT: Final = 256
"""Bytes of an answer that are kept for the subscription's owner."""

MAX_BODIES: Final = 16 * 1024 * 1024
"""Bytes of events that are kept ready: many subscriptions get the same ones."""

log = structlog.get_logger("hub.webhooks")


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
    """What became of an attempt. ``heard`` is None where nothing was sent: it was withheld."""

    claimed: Claimed
    due: Due
    time: datetime
    heard: Heard | None = None
    answer: Answer = Answer()


class Told(msgspec.Struct, frozen=True):
    """A subscription whose owner is to be told something, which is not written yet."""

    before: Subscription
    after: Subscription
    notice: Notice


class Settled(msgspec.Struct, frozen=True):
    """What settling brought: endpoints that stand otherwise now, and whom to tell."""

    changed: Sequence[Subscription]
    told: Sequence[Told]


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

    async def forget(self, before: str) -> None:
        """Drop some of what was done before a time, and what is left of ended subscriptions."""
        ...

    async def subscriptions(self) -> Sequence[Subscription]:
        """All that have not ended."""
        ...

    async def match(self, directory: Directory, now: str) -> tuple[bool, frozenset[str]]:
        """Note what the next entries of the log owe to whom.

        Tells whether more entries wait, and whose deliveries there are now.
        """
        ...

    async def claim(self, room: Mapping[str, int], now: str, until: str) -> Sequence[Claimed]:
        """Take due deliveries, for each subscription as many as there is room for."""
        ...

    async def sent(self, indices: Sequence[int]) -> Mapping[int, Sent]:
        """The messages of these entries."""
        ...

    async def settle(self, results: Sequence[Result]) -> Settled:
        """Write what became of attempts, and how the endpoints stand after them.

        What an owner has to be told is left to the caller, who records it with the change.
        """
        ...


Tell = Callable[[Told], Awaitable[None]]


class Webhooks:
    """The worker. ``run`` it; ``wake`` it when there may be something to do."""

    def __init__(
        self,
        store: WebhookStore,
        guard: Guard,
        keyring: Keyring,
        directory: Callable[[], Directory],
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        slots: int,
    ) -> None:
        """``slots`` is how many posts go on at a time to endpoints that do not fail."""
        self.store = store
        self._guard = guard
        self.keyring = keyring
        self._directory = directory
        self._clock = clock
        self._random_bytes = random_bytes
        self._slots = {False: slots, True: max(1, slots // FAILING_SHARE)}
        self._free = {failing: asyncio.Semaphore(most) for failing, most in self._slots.items()}
        self._lines: dict[str, asyncio.Semaphore] = {}
        self._known: dict[str, Subscription] = {}
        self._hot: dict[str, None] = {}
        # What is due within a round; what is due later the rounds find, however much it is.
        self._later: list[tuple[datetime, str]] = []
        self._pace = Pace()
        self._busy = Counter[str]()
        self._taken = Counter[bool]()
        self._results: list[Result] = []
        self._bodies = _Bodies()
        self._posts: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._stale = True
        self._round = clock()

    async def close(self) -> None:
        """Drop the posts that are under way; they are made again."""
        await self._guard.close()

    def wake(self, subscriptions: Iterable[str] = ()) -> None:
        """Look again, at these subscriptions at once."""
        self._hot |= dict.fromkeys(subscriptions)
        self._news.set()

    def refresh(self) -> None:
        """Subscriptions have changed: look at all of them again."""
        self._stale = True
        self._news.set()

    async def challenge(self, subscription: Subscription) -> tuple[bool, Answer]:
        """Have an endpoint prove that it wants the webhooks; whether it did, and what it said."""
        now = self._clock()
        event_id = b64url(self._random_bytes(16))
        event = cloudevent.of_challenge(
            self.keyring.origin, event_id, subscription.id, format_time(now), self._random_bytes(32)
        )
        answer = await self._post(subscription, event_id, jsontext.encode(event))
        proven = schedule.heard(answer.status, answer.error) is Heard.TAKEN
        return proven and cloudevent.is_answer(event, answer.excerpt), answer

    async def run(self, tell: Tell) -> None:
        """Send for ever; ``tell`` records what an owner has to be told, with the change."""
        try:
            while True:
                self._news.clear()
                try:
                    busy = await self._turn(tell)
                except Exception as error:  # noqa: BLE001 - the next round tries again
                    log.warning("webhooks.failed", reason=str(error))
                    busy, self._stale = False, True
                if not busy:
                    await self._rest()
        finally:
            for post in self._posts:
                post.cancel()
            await asyncio.gather(*self._posts, return_exceptions=True)

    async def _rest(self) -> None:
        """Until there is news, the next delivery is due, or a round is over."""
        if not self._posts:
            # What is erased from the database is not kept here either.
            self._bodies = _Bodies()
        seconds = ROUND_SECONDS
        if self._later:
            seconds = min(seconds, (self._later[0][0] - self._clock()).total_seconds())
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()
        except TimeoutError:
            self._stale |= seconds == ROUND_SECONDS

    async def _turn(self, tell: Tell) -> bool:
        """Settle what came back, then claim what is due; whether there may be more to claim."""
        await self._settle(tell)
        now = self._clock()
        if self._stale or now >= self._round:
            self._stale, self._round = False, now + timedelta(seconds=ROUND_SECONDS)
            self._known = {each.id: each for each in await self.store.subscriptions()}
            self._hot |= dict.fromkeys(self._known)
            self._pace.forget(now)
        while self._later and self._later[0][0] <= now:
            self._hot[heapq.heappop(self._later)[1]] = None
        room = self._room(now)
        if not room:
            return False
        claimed = await self.store.claim(room, format_time(now), format_time(now + LEASE))
        took = Counter(each.subscription for each in claimed)
        for subscription, most in room.items():
            self._hot.pop(subscription, None)
            if took[subscription] == most:
                self._hot[subscription] = None  # behind all others
        for each in claimed:
            self._pace.take(_endpoint(self._known[each.subscription]), 1, now)
        await self._begin(claimed)
        # Where nothing was due, others that are hot have the room now.
        return True

    def _room(self, now: datetime) -> dict[str, int]:
        """For subscriptions that may have something due: how many may be claimed."""
        room: dict[str, int] = {}
        busy, taken = self._busy.copy(), self._taken.copy()
        claimable = {False: 2 * self._slots[False], True: self._slots[True]}
        for name in list(self._hot):
            if all(taken[failing] >= most for failing, most in claimable.items()):
                break
            subscription = self._known.get(name)
            if subscription is None or not self._may_be_sent_to(subscription):
                del self._hot[name]
                continue
            failing, endpoint = _is_failing(subscription), _endpoint(subscription)
            pace = self._pace.room(endpoint, now)
            if not pace:
                del self._hot[name]
                heapq.heappush(self._later, (self._pace.next(endpoint, now), name))
                continue
            most = 1 if failing else PER_ENDPOINT + IN_LINE
            free = min(most - busy[endpoint], claimable[failing] - taken[failing], pace)
            if free > 0:
                room[name] = free
                busy[endpoint] += free
                taken[failing] += free
        return room

    def _may_be_sent_to(self, subscription: Subscription) -> bool:
        owner = self._directory().participants.get(subscription.owner)
        return subscription.sent_to and owner is not None and owner.state is State.ACTIVE

    async def _begin(self, claimed: Sequence[Claimed]) -> None:
        missing = self._bodies.missing(claimed)
        sent = await self.store.sent(missing) if missing else {}
        self._bodies.keep(sent)
        for each in claimed:
            subscription = self._known[each.subscription]
            if each.erased:
                self._bodies.drop(each.index)
            message = self._bodies.message(each.index)
            if message is None or message.envelope is None:
                self._withhold(each, "The message was erased.")
                continue
            body = self._bodies.body(self.keyring.origin, message, subscription.filter.languages)
            failing, endpoint = _is_failing(subscription), _endpoint(subscription)
            self._busy[endpoint] += 1
            self._taken[failing] += 1
            post = asyncio.create_task(self._attempt(subscription, each, message, body))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)

    def _withhold(self, claimed: Claimed, reason: str) -> None:
        log.info("webhook.withheld", subscription=claimed.subscription, reason=reason)
        due = Due(schedule.DELIVERY_MOVES[DeliveryState.WAITING, "forbidden"], None)
        self._done(Result(claimed, due, self._clock(), None, Answer(error=reason)))

    def _withheld(self, subscription: Subscription, sent: Sent) -> str | None:
        """Why a message is not sent after all; asked at the moment of sending."""
        if sent.expires is not None and sent.expires <= format_time(self._clock()):
            return "The message's time is over."
        owner = self._directory().participants[subscription.owner]
        if egress(sent.marking, owner.role) is not None:
            return f"{sent.marking} does not leave by webhook to a {owner.role}."
        return None

    async def _attempt(
        self, subscription: Subscription, claimed: Claimed, sent: Sent, body: bytes
    ) -> None:
        failing, endpoint = _is_failing(subscription), _endpoint(subscription)
        line = self._lines.setdefault(endpoint, asyncio.Semaphore(PER_ENDPOINT))
        try:
            # In this order: who waits for its endpoint keeps no slot from others.
            async with line, self._free[failing]:
                reason = self._withheld(subscription, sent)
                if reason is not None:
                    self._withhold(claimed, reason)
                    return
                answer = await self._post(subscription, sent.id, body)
        finally:
            self._busy -= Counter((endpoint,))
            self._taken[failing] -= 1
            if not self._busy[endpoint]:
                self._lines.pop(endpoint, None)
        now, heard = self._clock(), schedule.heard(answer.status, answer.error)
        jitter = int.from_bytes(self._random_bytes(2)) / 65_535
        asked = schedule.rest(answer.retry_after, now)
        due = schedule.after_attempt(claimed.attempt, heard, now, jitter, asked)
        self._done(Result(claimed, due, now, heard, answer))

    async def _post(self, subscription: Subscription, name: str, body: bytes) -> Answer:
        now = self._clock()
        signed = webhook.sign(self.keyring.signers(subscription, now), name, now, body)
        return await self._guard.post(
            subscription.url, {"Content-Type": cloudevent.MEDIA_TYPE, **signed}, body
        )

    def _done(self, result: Result) -> None:
        self._results.append(result)
        self._news.set()

    async def _settle(self, tell: Tell) -> None:
        results, self._results = self._results, []
        if not results:
            return
        try:
            settled = await self.store.settle(results)
        except BaseException:
            self._results = results + self._results
            raise
        for each in results:
            if each.due.next is not None and each.due.next < self._round:
                heapq.heappush(self._later, (each.due.next, each.claimed.subscription))
            # A slot is free, and in its thread the next one may go.
            self._hot.setdefault(each.claimed.subscription)
        for changed in settled.changed:
            self._known[changed.id] = changed
        for told in settled.told:
            log.warning(
                "webhook.notice",
                subscription=told.after.id,
                owner=told.after.owner,
                notice=told.notice.value,
            )
            await tell(told)
            self._known[told.after.id] = told.after


def _is_failing(subscription: Subscription) -> bool:
    return subscription.endpoint.state is not EndpointState.ACTIVE


def _endpoint(subscription: Subscription) -> str:
    """Whose slots a post takes: those of host and port, whoever subscribed."""
    return urlsplit(subscription.url).netloc


class _Bodies:
    """Messages and the events made of them, the last ones used; bounded in bytes."""

    def __init__(self) -> None:
        self._sent: OrderedDict[int, Sent] = OrderedDict()
        self._made: dict[int, dict[tuple[str, ...], bytes]] = {}
        self._size = 0

    def missing(self, claimed: Sequence[Claimed]) -> list[int]:
        return sorted({each.index for each in claimed} - self._sent.keys())

    def keep(self, sent: Mapping[int, Sent]) -> None:
        for index, each in sent.items():
            self.drop(index)
            self._sent[index] = each
            self._size += len(each.envelope or b"")
        while self._size > MAX_BODIES and len(self._sent) > len(sent):
            self.drop(next(iter(self._sent)))

    def drop(self, index: int) -> None:
        sent = self._sent.pop(index, None)
        made = self._made.pop(index, {})
        self._size -= len(sent.envelope or b"") if sent else 0
        self._size -= sum(map(len, made.values()))

    def message(self, index: int) -> Sent | None:
        return self._sent.get(index)

    def body(self, origin: str, sent: Sent, languages: tuple[str, ...]) -> bytes:
        made = self._made.setdefault(sent.index, {})
        if languages not in made:
            assert sent.envelope is not None
            delivery = deliver(sent.acceptance, sent.envelope)
            made[languages] = jsontext.encode(cloudevent.of_message(origin, delivery, languages))
            self._size += len(made[languages])
        return made[languages]


async def follow(
    webhooks: Webhooks,
    directory: Callable[[], Directory],
    clock: Callable[[], datetime],
    committed: asyncio.Event,
    paused: Callable[[], bool],
) -> None:
    """Match the log behind the commits, ours and other hubs', and wake the worker."""
    while True:
        committed.clear()
        more, owed = False, frozenset[str]()
        try:
            if not paused():
                more, owed = await webhooks.store.match(directory(), format_time(clock()))
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("webhooks.unmatched", reason=str(error))
        if owed:
            webhooks.wake(owed)
        if not more:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await committed.wait()
            await asyncio.sleep(GATHER_SECONDS)
