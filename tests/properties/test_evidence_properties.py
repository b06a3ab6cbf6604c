"""Evidence under attack: every byte of it counts, and whatever the bytes are there is an answer."""

import json

from hypothesis import given
from hypothesis import strategies as st

from schemas import policy as policies
from schemas.evidence import archive
from schemas.evidence.archive import ArchiveError
from schemas.evidence.check import check
from schemas.refusal import Refused
from tests import evidence as samples

TRUSTED = policies.parse(samples.policy())
STUB = archive.PLACE
MADE = samples.small()
FILES = archive.files(MADE, STUB)
ZIP = archive.pack(FILES)
DATA = FILES[archive.EVIDENCE]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_a_change_of_any_byte_of_the_zip_is_noticed():
    start = ZIP.index(DATA)
    for place in range(len(ZIP)):
        flipped = ZIP[:place] + bytes([ZIP[place] ^ 1 << place % 8]) + ZIP[place + 1 :]
        if place < start + len(DATA):
            assert not check(flipped, STUB, TRUSTED).holds, place
        else:  # with the same evidence.json only the comparison can tell
            assert archive.differing(flipped, FILES) is not None, place


def test_a_change_of_any_byte_of_the_data_is_noticed_though_the_zip_is_made_anew():
    # Whoever changes the data can write a perfect zip of them: the cryptography alone must tell.
    unreadable = 0
    for place in range(len(DATA)):
        flipped = DATA[:place] + bytes([DATA[place] ^ 1 << place % 7]) + DATA[place + 1 :]
        try:
            zipped = archive.write(archive.read(archive.pack({archive.EVIDENCE: flipped})), STUB)
        except (ArchiveError, Refused, ValueError):
            unreadable += 1
            continue
        assert not check(zipped, STUB, TRUSTED).holds, place
    assert 0 < unreadable < len(DATA)


@given(st.binary() | st.integers(0, len(ZIP) - 1).map(lambda cut: ZIP[:cut]))
def test_whatever_the_bytes_are_there_is_an_answer(raw):
    assert not check(raw, STUB, TRUSTED).holds


def paths(value, at=()):
    """Every place in the data."""
    yield at
    if isinstance(value, list):
        value = dict(enumerate(value))
    for name, member in value.items() if isinstance(value, dict) else ():
        yield from paths(member, (*at, name))


@given(st.sampled_from([*paths(json.loads(DATA))][1:]), JSON)
def test_whatever_stands_in_a_place_there_is_an_answer(path, value):
    changed = json.loads(DATA)
    at = changed
    for name in path[:-1]:
        at = at[name]
    same = at[path[-1]] == value
    at[path[-1]] = value
    data = json.dumps(changed, ensure_ascii=False, separators=(",", ":"))
    raw = archive.pack({archive.EVIDENCE: data.encode("utf-8", "replace")})
    assert same or not check(raw, STUB, TRUSTED).holds
