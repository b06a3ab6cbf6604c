"""A RabbitMQ and a PostgreSQL with hubs on them; the means to fill, watch and empty the queues."""

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage

from hub.delivery import topology
from hub.demo import servers
from hub.demo.servers import PostgreSQL, RabbitMQ
from hub.settings import Settings
from schemas import amqp
from tests.bench import accounts, hubs, load
from tests.bench.accounts import Account, Accounts
from tests.bench.processes import process

FILLERS = 2
"""Processes that sign and publish; the machine has two cores."""

POLL = 0.05
"""Seconds between two looks at the queues."""

SETTLED = 0.3
"""Seconds without a change after which nothing more is expected."""

STALLED = 60.0
"""Seconds without a change after which a run has failed."""

CONNECTOR = "mn"
"""The code of a member whose connector is a real one; it has an account, and joins no hub here."""

PASSWORD = secrets.token_hex(8)


class Hub(msgspec.Struct, frozen=True):
    """A hub with a database of its own and its members joined; it does not run."""

    settings: Settings
    database: PostgreSQL
    members: Accounts
    accounts: Path
    """The file with the members."""


class Exchange:
    """One broker with the hub's topology, and a database server."""

    def __init__(
        self, folder: Path, node: RabbitMQ, database: PostgreSQL, channel: AbstractChannel
    ) -> None:
        self._folder = folder
        self._node = node
        self._database = database
        self._channel = channel

    def url(self, account: str) -> str:
        """The broker's address for an account; all have the same password here."""
        return self._node.url_for(amqp.VHOST, account, PASSWORD)

    async def hub(self, name: str, **broker: int) -> Hub:
        """A new hub with an empty log and its members joined; it does not run."""
        database = await self._database.create(name)
        folder = self._folder / name
        url = self.url(topology.HUB_ACCOUNT)
        settings = hubs.new(folder, database.url, url, **broker)
        async with hubs.serving(settings):
            keys = await load.join_members(settings)
        members = {
            code: Account(self.url(code), private.private_bytes_raw())
            for code, private in keys.items()
        }
        accounts.write(folder / "accounts.json", members)
        return Hub(settings, database, members, folder / "accounts.json")

    async def fill(self, hub: Hub, count: int) -> None:
        """Put so many signed submissions of a hub's members into its queue.

        Raises:
            RuntimeError: they did not all get there.
        """
        shares = [count // FILLERS] * (FILLERS - 1)
        shares.append(count - sum(shares))
        async with contextlib.AsyncExitStack() as stack:
            for filler in [
                await stack.enter_async_context(
                    process("-m", "tests.bench.filler", str(hub.accounts), str(share))
                )
                for share in shares
            ]:
                await filler.wait()
        if (found := await self.ready(amqp.SUBMISSIONS_QUEUE)) != count:
            raise RuntimeError(f"{found} of {count} submissions are in the queue")

    async def ready(self, queue: str) -> int:
        """Messages in a queue that nobody has taken."""
        declared = await self._channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def taken(self, count: int) -> float:
        """Wait until the first of so many submissions is taken; gives the time of it.

        Raises:
            TimeoutError: nobody takes any.
        """
        async with asyncio.timeout(STALLED):
            while await self.ready(amqp.SUBMISSIONS_QUEUE) >= count:  # noqa: ASYNC110 - a queue's
                await asyncio.sleep(POLL / 4)
        return time.perf_counter()

    async def delivered(self, copies: int) -> float:
        """Wait until no submission is left and so many copies are in the inboxes.

        Gives the time of the last change seen there: answers to senders come in until then.

        Raises:
            RuntimeError: it does not go on.
        """
        seen, changed = -1, time.perf_counter()
        while True:
            now = sum([await self.ready(amqp.inbox(code)) for code in load.MEMBERS])
            if now != seen:
                seen, changed = now, time.perf_counter()
            left = await self.ready(amqp.SUBMISSIONS_QUEUE)
            quiet = time.perf_counter() - changed
            if seen >= copies and not left and quiet > SETTLED:
                return changed
            if quiet > STALLED:
                raise RuntimeError(f"{seen} of {copies} copies, {left} submissions left")
            await asyncio.sleep(POLL)

    async def count(self, copies: int) -> None:
        """Take everything out of the inboxes, and see that so many deliveries were among it.

        Raises:
            RuntimeError: there were fewer.
        """
        found = sum([await self._take_out(amqp.inbox(code)) for code in load.MEMBERS])
        if found < copies:
            raise RuntimeError(f"{found} of {copies} copies are in the inboxes")

    async def _take_out(self, inbox: str) -> int:
        """Empty an inbox; how many deliveries were in it."""
        left = await self.ready(inbox)
        if not left:
            return 0
        kinds = Counter[str | None]()
        all_out = asyncio.Event()

        async def take(message: DeliveredMessage) -> None:
            kinds[message.header.properties.message_type] += 1
            if kinds.total() >= left:
                all_out.set()

        channel = await self._channel.get_underlay_channel()
        consuming = await channel.basic_consume(inbox, take, no_ack=True)
        async with asyncio.timeout(STALLED):
            await all_out.wait()
        await channel.basic_cancel(consuming.consumer_tag or "")
        return kinds[amqp.DELIVERY]

    async def empty(self) -> None:
        """Throw away what is in the queues; whoever took something has to have ended."""
        for name in (amqp.SUBMISSIONS_QUEUE, *map(amqp.inbox, (*load.MEMBERS, CONNECTOR))):
            queue = await self._channel.get_queue(name, ensure=False)
            await queue.purge()


@contextlib.asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[Exchange]:
    """Servers and topology, with accounts for the hub and all members."""
    codes = (*load.MEMBERS, CONNECTOR)
    hashes = {
        account: topology.password_hash(PASSWORD, secrets.token_bytes(4))
        for account in (topology.HUB_ACCOUNT, *codes)
    }
    async with (
        servers.rabbitmq(folder / "rabbitmq", topology.definitions(codes, hashes)) as node,
        servers.postgresql(folder / "postgresql", "unused") as database,
        await aio_pika.connect(
            node.url_for(amqp.VHOST, topology.HUB_ACCOUNT, PASSWORD)
        ) as connection,
    ):
        yield Exchange(folder, node, database, await connection.channel())
