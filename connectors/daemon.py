"""The connector's daemon: a handful of workers, each at its own pace, on one store and one link.

A worker's ``step`` does one round of its work and may fail with anything that time can heal; then
it is tried again, later and later, for as many days as it takes. Whatever happens, what was done is
in the store, and what was not is found there again: the workers' own modules say at each commit
what a crash means.
"""

import asyncio
import random
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import uvloop

from connectors import (
    acknowledged,
    certificate,
    joined,
    keys,
    letter,
    metrics,
    monitor,
    profile,
    sdnotify,
)
from connectors import config as configs
from connectors.alarms import Finding
from connectors.certificate import CertificateError, Renewal
from connectors.config import Config, ConfigError
from connectors.events import Events
from connectors.follower import Follower
from connectors.joined import JoinedError
from connectors.keys import Keyring, KeysError
from connectors.link import HubRefused, Link, LinkError
from connectors.link.http import HttpLink, Identity
from connectors.monitor import Own
from connectors.outbox import Outbox
from connectors.parts import Parts
from connectors.receipts import Answers, Receipts
from connectors.receiver import Receiver
from connectors.sender import Sender
from connectors.store import Store, StoreError
from connectors.tail import Tail
from connectors.webhooks import Webhooks
from connectors.witness import Witness
from schemas import entry as entries
from schemas.encoding import parse_time

LOST_AFTER = 6.0
"""Seconds after which a task that has not ended is cancelled once more."""

AWAY = timedelta(hours=24)
"""How long the hub is not reached before that is an alarm."""


class Pace(msgspec.Struct, frozen=True):
    """How often things are done, in seconds.

    ``outbox``: looking for new files. ``wait``: how long the hub may hold an answer until there is
    something to give. ``idle``: between two such questions. ``log``: following the log.
    ``witness``: cosigning it. ``tail``: looking whether the hub has lost some of it. ``watch``:
    looking for what is overdue. ``webhooks``: looking how ours stand. ``mail``: looking for alarms
    to be mailed. ``certificate``: looking when it ends. ``first`` and ``longest``: the bounds of
    the back-off.
    """

    outbox: float = 0.5
    wait: float = 25
    idle: float = 0.5
    log: float = 30
    witness: float = 5
    tail: float = 15
    watch: float = 60
    webhooks: float = 900
    mail: float = 5
    certificate: float = certificate.AGAIN.total_seconds()
    first: float = 1
    longest: float = 300


def backoff(failures: int, pace: Pace, chance: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, and jittered by half.

    ``chance`` is a random number from 0 to 1. The jitter keeps all connectors from coming back at
    the same moment when the hub does.
    """
    doubled = pace.first * 2.0 ** min(failures - 1, 30)
    return min(doubled, pace.longest) * (0.5 + chance / 2)


async def end(tasks: Collection[asyncio.Task[None]]) -> list[Exception]:
    """Cancel tasks until all of them have ended; gives the errors that they ended with.

    Once is not enough: before Python 3.12 ``asyncio.wait_for``, which the libraries are full of,
    loses a cancellation that comes at the moment when what it waits for is done.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=LOST_AFTER)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    return [error for error in ended if isinstance(error, Exception)]


class Daemon:
    """One institution's connector at work."""

    def __init__(
        self,
        parts: Parts,
        config: Config,
        keyring: Keyring,
        pace: Pace,
        chance: Callable[[], float],
        webhooks: Webhooks,
        renewal: Renewal | None = None,
    ) -> None:
        self._parts = parts
        self._config = config
        self._pace = pace
        self._chance = chance
        self._webhooks = webhooks
        self._renewal = renewal
        self._owing = asyncio.Event()
        self._began = parts.clock()
        settled = asyncio.Event()
        self._sender = Sender(parts, Outbox(config.outbox), settled)
        self._receiver = Receiver(parts, _languages(config.code), self._owing, pace.wait)
        self._answers = Answers(parts, keyring.sign)
        self._receipts = Receipts(parts, settled, pace.wait)
        self.witness = Witness(parts, keys.witnesses(config.keys), config.keys)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop. A worker that fails with what no time heals ends all of them.

        Being stopped within a step is a crash like any other: nothing is lost by it.
        """
        pace = self._pace
        works = [
            self._work("outbox", self._sender.step, lambda: asyncio.sleep(pace.outbox)),
            self._work("inbox", self._receiver.step, lambda: asyncio.sleep(pace.idle)),
            self._work("answers", self._answers.step, self._until_owing),
            self._work("receipts", self._receipts.step, lambda: asyncio.sleep(pace.idle)),
            self._work("log", self._parts.follower.follow, lambda: asyncio.sleep(pace.log)),
            self._work("witness", self.witness.step, lambda: asyncio.sleep(pace.witness)),
            self._work("tail", Tail(self._parts).step, lambda: asyncio.sleep(pace.tail)),
            self._work("watch", self._watch, lambda: asyncio.sleep(pace.watch)),
            self._work("webhooks", self._webhooks.step, lambda: asyncio.sleep(pace.webhooks)),
        ]
        if self._renewal is not None:
            renew = self._renewal.step
            works.append(self._work("certificate", renew, lambda: asyncio.sleep(pace.certificate)))
        if self._config.mail.host:
            # Where nobody is told by mail, the memory for it is not taken.
            from connectors.mail import Mailer  # noqa: PLC0415

            tell = Mailer(self._parts, self._config).step
            works.append(self._work("mail", tell, lambda: asyncio.sleep(pace.mail)))
        tasks = [asyncio.ensure_future(work) for work in works]
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            errors = await end(tasks)
        for error in errors:
            raise error

    async def _work(
        self,
        name: str,
        step: Callable[[], Awaitable[bool | None]],
        rest: Callable[[], Awaitable[None]],
    ) -> None:
        """Take steps for ever, with a rest after each that does not say that there is more."""
        failures, well = 0, False
        while True:
            try:
                more = await step()
                if not well:
                    self._over(name)
                failures, well = 0, True
            except (LinkError, StoreError, OSError) as error:
                failures, well = failures + 1, False
                delay = self._delay(failures, error)
                self._parts.events.trouble(name, error, delay)
                self._refused(name, error)
                await asyncio.sleep(delay)
            else:
                if not more:
                    await rest()

    def _delay(self, failures: int, error: Exception) -> float:
        delay = backoff(failures, self._pace, self._chance())
        asked = error.retry_after if isinstance(error, HubRefused) else None
        return max(delay, asked or 0)

    def _refused(self, name: str, error: Exception) -> None:
        """Alarm when the hub will not talk to us, which trying again alone does not mend."""
        if isinstance(error, HubRefused) and not error.retryable:
            with suppress(StoreError):  # then it is raised the next time
                self._parts.found([Finding("hub-refuses", name, f"At the {name}: {error}")])

    def _over(self, name: str) -> None:
        """End that alarm, also one that was raised before the daemon was started again."""
        store = self._parts.store
        with store.transaction():
            store.end_alarm("hub-refuses", name, self._parts.now())

    async def _until_owing(self) -> None:
        await self._owing.wait()
        self._owing.clear()

    async def _watch(self) -> None:
        self._look_for_overdue()
        try:
            self._write_metrics()
        finally:
            # A file that cannot be written is no reason to leave out a message.
            await self._receiver.ask_again()

    def _write_metrics(self) -> None:
        path, store = self._config.metrics, self._parts.store
        if path is not None:
            pending = store.queued_before("~")
            oldest = pending[0].queued if pending else None
            known = acknowledged.read(self._config.acknowledged)
            now = self._parts.clock()
            unmailed = store.unmailed(letter.news_since(now)) if self._config.mail.host else []
            text = metrics.text(
                store.status(),
                oldest,
                store.alarms(),
                known,
                len(letter.waiting(unmailed, known)),
                now,
            )
            metrics.write(path, text)

    def _look_for_overdue(self) -> None:
        store, now = self._parts.store, self._parts.clock()
        due = monitor.due_before(now, self._config.receipts.overdue_hours)
        followed = store.followed()
        seen = max(parse_time(followed.seen), self._began) if followed else self._began
        findings = [
            *monitor.overdue(store.waiting_receipts(due)),
            *monitor.waiting(store.queued_before(due)),
            *monitor.away(seen, now, AWAY),
        ]
        with store.transaction():
            raised = store.raise_alarms(findings, self._parts.now())
            if now - seen <= AWAY:
                store.end_alarm("hub-away", "hub", self._parts.now())
        self._parts.events.findings(raised)


def own(config: Config, keyring: Keyring, store: Store) -> Own:
    """What the institution knows of itself.

    Raises:
        JoinedError: the file about it is damaged.
    """
    asked = joined.read(config.joined, config.code)
    return Own(
        config.code,
        keyring.kid,
        asked.statements,
        frozenset(entries.digest(join.invitation.encode()) for join in asked.joins),
        lambda message_id: store.sent(message_id) is not None,
    )


def _languages(code: str) -> tuple[str, ...]:
    try:
        return profile.load(code).languages
    except LookupError:
        return ()


async def run(
    config: Config,
    stop: asyncio.Event,
    events: Events,
    *,
    pace: Pace = Pace(),  # noqa: B008 - frozen
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    chance: Callable[[], float] = random.random,
) -> None:
    """Run a connector until ``stop`` is set.

    Raises:
        ConfigError, KeysError, JoinedError, StoreError: it cannot start; says what to do.
    """
    keyring = keys.load(config.keys)
    store = Store.open_for(config.store, config.code, config.hub.log)
    try:
        identity = Identity(config.code, keyring.sign, config.log_key.name)
        http = HttpLink(config.hub.url, identity, clock)
        tls = _tls(config, keyring) if config.link.amqp else None
        link = _amqp_link(config, http, events, pace, tls) if tls else http
        try:
            known = own(config, keyring, store)
            follower = Follower(store, link, config.log_key, known, events, clock)
            parts = Parts(config.code, config.log_key, store, link, follower, events, clock)
            events.started(config.hub.url, encrypted=config.encrypted)
            renewal = _renewal(parts, http, config, keyring, tls)
            hooks = Webhooks(parts, http)
            daemon = Daemon(parts, config, keyring, pace, chance, hooks, renewal)
            async with _served(daemon.witness, config):
                await daemon.run(stop)
        finally:
            await link.close()
    finally:
        store.close()
    events.stopped()


@asynccontextmanager
async def _served(witness: Witness, config: Config) -> AsyncIterator[None]:
    if not config.witness.listen:
        yield
        return
    # Where nobody is to reach the witness, the memory for a server is not taken.
    from connectors.witness_server import listening  # noqa: PLC0415

    host, port = config.witness.address
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(listening(witness, config.log_key.name, host, port))
        except OSError as error:
            raise ConfigError(f"witness.listen: {config.witness.listen}: {error}.") from None
        yield


def _tls(config: Config, keyring: Keyring) -> ssl.SSLContext:
    """What the broker is shown; a certificate of ours that is not there yet is still fetched."""
    # Where there is no broker, the memory for it is not taken.
    from connectors.link import amqp  # noqa: PLC0415

    chosen = config.link
    shown = chosen.certificate
    try:
        if config.renews and not certificate.is_held(Path(shown), keyring.tls):
            shown = ""
        return amqp.tls_context(chosen.ca, shown, chosen.key)
    except (OSError, CertificateError) as error:
        raise ConfigError(f"link: a file for TLS cannot be used: {error}.") from None


def _amqp_link(
    config: Config, http: HttpLink, events: Events, pace: Pace, tls: ssl.SSLContext
) -> Link:
    from connectors.link import amqp  # noqa: PLC0415

    def url() -> str:
        return amqp.address(configs.amqp_url(config), config.link.certificate)

    patience = amqp.Patience(first=pace.first, longest=pace.longest)
    return amqp.AmqpLink(url, config.code, http, events.trouble, tls, patience=patience)


def _renewal(
    parts: Parts, http: HttpLink, config: Config, keyring: Keyring, tls: ssl.SSLContext | None
) -> Renewal | None:
    chosen = config.link
    if tls is None or not chosen.certificate:
        return None
    files = Path(chosen.certificate), Path(chosen.key)
    return Renewal(parts, http, *files, keyring.tls if config.renews else None, tls)


def main(config_path: Path) -> int:
    """Run the connector of a settings file until SIGTERM or SIGINT; gives the exit status.

    0: stopped as asked; 1: it cannot run, or broke; 2: the settings are wrong. The reason is the
    last line of the log on standard error.
    """
    try:
        config = configs.load(config_path)
    except ConfigError as error:
        Events("").failed(error)
        return 2
    events = Events(config.code)
    try:
        uvloop.run(_until_signal(config, events))
    except ConfigError as error:
        events.failed(error)
        return 2
    except (KeysError, JoinedError, StoreError) as error:
        events.failed(error)
        return 1
    return 0


async def _until_signal(config: Config, events: Events) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with sdnotify.told():
        await run(config, stop, events)
