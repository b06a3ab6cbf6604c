"""The cover page as a file, in every language; what it does is looked at in tests/browser."""

import hashlib
import re
import unicodedata

from schemas.evidence import archive
from schemas.vocabulary import LANGUAGES
from tests import evidence as samples

TEXTS = samples.TEXTS


PAGE_1 = "dd203f87cea13ac2d961ed1214d24864683c4962206c0f5ba3d3f6d34a7997ec"
"""SHA-256 of the page that evidence of version 1 has."""


def test_the_page_of_a_version_stays_as_it_was_released():
    # Evidence is made anew and compared: another page would make all that was given before false.
    # Until there is a release this digest follows; then another page takes another `v`.
    assert hashlib.sha256(samples.COVER.encode()).hexdigest() == PAGE_1


def test_the_data_have_one_place():
    assert samples.COVER.count(archive.PLACE) == 1


def test_nothing_in_it_names_another_resource():
    assert not re.search(
        r"""\b(src|href|action|srcset)=|\burl\(|@import|https?://(?!www\.w3\.org/2000/svg)""",
        samples.COVER,
    )
    assert "default-src 'none'" in samples.COVER


def test_every_text_is_there_in_every_language_with_the_same_places():
    assert list(TEXTS) == list(LANGUAGES)
    for texts in TEXTS.values():
        assert texts.keys() == TEXTS["en"].keys()
        for name, text in texts.items():
            assert unicodedata.is_normalized("NFC", text)
            assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", TEXTS["en"][name]))


def test_every_check_has_a_text():
    checks = set(re.findall(r'that\("([a-z]+)"', samples.COVER))
    assert {"checkpoint", "included", "receipt"} <= checks
    assert {f"c_{check}" for check in checks} <= TEXTS["en"].keys()
