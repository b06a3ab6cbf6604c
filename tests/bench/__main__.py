"""``python -m tests.bench``: measure, print a table, write ``build/bench.json``."""

import asyncio
import os
import platform
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench import broker, http_sqlite
from tests.bench.broker import BrokerFigures
from tests.bench.http_sqlite import HttpFigures

RESULTS = Path("build/bench.json")


class Results(msgspec.Struct, frozen=True):
    """Everything that was measured in one run."""

    machine: str
    http_sqlite: HttpFigures
    broker: BrokerFigures


async def measure(console: Console) -> Results:
    with tempfile.TemporaryDirectory(prefix="nhri-bench-") as folder:
        console.print("HTTP and SQLite against a bare POST ...")
        http = await http_sqlite.measure(Path(folder) / "http")
        console.print("RabbitMQ and PostgreSQL against bare relays ...")
        relayed = await broker.measure(Path(folder) / "broker")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return Results(machine, http, relayed)


def main() -> None:
    console = Console()
    results = asyncio.run(measure(console))
    console.print(_table(results))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    console.print(f"written to {RESULTS}")


def _table(results: Results) -> Table:
    table = Table("", "messages/s", "p50 ms", "p99 ms", title=results.machine)
    http = results.http_sqlite
    for name, figures in (("bare POST", http.bare), ("hub, HTTP + SQLite", http.hub)):
        table.add_row(
            name, f"{figures.per_second:.0f}", f"{figures.p50_ms:.1f}", f"{figures.p99_ms:.1f}"
        )
    table.add_row("ratio", f"{http.ratio:.3f}", "", "")
    table.add_row("hub resident", f"{http.hub_resident_mb:.0f} MB", "", "")
    relayed = results.broker
    for name, rate in (
        ("(a) bare relay, a publish a recipient", relayed.relay_each),
        ("(b) bare relay, one publish", relayed.relay_once),
        ("(c) hub, RabbitMQ + PostgreSQL", relayed.hub),
    ):
        table.add_row(name, f"{rate:.0f}", "", "")
    table.add_row("ratio (c) / (a)", f"{relayed.hub / relayed.relay_each:.2f}", "", "")
    return table


if __name__ == "__main__":
    main()
