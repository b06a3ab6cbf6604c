"""Everything is killed under load: whoever was told "accepted" was told the truth.

Members send over RabbitMQ to a hub on PostgreSQL through the connectors' own links, read their
inboxes and sign receipts. At least 500 messages a second are written, as long as not too many wait
for their answers; how many of them were accepted a second is printed. Meanwhile broker, hub and
database are killed and started again in turn, and all connections are cut, the hub's as well. In
the end every message that was told to be accepted stands in the log once and in each recipient's
inbox once. A seed brings the same choices back.

``make test`` does a tenth of what ``make campaign`` does.
"""

import asyncio
import contextlib
import itertools
import random
import secrets
import shutil
import signal
import statistics
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import pytest
from msgspec.structs import replace

from connectors.link import HubRefused, LinkError
from connectors.link.amqp import AmqpLink, Patience
from connectors.link.http import HttpLink, Identity
from hub.demo import servers
from hub.settings import Broker
from schemas import entry as entries
from schemas import receipt
from schemas.acceptance import Acceptance
from schemas.encoding import b64url, format_time, unb64url
from schemas.entry import MESSAGE_ACCEPTED
from schemas.merkle import leaf_hash
from schemas.receipt import Item, Receipt
from tests import client
from tests.broker import Brokers
from tests.builders import key
from tests.client import Participant
from tests.conftest import server_folder
from tests.faults.test_hub_kill import Process, whole_log
from tests.ports import free_port

MEMBERS = ("kz", "kg", "tj", "tm")

RATE = 600
"""Messages a second that are written, by all who send together."""

IN_FLIGHT = 64
"""Messages of one member that are offered to the hub at once; the others wait in its outbox."""

PATIENCE_FOR_ALL = 180
"""Seconds for what has to happen in the end."""

PATIENCE = Patience(connect=20, confirm=20, answer=20, gap=0.5, first=0.05, longest=0.5)


def now():
    return datetime.now(UTC)


class Line:
    """Everybody's way to the broker: to the first of its nodes that answers, until it is cut."""

    def __init__(self, *ports):
        self.cuts = 0
        self._ports = ports
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()

    async def _serve(self, reader, writer):
        for port in self._ports:
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            writer.close()
            return
        ends = {writer, back}
        self._writers |= ends
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))
        self._writers -= ends

    async def _pipe(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self):
        """End all connections at once."""
        self.cuts += 1
        for writer in self._writers:
            writer.transport.abort()


class Member:
    """One institution: it sends, reads, and signs for what it has read."""

    def __init__(self, code, link, participant):
        self.code = code
        self.link = link
        self.participant = participant
        self.outbox: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.accepted: dict[str, Acceptance] = {}
        self.received: list[str] = []
        self._unsigned: dict[str, list[Item]] = {}

    async def send(self):
        """Empty the outbox, each message until there is an answer, for ever."""
        while True:
            message = await self.outbox.get()
            envelope = self.participant.sign(message)
            self.accepted[str(message["id"])] = await self._offered(self.link.submit, envelope)

    async def read(self):
        """Read the inbox for ever; what comes is the next position and nothing else."""
        while True:
            try:
                page = await self.link.inbox(len(self.received), 100, 1)
            except LinkError:
                await asyncio.sleep(0.1)
                continue
            for item in page.deliveries:
                assert item.position == len(self.received) + 1
                self._take(item)

    def _take(self, item):
        entry = unb64url(item.delivery.entry)
        message = client.sent(item.delivery)
        self.received.append(message.id)
        told: Item = (message.id, b64url(leaf_hash(entry)), item.position, "received", "")
        self._unsigned.setdefault(message.sender, []).append(told)

    async def answer(self):
        """Sign for what was read, many at once, for ever."""
        while True:
            await asyncio.sleep(0.2)
            for sender in [*self._unsigned]:
                items = self._unsigned.pop(sender)
                for start in range(0, len(items), receipt.MAX_ITEMS):
                    part = tuple(items[start : start + receipt.MAX_ITEMS])
                    made = Receipt(self.code, format_time(now()), part)
                    signed = receipt.sign(made, self.participant.private)
                    await self._offered(self.link.send_receipt, signed)

    async def _offered(self, offer, signed):
        while True:
            try:
                return await offer(signed)
            except HubRefused as refused:
                if not refused.retryable:
                    raise
            except LinkError:
                pass  # nothing was promised
            await asyncio.sleep(0.1)


class Load:
    """Members that write messages at a steady rate, whatever happens, until told to stop.

    Once ``backlog`` messages wait for their answers, as after an outage, nobody writes more.
    """

    def __init__(self, senders, backlog=10_000):
        self.offered = 0
        self.accepted_by_second: list[int] = []
        self._senders = senders
        self._readers: list[Member] = []
        self._backlog = backlog
        self._tasks: list[asyncio.Task[None]] = []
        for member in senders:
            self._tasks += [asyncio.create_task(member.send()) for _ in range(IN_FLIGHT)]
        self._pace = asyncio.create_task(self._write())

    @property
    def accepted(self):
        return sum(len(member.accepted) for member in self._senders)

    def read(self, *members):
        """Let members read their inboxes and sign for what they read."""
        self._readers += members
        for member in members:
            self._tasks += [
                asyncio.create_task(member.read()),
                asyncio.create_task(member.answer()),
            ]

    async def _write(self):
        clock = asyncio.get_running_loop().time
        began = before = clock()
        while True:
            await asyncio.sleep(0.02)
            due = int((clock() - before) * RATE)
            before += due / RATE
            for _ in range(due):
                if self.offered - self.accepted < self._backlog:
                    member = self._senders[self.offered % len(self._senders)]
                    member.outbox.put_nowait(member.participant.message())
                    self.offered += 1
            if clock() - began >= len(self.accepted_by_second) + 1:
                self.accepted_by_second.append(self.accepted)

    def __str__(self):
        before = [0, *self.accepted_by_second]
        rates = [b - a for a, b in itertools.pairwise(before)]
        median, best = (statistics.median(rates), max(rates)) if rates else (0, 0)
        return f"{self.offered} messages; a second: median {median:.0f}, at best {best}"

    async def more(self, count):
        """Wait until so many more messages are accepted."""
        enough = self.accepted + count
        await self._until(lambda: self.accepted >= enough)

    async def stop(self):
        """Write nothing more, and wait until all is accepted and has come in."""
        self._pace.cancel()
        await self._until(lambda: self.accepted == self.offered)
        for member in self._readers:
            others = self.accepted - len(member.accepted)
            await self._until(lambda member=member, others=others: len(member.received) >= others)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._pace, *self._tasks, return_exceptions=True)

    async def _until(self, condition):
        async with asyncio.timeout(PATIENCE_FOR_ALL):
            while not condition():
                for task in self._tasks:
                    if task.done():
                        task.result()  # a member found something wrong
                await asyncio.sleep(0.05)


class Site:
    """Broker, database and hubs, and everybody's line to the broker."""

    def __init__(self, nodes, line, database):
        self.nodes = nodes
        self.line = line
        self.database = database
        self.hubs: list[Process] = []

    async def kill_broker(self):
        (node,) = self.nodes
        await node.kill()
        await node.start()

    async def kill_database(self):
        await self.database.stop_at_once()
        await self.database.start()

    async def kill_hub(self, which=0):
        await self.hubs[which].end(signal.SIGKILL)
        await self.hubs[which].start()

    async def cut_now_and_then(self, chance):
        """About ten times a minute."""
        while True:
            await asyncio.sleep(chance.uniform(3, 9))
            self.line.cut()

    def through(self, url):
        """The same address, by the line."""
        return url.replace(f":{self.nodes[0].port}/", f":{self.line.port}/")


def settings_of(folder, place, database):
    """A new hub on the database and the broker, without a quota."""
    settings = client.new_settings(folder)
    store = replace(settings.store, url=database.url)
    quota = replace(settings.quota, messages_per_hour=10**9)
    return place.settings(replace(settings, store=store, quota=quota))


async def everybody_joins(settings, place):
    async with client.running(settings) as hub:
        for code in MEMBERS:
            await hub.operator.join(hub.participant(code))
        await place.ready(hub)


def another_hub(settings, number, folder):
    """The settings of a further hub on the same log."""
    copy = folder / f"hub-{number}"
    shutil.copytree(settings.folder, copy)
    http = replace(settings.http, port=free_port())
    return replace(settings, http=http, folder=str(copy))


@contextlib.asynccontextmanager
async def site(folder, place, nodes, database, hubs=1):
    """A hub or several on one log, started, with members that have joined."""
    async with Line(*(node.port for node in nodes)) as line, contextlib.AsyncExitStack() as stack:
        made = Site(nodes, line, database)
        settings = settings_of(folder / "hub", place, database)
        await everybody_joins(settings, place)
        for node in nodes:
            await node.settle()
        url = made.through(settings.broker.url)
        settings = replace(settings, broker=replace(settings.broker, url=url))
        every = [settings, *(another_hub(settings, n, folder) for n in range(1, hubs))]
        doors = []
        for own in every:
            _, local = await stack.enter_async_context(client.connected(own))
            doors.append(local)
            made.hubs.append(Process(own, local))
            await made.hubs[-1].start()
        members = []
        for number, code in enumerate(MEMBERS):
            http = HttpLink(every[number % hubs].url, Identity(code, key(code), client.ORIGIN))
            url = partial(made.through, place.url(code))
            link = AmqpLink(url, code, http, lambda *_: None, patience=PATIENCE)
            stack.push_async_callback(link.close)
            members.append(Member(code, link, Participant(doors[0], code, now)))
        yield made, members
        for process in made.hubs:
            assert await process.end(signal.SIGTERM) == 0
    await check(replace(settings, broker=Broker()), members)


async def check(settings, members):
    """The log, and every inbox, against what the senders were told."""
    promised = {id_: given for member in members for id_, given in member.accepted.items()}
    async with client.running(settings) as hub:
        verdict = await hub.operator.get("/v1/audit/verify")
        assert verdict["ok"], verdict
        raws = await whole_log(hub, hub.participant("kz"))
        for id_, given in promised.items():
            opened = hub.open(given)
            assert (opened.entry.subject, unb64url(given.entry)) == (id_, raws[opened.index])
    accepted = (entry for entry in map(entries.decode, raws) if entry.type == MESSAGE_ACCEPTED)
    assert Counter(entry.subject for entry in accepted) == Counter(promised.keys())
    for member in members:
        expected = Counter(id_ for id_ in promised if id_ not in member.accepted)
        assert Counter(member.received) == expected


@pytest.mark.parametrize(
    ("rounds", "waiting"), [(1, 500), pytest.param(10, 5_000, marks=pytest.mark.campaign)]
)
async def test_killing_anything_under_load_loses_and_doubles_nothing(
    tmp_path, broker, postgresql, rounds, waiting
):
    """One member is away until so many messages wait for it: it neither sends nor reads."""
    chance = seeded()
    async with site(tmp_path, broker, [broker.node], postgresql) as (place, members):
        *present, away = members
        load = Load(present, backlog=1_000 * rounds)
        load.read(*present)
        cutting = asyncio.create_task(place.cut_now_and_then(chance))
        for _ in range(rounds):
            kills = [place.kill_broker, place.kill_hub, place.kill_database]
            chance.shuffle(kills)
            for kill in kills:
                await load.more(chance.randint(100, 500))
                await kill()
        await load.more(max(100, waiting - load.accepted))
        query = "SELECT count(*) FROM deliveries WHERE recipient = 'tm' AND receipt_idx IS NULL"
        assert away.code == "tm"
        assert int(await postgresql.psql(query)) >= waiting
        load.read(away)
        await load.stop()
        cutting.cancel()
        print(f"{load}; {rounds} rounds of three kills; {place.line.cuts} times all lines cut")


@pytest.mark.parametrize("tenths", [1, pytest.param(10, marks=pytest.mark.campaign)])
async def test_two_hubs_killed_in_turn_keep_one_log(tmp_path, broker, postgresql, tenths):
    chance = seeded()
    nodes = [broker.node]
    async with site(tmp_path, broker, nodes, postgresql, hubs=2) as (place, members):
        load = Load(members, backlog=1_000 * tenths)
        load.read(*members)
        for which in itertools.cycle((0, 1)):
            await load.more(chance.randint(20 * tenths, 100 * tenths))
            await place.kill_hub(which)
            if which == 1 and load.accepted >= 1_000 * tenths:
                break
        await load.stop()
        print(load)


@pytest.mark.parametrize("tenths", [1, pytest.param(10, marks=pytest.mark.campaign)])
async def test_a_cluster_of_three_goes_on_with_one_stopped(tmp_path, postgresql, tenths):
    with server_folder() as folder:
        async with servers.rabbitmq_cluster(folder) as nodes:
            broker = await Brokers(nodes[0]).new()
            async with site(tmp_path, broker, nodes, postgresql) as (_, members):
                load = Load(members, backlog=1_000 * tenths)
                load.read(*members)
                await load.more(50 * tenths)
                await nodes[0].kill()
                await load.more(500 * tenths)
                await nodes[0].start()
                await load.more(100 * tenths)
                await load.stop()
                print(load)


def seeded():
    seed = secrets.randbits(32)
    print(f"seed of the faults: {seed}")
    return random.Random(seed)
