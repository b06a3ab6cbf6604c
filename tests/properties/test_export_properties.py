"""Cells of an exported CSV, whatever stands in them: read back the same, and obeyed by nobody."""

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from hub.ledger import export
from hub.ledger.export import COLUMNS, FORMS, Check, Head, Writer
from hub.ledger.queries import Event
from schemas import entry as entries
from schemas import jsontext
from tests import builders

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    "=+-@'\"\t\r\n,;＝{", max_size=5
)


def event(index, actor, subject, public, private):
    made = builders.entry("operator.query", subject, public, actor=actor)
    return Event(index, entries.encode(made), private)


EVENTS = st.builds(
    event,
    st.integers(0, 2**53 - 1),
    TEXTS,
    TEXTS.filter(bool),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
    st.none() | st.dictionaries(TEXTS, TEXTS, max_size=3).map(jsontext.encode),
)


@given(TEXTS)
def test_a_cell_gives_its_text_back_and_begins_with_nothing_that_is_obeyed(text):
    made = export.cell(text)
    assert export.uncell(made) == text
    assert made[:1] not in {*"=+-@\t\r\n＝＋－＠"}


@given(EVENTS)
def test_a_row_is_read_back_as_what_it_was(one):
    row = FORMS["csv"].row(one).decode()
    [record] = csv.reader(io.StringIO(row, newline=""), strict=True)
    cells = dict(zip(COLUMNS, record, strict=True))
    entry = entries.decode(one.raw)
    assert int(cells["index"]) == one.index
    assert export.uncell(cells["actor"]) == entry.actor
    assert export.uncell(cells["subject"]) == entry.subject
    assert json.loads(export.uncell(cells["public"])) == entry.public
    private = None if one.private is None else json.loads(one.private)
    assert json.loads(export.uncell(cells["private"]) or "null") == private


@given(st.lists(EVENTS, max_size=5))
def test_a_line_of_json_is_the_entry_itself(events):
    for one in events:
        line = FORMS["ndjson"].row(one)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert json.loads(line)["entry"] == json.loads(one.raw)


@given(st.lists(EVENTS, max_size=5))
def test_whatever_the_rows_say_an_export_in_json_lines_is_believed(events):
    writer, check = Writer(FORMS["ndjson"]), Check(FORMS["ndjson"])
    head = Head("checkpoint", {}, builders.time(0), 0)
    data = writer.head(head) + writer.rows(events) + writer.end()
    for line in data.split(b"\n")[:-1]:
        check.take(line + b"\n")
    assert check.end().rows == len(events)
