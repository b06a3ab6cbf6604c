"""Webhooks: the hub's worker against a bare aiohttp client that posts the same bodies.

Both are processes of their own, and post to one that listens on many addresses of 127.0.0.0/8, each
an endpoint. The worker signs each post with both keys, guards its socket, and keeps what became of
it in SQLite. ``python -m tests.bench.webhooks`` measures this alone; ``--tiny`` as for all.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from secrets import token_bytes

import aiohttp
import msgspec
import uvloop
from sqlalchemy import Connection, delete, insert, select, update

from hub.delivery.addresses import Allowed
from hub.delivery.deliveries import Result, Told, Turn
from hub.delivery.guard import Guard
from hub.delivery.keyring import of_log_key
from hub.delivery.subscription import Filter, Generation
from hub.delivery.webhooks import Webhooks
from hub.intake import membership
from hub.ledger.sequence import Draft
from hub.settings import Webhooks as WebhookSettings
from hub.store import tables
from hub.store.database import Database, open_database
from hub.store.webhooks import StoredWebhooks
from schemas import cloudevent, jsontext
from schemas.acceptance import deliver
from schemas.jsontext import MAX_SAFE_INTEGER
from tests import builders
from tests.bench.processes import line, listening, peak_mb, process
from tests.bench.scale import TINY, WHOLE, Scale
from tests.contracts.test_store import running
from tests.ports import free_port

DATABASE = "sqlite:///webhooks.sqlite"

SUBSCRIPTIONS = 1_000
"""That each message is matched against."""

EAGER = 100
"""Of the subscriptions, those that want every message; each has an endpoint, which gets at most
``hub.delivery.pace.PER_SECOND``: far more together than is posted."""

SLOTS = WebhookSettings().slots
"""Posts at a time, of the worker as of the bare client."""

HANGING = "127.0.2.1"
"""The endpoint that takes a request and never answers."""

PATIENCE = 120.0
"""Seconds after which a run has failed."""

OWNERS = ("undp", "ohchr", "guest", "kg", "tj", "tm", "uz")

RECEIVER = f"""
import asyncio, sys
import uvloop
from aiohttp import web

async def answer(request):
    await request.read()
    if request.host.startswith("{HANGING}"):
        await asyncio.sleep(3600)
    return web.Response()

application = web.Application()
application.router.add_post("/", answer)
web.run_app(application, host="0.0.0.0", port=int(sys.argv[1]), access_log=None, print=None,
            loop=uvloop.new_event_loop(), handler_cancellation=True, backlog=1024)
"""

_row = tables.webhook_deliveries
_subscription = tables.subscriptions


class WebhookFigures(msgspec.Struct, frozen=True):
    """Posts a second, the medians of the rounds; ``ratio`` and ``cost`` are medians of their own.

    ``bare`` keeps its connections, ``bare_fresh`` opens one for each post. ``hanging`` is the rate
    to the other endpoints while one of them never answers, and ``cost`` what that takes from them.
    ``matched`` are messages a second against ``SUBSCRIPTIONS``, what they owe written. Peaks are in
    MB, of the worker with the queue of a round and with ``queued`` deliveries.
    """

    bare: float
    bare_fresh: float
    worker: float
    ratio: float
    hanging: float
    cost: float
    matched: float
    queued: int
    round_peak_mb: float
    queued_peak_mb: float

    @property
    def peak_ratio(self) -> float:
        """How much more memory the long queue took."""
        return self.queued_peak_mb / self.round_peak_mb


async def measure(folder: Path, scale: Scale) -> WebhookFigures:
    """On a new log in SQLite, in a folder that is there; what is compared is measured in turn."""
    port = free_port()
    matched = await fill(folder, port, scale)
    async with process("-c", RECEIVER, str(port), quiet=True):
        await listening("127.0.0.1", port)
        heavy = await weighed(folder, port, scale)
        rounds, peaks = [], []
        for _ in range(scale.rounds):
            bare = await posted(folder, port, scale, "kept")
            fresh = await posted(folder, port, scale, "fresh")
            plain, peak = await worked(folder, port, scale)
            hanging, _ = await worked(folder, port, scale, HANGING)
            rounds.append((bare, fresh, plain, plain / bare, hanging, 1 - hanging / plain))
            peaks.append(peak)
    bare, fresh, plain, ratio, hanging, cost = map(statistics.median, zip(*rounds, strict=True))
    return WebhookFigures(
        *(bare, fresh, plain, ratio, hanging, cost, matched),
        *(EAGER * scale.queued, statistics.median(peaks), heavy),
    )


# --- What is posted ---


async def fill(folder: Path, port: int, scale: Scale) -> float:
    """A log of messages and who subscribed; how many messages a second were matched."""
    database = await open_database(DATABASE, folder)
    try:
        await record(database, scale.queued)
        await database.write(lambda connection: subscribe(connection, port))
        store, directory = StoredWebhooks(database), builders.directory()
        began, more = time.perf_counter(), True
        while more:
            more, _ = await store.match(directory, MAX_SAFE_INTEGER, builders.time())
        return scale.queued / (time.perf_counter() - began)
    finally:
        await database.close()


async def record(database: Database, count: int) -> None:
    """A log in which so many messages of about 2 kB went to everybody."""
    texts = {"en": {"title": "Bulletin", "summary": "s" * 200, "body": "b" * 900}}
    values = [
        builders.message(id=builders.message_id(n), marking="TLP:CLEAR", texts=texts)
        for n in range(count)
    ]
    drafts = [Draft(e.type, e.actor, e.subject, e.public) for e in builders.directory_log()]
    async with running(database) as store:
        await store.record(*(membership.append(draft) for draft in drafts))
        for start in range(0, count, 100):
            await store.send(*values[start : start + 100], messages_per_hour=count + 1)


def subscribe(connection: Connection, port: int) -> None:
    """Proven subscriptions: ``EAGER`` ones, and others that want something else each."""
    rows = [
        {
            "id": builders.message_id(n),
            "owner": OWNERS[n % len(OWNERS)],
            "url": f"http://127.0.1.{n % EAGER + 1}:{port}/",
            "filter": jsontext.encode(wished(n)).decode(),
            "ordered": False,
            "secrets": jsontext.encode((Generation(1),)).decode(),
            "state": "active",
            "start": 0,
            "created": builders.time(),
        }
        for n in range(SUBSCRIPTIONS)
    ]
    connection.execute(insert(_subscription), rows)


def wished(number: int) -> Filter:
    """What a subscription wants; all but the first want what no message here is."""
    if number < EAGER:
        return Filter(senders=("kz",), languages=("en", "ru")[: number % 2 + 1])
    # Found near every message, and asked: its goal is met, and its language is not.
    return Filter(sdgs=(16, number % 16 + 1), languages=(("ru", "kk", "uz")[number % 3],))


def owe(connection: Connection, messages: int, first: int) -> None:
    """Have the first messages wait for subscriptions from ``first`` on, and nothing else."""
    for table in (tables.webhook_attempts, _row):
        connection.execute(delete(table))
    chosen = select(tables.messages.c.idx).order_by(tables.messages.c.idx).limit(messages)
    rows = [
        {"subscription": builders.message_id(n), "idx": idx, "thread": builders.message_id(idx)}
        | {"state": "waiting", "attempts": 0, "next": builders.time()}
        for idx in connection.execute(chosen).scalars()
        for n in range(first, EAGER)
    ]
    connection.execute(insert(_row), rows)


# --- Who posts it ---


async def posted(folder: Path, port: int, scale: Scale, connections: str) -> float:
    """The rate of the bare client; its connections are ``kept`` or ``fresh``."""
    count = scale.webhooks * (EAGER - 1)
    figures = await said(folder, port, "bare", connections, count)
    return figures[0]


async def worked(folder: Path, port: int, scale: Scale, hanging: str = "") -> tuple[float, float]:
    """The rate of the worker to all endpoints but the first, and its peak; the first may hang."""
    database = await open_database(DATABASE, folder)
    host = hanging or "127.0.1.1"
    first = update(_subscription).where(_subscription.c.id == builders.message_id(0))

    def work(connection: Connection) -> None:
        # An endpoint that hangs has failed at the end of a round; here it is new in each.
        connection.execute(first.values(url=f"http://{host}:{port}/", state="active"))
        owe(connection, scale.webhooks, first=0 if hanging else 1)

    try:
        await database.write(work)
    finally:
        await database.close()
    return await said(folder, port, "worker", scale.webhooks * (EAGER - 1), PATIENCE)


async def weighed(folder: Path, port: int, scale: Scale) -> float:
    """The peak of the worker after a while with all that was matched before it."""
    _, peak = await said(folder, port, "worker", EAGER * scale.queued, scale.queued_seconds)
    return peak


async def said(folder: Path, port: int, *arguments: object) -> tuple[float, float]:
    """Posts a second and the peak in MB of a process that posts."""
    program = ("-m", "tests.bench.webhooks", *map(str, (folder, port, *arguments)))
    async with process(*program) as running:
        rate, peak = (await line(running, str(arguments[0]), PATIENCE)).split()
    return float(rate), float(peak)


async def bare(folder: Path, port: int, connections: str, count: int) -> float:
    """Post the bodies as the worker makes them to the same endpoints, as many at a time."""
    database = await open_database(DATABASE, folder)
    try:
        posts = await bodies(database, port, count)
    finally:
        await database.close()
    connector = aiohttp.TCPConnector(limit=0, force_close=connections == "fresh")
    waiting = iter(posts)
    async with aiohttp.ClientSession(connector=connector) as http:

        async def work() -> None:
            for url, body in waiting:
                headers = {"Content-Type": cloudevent.MEDIA_TYPE}
                async with http.post(url, data=body, headers=headers) as response:
                    await response.read()
                    response.raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(SLOTS)))
        return count / (time.perf_counter() - began)


async def bodies(database: Database, port: int, count: int) -> list[tuple[str, bytes]]:
    """So many posts: each message to every endpoint in turn."""
    messages = -(-count // (EAGER - 1))
    chosen = select(tables.messages.c.idx).order_by(tables.messages.c.idx).limit(messages)
    indices = await database.read(lambda connection: connection.execute(chosen).scalars().all())
    posts = []
    for sent in (await StoredWebhooks(database).sent(indices)).values():
        assert sent.envelope is not None
        event = cloudevent.of_message(builders.ORIGIN, deliver(sent.acceptance, sent.envelope))
        body = jsontext.encode(event)
        posts += [(f"http://127.0.1.{n + 1}:{port}/", body) for n in range(1, EAGER)]
    return posts[:count]


class Counted(StoredWebhooks):
    """What is kept of webhooks; ``done`` when so many to other endpoints than the first are."""

    def __init__(self, database: Database, count: int) -> None:
        super().__init__(database)
        self.left = count
        self.done = asyncio.Event()

    async def turn(
        self, results: Sequence[Result], room: Mapping[str, int], now: str, until: str
    ) -> Turn:
        turn = await super().turn(results, room, now, until)
        hanging = builders.message_id(0)
        self.left -= sum(each.claimed.subscription != hanging for each in results)
        failed = [each.answer for each in results if each.answer.status != 200]
        if failed:
            raise RuntimeError(f"{len(failed)} posts failed: {failed[0].error}")
        if self.left <= 0:
            self.done.set()
        return turn


async def worker(folder: Path, port: int, count: int, seconds: float) -> float:
    """Have the hub's worker send so many webhooks, or as many as it can in a time."""
    hosts = (*(f"127.0.1.{n + 1}" for n in range(EAGER)), HANGING)
    allowed = Allowed((ip_network("127.0.0.0/8"),), frozenset(hosts), frozenset((port,)))
    database = await open_database(DATABASE, folder)
    store, directory = Counted(database, count), builders.directory()
    sending = Webhooks(
        store,
        Guard(allowed),
        of_log_key(builders.ORIGIN, builders.LOG_KEY),
        lambda: directory,
        lambda: datetime.now(UTC),
        token_bytes,
        SLOTS,
    )
    began = time.perf_counter()
    task = asyncio.create_task(sending.run(tell, lambda heard, seconds: None))
    try:
        done = asyncio.create_task(store.done.wait())
        await asyncio.wait((done, task), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return (count - store.left) / (time.perf_counter() - began)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sending.close()
        await database.close()


async def tell(told: Told) -> None:
    """Nobody is told anything: no endpoint fails for days here."""
    raise RuntimeError(told.notice)


async def post(who: str, folder: Path, port: int, arguments: Sequence[str]) -> float:
    """What a process that posts is asked to do."""
    if who == "bare":
        return await bare(folder, port, arguments[0], int(arguments[1]))
    return await worker(folder, port, int(arguments[0]), float(arguments[1]))


def main(arguments: Sequence[str]) -> None:
    if len(arguments) > 1:
        folder, port, who, *rest = arguments
        rate = uvloop.run(post(who, Path(folder), int(port), rest))
        print(rate, peak_mb(os.getpid()), flush=True)
        return
    scale = TINY if "--tiny" in arguments else WHOLE
    with tempfile.TemporaryDirectory(prefix="nhri-bench-") as name:
        found = uvloop.run(measure(Path(name), scale))
    print(msgspec.json.format(msgspec.json.encode(found)).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
