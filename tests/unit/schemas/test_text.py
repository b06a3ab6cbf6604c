"""What a text may hold, so that it reads the same for everyone."""

import pytest

from schemas import text
from schemas.refusal import Refused


def refusal(*arguments, **options):
    with pytest.raises(Refused) as caught:
        text.check(*arguments, **options)
    return caught.value


@pytest.mark.parametrize(
    "allowed",
    [
        "",
        "Ўзбекистон Республикаси Олий Мажлисининг вакили",
        "Oʻzbekiston, OMBUDSMAN мониторинг",
        "Адам құқықтары – ӯ ҷ ҳ ғ қ",
        "family 👨\u200d👩\u200d👧 and ZWNJ می\u200cخواهم",
        "marks that do not override: \u200e \u200f \u061c",
        "non-breaking\u00a0space",
        "<script>alert(1)</script>; DROP TABLE messages; ${jndi:x}",
    ],
)
def test_words_of_any_script_are_allowed(allowed):
    text.check(allowed, "$")


@pytest.mark.parametrize(
    "character",
    [
        *map(chr, range(0x20)),
        *map(chr, range(0x7F, 0xA0)),
        *map(chr, range(0x202A, 0x202F)),
        *map(chr, range(0x2066, 0x206A)),
        "\u2028",
        "\u2029",
    ],
    ids=lambda character: f"U+{ord(character):04X}",
)
def test_control_characters_and_bidirectional_overrides_are_named_with_their_place(character):
    refused = refusal(f"ab{character}c", "$.texts.en.title")
    assert refused.code == "forbidden-character"
    assert f"U+{ord(character):04X} at position 3" in refused.detail
    assert refused.path == "$.texts.en.title"


def test_only_where_it_is_allowed_a_line_may_break():
    text.check("one\ntwo\n", "$", line_feed=True)
    assert "U+000A" in refusal("one\ntwo", "$").detail
    assert "U+000D" in refusal("one\r\ntwo", "$", line_feed=True).detail


@pytest.mark.parametrize("decomposed", ["и\u0306", "g\u0306", "\u212b", "e\u0301"])
def test_a_text_that_is_not_in_nfc_is_refused(decomposed):
    assert "NFC" in refusal(decomposed, "$").detail


class TestEveryTextBelowAValue:
    @pytest.mark.parametrize(
        ("value", "path"),
        [
            ({"a": [{"b": "x\u202e"}]}, "$.a[0].b"),
            ({"a": ["x", "y\x00"]}, "$.a[1]"),
            ({"a": [["\x7f"]]}, "$.a[0][0]"),
            ({"a": {"b\u2066": 1}}, "$.a"),
            ({"title": "a\nb"}, "$.title"),
            ({"body": ["a\nb"]}, "$.body[0]"),
            ({"bo\ndy": "a"}, "$"),
            ("\x1b[2J", "$"),
        ],
    )
    def test_is_checked_and_named(self, value, path):
        with pytest.raises(Refused) as caught:
            text.check_all(value, "$", frozenset({"body"}))
        assert (caught.value.code, caught.value.path) == ("forbidden-character", path)

    def test_may_break_lines_in_the_members_named(self):
        text.check_all([{"body": "a\nb", "n": 1, "x": None, "y": True}], "$", frozenset({"body"}))


class TestTimesAndDays:
    def test_those_that_exist_pass(self):
        text.check_time("2028-02-29T23:59:59.999Z", "$.time")
        text.check_date("2028-02-29", "$.start")

    @pytest.mark.parametrize("value", ["2026-02-30T00:00:00.000Z", "2026-01-01T00:00:61.000Z"])
    def test_a_time_that_does_not_exist_is_refused(self, value):
        with pytest.raises(Refused, match=r"no such time.*\$\.time"):
            text.check_time(value, "$.time")

    @pytest.mark.parametrize("value", ["2026-02-30", "2026-13-01", "2026-00-01", "0000-01-01"])
    def test_a_day_that_does_not_exist_is_refused(self, value):
        with pytest.raises(Refused, match=r"no such day.*\$\.start"):
            text.check_date(value, "$.start")
