"""The missing tail of a log that was restored from an older copy: what those who hold it bring.

Nobody is believed. Entries are taken only if they lead to a checkpoint that the log's own key has
signed; a private part, if the entry commits to it; an envelope, if the private part names it.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.merkle import TILE_WIDTH

MAX_BODY: Final = 768 * 1024
"""Bytes of a request with a piece or with parts; an envelope alone may have half of them."""

MAX_PARTS: Final = 1_000

Index = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]


class Wanted(msgspec.Struct, frozen=True):
    """What a hub lacks: nothing, or all from ``size`` on and the ``missing`` entries' content."""

    wanted: bool
    size: int
    missing: tuple[int, ...]


class Piece(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Entries from ``start`` on (base64url), and a checkpoint of them and perhaps more.

    ``proof`` shows that the checkpoint's tree extends the one that ends with these entries; it is
    empty where that is the same tree.
    """

    start: Index
    entries: Annotated[tuple[str, ...], Meta(min_length=1, max_length=TILE_WIDTH)]
    checkpoint: str
    proof: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private part of an entry with its salt, and a message's envelope; all in base64url."""

    index: Index
    private: str
    salt: str
    envelope: str | None = None


class Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of entries that the hub lacks."""

    parts: Annotated[tuple[Part, ...], Meta(min_length=1, max_length=MAX_PARTS)]


class Extended(msgspec.Struct, frozen=True):
    """How many entries the log has now."""

    size: int


class Filled(msgspec.Struct, frozen=True):
    """How many parts were missing and are back; the others were there, or need one that is not."""

    taken: int
