"""The AMQP door: submissions come in from the broker, answers go back to the sender's inbox.

They are taken in bursts: whatever arrived while the burst before was opened goes through together,
with one hop to the thread that verifies, one commit, one answer a sender and one acknowledgement. A
burst is acknowledged to the broker only after its commit and after the broker has the answers, but
for a sender into whose inbox it takes nothing: that one sends again. A crash in between makes the
broker deliver it again; the ids are known by then, and the senders get the first acceptances a
second time. Who sent a message is its ``user_id``, which the broker validated.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import TypeAlias

import msgspec
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import AMQPError
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands

from hub.delivery import broker, topology
from hub.delivery.broker import Stuck, Unconfirmed
from hub.delivery.publisher import Publisher
from hub.doors import submissions
from hub.doors.service import Service
from hub.doors.submissions import Opened, Submitted
from hub.intake import membership, quarantine
from hub.intake.quarantine import Quarantined
from hub.intake.recorder import Recorded
from hub.settings import broker_url
from schemas import amqp, trace
from schemas import entry as entries
from schemas.directory import State
from schemas.refusal import Refused

PREFETCH = 600
"""Submissions in work at once: two full batches, so that one is opened while one commits."""

MAX_BURST = 128
"""Submissions opened in one hop, half a commit."""

MAX_REFERENCE = 64
"""Characters of the sender's message id that come back with the answer."""

MAX_ANSWER = 256 * 1024
"""Bytes of acceptances in one message, far below what the broker takes: of a message to 119
institutions an acceptance has 11 kB, and a burst of those over a megabyte."""

BUSY_PAUSE = 1.0
"""Seconds before a submission that cannot be stored now is given back to the broker."""

log = structlog.get_logger("hub.amqp")


class Incoming(msgspec.Struct, frozen=True):
    """A message from the broker; ``user`` is validated by it, everything else is the sender's."""

    body: bytes
    user: str
    routing_key: str
    type: str
    message_id: str
    trace: str | None
    redelivered: bool
    tag: int


def incoming(message: AbstractIncomingMessage) -> Incoming:
    """A message that aio-pika took from a queue."""
    return Incoming(
        message.body,
        message.user_id or "",
        message.routing_key or "",
        message.type or "",
        message.message_id or "",
        _trace(message.headers),
        bool(message.redelivered),
        message.delivery_tag or 0,
    )


def _delivered(message: DeliveredMessage) -> Incoming:
    """The same from the channel below, which the door consumes: aio-pika's costs much more each."""
    properties, delivery = message.header.properties, message.delivery
    assert isinstance(delivery, commands.Basic.Deliver)
    return Incoming(
        message.body,
        properties.user_id or "",
        delivery.routing_key or "",
        properties.message_type or "",
        properties.message_id or "",
        _trace(properties.headers or {}),
        bool(delivery.redelivered),
        delivery.delivery_tag or 0,
    )


def _trace(headers: Mapping[str, object]) -> str | None:
    named = headers.get("traceparent")
    return trace.of_traceparent(named) if isinstance(named, str) else None


class _Verdict(Enum):
    """What becomes of a message on the broker."""

    DONE = auto()
    AGAIN = auto()
    POISON = auto()


_Step: TypeAlias = Opened | Exception
"""What was submitted, or why there is nothing to be done with it."""

_Reply: TypeAlias = amqp.Accepted | amqp.Refusal


class AmqpDoor:
    """Consumes ``hub.submissions`` on a connection that ``hub.delivery.broker.keep`` renews."""

    def __init__(self, hub: Service, publisher: Publisher) -> None:
        """Take submissions for this hub, answer through this publisher."""
        self._hub = hub
        self._publisher = publisher

    async def use(self, connection: AbstractConnection) -> None:
        """Consume until the connection ends."""
        channel = await connection.channel(publisher_confirms=False)
        await broker.declare(channel, ())
        await channel.set_qos(prefetch_count=PREFETCH)
        underlying = await channel.get_underlay_channel()
        arrived: asyncio.Queue[Incoming] = asyncio.Queue()

        async def take(message: DeliveredMessage) -> None:
            arrived.put_nowait(_delivered(message))

        await self._check_limit()
        await self._publisher.settled()
        await underlying.basic_consume(amqp.SUBMISSIONS_QUEUE, take)
        # Delivery tags die with their channel: what is in work then will be delivered again.
        await broker.together(self._work(underlying, arrived), broker.end_of(channel))

    async def handle(self, message: Incoming) -> None:
        """Record what a participant submitted, and have the broker take the answer to it.

        Raises:
            Refused: retryable: nothing was stored. Otherwise there is nobody to answer to.
            Unconfirmed: the broker did not take the answer.
        """
        [problem] = await self._record([message], await self._open([message]))
        if problem is not None:
            raise problem

    async def _check_limit(self) -> None:
        """Say so where the broker lets any member fill our memory."""
        with contextlib.suppress(AMQPError, OSError, TimeoutError):  # looked again next time
            if await broker.takes_too_much(broker_url(self._hub.settings)):
                log.warning(
                    "broker.takes-too-much",
                    advice=f"Set max_message_size = {topology.MAX_MESSAGE} in rabbitmq.conf and "
                    "restart RabbitMQ: any member can fill the hub's memory.",
                )

    async def _work(self, channel: AbstractChannel, arrived: asyncio.Queue[Incoming]) -> None:
        async with asyncio.TaskGroup() as finishing:
            before: asyncio.Task[None] | None = None
            while True:
                burst = [await arrived.get()]
                while len(burst) < MAX_BURST and not arrived.empty():
                    burst.append(arrived.get_nowait())
                steps = await self._open(burst)
                before = finishing.create_task(self._finish(channel, burst, steps, before))

    async def _open(self, burst: Sequence[Incoming]) -> list[_Step]:
        """Parse and verify. A fault of ours about one message is not its neighbours'."""
        try:
            admitted = [self._admit(message) for message in burst]
            submitted = [one for one in admitted if isinstance(one, Submitted)]
            opened = iter(await submissions.open_all(self._hub, submitted))
        except Exception as error:  # noqa: BLE001 - it is judged with the message
            if len(burst) == 1:
                return [error]
            return [step for message in burst for step in await self._open([message])]
        return [next(opened) if isinstance(one, Submitted) else one for one in admitted]

    def _admit(self, message: Incoming) -> Submitted | _Step:
        """Whose it is; a refusal if that is nobody whom an answer would reach."""
        participant = self._hub.recorder.state.directory.participants.get(message.user)
        if participant is None:
            return Refused(
                "unauthenticated", f"The broker's user {message.user!r} is no participant."
            )
        if message.routing_key != message.user:
            return Refused("sender-mismatch", "The routing key is not the broker's user.")
        if message.type not in submissions.OPEN:
            return Refused("bad-request", f"There is no type {message.type!r}.")
        submitted = Submitted(message.type, message.user, message.body, message.trace)
        if participant.state is State.SUSPENDED:
            detail = f"{message.user} is suspended; ask the hub's operators."
            return submissions.refuse(submitted, Refused("suspended", detail))
        if message.type == amqp.MESSAGE and participant.role == "observer":
            return submissions.refuse(submitted, Refused("forbidden", "An observer does not send."))
        return submitted

    async def _finish(
        self,
        channel: AbstractChannel,
        burst: Sequence[Incoming],
        steps: Sequence[_Step],
        before: asyncio.Task[None] | None,
    ) -> None:
        """Record and answer a burst, and after the burst before it tell the broker."""
        problems = await self._record(burst, steps)
        verdicts = [
            _Verdict.DONE if problem is None else await self._judge(message, problem)
            for message, problem in zip(burst, problems, strict=True)
        ]
        if before is not None:
            await asyncio.wait([before])
        try:
            await _settle(channel, burst, verdicts)
        except Exception:  # noqa: BLE001 - aiormq has no type for a line being cut
            # The messages are delivered again. The next burst must not acknowledge them as well.
            with contextlib.suppress(Exception):
                await channel.close()

    async def _record(
        self, burst: Sequence[Incoming], steps: Sequence[_Step]
    ) -> list[Exception | None]:
        """Record and answer what was opened; gives for each None, or why it is not done."""
        try:
            opened = [step for step in steps if isinstance(step, Opened)]
            results = iter(await submissions.record_all(self._hub, opened))
            replies = [
                await self._reply(message, next(results)) if isinstance(step, Opened) else step
                for message, step in zip(burst, steps, strict=True)
            ]
        except Exception as error:  # noqa: BLE001 - it is judged with the message
            if len(burst) == 1:
                return [error]
            # What was recorded already is a duplicate now, and is answered with what it was.
            return [
                problem
                for message, step in zip(burst, steps, strict=True)
                for problem in await self._record([message], [step])
            ]
        return await self._send(burst, replies)

    async def _reply(self, message: Incoming, result: Recorded | Refused) -> _Reply | Refused:
        """What the sender is told; a refusal to be tried again is told to the broker instead."""
        acceptance = None
        if isinstance(result, Recorded):
            outcome, acceptance = result.outcome, result.acceptance
            refusal = outcome.refused
            if refusal is None and acceptance is None and outcome.index is not None:
                acceptance = await self._hub.queries.acceptance(outcome.index)
            if refusal is None and acceptance is None:
                refusal = Refused("not-found", "The content of this message was erased.")
        elif result.row.retryable:
            return result
        else:
            refusal = result
        reference = message.message_id[:MAX_REFERENCE]
        if refusal is not None:
            row = refusal.row
            return amqp.Refusal(
                reference, refusal.code, refusal.detail, row.retryable, refusal.path, acceptance
            )
        assert acceptance is not None
        return amqp.Accepted(reference, acceptance)

    async def _send(
        self, burst: Sequence[Incoming], replies: Sequence[_Reply | Exception]
    ) -> list[Exception | None]:
        """Publish the replies, the acceptances of one sender together as far as they fit."""
        problems: list[Exception | None] = [
            reply if isinstance(reply, Exception) else None for reply in replies
        ]
        places: list[list[int]] = []
        sending: list[Awaitable[None]] = []
        accepted: dict[str, list[tuple[int, amqp.Accepted]]] = {}
        for place, (message, reply) in enumerate(zip(burst, replies, strict=True)):
            if isinstance(reply, amqp.Accepted):
                accepted.setdefault(message.user, []).append((place, reply))
            elif isinstance(reply, amqp.Refusal):
                places.append([place])
                sending.append(self._publisher.answer(message.user, amqp.REFUSAL, reply))
        for code, every in accepted.items():
            for some in _parted(every):
                places.append([place for place, _ in some])
                body = amqp.Acceptances([reply for _, reply in some])
                sending.append(self._publisher.answer(code, amqp.ACCEPTANCE, body))
        sent = await asyncio.gather(*sending, return_exceptions=True)
        for together, problem in zip(places, sent, strict=True):
            for place in together:
                problems[place] = problem if isinstance(problem, Exception) else None
        return problems

    async def _judge(self, message: Incoming, problem: Exception) -> _Verdict:
        """What to tell the broker about a message that was not dealt with."""
        if isinstance(problem, Refused):
            if problem.row.retryable or await self._has_joined(message.user, problem):
                return _Verdict.AGAIN  # or at whichever hub can store it
            return await self._quarantine(message, problem.detail)
        if isinstance(problem, Stuck):
            # It is recorded. Whoever gets no answer sends it again, and others need not wait.
            return _Verdict.DONE
        if isinstance(problem, Unconfirmed):
            log.warning("amqp.unanswered", reason=str(problem))
            return _Verdict.AGAIN
        log.error("amqp.fault", message_id=message.message_id, exc_info=problem)
        if not message.redelivered or not await self._store_answers():
            return _Verdict.AGAIN
        return await self._quarantine(message, "A fault of the hub; see its log.")

    async def _has_joined(self, user: str, problem: Refused) -> bool:
        """Whether a stranger joined at another hub a moment ago, which was not heard of here."""
        if problem.code != "unauthenticated":
            return False
        with contextlib.suppress(Refused):  # then it cannot be quarantined either
            await self._hub.change(membership.CATCH_UP)
        return user in self._hub.recorder.state.directory.participants

    async def _store_answers(self) -> bool:
        """Whether a fault is not just the store's, which passes."""
        try:
            await self._hub.queries.checkpoint()
        except Exception:  # noqa: BLE001 - whatever it is, it is not about the message
            return False
        return self._hub.recorder.failing is None

    async def _quarantine(self, message: Incoming, reason: str) -> _Verdict:
        """Record why; the broker then moves it.

        A crash in between: it is delivered again, and recorded a second time.
        """
        known = message.user in self._hub.recorder.state.directory.participants
        try:
            if self._hub.meter.note(message.user if known else entries.HUB, self._hub.clock()):
                entry = quarantine.draft(quarantine.ADDED, entries.HUB, described(message, reason))
                await self._hub.change(membership.append(entry))
        except Refused:
            return _Verdict.AGAIN
        self._hub.metrics.quarantined()
        log.error("amqp.quarantined", reason=reason, user=message.user)
        return _Verdict.POISON


def _parted(
    replies: Sequence[tuple[int, amqp.Accepted]],
) -> Iterator[Sequence[tuple[int, amqp.Accepted]]]:
    """The same in order, in parts of at most ``MAX_ANSWER`` bytes, but of one at least."""
    start = size = 0
    for end, (_, reply) in enumerate(replies):
        kept = reply.acceptance
        # All but ASCII is in base64; what JSON puts around it is little.
        length = sum(len(part or "") for part in (kept.entry, kept.private, kept.salt, kept.proof))
        if size and size + length > MAX_ANSWER:
            yield replies[start:end]
            start, size = end, 0
        size += length
    yield replies[start:]


async def _settle(
    channel: AbstractChannel, burst: Sequence[Incoming], verdicts: Sequence[_Verdict]
) -> None:
    """Tell the broker what becomes of a burst; everything before it is settled already."""
    if _Verdict.AGAIN in verdicts:
        await asyncio.sleep(BUSY_PAUSE)
    done = 0
    for message, verdict in zip(burst, verdicts, strict=True):
        if verdict is _Verdict.DONE:
            done = message.tag
        else:
            requeue = verdict is _Verdict.AGAIN
            await channel.basic_reject(message.tag, requeue=requeue, wait=False)
    if done:
        await channel.basic_ack(done, multiple=True, wait=False)


def described(message: Incoming, reason: str) -> Quarantined:
    """What the log keeps of a message in quarantine."""
    return Quarantined(
        entries.digest(message.body),
        reason,
        message.user or None,
        message.routing_key,
        message.type or None,
        message.message_id or None,
        len(message.body),
    )
