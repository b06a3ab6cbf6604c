"""Load: signed messages of six members, posted over many connections, and what it took."""

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeAlias

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hub.settings import Settings
from schemas import jsontext, signature, statement
from schemas.encoding import b64url, format_time, uuid7
from schemas.statement import Join, Keys

MEMBERS = ("kz", "kg", "tj", "tm", "uz", "uz-nhrc")

CONNECTIONS = 64

KeyRing: TypeAlias = dict[str, Ed25519PrivateKey]


class Figures(msgspec.Struct, frozen=True):
    """Requests a second, and latencies in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float


class Operator:
    """Whoever speaks to a hub through its socket."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http

    async def invite(self, code: str) -> str:
        """The secret of an invitation to a new member."""
        invite = {"code": code, "role": "member", "names": {"en": code}}
        async with self._http.post("http://hub/v1/members", json=invite) as response:
            return str((await response.json())["invitation"])

    async def approve(self, code: str, fingerprint: str) -> None:
        """Let a member in whose fingerprint is this."""
        url, approval = f"http://hub/v1/members/{code}/approve", {"fingerprint": fingerprint}
        async with self._http.post(url, json=approval) as response:
            response.raise_for_status()


@contextlib.asynccontextmanager
async def operator(settings: Settings) -> AsyncIterator[Operator]:
    """An operator of a hub that runs."""
    local = aiohttp.UnixConnector(str(settings.socket))
    async with aiohttp.ClientSession(connector=local) as http:
        yield Operator(http)


async def join_members(settings: Settings) -> KeyRing:
    """Invite, join and approve the six members; gives their signing keys."""
    async with operator(settings) as local, aiohttp.ClientSession() as http:
        return {code: await _join(local, http, settings.url, code) for code in MEMBERS}


async def _join(
    local: Operator, http: aiohttp.ClientSession, url: str, code: str
) -> Ed25519PrivateKey:
    private = Ed25519PrivateKey.generate()
    keys = Keys(
        signature.jwk(private.public_key().public_bytes_raw()),
        signature.jwk(Ed25519PrivateKey.generate().public_key().public_bytes_raw()),
        signature.jwk(X25519PrivateKey.generate().public_key().public_bytes_raw(), "X25519"),
    )
    joining = Join(code, await local.invite(code), keys, format_time(datetime.now(UTC)))
    async with http.post(f"{url}/v1/join", data=statement.sign(joining, private)) as response:
        asked = await response.json()
    await local.approve(code, asked["fingerprint"])
    return private


def messages(keys: KeyRing, count: int) -> Iterator[tuple[str, bytes]]:
    """So many signed bulletins of about 2 kB to the region, by all members in turn."""
    for code in itertools.islice(itertools.cycle(keys), count):
        now = datetime.now(UTC)
        payload = {
            "id": uuid7(now, secrets.token_bytes(10)),
            "kind": "activity_bulletin.v1",
            "sender": code,
            "created": format_time(now),
            "audience": ["region"],
            "marking": "TLP:GREEN",
            "texts": {"en": {"title": "Bulletin", "summary": "s" * 200, "body": "b" * 900}},
            "themes": ["places_of_detention"],
            "sdgs": [16],
            "content": {"activity": "report"},
        }
        yield code, signature.sign(jsontext.encode(payload), signature.MESSAGE_TYPE, keys[code])


def token(private: Ed25519PrivateKey, code: str, origin: str, path: str) -> str:
    """An authentication token for one POST."""
    now = int(time.time())
    kid = signature.thumbprint(private.public_key().public_bytes_raw())
    header = {"alg": "Ed25519", "kid": kid, "typ": signature.AUTH_TYPE}
    claims = {
        "iss": code,
        "aud": origin,
        "iat": now,
        "exp": now + 60,
        "jti": secrets.token_urlsafe(16),
        "htm": "POST",
        "htu": f"https://hub{path}",
    }
    signed = f"{b64url(jsontext.encode(header))}.{b64url(jsontext.encode(claims))}"
    return f"{signed}.{b64url(private.sign(signed.encode()))}"


async def post_all(url: str, requests: Iterable[tuple[bytes, str]]) -> Figures:
    """Post every request over ``CONNECTIONS`` connections at once; each must be answered 201."""
    waiting = iter(requests)
    latencies: list[float] = []
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as http:

        async def work() -> None:
            for body, authorization in waiting:
                started = time.perf_counter()
                headers = {"Authorization": f"Bearer {authorization}"}
                async with http.post(url, data=body, headers=headers) as response:
                    answer = await response.read()
                    if response.status != 201:
                        raise RuntimeError(answer.decode())
                latencies.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
        taken = time.perf_counter() - started
    return Figures(len(latencies) / taken, *percentiles_ms(latencies))


def percentiles_ms(latencies: Iterable[float]) -> tuple[float, float]:
    """The 50th and the 99th of a hundred, in milliseconds, of latencies in seconds."""
    ranked = sorted(latencies)
    count = len(ranked)
    return 1e3 * ranked[count // 2], 1e3 * ranked[min(count - 1, count * 99 // 100)]
