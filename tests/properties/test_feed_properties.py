"""The public feed, whatever is in the messages: valid, readable again, and CLEAR alone."""

import re

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from hub.ledger import feed
from hub.ledger.feed import Channel, Place, Published
from schemas.message import Message
from schemas.vocabulary import MARKINGS
from tests import atom, builders

PLACE = Place("hub.example", "https://hub.example", builders.directory())

# No surrogates: the JSON of a message with one is refused.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    "<>&\"'/!-[]?;#x \t\n\r\x00\x0b\ufffe\uffff", max_size=30
)
TEXT = st.fixed_dictionaries({"title": TEXTS.filter(bool), "summary": TEXTS, "body": TEXTS})
TAGS = st.sampled_from(["en", "ru", "kk", "ky", "tg", "tk", "uz-Latn", "uz-Cyrl", "kaa"])
LINKS = st.lists(st.builds("https://{}".format, TEXTS), max_size=3)


@given(
    st.lists(
        st.tuples(st.dictionaries(TAGS, TEXT, min_size=1, max_size=3), LINKS, TEXTS, st.booleans()),
        max_size=4,
    ),
    st.none() | TAGS,
)
def test_a_page_is_valid_and_says_what_the_messages_say(messages, wanted):
    published = []
    for number, (texts, links, theme, replaces) in enumerate(messages):
        made = builders.message(
            id=builders.message_id(number),
            marking="TLP:CLEAR",
            texts=texts,
            themes=[theme, "children"],
            supersedes=builders.message_id(99),
            content={"links": [{"href": href} for href in links]},
        )
        recorded = builders.time(number)
        published.append(Published(msgspec.convert(made, Message), recorded, replaces))
    read = atom.read(feed.document(PLACE, Channel(language=wanted), published, 7))
    assert len(atom.entries(read)) == len(messages)
    for entry, (texts, _, _, _) in zip(atom.entries(read), messages, strict=True):
        text = texts[entry.get(atom.LANG)]
        shown = {"title": "title", "summary": "summary", "content": "body"}
        for name, member in shown.items():
            assert (atom.text(entry, name) or "") == printable(text[member])


def printable(text):
    """What XML 1.0 can hold of a text (§2.2), but for the carriage return."""
    return re.sub("[\x00-\x08\x0b-\x1f\ufffe\uffff]", "\ufffd", text)


MARKED = st.sampled_from([*MARKINGS, "", "TLP:WHITE", "tlp:clear"]) | TEXTS


@given(MARKED, MARKED, st.booleans(), st.integers(1, 3))
@example("TLP:CLEAR", "TLP:CLEAR", False, 3)
def test_only_what_is_clear_in_both_places_and_not_over_is_shown(row, signed, sealed, minutes):
    made = builders.message(marking=signed, expires=builders.time(minutes))
    made |= {"sealed": "x"} if sealed else {}
    found = feed.opened(builders.signed(made), row, builders.time(2))
    assert (found is not None) == (row == signed == "TLP:CLEAR" and not sealed and minutes > 2)


@given(st.binary())
def test_no_bytes_that_are_no_message_are_shown(raw):
    assert feed.opened(raw, "TLP:CLEAR", builders.time()) is None
