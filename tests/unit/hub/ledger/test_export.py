"""An export: what its two forms look like, and that one which is believed is whole."""

import csv
import hashlib
import io
import json

import pytest

from hub.ledger import export
from hub.ledger.export import FORMS, Check, Head, Writer
from hub.ledger.queries import Event
from schemas import entry as entries
from schemas.encoding import b64url
from tests import builders

HEAD = Head("hub.example/log\n3\nroot\n\n— key sig\n", {"member": "kz"}, builders.time(0), 2)


def event(index, kind="hub.started", subject=None, private=None, **public):
    made = builders.entry(kind, subject, public, private=private)
    return Event(index, entries.encode(made), private)


EVENTS = [
    event(0, version="1"),
    event(2, "message.accepted", builders.message_id(), b'{"kind": "activity_bulletin.v1"}'),
    event(9, "operator.query", None, '{"query":"Тошкент; =1"}'.encode()),
]


def written(form, events=EVENTS):
    writer = Writer(FORMS[form])
    return writer.head(HEAD) + writer.rows(events[:1]) + writer.rows(events[1:]) + writer.end()


def checked(form, data):
    check = Check(FORMS[form])
    for line in data.splitlines(keepends=True):
        check.take(line)
    return check, check.end()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_believed(form):
    check, end = checked(form, written(form))
    assert check.head == HEAD
    assert check.index == 9
    assert end.rows == len(EVENTS)


@pytest.mark.parametrize("form", FORMS)
def test_an_export_of_nothing_still_has_its_head_and_its_end(form):
    check, end = checked(form, written(form, []))
    assert check.head == HEAD
    assert end.rows == 0


@pytest.mark.parametrize("form", FORMS)
def test_the_digest_is_that_of_every_byte_before_the_last_line(form):
    data = written(form)
    last = data.splitlines(keepends=True)[-1]
    _, end = checked(form, data)
    assert end.sha256 == b64url(hashlib.sha256(data.removesuffix(last)).digest())


@pytest.mark.parametrize("form", FORMS)
def test_wherever_it_is_cut_it_is_not_believed(form):
    data = written(form)
    for length in range(len(data) - 2):
        with pytest.raises(ValueError, match=r"cut off|not an export"):
            checked(form, data[:length])


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_is_left_out_or_changed_is_found(form):
    lines = written(form).splitlines(keepends=True)
    with pytest.raises(ValueError, match="It has 2 rows where its end says 3"):
        checked(form, b"".join((*lines[:-2], lines[-1])))
    changed = b"".join(lines).replace(b"hub.started", b"hub.stopped")
    with pytest.raises(ValueError, match="SHA-256 is another"):
        checked(form, changed)


def test_json_lines_carry_the_bytes_that_are_hashed_into_the_tree():
    rows = written("ndjson").splitlines()[1:-1]
    for row, one in zip(rows, EVENTS, strict=True):
        assert one.raw in row
        assert json.loads(row).keys() == {"index", "entry", "private"}


def test_a_private_part_with_line_feeds_stays_one_line():
    pretty = event(1, private=b'{\n  "payload": "x",\n  "signatures": []\n}')
    line = FORMS["ndjson"].row(pretty)
    assert line.count(b"\n") == 1
    assert json.loads(line)["private"] == {"payload": "x", "signatures": []}


def test_the_csv_is_read_by_its_columns_with_head_and_end_as_records_without_an_index():
    text = written("csv").decode("utf-8-sig")
    assert written("csv").startswith(b"\xef\xbb\xbf")
    assert text.count("\r\n") == text.count("\n") == len(EVENTS) + 3
    head, *rows, end = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    assert (head["index"], head["type"], head["time"]) == ("", "export.begin", HEAD.exported)
    assert json.loads(head["public"])["checkpoint"] == HEAD.checkpoint
    assert (end["index"], end["type"]) == ("", "export.end")
    assert json.loads(end["public"])["rows"] == 3
    assert [row["index"] for row in rows] == ["0", "2", "9"]
    assert rows[1]["subject"] == builders.message_id()
    assert json.loads(rows[2]["private"]) == {"query": "Тошкент; =1"}


def test_a_semicolon_in_a_text_does_not_begin_a_cell_where_it_is_the_separator():
    assert b";" not in FORMS["csv"].row(EVENTS[2])


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_a_spreadsheet_would_obey_is_a_text_with_an_apostrophe_before_it(start):
    text = f"{start}HYPERLINK()"
    assert export.cell(text) == f"'{text}"
    row = FORMS["csv"].row(event(3, subject=text)).decode()
    [record] = csv.reader(io.StringIO(row, newline=""), strict=True)
    assert record[4] == f"'{text}"


def test_a_head_and_an_end_are_not_taken_from_a_row():
    with pytest.raises(ValueError, match="not an export"):
        checked("csv", FORMS["csv"].row(event(0, "export.begin")))
