"""The link over HTTP (docs/protocol.md): aiohttp, and a JWT that the institution signs itself."""

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors.link import HubRefused, InboxPage, Pending, ReceiptPage, Unreachable
from connectors.shown import shown
from schemas import jsontext, merkle, signature
from schemas.acceptance import Acceptance
from schemas.encoding import b64url
from schemas.refusal import Refused
from schemas.signature import AUTH_TYPE, ProtectedHeader
from schemas.tail import Extended, Filled, Parts, Piece, Wanted

JOSE: Final = "application/jose+json"
PROBLEM: Final = "application/problem+json"

MAX_ANSWER: Final = 17 * 1024 * 1024
"""Bytes. The largest answer there can be is a full entry bundle: 256 entries of 65,535 bytes."""

TIMEOUT: Final = 30.0
"""Seconds until something comes, beyond the time that the hub was asked to wait."""

LONGEST: Final = 900.0
"""Seconds for all of an answer. A page of the largest messages comes within it over a line of 30
kbit/s; a hub that gives a byte now and then holds nobody for ever."""

_ENDPOINT: Final = 60.0
"""Seconds that the hub may need to hear what an endpoint makes of a challenge."""

_LIFETIME: Final = 60
_EARLY: Final = 5  # the ``Date`` header has whole seconds: never be ahead of the hub's clock
_MAX_RETRY_AFTER: Final = 3600.0

FARTHEST: Final = timedelta(days=36_525)
"""A ``Date`` that is farther from our clock is no clock's: to add so much to a time may fail. A
machine whose own clock began anew in 1970 has to learn it all the same."""

Answer = TypeVar("Answer")


class Identity(msgspec.Struct, frozen=True):
    """Who asks: the code, the signing key, and the origin of the log that the tokens are for."""

    code: str
    sign: Ed25519PrivateKey
    audience: str


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457) of the hub."""

    code: str
    detail: str = ""
    title: str = ""
    retryable: bool = False
    refusal: Acceptance | None = None
    path: str | None = None


class Issued(msgspec.Struct, frozen=True):
    """A client certificate in PEM that the hub's authority signed."""

    certificate: str


class Webhook(msgspec.Struct, frozen=True):
    """A webhook subscription of ours, and how its endpoint stands."""

    id: str
    state: str
    failing_since: str | None = None


class _Subscriptions(msgspec.Struct, frozen=True):
    subscriptions: tuple[Webhook, ...]


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    aud: str
    iat: int
    exp: int
    jti: str
    htm: str
    htu: str


class _Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    query: Mapping[str, str]
    body: bytes | None
    wait: float
    anonymous: bool
    headers: Mapping[str, str]


class _Reply(msgspec.Struct, frozen=True):
    status: int
    media_type: str
    retry_after: str
    body: bytes


def token(who: Identity, method: str, url: str, now: datetime, jti: str) -> str:
    """A token for one request: compact JWS of type ``nhri-auth+jwt``, good for 60 seconds."""
    issued = int(now.timestamp()) - _EARLY
    kid = signature.thumbprint(who.sign.public_key().public_bytes_raw())
    header = jsontext.encode(ProtectedHeader("Ed25519", kid, AUTH_TYPE))
    claims = _Claims(who.code, who.audience, issued, issued + _LIFETIME, jti, method, url)
    signed = f"{b64url(header)}.{b64url(jsontext.encode(claims))}"
    return f"{signed}.{b64url(who.sign.sign(signed.encode('ascii')))}"


class HttpLink:
    """A link to the hub at a URL. Without ``who`` only what is for anyone can be asked.

    Its clock may be wrong: ``offset`` is how far the hub's is ahead, learnt from its answers.
    """

    def __init__(
        self,
        url: str,
        who: Identity | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._url = url.rstrip("/")
        self._who = who
        self._clock = clock
        self._randomness = randomness
        self._session: aiohttp.ClientSession | None = None
        self.offset = timedelta()

    async def join(self, statement: bytes) -> Pending:
        """``POST /v1/join``; nobody need be known to the hub for it."""
        reply = await self._ask("POST", "/v1/join", body=statement, anonymous=True)
        return _typed(reply, Pending)

    async def state_keys(self, statement: bytes) -> None:
        """``POST /v1/keys``: a signed ``rotate`` or ``revoke`` statement about our own keys."""
        await self._ask("POST", "/v1/keys", body=statement)

    async def submit(self, envelope: bytes, traceparent: str | None = None) -> Acceptance:
        """``POST /v1/messages``."""
        named = {} if traceparent is None else {"traceparent": traceparent}
        reply = await self._ask("POST", "/v1/messages", body=envelope, headers=named)
        return _typed(reply, Acceptance)

    async def inbox(self, after: int, limit: int, wait: float) -> InboxPage:
        """``GET /v1/inbox``."""
        return _typed(await self._poll("/v1/inbox", after, limit, wait), InboxPage)

    async def send_receipt(self, receipt: bytes) -> Acceptance:
        """``POST /v1/receipts``."""
        return _typed(await self._ask("POST", "/v1/receipts", body=receipt), Acceptance)

    async def receipts(self, after: int, limit: int, wait: float) -> ReceiptPage:
        """``GET /v1/receipts``."""
        return _typed(await self._poll("/v1/receipts", after, limit, wait), ReceiptPage)

    async def checkpoint(self) -> bytes:
        """``GET /log/checkpoint``."""
        return await self._ask("GET", "/log/checkpoint", anonymous=True)

    async def entries(self, n: int, width: int) -> bytes:
        """``GET /log/tile/entries/<n>``."""
        return await self._ask("GET", f"/log/{merkle.tile_path('entries', n, width)}")

    async def certificate(self) -> Issued:
        """``GET /v1/certificate``: our newest client certificate."""
        return _typed(await self._ask("GET", "/v1/certificate"), Issued)

    async def new_certificate(self, request: str) -> Issued:
        """``POST /v1/certificate``: a new client certificate for a PKCS#10 request (PEM)."""
        reply = await self._ask("POST", "/v1/certificate", body=request.encode("ascii"))
        return _typed(reply, Issued)

    async def webhooks(self) -> tuple[Webhook, ...]:
        """``GET /v1/subscriptions``: our own webhook subscriptions."""
        return _typed(await self._ask("GET", "/v1/subscriptions"), _Subscriptions).subscriptions

    async def ask_webhooks(self, path: str, body: bytes | None) -> bytes:
        """``GET`` something of our webhook subscriptions, or ``POST`` a body about one.

        The hub may have to ask its endpoint before it answers.
        """
        method = "GET" if body is None else "POST"
        return await self._ask(method, path, body=body, wait=_ENDPOINT)

    async def witness_request(self, old: int) -> bytes:
        """``GET /v1/witness/request``."""
        return await self._ask("GET", "/v1/witness/request", query={"old": str(old)})

    async def witness_response(self, note: bytes) -> None:
        """``POST /v1/witness/response``."""
        await self._ask("POST", "/v1/witness/response", body=note)

    async def tail_wanted(self, size: int) -> Wanted:
        """``GET /v1/witness/tail``."""
        reply = await self._ask("GET", "/v1/witness/tail", query={"size": str(size)})
        return _typed(reply, Wanted)

    async def extend_tail(self, piece: Piece) -> int:
        """``POST /v1/witness/tail``."""
        reply = await self._ask("POST", "/v1/witness/tail", body=jsontext.encode(piece))
        return _typed(reply, Extended).size

    async def fill_tail(self, parts: Parts) -> int:
        """``POST /v1/witness/parts``."""
        reply = await self._ask("POST", "/v1/witness/parts", body=jsontext.encode(parts))
        return _typed(reply, Filled).taken

    def token(self, method: str, path: str) -> str:
        """A token of ours for one request, by the hub's clock as far as it is known."""
        assert self._who is not None
        jti = b64url(self._randomness(16))
        return token(self._who, method, self._url + path, self._clock() + self.offset, jti)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _poll(self, path: str, after: int, limit: int, wait: float) -> bytes:
        query = {"after": str(after), "limit": str(limit), "wait": str(int(wait))}
        return await self._ask("GET", path, query=query, wait=wait)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        wait: float = 0,
        anonymous: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        request = _Request(method, path, query or {}, body, wait, anonymous, headers or {})
        offset = self.offset
        reply = await self._send(request)
        if reply.status == 401 and abs(self.offset - offset) > timedelta(seconds=1):
            # The token was of another hour than the hub's, which this very answer told us.
            reply = await self._send(request)
        if 200 <= reply.status < 300:
            return reply.body
        raise _refusal(reply)

    async def _send(self, request: _Request) -> _Reply:
        try:
            # No redirects: a token and a message are for this hub and nobody else.
            async with self._open().request(
                request.method,
                self._url + request.path,
                params=request.query,
                data=request.body,
                headers=self._headers(request),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=LONGEST, connect=TIMEOUT, sock_read=request.wait + TIMEOUT
                ),
            ) as response:
                self._learn(response.headers.get("Date"))
                body = await _read(response)
                retry_after = response.headers.get("Retry-After", "")
                return _Reply(response.status, response.content_type, retry_after, body)
        except TimeoutError:
            raise Unreachable(f"{self._url} did not answer in time.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{self._url} cannot be reached: {error}.") from None

    def _headers(self, request: _Request) -> dict[str, str]:
        headers = {"Accept": "application/json, */*;q=0.5", **request.headers}
        if request.body is not None:
            headers["Content-Type"] = JOSE
        if self._who is not None and not request.anonymous:
            headers["Authorization"] = f"Bearer {self.token(request.method, request.path)}"
        return headers

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session

    def _learn(self, date: str | None) -> None:
        try:
            said = parsedate_to_datetime(date or "")
        except (ValueError, OverflowError):  # figures of any length are read as numbers
            return
        if said.tzinfo is None:
            return
        offset = said - self._clock()
        if abs(offset) <= FARTHEST:
            self.offset = offset


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts = bytearray()
    async for part in response.content.iter_chunked(64 * 1024):
        parts += part
        if len(parts) > MAX_ANSWER:
            raise Unreachable("The answer is larger than any that the hub can give.")
    return bytes(parts)


def _typed(body: bytes, into: type[Answer]) -> Answer:
    try:
        return jsontext.decode(body, into)
    except Refused as refusal:
        raise Unreachable(f"The answer is not one of the hub's: {refusal}") from None


def _refusal(reply: _Reply) -> Unreachable | HubRefused:
    if reply.media_type != PROBLEM:
        return Unreachable(f"What answered is not the hub: HTTP status {reply.status}, no problem.")
    try:
        problem = jsontext.decode(reply.body, Problem)
    except Refused as refusal:
        return Unreachable(f"The refusal is not one of the hub's: {refusal}")
    retry_after = float(reply.retry_after) if reply.retry_after.isdecimal() else None
    return HubRefused(
        shown(problem.code),
        shown(problem.detail or problem.title),
        retryable=problem.retryable,
        retry_after=None if retry_after is None else min(retry_after, _MAX_RETRY_AFTER),
        refusal=problem.refusal,
        path=None if problem.path is None else shown(problem.path),
    )
