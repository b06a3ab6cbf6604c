"""Strict JSON: any bytes give one value or one refusal.

The standard parser is lenient where a signed format must not be: it takes duplicate keys, NaN, lone
surrogates and endless nesting. Here they are all refused, so that two parties that read the same
bytes read the same message (RFC 8259 §4 leaves duplicate keys open; RFC 7493 closes it).
"""

import json
import re
from typing import NoReturn, TypeAlias, TypeVar

import msgspec

from schemas.refusal import Refused

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 32
"""Levels of nesting. Our deepest format has seven."""

MAX_SAFE_INTEGER = 2**53 - 1
"""RFC 7493 §2.2: beyond it, other parsers read another number."""

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")

_UNKNOWN = re.compile("unknown field `(.*)`$", re.DOTALL)
"""How msgspec names a field that is not in the struct; its path is only the struct's."""


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Refused("duplicate-key", f"The member {name!r} stands twice in one object.")
    return result


def _no_constant(name: str) -> NoReturn:
    raise Refused("malformed", f"{name} is not JSON.")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def _check(value: Json, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Refused("malformed", f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, dict):
        for key, member in value.items():
            _check_scalar(key)
            _check(member, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    else:
        _check_scalar(value)


def _check_scalar(value: bool | float | str | None) -> None:
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value):
            raise Refused("malformed", "A text holds half of a surrogate pair.")
    elif isinstance(value, float):
        if value in {float("inf"), float("-inf")}:
            raise Refused("malformed", "A number is too large.")
    elif isinstance(value, int) and abs(value) > MAX_SAFE_INTEGER:
        raise Refused("malformed", "A whole number is larger than 2^53-1.")


def parse(raw: bytes) -> Json:
    """Read one JSON text (RFC 8259) in UTF-8, without byte order mark.

    Raises:
        Refused: ``malformed`` or ``duplicate-key``; nothing else, whatever the bytes.
    """
    try:
        text = raw.decode("utf-8")
        value: Json = _DECODER.decode(text)
        _check(value, 0)
    except UnicodeDecodeError:
        raise Refused("malformed", "The bytes are not valid UTF-8.") from None
    except RecursionError:
        raise Refused("malformed", f"The JSON is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise Refused("malformed", f"The bytes are not JSON: {error}.") from None
    return value


def convert(value: object, into: type[T], at: str = "$") -> T:
    """Turn parsed JSON, which stands at a path, into a typed struct; unknown fields are refused.

    Raises:
        Refused: ``schema`` with the sentence of msgspec and the path of what is wrong.
    """
    try:
        return msgspec.convert(value, into)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        place = at + path.strip("`")[1:]
        unknown = _UNKNOWN.search(text)
        raise Refused("schema", f"{text}.", f"{place}.{unknown[1]}" if unknown else place) from None


def decode(raw: bytes, into: type[T]) -> T:
    """``parse``, then ``convert``."""
    return convert(parse(raw), into)


def encode(value: object) -> bytes:
    """Write a struct as compact JSON in UTF-8. What was signed is kept as bytes, never redone."""
    return msgspec.json.encode(value)
