"""The socket guard: posting to an endpoint that a stranger named, without harm to anything here.

The address is checked where the socket for it is made, so that it is the very one connected to:
aiohttp asks no resolver for a literal address, and a name can lead elsewhere at the next look-up.
No redirect is followed, no proxy and no password is taken from the environment, nothing is
unpacked, no cookie is kept, and no connection is used twice.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address
from typing import Final

import aiohttp
import msgspec
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver

from hub.delivery.addresses import Allowed, check_url, forbidden
from schemas.refusal import Refused

MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer's body that are read. What comes after them is not waited for."""

MAX_ERROR: Final = 300
"""Characters of a sentence about what went wrong: parts of it are the endpoint's."""

USER_AGENT: Final = "nhri-exchange"


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

    ``status`` without ``error``: the answer is whole, or ``MAX_ANSWER`` of it were read. ``error``
    is a sentence, which does not tell where inside the hub's own network a name leads.
    ``retry_after`` is the header as it came.
    """

    status: int | None = None
    retry_after: str | None = None
    excerpt: bytes = b""
    error: str | None = None


class Forbidden(OSError):
    """An address that is not to be connected to."""


class Guard:
    """Posts to endpoints. Use it as an async context manager, or ``close`` it."""

    def __init__(
        self,
        allowed: Allowed,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Look names up with the system's resolver and trust its authorities, unless given."""
        self._allowed = allowed
        self._limits = limits
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=partial(_socket, allowed),
                resolver=resolver,
                use_dns_cache=False,
                ssl=tls or True,
                force_close=True,
                limit=0,  # how much goes on at a time is the caller's to say
            ),
            timeout=aiohttp.ClientTimeout(connect=limits.connect),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> "Guard":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop what is under way."""
        await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post once, and say what came of it; raises nothing for what the endpoint does."""
        try:
            target = check_url(url, self._allowed)
        except Refused as refusal:
            return Answer(error=refusal.detail)
        try:
            async with asyncio.timeout(self._limits.connect + self._limits.head):
                response = await self._session.post(
                    target.url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                )
        except (aiohttp.ClientError, OSError) as error:
            return Answer(error=_sentence(error))
        try:
            return await self._read(response)
        finally:
            response.close()  # whatever is still to come is not read

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        excerpt, error = bytearray(), None
        try:
            async with asyncio.timeout(self._limits.body):
                while len(excerpt) < MAX_ANSWER:
                    chunk = await response.content.read(MAX_ANSWER - len(excerpt))
                    if not chunk:
                        break
                    excerpt += chunk
        except TimeoutError:
            error = f"The answer's body did not end within {self._limits.body:g} seconds."
        except (aiohttp.ClientError, OSError) as broken:
            error = _sentence(broken)
        return Answer(response.status, response.headers.get("Retry-After"), bytes(excerpt), error)


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


def _sentence(error: Exception) -> str:
    """What went wrong, for the subscription's owner."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "it is not valid")
            sentence = f"The endpoint's certificate is not accepted: {reason.rstrip('.')}."
        case aiohttp.ClientConnectorDNSError():
            sentence = "The host's name leads to no address."
        case aiohttp.ClientSSLError():
            sentence = "No secure connection came about; does the endpoint speak TLS?"
        case aiohttp.ClientConnectorError(os_error=Forbidden() as inner):
            sentence = str(inner)
        case aiohttp.ClientConnectorError():
            sentence = "The endpoint cannot be connected to."
        case TimeoutError():
            sentence = "The endpoint did not answer in time."
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
            sentence = "The endpoint cut the connection before its answer was whole."
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            sentence = "What the endpoint answered is not sound HTTP, or breaks off."
        case _:
            sentence = f"The request failed: {type(error).__name__}."
    return sentence if len(sentence) <= MAX_ERROR else f"{sentence[:MAX_ERROR]}…"
