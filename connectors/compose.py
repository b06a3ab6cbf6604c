"""From a file that a person wrote to a checked message, and to its signed envelope.

What can be filled in may be left out: ``id``, ``created``, ``sender`` and ``thread``. Friendly
spellings: ``to`` for ``audience``, ``GREEN`` for ``TLP:GREEN``, a kind without its version, a list
as one text with commas, and a day where a time is due, which ends with that day where the
institution is. The fields of the kind's content stand at the top or below ``content``. The words
stand below ``texts`` by language, or at the top (``title``, ``summary``, ``body``) with their
``language``, or in Markdown below the fields (``connectors.source``).

Everything that the hub would refuse about the message alone is refused here, at its line.
"""

import difflib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from types import MappingProxyType
from zoneinfo import ZoneInfo

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from connectors.profile import Profile
from connectors.source import ComposeError, Format, Node, read, read_sections
from schemas import jsontext, message, signature
from schemas.encoding import (
    CODE_PATTERN,
    DATE_PATTERN,
    TIME_PATTERN,
    UUID7_PATTERN,
    format_time,
    uuid7,
)
from schemas.jsontext import Json
from schemas.kinds import KINDS, kind
from schemas.message import Message, Text
from schemas.refusal import Refused
from schemas.vocabulary import is_language_tag

__all__ = ["ComposeError", "compose", "sign", "words"]

_WORDS = ("title", "summary", "body")
_TOP_TEXT = frozenset({"language", *_WORDS})
_DAY = re.compile(DATE_PATTERN)
_MINUTE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) +([0-9]{2}:[0-9]{2})")
_END_OF_DAY = time(23, 59, 59, 999_000)


def compose(
    text: str,
    format: Format,  # noqa: A002 - the word that its callers use
    *,
    code: str,
    now: datetime,
    randomness: bytes,
    profile: Profile,
) -> Message:
    """Read a file and give the message it stands for.

    Args:
        text: the whole file.
        format: how it is written.
        code: the institution that sends it.
        now: the moment of writing, for ``id`` and ``created`` and to judge given times by.
        randomness: 10 random bytes for ``id``.
        profile: the institution's, whose time zone says when a day ends.

    Raises:
        ComposeError: the first thing that is wrong, with its line and field.
    """
    fields = read(text, format)
    name = _kind(fields)
    root = _arrange(fields, name, ZoneInfo(profile.time_zone))
    _check_sender(root, code)
    plain = _plain(root)
    assert isinstance(plain, dict)
    identity = uuid7(now, randomness)
    filled = {"id": identity, "sender": code, "created": format_time(now), **plain, "kind": name}
    filled.setdefault("thread", filled.get("in_reply_to", filled["id"]))
    try:
        composed = message.parse(jsontext.encode(filled))
        message.check_clock(composed, now)
        sign(composed, Ed25519PrivateKey.from_private_bytes(bytes(32)))  # is it small enough?
    except Refused as refusal:
        raise _located(refusal, root) from None
    return composed


def sign(composed: Message, private: Ed25519PrivateKey) -> bytes:
    """The message's envelope, signed.

    Raises:
        Refused: ``too-large``.
    """
    envelope = signature.sign(jsontext.encode(composed), signature.MESSAGE_TYPE, private)
    if len(envelope) > signature.MAX_ENVELOPE:
        raise Refused(
            "too-large", f"The message takes {len(envelope)} bytes; 262144 are the limit."
        )
    return envelope


def words(text: str, language: str) -> dict[str, Text]:
    """The texts of a file without fields: Markdown as below the fields of a message.

    Args:
        text: the whole file.
        language: of what stands before the first line such as ``--- ru``; may be empty.

    Raises:
        ComposeError: the first thing that is wrong.
    """
    return {tag: _text(tag, node) for tag, node in read_sections(text, language).items()}


# --- Arranging: every field to where the message has it ---


def _kind(fields: dict[str, Node]) -> str:
    node = fields.get("kind")
    versions = sorted(KINDS, key=lambda name: int(name.rpartition(".v")[2]))
    newest = {name.rpartition(".v")[0]: name for name in versions}
    if node is None:
        raise ComposeError(1, "kind", f"Write which kind it is: {', '.join(newest)}.")
    name = newest.get(node.text(), node.text())
    try:
        kind(name)
    except Refused as refusal:
        raise node.error(refusal.detail) from None
    return name


def _arrange(fields: dict[str, Node], name: str, zone: ZoneInfo) -> Node:
    """The fields under their own names and in their own places; lines and spellings stay known."""
    own = {field.name for field in msgspec.structs.fields(Message)}
    contents = {field.name for field in msgspec.structs.fields(kind(name).content)}
    top: dict[str, Node] = {}
    content = dict(_members(fields.get("content")))
    for written, node in fields.items():
        field = {"to": "audience"}.get(written, written)
        place = content if field in contents else top
        if field in place:
            raise node.error(f"{place[field].field} says the same on line {place[field].line}.")
        if field not in own | contents | _TOP_TEXT | {"sealed"}:
            raise node.error(_unknown(written, own | contents | _TOP_TEXT | {"to"}))
        place[field] = node
    for required, example in (("audience", "to: region"), ("marking", "marking: GREEN")):
        if required not in top:
            raise ComposeError(1, example.partition(":")[0], f"It is missing: {example}")
    texts = _texts(top)
    line = fields["content"].line if "content" in fields else 1
    top |= {"texts": texts, "content": Node(_spelled(content, zone), line, "")}
    return Node({f: n for f, n in _spelled(top, zone).items() if f not in _TOP_TEXT}, 1, "")


def _members(node: Node | None) -> Mapping[str, Node]:
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        raise node.error("Fields must stand below it.")
    return node.value


def _unknown(written: str, known: set[str]) -> str:
    close = difflib.get_close_matches(written, known, n=1)
    return f"There is no field {written!r}" + (f"; did you mean {close[0]}?" if close else ".")


def _texts(top: dict[str, Node]) -> Node:
    texts = dict(_members(top.get("texts")))
    words = {name: top[name] for name in _WORDS if name in top}
    language = top.get("language")
    first = next(iter(words.values()), None)
    if first is not None and language is None:
        raise ComposeError(first.line, "language", "Say which language it is: language: ru")
    if first is not None and language is not None:
        tag = language.text()
        if tag in texts:
            raise first.error(f"The text in {tag} stands on line {texts[tag].line}, too.")
        texts[tag] = Node(words, first.line, "")
    for tag, node in texts.items():
        _text(tag, node)
    line = min((node.line for node in texts.values()), default=1)
    return Node(texts, line, "texts")


def _text(tag: str, node: Node) -> Text:
    """One language's text, checked here: a refusal does not say which of them it is about."""
    if not is_language_tag(tag):
        raise node.error(f"{tag!r} is not a language tag such as ru; Uzbek is uz-Latn or uz-Cyrl.")
    try:
        return jsontext.convert(_plain(node), Text)
    except Refused as refusal:
        raise _located(refusal, node) from None


def _check_sender(root: Node, code: str) -> None:
    sender = _members(root).get("sender")
    if sender is not None and sender.text() != code:
        raise sender.error(f"This connector sends for {code}; leave the sender out.")


# --- Spellings ---


def _listed(node: Node, zone: ZoneInfo) -> Node:
    if not isinstance(node.value, str):
        return node
    items = [Node(item.strip(), node.line, node.field) for item in node.value.split(",")]
    return replace(node, value=items)


def _goals(node: Node, zone: ZoneInfo) -> Node:
    """Goals are whole numbers; a target such as 16.10 is a text, lest it become 16.1."""
    listed = _listed(node, zone)
    items = listed.value if isinstance(listed.value, list) else [listed]
    goals = [
        replace(item, value=int(item.value))
        if isinstance(item.value, str) and re.fullmatch("[0-9]{1,2}", item.value)
        else item
        for item in items
    ]
    return replace(node, value=goals)


def _marking(node: Node, zone: ZoneInfo) -> Node:
    label = node.text().upper()
    return replace(node, value=label if label.startswith("TLP:") else f"TLP:{label}")


def _deadline(node: Node, zone: ZoneInfo) -> Node:
    """A day becomes its last millisecond in the institution's time zone; a minute stays itself."""
    written = node.text()
    minute = _MINUTE.fullmatch(written)
    try:
        if minute:
            at = datetime.combine(date.fromisoformat(minute[1]), time.fromisoformat(minute[2]))
        elif _DAY.fullmatch(written):
            at = datetime.combine(date.fromisoformat(written), _END_OF_DAY)
        else:
            return node
    except ValueError:
        raise node.error(f"There is no such date: {written}.") from None
    return replace(node, value=format_time(at.replace(tzinfo=zone).astimezone(UTC)))


def _period(node: Node, zone: ZoneInfo) -> Node:
    if not isinstance(node.value, str):
        return node
    return replace(node, value={"start": node, "end": node})


def _place(node: Node, zone: ZoneInfo) -> Node:
    return replace(node, value={"name": node}) if isinstance(node.value, str) else node


def _named(member: str) -> Callable[[Node, ZoneInfo], Node]:
    """A list whose items may be written as the text of their main member alone."""

    def spell(node: Node, zone: ZoneInfo) -> Node:
        items = node.value if isinstance(node.value, list) else [node]
        return replace(
            node,
            value=[
                replace(item, value={member: item}) if isinstance(item.value, str) else item
                for item in items
            ],
        )

    return spell


def _figures(node: Node, zone: ZoneInfo) -> Node:
    if not isinstance(node.value, list):
        return node
    return replace(node, value=[_figure(item) for item in node.value])


def _figure(node: Node) -> Node:
    value = node.value.get("value") if isinstance(node.value, dict) else None
    if value is None or not isinstance(value.value, str):
        return node
    return replace(node, value={**_members(node), "value": replace(value, value=value.number())})


_SPELLINGS: Mapping[str, Callable[[Node, ZoneInfo], Node]] = MappingProxyType(
    {
        "audience": _listed,
        "themes": _listed,
        "invited": _listed,
        "sdgs": _goals,
        "marking": _marking,
        "expires": _deadline,
        "answer_by": _deadline,
        "period": _period,
        "place": _place,
        "partners": _named("name"),
        "links": _named("href"),
        "figures": _figures,
    }
)


def _spelled(fields: dict[str, Node], zone: ZoneInfo) -> dict[str, Node]:
    return {
        field: _SPELLINGS[field](node, zone) if field in _SPELLINGS else node
        for field, node in fields.items()
    }


# --- From nodes to JSON, and from a refusal back to its node ---


def _plain(node: Node) -> Json:
    if isinstance(node.value, dict):
        return {str(_plain(replace(b, value=name))): _plain(b) for name, b in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    try:
        # The hub's own parser judges half characters, and numbers that others read differently.
        return jsontext.parse(json.dumps(node.value).encode())
    except Refused as refusal:
        raise node.error(refusal.detail) from None


def _located(refusal: Refused, root: Node) -> ComposeError:
    """The refusal of a message at the deepest place of the file that its path leads to."""
    node = root
    rest = ""
    path = re.findall(r"\.([^.\[]+)|\[([0-9]+)\]", refusal.path or "")
    named = re.search(r"required field `([^`]*)`", refusal.detail)
    for name, position in [*path, *([(named[1], "")] if named else [])]:
        below = _below(node, name, position)
        if below is None or rest:
            rest += f".{name}" if name else f"[{position}]"
        else:
            node = below
    field = f"{node.field}{rest}".removeprefix(".")
    return ComposeError(node.line, field, _sentence(refusal.detail))


def _below(node: Node, name: str, position: str) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(name)
    if isinstance(node.value, list) and position and int(position) < len(node.value):
        return node.value[int(position)]
    return None


_PATTERNS = MappingProxyType(
    {
        CODE_PATTERN: "a code such as kz",
        DATE_PATTERN: "a date such as 2026-07-01",
        TIME_PATTERN: "a date such as 2026-07-01, or a time such as 2026-07-01T09:30:00.000Z",
        UUID7_PATTERN: "the id of a message",
        "^[A-Z]{2}$": "the two capital letters of a country, such as KZ",
        r"^https?://[^\s]+$": "an address that begins with https://",
    }
)

_NOUNS = MappingProxyType(
    {
        "str": "a text",
        "int": "a whole number",
        "float": "a number",
        "int | float": "a number",
        "int | str": "a goal or target",
        "array": "a list",
        "object": "fields below it",
        "null": "nothing",
    }
)


def _sentence(detail: str) -> str:
    """The sentences of msgspec about types in words for people; all others as they are."""
    pattern = re.search(r"matching regex '(.*)'\.$", detail)
    if pattern:
        unescaped = pattern[1].replace("\\\\", "\\")  # msgspec shows it as Python would write it
        return f"Write {_PATTERNS.get(unescaped, 'it in another form')}."
    if "required field" in detail:
        return "It is missing."
    if "unknown field" in detail:
        return "There is no such field."
    return re.sub("`([a-z| ]+)`", lambda found: _NOUNS.get(found[1], found[1]), detail)
