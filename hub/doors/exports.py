"""Exports of the log: as JSON lines or CSV, streamed, each with the checkpoint it was taken at."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import msgspec
import structlog
from aiohttp import ClientConnectionResetError, web
from msgspec.structs import replace

from hub.doors.audit import Filters, event_filter
from hub.doors.service import Asked, Service, query
from hub.intake import membership
from hub.ledger.export import FORMS, Format, Head, Writer
from hub.ledger.queries import Event, EventFilter
from hub.ledger.sequence import Draft
from schemas import checkpoint, jsontext
from schemas import entry as entries
from schemas.encoding import format_time
from schemas.refusal import Refused

PAGE = 100
"""Events that are held at a time."""

Holds: TypeAlias = Callable[[], Awaitable[None]]
"""Raises Refused once the asker may read no more."""

log = structlog.get_logger("hub.exports")


class Export(Filters, frozen=True, kw_only=True):
    """What is exported, and in which form; everything given must hold."""

    format: Format


async def export(hub: Service, asked: Asked) -> web.StreamResponse:
    """``GET /v1/audit/export``: all entries that match, in the order of the log, as a file.

    It is of the log up to the checkpoint that it carries, and is recorded before anything is sent.
    Its last line has the number of rows and the SHA-256 of all bytes before it; a file without it
    was cut off.
    """
    return await write(hub, asked, query(asked, Export), partial(_check, hub, asked))


async def write(hub: Service, asked: Asked, wanted: Export, holds: Holds) -> web.StreamResponse:
    """Answer with an export, as long as ``holds`` says nothing else.

    Raises:
        Refused: the filter is none, or the export cannot be recorded.
    """
    matching = event_filter(wanted)
    given: dict[str, object] = msgspec.to_builtins(wanted)
    name = given.pop("format")
    private = jsontext.encode({"path": asked.request.path, "format": name, "query": given})
    draft = Draft(entries.OPERATOR_EXPORT, asked.principal.name, private=private)
    recorded = (await hub.change(membership.append(draft))).index
    note = await hub.queries.checkpoint()
    assert note is not None  # one stands under the entry just written
    assert recorded is not None
    size = checkpoint.open_checkpoint(note, hub.vkey).size
    form = FORMS[wanted.format]
    head = Head(note.decode(), given, format_time(hub.clock()), recorded)
    response = web.StreamResponse(headers=_headers(form.media_type, f"log-{size}.{name}"))
    await response.prepare(asked.request)
    await _send(asked, response, Writer(form), head, _pages(hub, matching, size), holds)
    return response


def _headers(media_type: str, name: str) -> dict[str, str]:
    return {
        "Content-Type": f"{media_type}; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
    }


async def _send(
    asked: Asked,
    response: web.StreamResponse,
    writer: Writer,
    head: Head,
    pages: AsyncIterator[Sequence[Event]],
    holds: Holds,
) -> None:
    """Write it as fast as it is read; whoever goes away or loses the right to it ends it."""
    try:
        await response.write(writer.head(head))
        async for events in pages:
            await holds()
            # In a thread: a page of large receipts takes longer than others should wait.
            await response.write(await asyncio.to_thread(writer.rows, events))
        await response.write(writer.end())
    except ClientConnectionResetError:
        pass  # the reader has gone away
    except Exception:
        # The answer has begun, and only a broken one can still say that there is no more.
        log.exception("export.cut", recorded=head.recorded)
        if asked.request.transport is not None:
            asked.request.transport.abort()


async def _pages(hub: Service, matching: EventFilter, size: int) -> AsyncIterator[Sequence[Event]]:
    """The events below ``size``, page by page."""
    after: int | None = -1
    while after is not None:
        page = await hub.queries.search(replace(matching, after=after, limit=PAGE))
        covered = [event for event in page.events if event.index < size]
        yield covered
        after = page.next if len(covered) == len(page.events) else None


async def _check(hub: Service, asked: Asked) -> None:
    """Whether the token that the export was asked for with still opens it.

    Raises:
        Refused: ``unauthenticated``.
    """
    scheme, _, token = asked.request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        return  # the hub's own machine
    found = await hub.queries.access_token(entries.digest(token.strip().encode("utf-8", "replace")))
    if found is None or found.revoked is not None:
        raise Refused("unauthenticated", "This token was revoked meanwhile.")
