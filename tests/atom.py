"""A reader of Atom that takes what RFC 4287 and RFC 5005 say, and nothing else."""

import re
from collections import Counter
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

ATOM = "{http://www.w3.org/2005/Atom}"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"

ATTRIBUTES = {
    "feed": {LANG},
    "entry": {LANG},
    "link": {"rel", "href", "type", "hreflang"},
    "category": {"term", "scheme", "label"},
}
"""The attributes that an element may have, of those that we write; no other has any."""

ONCE = {"id", "title", "updated"}
AT_MOST_ONCE = {"summary", "content", "rights", "published"}
IN_A_FEED = {"id", "title", "updated", "link", "author", "entry"}
IN_AN_ENTRY = {*ONCE, *AT_MOST_ONCE, "author", "link", "category"}

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")  # RFC 3339
IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+")
LANGUAGE = re.compile("[A-Za-z]{1,8}(-[A-Za-z0-9]{1,8})*")


def read(raw: bytes) -> Element:
    """The feed of a document.

    Raises:
        AssertionError: it is not valid; says where.
    """
    feed = ElementTree.fromstring(raw)  # noqa: S314 - of our own hub
    assert feed.tag == f"{ATOM}feed"
    for element in feed.iter():
        _check_element(element)
    _check_children(feed, IN_A_FEED)
    assert link(feed, "self") is not None  # §4.1.1: SHOULD
    for entry in entries(feed):
        _check_children(entry, IN_AN_ENTRY)
        # §4.1.1: or else the feed has one; §4.1.2
        assert [text(author, "name") for author in entry.findall(f"{ATOM}author")]
        if entry.find(f"{ATOM}content") is None:
            assert link(entry, "alternate") is not None
    versions = Counter((text(entry, "id"), text(entry, "updated")) for entry in entries(feed))
    assert max(versions.values(), default=1) == 1  # §4.1.1
    return feed


def _check_element(element: Element) -> None:
    name = element.tag.removeprefix(ATOM)
    assert f"{ATOM}{name}" == element.tag
    assert set(element.attrib) <= ATTRIBUTES.get(name, set()), (name, element.attrib)
    assert LANGUAGE.fullmatch(element.get(LANG, "en"))
    if name == "updated":
        assert TIME.fullmatch(element.text or ""), element.text
    if name == "id":
        assert IRI.fullmatch(element.text or ""), element.text
    if name == "category":
        assert element.get("term")  # §4.2.2
        assert IRI.fullmatch(element.get("scheme", "urn:x"))
    if name == "link":
        assert IRI.fullmatch(element.get("href", "")), element.attrib  # §4.2.7
        assert MEDIA_TYPE.fullmatch(element.get("type", "a/b"))
        assert LANGUAGE.fullmatch(element.get("hreflang", "en"))
    if name in {"title", "summary", "content", "rights", "name", "id", "updated"}:
        assert not list(element)  # text, and no markup
    elif element.text is not None:
        assert not element.text.strip(), (name, element.text)


def _check_children(element: Element, allowed: set[str]) -> None:
    found = Counter(child.tag.removeprefix(ATOM) for child in element)
    assert set(found) <= allowed
    assert all(found[name] == 1 for name in ONCE), found
    assert all(found[name] <= 1 for name in AT_MOST_ONCE), found
    alternates = Counter(
        (each.get("type"), each.get("hreflang"))
        for each in element.findall(f"{ATOM}link")
        if each.get("rel", "alternate") == "alternate"
    )
    assert max(alternates.values(), default=1) == 1


def entries(feed: Element) -> list[Element]:
    return feed.findall(f"{ATOM}entry")


def text(element: Element, name: str) -> str | None:
    """The text of a child; None where there is no such."""
    child = element.find(f"{ATOM}{name}")
    return None if child is None else (child.text or "")


def link(element: Element, rel: str) -> str | None:
    """Where the first link with this relation leads."""
    found = (each.get("href") for each in element.findall(f"{ATOM}link") if each.get("rel") == rel)
    return next(found, None)


def terms(entry: Element) -> dict[str, set[str]]:
    """The categories of an entry: the terms by the end of their scheme."""
    found: dict[str, set[str]] = {}
    for each in entry.findall(f"{ATOM}category"):
        scheme = (each.get("scheme") or "").rpartition(":")[2]
        found.setdefault(scheme, set()).add(each.get("term") or "")
    return found
