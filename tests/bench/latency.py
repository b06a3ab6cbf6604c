"""Latency from publishing a submission to its delivery from an inbox, over the hub and bare.

Bare is a round trip of two hops: to a relay that publishes once, and back. Both are measured by the
same probe, in turn, in an idle exchange and at half of the rate that the hub reached.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

import aio_pika
import msgspec
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

from schemas import amqp
from schemas.acceptance import Delivery
from schemas.encoding import unb64url
from tests.bench import broker, filler, hubs, load
from tests.bench.exchange import STALLED, Exchange, Hub
from tests.bench.hubs import UNBOUNDED
from tests.bench.scale import Scale

RECEIVER = "kg"
"""Whose inbox is watched; the others send."""

WARMING = 20
"""Messages before those that count: connections, caches and a program's first steps."""

Signed: TypeAlias = tuple[str, bytes]
"""Sender and envelope."""


class Latencies(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50_ms: float
    p99_ms: float


class LatencyFigures(msgspec.Struct, frozen=True):
    """Of all rounds together; ``half_load`` is in messages a second."""

    hub_idle: Latencies
    bare_idle: Latencies
    half_load: float
    hub_half_load: Latencies
    bare_half_load: Latencies

    @property
    def ratio(self) -> float:
        """The hub's p99 in terms of that of the bare round trip, both idle."""
        return self.hub_idle.p99_ms / self.bare_idle.p99_ms


class Probe:
    """Publishes as the members do, and looks at what comes into one inbox and when."""

    def __init__(self, exchanges: dict[str, AbstractExchange]) -> None:
        self._exchanges = exchanges
        self._sent: dict[bytes, tuple[float, asyncio.Future[float]]] = {}

    async def consume(self, channel: AbstractChannel) -> None:
        """Look at the receiver's inbox."""
        queue = await channel.get_queue(amqp.inbox(RECEIVER), ensure=False)
        await queue.consume(self._see)

    async def _see(self, message: AbstractIncomingMessage) -> None:
        came = time.perf_counter()
        body = message.body
        if b'"envelope"' in body:  # from the hub; a relay passes on the envelope itself
            body = unb64url(msgspec.json.decode(body, type=Delivery).envelope)
        await message.ack()
        published, seen = self._sent.pop(body)
        seen.set_result(came - published)

    async def latency(self, signed: Signed) -> float:
        """Publish a message and wait for it in the inbox; gives seconds."""
        code, body = signed
        seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._sent[body] = time.perf_counter(), seen
        await filler.publish(self._exchanges, code, body)
        async with asyncio.timeout(STALLED):
            return await seen

    async def one_by_one(self, messages: Sequence[Signed]) -> list[float]:
        """Latencies of messages of which each waits for the one before."""
        return [await self.latency(signed) for signed in messages]

    async def at(self, rate: float, messages: Sequence[Signed]) -> list[float]:
        """Latencies of messages published at so many a second, whatever becomes of them."""
        clock = asyncio.get_running_loop().time
        began = clock()
        tasks = []
        for number, signed in enumerate(messages):
            await asyncio.sleep(began + number / rate - clock())
            tasks.append(asyncio.create_task(self.latency(signed)))
        return list(await asyncio.gather(*tasks))


@contextlib.asynccontextmanager
async def probing(hub: Hub) -> AsyncIterator[Probe]:
    """A probe on connections of its own."""
    async with contextlib.AsyncExitStack() as stack:
        channels = {}
        for code, account in hub.members.items():
            connection = await stack.enter_async_context(await aio_pika.connect(account.url))
            channels[code] = await connection.channel()
        watched = channels.pop(RECEIVER)
        probe = Probe(
            {
                code: await channel.get_exchange(amqp.SUBMISSIONS, ensure=False)
                for code, channel in channels.items()
            }
        )
        await probe.consume(watched)
        yield probe


async def measure(exchange: Exchange, scale: Scale, rate: float) -> LatencyFigures:
    """Bare and hub in turn, for some rounds; ``rate`` is the half load, in messages a second."""
    hub = await exchange.hub("latency", outstanding=UNBOUNDED)
    idle: dict[str, list[float]] = {"hub": [], "bare": []}
    half: dict[str, list[float]] = {"hub": [], "bare": []}
    for _ in range(scale.rounds):
        for name, under_test in (
            ("bare", broker.relay(exchange, "once")),
            ("hub", hubs.serving(hub.settings)),
        ):
            async with under_test, probing(hub) as probe:
                await probe.one_by_one(signed(hub, WARMING))
                idle[name] += await probe.one_by_one(signed(hub, scale.probes))
                count = max(1, round(rate * scale.half_load_seconds))
                half[name] += await probe.at(rate, signed(hub, count))
            await exchange.empty()
    return LatencyFigures(
        Latencies(*load.percentiles_ms(idle["hub"])),
        Latencies(*load.percentiles_ms(idle["bare"])),
        rate,
        Latencies(*load.percentiles_ms(half["hub"])),
        Latencies(*load.percentiles_ms(half["bare"])),
    )


def signed(hub: Hub, count: int) -> list[Signed]:
    """So many messages of all members but the receiver."""
    keys = {code: one.private for code, one in hub.members.items() if code != RECEIVER}
    return list(load.messages(keys, count))
