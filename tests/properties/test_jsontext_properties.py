"""Any bytes give one JSON value, the one that the standard parser gives, or one refusal."""

import json
import math

from hypothesis import example, given
from hypothesis import strategies as st

from schemas import jsontext
from schemas.refusal import Refused

texts = st.text(st.characters(exclude_categories=["Cs"]))
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-jsontext.MAX_SAFE_INTEGER, jsontext.MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    leaves, lambda below: st.lists(below) | st.dictionaries(texts, below), max_leaves=20
)


def parsed(raw):
    """The value, or the refusal; any other exception fails the test."""
    try:
        return jsontext.parse(raw)
    except Refused as refusal:
        return refusal


@given(values)
def test_every_value_survives_writing_and_reading(value):
    assert jsontext.parse(jsontext.encode(value)) == value
    assert jsontext.parse(json.dumps(value).encode()) == value


@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'{"a":1,"a":1}')
@example(b"[" * 100_000)
@example(b"-" + b"9" * 5_000)
def test_any_bytes_give_a_value_or_a_refusal(raw):
    found = parsed(raw)
    if isinstance(found, Refused):
        assert found.code in {"malformed", "duplicate-key"}
    else:
        assert found == json.loads(raw)


json_alphabet = st.text(st.sampled_from('{}[]:,"\\u0de1.-+eE \ntrfalsn\ud800'), max_size=24)


@given(json_alphabet.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_near_json_gives_what_the_standard_parser_gives_or_a_refusal(raw):
    found = parsed(raw)
    if not isinstance(found, Refused):
        assert found == json.loads(raw)


@given(values, st.data())
def test_what_is_read_is_finite_safe_and_whole(value, data):
    raw = bytearray(json.dumps(value).encode())
    if raw:
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position] = data.draw(st.sampled_from(b'0123456789eE.-"\\[]{}:,'))
    found = parsed(bytes(raw))
    if not isinstance(found, Refused):
        check_leaves(found)


def check_leaves(value):
    if isinstance(value, dict):
        for name, member in value.items():
            check_leaves(name)
            check_leaves(member)
    elif isinstance(value, list):
        for item in value:
            check_leaves(item)
    elif isinstance(value, str):
        value.encode()
    elif isinstance(value, float):
        assert math.isfinite(value)
    elif isinstance(value, int):
        assert abs(value) < 2**53
