"""The participants' routes: join, messages, inbox, receipts, keys, members."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response
from msgspec import Meta

from hub.delivery.wakeup import heard
from hub.doors import submissions, tracing
from hub.doors.problems import problem
from hub.doors.service import Asked, Service, answer, arriving, query
from hub.doors.submissions import Submitted
from hub.intake import membership
from hub.intake.recorder import Recorded
from hub.ledger.queries import InboxItem
from schemas import amqp, jsontext
from schemas.acceptance import Acceptance, Tombstone, deliver
from schemas.directory import Key
from schemas.encoding import b64url, format_time
from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.refusal import Refused
from schemas.signature import MAX_ENVELOPE

HEARTBEAT = 15.0
"""Seconds between signs of life on an event stream; also how soon a revoked key ends it."""


_EVENT_ID = re.compile("[0-9]{1,15}")

T = TypeVar("T")


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on, how much at once, and how long to wait for the first item (seconds)."""

    after: Annotated[int, Meta(ge=-1, le=MAX_SAFE_INTEGER)] = 0
    limit: Annotated[int, Meta(ge=1, le=100)] = 100
    wait: Annotated[float, Meta(ge=0, le=60)] = 0


class Whose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose keys; everybody's where it is left out."""

    member: str | None = None


async def join(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/join``: a join request with an invitation."""
    raw = await arriving(asked.request.read())
    job = await hub.offload.run(lambda: membership.request_join(raw, str(hub.vkey)))
    outcome = await hub.change(job)
    return answer(outcome.value, 202)


async def submit(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/messages``: accepted after the commit, or refused with a recorded reason."""
    raw = await arriving(_envelope(asked.request))
    return await _recorded(hub, await submissions.record(hub, _submitted(asked, amqp.MESSAGE, raw)))


async def _envelope(request: web.Request) -> bytes:
    """The body, and of one that is too large only as much as shows it: that, too, is recorded."""
    raw = b""
    while len(raw) <= MAX_ENVELOPE and (chunk := await request.content.readany()):
        raw += chunk
    return raw[: MAX_ENVELOPE + 1]


async def _recorded(hub: Service, recorded: Recorded) -> web.Response:
    outcome = recorded.outcome
    if outcome.refused is not None:
        return problem(outcome.refused, recorded.acceptance)
    acceptance = recorded.acceptance
    if acceptance is None and outcome.index is not None:
        acceptance = await hub.queries.acceptance(outcome.index)
    return answer(acceptance, 201 if outcome.new else 200)


async def read_message(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/messages/{id}``: for its sender and its recipients."""
    message = await hub.queries.message(asked.request.match_info["id"])
    code = asked.principal.name
    if message is not None and code != message.sender:
        copies = await hub.queries.deliveries(message.id)
        if code not in {copy.recipient for copy in copies}:
            message = None
    if message is None:
        raise Refused("not-found", "No message with this id was sent by you or to you.")
    acceptance = await hub.queries.acceptance(message.index)
    if message.envelope is None or acceptance is None or acceptance.private is None:
        raise Refused("erased", "The hub erased this message; the log says when, not what it was.")
    return answer(deliver(acceptance, message.envelope))


def _item(item: InboxItem) -> object:
    if item.envelope is None:
        return Tombstone(item.position, item.tombstone or "", item.acceptance)
    return {"position": item.position, "delivery": deliver(item.acceptance, item.envelope)}


async def inbox(hub: Service, asked: Asked) -> web.StreamResponse:
    """``GET /v1/inbox``: a page, waiting for its first item, or an endless event stream."""
    page, reader = query(asked, Page), _Reader(hub, asked.principal.name)
    if "text/event-stream" in asked.request.headers.get("Accept", ""):
        return await _stream(asked.request, reader, page)
    held_back = hub.settings.restored.exists()
    items = await reader.items(page)
    # Our own state does not have what another hub has just recorded.
    known = hub.recorder.state.positions.get(reader.code, 0)
    if held_back:
        known = min(known, page.after)  # nothing is promised that is not given yet
    last = max(known, *(i.position for i in items), 0)
    return answer({"deliveries": [_item(item) for item in items], "last": last})


class _Reader:
    """A participant that reads and waits, as long as the key it came with and its standing hold."""

    def __init__(self, hub: Service, code: str) -> None:
        self.code = code
        self._hub = hub
        self._kid = hub.recorder.state.directory.participants[code].kid

    async def items(self, page: Page) -> Sequence[InboxItem]:
        """The next items of the inbox."""

        async def look() -> Sequence[InboxItem]:
            hub = self._hub
            below, now = await hub.served_below(), format_time(hub.clock())
            return await hub.queries.inbox(self.code, page.after, page.limit, now, below)

        return await self._wait(page.wait, look)

    async def receipts(self, page: Page) -> Sequence[tuple[int, Acceptance]]:
        """The next receipts for its own messages."""

        async def look() -> Sequence[tuple[int, Acceptance]]:
            below = await self._hub.served_below()
            return await self._hub.queries.receipts(self.code, page.after, page.limit, below)

        return await self._wait(page.wait, look)

    async def _wait(
        self, seconds: float, look: Callable[[], Awaitable[Sequence[T]]]
    ) -> Sequence[T]:
        clock = asyncio.get_running_loop().time
        until = clock() + seconds
        while True:
            # It also rings for other news of this participant, and when its key ends.
            bell = self._hub.bells.bell(self.code)
            found = await look()
            self.check()
            if found or not await heard(bell, until - clock()):
                return found

    def check(self) -> None:
        """Whether it may still read.

        Raises:
            Refused: ``forbidden``.
        """
        state = self._hub.recorder.state
        participant = state.directory.participants[self.code]
        key = state.directory.keys.get(self._kid or "")
        now = format_time(self._hub.clock())
        if participant.state != "active" or not key or not key.valid_at(state.tree.size, now):
            raise Refused("forbidden", "Your key or your standing ended meanwhile; ask again.")


async def _stream(request: web.Request, reader: _Reader, page: Page) -> web.StreamResponse:
    """Server-sent events; the stream ends when the reader's key or standing does."""
    last_seen = request.headers.get("Last-Event-ID", "")
    after = int(last_seen) if _EVENT_ID.fullmatch(last_seen) else page.after
    async with sse_response(request) as response:
        with contextlib.suppress(Refused):
            while response.is_connected():
                for item in await reader.items(Page(after, page.limit, HEARTBEAT)):
                    reader.check()
                    await _send(response, item)
                    after = item.position
    return response


async def _send(response: EventSourceResponse, item: InboxItem) -> None:
    await response.send(
        jsontext.encode(_item(item)).decode(),
        id=str(item.position),
        event="tombstone" if item.envelope is None else "delivery",
    )


async def send_receipt(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/receipts``: a signed delivery receipt is recorded and reaches the sender."""
    raw = await arriving(asked.request.read())
    return await _recorded(hub, await submissions.record(hub, _submitted(asked, amqp.RECEIPT, raw)))


def _submitted(asked: Asked, kind: str, raw: bytes) -> Submitted:
    return Submitted(kind, asked.principal.name, raw, tracing.named(), asked.token)


async def read_receipts(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/receipts``: the receipts for the asker's own messages."""
    page = query(asked, Page)
    found = await _Reader(hub, asked.principal.name).receipts(page)
    last = found[-1][0] if found else page.after
    receipts = [{"position": index, "acceptance": acceptance} for index, acceptance in found]
    return answer({"receipts": receipts, "last": last})


async def state_keys(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/keys``: an institution rotates or revokes its own keys."""
    raw = await arriving(asked.request.read())
    job = membership.state_keys(raw, asked.principal.name, asked.token)
    outcome = await hub.change(job)
    return answer(outcome.value, 201)


async def keys(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/keys``: signing keys with their times, as the log has them."""
    member = query(asked, Whose).member
    found = [
        _key(key)
        for key in hub.recorder.state.directory.keys.values()
        if member is None or key.member == member
    ]
    return answer({"keys": found})


def _key(key: Key) -> dict[str, object]:
    return {
        "kid": key.kid,
        "member": key.member,
        "x": b64url(key.public),
        "since": key.since,
        "until": key.until,
        "expires": key.expires,
    }


async def members(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/members``: everybody in the directory, and the groups."""
    directory = hub.recorder.state.directory
    found = [
        {
            "code": participant.code,
            "role": participant.role,
            "state": participant.state,
            "names": participant.names,
            "country": participant.country,
            "kid": participant.kid,
        }
        for participant in directory.participants.values()
    ]
    return answer({"members": found, "groups": directory.groups})
