"""The AMQP door: submissions come in from the broker, answers go back to the sender's inbox.

A message is acknowledged to the broker only after its commit and after the broker has the answer. A
crash in between makes the broker deliver it again; the id is known by then, and the sender gets the
first acceptance a second time. Who sent it is the ``user_id`` that the broker validated.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import Enum, auto

import msgspec
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from hub.delivery import broker
from hub.delivery.broker import Unconfirmed
from hub.delivery.publisher import Publisher
from hub.doors import submissions, tracing
from hub.doors.service import Service
from hub.intake import membership, quarantine
from hub.intake.quarantine import Quarantined
from hub.intake.recorder import Recorded
from schemas import amqp
from schemas import entry as entries
from schemas.acceptance import Acceptance
from schemas.directory import State
from schemas.refusal import Refused

PREFETCH = 600
"""Submissions in work at once: two full batches, so that one is opened while one commits."""

MAX_ANSWERS = 100
"""Acceptances in one publish: about 400 kB."""

BUSY_PAUSE = 1.0
"""Seconds before a submission that cannot be stored now is given back to the broker."""

log = structlog.get_logger("hub.amqp")


class _Pending(msgspec.Struct):
    """The answers to one participant that wait to go out in one publish."""

    accepted: list[amqp.Accepted]
    done: "asyncio.Future[None]"


class _Verdict(Enum):
    """What becomes of a message on the broker."""

    DONE = auto()
    AGAIN = auto()
    POISON = auto()


class AmqpDoor:
    """Consumes ``hub.submissions`` on a connection that ``hub.delivery.broker.keep`` renews."""

    def __init__(self, hub: Service, publisher: Publisher) -> None:
        """Take submissions for this hub, answer through this publisher."""
        self._hub = hub
        self._publisher = publisher
        self._pending: dict[str, _Pending] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def use(self, connection: AbstractConnection) -> None:
        """Consume until the connection ends."""
        channel = await connection.channel(publisher_confirms=False)
        await broker.declare(channel, ())
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(amqp.SUBMISSIONS_QUEUE, ensure=False)
        try:
            await queue.consume(self._start)
            await broker.end_of(channel)
        finally:
            # Delivery tags die with their channel: what is in work will be delivered again.
            for task in self._tasks:
                task.cancel()

    async def handle(self, message: AbstractIncomingMessage) -> None:
        """Record what a participant submitted, and have the broker take the answer to it.

        Raises:
            Refused: retryable: nothing was stored. Otherwise there is nobody to answer to.
            Unconfirmed: the broker did not take the answer.
        """
        code = self._sender(message)
        reference = (message.message_id or "")[:64]
        try:
            self._check_standing(code, message.type or "")
            handler = _HANDLERS[message.type or ""]
            answer = await self._answer(await handler(self._hub, code, message.body))
        except Refused as refusal:
            if refusal.row.retryable:
                raise
            answer = (refusal, None)
        if isinstance(answer, Acceptance):
            await self._accept(code, amqp.Accepted(reference, answer))
        else:
            await self._refuse(code, reference, *answer)

    async def _start(self, message: AbstractIncomingMessage) -> None:
        task = asyncio.create_task(self._take(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        with tracing.request(message.headers.get("traceparent")):
            verdict = await self._judge(message)
        # Where this fails the connection is gone, and the message is delivered again.
        with contextlib.suppress(*CONNECTION_EXCEPTIONS):
            match verdict:
                case _Verdict.DONE:
                    await message.ack()
                case _Verdict.AGAIN:
                    await asyncio.sleep(BUSY_PAUSE)
                    await message.reject(requeue=True)
                case _Verdict.POISON:
                    await message.reject(requeue=False)

    async def _judge(self, message: AbstractIncomingMessage) -> "_Verdict":
        """Deal with a message; gives what to tell the broker."""
        try:
            await self.handle(message)
        except Refused as refusal:
            if refusal.row.retryable:
                return _Verdict.AGAIN  # or at whichever hub can store it
            return await self._quarantine(message, refusal.detail)
        except Unconfirmed as error:
            log.warning("amqp.unanswered", reason=str(error))
            return _Verdict.AGAIN
        except Exception:
            log.exception("amqp.fault", message_id=message.message_id)
            if not message.redelivered or not await self._store_answers():
                return _Verdict.AGAIN
            return await self._quarantine(message, "A fault of the hub; see its log.")
        return _Verdict.DONE

    async def _store_answers(self) -> bool:
        """Whether a fault is not just the store's, which passes."""
        try:
            await self._hub.queries.checkpoint()
        except Exception:  # noqa: BLE001 - whatever it is, it is not about the message
            return False
        return self._hub.recorder.failing is None

    async def _quarantine(self, message: AbstractIncomingMessage, reason: str) -> "_Verdict":
        """Record why; the broker then moves it.

        A crash in between: it is delivered again, and recorded a second time.
        """
        user = message.user_id or ""
        known = user in self._hub.recorder.state.directory.participants
        try:
            if self._hub.meter.note(user if known else entries.HUB, self._hub.clock()):
                entry = quarantine.draft(quarantine.ADDED, entries.HUB, described(message, reason))
                await self._hub.change(membership.append(entry))
        except Refused:
            return _Verdict.AGAIN
        self._hub.metrics.quarantined()
        log.error("amqp.quarantined", reason=reason, user=message.user_id)
        return _Verdict.POISON

    def _sender(self, message: AbstractIncomingMessage) -> str:
        """Who submitted it.

        Raises:
            Refused: nobody whom an answer would reach, or nothing that a hub takes.
        """
        code = message.user_id or ""
        if code not in self._hub.recorder.state.directory.participants:
            raise Refused("unauthenticated", f"The broker's user {code!r} is no participant.")
        if message.routing_key != code:
            raise Refused("sender-mismatch", "The routing key is not the broker's user.")
        if message.type not in _HANDLERS:
            raise Refused("bad-request", f"There is no type {message.type!r}.")
        return code

    def _check_standing(self, code: str, kind: str) -> None:
        participant = self._hub.recorder.state.directory.participants[code]
        if participant.state is State.SUSPENDED:
            raise Refused("suspended", f"{code} is suspended; ask the hub's operators.")
        if kind == amqp.MESSAGE and participant.role == "observer":
            raise Refused("forbidden", "An observer does not send.")

    async def _answer(self, recorded: Recorded) -> Acceptance | tuple[Refused, Acceptance | None]:
        outcome = recorded.outcome
        if outcome.refused is not None:
            return outcome.refused, recorded.acceptance
        acceptance = recorded.acceptance
        if acceptance is None and outcome.index is not None:
            acceptance = await self._hub.queries.acceptance(outcome.index)
        if acceptance is None:
            raise Refused("not-found", "The content of this message was erased.")
        return acceptance

    async def _accept(self, code: str, accepted: amqp.Accepted) -> None:
        """Gather the answers of one commit for one participant into one publish."""
        pending = self._pending.get(code)
        if pending is None or len(pending.accepted) >= MAX_ANSWERS:
            loop = asyncio.get_running_loop()
            pending = self._pending[code] = _Pending([], loop.create_future())
            loop.call_soon(self._flush, code, pending)
        pending.accepted.append(accepted)
        await asyncio.shield(pending.done)

    def _flush(self, code: str, pending: _Pending) -> None:
        if self._pending.get(code) is pending:
            del self._pending[code]
        body = amqp.Acceptances(pending.accepted)
        task = asyncio.ensure_future(self._publisher.answer(code, amqp.ACCEPTANCE, body))
        task.add_done_callback(lambda task: _pass_on(task, pending.done))

    async def _refuse(
        self, code: str, reference: str, refusal: Refused, recorded: Acceptance | None
    ) -> None:
        body = amqp.Refusal(
            reference,
            refusal.code,
            refusal.detail,
            refusal.row.retryable,
            refusal.path,
            recorded,
        )
        await self._publisher.answer(code, amqp.REFUSAL, body)


def described(message: AbstractIncomingMessage, reason: str) -> Quarantined:
    """What the log keeps of a message in quarantine."""
    return Quarantined(
        entries.digest(message.body),
        reason,
        message.user_id,
        message.routing_key or "",
        message.type,
        message.message_id,
        len(message.body),
    )


def _pass_on(task: "asyncio.Future[None]", done: "asyncio.Future[None]") -> None:
    if done.done():
        return
    if task.cancelled():
        done.set_exception(Unconfirmed("the connection ended"))
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(None)
    if not done.cancelled():
        done.exception()  # whoever waited may be gone; then nobody asks


_HANDLERS: dict[str, Callable[[Service, str, bytes], Awaitable[Recorded]]] = {
    amqp.MESSAGE: submissions.message,
    amqp.RECEIPT: submissions.receipt,
}
