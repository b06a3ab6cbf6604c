"""The hub on RabbitMQ and PostgreSQL, against bare relays on the same broker.

(a) a relay that publishes each message once a recipient, verifying and recording nothing; (b) the
same with one publish for all; (c) the hub with everything on. Each goes from a full submissions
queue until every copy is in its inbox and, for the hub, every answer is out.
"""

import asyncio
import contextlib
import secrets
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel

from hub import settings as configuration
from hub.delivery import topology
from hub.demo import servers
from hub.demo.servers import RabbitMQ
from hub.settings import Settings
from schemas import amqp
from tests.bench import load
from tests.bench.http_sqlite import free_port, process, resident_mb

MESSAGES = 2_000
ROUNDS = 3
POLL = 0.02
"""Seconds between two looks at the queues."""

IDLE_LATENCIES = 200

RELAY = """
import asyncio, sys
import aio_pika, uvloop

URL, MODE, INBOXES = sys.argv[1], sys.argv[2], sys.argv[3].split(",")

async def main():
    connection = await aio_pika.connect(URL)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=600)
    out = await (await connection.channel()).get_exchange("deliveries", ensure=False)
    queue = await channel.get_queue("hub.submissions", ensure=False)

    async def relay(message):
        others = [inbox for inbox in INBOXES if inbox != f"inbox.{message.routing_key}"]
        copies = [others] if MODE == "one" else [[other] for other in others]
        await asyncio.gather(*(
            out.publish(
                aio_pika.Message(
                    message.body, delivery_mode=2, headers={"CC": keys[1:]} if keys[1:] else None
                ),
                keys[0],
            )
            for keys in copies
        ))
        await message.ack()

    await queue.consume(lambda message: asyncio.create_task(relay(message)) and asyncio.sleep(0))
    await asyncio.Event().wait()

uvloop.run(main())
"""


class BrokerFigures(msgspec.Struct, frozen=True):
    """Messages a second, the medians of the rounds; memory in MB after the rounds."""

    relay_each: float
    relay_once: float
    hub: float
    hub_resident_mb: float


class Bench:
    """One broker with a hub's topology, and the means to fill, watch and empty its queues."""

    def __init__(self, node: RabbitMQ, settings: Settings, channel: AbstractChannel) -> None:
        self.node = node
        self.settings = settings
        self.channel = channel
        self.keys: load.KeyRing = {}

    def url(self, account: str) -> str:
        """The broker's address for an account; all have the same password here."""
        return self.node.url_for(amqp.VHOST, account, PASSWORD)

    async def fill(self, count: int) -> None:
        """Put so many signed submissions into the queue, each by its sender's own account."""
        async with contextlib.AsyncExitStack() as stack:
            exchanges = {}
            for code in self.keys:
                connection = await stack.enter_async_context(await aio_pika.connect(self.url(code)))
                channel = await connection.channel()
                exchanges[code] = await channel.get_exchange(amqp.SUBMISSIONS, ensure=False)
            signed = list(load.messages(self.keys, count))
            for start in range(0, count, 200):
                await asyncio.gather(
                    *(
                        exchanges[code].publish(_submission(code, body), code)
                        for code, body in signed[start : start + 200]
                    )
                )

    async def ready(self, queue: str) -> int:
        """Messages in a queue that nobody has taken."""
        declared = await self.channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def copies(self) -> int:
        """Messages in all inboxes."""
        return sum([await self.ready(amqp.inbox(code)) for code in load.MEMBERS])

    async def drained(self, copies: int) -> float:
        """Wait until the queue is empty and so many copies are in the inboxes; gives seconds.

        The time begins when the first message is taken and ends with the last change seen.
        """
        total = await self.ready(amqp.SUBMISSIONS_QUEUE)
        async with asyncio.timeout(120):
            while await self.ready(amqp.SUBMISSIONS_QUEUE) == total:  # noqa: ASYNC110 - a queue's
                await asyncio.sleep(POLL / 4)
            started = changed = time.perf_counter()
            seen = -1
            while True:
                now = await self.copies()
                if now != seen:
                    seen, changed = now, time.perf_counter()
                left = await self.ready(amqp.SUBMISSIONS_QUEUE)
                if seen >= copies and not left and time.perf_counter() - changed > 0.3:
                    return changed - started
                await asyncio.sleep(POLL)

    async def empty(self) -> None:
        """Throw away what is in the inboxes."""
        for code in load.MEMBERS:
            queue = await self.channel.get_queue(amqp.inbox(code), ensure=False)
            await queue.purge()


PASSWORD = secrets.token_hex(8)


def _submission(code: str, body: bytes) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        type=amqp.MESSAGE,
        user_id=code,
        message_id=secrets.token_hex(8),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


@contextlib.asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[Bench]:
    """Servers, topology, and a hub's settings with its members joined; the hub is stopped."""
    accounts = (topology.HUB_ACCOUNT, *load.MEMBERS)
    hashes = {a: topology.password_hash(PASSWORD, secrets.token_bytes(4)) for a in accounts}
    async with (
        servers.rabbitmq(folder / "rabbitmq") as node,
        servers.postgresql(folder / "postgresql") as database,
    ):
        await node.import_definitions(topology.definitions(load.MEMBERS, hashes))
        await node.settle()
        settings = _settings(folder / "hub", node, database.url)
        async with await aio_pika.connect(node.url_for(amqp.VHOST, "hub", PASSWORD)) as connection:
            bench = Bench(node, settings, await connection.channel())
            async with serving(settings):
                bench.keys = await load.join_members(settings)
            yield bench


def _settings(folder: Path, node: RabbitMQ, database: str) -> Settings:
    path = configuration.initialise(folder, "hub.example", free_port())
    text = path.read_text()
    text = text.replace("messages_per_hour = 2000", "messages_per_hour = 1000000000")
    text = text.replace("sqlite:///hub.sqlite", database)
    url = node.url_for(amqp.VHOST, "hub", PASSWORD)
    path.write_text(f'{text}\n[broker]\nurl = "{url}"\noutstanding = 1000000000\n')
    return configuration.load(path, {})


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    """The hub as a process of its own, its socket open."""
    program = "import sys; from hub.cli.main import main; sys.argv[0] = 'nhri-hub'; main()"
    config = f"{settings.folder}/hub.toml"
    async with process("-c", program, "serve", "--config", config) as hub:
        async with asyncio.timeout(30):
            while not settings.socket.exists():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.05)
        yield hub


async def measure(folder: Path) -> BrokerFigures:
    """All four, in turn, for some rounds."""
    copies = MESSAGES * (len(load.MEMBERS) - 1)
    rates: dict[str, list[float]] = {"each": [], "one": [], "hub": []}
    resident = 0.0
    async with prepared(folder) as bench:
        for _ in range(ROUNDS):
            for mode in ("each", "one"):
                await bench.fill(MESSAGES)
                inboxes = ",".join(map(amqp.inbox, load.MEMBERS))
                async with process("-c", RELAY, bench.url("hub"), mode, inboxes):
                    rates[mode].append(MESSAGES / await bench.drained(copies))
                await bench.empty()
            await bench.fill(MESSAGES)
            async with serving(bench.settings) as hub:
                rates["hub"].append(MESSAGES / await bench.drained(copies))
                resident = resident_mb(hub.pid)
            await bench.empty()
    middle = {mode: statistics.median(found) for mode, found in rates.items()}
    return BrokerFigures(middle["each"], middle["one"], middle["hub"], resident)
