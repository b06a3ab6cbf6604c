"""Which messages are public, and what the feed shows of them."""

import msgspec
import pytest

from hub.ledger import feed
from hub.ledger.feed import Channel, Place, Published
from schemas.message import Message
from schemas.vocabulary import MARKINGS
from tests import atom, builders

CLEAR = "TLP:CLEAR"
PLACE = Place("hub.example", "https://hub.example", builders.directory())


def opened(row=CLEAR, now=None, **overrides):
    made = builders.message(**{"marking": CLEAR} | overrides)
    return feed.opened(builders.signed(made), row, now or builders.time())


def document(*published, following=None, **channel):
    raw = feed.document(PLACE, Channel(**channel), published, following)
    return atom.read(raw)


def entry(wanted=None, *, replaces=False, **overrides):
    made = msgspec.convert(builders.message(**{"marking": CLEAR} | overrides), Message)
    found = document(Published(made, builders.time(1), replaces), language=wanted)
    return atom.entries(found)[0]


class TestWhatIsPublic:
    def test_is_what_sender_and_row_mark_as_clear(self):
        assert opened() is not None

    @pytest.mark.parametrize("marking", [m for m in MARKINGS if m != CLEAR] + ["", "CLEAR"])
    def test_is_nothing_that_either_marks_otherwise(self, marking):
        assert opened(row=marking) is None
        assert opened(marking=marking) is None

    def test_ends_when_the_message_expires(self):
        assert opened(expires=builders.time(5), now=builders.time(4)) is not None
        assert opened(expires=builders.time(5), now=builders.time(5)) is None

    @pytest.mark.parametrize("envelope", [None, b"", b"{}", b"\xff"])
    def test_is_nothing_that_was_erased_or_cannot_be_read(self, envelope):
        assert feed.opened(envelope, CLEAR, builders.time()) is None

    def test_is_nothing_sealed_and_nothing_without_words(self):
        assert opened(sealed="x") is None
        assert opened(texts={}) is None


class TestAnEntry:
    def test_has_the_words_of_the_message_and_who_says_so(self):
        found = entry()
        assert atom.text(found, "id") == f"urn:uuid:{builders.message_id()}"
        assert atom.text(found, "title") == "A visit"
        assert atom.text(found, "summary") == "What we saw."
        assert atom.text(found, "content") == "At length."
        assert atom.text(found, "rights") == CLEAR
        assert atom.text(found, "updated") == builders.time(1)
        assert "".join(found.find(f"{atom.ATOM}author").itertext()) == "KZ"

    def test_leads_to_its_evidence_and_to_what_the_message_links(self):
        found = entry()
        evidence = f"https://hub.example/feed/{builders.message_id()}/evidence"
        assert atom.link(found, "alternate") == evidence
        assert atom.link(found, "related") == "https://example.org/visit"

    def test_is_filed_under_themes_goals_and_kind(self):
        assert atom.terms(entry()) == {
            "theme": {"torture_prevention"},
            "sdg": {"16", "16.3"},
            "kind": {"activity_bulletin.v1"},
        }

    def test_says_which_it_replaces(self):
        earlier = builders.message_id(2)
        found = entry(replaces=True, supersedes=earlier)
        assert atom.link(found, "predecessor-version") == f"urn:uuid:{earlier}"
        assert atom.link(entry(supersedes=earlier), "predecessor-version") is None

    @pytest.mark.parametrize(
        "href", ["https://x.example/<b>", 'https://x.example/"', "https://x.example/%zz"]
    )
    def test_leaves_out_a_link_that_is_no_address(self, href):
        assert atom.link(entry(content={"links": [{"href": href}]}), "related") is None

    def test_leaves_out_a_link_that_would_run(self):
        content = {"links": [{"href": "javascript:alert(1)"}]}
        assert atom.link(entry(content=content), "related") is None

    def test_shows_markup_as_text(self):
        texts = {"en": {"title": "<script>x</script>", "body": "a & b <img src=x>]]>"}}
        found = entry(texts=texts)
        assert atom.text(found, "title") == "<script>x</script>"
        assert atom.text(found, "content") == "a & b <img src=x>]]>"

    def test_cuts_a_body_that_is_too_long(self):
        texts = {"en": {"title": "x", "body": "y" * (feed.MAX_TEXT + 1)}}
        assert atom.text(entry(texts=texts), "content") == "y" * feed.MAX_TEXT + "…"


TEXTS = {tag: {"title": tag} for tag in ("ru", "uz-Cyrl", "uz-Latn", "en")}


class TestTheLanguage:
    @pytest.mark.parametrize(
        ("wanted", "shown"),
        [
            ("en", "en"),
            ("EN", "en"),
            ("uz-Latn", "uz-Latn"),
            ("uz", "uz-Cyrl"),
            ("ru-KZ", "ru"),
            ("kk", "ru"),
            (None, "ru"),
        ],
    )
    def test_is_the_one_asked_for_or_one_near_it_or_the_message_s_first(self, wanted, shown):
        found = entry(wanted, texts=TEXTS)
        assert found.get(atom.LANG) == shown
        assert atom.text(found, "title") == shown

    def test_is_that_of_the_categories_too(self):
        found = entry("ru", texts=TEXTS)
        labels = {each.get("label") for each in found.findall(f"{atom.ATOM}category")}
        assert "Мир, правосудие и эффективные институты" in labels


class TestAPage:
    def test_without_an_entry_is_valid(self):
        found = document()
        assert atom.entries(found) == []
        assert atom.link(found, "next") is None

    def test_leads_to_the_next_and_to_the_first_in_the_same_language(self):
        found = document(language="ru", sender="kz", before=70, following=50)
        there = "https://hub.example/feed/member/kz?lang=ru"
        assert atom.link(found, "self") == f"{there}&before=70"
        assert atom.link(found, "next") == f"{there}&before=50"
        assert atom.link(found, "first") == there

    def test_is_of_the_same_feed_as_the_others(self):
        ids = {atom.text(document(before=n, theme="children"), "id") for n in (None, 5, 9)}
        assert len(ids) == 1
        assert ids != {atom.text(document(theme="climate"), "id")}

    def test_is_called_by_its_institution_or_theme(self):
        assert atom.text(document(), "title") == "hub.example"
        assert atom.text(document(sender="kz"), "title") == "hub.example: KZ"
        title = atom.text(document(theme="children", language="ru"), "title")
        assert title == "hub.example: Права ребёнка"
