"""The file of a backup: it comes back as it was written, or is refused with a sentence."""

import contextlib
import io
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hub import backup
from hub.backup import LOG_KEY, MANIFEST, Backup, BackupError, Snapshot, Table
from hub.ledger.sequence import LogKey
from schemas import checkpoint, merkle, note
from schemas.checkpoint import Checkpoint
from tests import builders

KEY = LogKey(builders.LOG, builders.LOG_KEY)
TIME = "2026-07-01T09:00:00.000Z"
ENTRIES = [f"entry {number}".encode() for number in range(300)]
ROWS = {
    "log_entries": (("idx", "entry"), [(n, raw) for n, raw in enumerate(ENTRIES)]),
    "messages": (("id", "thread", "envelope"), [("a", None, b"\x00\xff"), ('"\n\\', "ў", b"")]),
    "subscriptions": (("ordered", "start"), [(True, 1), (False, 0)]),
    "tokens": (("hash",), []),
}


def signed(entries=ENTRIES, key=KEY):
    root = merkle.root([merkle.leaf_hash(raw) for raw in entries])
    head = Checkpoint(key.vkey.name, len(entries), root)
    return checkpoint.sign_checkpoint(head, key.vkey, key.private)


def written(rows=ROWS, head=None, key=KEY, pem=b"a key"):
    file = io.BytesIO()
    tables = (Table(name, columns, iter(found)) for name, (columns, found) in rows.items())
    count = sum(len(found) for _, found in rows.values())
    snapshot = Snapshot("0001", head or signed(), count, tables)
    backup.write(file, snapshot, key, TIME, pem, lambda done, count: None)
    return file.getvalue()


def read(raw, key=KEY):
    """Everything in a backup, checked twice over: as before a restore, and by it."""
    found = Backup(io.BytesIO(raw), key.vkey)
    found.check(lambda done, count: None)
    tables = {name: found.table(name) for name in found.manifest.tables}
    return {
        name: (table.columns, [tuple(row) for row in table.rows]) for name, table in tables.items()
    }


RAW = written()


def test_what_was_written_comes_back():
    assert read(RAW) == ROWS
    manifest = Backup(io.BytesIO(RAW), KEY.vkey).manifest
    assert (manifest.origin, manifest.time, manifest.size) == (KEY.vkey.name, TIME, len(ENTRIES))
    assert (manifest.rows, manifest.with_key) == (304, True)


def test_it_tells_how_far_it_is():
    told = []
    Backup(io.BytesIO(RAW), KEY.vkey).check(lambda done, count: told.append((done, count)))
    assert told[-1] == (304, 304)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_key_is_in_it_only_where_it_was_put():
    assert backup.log_key(io.BytesIO(RAW)) == b"a key"
    assert backup.log_key(io.BytesIO(written(pem=None))) is None


def changed(name, data):
    """The backup with one file replaced, as whoever knows the format would do it."""
    into = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(RAW)) as old, zipfile.ZipFile(into, "w") as new:
        for each in old.namelist():
            new.writestr(each, data if each == name else old.read(each))
        if name not in old.namelist():
            new.writestr(name, data)
    return into.getvalue()


@pytest.mark.parametrize("name", [*ROWS, LOG_KEY, MANIFEST, "another"])
@pytest.mark.parametrize("data", [b"", b'["id"]\n', b'["id"]\n["x"]\n', b"\xff", b"[1"])
def test_a_part_that_was_replaced_is_refused(name, data):
    with pytest.raises(BackupError):
        read(changed(name, data))


def test_one_row_more_or_less_is_refused():
    with zipfile.ZipFile(io.BytesIO(RAW)) as archive:
        lines = archive.read("messages").splitlines(keepends=True)
    for data in (lines[:-1], [*lines, lines[-1]]):
        with pytest.raises(BackupError, match="is not the one that was signed"):
            read(changed("messages", b"".join(data)))


def test_a_backup_that_another_key_signed_is_refused_though_all_of_it_fits():
    thief = Ed25519PrivateKey.generate()
    vkey = note.ed25519_vkey(KEY.vkey.name, thief.public_key().public_bytes_raw())
    stolen = LogKey(vkey, thief)
    raw = written(head=signed(key=stolen), key=stolen)
    assert read(raw, stolen) == ROWS
    with pytest.raises(BackupError, match="is not signed by the key of"):
        read(raw)


def test_a_checkpoint_is_no_manifest():
    with pytest.raises(BackupError, match="cannot restore"):
        read(changed(MANIFEST, signed()))


def test_a_manifest_is_no_checkpoint():
    with zipfile.ZipFile(io.BytesIO(RAW)) as archive, pytest.raises(note.NoteError):
        checkpoint.open_checkpoint(archive.read(MANIFEST), KEY.vkey)


@pytest.mark.parametrize(
    "entries", [ENTRIES[:-1], [*ENTRIES[:-1], b"another"], [*ENTRIES, b"more"]]
)
def test_entries_that_the_checkpoint_is_not_about_are_refused(entries):
    rows = ROWS | {"log_entries": (("idx", "entry"), [*enumerate(entries)])}
    with pytest.raises(BackupError, match="was damaged when the backup was made"):
        read(written(rows))


def test_a_gap_between_the_entries_is_refused():
    rows = ROWS | {"log_entries": (("idx", "entry"), [*enumerate(ENTRIES)][1:])}
    with pytest.raises(BackupError, match="Entry 0 is missing"):
        read(written(rows))


@given(place=st.integers(0, len(RAW) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_refused_or_changes_nothing(place, bit):
    raw = bytearray(RAW)
    raw[place] ^= 1 << bit
    with contextlib.suppress(BackupError):
        # Else it was a date or a mode in the zip's own lists, which nobody reads.
        assert read(bytes(raw)) == ROWS


@given(end=st.integers(0, len(RAW) - 1))
def test_a_backup_that_was_cut_off_is_refused(end):
    with pytest.raises(BackupError):
        read(RAW[:end])


@given(raw=st.binary(max_size=300))
def test_any_other_bytes_are_refused(raw):
    with pytest.raises(BackupError, match="is no backup"):
        read(raw)


def test_a_full_disk_is_said_and_leaves_no_file(tmp_path):
    path = tmp_path / "hub.zip"
    with pytest.raises(BackupError, match="No space left"), backup.new_file(path):
        raise OSError(28, "No space left on device")
    assert not path.exists()
