"""Whatever an endpoint sends, in whatever pieces: one outcome, within the limits."""

from itertools import pairwise
from typing import TypeAlias

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hub.delivery.response import MAX_ANSWER, MAX_HEAD, Response, Unsound

Seen: TypeAlias = tuple[object, ...]


def outcome(pieces: list[bytes]) -> Seen:
    """What became of an answer that came in pieces."""
    response, sound = Response(), True
    try:
        for piece in pieces:
            response.feed(piece)
            assert len(response.body) <= MAX_ANSWER
            assert response.whole or len(response._buffer) <= MAX_HEAD
    except Unsound:
        sound = False
    assert response.whole or not response.reusable
    return (
        *(sound, response.status, response.retry_after, bytes(response.body)),
        *(response.whole, response.reusable, response.ends_with_connection),
    )


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(raw) + 1) for place in places} | {0, len(raw)})
    return [raw[start:end] for start, end in pairwise(ends)]


LINES = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 100 Continue", b"HTTP/1.0 200 OK", b"HTTP/1.1 204"),
    *(b"HTTP/1.1 410 Gone", b"HTTP/1.1 101 So", b"Content-Length: 3", b"Content-Length: 70000"),
    *(b"Content-Length: 03", b"Content-Length: +3", b"Transfer-Encoding: chunked"),
    *(b"transfer-encoding:CHUNKED\t", b"Transfer-Encoding: gzip", b"Connection: close"),
    *(b"Retry-After: 9", b" folded", b"No colon", b"A : b", b"", b"0", b"3", b"3;a=b", b"abc"),
    *(b"ffff", b"10000", b"a" * 1100, b"\0"),
)
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"")

bytes_of_http = st.lists(
    st.tuples(st.one_of(st.sampled_from(LINES), st.binary(max_size=20)), st.sampled_from(ENDS)).map(
        b"".join
    ),
    max_size=12,
).map(b"".join)
heads = st.sampled_from(
    (
        *(b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 103 So\r\n\r\nHTTP/1.1 500 So\r\n\r\n",
    )
)
padding = st.sampled_from(
    (b"", b"", b"x" * 70_000, b"\r\n" * 600, b"1\r\nx\r\n" * 1000, b"x" * 2000)
)


@settings(deadline=None)
@given(heads, bytes_of_http, padding, bytes_of_http, st.lists(st.integers(0, 10**6), max_size=8))
@example(b"HTTP/1.1 200 OK\r\n", b"a" * MAX_HEAD, b"", b"\r\n\r\n", [MAX_HEAD])
@example(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n", b"x" * 65536, b"", [])
@example(
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"10000\r\n" + b"x" * 65536,
    *(b"", b"\r\n0\r\n\r\n", [65590]),
)
def test_an_answer_comes_to_the_same_however_it_is_cut(
    head: bytes, begin: bytes, filling: bytes, end: bytes, places: list[int]
) -> None:
    raw = head + begin + filling + end
    whole = outcome([raw])
    assert outcome(cut(raw, places)) == whole
    if len(raw) <= 3000:
        assert outcome([raw[at : at + 1] for at in range(len(raw))]) == whole
