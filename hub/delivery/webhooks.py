"""The worker that posts webhooks.

A crash at any point: a row that was claimed is due again when its lease is over, and is sent with
the same ``webhook-id``. What was sent and not yet settled is sent once more; nothing is lost.

One endpoint delays nobody: it has its place in the ``Lines``, and no more posts a second than its
``Pace``. One that asks for a rest (``Retry-After``) gets it from the whole subscription, and from
no other: a stranger's path on the same host silences nobody. Rests are kept in memory: a hub that
starts, or another hub of the log, posts once more and is told again.
"""

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
import structlog

from hub.delivery import schedule
from hub.delivery.deliveries import Claimed, Result, Told, Turn, WebhookStore
from hub.delivery.events import Events, Message
from hub.delivery.guard import Answer, Guard
from hub.delivery.keyring import Keyring, Signed
from hub.delivery.lines import Line, Lines
from hub.delivery.pace import Pace
from hub.delivery.schedule import DeliveryState, Due, EndpointState, Heard
from hub.delivery.subscription import Subscription, egress
from schemas import cloudevent, jsontext
from schemas.directory import Directory, State
from schemas.encoding import b64url, format_time
from schemas.refusal import Refused

LEASE: Final = timedelta(minutes=2)
"""How long a claimed row is ours: half a minute more than it waits in line and the longest attempt
takes, with a kept connection that is silent and then lost before a new one."""

MAX_IN_LINE: Final = timedelta(seconds=30)
"""How long a claimed row waits before its endpoint. Later it is left alone until its lease is over,
for another hub may have it then."""

ROUND_SECONDS: Final = 20.0
"""How often everything is looked at again, for what another hub left or changed."""

GATHER_SECONDS: Final = 0.1
"""How long commits are gathered before they are matched."""

GONE: Final = timedelta(minutes=1)
"""How long nothing is sent after a 410, whether or not it is recorded yet that the endpoint is
disabled; then it is tried whether it still says so."""

CHALLENGES: Final = 2
"""Challenges at a time to addresses of one owner, who decides how long each may take."""

_ERASED: Final = "The message was erased."

log = structlog.get_logger("hub.webhooks")


Tell = Callable[[Told], Awaitable[None]]
Attempted = Callable[[Heard, float], None]

_Address: TypeAlias = tuple[str, str]
"""A subscription and its URL: what was answered at one says nothing of the next one."""


class _Waiting(msgspec.Struct, frozen=True):
    """A delivery in line, and how long it may wait there."""

    claimed: Claimed
    until: datetime


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
        self._known: dict[str, Subscription] = {}
        self._asking = Counter[str]()
        self._hot: dict[str, None] = {}
        # What is due within a round; what is due later the rounds find, however much it is.
        self._later: list[tuple[datetime, str]] = []
        self._pace = Pace()
        self._rests: dict[_Address, datetime] = {}
        self._lines = Lines[_Waiting](slots)
        self._results: list[Result] = []
        self._events = Events(keyring, store.sent)
        self._posts: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._stale = True
        self._round = clock()
        self._attempted: Attempted = lambda heard, seconds: None

    @property
    def in_hand(self) -> int:
        """Deliveries that wait in line or are posted."""
        return self._lines.in_hand

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

    def erased(self, messages: Iterable[str]) -> None:
        """These were erased just now: what of them waits in line is not sent."""
        self._events.erase(messages)

    def admit_challenge(self, owner: str) -> None:
        """See that an owner does not have many addresses asked at once, slow ones or a stranger's.

        Raises:
            Refused: ``busy``; as many are being asked as may be.
        """
        if self._asking[owner] >= CHALLENGES:
            raise Refused(
                "busy",
                f"{CHALLENGES} addresses of {owner} are being asked; wait for their answers.",
            )

    async def challenge(self, subscription: Subscription) -> tuple[bool, Answer]:
        """Have an endpoint prove that it wants the webhooks; whether it did, and what it said.

        Raises:
            Refused: ``busy``; see ``admit_challenge``.
        """
        owner = subscription.owner
        self.admit_challenge(owner)
        self._asking[owner] += 1
        try:
            return await self._challenge(subscription)
        finally:
            self._asking[owner] -= 1

    async def _challenge(self, subscription: Subscription) -> tuple[bool, Answer]:
        now = self._clock()
        event_id = b64url(self._random_bytes(16))
        event = cloudevent.of_challenge(
            self.keyring.origin, event_id, subscription.id, format_time(now), self._random_bytes(32)
        )
        signed = Signed(self.keyring, event_id, jsontext.encode(event))
        answer = await self._post(subscription, signed)
        proven = schedule.heard(answer.status, answer.error) is Heard.TAKEN
        proven = proven and cloudevent.is_answer(event, answer.excerpt)
        if proven:
            self._rests.pop(_address(subscription), None)
        return proven, answer

    async def run(self, tell: Tell, attempted: Attempted) -> None:
        """Send for ever.

        Args:
            tell: records what an owner has to be told, with the change.
            attempted: is told what each post came to, and how many seconds it took.
        """
        self._attempted = attempted
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
            self._events = Events(self.keyring, self.store.sent)
        seconds = ROUND_SECONDS
        if self._later:
            seconds = min(seconds, (self._later[0][0] - self._clock()).total_seconds())
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()
        except TimeoutError:
            self._stale |= seconds == ROUND_SECONDS

    async def _turn(self, tell: Tell) -> bool:
        """Write what came back and claim what is due; whether there may be more to claim."""
        now = self._clock()
        if self._stale or now >= self._round:
            await self._look_at_all(now)
        while self._later and self._later[0][0] <= now:
            self._hot[heapq.heappop(self._later)[1]] = None
        results, self._results = self._results, []
        for each in results:
            if each.due.next is not None:
                self._remember(each.due.next, each.claimed.subscription)
            # In its thread the next one may go.
            self._hot.setdefault(each.claimed.subscription)
        room = self._room(now, {each.claimed.subscription for each in results if not _took(each)})
        if not results and not room:
            return False
        try:
            turn = await self.store.turn(results, room, format_time(now), format_time(now + LEASE))
        except BaseException:
            self._results = results + self._results
            self._hot |= dict.fromkeys(room)
            raise
        finally:
            for name, most in room.items():
                self._lines.free(_line(self._known[name]), most)
        taken = Counter(each.subscription for each in turn.claimed)
        for name, count in taken.items():
            self._pace.take(_line(self._known[name]).endpoint, count, now)
            if count == room[name]:
                self._hot[name] = None  # behind all others
        await self._stand(turn, tell)
        await self._begin(turn.claimed, now + MAX_IN_LINE)
        # Where nothing was due, others that are hot have the room now.
        return True

    async def _look_at_all(self, now: datetime) -> None:
        """Begin a round."""
        self._stale, self._round = False, now + timedelta(seconds=ROUND_SECONDS)
        self._known = {each.id: each for each in await self.store.subscriptions()}
        self._hot |= dict.fromkeys(await self.store.due(format_time(now)))
        self._pace.forget(now)
        self._rests = {each: until for each, until in self._rests.items() if until > now}

    def _remember(self, moment: datetime, subscription: str) -> None:
        """Look at a subscription again at a moment, unless a round does it before."""
        if moment < self._round:
            heapq.heappush(self._later, (moment, subscription))

    def _room(self, now: datetime, unsure: Set[str]) -> dict[str, int]:
        """For subscriptions that may have something due: how many may be claimed.

        How the endpoints of those ``unsure`` stand is about to be written.
        """
        room: dict[str, int] = {}
        for name in list(self._hot):
            subscription = self._known.get(name)
            if subscription is None or not self._may_be_sent_to(subscription):
                del self._hot[name]
                continue
            line = _line(subscription)
            free = 0 if name in unsure else self._lines.room(line)
            if not free:
                continue
            del self._hot[name]
            start = max(self._rest_of(subscription, now), self._pace.next(line.endpoint, now))
            if start > now:
                self._remember(start, name)
                continue
            room[name] = min(free, self._pace.room(line.endpoint, now))
            self._lines.hold(line, room[name])
        return room

    def _may_be_sent_to(self, subscription: Subscription) -> bool:
        owner = self._directory().participants.get(subscription.owner)
        return subscription.sent_to and owner is not None and owner.state is State.ACTIVE

    def _rest_of(self, subscription: Subscription, now: datetime) -> datetime:
        """When a rest is over that an endpoint asked for, or got for a 410; now, without one."""
        return max(now, self._rests.get(_address(subscription), now))

    async def _begin(self, claimed: Sequence[Claimed], until: datetime) -> None:
        """Put what was claimed in line."""
        await self._events.load({each.index for each in claimed if not each.erased})
        for each in claimed:
            if each.erased:
                self._results.append(self._withhold(each, _ERASED))
            else:
                self._lines.add(_line(self._known[each.subscription]), _Waiting(each, until))
        self._fill()

    def _fill(self) -> None:
        """Begin as many posts as may go on."""
        while (first := self._lines.next()) is not None:
            post = asyncio.create_task(self._slot(*first))
            self._posts.add(post)
            post.add_done_callback(self._posts.discard)

    async def _slot(self, line: Line, waiting: _Waiting) -> None:
        """Post one after the other, while there are any."""
        following: tuple[Line, _Waiting] | None = (line, waiting)
        while following is not None:
            line, waiting = following
            result = None
            try:
                result = await self._attempt(waiting)
            except Exception as error:  # noqa: BLE001 - it is due again by itself
                log.warning("webhooks.failed", reason=str(error))
            finally:
                self._lines.done(line)
            if result is not None:
                self._results.append(result)
            self._news.set()
            following = self._lines.next()
            self._fill()

    def _withhold(self, claimed: Claimed, reason: str) -> Result:
        log.info("webhook.withheld", subscription=claimed.subscription, reason=reason)
        due = Due(schedule.DELIVERY_MOVES[DeliveryState.WAITING, "forbidden"], None)
        return Result(claimed, due, self._clock(), None, Answer(error=reason))

    def _withheld(self, owner: str, message: Message, now: datetime) -> str | None:
        """Why a message is not sent after all; asked at the moment of sending."""
        sent = message.sent
        if message.erased:
            return _ERASED
        if sent.expires is not None and sent.expires <= format_time(now):
            return "The message's time is over."
        role = self._directory().participants[owner].role
        if egress(sent.marking, role) is not None:
            return f"{sent.marking} does not leave by webhook to a {role}."
        return None

    async def _attempt(self, waiting: _Waiting) -> Result | None:
        """Post once, if it may be posted now; None where it is due again by itself."""
        claimed = waiting.claimed
        message, now = await self._events.get(claimed.index), self._clock()
        subscription = self._known.get(claimed.subscription)
        if subscription is None or not self._may_be_sent_to(subscription) or now >= waiting.until:
            self._remember(waiting.until + LEASE - MAX_IN_LINE, claimed.subscription)
            return None
        reason = self._withheld(subscription.owner, message, now)
        if reason is not None:
            return self._withhold(claimed, reason)
        rested = self._rest_of(subscription, now)
        if rested > now:
            return Result(claimed, Due(DeliveryState.WAITING, rested), now)
        event = self._events.event(message, subscription.filter.languages)
        began = time.perf_counter()
        answer = await self._post(subscription, event)
        return self._heard(claimed, subscription, answer, time.perf_counter() - began)

    def _heard(
        self, claimed: Claimed, subscription: Subscription, answer: Answer, seconds: float
    ) -> Result:
        """What an answer means for the delivery, and at once for the others in line."""
        now, heard = self._clock(), schedule.heard(answer.status, answer.error)
        self._attempted(heard, seconds)
        asked, jitter = timedelta(), 0.0
        if heard is Heard.GONE:
            self._rests[_address(subscription)] = now + GONE
        elif heard is Heard.FAILED:
            asked = schedule.rest(answer.retry_after, now)
            jitter = int.from_bytes(self._random_bytes(2)) / 65_535
            self._rests[_address(subscription)] = max(self._rest_of(subscription, now), now + asked)
        due = schedule.after_attempt(claimed.attempt, heard, now, jitter, asked)
        return Result(claimed, due, now, heard, answer, subscription.url)

    async def _post(self, subscription: Subscription, event: Signed) -> Answer:
        headers = event.headers(subscription, self._clock())
        return await self._guard.post(
            subscription.url, {"Content-Type": cloudevent.MEDIA_TYPE, **headers}, event.body
        )

    async def _stand(self, turn: Turn, tell: Tell) -> None:
        """Know how endpoints stand now, and have their owners told."""
        # Before anybody is told, for posts go on meanwhile.
        for changed in (*turn.changed, *(told.after for told in turn.told)):
            self._known[changed.id] = changed
        for told in turn.told:
            log.warning(
                "webhook.notice",
                subscription=told.after.id,
                owner=told.after.owner,
                notice=told.notice.value,
            )
            await tell(told)


def _took(result: Result) -> bool:
    return result.heard is Heard.TAKEN


def _address(subscription: Subscription) -> _Address:
    return subscription.id, subscription.url


def _line(subscription: Subscription) -> Line:
    """Whose slots a post takes: an endpoint is host and port, whoever subscribed."""
    failing = subscription.endpoint.state is not EndpointState.ACTIVE
    return Line(urlsplit(subscription.url).netloc, subscription.owner, failing)


async def follow(
    webhooks: Webhooks,
    known: Callable[[], tuple[Directory, int]],
    clock: Callable[[], datetime],
    committed: asyncio.Event,
    paused: Callable[[], bool],
) -> None:
    """Match the log behind the commits, ours and other hubs', and wake the worker.

    ``known`` gives the directory, and of how many entries it is.
    """
    while True:
        committed.clear()
        more, owed = False, frozenset[str]()
        try:
            if not paused():
                more, owed = await webhooks.store.match(*known(), format_time(clock()))
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("webhooks.unmatched", reason=str(error))
        if owed:
            webhooks.wake(owed)
        if not more:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await committed.wait()
            await asyncio.sleep(GATHER_SECONDS)
