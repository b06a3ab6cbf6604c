"""What one run found and the aims that it is held against, as tables and as JSON."""

from collections.abc import Iterator

import msgspec
from rich.table import Table

from tests.bench.broker import BrokerFigures
from tests.bench.http_sqlite import HttpFigures
from tests.bench.latency import LatencyFigures
from tests.bench.ledger import LedgerFigures
from tests.bench.memory import MemoryFigures
from tests.bench.webhooks import WebhookFigures


class Aim(msgspec.Struct, frozen=True):
    """A figure, and the least or the most that it should be."""

    name: str
    reached: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        if self.least is not None and self.reached < self.least:
            return False
        return self.most is None or self.reached <= self.most


class Results(msgspec.Struct, frozen=True):
    """Everything that was measured in one run."""

    machine: str
    ledger: LedgerFigures
    http_sqlite: HttpFigures
    webhooks: WebhookFigures
    broker: BrokerFigures
    latency: LatencyFigures
    memory: MemoryFigures

    @property
    def aims(self) -> tuple[Aim, ...]:
        relayed, memory, hooks = self.broker, self.memory, self.webhooks
        return (
            Aim("log hashed / hashlib alone", self.ledger.ratio, least=0.5),
            Aim("inclusion proofs/s", self.ledger.proofs, least=15_000),
            Aim("webhooks / bare client", hooks.ratio, least=0.7),
            Aim("taken by one that hangs", hooks.cost, most=0.05),
            Aim("webhooks, peak with many / few", hooks.peak_ratio, most=1.1),
            Aim("messages matched/s", hooks.matched, least=100),
            Aim("(c) / (a)", relayed.ratio, least=2.0),
            Aim("(c2) / (a)", relayed.receipted_ratio, least=1.2),
            # Two runs of the same differ by a tenth.
            Aim("drain / (c)", relayed.drain_ratio, least=0.9),
            Aim("p99 idle, hub / two hops", self.latency.ratio, most=3.0),
            Aim("connector, peak MB", memory.connector.peak_mb, most=80),
            Aim("hub with a backlog, peak MB", memory.hub.peak_mb, most=150),
        )


def encode(results: Results) -> bytes:
    """The results, and the aims with whether each is met, as JSON that a person can read."""
    aims = [msgspec.to_builtins(aim) | {"met": aim.met} for aim in results.aims]
    return msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(results) | {"aims": aims}))


def tables(results: Results) -> tuple[Table, Table]:
    """A row a figure, and a row an aim."""
    figures = Table("", title=results.machine)
    for unit in ("a second", "p50 ms", "p99 ms", "MB", "peak MB"):
        figures.add_column(unit, justify="right")
    for name, *cells in _figures(results):
        figures.add_row(name, *(_shown(cell) for cell in cells))
    aims = Table("aim", "", title="Aims")
    aims.add_column("reached", justify="right")
    aims.add_column("")
    for aim in results.aims:
        bound = f"≤ {aim.most:g}" if aim.least is None else f"≥ {aim.least:g}"
        aims.add_row(aim.name, bound, f"{aim.reached:.2f}", "" if aim.met else "missed")
    return figures, aims


def _figures(results: Results) -> Iterator[tuple[str, *tuple[float | None, ...]]]:
    http, relayed = results.http_sqlite, results.broker
    latency, memory = results.latency, results.memory
    bare, hub = http.bare, http.hub
    half = latency.half_load
    log = results.ledger
    yield "hashlib alone, entries", log.hashlib
    yield "log hashed again, entries", log.hashed
    yield "log checked in SQLite, entries", log.checked
    yield "inclusion proofs", log.proofs
    yield "bare POST", bare.per_second, bare.p50_ms, bare.p99_ms
    yield "hub, HTTP + SQLite", hub.per_second, hub.p50_ms, hub.p99_ms, http.hub_resident_mb
    hooks = results.webhooks
    yield "bare client, posts", hooks.bare
    yield "the same, one connection a post", hooks.bare_fresh
    yield "webhooks", hooks.worker, None, None, None, hooks.round_peak_mb
    yield "webhooks, one endpoint hangs", hooks.hanging
    yield f"webhooks, {hooks.queued:,} queued", None, None, None, None, hooks.queued_peak_mb
    yield "matched with 1,000 subscriptions", hooks.matched
    yield "(a) relay, publish each", relayed.relay_each
    yield "(b) relay, publish once", relayed.relay_once
    yield "(c) hub, everything on", relayed.hub, None, None, relayed.hub_resident_mb
    yield "(c2) hub, with receipts", relayed.hub_receipted
    yield "drain of an outage", relayed.drain
    for name, load, found in (
        ("two hops, idle", None, latency.bare_idle),
        ("hub, idle", None, latency.hub_idle),
        ("two hops, half load", half, latency.bare_half_load),
        ("hub, half load", half, latency.hub_half_load),
    ):
        yield name, load, found.p50_ms, found.p99_ms
    for name, weight in (
        (f"hub, backlog of {memory.backlog:,}", memory.hub),
        ("connector at the broker", memory.connector),
    ):
        yield name, None, None, None, weight.resident_mb, weight.peak_mb


def _shown(cell: float | None) -> str:
    return "" if cell is None else f"{cell:,.1f}" if cell < 100 else f"{cell:,.0f}"
