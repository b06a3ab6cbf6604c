"""The hub's wiring: the only file that puts parts together."""

import asyncio
import contextlib
import functools
import gc
import os
import secrets
import signal
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from hub import certificates, logs, recovery, sdnotify, upkeep
from hub import settings as configuration
from hub.delivery import broker, keyring, wakeup, webhooks
from hub.delivery.deliveries import Told
from hub.delivery.guard import Guard
from hub.delivery.publisher import Publisher
from hub.delivery.quarantine import Quarantine
from hub.delivery.stuck import StuckInboxes
from hub.delivery.wakeup import Bells
from hub.delivery.webhooks import Webhooks
from hub.doors import http
from hub.doors.amqp import AmqpDoor
from hub.doors.service import Service
from hub.doors.shelf import Shelf
from hub.doors.strangers import Strangers
from hub.intake import subscription
from hub.intake.batch import Committed, State
from hub.intake.meter import RefusalMeter
from hub.intake.offload import Offload
from hub.intake.recorder import Recorder
from hub.intake.restorer import Restorer
from hub.ledger.patrol import Patrol
from hub.ledger.queries import Queries
from hub.ledger.sequence import LogKey
from hub.ledger.verify import Check
from hub.ledger.witnesses import Witnesses
from hub.metrics import Metrics
from hub.settings import Settings, StartError
from hub.store import index
from hub.store.database import Database, open_database
from hub.store.erasures import Erasures
from hub.store.index import Index
from hub.store.journal import Journal
from hub.store.lanes import StoredLanes
from hub.store.queries import Queries as StoreQueries
from hub.store.webhooks import StoredWebhooks
from hub.store.witnesses import StoredWitnesses
from schemas import checkpoint, merkle
from schemas import entry as entries
from schemas.encoding import b64url, format_time
from schemas.note import NoteError
from schemas.refusal import Refused

IDLE_SECONDS = 75.0
"""For the whole head of a request to arrive, counted from the connection or the last answer; longer
than a proxy before us keeps a connection that it does not use (nginx: 60 s)."""

_COLLECTED: Final = (10_000, 20, 20)
"""New objects before the young ones are looked at (Python's own: 700), and such looks before those
that outlived one are looked at (10)."""

log = structlog.get_logger("hub")


def _clock() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Service]:
    """A hub with its recorder running and no door open yet.

    Raises:
        StartError: it cannot start, with a sentence that says what to do.
    """
    key = LogKey(configuration.log_vkey(settings), configuration.log_key(settings))
    database = await open_database(settings.store.url, Path(settings.folder))
    offload = Offload()
    try:
        listeners: list[Callable[[Committed], None]] = []
        erasures = Erasures(database, settings.erasures)
        if back := await erasures.apply():
            log.warning("erasures.applied", messages=back)
        service = await _assemble(settings, key, database, offload, listeners, erasures)
        tasks = [asyncio.create_task(service.recorder.run())]
        try:
            try:
                await upkeep.record(service, entries.HUB_STARTED)
            except Refused:
                failing = service.recorder.failing
                raise StartError(f"The log cannot be written: {failing}.") from None
            tasks += _tasks(service, database, erasures, listeners)
            _watch(service, tasks)
            yield service
        finally:
            await _end(service, *tasks)
    finally:
        offload.close()
        await database.close()


def _tasks(
    service: Service,
    database: Database,
    erasures: Erasures,
    listeners: list[Callable[[Committed], None]],
) -> list[asyncio.Task[None]]:
    """All that goes on by itself, behind the doors."""
    tasks = [
        asyncio.create_task(upkeep.run(service, database, erasures)),
        asyncio.create_task(service.patrol.run()),
        asyncio.create_task(
            index.follow(Index(database), _on_commit(listeners), service.settings.restored.exists)
        ),
        *_join_broker(service, listeners),
        *_send_webhooks(service, listeners),
    ]
    if database.shared:
        tasks.append(asyncio.create_task(upkeep.follow_others(service)))
    return tasks


async def _end(service: Service, recorder: asyncio.Task[None], *others: asyncio.Task[None]) -> None:
    if not recorder.done():  # otherwise nobody would answer
        with contextlib.suppress(Refused):
            await upkeep.record(service, entries.HUB_STOPPED)
    await broker.stop((recorder, *others))
    if service.webhooks is not None:
        await service.webhooks.close()


def _watch(service: Service, tasks: Iterable[asyncio.Task[None]]) -> None:
    """None of these may end before the hub does: what it did, nobody would do any more."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("task.ended", task=str(task.get_coro()), exc_info=task.exception())
        service.broken.set()

    for task in tasks:
        task.add_done_callback(ended)


def _on_commit(listeners: list[Callable[[Committed], None]]) -> asyncio.Event:
    """What is set by every commit of ours."""
    committed = asyncio.Event()
    listeners.append(lambda _: committed.set())
    return committed


async def _assemble(
    settings: Settings,
    key: LogKey,
    database: Database,
    offload: Offload,
    listeners: list[Callable[[Committed], None]],
    erasures: Erasures,
) -> Service:
    queries = StoreQueries(database)
    state = await _checked_state(settings, key, queries)
    given_up = await recovery.given_up(settings, queries)
    await recovery.wait_where_content_lacks(settings, queries, given_up.entries)
    bells = Bells()
    metrics = Metrics(version("nhri-exchange"), settings.origin)
    listeners.append(lambda committed: bells.ring(committed.touched | {wakeup.LOG}))
    listeners.append(metrics.committed)

    def on_commit(committed: Committed) -> None:
        for listener in listeners:
            listener(committed)

    watched = await _witnesses(settings, key, database, queries, state, given_up.entries)

    back = False

    def lack() -> None:
        if not settings.restored.exists():
            configuration.write_new(settings.restored, b"", 0o600)
        if not watched.waiting:
            watched.wait_for_witnesses(recorder.state.directory, release)

    def release() -> None:
        # Where the database went back the file stays until a start: what this hub knows is longer
        # than the database, whatever the witnesses say.
        if not back:
            settings.restored.unlink(missing_ok=True)

    def went_back() -> None:
        nonlocal back
        back = True
        with contextlib.suppress(OSError):  # without the file the recorder refuses all the same
            lack()

    recorder = Recorder(
        metrics.journal(watched.guard(Journal(database))),
        key,
        state,
        _clock,
        secrets.token_bytes,
        on_commit,
        went_back,
    )
    metrics.watch(recorder, Path(settings.folder))
    metrics.watch_signing(watched)
    restorer = Restorer(
        Journal(database), queries, key, recorder, watched, lack, lambda: erasures.listed
    )
    return Service(
        settings=settings,
        vkey=key.vkey,
        recorder=recorder,
        queries=queries,
        witnesses=watched,
        restorer=restorer,
        bells=bells,
        offload=offload,
        meter=RefusalMeter(settings.quota.refusals_per_minute),
        strangers=Strangers(),
        metrics=metrics,
        patrol=Patrol(
            lambda: Check(queries, offload, key.vkey, erasures.listed, given_up.content),
            lambda damage: _distrust(settings, watched, damage),
            metrics.verified,
            settings.restored.exists,
            went_back,
            damaged=watched.damage is not None,
        ),
        shelf=Shelf(),
        list_erasures=erasures.note,
        clock=_clock,
        random_bytes=secrets.token_bytes,
        version=version("nhri-exchange"),
        instance=b64url(secrets.token_bytes(8)),
        authority=certificates.load_authority(settings),
        publisher=_publisher(settings, database, recorder, metrics),
        quarantine=Quarantine(_broker_url(settings)) if settings.broker.url else None,
        webhooks=_webhooks(settings, key, database, recorder),
    )


async def _witnesses(
    settings: Settings,
    key: LogKey,
    database: Database,
    queries: StoreQueries,
    state: State,
    given_up: frozenset[int],
) -> Witnesses:
    """What witnesses said, and what an earlier run left that forbids to sign."""
    policy = configuration.quorum_policy(settings)
    watched = Witnesses(StoredWitnesses(database), queries, key.vkey, policy, _clock, given_up)
    if settings.restored.exists():
        release = functools.partial(settings.restored.unlink, missing_ok=True)
        watched.wait_for_witnesses(state.directory, release)
        await watched.thaw()
    with contextlib.suppress(FileNotFoundError):
        watched.distrust(settings.damaged.read_text("utf-8").strip())
    await watched.check()
    return watched


def _publisher(
    settings: Settings, database: Database, recorder: Recorder, metrics: Metrics
) -> Publisher | None:
    if not settings.broker.url:
        return None
    return Publisher(
        StoredLanes(database),
        lambda: tuple(recorder.state.directory.participants),
        lambda: format_time(_clock()),
        metrics,
        settings.restored.exists,
        StuckInboxes(lambda code: broker.takes(configuration.broker_url(settings), code)),
        settings.broker.outstanding,
    )


def _webhooks(
    settings: Settings, key: LogKey, database: Database, recorder: Recorder
) -> Webhooks | None:
    if not settings.webhooks.enabled:
        return None
    return Webhooks(
        StoredWebhooks(database),
        Guard(settings.webhooks.allowed),
        keyring.of_log_key(settings.origin, key.private),
        lambda: recorder.state.directory,
        _clock,
        secrets.token_bytes,
        settings.webhooks.slots,
    )


def _distrust(settings: Settings, watched: Witnesses, damage: str | None) -> None:
    """Stop signing, over a restart as well: the check needs its time to come to the place again."""
    watched.distrust(damage)
    with contextlib.suppress(OSError):  # a disk that fails is one of the reasons
        if damage is None:
            settings.damaged.unlink(missing_ok=True)
        else:
            settings.damaged.write_text(f"{damage}\n", "utf-8")


def _broker_url(settings: Settings) -> Callable[[], str]:
    """What is asked for the broker's address before each connection."""
    return functools.partial(configuration.broker_url, settings)


def _join_broker(
    service: Service, listeners: list[Callable[[Committed], None]]
) -> list[asyncio.Task[None]]:
    """Publish to and consume from RabbitMQ, each on a connection of its own.

    Under a memory or disk alarm the broker stops reading from connections that publish; the one
    that only consumes goes on acknowledging.
    """
    publisher = service.publisher
    if publisher is None:
        return []
    listeners.append(publisher.committed)
    door = AmqpDoor(service, publisher)
    url, metrics = _broker_url(service.settings), service.metrics
    metrics.watch_broker(
        lambda: publisher.outstanding, lambda: publisher.blocked, lambda: len(publisher.stuck)
    )
    return [
        asyncio.create_task(publisher.stuck.ask()),
        *(
            asyncio.create_task(broker.keep(url, name, metrics.link(name, use)))
            for name, use in (("hub.publisher", publisher.use), ("hub.door", door.use))
        ),
    ]


def _send_webhooks(
    service: Service, listeners: list[Callable[[Committed], None]]
) -> list[asyncio.Task[None]]:
    """Find out what is owed behind the commits, and send it."""
    sending = service.webhooks
    if sending is None:
        return []
    listeners.append(lambda news: sending.erased(news.erased))

    async def tell(told: Told) -> None:
        with contextlib.suppress(Refused):  # it was ended meanwhile, or is told at the next attempt
            await service.change(subscription.stand(told.before, told.after, told.notice))

    follower = webhooks.follow(
        sending,
        lambda: (service.recorder.state.directory, service.recorder.state.tree.size),
        service.clock,
        _on_commit(listeners),
        service.settings.restored.exists,
    )
    worker = sending.run(tell, service.metrics.webhook_attempted)
    return [asyncio.create_task(worker), asyncio.create_task(follower)]


async def _checked_state(settings: Settings, key: LogKey, queries: Queries) -> State:
    """The stored state; it must be what this very key signed, otherwise nothing may be appended."""
    try:
        state, note = await queries.head()
        signed = checkpoint.open_checkpoint(note, key.vkey) if note else None
    except NoteError as error:
        raise StartError(
            f"The database holds another log than {settings.origin} with this key ({error}); "
            "restore the key, or name another database."
        ) from None
    except ValueError as error:
        raise StartError(f"The log is damaged ({error}); restore a backup.") from None
    head = (signed.size, signed.root) if signed else (0, merkle.EMPTY_ROOT)
    if head != (state.tree.size, state.tree.root):
        raise StartError("The log is not the one that was signed last; restore a backup.")
    return state


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Service]:
    """A running hub with its doors open: HTTP, and the operators' Unix socket."""
    async with running(settings) as service:
        runner = web.AppRunner(
            http.build(service),
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            shutdown_timeout=2.0,
            handler_cancellation=True,
            auto_decompress=False,  # nobody packs an envelope, unless to burst the door
        )
        await runner.setup()
        tasks: list[asyncio.Task[None]] = []
        try:
            door = certificates.Door(settings) if settings.http.certificate else None
            await _listen(runner, settings, door.context if door else None)
            if door is not None:
                tasks.append(asyncio.create_task(_keep_certificate(door)))
            _watch(service, tasks)
            yield service
        finally:
            await broker.stop(tasks)
            await runner.cleanup()
            settings.socket.unlink(missing_ok=True)


async def _keep_certificate(door: certificates.Door) -> None:
    """Take a new certificate for the door from its files, without a restart."""
    while True:
        await asyncio.sleep(upkeep.ROUND_SECONDS)
        try:
            if door.refresh():
                log.info("door.certificate-renewed")
        except StartError as error:
            log.warning("door.certificate-unusable", reason=str(error))


async def _listen(
    runner: web.AppRunner, settings: Settings, context: ssl.SSLContext | None
) -> None:
    host, port = settings.http.host, settings.http.port
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
    except OSError as error:
        raise StartError(
            f"The HTTP door cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}); "
            "stop the other program or set http.port."
        ) from None
    path = settings.socket
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent != Path(settings.folder):
        found = path.parent.stat()
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
            raise StartError(f"The folder {path.parent} must be ours alone; remove it.")
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        await web.UnixSite(runner, path).start()
    finally:
        os.umask(mask)


def serve(settings: Settings) -> None:
    """Run a hub until SIGTERM or SIGINT.

    Raises:
        StartError: it cannot start.
        SystemExit: a part of it ended; whoever started it is to start it again.
    """
    logs.configure()
    import uvloop  # noqa: PLC0415 - not everywhere, and not for the commands

    if uvloop.run(_serve(settings)):
        raise SystemExit(1)


def _collect_less() -> None:
    """Let the garbage collector look at what was made since the start, and less often.

    What was imported and loaded until now stays for good: to look at it once more stops the hub
    for a tenth of a second each time (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED)


async def _serve(settings: Settings) -> bool:
    """Serve until told to stop, or until a part has ended; gives whether it is broken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opened(settings) as service, sdnotify.told():
        _collect_less()
        log.info("hub.ready", origin=settings.origin, url=settings.url, socket=str(settings.socket))
        ends = [asyncio.create_task(event.wait()) for event in (stop, service.broken)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await broker.stop(ends)
        broken = service.broken.is_set()
        log.info("hub.stopping", size=service.recorder.state.tree.size, broken=broken)
        return broken
