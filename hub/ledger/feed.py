"""The public feed: which messages anybody may read, and each as an entry of Atom. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode
from uuid import NAMESPACE_URL, uuid5

import msgspec

from hub.ledger import atom
from hub.ledger.atom import Category, Entry, Feed, Link
from schemas import jsontext, signature
from schemas.directory import Directory
from schemas.message import Message
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS, SDG_GOALS, THEMES, Titles, is_sdg

MARKING = "TLP:CLEAR"
"""What is searched for. Whether a message is shown is judged by its own marking, below."""

MAX_TEXT = 20_000
"""Characters of a body that the feed shows; the evidence has all of it."""

_VOCABULARY = "urn:nhri-exchange"
_NEVER = "1970-01-01T00:00:00.000Z"

# RFC 3986 and 3987 have no place for these; a link with one would make the feed no Atom.
_NO_IRI = re.compile(r"[\s<>\"{}|\\^`\[\]\x00-\x20\x7f-\xa0]|%(?![0-9A-Fa-f]{2})")

T = TypeVar("T")


class Channel(msgspec.Struct, frozen=True):
    """A page of one feed: of an institution, of a theme or of all; below ``before`` in the log.

    With a ``language`` it has the messages with a text in it.
    """

    sender: str | None = None
    theme: str | None = None
    language: str | None = None
    before: int | None = None

    @property
    def path(self) -> str:
        """Where its feed is."""
        if self.sender is not None:
            return f"/feed/member/{self.sender}"
        return "/feed" if self.theme is None else f"/feed/theme/{self.theme}"

    def address(self, before: int | None = None) -> str:
        """Path and query of a page of it."""
        asked = {"lang": self.language, "before": before}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"{self.path}?{query}" if query else self.path


class Published(msgspec.Struct, frozen=True):
    """A public message, when it was recorded, and whether it replaces an earlier public one."""

    message: Message
    recorded: str
    replaces: bool = False


class Place(msgspec.Struct, frozen=True):
    """The hub that publishes: its name, its address without a slash at the end, its directory."""

    name: str
    url: str
    directory: Directory


class _Link(msgspec.Struct, frozen=True):
    href: str
    language: str | None = None


class _Content(msgspec.Struct, frozen=True):
    """What the feed shows of a content, whatever the kind."""

    links: tuple[_Link, ...] = ()


def opened(envelope: bytes | None, marking: str, now: str) -> Message | None:
    """The message in an envelope if anybody may read it now; None if not.

    Both markings must say so, that of the hub's row and the one that the sender signed. An erased
    message, an expired or sealed one and one without words is not for the feed.
    """
    if not envelope or not _is_public(marking):
        return None
    try:
        payload = signature.parse(envelope, signature.MESSAGE_TYPE).payload
        message = jsontext.decode(payload, Message)
    except Refused:
        return None  # sealed, or edited in the store, which its receivers notice
    over = message.expires is not None and message.expires <= now
    return message if _is_public(message.marking) and message.texts and not over else None


def _is_public(marking: str) -> bool:
    return marking in MARKINGS and MARKINGS[marking].public_feed


def speaks(message: Message, wanted: str | None) -> bool:
    """Whether a message has a text in a language, in whatever script and of whatever country."""
    return wanted is None or _primary(wanted) in map(_primary, message.texts)


def _primary(tag: str) -> str:
    return tag.casefold().partition("-")[0]


def nearest(known: Mapping[str, T], wanted: str | None) -> tuple[str, T]:
    """What there is in a language, in another script or of another country, or else the first.

    Args:
        known: by language tag; at least one.
        wanted: a language tag (BCP 47), in whatever case.
    """
    tag = wanted or ""

    def distance(own: str) -> tuple[bool, bool]:
        return _primary(own) != _primary(tag), own.casefold() != tag.casefold()

    return min(known.items(), key=lambda item: distance(item[0]))


def document(
    place: Place, channel: Channel, published: Sequence[Published], following: int | None
) -> bytes:
    """The Atom document of a page, newest first; ``following`` is where the next one begins."""
    links = [
        Link("self", place.url + channel.address(channel.before), atom.MEDIA_TYPE),
        Link("first", place.url + channel.address(), atom.MEDIA_TYPE),
    ]
    if following is not None:
        links.append(Link("next", place.url + channel.address(following), atom.MEDIA_TYPE))
    made = Feed(
        # Of the log's name and not of an address, which may change.
        id=uuid5(NAMESPACE_URL, f"https://{place.name}{channel.address()}").urn,
        updated=max((each.recorded for each in published), default=_NEVER),
        language=channel.language,
        title=_title(place, channel),
        links=links,
        entries=[_entry(place, channel.language, each) for each in published],
    )
    return atom.write(made)


def _title(place: Place, channel: Channel) -> str:
    if channel.sender is not None:
        return f"{place.name}: {_named(place.directory, channel.sender, channel.language)}"
    if channel.theme is not None:
        return f"{place.name}: {nearest(THEMES[channel.theme], channel.language)[1]}"
    return place.name


def _named(directory: Directory, code: str, language: str | None) -> str:
    known = directory.participants.get(code)
    return nearest(known.names, language)[1] if known and known.names else code


def _entry(place: Place, wanted: str | None, published: Published) -> Entry:
    message = published.message
    language, text = nearest(message.texts, wanted)
    body = text.body if len(text.body) <= MAX_TEXT else f"{text.body[:MAX_TEXT]}…"
    return Entry(
        id=f"urn:uuid:{message.id}",
        updated=published.recorded,
        language=language,
        author=_named(place.directory, message.sender, language),
        title=text.title,
        summary=text.summary,
        content=body,
        rights=message.marking,
        links=_links(place, published),
        categories=_categories(message, language),
    )


def _links(place: Place, published: Published) -> list[Link]:
    message = published.message
    evidence = f"{place.url}/feed/{message.id}/evidence"
    found = [Link("alternate", evidence, "application/zip")]
    if published.replaces:
        found.append(Link("predecessor-version", f"urn:uuid:{message.supersedes}"))  # RFC 5829
    try:
        content = jsontext.convert(message.content or {}, _Content)
    except Refused:
        return found  # a kind whose links are something else
    return found + [
        Link("related", link.href, None, link.language)
        for link in content.links
        if re.match("https?://", link.href) and not _NO_IRI.search(link.href)
    ]


def _categories(message: Message, language: str) -> list[Category]:
    kind = Category(f"{_VOCABULARY}:kind", message.kind, message.kind)
    themes = [
        Category(f"{_VOCABULARY}:theme", theme, nearest(THEMES[theme], language)[1])
        for theme in message.themes
        if theme in THEMES
    ]
    sdgs = [
        Category(f"{_VOCABULARY}:sdg", str(sdg), nearest(_goal(sdg), language)[1])
        for sdg in message.sdgs
        if is_sdg(sdg)
    ]
    return [kind, *themes, *sdgs]


def _goal(sdg: int | str) -> Titles:
    """The titles of a goal, or of the goal that a target belongs to."""
    return SDG_GOALS[int(str(sdg).partition(".")[0])]
