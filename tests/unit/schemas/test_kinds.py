"""The three kinds of message, and what each may say."""

import pytest

from schemas import kinds, message
from schemas.kinds.activity_bulletin import ActivityBulletin
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.kinds.joint_action_response import ANSWERS, STEPS, JointActionResponse
from schemas.refusal import Refused
from schemas.vocabulary import ACTIVITIES, JOINT_ACTIONS, UNITS
from tests import builders
from tests.builders import message_id, payload, time, without


def content(value):
    """The content of a message that was read."""
    return message.content(message.parse(payload(value)))


def refused(value):
    with pytest.raises(Refused) as caught:
        message.parse(payload(value))
    return caught.value.code, caught.value.path


class TestTheTableOfKinds:
    def test_has_a_bulletin_a_notice_and_a_response(self):
        assert list(kinds.KINDS) == [
            "activity_bulletin.v1",
            "joint_action_notice.v1",
            "joint_action_response.v1",
        ]

    @pytest.mark.parametrize(
        ("made", "struct"),
        [
            (builders.message(), ActivityBulletin),
            (builders.notice(), JointActionNotice),
            (builders.response(), JointActionResponse),
        ],
        ids=["bulletin", "notice", "response"],
    )
    def test_types_the_content(self, made, struct):
        assert isinstance(content(made), struct)

    @pytest.mark.parametrize(
        ("name", "code"),
        [
            ("activity_bulletin.v2", "unsupported-version"),
            ("joint_action_response.v9999", "unsupported-version"),
            ("activity_bulletin.v0", "unknown-kind"),
            ("activity_bulletin.v1.1", "unknown-kind"),
            ("activity_bulletin.v1\n", "unknown-kind"),
            ("activity.v1", "unknown-kind"),
            ("", "unknown-kind"),
        ],
    )
    def test_knows_a_new_version_from_an_unknown_kind(self, name, code):
        with pytest.raises(Refused) as caught:
            kinds.kind(name)
        assert (caught.value.code, caught.value.path) == (code, "$.kind")


class TestABulletin:
    """``activity_bulletin.v1``"""

    def bulletin(self, **members):
        return builders.message(content={"activity": "visit"} | members)

    def refused(self, **members):
        code, path = refused(self.bulletin(**members))
        assert code == "schema"
        return path

    @pytest.mark.parametrize("activity", ACTIVITIES)
    def test_reports_any_of_the_activities_and_needs_nothing_else(self, activity):
        assert content(self.bulletin(activity=activity)) == ActivityBulletin(activity)

    @pytest.mark.parametrize("activity", ["party", "", "Visit"])
    def test_reports_no_other_activity(self, activity):
        assert self.refused(activity=activity) == "$.content.activity"

    def test_says_when_from_the_first_to_the_last_day(self):
        assert content(self.bulletin(period={"start": "2028-02-29", "end": "2028-02-29"}))

    @pytest.mark.parametrize(
        ("start", "end", "path"),
        [
            ("2026-07-02", "2026-07-01", "$.content.period.end"),
            ("2026-02-29", "2026-03-01", "$.content.period.start"),
            ("2026-07-01", "2026-07-32", "$.content.period.end"),
            ("2026-7-1", "2026-07-02", "$.content.period.start"),
        ],
    )
    def test_says_no_period_that_does_not_exist(self, start, end, path):
        assert self.refused(period={"start": start, "end": end}) == path

    @pytest.mark.parametrize("unit", UNITS)
    @pytest.mark.parametrize("value", [0, -3, 12.5, 1e15])
    def test_counts_in_any_of_the_units(self, value, unit):
        figure = {"name": "appeals", "value": value, "unit": unit}
        assert content(self.bulletin(figures=[figure])).figures[0].value == value

    @pytest.mark.parametrize(
        ("figure", "path"),
        [
            ({"name": "appeals", "value": 1, "unit": "furlongs"}, "[1].unit"),
            ({"name": "appeals", "value": "1", "unit": "count"}, "[1].value"),
            ({"name": "appeals", "value": True, "unit": "count"}, "[1].value"),
            ({"name": "", "value": 1, "unit": "count"}, "[1].name"),
            ({"name": "appeals", "unit": "count"}, "[1]"),
        ],
    )
    def test_counts_nothing_otherwise(self, figure, path):
        good = {"name": "visits", "value": 1, "unit": "count"}
        assert self.refused(figures=[good, figure]) == f"$.content.figures{path}"

    def test_names_partners_whether_the_directory_has_them_or_not(self):
        partners = content(
            self.bulletin(partners=[{"name": "OSCE"}, {"name": "U", "code": "undp"}])
        )
        assert [partner.code for partner in partners.partners] == [None, "undp"]

    @pytest.mark.parametrize("href", ["http://example.org", "https://пример.example/a?b=c#d"])
    def test_links_to_the_web(self, href):
        assert content(self.bulletin(links=[{"href": href, "language": "uz-Cyrl"}]))

    @pytest.mark.parametrize(
        "href",
        [
            "javascript:alert(1)",
            "data:text/html,x",
            "ftp://example.org",
            "//example.org",
            "https://",
            "https://example.org/a b",
            " https://example.org",
            "HTTPS://example.org",
        ],
    )
    def test_links_to_nothing_else(self, href):
        assert self.refused(links=[{"href": href}]) == "$.content.links[0].href"

    def test_links_with_a_language_tag_or_none(self):
        links = [{"href": "https://a.example"}, {"href": "https://b.example", "language": "uz"}]
        assert self.refused(links=links) == "$.content.links[1].language"

    @pytest.mark.parametrize("place", [{"country": "kz"}, {"country": "KAZ"}, {"country": "K"}])
    def test_names_a_country_by_two_letters(self, place):
        assert self.refused(place=place) == "$.content.place.country"

    def test_has_an_activity(self):
        assert refused(builders.message(content={})) == ("schema", "$.content")

    @pytest.mark.parametrize("nothing", [None, "visit", []])
    def test_has_a_content(self, nothing):
        assert refused(builders.message(content=nothing))[0] == "schema"


class TestANotice:
    """``joint_action_notice.v1``"""

    def notice(self, **members):
        plain = {"action": "statement", "invited": ["kg", "tj"], "answer_by": time(60)}
        return builders.notice(content=plain | members)

    def refused(self, **members):
        code, path = refused(self.notice(**members))
        assert code == "schema"
        return path

    @pytest.mark.parametrize("action", JOINT_ACTIONS)
    def test_proposes_any_of_the_joint_actions(self, action):
        assert content(self.notice(action=action)).action == action

    def test_proposes_no_other_action(self):
        assert self.refused(action="party") == "$.content.action"

    @pytest.mark.parametrize(
        "invited", [["kg", "tj", "kg"], ["kz"], ["kg", "kz"], []], ids=" ".join
    )
    def test_invites_others_each_once(self, invited):
        assert self.refused(invited=invited) == "$.content.invited"

    @pytest.mark.parametrize("answer_by", [time(0), time(-1), "2026-09-31T00:00:00.000Z"])
    def test_leaves_time_to_answer(self, answer_by):
        assert self.refused(answer_by=answer_by) == "$.content.answer_by"

    @pytest.mark.parametrize("missing", ["action", "invited", "answer_by"])
    def test_misses_no_field(self, missing):
        made = self.notice()
        assert refused(made | {"content": without(made["content"], missing)}) == (
            "schema",
            "$.content",
        )

    def test_has_its_common_text_in_the_message(self):
        assert refused(self.notice() | {"texts": {}}) == ("schema", "$.texts")

    def test_keeps_the_same_rules_for_period_and_links_as_a_bulletin(self):
        backwards = {"start": "2026-07-02", "end": "2026-07-01"}
        assert self.refused(period=backwards) == "$.content.period.end"
        links = [{"href": "https://example.org", "language": "uz"}]
        assert self.refused(links=links) == "$.content.links[0].language"


class TestAResponse:
    """``joint_action_response.v1``"""

    @pytest.mark.parametrize("answer", [*ANSWERS, *STEPS])
    def test_is_one_of_four_answers_or_three_steps(self, answer):
        assert content(builders.response(answer)).answer == answer

    @pytest.mark.parametrize("answer", ["yes", "ACCEPT", "", None])
    def test_is_nothing_else(self, answer):
        assert refused(builders.response(answer)) == ("schema", "$.content.answer")

    def test_replies_to_the_notice_it_answers(self):
        other = builders.response(in_reply_to=message_id(7))
        assert refused(other) == ("schema", "$.in_reply_to")
        assert refused(without(builders.response(), "in_reply_to")) == ("schema", "$.in_reply_to")

    def test_carries_a_signature_over_the_notice_when_it_accepts(self):
        unsigned = builders.with_content(builders.response(), signature=None)
        assert refused(unsigned) == ("schema", "$.content.signature")

    @pytest.mark.parametrize("answer", ["accept_with_reservation", "decline", "withdraw", *STEPS])
    def test_carries_no_signature_otherwise(self, answer):
        signed = builders.cosignature(builders.notice(), builders.key("kg"))
        made = builders.with_content(builders.response(answer), signature=signed)
        assert refused(made) == ("schema", "$.content.signature")

    def test_says_its_reservation(self):
        silent = builders.response("accept_with_reservation", texts={})
        assert refused(silent) == ("schema", "$.texts")

    def test_may_say_nothing_otherwise(self):
        assert content(builders.response("decline", texts={}))

    @pytest.mark.parametrize(
        "signature", [{"protected": "e30"}, {"protected": 1, "signature": ""}, "e30", []]
    )
    def test_carries_its_signature_in_the_form_of_an_envelope(self, signature):
        made = builders.with_content(builders.response(), signature=signature)
        code, path = refused(made)
        assert code == "schema"
        assert path.startswith("$.content.signature")
