"""Every value has one spelling, and every spelling is read as that value or refused."""

import base64
import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import assume, example, given
from hypothesis import strategies as st

from schemas.encoding import (
    CODE_PATTERN,
    UUID7_PATTERN,
    b64url,
    format_time,
    parse_time,
    unb64url,
    uuid7,
)

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis adds the time zone
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=zones,
)
# From 1970 to 10889, as 48 bits of milliseconds can say; datetime ends in 9999.
since_1970 = st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
almost_base64url = st.text(st.sampled_from("AQgwZ-_9=+/ \né"), max_size=12)
almost_times = st.from_regex(
    r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\.[0-9]{3}Z\n?",
    fullmatch=True,
)


@given(st.binary())
def test_bytes_survive_base64url(data):
    assert unb64url(b64url(data)) == data


@given(st.binary())
def test_base64url_is_what_the_standard_library_decodes(data):
    text = b64url(data)
    padded = text + "=" * (-len(text) % 4)
    assert base64.b64decode(padded, altchars=b"-_", validate=True) == data


@given(st.text() | almost_base64url)
def test_a_text_is_the_one_spelling_of_some_bytes_or_refused(text):
    try:
        data = unb64url(text)
    except ValueError:
        assert text.rstrip("=\n") != text or not re.fullmatch("[A-Za-z0-9_-]*", text) or odd(text)
    else:
        assert b64url(data) == text


def odd(text):
    """Whether a text of the right letters has a wrong length or stray bits at its end."""
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(text[-1])
    return {0: False, 1: True, 2: last % 16 != 0, 3: last % 4 != 0}[len(text) % 4]


@given(moments)
def test_a_moment_survives_up_to_its_milliseconds(moment):
    cut = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert parse_time(format_time(moment)) == cut


@given(moments, moments)
def test_times_sort_as_texts(one, other):
    assume(abs(one - other) >= timedelta(milliseconds=1))
    assert (format_time(one) < format_time(other)) == (one < other)


@given(st.text() | almost_times)
@example("2026-07-01T24:00:00.000Z")
@example("2026-06-30T23:59:60.000Z")
@example("٢٠٢٦-07-01T09:05:06.000Z")
def test_a_text_is_the_one_spelling_of_a_moment_or_refused(text):
    try:
        moment = parse_time(text)
    except ValueError:
        return
    assert moment.tzinfo is UTC
    assert format_time(moment) == text


@given(since_1970, st.binary(min_size=10, max_size=10))
def test_an_id_has_its_form_and_tells_its_moment(moment, randomness):
    made = uuid7(moment, randomness)
    assert re.fullmatch(UUID7_PATTERN, made)
    milliseconds = int(made.replace("-", "")[:12], 16)
    told = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    assert timedelta(0) <= moment - told < timedelta(milliseconds=1)


@given(st.text(st.sampled_from("az09-AZ_ .\né"), max_size=18))
def test_a_pattern_means_the_same_at_every_end(text):
    lower, all_of = set("abcdefghijklmnopqrstuvwxyz"), set("abcdefghijklmnopqrstuvwxyz0123456789-")
    expected = 2 <= len(text) <= 16 and text[0] in lower and set(text) <= all_of
    assert bool(re.search(CODE_PATTERN, text)) == expected
