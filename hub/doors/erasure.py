"""Erasing a message by a decision, holding one, and what the rules of retention erase next."""

import msgspec
import structlog
from aiohttp import web

from hub.doors.answers import Retained
from hub.doors.service import Asked, Service, answer, body
from hub.intake.erasure import Erase, Reason
from hub.intake.hold import Hold
from hub.ledger import retention
from hub.settings import StartError

log = structlog.get_logger("hub.erasure")

_PAGE = 500


class Erasing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a message is erased; at least 10 characters, and nothing of what it says.

    The reason is kept in the private part of the record.
    """

    reason: Reason


async def erase(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/messages/{id}/erase``: its content goes for good; its proofs stay valid.

    ``received`` have signed that they have it, ``waiting`` may have it: what stands in their
    inbox queue or is on its way cannot be called back. Their connectors are told by the log.
    """
    wanted = await body(asked, Erasing)
    message_id = asked.request.match_info["id"]
    outcome = await hub.change(Erase(message_id, asked.principal.name, wanted.reason))
    # Before it is told: the restore of an older backup would bring the message back. If the list
    # cannot be written, or after a crash here, the upkeep writes it.
    try:
        await hub.list_erasures()
    except (OSError, StartError) as error:
        log.warning("erasures.not_listed", reason=str(error))
    return answer(
        {
            "index": outcome.index,
            "received": outcome.value["received"],
            "waiting": outcome.value["waiting"],
        }
    )


class Holding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a message is held or, with ``release``, no longer held; at least 10 characters."""

    reason: Reason
    release: bool = False


async def hold(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/messages/{id}/hold``: nothing erases it until it is released."""
    wanted = await body(asked, Holding)
    message_id, by = asked.request.match_info["id"], asked.principal.name
    outcome = await hub.change(Hold(message_id, by, wanted.reason, release=wanted.release))
    return answer({"index": outcome.index})


async def due(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/retention``: the rules, and the first messages that they would erase now."""
    rules = hub.settings.retention
    cutoffs = retention.cutoffs(rules, hub.clock())
    return answer(Retained(rules, list(await hub.queries.due_to_erase(cutoffs, _PAGE))))
