"""An export of the log in its two forms, JSON lines and CSV: written, and checked. Pure.

Every record is one line. Before the rows comes a head with the checkpoint that the export was taken
at. After them comes an end with their number and the SHA-256 of all bytes before it, so that nobody
takes a file that was cut off for a whole one.

In CSV (RFC 4180, UTF-8 with a byte order mark, without which spreadsheets misread Cyrillic) all
records have the same columns, so that a spreadsheet and a program both read them as they are: head
and end are the records without an ``index``, and stand as JSON in ``public``.
"""

import contextlib
import csv
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from hub.ledger.queries import Event
from schemas import entry as entries
from schemas import jsontext
from schemas.encoding import b64url
from schemas.jsontext import Json
from schemas.refusal import Refused

Format: TypeAlias = Literal["csv", "ndjson"]

COLUMNS: Final = ("index", "time", "type", "actor", "subject", "public", "private")

BEGIN, END = "export.begin", "export.end"
"""What stands as ``type`` in the first and the last record of a CSV."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Before the rows: the ``checkpoint`` (a signed note) up to which the log was read.

    ``filter`` is what was asked for, ``exported`` when, ``recorded`` the index of the entry that
    says so in the log.
    """

    checkpoint: str
    filter: dict[str, object]
    exported: str
    recorded: int


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """After the rows: how many they are, and the SHA-256 (base64url) of all bytes before."""

    rows: int
    sha256: str


class Form(msgspec.Struct, frozen=True):
    """One form: how its lines are written, and its head and end read again.

    The readers raise Refused where a line is something else.
    """

    media_type: str
    head: Callable[[Head], bytes]
    row: Callable[[Event], bytes]
    end: Callable[[End], bytes]
    read_head: Callable[[bytes], Head]
    read_end: Callable[[bytes], End]


def _line(value: object) -> bytes:
    return jsontext.encode(value) + b"\n"


def _json_row(event: Event) -> bytes:
    # The entry's own bytes, as they are hashed into the tree.
    entry = msgspec.Raw(event.raw)
    return _line({"index": event.index, "entry": entry, "private": _private(event)})


def _private(event: Event) -> Json:
    """Parsed, because a receipt stands there as it came and may have line feeds."""
    return None if event.private is None else jsontext.parse(event.private)


# A spreadsheet takes a cell that begins so for a formula, or drops the character and then does.
_OBEYED = re.compile("['=+\\-@\t\r\n＝＋－＠]")


# A cell that needs no quotes.
_PLAIN = re.compile(r"[\w.:+-]*", re.ASCII)


def cell(text: str) -> str:
    """A text as a cell that no spreadsheet obeys; ``uncell`` gives the text back."""
    return f"'{text}" if _OBEYED.match(text) else text


def uncell(cell: str) -> str:
    """The text in a cell: an apostrophe that it begins with is not part of it."""
    return cell.removeprefix("'")


def _json_cell(value: object) -> str:
    # Where a list separator is `;`, a spreadsheet could take what follows one for a new cell.
    return jsontext.encode(value).decode().replace(";", "\\u003b")


def _record(cells: Iterable[str]) -> bytes:
    return ",".join(map(_quoted, cells)).encode() + b"\r\n"


def _quoted(cell: str) -> str:
    """RFC 4180 §2, rules 5 to 7; the module csv takes ten times as long for a large receipt."""
    if _PLAIN.fullmatch(cell):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def _csv_row(event: Event) -> bytes:
    entry = entries.decode(event.raw)
    private = "" if event.private is None else _json_cell(_private(event))
    plain = (entry.time, entry.type, entry.actor, entry.subject or "")
    cells = (*plain, _json_cell(entry.public), private)
    return _record((str(event.index), *map(cell, cells)))


def _csv_head(head: Head) -> bytes:
    said = _record(("", head.exported, BEGIN, "", "", _json_cell(head), ""))
    return b"\xef\xbb\xbf" + _record(COLUMNS) + said


def _csv_end(end: End) -> bytes:
    return _record(("", "", END, "", "", _json_cell(end), ""))


def _said(line: bytes, kind: str) -> bytes:
    """The JSON in a head or end of a CSV."""
    try:
        [record] = csv.reader([line.decode()], strict=True)
        _, _, what, _, _, said, _ = record
    except (ValueError, csv.Error):
        what, said = "", ""
    if what != kind:
        raise Refused("malformed", f"The record is not {kind}.")
    return said.encode()


FORMS: Mapping[Format, Form] = MappingProxyType(
    {
        "ndjson": Form(
            media_type="application/x-ndjson",
            head=_line,
            row=_json_row,
            end=_line,
            read_head=lambda line: jsontext.decode(line, Head),
            read_end=lambda line: jsontext.decode(line, End),
        ),
        "csv": Form(
            media_type="text/csv",
            head=_csv_head,
            row=_csv_row,
            end=_csv_end,
            read_head=lambda line: jsontext.decode(_said(line, BEGIN), Head),
            read_end=lambda line: jsontext.decode(_said(line, END), End),
        ),
    }
)


class Writer:
    """The lines of one export, counted and hashed as they are made."""

    def __init__(self, form: Form) -> None:
        """Nothing is made yet."""
        self._form = form
        self._rows = 0
        self._digest = hashlib.sha256()

    def head(self, head: Head) -> bytes:
        """What comes first."""
        return self._made(self._form.head(head))

    def rows(self, events: Iterable[Event]) -> bytes:
        """Some more rows."""
        lines = [self._form.row(event) for event in events]
        self._rows += len(lines)
        return self._made(b"".join(lines))

    def end(self) -> bytes:
        """What comes last."""
        return self._form.end(End(self._rows, b64url(self._digest.digest())))

    def _made(self, data: bytes) -> bytes:
        self._digest.update(data)
        return data


_ROW = re.compile(rb'(?:\{"index":)?([0-9]+),')


class Check:
    """Follows the lines of an export as they come, each with its line feed.

    ``index`` is that of the last row so far. What is held is one line.
    """

    def __init__(self, form: Form) -> None:
        """Nothing has come yet."""
        self.head: Head | None = None
        self.index = -1
        self._form = form
        self._rows = 0
        self._digest = hashlib.sha256()
        self._last = b""

    def take(self, line: bytes) -> None:
        """One more line."""
        self._digest.update(self._last)
        self._last = line
        row = _ROW.match(line)
        if row:
            self._rows += 1
            self.index = int(row[1])
        elif self.head is None:
            with contextlib.suppress(Refused):  # of a CSV, the line of the columns
                self.head = self._form.read_head(line)

    def end(self) -> End:
        """The end, when all has come.

        Raises:
            ValueError: it was cut off or changed; with a sentence that says which.
        """
        if self.head is None:
            raise ValueError("What came is not an export.")
        try:
            end = self._form.read_end(self._last)
        except Refused:
            raise ValueError("The export was cut off: its last line is missing.") from None
        if end.rows != self._rows:
            raise ValueError(f"It has {self._rows} rows where its end says {end.rows}.")
        if end.sha256 != b64url(self._digest.digest()):
            raise ValueError("It was changed on its way: its SHA-256 is another.")
        return end
