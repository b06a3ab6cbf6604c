"""The public feed: what anybody may read, as Atom, each entry with its evidence."""

from datetime import timedelta
from typing import Annotated

import msgspec
from aiohttp import ETag, web
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from hub.doors import audit, evidence, shelf
from hub.doors.service import Asked, Service, query
from hub.ledger import atom
from hub.ledger import feed as publishing
from hub.ledger.evidence import Reader
from hub.ledger.feed import Channel, Place, Published
from hub.ledger.queries import Event, EventFilter
from schemas import entry as entries
from schemas.encoding import format_time
from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.message import Message
from schemas.refusal import Refused
from schemas.vocabulary import THEMES

PAGE = 20
"""Entries of one page."""

_ROUNDS = 10
"""Searches for one page; then it is as full as it is."""

_FRESH = timedelta(seconds=10)
"""How long a page is kept. An erased or expired message stands in it no longer than that."""

_PROOF_FRESH = shelf.MAX_AGE
"""How long evidence is kept; whether the message may still be shown is asked each time."""

_CACHEABLE = {"Cache-Control": "public, max-age=60"}

_TO_THE_PUBLIC = Reader(None, body=True, receipts=False)
"""Receipts can name other messages, which are not public."""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page: with ``lang`` (BCP 47) of the messages with a text in that language.

    Without ``before``, which ``next`` links have, it is the newest page.
    """

    lang: (
        Annotated[
            str,
            Meta(
                pattern="^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$",
                description="Only messages with a text in this language, which is shown.",
            ),
        ]
        | None
    ) = None
    before: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)] | UnsetType = UNSET


async def everybody(hub: Service, asked: Asked) -> web.Response:
    """``GET /feed``: the messages marked TLP:CLEAR, newest first, as Atom."""
    return await _answer(hub, asked)


async def member(hub: Service, asked: Asked) -> web.Response:
    """``GET /feed/member/{code}``: the public messages of one institution."""
    code = asked.request.match_info["code"]
    if code not in hub.recorder.state.directory.participants:
        raise Refused("not-found", "No institution has this code.")
    return await _answer(hub, asked, sender=code)


async def theme(hub: Service, asked: Asked) -> web.Response:
    """``GET /feed/theme/{theme}``: the public messages about one theme."""
    name = asked.request.match_info["theme"]
    if name not in THEMES:
        raise Refused("not-found", f"The themes are {', '.join(THEMES)}.")
    return await _answer(hub, asked, theme=name)


async def proof(hub: Service, asked: Asked) -> web.Response:
    """``GET /feed/{id}/evidence``: a zip that proves who sent a message of the feed, and what.

    It names the recipients, and has no receipts.
    """
    message_id = audit.message_id(asked)
    if await _opened(hub, message_id) is None:
        raise Refused("not-found", "The feed has no message with this id.")

    async def make() -> bytes:
        return await evidence.written(hub, message_id, _TO_THE_PUBLIC)

    raw = await hub.shelf.get(asked.request.path, make, hub.clock, _PROOF_FRESH)
    response = evidence.file(message_id, raw)
    response.headers.update(_CACHEABLE)
    return response


async def _answer(
    hub: Service, asked: Asked, *, sender: str | None = None, theme: str | None = None
) -> web.Response:
    wanted = query(asked, Wanted)
    before = None if wanted.before is UNSET else wanted.before
    channel = Channel(sender, theme, wanted.lang, before)

    async def make() -> bytes:
        return await _page(hub, channel)

    raw = await hub.shelf.get(channel.address(channel.before), make, hub.clock, _FRESH)
    # No Last-Modified: a page from which a message was erased is not newer, and must be sent again.
    tag = ETag(entries.digest(raw))
    headers = {**_CACHEABLE, "ETag": f'"{tag.value}"'}
    known = asked.request.if_none_match or ()
    if any(each.value in (tag.value, "*") for each in known):
        return web.Response(status=304, headers=headers)
    return web.Response(body=raw, content_type=atom.MEDIA_TYPE, charset="utf-8", headers=headers)


async def _page(hub: Service, channel: Channel) -> bytes:
    """The document of one page. What is not shown is searched past, a bounded time."""
    found: list[Published] = []
    before: int | None = MAX_SAFE_INTEGER if channel.before is None else channel.before
    wanted = EventFilter(
        sender=channel.sender, theme=channel.theme, marking=publishing.MARKING, limit=PAGE
    )
    for _ in range(_ROUNDS):
        page = await hub.queries.search(replace(wanted, before=before))
        for event in page.events:
            if len(found) == PAGE:
                break
            before = event.index
            published = await _published(hub, event, channel.language)
            if published is not None:
                found.append(published)
        else:
            before = page.next
        if before is None or len(found) == PAGE:
            break
    place = Place(hub.settings.name, hub.settings.url.rstrip("/"), hub.recorder.state.directory)
    return publishing.document(place, channel, found, before)


async def _published(hub: Service, event: Event, language: str | None) -> Published | None:
    """The message that an entry accepted; None where it is not shown."""
    entry = entries.decode(event.raw)
    message = await _opened(hub, entry.subject or "")
    if message is None or not publishing.speaks(message, language):
        return None
    return Published(message, entry.time, await _replaces(hub, message))


async def _opened(hub: Service, message_id: str) -> Message | None:
    row = await hub.queries.message(message_id)
    if row is None:
        return None
    return publishing.opened(row.envelope, row.marking, format_time(hub.clock()))


async def _replaces(hub: Service, message: Message) -> bool:
    """Whether it supersedes a public message of its own sender; that of another it cannot."""
    if message.supersedes is None:
        return False
    earlier = await _opened(hub, message.supersedes)
    return earlier is not None and earlier.sender == message.sender
