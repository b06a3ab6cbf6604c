"""A backup: every row of the database in one file, which proves itself before it is used.

A zip with a file of JSON lines for each table, so that it goes into either kind of database and can
be read without us. The first line names the columns; bytes stand as ``["<base64url>"]``. The last
file, ``manifest``, is a signed note by the log's key (C2SP signed-note): nobody without that key
makes a backup that is taken, or changes one. Its text is never one of a checkpoint.
"""

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import IO, Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from hub.ledger.sequence import LogKey
from schemas import jsontext, merkle, note
from schemas.checkpoint import Checkpoint, open_checkpoint
from schemas.encoding import b64url, unb64url
from schemas.note import Note, NoteError, Vkey
from schemas.refusal import Refused

Value: TypeAlias = bool | int | str | bytes | None
Row: TypeAlias = Sequence[Value]
Advance: TypeAlias = Callable[[int, int], None]
"""Called with the rows that are done, and how many there are."""

Progress: TypeAlias = Callable[[str], AbstractContextManager[Advance]]
"""Shows somebody what is under way, while it is."""

FORMAT: Final = "nhri-hub backup v1"
MANIFEST: Final = "manifest"
LOG_KEY: Final = "log.pem"

_MAX_LINE: Final = 4 * 1024 * 1024
_MAX_KEY: Final = 16 * 1024
_LEVEL: Final = 3  # of deflate; envelopes are half base64, and more work brings little
_Line = msgspec.json.Decoder(list[bool | int | str | tuple[str] | None])

# What zipfile raises on bytes that are no zip, or no longer the one that was written.
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OverflowError),
    *(RuntimeError, NotImplementedError, OSError, msgspec.MsgspecError),
)


class BackupError(Exception):
    """A backup cannot be made, or is not to be used; one sentence that says what to do."""


class Table(msgspec.Struct, frozen=True):
    """A table to be written: ``rows`` can be gone through once."""

    name: str
    columns: tuple[str, ...]
    rows: Iterator[Row]


class Snapshot(msgspec.Struct, frozen=True):
    """The database as of one moment. ``count`` is the number of all rows.

    ``revision`` is the version of the tables, ``checkpoint`` the last one that was signed.
    """

    revision: str
    checkpoint: bytes
    count: int
    tables: Iterator[Table]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file in the backup: its rows, and the SHA-256 of its bytes as hexadecimal digits."""

    rows: Annotated[int, Meta(ge=0)]
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup holds. The log's private key is among ``parts`` where it was asked for."""

    origin: str
    time: str
    revision: str
    size: int
    checkpoint: str
    parts: dict[str, Part]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(part.rows for part in self.parts.values())

    @property
    def with_key(self) -> bool:
        """Whether the log's private key is in it."""
        return LOG_KEY in self.parts

    @property
    def tables(self) -> list[str]:
        """The names of the tables in it."""
        return [name for name in self.parts if name != LOG_KEY]


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that was not there before and that only its owner reads; durable, or gone again.

    A crash leaves a part of it. That has no manifest, and no restore takes it.

    Raises:
        BackupError: it cannot be made, or the disk is full.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BackupError(f"{path} is there already; it is not overwritten.") from None
    except OSError as error:
        raise BackupError(f"{path} cannot be made: {error.strerror}.") from None
    try:
        with _written(), os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"The backup cannot be written: {error.strerror}.") from None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A backup's file.

    Raises:
        BackupError: it is not there or may not be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}.") from None
    with file:
        yield file


def write(
    file: IO[bytes], snapshot: Snapshot, key: LogKey, time: str, pem: bytes | None, advance: Advance
) -> Manifest:
    """Write a backup.

    Args:
        file: where to.
        snapshot: what is in the database.
        key: the log's key, which signs the manifest.
        time: now.
        pem: the file of the private key, to put it in as well.
        advance: is told how many rows are written.

    Raises:
        BackupError: the database holds another log than that of the key, or the disk is full.
    """
    size = _open_head(snapshot.checkpoint, key.vkey).size
    parts: dict[str, Part] = {}
    done = 0
    with (
        _written(),
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
    ):
        for table in snapshot.tables:
            with archive.open(table.name, "w", force_zip64=True) as out:
                parts[table.name] = _write_table(out, table, done, snapshot.count, advance)
            done += parts[table.name].rows
        if pem is not None:
            archive.writestr(LOG_KEY, pem)
            parts[LOG_KEY] = Part(0, sha256(pem).hexdigest())
        made = Manifest(
            *(key.vkey.name, time, snapshot.revision, size, snapshot.checkpoint.decode(), parts)
        )
        text = f"{FORMAT}\n{jsontext.encode(made).decode()}\n"
        signed = Note(text, (note.sign(text, key.vkey, key.private),))
        archive.writestr(MANIFEST, note.encode(signed))
    return made


def _write_table(out: IO[bytes], table: Table, done: int, count: int, advance: Advance) -> Part:
    digest, written = sha256(), 0
    lines = (jsontext.encode([_plain(value) for value in row]) for row in table.rows)
    for written, line in enumerate(chain([jsontext.encode(table.columns)], lines)):
        out.write(line + b"\n")
        digest.update(line + b"\n")
        advance(done + written, count)
    return Part(written, digest.hexdigest())


def _plain(value: Value) -> bool | int | str | list[str] | None:
    return [b64url(value)] if isinstance(value, bytes) else value


def log_key(file: IO[bytes]) -> bytes | None:
    """The private key in a backup, if there is one; nothing about it is verified yet.

    Raises:
        BackupError: it is no backup.
    """
    with _refusing():
        archive = zipfile.ZipFile(file)
        if LOG_KEY not in archive.namelist():
            return None
        with archive.open(LOG_KEY) as part:
            return part.read(_MAX_KEY)


class Backup:
    """A backup that is read. Its manifest is signed by our log's key, or it is not opened."""

    def __init__(self, file: IO[bytes], vkey: Vkey) -> None:
        """Open it.

        Raises:
            BackupError: it is no backup, is damaged, or another key signed it.
        """
        with _refusing():
            self._archive = zipfile.ZipFile(file)
            with self._archive.open(MANIFEST) as part:
                raw = part.read(note.MAX_SIZE + 1)
        self.manifest = _open_manifest(raw, vkey)
        self._head = _open_head(self.manifest.checkpoint.encode(), vkey)
        if sorted(self._archive.namelist()) != sorted((*self.manifest.parts, MANIFEST)):
            raise BackupError("The backup does not have the files that its manifest names.")

    def table(self, name: str) -> Table:
        """One table. Going through the rows raises BackupError where they are not as signed."""
        rows = self._rows(name)
        columns = next(rows, ())
        if not all(isinstance(column, str) for column in columns):
            raise BackupError(f"The part {name} of the backup does not name its columns.")
        return Table(name, tuple(map(str, columns)), rows)

    def check(self, advance: Advance) -> None:
        """Read all of it once: every part as signed, and the entries as the checkpoint has them.

        Raises:
            BackupError: it is not so.
        """
        done = 0
        if self.manifest.with_key:
            self._check_key()
        for name in self.manifest.tables:
            table = self.table(name)
            rows = self._counted(table.rows, done, advance)
            if name == "log_entries":
                self._check_tree(dict(zip(table.columns, row, strict=True)) for row in rows)
            for _ in rows:
                pass
            done += self.manifest.parts[name].rows

    def _counted(self, rows: Iterator[Row], done: int, advance: Advance) -> Iterator[Row]:
        for number, row in enumerate(rows, done + 1):
            advance(number, self.manifest.rows)
            yield row

    def _check_key(self) -> None:
        with _refusing(), self._archive.open(LOG_KEY) as part:
            pem = part.read(_MAX_KEY)
        if sha256(pem).hexdigest() != self.manifest.parts[LOG_KEY].sha256:
            raise BackupError("The log's key in the backup is not the one that was put in.")

    def _check_tree(self, rows: Iterator[Mapping[str, Value]]) -> None:
        size, edge = 0, dict[merkle.Tile, bytes]()
        leaves: list[bytes] = []
        for index, row in enumerate(rows):
            raw = row.get("entry")
            if row.get("idx") != index or not isinstance(raw, bytes):
                raise BackupError(f"Entry {index} is missing in the backup; take an older one.")
            leaves.append(merkle.leaf_hash(raw))
            if len(leaves) == merkle.TILE_WIDTH:
                size, edge = _grown(size, edge, leaves)
                leaves = []
        size, edge = _grown(size, edge, leaves)
        if (size, merkle.tree_root(size, edge)) != (self._head.size, self._head.root):
            raise BackupError(
                "The entries are not those of the checkpoint: the database was damaged when the "
                "backup was made; take an older one."
            )

    def _rows(self, name: str) -> Iterator[Row]:
        """The lines of a part, its columns first. They are as signed once the last one is read."""
        expected, digest, rows, width = self.manifest.parts[name], sha256(), -1, -1
        with _refusing(), self._archive.open(name) as part:
            while line := part.readline(_MAX_LINE):
                digest.update(line)
                rows += 1
                row = [_value(value) for value in _Line.decode(line)]
                width = len(row) if rows == 0 else width
                if len(row) != width:
                    break
                yield row
        if (rows, digest.hexdigest()) != (expected.rows, expected.sha256):
            raise BackupError(f"The part {name} of the backup is not the one that was signed.")


def _grown(
    size: int, edge: dict[merkle.Tile, bytes], leaves: list[bytes]
) -> tuple[int, dict[merkle.Tile, bytes]]:
    known = edge | merkle.append(size, edge, leaves)
    size += len(leaves)
    return size, {tile: known[tile] for tile in merkle.edge_tiles(size)}


def _value(value: bool | int | str | tuple[str] | None) -> Value:
    return unb64url(value[0]) if isinstance(value, tuple) else value


def _open_manifest(raw: bytes, vkey: Vkey) -> Manifest:
    try:
        signed = note.parse_note(raw)
        note.verify(signed, [vkey])
        kind, _, text = signed.text.partition("\n")
        if kind != FORMAT:
            raise BackupError(f"It is a {kind!r}, which this program cannot restore; update it.")
        found = jsontext.decode(text.encode(), Manifest)
    except (NoteError, Refused) as error:
        raise BackupError(
            f"The backup's manifest is not signed by the key of {vkey.name}: {error} It is another "
            "hub's, or it was changed; take another backup, or put this log's key in its place."
        ) from None
    if found.origin != vkey.name:
        raise BackupError(f"It is the backup of {found.origin}, not of {vkey.name}.")
    return found


def _open_head(raw: bytes, vkey: Vkey) -> Checkpoint:
    try:
        return open_checkpoint(raw, vkey)
    except NoteError as error:
        raise BackupError(
            f"The database holds another log than {vkey.name} with this key: {error}"
        ) from None


@contextmanager
def _refusing() -> Iterator[None]:
    """Whatever is wrong with the bytes is one refusal."""
    try:
        yield
    except BackupError:
        raise
    except _DAMAGE as error:
        raise BackupError(
            f"The file is no backup, or it is damaged ({error}); take another one."
        ) from None
