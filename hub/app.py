"""The hub's wiring: the only file that puts parts together."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import msgspec
import structlog
from aiohttp import web

from hub import authority, backup, certificates, sdnotify
from hub import settings as configuration
from hub.backup import Backup, BackupError, Manifest, Progress
from hub.delivery import broker, keyring, wakeup, webhooks
from hub.delivery.guard import Guard
from hub.delivery.publisher import Publisher
from hub.delivery.quarantine import Quarantine
from hub.delivery.wakeup import Bells
from hub.delivery.webhooks import Told, Webhooks
from hub.doors import http
from hub.doors.amqp import AmqpDoor
from hub.doors.service import Service
from hub.doors.shelf import Shelf
from hub.doors.strangers import Strangers
from hub.intake import membership, subscription
from hub.intake.access import ExpireDeliveries
from hub.intake.batch import Committed, Outcome, State
from hub.intake.erasure import Erase
from hub.intake.meter import RefusalMeter
from hub.intake.offload import Offload
from hub.intake.recorder import Recorder
from hub.intake.restorer import Restorer
from hub.intake.submission import CountedRefusals
from hub.ledger import retention, witnesses
from hub.ledger.patrol import Patrol
from hub.ledger.queries import Queries
from hub.ledger.sequence import Draft, LogKey
from hub.ledger.verify import Check
from hub.ledger.witnesses import Witnesses
from hub.metrics import Metrics
from hub.settings import Settings, StartError
from hub.store import copies, database, journal
from hub.store.database import Database, open_database
from hub.store.erasures import Erasures
from hub.store.index import Index
from hub.store.journal import Journal
from hub.store.lanes import StoredLanes
from hub.store.queries import Queries as StoreQueries
from hub.store.webhooks import StoredWebhooks
from hub.store.witnesses import StoredWitnesses
from schemas import checkpoint, merkle, policy
from schemas import entry as entries
from schemas.encoding import b64url, format_time, parse_time
from schemas.note import NoteError
from schemas.refusal import Refused

UPKEEP_SECONDS = 20.0

IDLE_SECONDS = 75.0
"""For the whole head of a request to arrive, counted from the connection or the last answer; longer
than a proxy before us keeps a connection that it does not use (nginx: 60 s)."""
ERASE_BATCH = 100
"""Messages that one round of the upkeep erases, so that nobody's message waits for long."""

REPORT_EVERY = timedelta(seconds=59)
"""The log has one entry a subscription in this time about what was delivered, not one each."""

KEEP_DELIVERED = timedelta(days=30)
"""How long it can be seen how a webhook was delivered; the log's entry stays."""

_RESTORED = "It had been erased before a backup was restored."

FOLLOW_SECONDS = 1.0
"""How long those who wait at one hub may wait longer for what another one accepted."""

GATHER_SECONDS = 0.3
"""How long entries are gathered for one commit of the search index."""

GIVE_WAY = 9
"""How many times as long as it took the search index rests where the log has grown meanwhile: of a
busy hub it takes a tenth, and catches up later. Searches read what it does not have yet."""

log = structlog.get_logger("hub")


def _clock() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Service]:
    """A hub with its recorder running and no door open yet.

    Raises:
        StartError: it cannot start, with a sentence that says what to do.
    """
    private = configuration.log_key(settings)
    key = LogKey(configuration.log_vkey(settings), private)
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
            await _record_start(service)
            tasks += _tasks(service, database, erasures, listeners)
            yield service
        finally:
            with contextlib.suppress(Refused):
                await service.change(_hub_event(service, entries.HUB_STOPPED))
            await broker.stop(tasks)
            if service.webhooks is not None:
                await service.webhooks.close()
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
        asyncio.create_task(_upkeep(service, database, erasures)),
        asyncio.create_task(service.patrol.run()),
        _fill_index(service, database, listeners),
        *_join_broker(service, listeners),
        *_send_webhooks(service, listeners),
    ]
    if database.shared:
        tasks.append(asyncio.create_task(_follow_others(service)))
    return tasks


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
    bells = Bells()
    metrics = Metrics(version("nhri-exchange"), settings.origin)
    listeners.append(lambda committed: bells.ring(committed.touched | {wakeup.LOG}))
    listeners.append(metrics.committed)

    def on_commit(committed: Committed) -> None:
        for listener in listeners:
            listener(committed)

    watched = Witnesses(
        StoredWitnesses(database),
        queries,
        key.vkey,
        configuration.quorum_policy(settings),
        _clock,
    )
    if settings.restored.exists():
        watched.wait_for_witnesses(state.directory, settings.restored.unlink)
    with contextlib.suppress(FileNotFoundError):
        watched.distrust(settings.damaged.read_text("utf-8").strip())
    await watched.check()
    recorder = Recorder(
        metrics.journal(watched.guard(Journal(database))),
        key,
        state,
        _clock,
        secrets.token_bytes,
        on_commit,
    )
    metrics.watch(recorder, Path(settings.folder))
    metrics.watch_signing(watched)
    broker_url = settings.broker.url

    def lack() -> None:
        if not settings.restored.exists():
            settings.restored.touch()
            watched.wait_for_witnesses(recorder.state.directory, settings.restored.unlink)

    restorer = Restorer(Journal(database), queries, key, recorder, watched, _clock, lack)
    publisher = Publisher(
        StoredLanes(database),
        lambda: tuple(recorder.state.directory.participants),
        lambda: format_time(_clock()),
        settings.broker.outstanding,
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
            lambda: Check(queries, offload, key.vkey, erasures.listed),
            lambda damage: _distrust(settings, watched, damage),
            metrics.verified,
            damaged=watched.damage is not None,
        ),
        shelf=Shelf(),
        list_erasures=erasures.note,
        clock=_clock,
        random_bytes=secrets.token_bytes,
        version=version("nhri-exchange"),
        instance=b64url(secrets.token_bytes(8)),
        authority=certificates.load_authority(settings),
        publisher=publisher if broker_url else None,
        quarantine=Quarantine(broker_url) if broker_url else None,
        webhooks=_webhooks(settings, key, database, recorder),
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
    url, metrics = service.settings.broker.url, service.metrics
    metrics.watch_broker(lambda: publisher.outstanding)
    return [
        asyncio.create_task(broker.keep(url, name, metrics.link(name, use)))
        for name, use in (("hub.publisher", publisher.use), ("hub.door", door.use))
    ]


def _send_webhooks(
    service: Service, listeners: list[Callable[[Committed], None]]
) -> list[asyncio.Task[None]]:
    """Find out what is owed behind the commits, and send it."""
    sending = service.webhooks
    if sending is None:
        return []
    committed = asyncio.Event()
    listeners.append(lambda _: committed.set())

    async def tell(told: Told) -> None:
        with contextlib.suppress(Refused):  # it was ended meanwhile, or is told at the next attempt
            await service.change(subscription.stand(told.before, told.after, told.notice))

    follower = webhooks.follow(
        sending,
        lambda: service.recorder.state.directory,
        service.clock,
        committed,
        service.settings.restored.exists,
    )
    return [asyncio.create_task(sending.run(tell)), asyncio.create_task(follower)]


async def _report_webhooks(service: Service, now: datetime) -> None:
    """Record what became of deliveries, one entry a subscription and minute, and drop old ones."""
    if service.webhooks is None:
        return
    store = service.webhooks.store
    before = format_time(now - REPORT_EVERY)
    outcomes = await store.outcomes(format_time(now), before)
    for name, of_one in groupby(outcomes, lambda each: each.subscription):
        told = tuple(subscription.Reported(o.message, o.index, o.state, o.attempts) for o in of_one)
        await service.change(subscription.Report(name, told))
        service.metrics.webhooks_done(each.state for each in told)
    await store.forget(format_time(now - KEEP_DELIVERED))


async def _checked_state(settings: Settings, key: LogKey, queries: Queries) -> State:
    """The stored state; it must be what this very key signed, otherwise nothing may be appended."""
    try:
        state, note = await queries.head()
        root = merkle.tree_root(state.tree.size, state.tree.edge)
        signed = checkpoint.open_checkpoint(note, key.vkey) if note else None
    except NoteError as error:
        raise StartError(
            f"The database holds another log than {settings.origin} with this key ({error}); "
            "restore the key, or name another database."
        ) from None
    except ValueError as error:
        raise StartError(f"The log is damaged ({error}); restore a backup.") from None
    head = (signed.size, signed.root) if signed else (0, merkle.EMPTY_ROOT)
    if head != (state.tree.size, root):
        raise StartError("The log is not the one that was signed last; restore a backup.")
    return state


async def _record_start(service: Service) -> None:
    if service.witnesses.stopped is not None:
        # The doors open all the same: witnesses have to be heard, and operators to look.
        log.error("signing.stopped", reason=service.witnesses.stopped)
        return
    try:
        await service.change(_hub_event(service, entries.HUB_STARTED))
    except Refused:
        raise StartError(f"The log cannot be written: {service.recorder.failing}.") from None


def _hub_event(service: Service, kind: str) -> membership.Change:
    public: dict[str, object] = {"version": service.version}
    return membership.append(Draft(kind, entries.HUB, service.instance, public))


async def _upkeep(service: Service, database: Database, erasures: Erasures) -> None:
    """What comes round: expired messages, counted refusals, used tokens past their time."""
    warned: set[tuple[str, int]] = set()
    overdue: set[str] = set()
    announced = service.witnesses.stopped is None
    while True:
        try:
            now = service.clock()
            service.strangers.tell(now)
            await service.witnesses.check()
            if service.witnesses.stopped is None:
                if not announced:
                    await _record_start(service)
                    announced = True
                await _changes(service, now, erasures.listed)
                overdue = await _record_overdue(service, now, overdue)
            await erasures.keep()
            await journal.forget(database, now)
            warned = await _warn_of_ends(service, now, warned)
            await _survey(service)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("upkeep.failed", reason=str(error))
        await asyncio.sleep(UPKEEP_SECONDS)


async def _changes(service: Service, now: datetime, listed: frozenset[str]) -> None:
    for message_id, codes in (await service.queries.due_to_expire(format_time(now))).items():
        await service.change(ExpireDeliveries(message_id, codes))
    for code, count in service.meter.overdue(now).items():
        await service.change(CountedRefusals(code, count))
    await _erase(service, now, listed)
    await _report_webhooks(service, now)


async def _erase(service: Service, now: datetime, listed: frozenset[str]) -> None:
    """Erase what the rules of retention say, and record what only a restore has erased.

    What is empty and not listed was emptied behind our back: that is for the patrol to find.
    """
    undecided = await service.queries.undecided(ERASE_BATCH)
    reasons = {each: _RESTORED for each in undecided if each in listed}
    cutoffs = retention.cutoffs(service.settings.retention, now)
    for due in await service.queries.due_to_erase(cutoffs, ERASE_BATCH):
        reasons.setdefault(due.id, f"Retention: {due.rule} days.")
    if reasons:
        jobs = [Erase(each, entries.HUB, reason) for each, reason in reasons.items()]
        # Where another hub was first, there is nothing left to do.
        await service.recorder.record_all(jobs)
        log.info("messages.erased", messages=len(jobs))


async def _record_overdue(service: Service, now: datetime, known: set[str]) -> set[str]:
    """Record which witnesses are behind for long, and which have come back; gives the former."""
    found = witnesses.overdue(await service.witnesses.standing(), now)
    changes = [(entries.WITNESS_OVERDUE, code) for code in sorted(found - known)]
    changes += [(entries.WITNESS_RETURNED, code) for code in sorted(known - found)]
    for kind, code in changes:
        await service.change(membership.append(Draft(kind, entries.HUB, code)))
        log.warning(kind, code=code)
    return found


async def _follow_others(service: Service) -> None:
    """Wake those who wait here for what another hub has written to the same log.

    Our own commits are among it; whoever was woken by them already looks once more.
    """
    size = service.recorder.state.tree.size
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        with contextlib.suppress(Exception):  # the database is away, and the upkeep says so
            news = await service.queries.news(size)
            touched = news.touched if news.size == size else news.touched | {wakeup.LOG}
            if news.directory:
                # With any job the recorder takes over what others wrote; whose key or standing
                # ended must not go on reading here.
                await service.change(membership.Change(lambda _: Outcome()))
                touched |= service.recorder.state.directory.participants.keys()
            service.bells.ring(touched)
            size = news.size


def _fill_index(
    service: Service, database: Database, listeners: list[Callable[[Committed], None]]
) -> asyncio.Task[None]:
    committed = asyncio.Event()
    listeners.append(lambda _: committed.set())
    return asyncio.create_task(_index(service, Index(database), committed))


async def _index(service: Service, index: Index, committed: asyncio.Event) -> None:
    """Fill the search index behind the commits, ours and other hubs'; ours go first."""
    while True:
        committed.clear()
        more, began = False, time.monotonic()
        try:
            # What a restored log still lacks would be missing in the index for ever.
            if not service.settings.restored.exists():
                more = await index.advance()
        except Exception as error:  # noqa: BLE001 - the next round tries again
            log.warning("index.failed", reason=str(error))
        took = time.monotonic() - began
        if committed.is_set():
            await asyncio.sleep(GIVE_WAY * took)
        if not more:
            with contextlib.suppress(TimeoutError):
                # Not ``wait_for``, which loses a cancellation that comes with the last commit.
                async with asyncio.timeout(UPKEEP_SECONDS):
                    await committed.wait()
            await asyncio.sleep(GATHER_SECONDS)


async def _warn_of_ends(
    service: Service, now: datetime, warned: set[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Say 30, 14 and 3 days before that a participant's or our certificate ends, each once.

    Gives what is not to be said again; once it is renewed it is.
    """
    lefts = {
        row.code: authority.days_left(parse_time(row.not_after), now)
        for row in await service.queries.certificates()
    }
    lefts |= certificates.own_days_left(service.settings, now)
    due = {
        (code, days) for code, left in lefts.items() for days in authority.WARN_DAYS if left <= days
    }
    for code in sorted({code for code, _ in due - warned}):
        log.warning("certificate.ends", code=code, days_left=lefts[code])
    service.metrics.certificates(lefts)
    return due


async def _survey(service: Service) -> None:
    """Measure what takes a query; all else is measured where it happens."""
    if service.webhooks is not None:
        store = service.webhooks.store
        service.metrics.webhooks(await store.owing(), await store.subscriptions())
    service.metrics.surveyed(
        service.recorder.state.directory,
        await service.queries.waiting(),
        await service.queries.oldest_waiting(),
        service.clock(),
    )
    directory, size = service.recorder.state.directory, service.recorder.state.tree.size
    codes = policy.witnesses(service.settings.origin, directory)
    standing = await service.witnesses.standing()
    service.metrics.witnessed(
        standing, witnesses.lags(standing, codes, size), service.witnesses.seen, size
    )


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
            yield service
        finally:
            await broker.stop(tasks)
            await runner.cleanup()
            settings.socket.unlink(missing_ok=True)


async def _keep_certificate(door: certificates.Door) -> None:
    """Take a new certificate for the door from its files, without a restart."""
    while True:
        await asyncio.sleep(UPKEEP_SECONDS)
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
    """
    _configure_logging()
    import uvloop  # noqa: PLC0415 - not everywhere, and not for the commands

    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opened(settings) as service, sdnotify.told():
        log.info("hub.ready", origin=settings.origin, url=settings.url, socket=str(settings.socket))
        await stop.wait()
        log.info("hub.stopping", size=service.recorder.state.tree.size)


async def back_up(settings: Settings, path: Path, told: Progress, *, with_key: bool) -> Manifest:
    """Write a backup, also while hubs run, and read it all again.

    Raises:
        StartError, BackupError: it cannot be made; then there is no file.
    """
    key = LogKey(configuration.log_vkey(settings), configuration.log_key(settings))
    pem = settings.log_key_path.read_bytes() if with_key else None
    time = format_time(_clock())
    with backup.new_file(path) as file:
        with told("Writing") as advance:
            await database.glance(
                settings.store.url,
                Path(settings.folder),
                lambda rows: backup.write(file, copies.snapshot(rows), key, time, pem, advance),
            )
        with told("Reading it again") as advance:
            made = Backup(file, key.vkey)
            made.check(advance)
    return made.manifest


async def restore(settings: Settings, path: Path, told: Progress) -> Manifest:
    """Fill an empty database from a backup, once all of that is verified.

    The hub that is started next waits for the witnesses before it signs anything.

    Raises:
        StartError, BackupError: it cannot be done; then nothing was changed.
    """
    with backup.opened(path) as file, contextlib.ExitStack() as undo:
        if not settings.log_key_path.exists():
            pem = backup.log_key(file)
            if pem is None:
                raise BackupError(
                    f"The log's key {settings.log_key_path} is missing, and it is not in this "
                    "backup; bring it from where you keep it."
                )
            configuration.write_new(settings.log_key_path, pem, 0o600)
            undo.callback(settings.log_key_path.unlink)
        found = Backup(file, configuration.log_vkey(settings))
        with told("Verifying") as advance:
            found.check(advance)
        if not settings.restored.exists():
            # Before the rows: a hub must never start upon them without it.
            configuration.write_new(settings.restored, b"", 0o600)
            undo.callback(settings.restored.unlink)
        with told("Restoring") as advance:
            await database.fill(
                settings.store.url,
                Path(settings.folder),
                lambda rows: copies.load(rows, found, advance),
            )
        undo.pop_all()
    return found.manifest


def _configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(_StandardError()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


class _StandardError:
    """A line that cannot be written is lost: the hub outlives the disk that its log is on."""

    def write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(2, line)

    def flush(self) -> None:
        """Nothing is kept back."""


def _json(event: object, **_: object) -> bytes:
    # What msgspec does not know stands in the log as Python shows it.
    return msgspec.json.encode(event, enc_hook=repr)
