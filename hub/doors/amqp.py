"""The AMQP door: submissions come in from the broker, answers go back to the sender's inbox.

A message is acknowledged to the broker only after its commit and after the broker has the answer. A
crash in between makes the broker deliver it again; the id is known by then, and the sender gets the
first acceptance a second time. Who sent it is the ``user_id`` that the broker validated.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from hub.delivery.broker import Unconfirmed
from hub.delivery.publisher import Publisher
from hub.doors import submissions, tracing
from hub.doors.service import Service
from hub.intake.recorder import Recorded
from schemas import amqp
from schemas.acceptance import Acceptance
from schemas.directory import State
from schemas.refusal import Refused

PREFETCH = 600
"""Submissions in work at once: two full batches, so that one is opened while one commits."""

BUSY_PAUSE = 1.0
"""Seconds before a submission that cannot be stored now is given back to the broker."""

log = structlog.get_logger("hub.amqp")


class _Pending(msgspec.Struct):
    """The answers to one participant that wait to go out in one publish."""

    accepted: list[amqp.Accepted]
    done: "asyncio.Future[None]"


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
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(amqp.SUBMISSIONS_QUEUE, ensure=False)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def end(*_: object) -> None:
            if not ended.done():
                ended.set_result(None)

        channel.close_callbacks.add(end)
        connection.close_callbacks.add(end)
        await queue.consume(self._start)
        try:
            await ended
        finally:
            # Delivery tags die with their channel: what is in work will be delivered again.
            for task in self._tasks:
                task.cancel()

    async def _start(self, message: AbstractIncomingMessage) -> None:
        task = asyncio.create_task(self._take(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, message: AbstractIncomingMessage) -> None:
        with tracing.request(message.headers.get("traceparent")):
            await self._settle(message)

    async def _settle(self, message: AbstractIncomingMessage) -> None:
        try:
            await self._handle(message)
        except Refused as refusal:
            if not refusal.row.retryable:
                await self._quarantine(message, refusal.detail)
                return
            # Nothing was stored: it goes back to the queue, and to whichever hub can store it.
            await asyncio.sleep(BUSY_PAUSE)
            await message.reject(requeue=True)
        except Unconfirmed as error:
            log.warning("amqp.unanswered", reason=str(error))
            await asyncio.sleep(BUSY_PAUSE)
            await message.reject(requeue=True)
        except Exception:
            log.exception("amqp.fault", message_id=message.message_id)
            await self._quarantine(message, "a fault of the hub")
        else:
            await message.ack()

    async def _quarantine(self, message: AbstractIncomingMessage, reason: str) -> None:
        self._hub.metrics.quarantined()
        log.error("amqp.quarantined", reason=reason, user=message.user_id)
        await message.reject(requeue=False)

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        code = self._identity(message)
        handler = _HANDLERS.get(message.type or "")
        if handler is None:
            raise Refused("bad-request", f"There is no type {message.type!r}.")
        reference = (message.message_id or "")[:64]
        try:
            self._check_standing(code, message.type or "")
            recorded = await handler(self._hub, code, message.body)
        except Refused as refusal:
            if refusal.row.retryable:
                raise
            await self._refuse(code, reference, refusal, None)
            return
        await self._answer(code, reference, recorded)

    def _identity(self, message: AbstractIncomingMessage) -> str:
        code = message.user_id or ""
        if code not in self._hub.recorder.state.directory.participants:
            raise Refused("unauthenticated", "The broker's user is no participant.")
        if message.routing_key != code:
            raise Refused("sender-mismatch", "The routing key is not the broker's user.")
        return code

    def _check_standing(self, code: str, kind: str) -> None:
        participant = self._hub.recorder.state.directory.participants[code]
        if participant.state is State.SUSPENDED:
            raise Refused("suspended", f"{code} is suspended; ask the hub's operators.")
        if kind == amqp.MESSAGE and participant.role == "observer":
            raise Refused("forbidden", "An observer does not send.")

    async def _answer(self, code: str, reference: str, recorded: Recorded) -> None:
        outcome = recorded.outcome
        if outcome.refused is not None:
            await self._refuse(code, reference, outcome.refused, recorded.acceptance)
            return
        acceptance = recorded.acceptance
        if acceptance is None and outcome.index is not None:
            acceptance = await self._hub.queries.acceptance(outcome.index)
        if acceptance is None:
            raise Refused("not-found", "The content of this message was erased.")
        await self._accept(code, amqp.Accepted(reference, acceptance))

    async def _accept(self, code: str, accepted: amqp.Accepted) -> None:
        """Gather the answers of one commit for one participant into one publish."""
        pending = self._pending.get(code)
        if pending is None:
            loop = asyncio.get_running_loop()
            pending = self._pending[code] = _Pending([], loop.create_future())
            loop.call_soon(self._flush, code)
        pending.accepted.append(accepted)
        await asyncio.shield(pending.done)

    def _flush(self, code: str) -> None:
        pending = self._pending.pop(code)
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
