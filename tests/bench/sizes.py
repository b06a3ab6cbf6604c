"""``python -m tests.bench.sizes``: what a message takes in the hub's SQLite, table by table.

The figures of docs/capacity.md come from here. One member sends to all others, one message after
the other, so that every commit holds one job: the most that a message can take.
"""

import asyncio
import logging
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from tests import client
from tests.client import Participant

# Expires within a minute, and is deleted then: takes no room in the long run.
TRANSIENT = frozenset({"used_tokens", "sent_counts"})


class Scenario(msgspec.Struct, frozen=True):
    """So many members, messages of one of them to all others, and messages in one receipt."""

    members: int
    messages: int
    batch: int


class Sizes(msgspec.Struct, frozen=True):
    """Bytes a message by table with its indexes, and log entries a message."""

    scenario: Scenario
    envelope: int
    tables: dict[str, float]
    entries: float

    @property
    def total(self) -> float:
        """All tables together."""
        return sum(self.tables.values())


SCENARIOS = (
    Scenario(6, 2_000, 1),
    Scenario(6, 2_000, 100),
    Scenario(120, 50, 1),
    Scenario(120, 50, 50),
)


def stored(path: Path) -> Counter[str]:
    """The bytes of every table with its indexes."""
    query = (
        "SELECT coalesce(tbl_name, dbstat.name), sum(pgsize) FROM dbstat"
        " LEFT JOIN sqlite_master ON sqlite_master.name = dbstat.name GROUP BY 1"
    )
    connection = sqlite3.connect(path)
    try:
        return Counter(dict(connection.execute(query)))
    finally:
        connection.close()


async def measure(folder: Path, scenario: Scenario) -> Sizes:
    """Run one scenario on a new hub in ``folder``."""
    settings = client.new_settings(folder)
    unlimited = replace(settings.quota, messages_per_hour=1_000_000_000)
    async with client.running(replace(settings, quota=unlimited)) as hub:
        codes = [f"m{number:03}" for number in range(scenario.members)]
        sender, *others = [hub.participant(code) for code in codes]
        for participant in (sender, *others):
            await hub.operator.join(participant)
        path = folder / "hub.sqlite"
        before, size = stored(path), await hub.size()
        envelope = await send(sender, scenario.messages)
        for receiver in others:
            await receipt(receiver, scenario)
        grown = stored(path) - before
        entries = (await hub.size() - size) / scenario.messages
    tables = {
        name: count / scenario.messages
        for name, count in grown.most_common()
        if name not in TRANSIENT
    }
    return Sizes(scenario, envelope, tables, entries)


async def send(sender: Participant, count: int) -> int:
    """Send so many bulletins of 2 kB; gives the bytes of an envelope."""
    envelope = b""
    for _ in range(count):
        texts = {"en": {"title": "Bulletin", "summary": "s" * 200, "body": "b" * 700}}
        envelope = sender.sign(sender.message(texts=texts))
        (await sender.submit(envelope)).acceptance()
    return len(envelope)


async def receipt(receiver: Participant, scenario: Scenario) -> None:
    """Receive everything, and give receipts for so many messages at a time."""
    for after in range(0, scenario.messages, scenario.batch):
        deliveries = await receiver.inbox(after=after, limit=scenario.batch)
        assert len(deliveries) == min(scenario.batch, scenario.messages - after)
        (await receiver.post("/v1/receipts", receiver.receipt(*deliveries))).acceptance()


def table(found: list[Sizes]) -> Table:
    """One column a scenario."""
    shown = Table("bytes a message")
    for sizes in found:
        scenario = sizes.scenario
        shown.add_column(
            f"{scenario.members - 1} recipients,\n{scenario.batch} a receipt", justify="right"
        )
    names = dict.fromkeys(name for sizes in found for name in sizes.tables)
    for name in names:
        shown.add_row(name, *(f"{sizes.tables.get(name, 0):,.0f}" for sizes in found))
    shown.add_row("all", *(f"{sizes.total:,.0f}" for sizes in found))
    shown.add_row("envelope", *(f"{sizes.envelope:,}" for sizes in found))
    shown.add_row("log entries", *(f"{sizes.entries:.2f}" for sizes in found))
    return shown


async def measure_all(console: Console) -> list[Sizes]:
    """Run every scenario."""
    found = []
    for scenario in SCENARIOS:
        console.print(f"{scenario} ...")
        with tempfile.TemporaryDirectory(prefix="nhri-sizes-") as folder:
            found.append(await measure(Path(folder), scenario))
    return found


def main() -> None:
    console = Console()
    errors_only = structlog.make_filtering_bound_logger(logging.ERROR)
    structlog.configure(wrapper_class=errors_only)
    console.print(table(asyncio.run(measure_all(console))))


if __name__ == "__main__":
    main()
