"""Memory: a hub at work on a long backlog, and a real connector whose link is the broker."""

import asyncio
from pathlib import Path

import msgspec

from hub import settings as configuration
from schemas import amqp
from tests.bench import hubs, load
from tests.bench.exchange import CONNECTOR, STALLED, Exchange, Hub
from tests.bench.processes import peak_mb, process, resident_mb
from tests.bench.scale import Scale
from tests.simulator.institution import Institution

_CONNECT = """
import sys
from pathlib import Path
from connectors.daemon import main
sys.exit(main(Path(sys.argv[1])))
"""


class Weight(msgspec.Struct, frozen=True):
    """What is resident of a process, and the most that ever was, in MB (10^6 bytes)."""

    resident_mb: float
    peak_mb: float


class MemoryFigures(msgspec.Struct, frozen=True):
    """``backlog`` submissions waited when the hub began, and ``left`` when it was weighed.

    The connector had received and receipted ``received`` messages.
    """

    backlog: int
    left: int
    hub: Weight
    received: int
    connector: Weight


async def measure(exchange: Exchange, scale: Scale) -> MemoryFigures:
    """The connector first, and then the hub that it was at."""
    hub = await exchange.hub("memory")
    weight = await connector(exchange, hub, scale.connector)
    left, hub_weight = await backlog(exchange, hub, scale)
    return MemoryFigures(scale.backlog, left, hub_weight, scale.connector, weight)


async def backlog(exchange: Exchange, hub: Hub, scale: Scale) -> tuple[int, Weight]:
    """What is left of the backlog after a while, and the hub's weight then."""
    await exchange.fill(hub, scale.backlog)
    async with hubs.starting(hub.settings) as running:
        await exchange.taken(scale.backlog)
        await asyncio.sleep(scale.backlog_seconds)
        left = await exchange.ready(amqp.SUBMISSIONS_QUEUE)
        weight = weighed(running.pid)
    await exchange.empty()
    return left, weight


async def connector(exchange: Exchange, hub: Hub, count: int) -> Weight:
    """The weight of a connector that has received and receipted so many messages."""
    async with hubs.serving(hub.settings):
        path = await join(exchange, hub)
    await exchange.fill(hub, count)
    connecting = process("-c", _CONNECT, str(path), quiet=True)
    async with hubs.serving(hub.settings), connecting as daemon:
        await receipted(hub, count)
        weight = weighed(daemon.pid)
    await exchange.empty()
    return weight


def weighed(pid: int) -> Weight:
    """The weight of a process (Linux)."""
    return Weight(resident_mb(pid), peak_mb(pid))


async def join(exchange: Exchange, hub: Hub) -> Path:
    """Have an institution join as its commands do it; gives its settings."""
    folder, vkey = Path(hub.settings.folder), configuration.log_vkey(hub.settings)
    institution = Institution(CONNECTOR, folder, hub.settings.url, vkey)
    with institution.path.open("a") as file:
        file.write(f'\n[link]\namqp = "{exchange.url(CONNECTOR)}"\n')
    async with load.operator(hub.settings) as operator:
        bundle = await operator.invite(CONNECTOR)
        await operator.approve(CONNECTOR, await institution.join(bundle))
    return institution.path


async def receipted(hub: Hub, count: int) -> None:
    """Wait until the hub has the connector's receipts for so many messages.

    Raises:
        TimeoutError: they do not come.
    """
    code = CONNECTOR
    query = f"SELECT count(receipt_idx) FROM deliveries WHERE recipient = '{code}'"  # noqa: S608
    async with asyncio.timeout(STALLED + count / 10):
        while await hub.database.psql(query) != str(count):  # noqa: ASYNC110 - a table's
            await asyncio.sleep(0.5)
