"""The file of the list of erasures: a disk that is full and a crash leave nothing that stops us."""

import contextlib
import resource

import pytest

from hub.settings import StartError
from hub.store import erasures
from hub.store.erasures import Erasure
from tests import builders

FIRST, SECOND, THIRD = (Erasure(builders.message_id(n), builders.time(n)) for n in (1, 2, 3))
LINE = f"{FIRST.id} {FIRST.time}\n"


@pytest.fixture
def path(tmp_path):
    """A list with one line."""
    made = tmp_path / "erasures"
    erasures.add(made, [FIRST])
    assert made.read_text() == LINE
    return made


@contextlib.contextmanager
def room_for(size):
    """Let no file become larger than this: what is beyond it is refused, what fits is written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestALineThatWasNotWrittenToItsEnd:
    @pytest.mark.parametrize("length", [1, 36, 37, 60])
    def test_is_passed_over_and_cut_off_before_the_next(self, path, length):
        path.write_text(LINE + f"{SECOND.id} {SECOND.time}"[:length])
        assert erasures.read(path) == [FIRST]
        erasures.add(path, [SECOND, THIRD])
        assert erasures.read(path) == [FIRST, SECOND, THIRD]
        assert path.read_text().startswith(LINE + SECOND.id)

    def test_may_be_the_first(self, path):
        path.write_text(LINE[:20])
        assert erasures.read(path) == []
        erasures.add(path, [FIRST])
        assert path.read_text() == LINE

    def test_may_have_become_zeros(self, path):
        path.write_bytes(LINE.encode() + bytes(30))
        assert erasures.read(path) == [FIRST]

    def test_counts_where_nothing_but_its_end_is_missing(self, path):
        """As an editor may leave it: the database may be older than what it says."""
        path.write_text(LINE.rstrip())
        assert erasures.read(path) == [FIRST]
        erasures.add(path, [SECOND])
        assert erasures.read(path) == [FIRST, SECOND]

    @pytest.mark.parametrize("end", ["\r\n", "\r"])
    def test_is_none_that_an_editor_ended_otherwise(self, path, end):
        path.write_bytes(LINE.replace("\n", end).encode() * 2)
        assert erasures.read(path) == [FIRST, FIRST]
        erasures.add(path, [SECOND])
        assert erasures.read(path) == [FIRST, FIRST, SECOND]

    def test_is_not_one_that_others_follow(self, path):
        path.write_text(f"{LINE[:20]}\n{LINE}")
        with pytest.raises(StartError, match="Line 1 of"):
            erasures.read(path)


class TestAFullDisk:
    @pytest.mark.parametrize("room", [0, 1, 40, len(LINE) + 20])
    def test_leaves_the_list_as_it_was(self, path, room):
        with room_for(len(LINE) + room), pytest.raises(OSError, match="File too large"):
            erasures.add(path, [SECOND, THIRD])
        assert path.read_text() == LINE
        erasures.add(path, [SECOND, THIRD])
        assert erasures.read(path) == [FIRST, SECOND, THIRD]

    def test_that_does_not_sync_leaves_the_list_as_it_was(self, path, monkeypatch):
        def fail(descriptor):
            raise OSError("No space left on device")

        monkeypatch.setattr("hub.store.erasures.os.fsync", fail)
        with pytest.raises(OSError, match="No space"):
            erasures.add(path, [SECOND])
        assert path.read_text() == LINE
