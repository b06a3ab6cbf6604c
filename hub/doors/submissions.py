"""What a participant hands in through any door: messages and receipts, opened, recorded, counted.

Each leaves one line in the log of the program, with the message's id and its trace.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from hub.doors.service import Service
from hub.intake import admission
from hub.intake.batch import Job, Token
from hub.intake.opening import Opening
from hub.intake.receipts import OpenedReceipt, ReceiptSubmission
from hub.intake.recorder import Recorded, Results
from hub.intake.submission import Submission
from schemas import amqp, trace
from schemas.refusal import Refused

log = structlog.get_logger("hub.submission")


class Submitted(msgspec.Struct, frozen=True):
    """The bytes that an authenticated participant handed in.

    ``type`` is one of ``amqp.MESSAGE`` and ``amqp.RECEIPT``; ``trace`` is what the sender named.
    """

    type: str
    code: str
    raw: bytes
    trace: str | None = None
    token: Token | None = None


class Opened(msgspec.Struct, frozen=True):
    """What was handed in, as a job or as a refusal that is not recorded; since when we have it."""

    submitted: Submitted
    job: Job | Refused
    message_id: str | None
    began: float


async def open_all(hub: Service, submitted: Sequence[Submitted]) -> Sequence[Opened]:
    """Parse and verify, off the event loop."""
    began = time.perf_counter()
    return await hub.offload.run(lambda: [OPEN[one.type](hub, one, began) for one in submitted])


def refuse(submitted: Submitted, refusal: Refused) -> Opened:
    """Something that is refused without being opened or recorded."""
    return Opened(submitted, refusal, None, time.perf_counter())


async def record_all(hub: Service, opened: Sequence[Opened]) -> Results:
    """Have all accepted in one commit, or their refusals recorded.

    What was refused without a record gives its refusal, which says whether to try again.
    """
    jobs = [one.job for one in opened if not isinstance(one.job, Refused)]
    recorded = iter(await hub.recorder.record_all(jobs) if jobs else ())
    results = [one.job if isinstance(one.job, Refused) else next(recorded) for one in opened]
    now = time.perf_counter()
    for one, result in zip(opened, results, strict=True):
        hub.metrics.submitted(one.submitted.type, result, now - one.began)
        if not isinstance(result, Refused):
            _tell(one, result)
    return results


async def record(hub: Service, submitted: Submitted) -> Recorded:
    """Have one accepted, or its refusal recorded.

    Raises:
        Refused: nothing was recorded; it says whether to try again.
    """
    result = (await record_all(hub, await open_all(hub, [submitted])))[0]
    if isinstance(result, Refused):
        raise result
    return result


def _open_message(hub: Service, submitted: Submitted, began: float) -> Opened:
    with hub.metrics.opening():
        directory = hub.recorder.state.directory
        opening = Opening(submitted.raw, directory, admission.open_envelope)
    found = opening.found  # a refusal is recorded like an acceptance
    message_id = None if isinstance(found, Refused) else found.message.id
    limit = hub.settings.quota.messages_per_hour
    job = Submission(opening, submitted.code, submitted.token, hub.meter, limit)
    return Opened(submitted, job, message_id, began)


def _open_receipt(hub: Service, submitted: Submitted, began: float) -> Opened:
    opening = Opening(submitted.raw, hub.recorder.state.directory, OpenedReceipt)
    found = opening.found
    if isinstance(found, Refused) and found.code != "unknown-key":
        return Opened(submitted, found, None, began)
    job = ReceiptSubmission(opening, submitted.code, submitted.token)
    return Opened(submitted, job, None, began)


OPEN: Mapping[str, Callable[[Service, Submitted, float], Opened]] = {
    amqp.MESSAGE: _open_message,
    amqp.RECEIPT: _open_receipt,
}
"""What may be handed in, by type, and how it is opened."""


def _tell(opened: Opened, recorded: Recorded) -> None:
    outcome = recorded.outcome
    more: dict[str, str] = {}
    named = opened.submitted.trace
    if opened.message_id is not None:
        more["message_id"] = opened.message_id
        named = named or trace.of_message(opened.message_id)
    if named is not None:
        more["trace_id"] = named
    if outcome.refused is not None:
        more["reason"] = outcome.refused.code
    log.info(
        "submission",
        what=opened.submitted.type,
        outcome=outcome.name,
        member=opened.submitted.code,
        entry=outcome.index,
        **more,
    )
