"""A partner at the hub's HTTP door: it subscribes to webhooks, as its own technician would.

Each request has a token that the institution's key signs (docs/protocol.md). The key is the one
that its connector made when it joined.
"""

import secrets
import time
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub.demo.processes import ProcessError
from hub.demo.wishes import Filter, Wish
from schemas import jsontext, signature
from schemas.encoding import b64url, unb64url
from schemas.signature import AUTH_TYPE

_LIFETIME: Final = 60


class Claims(msgspec.Struct, frozen=True):
    """What a token says: who asks whom, when, and for what."""

    iss: str
    aud: str
    iat: int
    exp: int
    jti: str
    htm: str
    htu: str


class Subscribing(msgspec.Struct, frozen=True):
    """What a subscription is asked for with."""

    url: str
    filter: Filter
    ordered: bool


class Subscribed(msgspec.Struct, frozen=True):
    """A new subscription: the secret that signs for it alone, and the hub's public key."""

    id: str
    url: str
    secret: str
    key: str


class Tested(msgspec.Struct, frozen=True):
    """Whether an endpoint answered its challenge, and why it did not."""

    proven: bool
    error: str | None = None


class SigningKey(msgspec.Struct, frozen=True):
    """An institution's key as the directory has it; ``x`` is base64url."""

    kid: str
    member: str
    x: str

    @property
    def public(self) -> bytes:
        """The 32 bytes."""
        return unb64url(self.x)


class SigningKeys(msgspec.Struct, frozen=True):
    """Everybody's."""

    keys: list[SigningKey]


class Partner:
    """One partner, who asks with the key in a file."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, origin: str, code: str, key: Path
    ) -> None:
        """``url`` is the hub's, ``origin`` its log's; ``key`` is a private key in PEM."""
        private = load_pem_private_key(key.read_bytes(), None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ProcessError(f"{key} is not a key that signs; remove the demo's folder.")
        self._session = session
        self._url = url
        self._origin = origin
        self._code = code
        self._private = private

    async def subscribe(self, wish: Wish, url: str) -> Subscribed:
        """Subscribe to webhooks that are posted to a URL."""
        wanted = Subscribing(url, wish.filter, wish.ordered)
        answer = await self._ask("POST", "/v1/subscriptions", jsontext.encode(wanted))
        return jsontext.convert(jsontext.parse(answer), Subscribed)

    async def prove(self, subscription: Subscribed) -> None:
        """Have the hub challenge the endpoint, which knows its secret by now."""
        answer = await self._ask("POST", f"/v1/subscriptions/{subscription.id}/test", b"{}")
        tested = jsontext.convert(jsontext.parse(answer), Tested)
        if not tested.proven:
            raise ProcessError(f"The receiver of {self._code} is not proven: {tested.error}")

    async def keys(self) -> list[SigningKey]:
        """The keys that the institutions sign with."""
        answer = await self._ask("GET", "/v1/keys")
        return jsontext.convert(jsontext.parse(answer), SigningKeys).keys

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        url = self._url + path
        headers = {"Authorization": f"Bearer {self._token(method, url)}"}
        async with self._session.request(method, url, data=body, headers=headers) as response:
            answer = await response.read()
        if response.status >= 300:
            raise ProcessError(f"The hub did not do {method} {path}: {answer.decode()}")
        return answer

    def _token(self, method: str, url: str) -> str:
        """A compact JWS for this request; it counts once."""
        now, jti = int(time.time()), b64url(secrets.token_bytes(16))
        claims = Claims(self._code, self._origin, now, now + _LIFETIME, jti, method, url)
        payload = jsontext.encode(claims)
        signed = signature.sign_payload(payload, AUTH_TYPE, self._private)
        return f"{signed.protected}.{b64url(payload)}.{signed.signature}"
