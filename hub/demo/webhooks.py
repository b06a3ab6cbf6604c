"""The systems of the demo's subscribers: each takes its webhooks, and verifies every one.

They do what docs/webhooks.md tells a receiver to do, and keep what they took as it came: anybody
can verify it once more, by other means. They listen within the orchestrator's process, on
127.0.0.1 alone.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from hub.demo.partner import SigningKey, Subscribed
from hub.demo.processes import ProcessError
from hub.demo.program import free_ports
from hub.demo.wishes import READABLE, WISHES
from hub.settings import load
from schemas import cloudevent, jsontext, signature, webhook
from schemas.cloudevent import CHALLENGE
from schemas.encoding import unb64url
from schemas.refusal import Refused
from schemas.signature import MESSAGE_TYPE
from schemas.webhook import PublicKey, Secret

HOST: Final = "127.0.0.1"

PATIENCE: Final = 150
"""Seconds without a new webhook, after which what is missing will not come. A delivery that an
earlier run began and did not end is made again after two minutes."""

MAX_EVENT: Final = 2 * 1024 * 1024
"""Bytes of a body; an event is less than four times its envelope."""


class Kept(msgspec.Struct, frozen=True):
    """A webhook as it came: its headers by name in small letters, and its body."""

    headers: dict[str, str]
    body: str


class Challenge(msgspec.Struct, frozen=True):
    """What an event holds before the first message."""

    challenge: str


class Proven(msgspec.Struct, frozen=True):
    """What an event holds of a message: to be read, and as it was signed."""

    message: dict[str, object]
    envelope: str


class Arrived(msgspec.Struct, frozen=True):
    """An event, as far as a receiver needs it; ``type`` says what its data are."""

    id: str
    type: str
    data: dict[str, object]


class Trusted(msgspec.Struct, frozen=True):
    """What a receiver verifies with: its subscription's keys, and those of the institutions."""

    subscription: Subscribed
    keys: list[SigningKey]


class Receiver:
    """One subscriber's system. It keeps each post; a webhook that comes twice counts once."""

    def __init__(self, owner: str, folder: Path, port: int) -> None:
        """``folder`` is where it keeps what it took, in this and in earlier runs."""
        self.owner = owner
        self.url = f"http://{HOST}:{port}/"
        self.problems: list[str] = []
        self.taken = {path.name.partition(".")[0] for path in folder.glob("*.json")}
        self.news = asyncio.Event()
        self.trusted: Trusted | None = None
        self._folder = folder
        self._trusted_file = folder.with_suffix(".json")
        if self._trusted_file.exists():
            raw = self._trusted_file.read_bytes()
            self.trusted = msgspec.json.decode(raw, type=Trusted)

    def trust(self, trusted: Trusted) -> None:
        """Verify with these keys, also in a later run: the secret is shown once."""
        _write(self._trusted_file, msgspec.json.format(msgspec.json.encode(trusted)))
        self.trusted = trusted

    async def receive(self, request: web.Request) -> web.Response:
        """Verify the very bytes that came, keep them, and only then say that they are taken."""
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self.trusted is None:
            return web.Response(status=401)  # the first challenge comes before its secret
        try:
            event = verify(self.trusted, headers, raw, datetime.now(UTC))
        except Refused as refusal:
            self.problems.append(f"The receiver of {self.owner} refused one: {refusal.detail}")
            self.news.set()
            return web.Response(status=401)
        if event.type == CHALLENGE:
            return web.Response(text=jsontext.convert(event.data, Challenge).challenge)
        kept = Kept(headers, raw.decode())
        times = sum(1 for _ in self._folder.glob(f"{event.id}.*.json"))
        _write(self._folder / f"{event.id}.{times + 1}.json", msgspec.json.encode(kept))
        self.taken.add(event.id)
        self.news.set()
        return web.Response()


def verify(trusted: Trusted, headers: Mapping[str, str], raw: bytes, now: datetime) -> Arrived:
    """Check what it says it is, both signatures of the hub, and of a message also its sender's.

    Args:
        trusted: the secret and the key that both have to hold, and the institutions' keys.
        headers: by name in small letters.
        raw: the body as it came.
        now: the receiver's clock.

    Raises:
        Refused: it is no CloudEvent, a signature does not hold, the message is not what was signed,
            or it is marked for others.
    """
    media_type = headers.get("content-type")
    if media_type != cloudevent.MEDIA_TYPE:
        raise Refused("bad-request", f"It came as {media_type}, not as {cloudevent.MEDIA_TYPE}.")
    for text in (trusted.subscription.secret, trusted.subscription.key):
        key = webhook.parse_key(text)
        assert isinstance(key, Secret | PublicKey)
        webhook.verify([key], headers, raw, now)
    event = jsontext.decode(raw, Arrived)
    if event.id != headers[webhook.ID]:
        raise Refused("bad-signature", f"{event.id} came as {headers[webhook.ID]}.")
    if event.type == cloudevent.MESSAGE:
        _verify_message(event, {key.kid: key for key in trusted.keys})
    return event


def _verify_message(event: Arrived, keys: Mapping[str, SigningKey]) -> None:
    proven = jsontext.convert(event.data, Proven)
    message = proven.message

    def of_sender(kid: str) -> bytes:
        key = keys.get(kid)
        if key is None or key.member != message.get("sender"):
            raise Refused("unknown-key", f"{event.id} is not signed by {message.get('sender')}.")
        return key.public

    signed = signature.parse(unb64url(proven.envelope), MESSAGE_TYPE)
    signature.verify(signed, of_sender)
    if jsontext.parse(signed.payload) != message or message.get("id") != event.id:
        raise Refused("bad-signature", f"{event.id} says other things than what was signed.")
    if message.get("marking") not in READABLE:
        raise Refused("forbidden", f"{event.id} is {message.get('marking')}.")


class Receivers:
    """All of them, by owner."""

    def __init__(self, receivers: Sequence[Receiver]) -> None:
        self._receivers = {receiver.owner: receiver for receiver in receivers}

    def __getitem__(self, owner: str) -> Receiver:
        return self._receivers[owner]

    async def until(self, due: Mapping[str, Set[str]]) -> None:
        """Wait until each has taken what is due, or nothing new comes for ``PATIENCE``."""
        for owner, ids in due.items():
            receiver = self[owner]
            while not receiver.taken >= ids:
                receiver.news.clear()
                try:
                    await asyncio.wait_for(receiver.news.wait(), PATIENCE)
                except TimeoutError:
                    return

    def missing(self, due: Mapping[str, Set[str]]) -> Iterator[str]:
        """What fell short, a sentence each."""
        for owner, ids in due.items():
            receiver = self[owner]
            yield from receiver.problems
            for name in sorted(ids - receiver.taken):
                yield f"{owner} was not sent {name} by webhook."
            for name in sorted(receiver.taken - ids):
                yield f"{owner} was sent {name} by webhook, which it did not ask for."

    def summary(self, due: Mapping[str, Set[str]]) -> str:
        """The last word, for programs: how many were verified of those that were due."""
        verified = sum(len(ids & self[owner].taken) for owner, ids in due.items())
        return f"webhooks={verified}/{sum(map(len, due.values()))}"


def allow(settings: Path) -> None:
    """Let a new hub send webhooks to the receivers, at ports that are free now, and nowhere else.

    Raises:
        ProcessError: there are no free ports.
    """
    table = f'\n[webhooks]\nhosts = ["{HOST}"]\nnetworks = ["{HOST}/32"]\n'
    with settings.open("a", encoding="utf-8") as file:
        file.write(f"{table}ports = {free_ports(len(WISHES))}\n")


@asynccontextmanager
async def listening(settings: Path, folder: Path) -> AsyncIterator[Receivers]:
    """The receivers, at the ports that the hub's settings allow; what they take is in ``folder``.

    Raises:
        ProcessError: somebody else has one of the ports.
    """
    ports = load(settings, {}).webhooks.ports
    made = []
    async with AsyncExitStack() as stack:
        for wish, port in zip(WISHES, ports, strict=True):
            (folder / wish.owner).mkdir(mode=0o700, exist_ok=True)
            receiver = Receiver(wish.owner, folder / wish.owner, port)
            await stack.enter_async_context(_served(receiver, port))
            made.append(receiver)
        yield Receivers(made)


@asynccontextmanager
async def _served(receiver: Receiver, port: int) -> AsyncIterator[None]:
    application = web.Application(client_max_size=MAX_EVENT)
    application.router.add_post("/", receiver.receive)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            raise ProcessError(
                f"The receiver of {receiver.owner} cannot have port {port} ({error.strerror}); "
                "end what listens there, or choose another folder."
            ) from None
        yield
    finally:
        await runner.cleanup()


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; only its owner can read it."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as draft:
        draft.write(data)
    Path(draft.name).replace(path)
