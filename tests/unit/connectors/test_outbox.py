"""The outbox: what is in it is whole, in order, and survives."""

import os
from pathlib import Path

import pytest

from connectors.outbox import Outbox
from tests.builders import message_id


@pytest.fixture
def outbox(tmp_path):
    return Outbox(tmp_path / "state" / "outbox")


def test_an_outbox_that_nobody_wrote_to_is_empty(outbox):
    assert outbox.pending() == []


def test_messages_come_out_in_the_order_they_were_made(outbox):
    for number in (3, 1, 2):
        outbox.put(b"%d" % number, message_id(number))
    assert outbox.pending() == [message_id(1), message_id(2), message_id(3)]
    assert outbox.read(message_id(2)) == b"2"


def test_the_same_message_again_changes_nothing(outbox):
    outbox.put(b"one", message_id())
    outbox.put(b"one", message_id())
    assert outbox.pending() == [message_id()]


def test_an_id_never_stands_for_two_messages(outbox):
    outbox.put(b"one", message_id())
    with pytest.raises(FileExistsError, match="another content"):
        outbox.put(b"two", message_id())
    assert outbox.read(message_id()) == b"one"


def test_a_message_is_removed_once_and_removing_it_again_is_no_error(outbox):
    outbox.put(b"one", message_id())
    outbox.remove(message_id())
    outbox.remove(message_id())
    assert outbox.pending() == []


def test_what_is_set_aside_is_kept_and_no_longer_waits(outbox):
    outbox.put(b"nonsense", message_id())
    assert outbox.set_aside(message_id()).read_bytes() == b"nonsense"
    assert outbox.pending() == []


def test_only_their_owner_can_read_messages(outbox):
    path = outbox.put(b"one", message_id())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_half_a_message_is_never_seen(outbox, monkeypatch):
    """A crash before the rename leaves a dot file, which is nobody's message."""
    outbox.put(b"one", message_id(1))
    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(OSError, match="power"):
        outbox.put(b"two", message_id(2))
    assert len(list(outbox.folder.iterdir())) == 2
    assert outbox.pending() == [message_id(1)]


def test_a_full_disk_is_told_and_leaves_nothing_behind(outbox, monkeypatch):
    outbox.put(b"one", message_id(1))
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="power"):
        outbox.put(b"two", message_id(2))
    assert [path.name for path in outbox.folder.iterdir()] == [f"{message_id(1)}.jose"]


def test_a_message_is_on_the_disk_before_its_name_and_its_name_before_the_promise(
    outbox, monkeypatch
):
    done = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor):
        done.append("file" if Path(f"/proc/self/fd/{descriptor}").is_file() else "folder")
        real_fsync(descriptor)

    def rename(self, target):
        done.append("rename")
        return real_rename(self, target)

    outbox.put(b"one", message_id(1))
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    outbox.put(b"two", message_id(2))
    assert done == ["file", "rename", "folder"]


def fail(*_):
    raise OSError("no power")
