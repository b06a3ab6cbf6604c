"""What leaves to a webhook: the marking's rule first, then the holder's own wish."""

import pytest

from hub.delivery import subscription
from hub.delivery.subscription import NO_WEBHOOKS, ROLE, Filter, egress, terms
from schemas import jsontext, message
from schemas.refusal import Refused
from tests import builders

THREAD = builders.message_id(7)


def bulletin(**overrides):
    return message.parse(builders.payload(builders.message(thread=THREAD, **overrides)))


BULLETIN = bulletin()
ANSWER = message.parse(builders.payload(builders.response()))


class TestEgress:
    @pytest.mark.parametrize(
        ("marking", "member", "partner", "observer"),
        [
            ("TLP:CLEAR", None, None, None),
            ("TLP:GREEN", None, None, None),
            ("TLP:AMBER", None, ROLE, ROLE),
            ("TLP:AMBER+STRICT", NO_WEBHOOKS, NO_WEBHOOKS, NO_WEBHOOKS),
            ("TLP:RED", NO_WEBHOOKS, NO_WEBHOOKS, NO_WEBHOOKS),
        ],
    )
    def test_follows_the_marking(self, marking, member, partner, observer):
        assert egress(marking, "member") == member
        assert egress(marking, "partner") == partner
        assert egress(marking, "observer") == observer


class TestAFilter:
    def test_that_asks_for_nothing_takes_everything(self):
        assert Filter().passes_over(terms(BULLETIN)) is None

    @pytest.mark.parametrize(
        ("field", "taken", "passed_over"),
        [
            ("senders", ("kg", "kz"), ("kg",)),
            ("kinds", ("activity_bulletin.v1",), ("activity_bulletin.v2",)),
            ("kinds", ("activity_bulletin",), ("joint_action_notice",)),
            ("themes", ("women", "torture_prevention"), ("women",)),
            ("sdgs", ("16.3",), ("16.1",)),
            ("sdgs", (16,), (1, "3.1")),
            ("markings", ("TLP:GREEN",), ("TLP:CLEAR", "TLP:AMBER")),
            ("threads", (THREAD,), (builders.message_id(8),)),
            ("threads", (builders.message_id(),), (builders.message_id(2),)),
            ("languages", ("ru", "en"), ("ru",)),
        ],
    )
    def test_takes_by_each_field_and_tells_which_one_passes_over(self, field, taken, passed_over):
        assert Filter(**{field: taken}).passes_over(terms(BULLETIN)) is None
        assert Filter(**{field: passed_over}).passes_over(terms(BULLETIN)) == field

    def test_takes_a_target_for_its_goal_and_no_goal_for_its_target(self):
        assert Filter(sdgs=(5,)).passes_over(terms(bulletin(sdgs=["5.2"]))) is None
        assert Filter(sdgs=("5.2",)).passes_over(terms(bulletin(sdgs=[5]))) == "sdgs"

    def test_takes_a_language_in_each_of_its_scripts(self):
        texts = {"uz-Cyrl": {"title": "Ташриф"}}
        assert Filter(languages=("uz",)).passes_over(terms(bulletin(texts=texts))) is None
        assert (
            Filter(languages=("uz-Latn",)).passes_over(terms(bulletin(texts=texts))) == "languages"
        )

    def test_takes_what_has_no_text_whatever_the_language(self):
        assert Filter(languages=("ru",)).passes_over(terms(ANSWER)) is None

    def test_passes_over_what_meets_all_but_one_field(self):
        wished = Filter(senders=("kz",), markings=("TLP:GREEN",), themes=("women",))
        assert wished.passes_over(terms(BULLETIN)) == "themes"

    @pytest.mark.parametrize(
        ("wished", "detail", "path"),
        [
            ({"kinds": ["gossip.v1"]}, "'gossip.v1' is no kind", "$.kinds[0]"),
            ({"themes": ["women", "weather"]}, "'weather' is not a theme", "$.themes[1]"),
            ({"sdgs": [18]}, "18 is no goal", "$.sdgs[0]"),
            ({"markings": ["GREEN"]}, "The markings are TLP:CLEAR", "$.markings[0]"),
            ({"senders": ["KZ"]}, "regex", "$.senders[0]"),
            ({"threads": ["1"]}, "regex", "$.threads[0]"),
            ({"languages": ["русский"]}, "regex", "$.languages[0]"),
            ({"languages": ["ru", "uz-latn"]}, "'uz-latn' marks no text", "$.languages[1]"),
            ({"languages": ["uzb-Latn"]}, "'uzb-Latn' marks no text", "$.languages[0]"),
            ({"languages": ["uz-UZ"]}, "'uz-UZ' marks no text", "$.languages[0]"),
            ({"regions": []}, "unknown field", "$.regions"),
        ],
    )
    def test_with_a_word_that_is_not_known_is_refused_with_its_place(self, wished, detail, path):
        with pytest.raises(Refused, match=detail) as refused:
            subscription.check(jsontext.convert(wished, Filter))
        assert (refused.value.code, refused.value.path) == ("schema", path)

    def test_in_the_words_of_the_vocabulary_is_taken(self):
        subscription.check(
            Filter(("kz",), ("activity_bulletin", "joint_action_notice.v1"), ("women",), (5, "5.2"))
        )
        subscription.check(Filter(languages=("ru", "uz", "uz-Latn", "ru-KZ", "kaa")))
