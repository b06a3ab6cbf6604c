"""What a person may write, what it becomes, and which line is named when it cannot be sent."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from connectors import profile
from connectors.compose import ComposeError, compose, sign
from connectors.source import FORMATS
from schemas import jsontext, message, signature

NOW = datetime(2026, 7, 3, 8, 15, 30, 250_000, tzinfo=UTC)
NOTICE = "019f2733-14ba-7000-8000-000000000001"

BULLETIN = """\
kind: activity_bulletin
to: region
marking: GREEN
language: en
title: A visit
summary: What we saw.
activity: visit
"""


def written(text, form="yaml", code="kz"):
    return compose(text, form, code=code, now=NOW, randomness=bytes(10), profile=profile.load(code))


@dataclass
class Complaint:
    line: int
    field: str
    sentence: str


def complaint(text, form="yaml"):
    with pytest.raises(ComposeError) as caught:
        written(text, form)
    return Complaint(caught.value.line, caught.value.field, caught.value.sentence)


# --- What may be left out, and friendly spellings ---


def test_id_time_sender_and_thread_are_filled_in():
    composed = written(BULLETIN)
    assert composed.sender == "kz"
    assert composed.created == "2026-07-03T08:15:30.250Z"
    assert composed.id == composed.thread == "019f270c-11ca-7000-8000-000000000000"


def test_what_is_given_is_kept():
    composed = written(
        BULLETIN + f"id: {NOTICE}\ncreated: 2026-07-01T00:00:00.000Z\nsender: kz\nthread: {NOTICE}"
    )
    assert (composed.id, composed.thread) == (NOTICE, NOTICE)
    assert composed.created == "2026-07-01T00:00:00.000Z"


def test_a_reply_stays_in_the_thread_of_what_it_replies_to():
    assert written(BULLETIN + f"in_reply_to: {NOTICE}").thread == NOTICE


def test_a_field_that_was_left_empty_counts_as_left_out():
    assert written(BULLETIN + "thread:\nexpires: ~\nplace:\n").expires is None


def test_a_kind_without_version_is_its_newest_one():
    assert written(BULLETIN).kind == "activity_bulletin.v1"
    assert written(BULLETIN.replace("bulletin", "bulletin.v1")).kind == "activity_bulletin.v1"


@pytest.mark.parametrize("spelling", ["GREEN", "green", "TLP:GREEN", "tlp:green"])
def test_a_marking_may_be_written_short(spelling):
    assert written(BULLETIN.replace("GREEN", spelling)).marking == "TLP:GREEN"


@pytest.mark.parametrize("audience", ["to: kg, tj", "to: [kg, tj]", "audience:\n- kg\n- tj"])
def test_an_audience_is_one_text_or_a_list(audience):
    assert written(BULLETIN.replace("to: region", audience)).audience == ("kg", "tj")


def test_the_fields_of_the_content_stand_at_the_top_or_below_content():
    below = BULLETIN.replace("activity: visit", "content:\n  activity: visit\n  place: Almaty")
    at_the_top = BULLETIN + "place: Almaty"
    expected = {"activity": "visit", "place": {"name": "Almaty"}}
    assert written(below).content == written(at_the_top).content == expected


def test_lists_of_names_and_addresses_may_be_plain_texts():
    content = written(
        BULLETIN
        + """\
partners: [UNDP, {name: OSCE mission, code: osce}]
links:
- https://ombudsman.kz/1
- {href: "https://ombudsman.kz/2", language: ru}
period: 2026-06-30
themes: children, women
"""
    )
    assert content.themes == ("children", "women")
    assert content.content == {
        "activity": "visit",
        "partners": [{"name": "UNDP"}, {"name": "OSCE mission", "code": "osce"}],
        "links": [
            {"href": "https://ombudsman.kz/1"},
            {"href": "https://ombudsman.kz/2", "language": "ru"},
        ],
        "period": {"start": "2026-06-30", "end": "2026-06-30"},
    }


def test_a_day_to_answer_by_ends_with_that_day_where_the_institution_is():
    notice = """\
kind: joint_action_notice
to: region
marking: AMBER
action: statement
invited: kg, tj
answer_by: {}
texts: {{ru: {{title: Заявление}}}}
"""
    by_day = written(notice.format("2026-12-31")).content
    by_minute = written(notice.format("2026-12-31 18:00")).content
    exact = written(notice.format("2026-12-31T12:00:00.000Z")).content
    assert by_day["answer_by"] == "2026-12-31T18:59:59.999Z"
    assert by_minute["answer_by"] == "2026-12-31T13:00:00.000Z"
    assert exact["answer_by"] == "2026-12-31T12:00:00.000Z"
    assert by_day["invited"] == ["kg", "tj"]


@pytest.mark.parametrize("value", ["no", "2026", "1:30", "2026-07-01", "1_000", "true", "0x1f"])
def test_a_text_never_becomes_a_date_a_number_or_a_truth_value(value):
    assert written(BULLETIN.replace("A visit", value)).texts["en"].title == value


def test_numbers_are_read_where_numbers_belong():
    composed = written(
        BULLETIN
        + """\
sdgs: [16, 16.10, 5]
figures:
- {name: appeals, value: 1340, unit: count}
- {name: confirmed, value: 18.9, unit: percent}
"""
    )
    assert composed.sdgs == (16, "16.10", 5)
    assert [figure["value"] for figure in composed.content["figures"]] == [1340, 18.9]


def test_texts_are_normalised_and_lines_end_in_line_feeds():
    composed = written(BULLETIN.replace("What we saw.", '"Cafe\\u0301\\r\\nзавтра"\r'))
    assert composed.texts["en"].summary == "Café\nзавтра"


# --- Texts in several languages ---


def test_texts_by_language_join_the_one_at_the_top():
    composed = written(BULLETIN + "texts:\n  ru: {title: Посещение, summary: Что мы видели.}")
    assert {tag: text.title for tag, text in composed.texts.items()} == {
        "en": "A visit",
        "ru": "Посещение",
    }


MARKDOWN = """\
---
kind: activity_bulletin
to: region
marking: GREEN
activity: visit
language: ru
---

# Посещение колонии

Омбудсмен посетил колонию
в Карагандинской области.

Жалоб не было.

## Дальше

- отчёт
--- kk ---

# Колонияға бару

Омбудсмен колонияға барды.
"""


def test_markdown_holds_fields_and_texts_in_several_languages():
    texts = written(MARKDOWN, "markdown").texts
    assert texts["ru"] == message.Text(
        "Посещение колонии",
        "Омбудсмен посетил колонию в Карагандинской области.",
        "Жалоб не было.\n\n## Дальше\n\n- отчёт",
    )
    assert texts["kk"] == message.Text("Колонияға бару", "Омбудсмен колонияға барды.")


def test_a_file_saved_by_a_windows_editor_reads_the_same():
    saved = "\ufeff" + MARKDOWN.replace("\n", "\r\n")
    assert written(saved, "markdown") == written(MARKDOWN, "markdown")


def test_markdown_may_have_its_texts_in_its_fields():
    fields_only = f"---\n{BULLETIN}---\n"
    assert written(fields_only, "markdown").texts["en"].title == "A visit"


def test_a_subheading_after_the_title_begins_the_body():
    text = written(MARKDOWN.replace("Омбудсмен посетил", "## Ход\nОмбудсмен посетил"), "markdown")
    assert text.texts["ru"].summary == ""
    assert text.texts["ru"].body.startswith("## Ход\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            MARKDOWN.replace("language: ru\n", ""),
            (8, "language", "Say which language it is: language: ru"),
        ),
        (MARKDOWN.replace("--- kk", "--- ru"), (19, "texts.ru", "ru stands here and on line 7")),
        (MARKDOWN.replace("# Колонияға бару", ""), (19, "texts.kk.title", "It is missing.")),
        (MARKDOWN.replace("барды", "бар\u202eды"), (23, "texts.kk.summary", "character U+202E")),
        (MARKDOWN.replace("--- kk", "--- uz"), (19, "texts.uz", "'uz' is not a language tag")),
        (MARKDOWN.replace("- отчёт", "-\tотчёт"), (14, "texts.ru.body", "character U+0009")),
        ("# Title", (1, "", "Begin with a line ---")),
        ("---\nkind: x", (1, "", "that ends the fields")),
        ("---\nkind: [\n---\n", (2, "", "This is not YAML")),
        ("---\n---\n", (1, "", "There are no fields")),
        ("---\n- a\n---\n", (2, "", "stand fields such as kind")),
        (MARKDOWN.replace("to: region", "to: [kz]"), (3, "to", "The sender is never")),
    ],
)
def test_a_mistake_in_markdown_is_named_with_its_line(text, expected):
    found = complaint(text, "markdown")
    assert (found.line, found.field) == expected[:2]
    assert expected[2] in found.sentence


# --- Mistakes ---


def figure(members):
    return f"{BULLETIN}figures:\n- {{{members}}}"


def changed(old, new):
    assert old in BULLETIN
    return BULLETIN.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "field", "words"),
    [
        (changed("kind: activity_bulletin", "x: 1"), 1, "kind", "Write which kind"),
        (changed("bulletin", "bulletins"), 1, "kind", "The kinds are"),
        (changed("bulletin", "bulletin.v9"), 1, "kind", "Send activity_bulletin.v1"),
        (changed("to: region\n", ""), 1, "to", "It is missing: to: region"),
        (changed("marking: GREEN\n", ""), 1, "marking", "It is missing: marking: GREEN"),
        (changed("GREEN", "YELLOW"), 3, "marking", "The markings are TLP:CLEAR"),
        (changed("GREEN", "RED"), 3, "marking", "sealed"),
        (changed("GREEN", "[GREEN]"), 3, "marking", "One text must stand here."),
        (changed("region", "kz"), 2, "to", "The sender is never in the audience"),
        (changed("region", "kg, kg"), 2, "to", "names somebody twice"),
        (changed("region", "Kyrgyzstan"), 2, "to", "a code such as kz"),
        (BULLETIN + "audience: kg", 8, "audience", "to says the same on line 2."),
        (BULLETIN + "markng: GREEN", 8, "markng", "did you mean marking?"),
        (BULLETIN + "zzz: 1", 8, "zzz", "There is no field 'zzz'."),
        (BULLETIN + "marking: CLEAR", 8, "marking", "stands here and on line 3"),
        (BULLETIN + "sender: kg", 8, "sender", "This connector sends for kz"),
        (BULLETIN + "id: 1", 8, "id", "the id of a message"),
        (BULLETIN + "created: 2019-01-01T00:00:00.000Z", 8, "created", "90 days"),
        (BULLETIN + "created: 2027-01-01T00:00:00.000Z", 8, "created", "in the future"),
        (BULLETIN + "expires: 2026-02-30", 8, "expires", "no such date"),
        (BULLETIN + "expires: 2026-07-01", 8, "expires", "expires after it was created"),
        (BULLETIN + "expires: soon", 8, "expires", "a date such as"),
        (BULLETIN + "sealed: x", 8, "sealed", "Send it unsealed"),
        (BULLETIN + "attachments: [{size: 1, sha256: x}]", 8, "attachments[0].size", "number"),
        (BULLETIN + "themes: [children, dragons]", 8, "themes[1]", "'dragons' is not a theme"),
        (BULLETIN + "sdgs: [99]", 8, "sdgs[0]", "no goal or target"),
        (changed("language: en\n", ""), 4, "language", "Say which language"),
        (changed("title: A visit\n", ""), 5, "title", "It is missing."),
        (changed("What we saw.", "a: b"), 6, "", "a text with a colon between quotes"),
        (changed("summary: What", "summary:\n\t- What"), 7, "", "indent with spaces"),
        (changed("activity: visit", "activity: nap"), 7, "activity", "The activities are"),
        (changed("activity: visit\n", ""), 1, "activity", "It is missing."),
        (BULLETIN + "content: {activity: visit}", 7, "activity", "on line 8"),
        (BULLETIN + "content: none", 8, "content", "Fields must stand below it."),
        (BULLETIN + "content:\n  colour: red", 9, "content.colour", "There is no such field."),
        (BULLETIN + "texts: x", 8, "texts", "Fields must stand below it."),
        (BULLETIN + "texts: {en: {title: x}}", 5, "title", "stands on line 8"),
        (BULLETIN + "texts: {ru: {title: x, tittle: y}}", 8, "texts.ru.tittle", "no such field"),
        (BULLETIN + "figures: 5", 8, "figures", "a list"),
        (figure("name: x, value: many, unit: count"), 9, "figures[0].value", "a number"),
        (figure('name: x, value: "5", unit: count'), 9, "figures[0].value", "a number"),
        (figure("name: x, value: 1e999, unit: count"), 9, "figures[0].value", "not JSON"),
        (figure(f"name: x, value: {2**60}, unit: count"), 9, "figures[0].value", "2^53"),
        (figure("name: x, value: 5"), 9, "figures[0].unit", "It is missing."),
        (figure("name: x, value: 5,\n unit: cats"), 10, "figures[0].unit", "The units"),
        (BULLETIN + "period:\n  start: 2026-07-02\n  end: 2026-07-01", 10, "period.end", "ends"),
        (BULLETIN + "place: {country: kz}", 8, "place.country", "two capital letters"),
        (BULLETIN + "links: ftp://x", 8, "links", "begins with https"),
        (BULLETIN + "place: &a {name: x}\npartners: [*a]", 9, "", "between quotes"),
        (BULLETIN + "place: !!python/name:os.system x", 8, "place", "without"),
        (BULLETIN + "place: !!int 5", 8, "place", "without"),
        (BULLETIN + "[a, b]: c", 8, "", "a plain word"),
        (BULLETIN + "place: " + "[" * 40, 8, "", "deeper"),
        (BULLETIN + "place: ]", 8, "", "brackets, quotes"),
        (BULLETIN + "place: a\u202eb", 8, "place", "U+202E"),
        (BULLETIN + "place: a\x07b", 8, "", "U+0007"),
        (BULLETIN + 'place: "a\\tb"', 8, "place", "U+0009"),
        (BULLETIN + 'place: "\\ud800"', 8, "place", "surrogate"),
        (BULLETIN + 'texts: {"\\ud800": {title: x}}', 8, "texts.\ud800", "not a language tag"),
        (BULLETIN + 'place: {"\\ud800": x}', 8, "place.\ud800", "surrogate"),
        (changed("What we saw.", "x" * 200_000), 1, "", "262144 are the limit"),
        ("x" * 300_000, 1, "", "longer than a message"),
        ("", 1, "", "There are no fields."),
        ("- a", 1, "", "does not begin with a field"),
        ("a: 1\n---\nb: 2", 2, "", "This is not YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_field(text, line, field, words):
    found = complaint(text)
    assert (found.line, found.field) == (line, field)
    assert words in found.sentence


def test_a_forbidden_character_is_named_on_its_own_line_of_a_long_text():
    found = complaint(changed("What we saw.", "|\n  one\n  two\n  thr\u200bee\u2066\n  four"))
    assert (found.line, found.field) == (9, "summary")


def test_the_error_reads_as_one_sentence():
    assert str(ComposeError(4, "marking", "It is missing.")) == "line 4, marking: It is missing."
    assert str(ComposeError(4, "", "There is no bracket.")) == "line 4: There is no bracket."


# --- JSON ---

JSON_BULLETIN = """\
{
\t"kind": "activity_bulletin.v1",
\t"audience": ["region"],
\t"marking": "TLP:GREEN",
\t"texts": {"en": {"title": "A \\ud83d\\ude00 visit: \\"one\\", {two}"}},
\t"sdgs": [16, 16.10],
\t"content": {
\t\t"activity": "visit",
\t\t"figures": [{"name": "appeals", "value": -1.5e2, "unit": "count"},
\t\t\t{"name": "x", "value": 2, "unit": "count"}]
\t}
}
"""


def test_json_is_read_like_yaml():
    composed = written(JSON_BULLETIN, "json")
    assert composed.texts["en"].title == 'A 😀 visit: "one", {two}'
    assert composed.sdgs == (16, "16.10")
    assert [figure["value"] for figure in composed.content["figures"]] == [-150.0, 2]


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ('"content": {', '"marking": "TLP:CLEAR", "content": {', 7, "marking", "on line 4"),
        (' 2, "unit":', ' 2, "unit": "x", "unit":', 10, "content.figures[1].unit", "line 10"),
        ('"name": "x",', "", 10, "content.figures[1].name", "It is missing."),
        ("-1.5e2", "NaN", 9, "content.figures[0].value", "a number"),
        ("-1.5e2", "true", 9, "content.figures[0].value", "a number"),
        ("16.10]", "16.10", 7, "", "This is not JSON"),
        ("[16, 16.10]", "[" * 40 + "]" * 40, 6, "sdgs" + "[0]" * 32, "deeper"),
        ("[16, 16.10]", "[" * 99_999 + "]" * 99_999, 1, "", "deeper"),
        ("TLP:GREEN", "TLP:\\u0000", 4, "marking", "U+0000"),
        ('"visit"', '"nap"', 8, "content.activity", "The activities are"),
    ],
)  # fmt: skip
def test_a_mistake_in_json_is_named_with_its_line(old, new, line, field, words):
    assert old in JSON_BULLETIN
    found = complaint(JSON_BULLETIN.replace(old, new, 1), "json")
    assert (found.line, found.field) == (line, field)
    assert words in found.sentence


# --- What stands behind it ---


@given(st.text(), st.sampled_from(sorted(set(FORMATS.values()))))
def test_any_text_gives_a_message_or_one_complaint(text, form):
    with pytest.raises(ComposeError) as caught:
        written(text, form)
    breaks = sum(map(text.count, "\n\r\x85\u2028\u2029"))  # those of YAML 1.1
    assert 1 <= caught.value.line <= breaks + 1


@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from("{}[]:,-\"'\n \t#&*!|>%@`\u202e0"))
def test_a_file_with_a_slip_gives_a_message_or_one_complaint(start, length, inserted):
    for text, form in ((BULLETIN, "yaml"), (MARKDOWN, "markdown"), (JSON_BULLETIN, "json")):
        try:
            written(text[:start] + inserted + text[start + length :], form)
        except ComposeError as error:
            assert error.sentence  # noqa: PT017 - either outcome is right


def test_the_envelope_is_what_the_hub_reads():
    private = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x01")
    composed = written(BULLETIN)
    jws = signature.parse(sign(composed, private), signature.MESSAGE_TYPE)
    public = private.public_key().public_bytes_raw()
    signature.verify(jws, {signature.thumbprint(public): public}.__getitem__)
    assert message.parse(jws.payload) == composed
    assert jsontext.parse(jws.payload) == json.loads(jws.payload)
