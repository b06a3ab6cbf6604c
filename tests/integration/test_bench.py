"""The measurements, as small as they get: every figure comes out, and says what was counted."""

import io
import json

import pytest
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import text

from hub.store import index
from hub.store.database import open_database
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
    told = io.StringIO()
    Console(file=told, width=80).print(*results.tables(found))
    assert told.getvalue().count("missed") == sum(not aim["met"] for aim in report["aims"])
    assert f"{report['aims'][0]['reached']:.2f}" in told.getvalue()


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
    told = io.StringIO()
    Console(file=told, width=80).print(*large.tables(found))
    assert "sender and recipient" in told.getvalue()


async def test_a_copied_log_has_the_index_that_the_hub_would_make(database):
    filling = large.Filling(database, 1_800)
    with Progress(console=Console(file=io.StringIO())) as bar:
        await large.fill(filling, 600, bar)
        await large.copy(filling, 3, bar)
    copied = await database.read(indexed)
    await database.write(index.clear)
    while await index.Index(database).advance():
        pass
    assert await database.read(indexed) == copied


def indexed(connection):
    """All rows of the index, apart from what receipts say of messages: their bytes are copied."""
    questions = {
        "search_terms": "SELECT term, idx FROM search_terms WHERE idx % 3 != 1",
        "search_counts": "SELECT term, sum(count) FROM search_counts GROUP BY term",
        "search_totals": "SELECT term, count FROM search_totals",
        "search_vocabulary": "SELECT word, count FROM search_vocabulary",
        "search_head": "SELECT size FROM search_head",
        "search_words": "SELECT * FROM search_words",
    }
    return {
        name: sorted(map(tuple, connection.execute(text(question))))
        for name, question in questions.items()
    }


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request):
    if request.param == "sqlite":
        return "sqlite:///hub.sqlite"
    return request.getfixturevalue("postgresql").url


@pytest.fixture
async def database(address, tmp_path):
    opened = await open_database(address, tmp_path)
    yield opened
    await opened.close()


def leaves(value, path=""):
    """Every figure in a report by its path."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}")
    else:
        yield path, value
