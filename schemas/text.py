"""What a text may hold, so that it reads the same for everyone who sees it.

NFC, because the same word must be the same bytes; no control characters; none of the bidirectional
overrides and isolates (U+202A-202E, U+2066-2069), which can make a sentence read as its opposite.
Cyrillic and Latin mix normally in this region, so that no check of scripts is made here.
"""

import re
import unicodedata
from datetime import date

from schemas.encoding import parse_time
from schemas.jsontext import Json
from schemas.refusal import Refused

_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORBIDDEN_BUT_LINE_FEED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def check(text: str, path: str, *, line_feed: bool = False) -> None:
    """Refuse a text with a character that is not allowed.

    Raises:
        Refused: ``forbidden-character``, naming the character and its place.
    """
    if text.isascii() and text.isprintable():
        return  # nothing of all that is among these
    found = (_FORBIDDEN_BUT_LINE_FEED if line_feed else _FORBIDDEN).search(text)
    if found:
        raise Refused(
            "forbidden-character",
            f"Take out the character U+{ord(found[0]):04X} at position {found.start() + 1}.",
            path,
        )
    if not unicodedata.is_normalized("NFC", text):
        raise Refused("forbidden-character", "The text is not in Unicode's form NFC.", path)


def check_all(value: Json, path: str, multiline: frozenset[str]) -> None:
    """``check`` every text below a JSON value; members named in ``multiline`` may break lines."""
    if isinstance(value, dict):
        for key, member in value.items():
            check(key, path)
            if isinstance(member, str):
                check(member, f"{path}.{key}", line_feed=key in multiline)
            else:
                check_all(member, f"{path}.{key}", multiline)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            check_all(item, f"{path}[{position}]", multiline)
    elif isinstance(value, str):
        check(value, path)


def check_time(value: str, path: str) -> None:
    """Refuse a time that does not exist, such as the 30th of February.

    Raises:
        Refused: ``schema``.
    """
    try:
        parse_time(value)
    except ValueError as error:
        raise Refused("schema", f"There is no such time: {error}.", path) from None


def check_date(value: str, path: str) -> None:
    """Refuse a day that does not exist.

    Raises:
        Refused: ``schema``.
    """
    try:
        date.fromisoformat(value)
    except ValueError as error:
        raise Refused("schema", f"There is no such day: {error}.", path) from None
