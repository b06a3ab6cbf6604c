"""What the log is searched by: the terms of an entry, the words of a text, and what is asked for.

The index is nothing but this function of the log and of the messages, so that it can be dropped and
made again, and what is not yet in it can be searched all the same.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import get_args

import msgspec

from hub.ledger.queries import Counted, EventFilter
from schemas import entry as entries
from schemas import jsontext, receipt, signature
from schemas.encoding import CODE_PATTERN
from schemas.entry import Entry
from schemas.message import Text
from schemas.refusal import Refused
from schemas.vocabulary import SDG_GOALS, SDG_TARGETS, THEMES

OPEN_MARKINGS = frozenset({"TLP:CLEAR", "TLP:GREEN"})
"""Markings of messages whose words can be searched: a search is no way to read the others."""

MAX_WORDS = 16
"""Words of one search."""

MAX_WORD = 64
"""Characters of a word that are looked at."""

COUNTED: tuple[str, ...] = get_args(Counted)
"""What stands for many entries: these are counted by day."""

ERASABLE = (
    *(f"theme:{theme}" for theme in THEMES),
    *(f"sdg:{sdg}" for sdg in (*SDG_GOALS, *SDG_TARGETS)),
)
"""Every term that comes from the content of a message and goes with it."""

# Written between letters that belong together: oʻ, gʻ, maʼno, women's. Left out here and there,
# they are left out everywhere.
_APOSTROPHES = dict.fromkeys(map(ord, "'`´ʹʻʼʽˈ‘’‛′＇"))


class Sent(msgspec.Struct, frozen=True):
    """An accepted message as the store has it; without an envelope it was erased."""

    kind: str
    marking: str
    thread: str | None
    recipients: Sequence[str]
    envelope: bytes | None


class Source(msgspec.Struct, frozen=True):
    """An entry with all that the index takes from it; ``message`` is what it accepted."""

    index: int
    raw: bytes
    private: bytes | None
    message: Sent | None = None


class Indexed(msgspec.Struct, frozen=True):
    """What the index keeps of an entry; the words are none where its text is not for searching."""

    index: int
    time: str
    terms: frozenset[str]
    words: frozenset[str] = frozenset()

    def matches(self, wanted: EventFilter) -> bool:
        """Whether everything that is wanted holds, apart from the place in the log."""
        return (
            self.terms.issuperset(terms(wanted))
            and (wanted.since is None or self.time >= wanted.since)
            and (wanted.until is None or self.time < wanted.until)
            and all(map(self._has, asked(wanted.text)))
        )

    def _has(self, word: "Word") -> bool:
        if not word.prefix:
            return word.letters in self.words
        return any(own.startswith(word.letters) for own in self.words)


class Word(msgspec.Struct, frozen=True):
    """A word that is asked for, or the beginning of one."""

    letters: str
    prefix: bool = False


class _Content(msgspec.Struct, frozen=True):
    """What of a message's content is searched; the rest of it is passed over."""

    texts: dict[str, Text] = {}
    themes: tuple[str, ...] = ()
    sdgs: tuple[int | str, ...] = ()


def index(source: Source) -> Indexed:
    """What the index keeps of an entry; the same for the same entry, whatever its private part."""
    entry = entries.decode(source.raw)
    found = {*_of_entry(entry), *(f"message:{each}" for each in _about(entry, source.private))}
    words: frozenset[str] = frozenset()
    if source.message is not None:
        content = _content(source.message.envelope)
        found |= {*_of_message(entry.actor, source.message), *_of_content(content)}
        if source.message.marking in OPEN_MARKINGS:
            words = _all_words(content)
    return Indexed(source.index, entry.time, frozenset(found), words)


def _of_entry(entry: Entry) -> Iterator[str]:
    yield f"type:{entry.type}"
    yield f"actor:{entry.actor}"
    if entry.subject is not None:
        yield f"subject:{entry.subject}"
    for name in (entry.actor, entry.subject):
        if name is not None and re.fullmatch(CODE_PATTERN, name):
            yield f"member:{name}"


def _about(entry: Entry, private: bytes | None) -> Iterator[str]:
    """The messages that an entry is about; of a receipt, all that it covers."""
    if entry.type.startswith(("message.", "delivery.")) and entry.subject is not None:
        yield entry.subject
    if entry.type == entries.RECEIPTS_RECORDED and private is not None:
        try:
            _, told = receipt.parse(private)
        except Refused:
            return  # damaged: it is `audit verify` that says so
        yield from (item[0] for item in told.items)


def _of_message(sender: str, sent: Sent) -> Iterator[str]:
    yield f"sender:{sender}"
    yield f"kind:{sent.kind}"
    yield f"marking:{sent.marking}"
    if sent.thread is not None:
        yield f"thread:{sent.thread}"
    for code in sent.recipients:
        yield f"recipient:{code}"
        yield f"member:{code}"


def _of_content(content: _Content) -> Iterator[str]:
    for theme in content.themes:
        yield f"theme:{theme}"
    for sdg in content.sdgs:
        goal, _, target = str(sdg).partition(".")
        yield f"sdg:{goal}"
        if target:
            yield f"sdg:{sdg}"


def _content(envelope: bytes | None) -> _Content:
    if envelope is None:
        return _Content()
    try:
        jws = signature.parse(envelope, signature.MESSAGE_TYPE)
        return jsontext.decode(jws.payload, _Content)
    except Refused:
        return _Content()  # sealed, or edited in the store, which its receivers notice


def _all_words(content: _Content) -> frozenset[str]:
    return frozenset(
        word
        for text in content.texts.values()
        for part in (text.title, text.summary, text.body)
        for word in words(part)
    )


def words(text: str) -> list[str]:
    """The words of a text as they are compared: small letters without marks and apostrophes.

    Of any two spellings that differ in those alone, each finds the other: ``Oʻzbek``, ``o'zbek``
    and ``OZBEK``; ``ещё`` and ``еще``.
    """
    folded = text.translate(_APOSTROPHES)
    for _ in range(2):  # what decomposing brings forth may have capitals and marks of its own
        folded = unicodedata.normalize("NFKD", folded.casefold())
        folded = "".join(c for c in folded if not unicodedata.combining(c)).translate(_APOSTROPHES)
    parts = "".join(c if c.isalnum() else " " for c in folded).split()
    return [part[:MAX_WORD] for part in parts]


def asked(text: str | None) -> tuple[Word, ...]:
    """The words that a search asks for; one with ``*`` behind it is the beginning of a word."""
    found: dict[Word, None] = {}
    for part in (text or "").split():
        own = words(part)
        for word in own[:-1]:
            found[Word(word)] = None
        if own:
            found[Word(own[-1], part.endswith("*"))] = None
    return tuple(found)


def terms(wanted: EventFilter) -> tuple[str, ...]:
    """The terms that an entry must all have."""
    named = {name: getattr(wanted, name) for name in (*COUNTED, "subject", "thread", "message")}
    return tuple(f"{name}:{value}" for name, value in named.items() if value is not None)


def is_counted(term: str) -> bool:
    """Whether a term stands for many entries, and is counted."""
    return term.partition(":")[0] in COUNTED
