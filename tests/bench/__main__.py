"""``python -m tests.bench``: measure, print tables, write ``build/bench.json``.

``--tiny`` measures as little as shows that everything can be measured: its figures mean nothing.
"""

import argparse
import os
import platform
import tempfile
from pathlib import Path

import uvloop
from rich.console import Console

from tests.bench import broker, exchange, http_sqlite, latency, ledger, memory, results, webhooks
from tests.bench.results import Results
from tests.bench.scale import TINY, WHOLE, Scale

FILE = Path("build/bench.json")


async def measure(console: Console, folder: Path, scale: Scale) -> Results:
    """Everything, one after the other, so that nothing disturbs what is measured."""
    console.print("The log against hashlib ...")
    log = await ledger.measure(folder, scale)
    console.print("HTTP and SQLite against a bare POST ...")
    http = await http_sqlite.measure(folder / "http", scale)
    console.print("Webhooks against a bare client ...")
    hooks = await webhooks.measure(folder, scale)
    async with exchange.prepared(folder / "broker") as servers:
        console.print("RabbitMQ and PostgreSQL against bare relays ...")
        rates = await broker.measure(servers, scale)
        console.print("Latency against two bare hops ...")
        latencies = await latency.measure(servers, scale, rates.hub / 2)
        console.print("Memory ...")
        weighed = await memory.measure(servers, scale)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return Results(machine, log, http, hooks, rates, latencies, weighed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure.")
    parser.add_argument("--tiny", action="store_true", help="as little as shows that all can be")
    console = Console()
    scale = TINY if parser.parse_args().tiny else WHOLE
    with tempfile.TemporaryDirectory(prefix="nhri-bench-") as folder:
        found = uvloop.run(measure(console, Path(folder), scale))
    console.print(*results.tables(found))
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(results.encode(found))
    console.print(f"written to {FILE}")


if __name__ == "__main__":
    main()
