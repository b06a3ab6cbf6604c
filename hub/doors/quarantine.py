"""The operators' routes to the quarantine: what came over the broker and could not be answered."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from aio_pika.abc import AbstractIncomingMessage
from aiohttp import web
from msgspec import Meta

from hub.delivery.broker import Unconfirmed
from hub.delivery.quarantine import Quarantine
from hub.doors import readings
from hub.doors.amqp import AmqpDoor, described, incoming
from hub.doors.answers import QuarantinedMessage
from hub.doors.readings import Reading
from hub.doors.service import Asked, Service, answer, body, query
from hub.intake import membership, quarantine
from hub.intake.quarantine import Quarantined
from hub.ledger.queries import EventFilter
from schemas import entry as entries
from schemas import jsontext
from schemas.encoding import b64url
from schemas.refusal import Refused

_PAGE = 500


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a message leaves the quarantine, for the private part of the record."""

    reason: Annotated[str, Meta(max_length=2000)] = ""


async def held(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/quarantine``: the messages, the oldest first, without their bodies."""
    return answer({"messages": await every(hub)})


async def every(hub: Service) -> Sequence[QuarantinedMessage]:
    """The messages, the oldest first.

    Raises:
        Refused: ``not-found``: there is no broker; ``busy``: it cannot be reached.
    """
    found = await _all(hub)
    known = await _known(hub)
    return [_held(message, copies, known) for message, copies in found]


async def _all(hub: Service) -> Sequence[tuple[Quarantined, int]]:
    """Each message, and how many copies of it there are; no body outlives the reading."""
    async with _of(hub).opened() as messages:
        found = _by_digest(messages).values()
        return [(described(incoming(copies[0]), ""), len(copies)) for copies in found]


async def show(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/quarantine/{digest}``: one with its body; that it was read is recorded.

    What is no message below TLP:AMBER takes a reason; TLP:RED or sealed is not shown.
    """
    message, content = await read(hub, asked, query(asked, Reading).reason)
    return answer({**msgspec.to_builtins(message), "body": b64url(content)})


async def read(hub: Service, asked: Asked, reason: str) -> tuple[QuarantinedMessage, bytes]:
    """The message that a request names, with its body; that it is read is recorded first.

    Raises:
        Refused: it is not there, or the asker may not read it.
    """
    message, copies, content = await _one(hub, asked)
    await readings.record(hub, asked, None, content, reason)
    return _held(message, copies, await _known(hub)), content


async def _one(hub: Service, asked: Asked) -> tuple[Quarantined, int, bytes]:
    """The message that a request names, how many copies of it there are, and its body."""
    async with _of(hub).opened() as messages:
        copies = _chosen(messages, asked)
        return described(incoming(copies[0]), ""), len(copies), copies[0].body


async def release(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/quarantine/{digest}/release``: taken in again as if it had just come.

    What still cannot be answered stays where it is.
    """
    return answer({"index": await let_go(hub, asked, await body(asked, Decision))})


async def let_go(hub: Service, asked: Asked, decision: Decision) -> int | None:
    """Take the message that a request names in again; gives the index of the entry.

    Raises:
        Refused: it is not there, or still cannot be answered.
    """
    held = _of(hub)
    assert hub.publisher is not None  # there is one wherever there is a quarantine
    door = AmqpDoor(hub, hub.publisher)
    async with held.opened() as messages:
        copies = _chosen(messages, asked)
        # A crash between the taking in and the record: it is released once more, as a duplicate.
        await _take_in(door, copies[0])
        return await _leave(hub, asked, copies, quarantine.RELEASED, decision.reason)


async def discard(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/quarantine/{digest}/discard``: gone for good; its digest stays in the log."""
    return answer({"index": await throw_away(hub, asked, await body(asked, Decision))})


async def throw_away(hub: Service, asked: Asked, decision: Decision) -> int | None:
    """Discard the message that a request names; gives the index of the entry.

    Raises:
        Refused: it is not there.
    """
    async with _of(hub).opened() as messages:
        copies = _chosen(messages, asked)
        return await _leave(hub, asked, copies, quarantine.DISCARDED, decision.reason)


def _of(hub: Service) -> Quarantine:
    if hub.quarantine is None:
        raise Refused("not-found", "This hub has no broker, and so no quarantine.")
    return hub.quarantine


async def _take_in(door: AmqpDoor, message: AbstractIncomingMessage) -> None:
    try:
        await door.handle(incoming(message))
    except Refused as refusal:
        if refusal.row.retryable:
            raise
        raise Refused("conflict", f"It still cannot be answered: {refusal.detail}") from None
    except Unconfirmed as error:
        raise Refused("busy", f"The broker did not take the answer: {error}.") from None


async def _leave(
    hub: Service,
    asked: Asked,
    copies: Sequence[AbstractIncomingMessage],
    kind: str,
    reason: str,
) -> int | None:
    """Record first: what is gone without a record would be lost unseen."""
    entry = quarantine.draft(kind, asked.principal.name, described(incoming(copies[0]), reason))
    outcome = await hub.change(membership.append(entry))
    try:
        for message in copies:
            await message.ack()
    except Exception as error:  # noqa: BLE001 - aiormq has no type for a line being cut
        detail = f"It may still be there, the broker went away ({error}); decide again."
        raise Refused("busy", detail) from None
    return outcome.index


def _by_digest(
    messages: Sequence[AbstractIncomingMessage],
) -> dict[str, list[AbstractIncomingMessage]]:
    found: dict[str, list[AbstractIncomingMessage]] = {}
    for message in messages:
        found.setdefault(entries.digest(message.body), []).append(message)
    return found


def _chosen(
    messages: Sequence[AbstractIncomingMessage], asked: Asked
) -> Sequence[AbstractIncomingMessage]:
    copies = _by_digest(messages).get(asked.request.match_info["digest"])
    if copies is None:
        raise Refused("not-found", "No message in quarantine has this digest.")
    return copies


async def _known(hub: Service) -> dict[str, tuple[str, str]]:
    """Digest -> when and why it was last put into quarantine, as the log has it."""
    found: dict[str, tuple[str, str]] = {}
    after = -1
    while True:
        wanted = EventFilter(type=quarantine.ADDED, after=after, limit=_PAGE)
        events = await hub.queries.events(wanted)
        for event in events:
            if event.private is not None:
                what = jsontext.decode(event.private, Quarantined)
                found[what.digest] = entries.decode(event.raw).time, what.reason
        if len(events) < _PAGE:
            return found
        after = events[-1].index


def _held(
    message: Quarantined, copies: int, known: dict[str, tuple[str, str]]
) -> QuarantinedMessage:
    time, reason = known.get(message.digest, (None, None))
    return QuarantinedMessage(
        message.digest,
        reason,
        time,
        message.user,
        message.routing_key,
        message.type,
        message.message_id,
        message.size,
        copies,
    )
