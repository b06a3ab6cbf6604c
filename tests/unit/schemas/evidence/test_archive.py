"""The evidence zip: one form, whoever makes it, that any unzip can read."""

import io
import zipfile

import pytest

from schemas import jsontext
from schemas.evidence import archive
from schemas.evidence.archive import ArchiveError
from schemas.evidence.bundle import Evidence
from schemas.evidence.check import Result, check
from tests import evidence as samples

MADE = samples.evidence()
FILES = archive.files(MADE, samples.COVER)
ZIP = archive.pack(FILES)


def test_the_same_evidence_gives_the_same_bytes():
    assert archive.write(samples.evidence(), samples.COVER) == ZIP


def test_any_unzip_reads_it():
    with zipfile.ZipFile(io.BytesIO(ZIP)) as opened:
        assert opened.testzip() is None
        assert {info.filename: opened.read(info) for info in opened.infolist()} == FILES


def test_nothing_is_compressed_and_nothing_has_a_date():
    with zipfile.ZipFile(io.BytesIO(ZIP)) as opened:
        for info in opened.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == 0o100644
            assert info.extra == b""


def test_the_data_come_first_and_are_read_again():
    assert list(FILES)[:2] == ["evidence.json", "index.html"]
    assert archive.read(ZIP) == MADE


def test_every_part_is_there_as_raw_bytes():
    accepted = f"entries/{samples.index_of(MADE, 'message.accepted'):08}"
    assert {
        "checkpoint.txt",
        "envelope.json",
        "message.json",
        f"{accepted}/entry.json",
        f"{accepted}/private.json",
        f"{accepted}/salt",
        f"{accepted}/entry.tlog-proof",
        "keys/log.vkey",
        "keys/log.pem",
    } <= FILES.keys()
    assert len(FILES[f"{accepted}/salt"]) == 32


def test_without_the_message_there_is_no_file_of_it():
    shown = archive.files(samples.evidence(shown=False), samples.COVER)
    assert not {"envelope.json", "message.json"} & shown.keys()


def test_no_text_can_leave_its_element_in_the_cover_page():
    nasty = samples.changed(MADE, checkpoint="</script><script>alert(1)</script>&")
    page = archive.files(nasty, "[{{evidence}}]")["index.html"].decode()
    assert "<" not in page
    assert jsontext.decode(page[1:-1].encode(), Evidence) == nasty


@pytest.mark.parametrize("place", [0, 40, len(ZIP) // 2, len(ZIP) - 1])
def test_it_is_said_where_a_zip_differs(place):
    flipped = bytearray(ZIP)
    flipped[place] ^= 1
    assert archive.differing(bytes(flipped), FILES) is not None


def test_the_file_that_differs_is_named():
    at = ZIP.index(FILES["message.json"], ZIP.index(b"message.json"))
    flipped = ZIP[: at + 5] + b"#" + ZIP[at + 6 :]
    assert archive.differing(flipped, FILES) == "message.json differs (byte 5 of it)"
    assert "list of files" in str(archive.differing(ZIP + b"more", FILES))
    assert archive.differing(ZIP, FILES) is None


@pytest.mark.parametrize("size", [0, 3, 40, 100, len(ZIP) // 2, len(ZIP) - 1])
def test_a_zip_that_was_cut_short_is_said_to_be_incomplete(size):
    [said, *_] = check(ZIP[:size], samples.COVER, None).findings
    assert said.result is Result.FAILS
    assert "incomplete" in said.sentence
    assert "get it again" in said.sentence


@pytest.mark.parametrize(
    "raw",
    [b"", b"PK\x03\x04", b"\0" * 1000, ZIP[:40], ZIP[:100], b"{}" * 100],
    ids=["empty", "a header", "zeroes", "cut in the header", "cut in the data", "JSON"],
)
def test_what_is_no_evidence_is_refused(raw):
    with pytest.raises(ArchiveError):
        archive.read(raw)


def test_a_file_without_end_is_not_even_looked_at(monkeypatch):
    monkeypatch.setattr(archive, "MAX_SIZE", 1000)
    with pytest.raises(ArchiveError, match="too large"):
        archive.read(ZIP)
