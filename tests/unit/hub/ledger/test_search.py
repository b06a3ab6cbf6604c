"""What of an entry is searched, and what a search asks for."""

import pytest

from hub.ledger import search
from hub.ledger.queries import EventFilter
from hub.ledger.search import Sent, Source, Word
from schemas import entry as entries
from tests import builders


def indexed(kind=entries.MESSAGE_ACCEPTED, *, sent=None, private=None, **members):
    entry = builders.entry(kind, private=private, **members)
    return search.index(Source(7, entries.encode(entry), private, sent))


def sent(envelope=None, **overrides):
    message = builders.message(**overrides)
    raw = builders.signed(message) if envelope is None else envelope
    return Sent(str(message["kind"]), str(message["marking"]), None, ["kg", "tj"], raw)


class TestTheTermsOfAnEntry:
    def test_of_a_message_name_all_who_take_part(self):
        found = indexed(sent=sent(), subject=builders.message_id(), actor="kz").terms
        assert {"sender:kz", "recipient:kg", "recipient:tj"} <= found
        assert {"member:kz", "member:kg", "member:tj"} <= found
        assert {"theme:torture_prevention", "sdg:16", "sdg:16.3"} <= found

    def test_of_a_receipt_name_every_message_that_it_covers(self):
        items = [(builders.message_id(n), "h" * 43, n, "received", "") for n in (1, 2)]
        raw = builders.signed_receipt(*items, receiver="kg")
        found = indexed(entries.RECEIPTS_RECORDED, actor="kg", private=raw).terms
        assert {f"message:{builders.message_id(n)}" for n in (1, 2)} <= found

    @pytest.mark.parametrize("envelope", [b"", b"{}", b"\xff"])
    def test_are_those_of_the_log_alone_where_the_content_cannot_be_read(self, envelope):
        found = indexed(sent=sent(envelope), actor="kz")
        assert not {term for term in found.terms if term.startswith(("theme:", "sdg:"))}
        assert found.words == frozenset()

    def test_of_a_receipt_without_its_private_part_are_those_of_the_log_alone(self):
        found = indexed(entries.RECEIPTS_RECORDED, actor="kg", private=b"damaged").terms
        assert found == {"type:receipts.recorded", "actor:kg", "member:kg"}

    def test_fit_into_the_table(self):
        assert max(map(len, search.ERASABLE)) <= 120

    @pytest.mark.parametrize("marking", ["TLP:AMBER", "TLP:AMBER+STRICT"])
    def test_have_no_words_of_what_not_everybody_may_read(self, marking):
        assert indexed(sent=sent(marking=marking)).words == frozenset()
        assert "visit" in indexed(sent=sent()).words


class TestWords:
    @pytest.mark.parametrize(
        "spellings",
        [
            ("Oʻzbekiston", "O'zbekiston", "O’zbekiston", "O‘zbekiston", "o`zbekiston"),
            ("maʼno", "ma'no", "mano"),
            ("ещё", "ЕЩЕ", "еще"),
            ("Дастрасӣ", "дастраси"),
            ("ýeterlilik", "Yeterlilik"),
            ("ҚҰҚЫҚ", "құқық"),
            ("ﬁle", "FILE"),
            ("STRASSE", "Straße"),
        ],
        ids=lambda spellings: spellings[0],
    )
    def test_are_the_same_in_all_their_spellings(self, spellings):
        assert len({tuple(search.words(each)) for each in spellings}) == 1

    def test_are_parted_by_everything_else(self):
        assert search.words('права-человека, "2026" (ОБСЕ)\n#9') == [
            "права",
            "человека",
            "2026",
            "обсе",
            "9",
        ]

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("прав* человека", (Word("прав", prefix=True), Word("человека"))),
            ("a-b*", (Word("a"), Word("b", prefix=True))),
            ("one one", (Word("one"),)),
            ("\" OR NEAR( : ^ * & | ! '", (Word("or"), Word("near"))),
            ("…", ()),
            (None, ()),
        ],
    )
    def test_that_are_asked_for_mean_nothing_but_themselves(self, text, found):
        assert search.asked(text) == found


def test_a_filter_asks_for_one_term_each():
    assert search.terms(EventFilter(theme="children", message="x", after=3)) == (
        "theme:children",
        "message:x",
    )
