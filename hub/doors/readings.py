"""The bodies of messages, for the hub's own people: whoever reads one is recorded first."""

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors.answers import MessageBody
from hub.doors.audit import message_id, note
from hub.doors.service import Asked, Service, answer
from hub.doors.service import body as sent
from hub.intake import membership
from hub.ledger import reading
from hub.ledger.reading import Said
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext, signature
from schemas.encoding import format_time
from schemas.refusal import Refused

_NO_STORE = {"Cache-Control": "no-store"}


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why somebody at the hub has to read it; above TLP:GREEN, 10 characters or more."""

    # In a query: with each character in 12, a longer one is more than a request line may have.
    reason: Annotated[str, Meta(max_length=500)] = ""


async def body(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/audit/messages/{id}/body``: what a message says.

    Above TLP:GREEN only with a stated reason, and TLP:RED or sealed never. Every reading is an
    entry of the log before anything is shown, and so is every attempt that was refused.
    """
    wanted = await sent(asked, Reading)
    about = message_id(asked)
    envelope = await stored(hub, asked, about)
    index = await record(hub, asked, about, envelope, wanted.reason)
    payload = signature.parse(envelope, signature.MESSAGE_TYPE).payload
    shown = answer(MessageBody(about, index, jsontext.decode(payload, dict)))
    shown.headers.update(_NO_STORE)
    return shown


async def stored(hub: Service, asked: Asked, message_id: str) -> bytes:
    """The envelope of a message.

    Raises:
        Refused: ``not-found``: it never was accepted, or was erased.
    """
    row = await hub.queries.message(message_id)
    if row is not None and row.envelope is not None:
        return row.envelope
    await note(hub, asked, message_id)
    found = [entries.decode(event.raw) for event in await hub.queries.events_of_message(message_id)]
    erased = next((entry for entry in found if entry.type == entries.MESSAGE_ERASED), None)
    if erased is not None:
        raise Refused("not-found", f"It was erased at {erased.time}; the hub has only its proofs.")
    if found:
        raise Refused("not-found", "The hub refused this message and did not keep it.")
    raise Refused("not-found", "The log has no message with this id.")


def refusal(hub: Service, asked: Asked, envelope: bytes, reason: str) -> Refused | None:
    """Why the asker may not read what is in an envelope; None where that is allowed."""
    who = reading.reader(asked.principal.roles)
    return reading.refusal(who, reading.body_of(envelope), reason, format_time(hub.clock()))


async def record(
    hub: Service, asked: Asked, subject: str | None, envelope: bytes, reason: str
) -> int:
    """Record that the asker reads what is in an envelope, and give the index of that entry.

    A crash after it: a reading is in the log of which nothing was seen, never the other way round.

    Raises:
        Refused: the asker may not read it, which is recorded too; or it cannot be recorded.
    """
    refused = refusal(hub, asked, envelope, reason)
    outcome = "shown" if refused is None else refused.code
    marking = reading.body_of(envelope).marking
    said = Said(asked.request.path, reason.strip(), marking, outcome)
    draft = Draft(
        entries.OPERATOR_BODY_READ, asked.principal.name, subject, private=jsontext.encode(said)
    )
    index = (await hub.change(membership.append(draft))).index
    if refused is not None:
        raise refused
    assert index is not None  # an entry that is appended has its place
    return index
