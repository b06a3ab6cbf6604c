"""A place on a real RabbitMQ for a test: a virtual host of its own, accounts for everybody."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelNotFoundEntity
from msgspec.structs import replace

from connectors.link import InboxPage
from connectors.link.amqp import AmqpLink, Patience
from connectors.link.http import HttpLink, Identity
from hub.delivery import topology
from hub.delivery.broker import Depth
from hub.demo.processes import ProcessError
from hub.demo.servers import RabbitMQ
from hub.settings import Settings
from schemas import amqp
from tests import builders, client
from tests.simulator.waiting import until

CODES = ("kz", "kg", "tj", "tm", "uz", "undp", "guest")

PASSWORDS = {account: secrets.token_hex(8) for account in (topology.HUB_ACCOUNT, *CODES)}

HASHES = {name: topology.password_hash(word, b"salt") for name, word in PASSWORDS.items()}

QUICK = Patience(connect=10, confirm=10, answer=10, gap=0.2, first=0.05, longest=0.5)
"""A link in a hurry."""


class Broker:
    """A virtual host with the permissions of the real one; the hub makes its own queues."""

    def __init__(self, node: RabbitMQ, vhost: str) -> None:
        self.node = node
        self.vhost = vhost

    def url(self, account: str) -> str:
        """The address for an account."""
        return self.node.url_for(self.vhost, account, PASSWORDS[account])

    def settings(self, settings: Settings, **broker: object) -> Settings:
        """A hub's settings, with this broker."""
        url = self.url(topology.HUB_ACCOUNT)
        return replace(settings, broker=replace(settings.broker, url=url, **broker))

    def link(self, hub: client.Hub, code: str, **patience: float) -> AmqpLink:
        """A participant's link to a hub through this broker; its troubles are kept in it."""
        return amqp_link(self.url(code), hub, code, **patience)

    @asynccontextmanager
    async def channel(self, account: str = topology.HUB_ACCOUNT, **options: bool):
        """A channel of an account on a connection of its own."""
        async with await aio_pika.connect(self.url(account)) as connection:
            yield await connection.channel(**options)

    async def depth(self, queue: str) -> Depth:
        """How full a queue is, and how many consume it; of none, that it is empty."""
        async with self.channel() as channel:
            try:
                found = (await channel.declare_queue(queue, passive=True)).declaration_result
            except ChannelNotFoundEntity:
                return Depth(0, 0)
            return Depth(found.message_count or 0, found.consumer_count or 0)

    @asynccontextmanager
    async def stuck(self, queue: str) -> AsyncIterator[None]:
        """A queue whose leader says nothing: what is published there is never confirmed."""
        found = f'rabbit_amqqueue:lookup(rabbit_misc:r(<<"{self.vhost}">>, queue, <<"{queue}">>))'
        leader = f"whereis(element(1, amqqueue:get_pid(element(2, {found}))))"
        await self.node.ctl("eval", f"sys:suspend({leader}).")
        try:
            yield
        finally:
            with contextlib.suppress(ProcessError):  # the test may have deleted it
                await self.node.ctl("eval", f"sys:resume({leader}).")

    async def ready(self, hub: client.Hub) -> None:
        """Wait until a hub has made everybody's inbox, fills them and takes submissions."""
        publisher = hub.service.publisher
        assert publisher is not None
        await until(
            lambda: publisher._ready and publisher._surveyed.issuperset(publisher._codes()),
            "the hub fills the inboxes",
        )

        async def consumes() -> bool:
            return (await self.depth(amqp.SUBMISSIONS_QUEUE)).consumers > 0

        await eventually(consumes, "the hub takes submissions")


class CountedLink(HttpLink):
    """Over HTTP; keeps the positions of the inbox that came so."""

    def __init__(self, hub: client.Hub, code: str) -> None:
        identity = Identity(code, builders.key(code), client.ORIGIN)
        super().__init__(hub.connection.url, identity, hub.service.clock)
        self.positions: list[int] = []

    async def inbox(self, after: int, limit: int, wait: float) -> InboxPage:
        page = await super().inbox(after, limit, wait)
        self.positions += [item.position for item in page.deliveries]
        return page


def amqp_link(url: str, hub: client.Hub, code: str, **patience: float) -> AmqpLink:
    """A participant's link through whatever listens at a URL."""
    troubles: list[str] = []

    def trouble(work: str, error: Exception, delay: float) -> None:
        troubles.append(f"{work}: {error}")

    quick = replace(QUICK, **patience)
    made = AmqpLink(lambda: url, code, http_link(hub, code), trouble, patience=quick)
    made.troubles = troubles  # type: ignore[attr-defined]
    return made


def http_link(hub: client.Hub, code: str) -> CountedLink:
    """A participant's link over HTTP."""
    return CountedLink(hub, code)


class Brokers:
    """Virtual hosts with the permissions of the real one, made by the dozen: that is quicker."""

    AT_ONCE = 24

    def __init__(self, node: RabbitMQ) -> None:
        self._node = node
        self._made = 0
        self._unused: list[str] = []

    async def new(self) -> Broker:
        """One that nobody has used yet."""
        if not self._unused:
            self._unused = [f"test-{self._made + number}" for number in range(self.AT_ONCE)]
            self._made += self.AT_ONCE
            await self._node.import_definitions(_definitions(self._unused))
        return Broker(self._node, self._unused.pop())


def _definitions(names: Iterable[str]) -> dict[str, object]:
    document = topology.definitions(CODES, HASHES)
    made: dict[str, object] = {"users": document["users"]}
    made["vhosts"] = [{"name": name} for name in names]
    for kind in ("permissions", "topic_permissions"):
        rows = document[kind]
        assert isinstance(rows, list)
        made[kind] = [row | {"vhost": name} for name in names for row in rows]
    return made


async def eventually(
    condition: Callable[[], Awaitable[object]], what: str, seconds: float = 90
) -> None:
    """Return once a condition that has to be asked for holds; fail, naming it, if it never does."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():  # noqa: ASYNC110 - a queue elsewhere is no event here
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not so within {seconds:g} s: {what}") from None


async def take_all(
    channel: AbstractChannel, queue: str, use: Callable[[AbstractIncomingMessage], Awaitable[None]]
) -> None:
    """Consume a queue for as long as the channel lives."""
    await channel.set_qos(prefetch_count=200)
    found = await channel.get_queue(queue, ensure=False)
    await found.consume(use)


async def publish(channel: AbstractChannel, code: str, body: bytes, **properties) -> None:
    """Publish as a participant does; ``properties`` replace what it would say of itself."""
    exchange = await channel.get_exchange(properties.pop("to", amqp.SUBMISSIONS), ensure=False)
    key = properties.pop("key", code)
    says = {"type": amqp.MESSAGE, "user_id": code, "message_id": secrets.token_hex(8)} | properties
    await exchange.publish(aio_pika.Message(body, delivery_mode=2, **says), key, timeout=10)
