"""The socket guard: posting to an endpoint that a stranger named, without harm to anything here.

The address is checked where the socket for it is made, so that it is the very one connected to: a
name can lead elsewhere at the next look-up. A connection stays with the address that was checked
for it, and is used again for the same scheme, host and port for a short time (``IDLE``, ``AGE``).
One whose answer was not read to a sound end is closed.

The guard speaks HTTP itself. It has no code that would follow a redirect, ask a proxy, send a
password or a cookie, or unpack what it is sent.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Final, TypeAlias, cast
from urllib.parse import urlsplit

import msgspec
from aiohappyeyeballs import AddrInfoType, start_connection

from hub.delivery.addresses import Allowed, check_url, forbidden
from hub.delivery.names import Names
from hub.delivery.response import Response, Unsound
from schemas.refusal import Refused

MAX_ERROR: Final = 300
"""Characters of a sentence about what went wrong: parts of it are the endpoint's."""

USER_AGENT: Final = "nhri-exchange"

IDLE: Final = 15.0
"""Seconds for which a connection is kept that nothing is posted on."""

AGE: Final = 60.0
"""Seconds after which a connection is not kept any more: its name may lead elsewhere by then."""

MAX_KEPT: Final = 512
"""Connections that are kept while nothing is posted on them, to all endpoints together."""

_HAPPY_EYEBALLS: Final = 0.25
"""Seconds until the next address of a name is tried beside the one before it (RFC 8305 §5)."""


class Limits(msgspec.Struct, frozen=True):
    """Seconds for each part of an attempt, however slowly something of it still comes.

    ``connect``: from the look-up to a secured connection. ``head``: from there to the end of the
    answer's head. ``body``: from there to the end of its body.
    """

    connect: float = 10.0
    head: float = 20.0
    body: float = 10.0


class Answer(msgspec.Struct, frozen=True):
    """What an endpoint did. ``excerpt`` is shown to nobody but the subscription's owner.

    ``status`` without ``error``: the answer is whole, or as much of it was read as is wanted.
    ``error`` is a sentence, which does not tell where inside the hub's own network a name leads.
    ``retry_after`` is the header as it came.
    """

    status: int | None = None
    retry_after: str | None = None
    excerpt: bytes = b""
    error: str | None = None


class Forbidden(OSError):
    """An address that is not to be connected to."""


_IN_TIME: Final = "The endpoint did not answer in time."
_CUT: Final = "The endpoint cut the connection before its answer was whole."
_UNSOUND: Final = "What the endpoint answered is not sound HTTP, or breaks off."

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[AddrInfoType]]]
"""Looks a host and port up; raises ``socket.gaierror`` where they lead nowhere."""


class Place(msgspec.Struct, frozen=True):
    """Where a connection leads; what another one for the same place may be used for."""

    secure: bool
    host: str
    port: int


class Guard:
    """Posts to endpoints. Use it as an async context manager, or ``close`` it."""

    def __init__(
        self,
        allowed: Allowed,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Look names up with the system's resolver and trust its authorities, unless given.

        ``kept`` is how many connections wait to be used again.
        """
        self._allowed = allowed
        self._limits = limits
        self._names = Names()
        self._resolve = resolve or self._names
        self._tls = tls or ssl.create_default_context()
        self._target = lru_cache(1024)(partial(_target, allowed))
        self._open: set[_Connection] = set()
        self._there: dict[Place, list[_Connection]] = {}
        self.kept = 0

    async def __aenter__(self) -> "Guard":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop what is under way, and what is kept."""
        self._names.close()
        for connection in tuple(self._open):
            connection.transport.abort()
        await asyncio.sleep(0)  # the loop closes the sockets

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post once, and say what came of it; raises nothing for what the endpoint does.

        Where a kept connection ends before anything is answered on it, the endpoint was about to
        close it: the same post is made again at once, on a new one.
        """
        try:
            place, begin = self._target(url)
        except Refused as refusal:
            return Answer(error=refusal.detail)
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"{begin}{fields}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body
        kept = self._take(place)
        if kept is not None:
            answer = await self._exchange(kept, request)
            if not kept.went_stale:
                return answer
        try:
            async with asyncio.timeout(self._limits.connect):
                fresh = await self._connect(place)
        except OSError as error:
            return Answer(error=_sentence(error))
        return await self._exchange(fresh, request)

    async def _exchange(self, connection: "_Connection", request: bytes) -> Answer:
        try:
            answer = await connection.exchange(request, self._limits)
        except BaseException:
            connection.transport.abort()
            raise
        if connection.is_reusable and self.kept < MAX_KEPT:
            self._keep(connection)
        else:
            connection.transport.abort()  # whatever is still to come is not read
        return answer

    def _keep(self, connection: "_Connection") -> None:
        self.kept += 1
        self._there.setdefault(connection.place, []).append(connection)
        loop = asyncio.get_running_loop()
        connection.ending = loop.call_later(IDLE, connection.transport.abort)

    def _take(self, place: Place) -> "_Connection | None":
        """The connection to a place that was used last."""
        there = self._there.get(place)
        if not there:
            return None
        connection = there[-1]
        self._forget(connection)
        return connection

    def _forget(self, connection: "_Connection") -> None:
        """It is kept no longer: it is used, or was lost."""
        there = self._there.get(connection.place, [])
        if connection not in there:
            return
        there.remove(connection)
        if not there:
            del self._there[connection.place]
        self.kept -= 1
        if connection.ending is not None:
            connection.ending.cancel()

    def _lost(self, connection: "_Connection") -> None:
        self._open.discard(connection)
        self._forget(connection)

    async def _connect(self, place: Place) -> "_Connection":
        """A connection to one of the addresses that a name leads to; what it raises is OSError."""
        found = await self._resolve(place.host, place.port)
        connected = await start_connection(
            found,
            happy_eyeballs_delay=_HAPPY_EYEBALLS,
            interleave=1,
            socket_factory=partial(_socket, self._allowed),
        )
        loop = asyncio.get_running_loop()
        try:
            plain, connection = await loop.create_connection(
                lambda: _Connection(place, self._lost), sock=connected
            )
        except BaseException:
            connected.close()
            raise
        try:
            if place.secure:
                secured = await loop.start_tls(
                    plain, connection, self._tls, server_hostname=place.host
                )
                if secured is None:
                    raise ConnectionResetError  # lost as soon as it was secured
                connection.transport = secured
        except BaseException:
            plain.abort()
            raise
        if not connection.is_lost:
            self._open.add(connection)
        return connection


class _Connection(asyncio.Protocol):
    """A connection to a checked address, and one exchange at a time on it."""

    transport: asyncio.Transport
    plain: asyncio.Transport
    """What is below TLS: only there is seen what of a request has not left yet."""

    def __init__(self, place: Place, lost: Callable[["_Connection"], None]) -> None:
        self.place = place
        self.ending: asyncio.TimerHandle | None = None
        self._lost = lost
        self.is_lost = False
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self._exchanges = 0
        self._response = Response()
        self._waiting: asyncio.Future[str | None] | None = None
        self._limits = Limits()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow."""
        return (
            self._response.reusable
            and not self.is_lost
            and not self.plain.get_write_buffer_size()
            and not self.transport.get_write_buffer_size()
            and self._loop.time() < self._born + AGE
        )

    @property
    def went_stale(self) -> bool:
        """Whether it was lost before anything was answered to a later request than its first."""
        return self.is_lost and self._exchanges > 1 and not self._response.begun

    async def exchange(self, request: bytes, limits: Limits) -> Answer:
        """Send a request and read what is answered to it, within the limits."""
        self._exchanges += 1
        self._response, self._limits = Response(), limits
        self._waiting = self._loop.create_future()
        self._timer = self._loop.call_later(limits.head, self._end, _IN_TIME)
        if self.is_lost:
            self._end(_CUT)
        else:
            self.transport.write(request)
        try:
            error = await self._waiting
        finally:
            self._timer.cancel()
            self._waiting = None
        said = self._response
        return Answer(said.status, said.retry_after, bytes(said.body), error)

    def _end(self, error: str | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self.plain = cast("asyncio.Transport", transport)  # uvloop's by name not

    def data_received(self, data: bytes) -> None:
        response = self._response
        if self._waiting is None or self._waiting.done():
            self.transport.abort()  # nobody asked
            return
        began = response.status is not None
        try:
            response.feed(data)
        except Unsound:
            self._end(_UNSOUND)
            return
        if response.whole:
            self._end(None)
        elif not began and response.status is not None and self._timer is not None:
            self._timer.cancel()
            sentence = f"The answer's body did not end within {self._limits.body:g} seconds."
            self._timer = self._loop.call_later(self._limits.body, self._end, sentence)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._lost(self)
        if exc is None and self._response.ends_with_connection:
            self._end(None)
        else:
            self._end(_CUT if self._response.status is None else _UNSOUND)


def _target(allowed: Allowed, url: str) -> tuple[Place, str]:
    """Where a URL leads, and how each request to it begins.

    Raises:
        Refused: it is not to be posted to.
    """
    target = check_url(url, allowed)
    parts = urlsplit(target.url)
    secure = parts.scheme == "https"
    path = f"/{target.url.split('/', 3)[3]}"
    begin = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: {USER_AGENT}\r\n"
        "Accept: */*\r\nAccept-Encoding: identity\r\n"
    )
    return Place(secure, target.host, parts.port or (443 if secure else 80)), begin


def _socket(allowed: Allowed, info: AddrInfoType) -> socket.socket:
    """The socket for one address that a name leads to; there may be others, which come next.

    Raises:
        Forbidden: the address is none to be connected to.
    """
    family, kind, protocol, _, sockaddr = info
    # What is no plain address here would be looked up again, and be another then.
    with contextlib.suppress(ValueError):
        if forbidden(ip_address(str(sockaddr[0])), allowed) is None:
            return socket.socket(family, kind, protocol)
    raise Forbidden("The host leads to an address that webhooks do not go to.")


def _sentence(error: OSError) -> str:
    """Why no connection came about, for the subscription's owner."""
    match error:
        case ssl.SSLCertVerificationError():
            reason = error.verify_message or "it is not valid"
            sentence = f"The endpoint's certificate is not accepted: {reason.rstrip('.')}."
        case socket.gaierror():
            sentence = "The host's name leads to no address."
        case ssl.SSLError():
            sentence = "No secure connection came about; does the endpoint speak TLS?"
        case Forbidden():
            sentence = str(error)
        case TimeoutError():
            sentence = _IN_TIME
        case _:
            sentence = "The endpoint cannot be connected to."
    return sentence if len(sentence) <= MAX_ERROR else f"{sentence[:MAX_ERROR]}…"
