"""An institution with a real connector: its own keys, settings, outbox and store in a folder."""

import asyncio
import io
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from connectors import config as configs
from connectors import daemon, joined, keys
from connectors.daemon import Pace
from connectors.events import Events
from connectors.joined import Join
from connectors.link.http import HttpLink
from connectors.outbox import Outbox
from connectors.store import Reader, StoreError
from connectors.tables import Sent
from schemas.encoding import b64url, format_time, uuid7
from schemas.note import Vkey
from tests import builders
from tests.simulator.hub import SimulatedHub
from tests.simulator.waiting import until

T = TypeVar("T")

FAST = Pace(
    outbox=0.02,
    wait=2,
    idle=0.01,
    log=0.05,
    witness=0.05,
    tail=0.05,
    watch=0.05,
    mail=0.05,
    first=0.02,
    longest=0.2,
)
"""The daemon in a hurry; what it waits for is still awaited, never assumed."""


class Log(io.StringIO):
    """The daemon's lines as events."""

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def of(self, name: str) -> list[dict[str, object]]:
        return [event for event in self.events if event["event"] == name]


class Institution:
    """One institution. ``folder`` holds its settings and its state, as ``join`` leaves them."""

    def __init__(self, code: str, folder: Path, url: str, log: Vkey) -> None:
        self.code = code
        self.path = folder / f"{code}.toml"
        self.path.write_text(configs.template(code, url, str(log)))
        self.config = configs.load(self.path, {})
        self.keyring = keys.make(self.config.keys)
        self.outbox = Outbox(self.config.outbox)
        self.log = Log()

    async def join(self, invitation: str) -> str:
        """Ask to join, as the command does; gives the fingerprint that the hub shows."""
        time = format_time(datetime.now(UTC))
        stated = keys.join_statement(self.keyring, self.code, invitation, time)
        link = HttpLink(self.config.hub.url, None)
        try:
            pending = await link.join(stated)
        finally:
            await link.close()
        asked = Join(invitation, b64url(stated), pending.fingerprint, time)
        joined.add(self.config.joined, self.code, asked)
        return pending.fingerprint

    @asynccontextmanager
    async def running(
        self,
        pace: Pace = FAST,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> AsyncIterator[asyncio.Task[None]]:
        """The daemon at work, in this process."""
        stop = asyncio.Event()
        events = Events(self.code, self.log)
        run = daemon.run(self.config, stop, events, pace=pace, clock=clock, chance=lambda: 0.5)
        task = asyncio.ensure_future(run)
        try:
            yield task
        finally:
            stop.set()
            await task

    def compose(self, **overrides: object) -> tuple[str, bytes]:
        """A signed message, by default a bulletin to the region: its id and its envelope."""
        now = datetime.now(UTC)
        made = builders.message(
            **{
                "id": uuid7(now, secrets.token_bytes(10)),
                "sender": self.code,
                "created": format_time(now),
            }
            | overrides
        )
        return str(made["id"]), builders.signed(made, self.keyring.sign)

    def send(self, **overrides: object) -> str:
        """Put a message into the outbox, as the command ``send`` does."""
        message_id, envelope = self.compose(**overrides)
        self.outbox.put(envelope, message_id)
        return message_id

    def ask(self, question: Callable[[Reader], T]) -> T:
        """Look into the store, as the commands do."""
        with Reader.open(self.config.store) as reader:
            return question(reader)

    def alarms(self) -> set[tuple[str, str]]:
        """What the store has raised and is not over: kind and subject."""
        return self.ask(lambda store: {(a.kind, a.subject) for a in store.alarms()})

    def alarm_kinds(self) -> set[str]:
        """The kinds of what was raised, without the notices."""
        return {kind for kind, _ in self.alarms() if kind != "directory-changed"}

    def has(self, message_id: str) -> bool:
        """Whether the reader of the inbox sees a message."""
        return self.ask(lambda store: store.valid(message_id)) is not None

    def sent(self, message_id: str) -> Sent:
        """A message of ours, as the store has it."""
        found = self.ask(lambda store: store.sent(message_id))
        assert found is not None
        return found

    async def taken(self, message_id: str) -> None:
        """Wait until the daemon has taken a message from the outbox into the store."""
        await until(
            lambda: self.started and self.ask(lambda store: store.sent(message_id)),
            f"{self.code} {message_id}",
        )

    def receipts(self, message_id: str) -> dict[str, str]:
        """Who owes or gave a receipt, and how it stands."""
        found = self.ask(lambda store: store.expected(message_id))
        return {expected.recipient: expected.state for expected in found}

    async def sees(self, *wanted: str) -> None:
        """Wait until all these messages are in the inbox."""
        await until(lambda: self.started and all(map(self.has, wanted)), f"{self.code} {wanted}")

    async def alarmed(self, kind: str) -> None:
        """Wait for an alarm."""
        await until(lambda: self.started and kind in self.alarm_kinds(), f"{self.code} {kind}")

    async def settled(self, message_id: str) -> None:
        """Wait until a message of ours has its answer and every receipt."""
        await until(
            lambda: (
                self.started
                and self.receipts(message_id)
                and "waiting" not in self.receipts(message_id).values()
            ),
            f"{self.code} {message_id}",
        )

    @property
    def started(self) -> bool:
        """Whether there is a store to look into."""
        try:
            Reader.open(self.config.store).close()
        except StoreError:
            return False
        return True


@asynccontextmanager
async def exchange(*codes: str) -> AsyncIterator[tuple[SimulatedHub, dict[str, Institution]]]:
    """A hub and institutions that have joined it; their daemons do not run yet."""
    hub = SimulatedHub()
    await hub.start()
    with tempfile.TemporaryDirectory() as folder:
        institutions = {}
        for code in codes:
            await hub.open_door(code)
            role = "partner" if code in ("undp", "ohchr") else "member"
            made = institutions[code] = Institution(code, Path(folder), hub.url(code), hub.log)
            await made.join(hub.invite(code, role))
            hub.approve(code)
        try:
            yield hub, institutions
        finally:
            await hub.stop()
