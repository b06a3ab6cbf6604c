"""Every public record becomes a message that the exchange takes, by the rules of deploy/demo."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.demo import corpus
from hub.demo.corpus import CorpusError
from schemas import message as messages
from schemas import routing
from schemas.encoding import format_time, uuid7
from schemas.kinds.activity_bulletin import ActivityBulletin
from schemas.kinds.joint_action_notice import JointActionNotice
from tests import builders

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "deploy/demo/records.ndjson").read_text(encoding="utf-8")
RECORDS = corpus.parse(TEXT)
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
NAMES = {code: f"Institution {code}" for code in corpus.PARTICIPANTS}


def file(record):
    """The message file as it is read back from the disk."""
    return json.loads(json.dumps(corpus.message_file(record, NAMES, NOW)))


def record_of(record_id):
    return next(record for record in RECORDS if record.id == record_id)


def file_of(record_id):
    return file(record_of(record_id))


def variation(**fields):
    """The first record with other values in some fields."""
    return corpus.parse(json.dumps(json.loads(TEXT.splitlines()[0]) | fields))[0]


@pytest.mark.parametrize("record", [*RECORDS, corpus.CONFIDENTIAL], ids=lambda record: record.id)
def test_every_record_becomes_a_valid_message(record):
    completed = file(record) | {
        "id": uuid7(NOW, bytes(10)),
        "sender": corpus.sender(record),
        "created": format_time(NOW),
    }

    message = messages.parse(json.dumps(completed).encode())

    assert message.marking == record.marking
    messages.check_clock(message, NOW)
    typed = messages.content(message)
    assert isinstance(typed, JointActionNotice | ActivityBulletin)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.id)
def test_nobody_outside_the_directory_is_addressed(record):
    assert set(file(record)["audience"]) <= {*corpus.PARTICIPANTS, "region"} - {
        corpus.sender(record)
    }


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.id)
def test_all_texts_of_a_record_travel(record):
    texts = file(record)["texts"]

    assert sorted(text["title"] for text in texts.values()) == sorted(record.title.values())
    assert sorted(text["summary"] for text in texts.values()) == sorted(record.summary.values())


def test_the_one_that_is_confidential_names_partners_and_is_kept_from_them():
    sent = file(corpus.CONFIDENTIAL)
    assert (sent["marking"], sent["audience"]) == ("TLP:AMBER", ["kg", "tj", "uz", "partners"])
    assert [partner["code"] for partner in sent["content"]["partners"]] == ["kg", "tj", "uz"]
    roles = dict.fromkeys(corpus.MEMBERS, "member") | dict.fromkeys(corpus.PARTNERS, "partner")
    directory = builders.directory(**{code.replace("-", "_"): role for code, role in roles.items()})
    routed = routing.route(sent["audience"], sent["marking"], "kz", directory)
    assert routed.recipients.keys() == {"kg", "tj", "uz"}
    assert routed.left_out == dict.fromkeys(corpus.PARTNERS, routing.LEFT_OUT_MARKING)


def test_a_bulletin_goes_to_the_participants_without_its_sender():
    assert file_of("kz-2024-11-08-npm-report")["audience"] == ["undp", "ohchr"]


def test_what_names_nobody_else_of_the_directory_goes_to_the_region():
    sent = file_of("kz-2023-02-02-osce")

    assert sent["audience"] == ["region"]
    assert sent["content"]["partners"] == [
        {"name": "Organization for Security and Co-operation in Europe (OSCE)"}
    ]


def test_participants_of_the_directory_are_named_with_their_codes():
    assert file_of("kz-2019-03-geneva")["content"]["partners"] == [
        {"name": "Institution ganhri", "code": "ganhri"}
    ]


def test_kinds_that_come_later_travel_as_bulletins():
    consultation = file_of("kz-2023-02-02-osce")
    referral = file_of("tj-2022-09-01-detained-migrants-referral")

    assert consultation["kind"] == referral["kind"] == "activity_bulletin.v1"
    assert consultation["content"]["activity"] == "consultation"
    assert referral["content"]["activity"] == "referral"


def test_a_notice_invites_the_members_of_its_audience_and_not_the_partners():
    sent = file_of("uz-nhrc-2016-10-20-undp")

    assert sent["kind"] == "joint_action_notice.v1"
    assert sent["audience"] == ["undp", "ohchr", "kz", "kg", "tj"]
    assert sent["content"]["invited"] == ["kz", "kg", "tj"]


def test_a_notice_with_no_participant_but_its_sender_invites_the_whole_region():
    sent = file_of("kz-2022-10-11-pakistan")

    assert sent["audience"] == ["region"]
    assert sent["content"]["invited"] == ["kg", "tj", "tm", "uz", "uz-nhrc"]


def test_a_notice_that_names_partners_alone_goes_to_the_region_as_well():
    record = variation(kind="joint_action_notice", participants=["kz", "undp"])

    assert corpus.audience(record) == ("undp", "region")
    assert corpus.invited(record) == ("kg", "tj", "tm", "uz", "uz-nhrc")


def test_a_notice_of_a_partner_invites_the_members_it_names():
    record = variation(
        institution="undp", kind="joint_action_notice", participants=["undp", "ohchr", "tm"]
    )

    assert corpus.sender(record) == "undp"
    assert corpus.audience(record) == ("ohchr", "tm")
    assert corpus.invited(record) == ("tm",)


def test_a_regional_record_is_a_notice_of_its_first_participant_to_all_other_members():
    sent = file_of("regional-2018-11-21-tashkent")
    record = record_of("regional-2018-11-21-tashkent")

    assert record.kind == "consultation_notice"
    assert corpus.sender(record) == "uz"
    assert sent["kind"] == "joint_action_notice.v1"
    assert sent["audience"] == ["region"]
    assert sent["content"]["invited"] == ["kz", "kg", "tj", "tm", "uz-nhrc"]


def test_a_regional_record_reaches_its_partners_too():
    assert file_of("regional-2019-05-dushanbe-draft")["audience"] == [
        "tj",
        "ohchr",
        "undp",
        "region",
    ]


def test_answers_are_due_in_thirty_days():
    due = format_time(NOW + timedelta(days=30))

    assert file_of("kz-2018-02-geneva")["content"]["answer_by"] == due


@pytest.mark.parametrize(
    ("date", "start", "end"),
    [
        ("2018-02-23", "2018-02-23", "2018-02-23"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("2015-12", "2015-12-01", "2015-12-31"),
    ],
)
def test_the_period_is_the_day_or_the_month_of_the_record(date, start, end):
    assert corpus.period(date) == {"start": start, "end": end}


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("confirmed_percent", "percent"),
        ("recovered_uzs", "uzs"),
        ("days", "days"),
        ("appeals", "count"),
        ("monitoring_visits_2022", "count"),
    ],
)
def test_a_figures_name_tells_its_unit(name, unit):
    assert corpus.unit(name) == unit


def test_figures_keep_their_values():
    assert {"name": "confirmed_percent", "value": 18.9, "unit": "percent"} in file_of(
        "kz-2015-12-annual"
    )["content"]["figures"]


def test_uzbek_texts_and_sources_are_in_latin_letters():
    uzbek = [record for record in RECORDS if "uz" in record.title]
    sources = [record for record in RECORDS if record.source_lang == "uz"]

    assert uzbek
    assert sources
    for record in uzbek:
        assert "uz-Latn" in file(record)["texts"]
    for record in sources:
        content = file(record)["content"]
        assert content["links"] == [{"href": record.source, "language": "uz-Latn"}]


def test_every_organisation_of_the_corpus_has_a_name():
    named = {code for record in RECORDS for code in record.participants}

    assert named - {"regional"} <= {*corpus.PARTICIPANTS, *corpus.OUTSIDE}


@pytest.mark.parametrize(
    ("title", "activity"),
    [
        ("Ombudsman's report for 2020 published", "report"),
        ("Training on preventive visits", "training"),
        ("Akyikatchy visits women's colony No. 2", "visit"),
        ("Year 2018: 985 appeals and visits to two colonies", "statistics"),
        ("New law on the Ombudsman of Uzbekistan", "legislation"),
        ("Something without any of the words", "other"),
    ],
)
def test_the_first_row_with_a_word_of_the_title_decides_the_activity(title, activity):
    record = variation(kind="activity_bulletin", title={"en": title}, place=None)

    assert corpus.activity(record) == activity


def test_what_has_a_place_and_no_other_sign_is_an_event():
    record = variation(kind="activity_bulletin", title={"en": "Question put"})

    assert corpus.activity(record) == "event"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "Line 2 is not a record"),
        ('{"id": "a"}', "Line 2 is not a record: Object missing required field"),
        (
            json.dumps(json.loads(TEXT.splitlines()[0]) | {"institution": "x-osce"}),
            "Line 2: nobody in the directory can send",
        ),
        (
            json.dumps(
                json.loads(TEXT.splitlines()[0])
                | {"institution": "regional", "participants": ["regional", "x-osce"]}
            ),
            "Line 2: nobody in the directory can send",
        ),
    ],
)
def test_a_line_that_is_no_record_is_named(line, says):
    with pytest.raises(CorpusError, match=says):
        corpus.parse("\n" + line)
