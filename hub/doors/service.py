"""What every handler of a door works with, wired by ``hub.app``."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeAlias, TypeVar

import msgspec
from aiohttp import web

from hub.authority import Authority
from hub.delivery.publisher import Publisher
from hub.delivery.quarantine import Quarantine
from hub.delivery.wakeup import Bells
from hub.delivery.webhooks import Webhooks
from hub.doors.access import Principal
from hub.doors.shelf import Shelf
from hub.doors.strangers import Strangers
from hub.intake.batch import Job, Outcome, Token
from hub.intake.meter import RefusalMeter
from hub.intake.offload import Offload
from hub.intake.recorder import Recorded, Recorder
from hub.intake.restorer import Restorer
from hub.ledger.patrol import Patrol
from hub.ledger.queries import Queries
from hub.ledger.witnesses import Witnesses
from hub.metrics import Metrics
from hub.settings import Settings
from schemas import jsontext
from schemas.note import Vkey
from schemas.refusal import Refused

BODY_SECONDS = 30.0
"""For a whole body to arrive; as long as a connector waits for its answer."""

T = TypeVar("T")


class Service(msgspec.Struct, frozen=True):
    """The parts of the hub that a door needs; four of the last only where there are such.

    ``broken`` is set when something ended that goes on by itself as long as the hub does.
    """

    settings: Settings
    vkey: Vkey
    recorder: Recorder
    queries: Queries
    witnesses: Witnesses
    restorer: Restorer
    bells: Bells
    offload: Offload
    meter: RefusalMeter
    strangers: Strangers
    metrics: Metrics
    patrol: Patrol
    shelf: Shelf
    list_erasures: Callable[[], Awaitable[object]]
    clock: Callable[[], datetime]
    random_bytes: Callable[[int], bytes]
    version: str
    instance: str
    authority: Authority | None = None
    publisher: Publisher | None = None
    quarantine: Quarantine | None = None
    webhooks: Webhooks | None = None
    broken: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def audiences(self) -> frozenset[str]:
        """The names under which a participant's token may address this hub."""
        return frozenset({self.settings.origin, self.settings.url.rstrip("/")})

    async def served_below(self) -> int | None:
        """The first entry that is held back while a restored log is made whole; None: none is.

        Who reads goes on from the last that it was given: what comes back before that it would
        never see. So nothing is given from the first entry on that lacks its content.
        """
        if not self.settings.restored.exists():
            return None
        return await self.queries.whole(self.witnesses.given_up)

    async def change(self, job: Job) -> Outcome:
        """Record a job whose refusal is an error.

        Raises:
            Refused: the job was refused.
        """
        recorded: Recorded = await self.recorder.record(job)
        if recorded.outcome.refused is not None:
            raise recorded.outcome.refused
        return recorded.outcome


class Asked(msgspec.Struct, frozen=True):
    """One request: who asks, and the one-time token it came with."""

    request: web.Request
    principal: Principal
    token: Token | None


Handler: TypeAlias = Callable[[Service, Asked], Awaitable[web.StreamResponse]]


def answer(value: object, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=jsontext.encode(value), status=status, content_type="application/json")


async def arriving(reading: Awaitable[bytes]) -> bytes:
    """The bytes of a body that is being read.

    Raises:
        Refused: ``too-slow``.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await reading
    except TimeoutError:
        detail = f"The body was not here after {BODY_SECONDS:g} seconds; send it again."
        raise Refused("too-slow", detail) from None


def check_address(request: web.Request) -> None:
    """Whether an address may be looked for in the database.

    Raises:
        Refused: ``bad-request``.
    """
    if "%00" in request.raw_path:
        # PostgreSQL takes no NUL in a text: one would fail every job of its batch.
        raise Refused("bad-request", "Take %00 out of the address.")


async def body(asked: Asked, into: type[T]) -> T:
    """The JSON body of a request as a struct.

    Raises:
        Refused: it is too slow or not of that form; an empty body counts as an empty object.
    """
    raw = await arriving(asked.request.read())
    return jsontext.decode(raw or b"{}", into)


def query(asked: Asked, into: type[T]) -> T:
    """The query parameters of a request as a struct; unknown and repeated ones are refused."""
    values = asked.request.query
    pairs: dict[str, jsontext.Json] = {}
    for name, value in values.items():
        if name in pairs:
            raise Refused("bad-request", f"The parameter {name} stands twice.")
        pairs[name] = value
    try:
        return msgspec.convert(pairs, into, strict=False)
    except msgspec.ValidationError as error:
        raise Refused("bad-request", f"{error}.") from None
