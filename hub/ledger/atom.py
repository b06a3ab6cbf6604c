"""Atom (RFC 4287): a feed as the bytes of its document. Pure.

All texts are plain text: whatever looks like markup in one is shown, never obeyed.
"""

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

import msgspec

MEDIA_TYPE = "application/atom+xml"

_NAMESPACE = "http://www.w3.org/2005/Atom"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

# XML 1.0 §2.2 `Char`, without the carriage return that every reader would turn into a line feed. A
# document with another character is none, and would take every other entry down with it.
_NO_CHARACTER = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Link(msgspec.Struct, frozen=True):
    """``atom:link``; the ``href`` is an IRI."""

    rel: str
    href: str
    media_type: str | None = None
    language: str | None = None


class Category(msgspec.Struct, frozen=True):
    """``atom:category``: a ``term`` of the vocabulary ``scheme``, and what people call it."""

    scheme: str
    term: str
    label: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """``atom:entry``. Without ``content`` it needs an ``alternate`` link (§4.1.2)."""

    id: str
    updated: str
    language: str
    author: str
    title: str
    summary: str
    content: str
    rights: str
    links: Sequence[Link]
    categories: Sequence[Category]


class Feed(msgspec.Struct, frozen=True, kw_only=True):
    """``atom:feed``, or a page of one (RFC 5005 §3)."""

    id: str
    updated: str
    language: str | None
    title: str
    links: Sequence[Link]
    entries: Sequence[Entry]


def write(feed: Feed) -> bytes:
    """The document, in UTF-8."""
    root = Element("feed", _attributes({"xmlns": _NAMESPACE, _LANG: feed.language}))
    for name in ("id", "title", "updated"):
        _text(root, name, getattr(feed, name))
    _links(root, feed.links)
    for entry in feed.entries:
        _entry(SubElement(root, "entry", _attributes({_LANG: entry.language})), entry)
    raw: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return raw


def _entry(into: Element, entry: Entry) -> None:
    for name in ("id", "updated", "title", "summary", "content", "rights"):
        _text(into, name, getattr(entry, name))
    _text(SubElement(into, "author"), "name", entry.author)
    _links(into, entry.links)
    for category in entry.categories:
        SubElement(into, "category", _attributes(msgspec.structs.asdict(category)))


def _text(into: Element, name: str, value: str) -> None:
    """A text construct or a simple element; text is what a construct holds without a ``type``."""
    if value or name == "title":
        SubElement(into, name).text = _clean(value)


def _links(into: Element, links: Sequence[Link]) -> None:
    for link in links:
        values = {
            "rel": link.rel,
            "href": link.href,
            "type": link.media_type,
            "hreflang": link.language,
        }
        SubElement(into, "link", _attributes(values))


def _attributes(values: dict[str, str | None]) -> dict[str, str]:
    return {name: _clean(value) for name, value in values.items() if value is not None}


def _clean(text: str) -> str:
    """A text with U+FFFD for each character that no XML document may hold."""
    return _NO_CHARACTER.sub("\ufffd", text)
