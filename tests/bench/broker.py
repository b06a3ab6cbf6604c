"""The hub on RabbitMQ and PostgreSQL, against bare relays on the same broker.

(a) a relay that publishes each message once a recipient, verifying and recording nothing; (b) the
same with one publish for all; (c) the hub with everything on; (c2) the same with the receivers'
signed receipts recorded. Each begins with a full submissions queue, when the first message is taken
from it, and goes on until every copy is in its inbox and, for the hub, every answer is out; for
(c2) until every copy has its receipt recorded.
"""

import contextlib
import statistics

import msgspec

from schemas import amqp
from tests.bench import hubs, load
from tests.bench.exchange import STALLED, Exchange, Hub
from tests.bench.hubs import UNBOUNDED
from tests.bench.processes import line, process, resident_mb
from tests.bench.scale import Scale

RECIPIENTS = len(load.MEMBERS) - 1


class BrokerFigures(msgspec.Struct, frozen=True):
    """Messages a second, the medians of the rounds; memory in MB after the last round of (c).

    ``drain`` is the rate at which a hub that was away works off what piled up meanwhile.
    """

    relay_each: float
    relay_once: float
    hub: float
    hub_receipted: float
    drain: float
    hub_resident_mb: float

    @property
    def ratio(self) -> float:
        """(c) / (a)."""
        return self.hub / self.relay_each

    @property
    def receipted_ratio(self) -> float:
        """(c2) / (a)."""
        return self.hub_receipted / self.relay_each

    @property
    def drain_ratio(self) -> float:
        """The drain's rate in terms of (c)."""
        return self.drain / self.hub


async def measure(exchange: Exchange, scale: Scale) -> BrokerFigures:
    """Everything in turn, for some rounds, and then the drain."""
    hub = await exchange.hub("plain", outstanding=UNBOUNDED)
    receipted = await exchange.hub("receipted")
    rounds = []
    resident = 0.0
    for _ in range(scale.rounds):
        each = await relayed(exchange, hub, "each", scale.submissions)
        once = await relayed(exchange, hub, "once", scale.submissions)
        plain, resident = await recorded(exchange, hub, scale.submissions)
        rounds.append((each, once, plain, await receipts(exchange, receipted, scale.submissions)))
    drain, _ = await recorded(exchange, hub, scale.outage)
    each, once, plain, with_receipts = map(statistics.median, zip(*rounds, strict=True))
    return BrokerFigures(each, once, plain, with_receipts, drain, resident)


def relay(exchange: Exchange, mode: str) -> contextlib.AbstractAsyncContextManager[object]:
    """A bare relay at work: ``each`` or ``once``."""
    inboxes = ",".join(map(amqp.inbox, load.MEMBERS))
    return process("-m", "tests.bench.relay", exchange.url("hub"), mode, inboxes)


async def relayed(exchange: Exchange, hub: Hub, mode: str, count: int) -> float:
    """The rate of a bare relay."""
    await exchange.fill(hub, count)
    async with relay(exchange, mode):
        began = await exchange.taken(count)
        ended = await exchange.delivered(RECIPIENTS * count)
    await exchange.count(RECIPIENTS * count)
    await exchange.empty()
    return count / (ended - began)


async def recorded(exchange: Exchange, hub: Hub, count: int) -> tuple[float, float]:
    """The rate of a hub that was away while so many submissions came, and its memory then."""
    await exchange.fill(hub, count)
    async with hubs.starting(hub.settings) as running:
        began = await exchange.taken(count)
        ended = await exchange.delivered(RECIPIENTS * count)
        resident = resident_mb(running.pid)
    await exchange.count(RECIPIENTS * count)
    await exchange.empty()
    return count / (ended - began), resident


async def receipts(exchange: Exchange, hub: Hub, count: int) -> float:
    """The rate of a hub until every copy has its receipt.

    Raises:
        RuntimeError: the database does not say so.
    """
    await exchange.fill(hub, count)
    arguments = (str(hub.accounts), str(RECIPIENTS * count), str(count))
    async with process("-m", "tests.bench.receivers", *arguments) as receivers:
        await line(receivers, "receivers", STALLED)
        async with hubs.starting(hub.settings):
            began = await exchange.taken(count)
            ended = float(await line(receivers, "receipts", STALLED + count / 20))
    await exchange.empty()
    missing = await hub.database.psql("SELECT count(*) FROM deliveries WHERE receipt_idx IS NULL")
    if missing != "0":
        raise RuntimeError(f"{missing} copies have no receipt")
    return count / (ended - began)
