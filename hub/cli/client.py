"""The HTTP client below every command: one request, one answer or one way of ending."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import aiohttp
import click
from yarl import URL

from hub.cli.access import Access
from hub.cli.outcome import Unreachable, refusal
from schemas import jsontext
from schemas.jsontext import Json
from schemas.refusal import Refused

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of one answer in JSON; more comes in pages."""

PATIENCE = 60
"""Seconds without a byte of an answer, after which nobody is believed to be there."""

_CONNECT_PATIENCE = 10

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Hub:
    """A running hub. ``place`` names it to a person; ``as_json`` says how answers are wanted."""

    def __init__(
        self, session: aiohttp.ClientSession, place: str, access: Access, *, as_json: bool
    ) -> None:
        self._session = session
        self.place = place
        self.access = access
        self.as_json = as_json

    async def get(
        self,
        path: str,
        query: Mapping[str, str | int | None] | None = None,
        patience: float = PATIENCE,
    ) -> Json:
        """Ask for something; members of the query that are None are left out.

        Raises:
            Unreachable: nobody answers, or not a hub.
            RefusedByHub: the hub answers with a problem document.
        """
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        return self._json(await self._bytes("GET", path, asked, None, patience))

    async def post(self, path: str, body: Json) -> Json:
        """Have something done. Raises the same as ``get``."""
        return self._json(await self._bytes("POST", path, {}, body, PATIENCE))

    async def download(self, path: str, query: Mapping[str, str | None], limit: int) -> bytes:
        """A file that the hub makes, cut after ``limit`` + 1 bytes. Raises the same as ``get``."""
        asked = {name: value for name, value in query.items() if value is not None}
        async with self._response("GET", path, asked, None, PATIENCE) as response:
            return await self._checked(response, limit)

    async def chunks(
        self, path: str, query: Mapping[str, str | None], patience: float
    ) -> AsyncGenerator[bytes, None]:
        """A file of any length, piece by piece as it comes. Raises the same as ``get``."""
        asked = {name: value for name, value in query.items() if value is not None}
        async with self._response("GET", path, asked, None, patience) as response:
            if response.status >= 300:
                await self._checked(response, MAX_ANSWER)
            async for chunk in response.content.iter_any():
                yield chunk

    async def fetch(self, path: str, limit: int) -> bytes | None:
        """A file of the log, or None where there is none.

        A longer one is cut after ``limit`` + 1 bytes, so that no hub can fill the memory here.
        Raises the same as ``get``.
        """
        async with self._response("GET", f"/log/{path}", {}, None, PATIENCE) as response:
            if response.status == 404:
                return None
            return await self._checked(response, limit)

    async def _bytes(
        self, method: str, path: str, query: Mapping[str, str | int], body: Json, patience: float
    ) -> bytes:
        async with self._response(method, path, query, body, patience) as response:
            return await self._checked(response, MAX_ANSWER)

    @contextlib.asynccontextmanager
    async def _response(
        self, method: str, path: str, query: Mapping[str, str | int], body: Json, patience: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_PATIENCE, sock_read=patience)
        try:
            # Without redirects: a token is shown to the address that was given and to no other.
            async with self._session.request(
                method, path, params=query, json=body, allow_redirects=False, timeout=timeout
            ) as response:
                yield response
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(reason, PermissionError):
            return Unreachable(f"You may not open {self.place}: run this as the hub's user.")
        text = (reason.strerror if isinstance(reason, OSError) else None) or str(reason)
        return Unreachable(
            f"Cannot reach the hub at {self.place} ({text or 'no answer in time'}): "
            "is `nhri-hub serve` running?"
        )

    async def _checked(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > limit:
                break
        if response.status < 300:
            return bytes(data[: limit + 1])
        refused = refusal(bytes(data), response.headers.get("Retry-After"))
        if response.status >= 400 and refused is not None:
            raise refused
        raise Unreachable(f"What answers at {self.place} is not a hub: status {response.status}.")

    def _json(self, data: bytes) -> Json:
        if len(data) > MAX_ANSWER:
            raise Unreachable(f"The answer of {self.place} is too long; ask for less at a time.")
        try:
            return jsontext.parse(data)
        except Refused:
            raise Unreachable(f"What answers at {self.place} is not a hub: no JSON.") from None


@contextlib.asynccontextmanager
async def connect(access: Access, *, as_json: bool) -> AsyncIterator[Hub]:
    """A client of the hub that ``access`` names; nothing is sent before the first request.

    Raises:
        UsageError: the options do not name a hub, or by an address that gives the token away.
        NotSo: the settings of the hub on this machine are wrong.
    """
    if access.hub is None:
        place = str(access.settings().socket)
        session = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(place))
    else:
        place = access.hub
        headers = {"Authorization": f"Bearer {access.token()}"}
        session = aiohttp.ClientSession(_base(place), headers=headers)
    async with session:
        yield Hub(session, place, access, as_json=as_json)


def _base(address: str) -> URL:
    try:
        url = URL(address)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise click.UsageError("--hub takes an address such as https://hub.example.org.")
    if url.scheme == "http" and url.host not in _LOOPBACK:
        raise click.UsageError("Over http:// anybody on the way could read your token: use https.")
    return url.origin()
