"""The measurements, as small as they get: every figure comes out, and says what was counted."""

import io
import json

from rich.console import Console

from tests.bench import results
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


def leaves(value, path=""):
    """Every figure in a report by its path."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}")
    else:
        yield path, value
