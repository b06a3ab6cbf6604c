"""What an endpoint answers, read as HTTP/1.1 (RFC 9112) without trust in it. Pure.

Bytes go in as they come. Of an answer is kept what a sender of webhooks needs: its status,
``Retry-After`` and the beginning of its body. Whatever could be read in two ways is not read, and a
connection is good for another request only where the answer's end is beyond doubt.
"""

import re
from collections import defaultdict
from collections.abc import Generator
from typing import Final, TypeAlias

MAX_HEAD: Final = 64 * 1024
"""Bytes of an answer's head, and of those with a status of 1xx before it."""

MAX_ANSWER: Final = 64 * 1024
"""Bytes of an answer's body that are read. What comes after them is not waited for."""

_MAX_LINE: Final = 1024
"""Bytes of a line between the chunks of a body."""

_STATUS: Final = re.compile(r"HTTP/1\.(?P<minor>[01]) (?P<status>[1-9][0-9]{2})(?: [^\r\n\0]*)?")
_FIELD: Final = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[^\r\n\0]*)")
_SIZE: Final = re.compile(rb"(?P<size>[0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n\0]*)?")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")

_MAX_TRAILERS: Final = 100
"""Lines behind the last of them."""

_Steps: TypeAlias = Generator[None, None, None]
_Fields: TypeAlias = defaultdict[str, list[str]]


class Unsound(Exception):
    """It is not HTTP, or can be read in two ways, or breaks off."""


class Response:
    """An answer that is being read. ``status`` is None until its head is there.

    ``begun``: something of it came. ``whole``: nothing more is wanted. ``reusable``: its end was
    reached, and another request may follow on the same connection. ``ends_with_connection``: its
    body is whole when the connection is closed, in an orderly way.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.body = bytearray()
        self.begun = False
        self.whole = False
        self.reusable = False
        self.ends_with_connection = False
        self._buffer = bytearray()
        self._steps = self._read()
        next(self._steps)

    def feed(self, data: bytes) -> None:
        """Take what came.

        Raises:
            Unsound: no more is to be read.
        """
        self.begun = True
        if self.whole:
            self.reusable = False  # nobody asked
            return
        self._buffer += data
        next(self._steps, None)

    def _read(self) -> _Steps:
        yield  # up to the first byte
        room = MAX_HEAD
        while True:
            while (end := self._buffer.find(b"\r\n\r\n", 0, room)) < 0:
                if len(self._buffer) >= room:
                    raise Unsound
                yield
            head, room = self._taken(end + 4)[:-4], room - end - 4
            minor, status, fields = _head(head.decode("latin-1"))
            if status >= 200:
                break
            if status == 101:
                raise Unsound  # nobody asked for another protocol
        self.status, self.retry_after = status, next(iter(fields["retry-after"]), None)
        length = _length(minor, status, fields)
        if length is None and not fields["transfer-encoding"]:
            self.ends_with_connection = True
            yield from self._some(MAX_ANSWER)
        elif length is None:
            yield from self._chunks()
        else:
            yield from self._some(length)
        self.whole = True
        ends = minor == 0 or any("close" in value.lower() for value in fields["connection"])
        self.reusable = not (ends or self.ends_with_connection or self._buffer or self._is_full())

    def _chunks(self) -> _Steps:
        while not self._is_full():
            match = _SIZE.fullmatch((yield from self._line()))
            if match is None:
                raise Unsound
            size = int(match["size"], 16)
            if not size:
                break
            yield from self._some(size)
            if self._is_full():
                return
            if (yield from self._line()):
                raise Unsound
        for _ in range(_MAX_TRAILERS):  # what is said behind the body is not wanted
            if not (yield from self._line()):
                return
        raise Unsound

    def _some(self, length: int) -> _Steps:
        """So many bytes of the body, or those that are wanted."""
        while length and not self._is_full():
            if not self._buffer:
                yield
                continue
            taken = self._taken(min(length, MAX_ANSWER - len(self.body)))
            self.body += taken
            length -= len(taken)

    def _line(self) -> Generator[None, None, bytes]:
        while (end := self._buffer.find(b"\r\n", 0, _MAX_LINE)) < 0:
            if len(self._buffer) >= _MAX_LINE:
                raise Unsound
            yield
        return self._taken(end + 2)[:-2]

    def _taken(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _is_full(self) -> bool:
        return len(self.body) >= MAX_ANSWER


def _head(text: str) -> tuple[int, int, _Fields]:
    """The minor version, the status, and the fields by name in small letters."""
    first, *lines = text.split("\r\n")
    match = _STATUS.fullmatch(first)
    if match is None:
        raise Unsound
    fields: _Fields = defaultdict(list)
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise Unsound
        fields[field["name"].lower()].append(field["value"].rstrip(" \t"))
    return int(match["minor"]), int(match["status"]), fields


def _length(minor: int, status: int, fields: _Fields) -> int | None:
    """The bytes of the body (RFC 9112 §6.3); None where it comes in chunks or up to the close."""
    lengths, codings = set(fields["content-length"]), fields["transfer-encoding"]
    if codings and (lengths or minor == 0 or [each.lower() for each in codings] != ["chunked"]):
        raise Unsound
    if status in {204, 304}:
        return 0
    if codings or not lengths:
        return None
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        raise Unsound
    return int(length)
