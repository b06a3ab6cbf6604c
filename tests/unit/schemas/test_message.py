"""The message: what an institution may say, and the path of the first thing that is wrong."""

from datetime import timedelta

import pytest

from schemas import message
from schemas.refusal import Refused
from schemas.vocabulary import LANGUAGES, MARKINGS
from tests.builders import NOW, message_id, notice, payload, response, time, without
from tests.builders import message as bulletin

RLO = "\u202e"
"""RIGHT-TO-LEFT OVERRIDE: what follows it is shown from right to left."""


def read(**overrides):
    return message.parse(payload(bulletin(**overrides)))


def refusal(**overrides):
    return refusal_of(bulletin(**overrides))


def refusal_of(value):
    with pytest.raises(Refused) as caught:
        message.parse(payload(value))
    return caught.value


def refused(**overrides):
    found = refusal(**overrides)
    return found.code, found.path


def text(**members):
    return {"en": {"title": "A visit"} | members}


class TestAMessage:
    def test_is_read_as_it_was_written(self):
        sent = read(thread=message_id(2), expires=time(60))
        assert (sent.id, sent.sender, sent.audience) == (message_id(), "kz", ("region",))
        assert (sent.thread, sent.expires) == (message_id(2), time(60))
        assert sent.texts["en"] == message.Text("A visit", "What we saw.", "At length.")
        assert sent.sdgs == (16, "16.3")

    @pytest.mark.parametrize(
        "missing", ["id", "kind", "sender", "created", "audience", "marking", "content"]
    )
    def test_misses_no_field(self, missing):
        found = refusal_of(without(bulletin(), missing))
        assert (found.code, found.path) == ("schema", "$")
        assert f"missing required field `{missing}`" in found.detail

    @pytest.mark.parametrize("optional", ["texts", "themes", "sdgs", "attachments"])
    def test_may_leave_empty_what_says_nothing(self, optional):
        answer = without(response("decline"), optional)
        assert not getattr(message.parse(payload(answer)), optional)

    @pytest.mark.parametrize(
        ("overrides", "path"),
        [
            ({"urgent": True}, "$.urgent"),
            ({"Sender": "kz"}, "$.Sender"),
            ({"texts": text(subtitle="x")}, "$.texts[...].subtitle"),
            ({"content": {"activity": "visit", "mood": "good"}}, "$.content.mood"),
            ({"content": {"activity": "visit", "place": {"city": "Osh"}}}, "$.content.place.city"),
        ],
    )
    def test_has_no_field_that_is_not_known(self, overrides, path):
        found = refusal(**overrides)
        assert (found.code, found.path) == ("schema", path)
        assert "unknown field" in found.detail

    @pytest.mark.parametrize("raw", [b"[]", b"null", b'"message"', b"1", b"{}"])
    def test_is_an_object_with_fields(self, raw):
        assert refusal_of(raw).code == "schema"

    @pytest.mark.parametrize("raw", [b"", b"\xff", b"{", b"[" * 5_000, b"NaN"])
    def test_is_json(self, raw):
        assert refusal_of(raw).code == "malformed"

    def test_names_no_field_twice(self):
        raw = payload(bulletin())
        twice = raw.replace(b'"sender":"kz"', b'"sender":"kz","sender":"kg"')
        assert refusal_of(twice).code == "duplicate-key"


class TestNamesAndIds:
    @pytest.mark.parametrize("field", ["id", "thread", "in_reply_to", "supersedes"])
    @pytest.mark.parametrize(
        "value",
        [
            "1",
            "",
            "550e8400-e29b-41d4-a716-446655440000",
            message_id().upper(),
            message_id() + "\n",
            1,
        ],
    )
    def test_an_id_is_a_uuid_of_version_7(self, field, value):
        assert refused(**{field: value}) == ("schema", f"$.{field}")

    @pytest.mark.parametrize("code", ["KZ", "k", "kz\n", "kz ", "", "қз", "a" * 17, None, 1])
    def test_a_code_is_written_as_agreed(self, code):
        assert refused(sender=code) == ("schema", "$.sender")
        assert refused(audience=["kg", code]) == ("schema", "$.audience[1]")

    @pytest.mark.parametrize("audience", [[], "region", None, {"region": True}])
    def test_the_audience_is_a_list_of_at_least_one(self, audience):
        assert refused(audience=audience) == ("schema", "$.audience")

    def test_the_audience_never_names_the_sender(self):
        assert refused(audience=["kg", "kz"]) == ("schema", "$.audience")

    def test_the_audience_names_nobody_twice(self):
        assert refused(audience=["kg", "region", "kg"]) == ("schema", "$.audience")

    @pytest.mark.parametrize(
        "name", ["report.v1", "activity_bulletin", "activity_bulletin.v01", "Activity_bulletin.v1"]
    )
    def test_an_unknown_kind_is_refused(self, name):
        assert refused(kind=name) == ("unknown-kind", "$.kind")

    def test_an_unknown_version_of_a_known_kind_is_told_which_to_send(self):
        found = refusal(kind="activity_bulletin.v9")
        assert (found.code, found.path) == ("unsupported-version", "$.kind")
        assert "activity_bulletin.v1" in found.detail


class TestMarkings:
    @pytest.mark.parametrize("marking", [m for m, row in MARKINGS.items() if not row.sealed])
    def test_four_of_them_travel_unsealed(self, marking):
        assert read(marking=marking).marking == marking

    def test_red_waits_until_sealing_is_supported(self):
        assert refused(marking="TLP:RED") == ("sealed-unsupported", "$.marking")

    @pytest.mark.parametrize("marking", ["GREEN", "tlp:green", "TLP:WHITE", "TLP:GREEN ", ""])
    def test_another_label_is_refused_with_those_there_are(self, marking):
        found = refusal(marking=marking)
        assert (found.code, found.path) == ("schema", "$.marking")
        assert "TLP:AMBER+STRICT" in found.detail


class TestWhatIsNotSupportedYet:
    @pytest.mark.parametrize("sealed", [{"to": []}, None, "x"])
    def test_a_sealed_message_is_told_so_whatever_else_it_holds(self, sealed):
        value = without(bulletin(sealed=sealed), "texts", "themes", "sdgs", "content")
        found = refusal_of(value)
        assert (found.code, found.path) == ("sealed-unsupported", "$.sealed")

    def test_attachments_are_told_so(self):
        attachment = {"size": 1, "sha256": "A" * 43, "name": "a.pdf", "media_type": "text/plain"}
        assert refused(attachments=[attachment]) == ("attachments-unsupported", "$.attachments")

    def test_no_attachments_are_no_attachments(self):
        assert read(attachments=[]).attachments == ()


class TestTimes:
    @pytest.mark.parametrize("field", ["created", "expires"])
    @pytest.mark.parametrize(
        "value", ["2026-07-01", "2026-07-01T09:00:00Z", "2026-02-30T09:00:00.000Z", 1782896400]
    )
    def test_are_written_in_the_one_format_and_exist(self, field, value):
        assert refused(**{field: value}) == ("schema", f"$.{field}")

    @pytest.mark.parametrize("minutes", [-1, 0])
    def test_a_message_expires_after_it_was_created(self, minutes):
        assert refused(expires=time(minutes)) == ("schema", "$.expires")

    def test_five_minutes_ahead_is_a_clock_and_more_is_not(self):
        message.check_clock(read(created=time(5)), NOW)
        with pytest.raises(Refused, match=r"created-out-of-range.*clock"):
            message.check_clock(read(created="2026-07-01T09:05:00.001Z"), NOW)

    def test_ninety_days_old_is_taken_and_older_is_not(self):
        sent = read()
        message.check_clock(sent, NOW + timedelta(days=90))
        with pytest.raises(Refused, match=r"created-out-of-range.*90 days"):
            message.check_clock(sent, NOW + timedelta(days=90, milliseconds=1))

    def test_at_the_moment_of_expiry_it_has_expired(self):
        sent = read(expires=time(60))
        message.check_clock(sent, NOW + timedelta(minutes=59))
        with pytest.raises(Refused, match=rf"expired.*{time(60)}"):
            message.check_clock(sent, NOW + timedelta(minutes=60))


class TestTexts:
    @pytest.mark.parametrize("tag", [*LANGUAGES, "fr", "kaa", "ru-KZ"])
    def test_stand_under_a_language(self, tag):
        assert tag in read(texts={tag: {"title": "x"}}).texts

    @pytest.mark.parametrize("tag", ["uz", "UZ-Latn", "uz-latn", "russian", "ru_RU", "", "x-a"])
    def test_stand_under_no_other_tag(self, tag):
        assert refused(texts={tag: {"title": "x"}}) == ("schema", "$.texts")

    def test_in_both_scripts_of_uzbek_are_two_texts(self):
        both = {"uz-Latn": {"title": "Tashrif"}, "uz-Cyrl": {"title": "Ташриф"}}
        assert len(read(texts=both).texts) == 2

    def test_there_is_at_least_one(self):
        assert refused(texts={}) == ("schema", "$.texts")

    @pytest.mark.parametrize("title", ["", "x" * 1001, None, 1])
    def test_have_a_title_that_is_not_too_long(self, title):
        assert refused(texts=text(title=title)) == ("schema", "$.texts[...].title")

    def test_may_break_lines_in_summary_and_body_only(self):
        broken = read(texts=text(summary="a\nb", body="c\n\nd")).texts["en"]
        assert (broken.summary, broken.body) == ("a\nb", "c\n\nd")
        assert refused(texts=text(title="a\nb")) == ("forbidden-character", "$.texts.en.title")

    @pytest.mark.parametrize("character", ["\x00", "\x1b", "\t", "\r", "\x85", RLO, "\u2066"])
    @pytest.mark.parametrize("member", ["title", "summary", "body"])
    def test_hold_no_control_character_and_no_override(self, member, character):
        found = refusal(texts=text(**{member: f"paid{character}not"}))
        assert (found.code, found.path) == ("forbidden-character", f"$.texts.en.{member}")
        assert f"U+{ord(character):04X} at position 5" in found.detail

    def test_are_in_nfc(self):
        assert refused(texts=text(body="и\u0306")) == ("forbidden-character", "$.texts.en.body")

    @pytest.mark.parametrize(
        ("content", "path"),
        [
            ({"figures": [{"name": RLO, "value": 1, "unit": "count"}]}, "figures[0].name"),
            ({"partners": [{"name": "a"}, {"name": f"b{RLO}"}]}, "partners[1].name"),
            ({"place": {"name": "a\nb"}}, "place.name"),
            ({"links": [{"href": f"https://example.org/{RLO}"}]}, "links[0].href"),
        ],
    )
    def test_of_the_content_keep_the_same_rules(self, content, path):
        found = refused(content={"activity": "visit"} | content)
        assert found == ("forbidden-character", f"$.content.{path}")

    def test_of_scripts_stay_text(self):
        hostile = "<script>alert('x')</script> {{7*7}} $(reboot) '; DROP TABLE messages; --"
        assert read(texts=text(title=hostile)).texts["en"].title == hostile


class TestLines:
    def test_of_a_bulletin_are_names_and_texts(self):
        content = {
            "activity": "visit",
            "place": {"country": "KZ", "name": "Almaty"},
            "partners": [{"name": "UNDP", "code": "undp"}, {"name": "An NGO"}],
            "figures": [{"name": "appeals", "value": 3, "unit": "count"}],
        }
        assert list(message.lines(read(content=content))) == [
            ("activity", "visit"),
            ("place", "KZ, Almaty"),
            ("partners", "UNDP, undp"),
            ("partners", "An NGO"),
            ("figures", "appeals, 3, count"),
        ]

    def test_of_an_answer_are_what_it_answers_and_nothing_that_stands_elsewhere(self):
        answered = message.parse(payload(response("accept")))
        assert list(message.lines(answered)) == [("answer", "accept")]

    def test_of_a_notice_are_its_terms(self):
        proposed = message.parse(payload(notice()))
        assert dict(message.lines(proposed)) == {
            "action": "statement",
            "invited": "kg, tj",
            "answer by": time(24 * 60),
        }


class TestLabels:
    def test_a_theme_is_one_of_the_vocabulary(self):
        assert refused(themes=["children", "weather"]) == ("schema", "$.themes[1]")

    @pytest.mark.parametrize("sdg", [1, 17, "16.3", "17.19", "1.a"])
    def test_a_goal_is_a_number_and_a_target_a_text(self, sdg):
        assert read(sdgs=[sdg]).sdgs == (sdg,)

    @pytest.mark.parametrize("sdg", [0, 18, -1, "16", "16.99", "18.1", "", True, 16.0, 16.3, None])
    def test_another_goal_or_target_is_refused(self, sdg):
        assert refused(sdgs=[5, sdg]) == ("schema", "$.sdgs[1]")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audience", [f"member-{number}" for number in range(201)]),
        ("themes", ["children"] * 51),
        ("sdgs", [16] * 201),
        ("kind", "a" * 81),
    ],
)
def test_nothing_grows_without_limit(field, value):
    assert refused(**{field: value}) == ("schema", f"$.{field}")
