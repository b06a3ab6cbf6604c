"""Strict JSON: what two parsers could read differently is read by nobody here."""

import msgspec
import pytest

from schemas import jsontext
from schemas.refusal import Refused


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    x: int
    y: int = 0


class Path(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    points: list[Point]


def refusal(raw):
    with pytest.raises(Refused) as caught:
        jsontext.parse(raw)
    return caught.value


class TestParse:
    @pytest.mark.parametrize(
        ("raw", "value"),
        [
            (b"null", None),
            (b" true ", True),
            (b"-0", 0),
            (b"9007199254740991", 2**53 - 1),
            (b"-9007199254740991", 1 - 2**53),
            (b"1.5e3", 1500.0),
            (b'"\\u0422\\ud83d\\ude00"', "Т😀"),
            ('"Тошкент"'.encode(), "Тошкент"),
            (b'{"a": [1, {"a": 2}]}', {"a": [1, {"a": 2}]}),
        ],
    )
    def test_json_is_read(self, raw, value):
        assert jsontext.parse(raw) == value

    @pytest.mark.parametrize(
        ("raw", "name"),
        [
            (b'{"a":1,"a":1}', "a"),
            (b'{"a":1,"\\u0061":2}', "a"),
            (b'{"a":1,"b":2,"c":3,"b":4}', "b"),
            (b'{"a":{"b":[{"c":1,"c":2}]}}', "c"),
            (b'{"":1,"":2}', ""),
        ],
    )
    def test_a_member_that_stands_twice_is_refused_by_name_at_any_level(self, raw, name):
        refused = refusal(raw)
        assert refused.code == "duplicate-key"
        assert repr(name) in refused.detail

    def test_the_same_name_in_two_objects_is_no_duplicate(self):
        assert jsontext.parse(b'[{"a":1},{"a":{"a":2}}]') == [{"a": 1}, {"a": {"a": 2}}]

    @pytest.mark.parametrize(
        "raw",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"{}{}", id="two texts"),
            pytest.param(b'{"a":1,}', id="a comma too many"),
            pytest.param(b"{'a':1}", id="single quotes"),
            pytest.param(b"// a\n1", id="a comment"),
            pytest.param(b"NaN", id="NaN"),
            pytest.param(b"[Infinity]", id="Infinity"),
            pytest.param(b'{"a":-Infinity}', id="minus Infinity"),
            pytest.param(b"01", id="a leading zero"),
            pytest.param(b"1e999", id="a number that becomes infinite"),
            pytest.param(b"-1e999", id="a number that becomes minus infinite"),
            pytest.param(b"9007199254740992", id="2^53"),
            pytest.param(b"[-9007199254740992]", id="-2^53"),
            pytest.param(b"1" * 5_000, id="more digits than Python converts"),
            pytest.param(b'"\\ud800"', id="half of a surrogate pair"),
            pytest.param(b'{"\\udc00":1}', id="half of a surrogate pair as a name"),
            pytest.param(b'["\xed\xa0\x80"]', id="half of a surrogate pair in UTF-8"),
            pytest.param(b'"\xff"', id="not UTF-8"),
            pytest.param(b'"\xc0\xaf"', id="an overlong encoding"),
            pytest.param(b'\xef\xbb\xbf"a"', id="a byte order mark"),
            pytest.param('"a"'.encode("utf-16"), id="UTF-16"),
            pytest.param(b'"a\nb"', id="a raw control character"),
            pytest.param(b'"a', id="an open string"),
            pytest.param(b"\x00", id="a null character"),
        ],
    )
    def test_what_others_might_read_differently_is_malformed(self, raw):
        assert refusal(raw).code == "malformed"

    @pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_nesting_ends_at_32_levels(self, opening, closing):
        depth = jsontext.MAX_DEPTH
        jsontext.parse(opening * depth + b"0" + closing * depth)
        assert "32 levels" in refusal(opening * (depth + 1) + b"0" + closing * (depth + 1)).detail

    @pytest.mark.parametrize("raw", [b"[" * 200_000, b'{"a":' * 40_000])
    def test_nesting_that_would_exhaust_the_stack_is_refused(self, raw):
        assert refusal(raw).code == "malformed"


class TestConvert:
    def test_parsed_json_becomes_a_struct(self):
        assert jsontext.decode(b'{"points":[{"x":1,"y":2}]}', Path) == Path([Point(1, 2)])

    @pytest.mark.parametrize(
        ("value", "path", "sentence"),
        [
            ({"points": [{"x": 1}, {"x": "1"}]}, "$.points[1].x", "Expected `int`, got `str`."),
            ({"points": [{"x": 1, "z": 1}]}, "$.points[0].z", "unknown field `z`"),
            ({"points": [{}]}, "$.points[0]", "missing required field `x`"),
            ({"points": [{"x": True}]}, "$.points[0].x", "got `bool`"),
            ({"points": [{"x": 1.0}]}, "$.points[0].x", "got `float`"),
            ({"points": None}, "$.points", "got `null`"),
            ({"other": 1}, "$.other", "unknown field `other`"),
            ([], "$", "got `array`"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_its_path(self, value, path, sentence):
        with pytest.raises(Refused) as caught:
            jsontext.convert(value, Path)
        assert (caught.value.code, caught.value.path) == ("schema", path)
        assert sentence in caught.value.detail

    def test_the_path_starts_where_the_value_stands(self):
        with pytest.raises(Refused) as caught:
            jsontext.convert({"points": [{"x": None}]}, Path, "$.content")
        assert caught.value.path == "$.content.points[0].x"

    def test_decode_refuses_what_parse_refuses(self):
        with pytest.raises(Refused, match="duplicate-key"):
            jsontext.decode(b'{"x":1,"x":2}', Point)


def test_structs_are_written_compactly_and_in_utf_8():
    assert jsontext.encode({"place": "Тошкент", "n": Point(1)}) == (
        '{"place":"Тошкент","n":{"x":1,"y":0}}'.encode()
    )
