"""What a participant hands in through any door: messages and receipts, opened, recorded, counted.

Each leaves one line in the log of the program, with the message's id and its trace.
"""

import structlog

from hub.doors import tracing
from hub.doors.service import Service
from hub.intake import admission
from hub.intake.batch import Token
from hub.intake.receipts import OpenedReceipt, ReceiptSubmission
from hub.intake.recorder import Recorded
from hub.intake.submission import Submission
from schemas.refusal import Refused

log = structlog.get_logger("hub.submission")


async def message(hub: Service, code: str, raw: bytes, token: Token | None = None) -> Recorded:
    """Have an envelope of an authenticated participant accepted, or its refusal recorded.

    Raises:
        Refused: nothing was recorded; it says whether to try again.
    """
    return await hub.metrics.submission(_message(hub, code, raw, token))


async def receipt(hub: Service, code: str, raw: bytes, token: Token | None = None) -> Recorded:
    """Have a delivery receipt of an authenticated participant recorded.

    Raises:
        Refused: nothing was recorded; it says whether to try again.
    """
    return await hub.metrics.receipt(_receipt(hub, code, raw, token))


async def _message(hub: Service, code: str, raw: bytes, token: Token | None) -> Recorded:
    opened = await hub.offload.run(lambda: _open(hub, raw))
    limit = hub.settings.quota.messages_per_hour
    job = Submission(raw, opened, code, token, hub.meter, limit)
    with tracing.message(None if isinstance(opened, Refused) else opened.message.id):
        recorded = await hub.recorder.record(job)
        _tell("message", code, recorded)
    return recorded


def _open(hub: Service, raw: bytes) -> admission.Opened | Refused:
    """Open an envelope; a refusal is a value here, since it is recorded like an acceptance."""
    with hub.metrics.opening():
        try:
            return admission.open_envelope(raw, hub.recorder.state.directory)
        except Refused as refusal:
            return refusal


async def _receipt(hub: Service, code: str, raw: bytes, token: Token | None) -> Recorded:
    directory = hub.recorder.state.directory
    opened = await hub.offload.run(lambda: OpenedReceipt(raw, directory))
    recorded = await hub.recorder.record(ReceiptSubmission(opened, code, token))
    _tell("receipt", code, recorded)
    return recorded


def _tell(what: str, code: str, recorded: Recorded) -> None:
    outcome = recorded.outcome
    reason = {} if outcome.refused is None else {"reason": outcome.refused.code}
    log.info(
        "submission", what=what, outcome=outcome.name, member=code, entry=outcome.index, **reason
    )
