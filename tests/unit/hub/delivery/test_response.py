"""Reading what endpoints answer: as it was meant, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery.response import MAX_ANSWER, MAX_HEAD, Response, Unsound

LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = LINE + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*parts):
    response = Response()
    for part in parts:
        response.feed(part)
    return response


def seen(response):
    return (
        *(response.status, response.retry_after, bytes(response.body)),
        *(response.whole, response.reusable, response.ends_with_connection),
    )


GOOD = {
    # what is answered: status, Retry-After, body, whole, reusable, whole when the connection ends
    LINE + b"Content-Length: 2\r\n\r\nok": (200, None, b"ok", True, True, False),
    LINE + b"content-length:2 \r\n\r\nok": (200, None, b"ok", True, True, False),
    LINE + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok": (
        200,
        None,
        b"ok",
        True,
        True,
        False,
    ),
    LINE + b"Content-Length: 0\r\nConnection: Close\r\n\r\n": (200, None, b"", True, False, False),
    LINE + b"Content-Length: 3\r\n\r\nok": (200, None, b"ok", False, False, False),
    LINE + b"Content-Length: 1\r\n\r\nok": (200, None, b"o", True, False, False),
    LINE + b"\r\nok": (200, None, b"ok", False, False, True),
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok": (200, None, b"ok", True, False, False),
    b"HTTP/1.1 204\r\n\r\n": (204, None, b"", True, True, False),
    b"HTTP/1.1 304 So\r\nContent-Length: 9\r\n\r\n": (304, None, b"", True, True, False),
    b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 \r\nA: b\r\n\r\n"
    + LINE
    + b"Content-Length: 0\r\n\r\n": (*(200, None, b"", True, True, False),),
    b"HTTP/1.1 503 So\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n": (
        *(503, "60", b"", True, True, False),
    ),
    CHUNKED + b"2\r\nok\r\n00a;x=y\r\n0123456789\r\n0\r\n\r\n": (
        *(200, None, b"ok0123456789", True, True, False),
    ),
    CHUNKED + b"2\r\nok\r\n0\r\nTrailer: a\r\n\r\n": (200, None, b"ok", True, True, False),
    CHUNKED + b"2\r\nok\r\n": (200, None, b"ok", False, False, False),
}


@pytest.mark.parametrize("raw", GOOD)
def test_an_answer_is_read_alike_however_it_is_cut(raw):
    assert seen(read(raw)) == GOOD[raw]
    assert seen(read(*(raw[at : at + 1] for at in range(len(raw))))) == GOOD[raw]
    for cut in range(1, len(raw)):
        assert seen(read(raw[:cut], raw[cut:])) == GOOD[raw]


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 O\nK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        LINE + b"No colon\r\n\r\n",
        LINE + b"Space : before\r\n\r\n",
        LINE + b" folded: a\r\n\r\n",
        LINE + b"A: b\nContent-Length: 9\r\n\r\n",
        LINE + b"A: \0\r\n\r\n",
        LINE + b"Content-Length: -1\r\n\r\n",
        LINE + b"Content-Length: 1e9\r\n\r\n",
        LINE + b"Content-Length: \xb2\r\n\r\n",
        LINE + b"Content-Length: 1, 1\r\n\r\n",
        LINE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        LINE + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"0x2\r\n",
        CHUNKED + b"+2\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"fffffffff\r\n",
        CHUNKED + b"2\r\nokay\r\n",
        CHUNKED + b"2" * 2000,
        CHUNKED + b"0\r\n" + b"a: b\r\n" * 200,
        LINE + b"a" * MAX_HEAD,
        b"HTTP/1.1 100 Go on\r\n\r\n" * 4000,
    ],
)
def test_what_could_be_read_in_two_ways_or_has_no_end_is_not_read(raw):
    with pytest.raises(Unsound):
        read(raw)
    with pytest.raises(Unsound):
        read(*(raw[at : at + 1] for at in range(len(raw))))


@pytest.mark.parametrize(
    "raw",
    [
        LINE + b"Content-Length: 10000000\r\n\r\n" + b"x" * 100_000,
        LINE + b"\r\n" + b"x" * 100_000,
        CHUNKED + b"ffffff\r\n" + b"x" * 100_000,
        CHUNKED + b"4\r\nxxxx\r\n" * 20_000,
    ],
)
def test_of_a_long_body_no_more_is_read_than_is_wanted(raw):
    response = read(raw)
    assert (response.whole, response.reusable) == (True, False)
    assert bytes(response.body) == b"x" * MAX_ANSWER


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_bring_it_to_fall(parts):
    for raw in (parts, [LINE, *parts], [CHUNKED, *parts]):
        response = Response()
        try:
            for part in raw:
                response.feed(part)
        except Unsound:
            continue
        assert not response.reusable or response.whole
