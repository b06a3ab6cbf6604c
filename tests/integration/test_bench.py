"""The measurements, as small as they get: every figure comes out, and says what was counted."""

import io
import json

from rich.console import Console

from tests.bench import large, results
from tests.bench.__main__ import measure
from tests.bench.scale import TINY
from tests.conftest import server_folder


async def test_everything_is_measured_and_reported():
    with server_folder() as folder:
        found = await measure(Console(file=io.StringIO()), folder, TINY)
    report = json.loads(results.encode(found))
    figures = dict(leaves({name: part for name, part in report.items() if name != "aims"}))
    left = figures.pop(".memory.left")
    assert 0 <= left <= TINY.backlog
    assert [name for name, figure in figures.items() if figure in (0, "")] == []
    assert len(report["aims"]) == len(found.aims)
    text = io.StringIO()
    Console(file=text, width=80).print(*results.tables(found))
    assert text.getvalue().count("missed") == sum(not aim["met"] for aim in report["aims"])
    assert f"{report['aims'][0]['reached']:.2f}" in text.getvalue()


async def test_a_large_log_is_measured_at_three_sizes_on_both_databases(monkeypatch):
    monkeypatch.setattr(large, "SMALL", (300, 600))
    monkeypatch.setattr(large, "ASKED", 2)
    monkeypatch.setattr(large, "COMMITS", 2)
    quiet = Console(file=io.StringIO())
    with server_folder() as folder:
        found = await large.measure_all(large.DATABASES, 1_800, folder, quiet)
    assert {name: [each.size for each in at] for name, at in found.items()} == {
        "SQLite": [300, 600, 1_800],
        "PostgreSQL": [300, 600, 1_800],
    }
    for at in found.values():
        for each in at:
            assert each.p95.keys() == large.SHAPES.keys()
            assert each.bytes_each["search_terms"] > 0
    text = io.StringIO()
    Console(file=text, width=80).print(*large.tables(found))
    assert "sender and recipient" in text.getvalue()


def leaves(value, path=""):
    """Every figure in a report by its path."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}")
    else:
        yield path, value
