"""A small client of the hub: everything a participant or an operator does, over real HTTP.

It shares nothing with the connectors but ``schemas``. Keys are deterministic (``builders.key``),
and what a call decides by itself can be given another value, so that tests can lie.
"""

import asyncio
import hashlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from hub import app, certificates
from hub import settings as configuration
from hub.doors.service import Service
from hub.settings import Settings
from schemas import receipt, signature, statement
from schemas.acceptance import Acceptance, Delivery, Opened, open_acceptance
from schemas.encoding import b64url, format_time, unb64url, uuid7
from schemas.message import Message
from schemas.note import Vkey
from schemas.receipt import Receipt
from schemas.statement import Join, Keys
from tests import builders
from tests.ports import free_port

ORIGIN = "hub.example/log"


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: datetime = builders.NOW) -> None:
        self._now = now

    def __call__(self) -> datetime:
        return self._now

    def forward(self, **duration: float) -> None:
        self._now += timedelta(**duration)


class Answer:
    """An answer of the hub, whole."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> dict[str, object]:
        """The JSON object of the body."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    def __getitem__(self, name: str):
        """One member of the body's JSON object."""
        return self.json[name]

    @property
    def code(self) -> str | None:
        """The refusal's code, or None where the answer is no problem document."""
        if self.headers.get("Content-Type") != "application/problem+json":
            return None
        assert self.json["status"] == self.status
        return str(self.json["code"])

    def acceptance(self) -> Acceptance:
        """The body of an accepted submission."""
        assert self.status in {200, 201}, f"{self.status}: {self.body.decode()}"
        return msgspec.convert(self.json, Acceptance)

    def refusal(self) -> Acceptance:
        """The recorded refusal that came with a problem document."""
        return msgspec.convert(self.json["refusal"], Acceptance)

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:500]!r}>"


class Connection:
    """Requests to one hub, each with an Authorization header of the caller's making."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Answer:
        """One request and its whole answer."""
        parameters = {name: str(value) for name, value in query.items()}
        async with self.http.request(
            method, self.url + path, data=body, headers=headers, params=parameters
        ) as response:
            return Answer(response.status, response.headers, await response.read())


class Participant:
    """A connector of one code, as far as the wire shows it."""

    def __init__(
        self,
        connection: Connection,
        code: str,
        clock: Callable[[], datetime],
        seed: str | None = None,
        salt: str = "",
    ) -> None:
        """Sign with ``builders.key(seed)``; ``salt`` keeps ids of two connections apart."""
        self.connection = connection
        self.code = code
        self.clock = clock
        self.seed = seed or code
        self.private = builders.key(self.seed)
        self._random = (
            hashlib.sha256(f"{salt} {code} {number}".encode()).digest()
            for number in itertools.count()
        )

    def token(
        self, method: str, path: str, private: Ed25519PrivateKey | None = None, **lies: object
    ) -> str:
        """A token for one request; ``lies`` replace claims."""
        now = int(self.clock().timestamp())
        claims = {
            "iss": self.code,
            "aud": ORIGIN,
            "iat": now,
            "exp": now + 60,
            "jti": b64url(next(self._random)[:16]),
            "htm": method,
            "htu": f"https://hub.example{path}",
        }
        return compact(claims | lies, private or self.private)

    async def request(self, method: str, path: str, *, token: str | None = None, **rest) -> Answer:
        """A request with a fresh token, or with the one given."""
        headers = {"Authorization": f"Bearer {token or self.token(method, path)}"}
        headers |= rest.pop("headers", {})
        return await self.connection.request(method, path, headers=headers, **rest)

    async def get(self, path: str, **query) -> Answer:
        return await self.request("GET", path, **query)

    async def post(self, path: str, body: bytes, **rest) -> Answer:
        return await self.request("POST", path, body=body, **rest)

    async def submit(self, envelope: bytes, **rest: object) -> Answer:
        """``POST /v1/messages``."""
        return await self.post("/v1/messages", envelope, **rest)

    async def send(self, **overrides: object) -> Answer:
        """Submit ``builders.message`` of this sender, now."""
        return await self.submit(self.sign(self.message(**overrides)))

    def message(self, **overrides: object) -> dict[str, object]:
        """``builders.message`` of this sender, created now, with a new id."""
        return builders.message(**self.new(sender=self.code) | overrides)

    def new(self, **others: object) -> dict[str, object]:
        """A new id and the time of creation."""
        now = self.clock()
        return {"id": uuid7(now, next(self._random)[:10]), "created": format_time(now)} | others

    def sign(self, message: Mapping[str, object] | bytes) -> bytes:
        """An envelope with this participant's signature."""
        return builders.signed(message, self.private)

    async def inbox(self, after: int = 0, **query: object) -> list[tuple[int, Delivery]]:
        """Position and delivery of a page; a tombstone fails."""
        answer = await self.get("/v1/inbox", after=after, **query)
        assert answer.status == 200, answer
        return [
            (item["position"], msgspec.convert(item["delivery"], Delivery))
            for item in answer["deliveries"]
        ]

    @asynccontextmanager
    async def events(self, after: int = 0, **headers: str) -> AsyncIterator["EventStream"]:
        """``GET /v1/inbox`` as an event stream."""
        path = "/v1/inbox"
        sent = {
            "Authorization": f"Bearer {self.token('GET', path)}",
            "Accept": "text/event-stream",
        }
        async with self.connection.http.get(
            self.connection.url + path,
            headers=sent | {name.replace("_", "-"): value for name, value in headers.items()},
            params={"after": str(after)},
        ) as response:
            assert response.status == 200, await response.read()
            yield EventStream(response)

    def receipt(self, *deliveries: tuple[int, Delivery], status: str = "received") -> bytes:
        """A signed receipt for deliveries at their positions."""
        items = tuple(
            (
                sent(delivery).id,
                b64url(hashlib.sha256(b"\x00" + unb64url(delivery.entry)).digest()),
                position,
                status,
                "",
            )
            for position, delivery in deliveries
        )
        made = Receipt(self.code, format_time(self.clock()), items)  # type: ignore[arg-type]
        return receipt.sign(made, self.private)


class Event(msgspec.Struct):
    """One server-sent event."""

    id: int
    name: str
    data: dict[str, object]


class EventStream:
    """The events of an open stream, one by one; pings are passed over."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.headers = response.headers
        self._response = response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        fields: dict[str, str] = {}
        async for raw in self._response.content:
            line = raw.decode().rstrip("\r\n")
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                return Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
        raise StopAsyncIteration


class Account:
    """An operator, auditor or reader of the log; without a token, whoever the door takes it for."""

    def __init__(self, connection: Connection, token: str | None = None) -> None:
        self.connection = connection
        self.bearer = token
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def request(self, method: str, path: str, **rest) -> Answer:
        return await self.connection.request(method, path, headers=self._headers, **rest)

    async def get(self, path: str, **query: object) -> Answer:
        return await self.request("GET", path, **query)

    async def post(self, path: str, **body: object) -> Answer:
        return await self.request("POST", path, body=json.dumps(body).encode())

    async def invite(self, code: str, role: str = "member") -> dict[str, object]:
        """The bundle of a new participant."""
        answer = await self.post("/v1/members", code=code, role=role, names={"en": code.upper()})
        assert answer.status == 201, answer
        return answer.json

    async def join(
        self, participant: Participant, role: str = "member", keys: Keys | None = None
    ) -> None:
        """Invite somebody, let them join with their own keys, and approve their fingerprint."""
        bundle = await self.invite(participant.code, role)
        await self.join_with(participant, str(bundle["invitation"]), keys)

    async def join_with(
        self, participant: Participant, invitation: str, keys: Keys | None = None
    ) -> None:
        """Let somebody join with an invitation, and approve their fingerprint."""
        body = join_request(participant, invitation, keys)
        answer = await participant.connection.request("POST", "/v1/join", body=body)
        assert answer.status == 202, answer
        await self.approve(participant.code)

    async def approve(self, code: str) -> None:
        """Approve the request to join that waits."""
        waiting = await self.get(f"/v1/members/{code}/join")
        approved = await self.post(
            f"/v1/members/{code}/approve", fingerprint=waiting["fingerprint"]
        )
        assert approved.status == 200, approved

    async def token(self, account: str, *scopes: str) -> str:
        """A new access token."""
        answer = await self.post("/v1/tokens", account=account, scopes=scopes)
        assert answer.status == 201, answer
        return str(answer["token"])


class Hub:
    """A running hub, and everybody who speaks to it."""

    def __init__(
        self, settings: Settings, service: Service, http: aiohttp.ClientSession, local: Connection
    ) -> None:
        self.settings = settings
        self.service = service
        self.connection = Connection(http, settings.url)
        self.operator = Account(local)
        self._connections = itertools.count()

    @property
    def vkey(self) -> Vkey:
        """The log's key, as a bundle has it."""
        return configuration.log_vkey(self.settings)

    def participant(self, code: str, seed: str | None = None) -> Participant:
        """A connection as a participant, who may have joined or not."""
        salt = f"{self.service.instance} {next(self._connections)}"
        return Participant(self.connection, code, self.service.clock, seed, salt)

    def account(self, token: str | None = None) -> Account:
        """A connection over TCP with an access token, or anonymous."""
        return Account(self.connection, token)

    def open(self, acceptance: Acceptance) -> Opened:
        """Check an acceptance against the log's key."""
        return open_acceptance(acceptance, self.vkey)

    async def size(self) -> int:
        """The size of the log, by its own checkpoint."""
        note = (await self.operator.get("/log/checkpoint")).body.decode()
        return int(note.split("\n")[1])

    async def indexed(self) -> int:
        """Wait until searches and reports have all that is in the log now; its size."""
        size = await self.size()
        async with asyncio.timeout(90):
            while await self.service.queries.covered(size) is None:  # noqa: ASYNC110 - no bell rings
                await asyncio.sleep(0.05)
        return size


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Hub]:
    """A hub in this process, its doors open."""
    async with app.opened(settings) as service, connected(settings) as (http, local):
        yield Hub(settings, service, http, local)
        assert not service.broken.is_set(), "a part of the hub ended; see its log"


@asynccontextmanager
async def connected(
    settings: Settings,
) -> AsyncIterator[tuple[aiohttp.ClientSession, Connection]]:
    """Sessions to a hub's HTTP door and to its Unix socket."""
    socket_only = aiohttp.UnixConnector(str(settings.socket))
    timeout = aiohttp.ClientTimeout(total=90)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        aiohttp.ClientSession(connector=socket_only, timeout=timeout) as local,
    ):
        yield http, Connection(local, "http://hub")


def new_settings(folder: Path) -> Settings:
    """The settings of a new hub in a folder, on a free port."""
    path = configuration.initialise(folder, "hub.example", free_port())
    certificates.create_authority(folder, "hub.example", builders.NOW, 1)
    with path.open("a") as file:
        file.write('\n[authority]\ncertificate = "authority.pem"\nkey = "authority-key.pem"\n')
    return configuration.load(path, {})


def copied(folder: Path, into: Path) -> Settings:
    """The settings of a copy of a stopped hub's folder, on a free port."""
    shutil.copytree(folder, into)
    made = configuration.load(into / "hub.toml", {})
    return replace(made, http=replace(made.http, port=free_port()))


def compact(
    claims: Mapping[str, object] | bytes, private: Ed25519PrivateKey, **header: object
) -> str:
    """A compact JWS of type ``nhri-auth+jwt``; ``header`` replaces members."""
    protected = {
        "alg": "Ed25519",
        "kid": builders.kid(private),
        "typ": signature.AUTH_TYPE,
    } | header
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = f"{b64url(json.dumps(protected).encode())}.{b64url(payload)}"
    return f"{text}.{b64url(private.sign(text.encode()))}"


def join_request(participant: Participant, invitation: str, keys: Keys | None = None) -> bytes:
    """A join statement under a bundle's invitation."""
    made = Join(
        participant.code,
        invitation,
        keys or builders.keys(participant.seed),
        format_time(participant.clock()),
    )
    return statement.sign(made, participant.private)


def envelope(delivery: Delivery) -> bytes:
    """The envelope in a delivery, as its sender sent it."""
    return unb64url(delivery.envelope)


def sent(delivery: Delivery) -> Message:
    """The message in a delivery."""
    payload = signature.parse(envelope(delivery), signature.MESSAGE_TYPE).payload
    return msgspec.json.decode(payload, type=Message)
