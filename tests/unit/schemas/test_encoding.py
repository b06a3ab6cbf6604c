"""The small encodings: one spelling for each value, and everything else is refused."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from schemas import encoding
from schemas.encoding import b64url, format_time, parse_time, unb64url, uuid7


class TestBase64url:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (b"\xfb\xff\xbf", "-_-_"),
        ],
    )
    def test_it_is_that_of_rfc_4648_without_padding(self, data, text):
        assert b64url(data) == text
        assert unb64url(text) == data

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("Zg==", id="padded"),
            pytest.param("Zm9v=", id="padded without need"),
            pytest.param("Zg=", id="padded halfway"),
            pytest.param("Z", id="a lone character"),
            pytest.param("Zm9vY", id="a lone character at the end"),
            pytest.param("+/+/", id="the alphabet of plain base64"),
            pytest.param("Zm9v\n", id="a line feed at the end"),
            pytest.param("Zm 9v", id="white space within"),
            pytest.param("Zm9vé", id="not ASCII"),
            pytest.param("\ud800", id="half of a surrogate pair"),
            pytest.param("Zm9v\x00", id="a null character"),
        ],
    )
    def test_any_other_spelling_is_refused(self, text):
        with pytest.raises(ValueError, match="not unpadded base64url"):
            unb64url(text)

    @pytest.mark.parametrize("text", ["Zh", "Zv", "Zm9", "Zm-"])
    def test_stray_trailing_bits_are_refused(self, text):
        with pytest.raises(ValueError, match="not canonical"):
            unb64url(text)


class TestTimes:
    def test_a_moment_is_written_in_utc_with_milliseconds(self):
        in_almaty = datetime(2026, 7, 1, 14, 5, 6, 7_000, tzinfo=timezone(timedelta(hours=5)))
        assert format_time(in_almaty) == "2026-07-01T09:05:06.007Z"

    def test_microseconds_are_cut_and_not_rounded(self):
        last = datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        assert format_time(last) == "2026-12-31T23:59:59.999Z"

    def test_early_years_have_four_digits(self):
        assert format_time(datetime(33, 4, 3, tzinfo=UTC)) == "0033-04-03T00:00:00.000Z"

    def test_a_written_time_is_read_back(self):
        assert parse_time("2026-07-01T09:05:06.007Z") == datetime(
            2026, 7, 1, 9, 5, 6, 7_000, tzinfo=UTC
        )

    @pytest.mark.parametrize(
        "text",
        [
            "2026-07-01T09:05:06Z",
            "2026-07-01T09:05:06.00Z",
            "2026-07-01T09:05:06.0000Z",
            "2026-07-01T09:05:06.000+00:00",
            "2026-07-01t09:05:06.000z",
            "2026-07-01 09:05:06.000Z",
            "20260701T090506.000Z",
            "2026-07-01T09:05:06,000Z",
            "2026-07-01T09:05:06.000Z\n",
            " 2026-07-01T09:05:06.000Z",
            "+2026-07-01T09:05:06.000Z",
            "٢٠٢٦-07-01T09:05:06.000Z",
            "",
        ],
    )
    def test_any_other_format_is_refused(self, text):
        with pytest.raises(ValueError, match=re.escape("YYYY-MM-DDTHH:MM:SS.mmmZ")):
            parse_time(text)

    @pytest.mark.parametrize(
        "text",
        [
            "2026-13-01T00:00:00.000Z",
            "2026-02-30T00:00:00.000Z",
            "2025-02-29T00:00:00.000Z",
            "2026-07-01T24:00:00.000Z",
            "2026-07-01T23:60:00.000Z",
            "2026-07-01T23:59:60.000Z",
            "0000-01-01T00:00:00.000Z",
        ],
    )
    def test_a_moment_that_does_not_exist_is_refused(self, text):
        with pytest.raises(ValueError, match=r"must be in|out of range"):
            parse_time(text)


class TestUuid7:
    def test_it_begins_with_the_milliseconds_since_1970(self):
        # The example of RFC 9562, appendix A.6.
        moment = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
        randomness = bytes.fromhex("0cc318c4dc0c0c07398f")
        assert uuid7(moment, randomness) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"

    def test_version_and_variant_stand_whatever_the_randomness(self):
        made = uuid7(datetime(2026, 7, 1, tzinfo=UTC), b"\xff" * 10)
        assert re.fullmatch(encoding.UUID7_PATTERN, made)

    def test_later_ids_sort_after_earlier_ones(self):
        start = datetime(2026, 7, 1, tzinfo=UTC)
        ids = [uuid7(start + timedelta(milliseconds=n), bytes([255 - n] * 10)) for n in range(5)]
        assert ids == sorted(ids)

    @pytest.mark.parametrize("size", [0, 9, 11, 16])
    def test_it_takes_exactly_ten_random_bytes(self, size):
        with pytest.raises(ValueError, match="10 random bytes"):
            uuid7(datetime(2026, 7, 1, tzinfo=UTC), bytes(size))


GOOD = {
    encoding.CODE_PATTERN: ("kz", "uz-nhrc", "a1", "a-", "abcdefghijklmnop"),
    encoding.TIME_PATTERN: ("2026-07-01T09:05:06.007Z",),
    encoding.DATE_PATTERN: ("2026-07-01",),
    encoding.UUID7_PATTERN: ("017f22e2-79b0-7cc3-98c4-dc0c0c07398f",),
    encoding.BASE64URL_PATTERN: ("", "Zm9v", "-_"),
    encoding.HASH_PATTERN: ("A" * 43,),
}
BAD = {
    encoding.CODE_PATTERN: ("k", "KZ", "1a", "-a", "k_z", "k.z", "kz ", "қз", "a" * 17, ""),
    encoding.TIME_PATTERN: ("2026-07-01",),
    encoding.DATE_PATTERN: ("2026-7-1", "01.07.2026", "2026-07-01T00:00"),
    encoding.UUID7_PATTERN: (
        "017f22e2-79b0-4cc3-98c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-c8c4-dc0c0c07398f",
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "017f22e279b07cc398c4dc0c0c07398f",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
    ),
    encoding.BASE64URL_PATTERN: ("Zg==", "+/", "é"),
    encoding.HASH_PATTERN: ("A" * 42, "A" * 44, "A" * 42 + "="),
}


def each(table):
    return [pytest.param(pattern, text) for pattern, texts in table.items() for text in texts]


class TestPatterns:
    @pytest.mark.parametrize(("pattern", "text"), each(GOOD))
    def test_what_is_written_as_agreed_matches(self, pattern, text):
        assert re.search(pattern, text)

    @pytest.mark.parametrize(("pattern", "text"), each(BAD))
    def test_everything_else_does_not(self, pattern, text):
        assert not re.search(pattern, text)

    @pytest.mark.parametrize(("pattern", "text"), each(GOOD))
    def test_a_line_feed_before_or_after_is_seen(self, pattern, text):
        assert not re.search(pattern, f"{text}\n")
        assert not re.search(pattern, f"\n{text}")
