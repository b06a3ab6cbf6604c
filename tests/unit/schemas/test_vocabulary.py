"""The controlled vocabularies, held against the specifications and against real records."""

import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from schemas.vocabulary import (
    ACCREDITATIONS,
    ACTIVITIES,
    COUNTRIES,
    JOINT_ACTIONS,
    LANGUAGES,
    MARKINGS,
    ROLES,
    SDG_GOALS,
    SDG_TARGETS,
    THEMES,
    UNITS,
    Titles,
    ganhri_status,
    is_language_tag,
    is_sdg,
)

RECORDS = Path(__file__).parents[3].parent / "shared" / "data" / "records.ndjson"

TITLE_TABLES: dict[str, Mapping[int, Titles] | Mapping[str, Titles]] = {
    "themes": THEMES,
    "goals": SDG_GOALS,
    "activities": ACTIVITIES,
    "joint actions": JOINT_ACTIONS,
    "units": UNITS,
    "countries": COUNTRIES,
}

RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
ALPHABETS = {
    "en": "abcdefghijklmnopqrstuvwxyz",
    "ru": RUSSIAN,
    "kk": RUSSIAN + "әғқңөұүһі",
    "ky": RUSSIAN + "ңөү",
    "tg": "абвгғдеёжзиӣйкқлмнопрстуӯфхҳчҷшъэюя",
    "tk": "aäbçdefghijklmnňoöprsştuüwyýzž",
    "uz-Latn": "abcdefghijklmnopqrstuvxyz\u02bb\u02bc",
    "uz-Cyrl": "абвгғдеёжзийклмнопрстуўфхҳцчшъьэюяқ",
}


@pytest.fixture(scope="module")
def records():
    if not RECORDS.exists():
        pytest.skip(f"the public records are not here: {RECORDS}")
    return [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]


every_table = pytest.mark.parametrize("table", TITLE_TABLES.values(), ids=TITLE_TABLES)
every_tag = pytest.mark.parametrize("tag", LANGUAGES)


# Titles


@every_table
def test_every_code_has_a_title_in_every_language_of_the_exchange(table):
    for code, titles in table.items():
        assert list(titles) == list(LANGUAGES), code


@every_tag
@every_table
def test_no_two_codes_of_a_table_share_a_title_in_one_language(table, tag):
    found = [titles[tag].casefold() for titles in table.values()]
    assert len(set(found)) == len(found)


@every_tag
@every_table
def test_a_title_is_one_clean_line_in_nfc_that_starts_with_a_capital(table, tag):
    for titles in table.values():
        title = titles[tag]
        assert unicodedata.is_normalized("NFC", title)
        assert title == " ".join(title.split())
        assert title[0].isupper()


@every_tag
@every_table
def test_a_title_uses_only_letters_of_its_own_alphabet(table, tag):
    for titles in table.values():
        assert set(titles[tag].lower()) <= {*ALPHABETS[tag], *" ,-"}, titles[tag]


def cyrillic(latin):
    """Latin Uzbek in Cyrillic letters, in lower case."""
    word_start = r"(?:^|(?<=[^a-z\u02bb\u02bc])|(?<=[aeiou]))"
    text = re.sub(f"{word_start}e", "э", latin.lower())
    for pair in ("oʻў", "gʻғ", "shш", "chч", "yoё", "yuю", "yaя", "yeе", "tsц"):
        text = text.replace(pair[:2], pair[2])
    return text.translate(
        str.maketrans("abdefghijklmnopqrstuvxyz\u02bc", "абдефгҳижклмнопқрстувхйзъ")
    )


@every_table
def test_the_two_scripts_of_uzbek_say_the_same(table):
    for code, titles in table.items():
        # Latin spelling writes s for the ц of a loanword after a consonant.
        latin = titles["uz-Latn"].replace("Korrupsiya", "Korruptsiya")
        assert cyrillic(latin) == titles["uz-Cyrl"].lower(), code


@pytest.mark.parametrize("table", [THEMES, ACTIVITIES, JOINT_ACTIONS, UNITS])
def test_codes_are_in_snake_case(table):
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", code) for code in table)


def test_a_table_cannot_be_changed():
    with pytest.raises(TypeError):
        THEMES["sdg"]["en"] = "Something else"  # type: ignore[index]


# Languages


def test_the_exchange_has_seven_languages_under_eight_tags():
    assert list(LANGUAGES) == ["en", "ru", "kk", "ky", "tg", "tk", "uz-Latn", "uz-Cyrl"]


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_a_language_is_named_in_its_own_letters(language):
    assert is_language_tag(language.tag)
    assert set(language.own.lower()) <= set(ALPHABETS[language.tag])
    assert unicodedata.is_normalized("NFC", language.own)


@pytest.mark.parametrize(
    "tag", ["fr", "kaa", "ru-KZ", "kk-Latn", "zh-Hant-TW", "es-419", "uz-Arab"]
)
def test_a_well_formed_tag_of_another_language_is_accepted(tag):
    assert is_language_tag(tag)


@pytest.mark.parametrize("tag", ["uz", "uz-UZ"])
def test_uzbek_without_its_script_is_refused(tag):
    assert not is_language_tag(tag)


@pytest.mark.parametrize("tag", ["uzb", "uzb-Latn", "rus", "kaz"])
def test_a_second_name_of_a_language_of_the_exchange_is_refused(tag):
    assert not is_language_tag(tag)


@pytest.mark.parametrize("tag", ["", "e", "EN", "english", "en-us", "uz-latn", "UZ-Latn", "en-Lat"])
def test_a_malformed_tag_is_refused(tag):
    assert not is_language_tag(tag)


@pytest.mark.parametrize(
    "tag", ["ru-KZ-Cyrl", "uz_Latn", "en\n", "en-", "\u0435n", "es-41\u0669", "en-US-GB"]
)
def test_a_tag_with_a_foreign_sign_or_in_another_order_is_refused(tag):
    assert not is_language_tag(tag)


@pytest.mark.parametrize("tag", ["en-x-private", "sl-rozaj", "x-nhri", "i-klingon", "zh-yue-HK"])
def test_a_tag_with_more_than_language_script_and_region_is_refused(tag):
    assert not is_language_tag(tag)


# Markings and roles


@pytest.mark.parametrize(
    ("label", "receivers", "groups", "webhooks", "public_feed", "sealed"),
    [
        ("TLP:CLEAR", {"member", "partner", "observer"}, True, True, True, False),
        ("TLP:GREEN", {"member", "partner", "observer"}, True, True, False, False),
        ("TLP:AMBER", {"member"}, True, True, False, False),
        ("TLP:AMBER+STRICT", {"member"}, False, False, False, False),
        ("TLP:RED", {"member"}, False, False, False, True),
    ],
)
def test_a_marking_permits_what_the_design_says(
    label, receivers, groups, webhooks, public_feed, sealed
):
    marking = MARKINGS[label]
    assert marking.receivers == receivers
    assert marking.groups is groups
    assert marking.webhooks is webhooks
    assert marking.public_feed is public_feed
    assert marking.sealed is sealed


def test_each_marking_permits_no_more_than_the_one_before_it():
    for wider, narrower in pairwise(MARKINGS.values()):
        assert narrower.receivers <= wider.receivers
        assert narrower.groups <= wider.groups
        assert narrower.webhooks <= wider.webhooks
        assert narrower.public_feed <= wider.public_feed
        assert narrower.sealed >= wider.sealed


def test_members_send_everything_partners_the_open_markings_and_observers_nothing():
    assert ROLES["member"].may_send == set(MARKINGS)
    assert ROLES["partner"].may_send == {"TLP:CLEAR", "TLP:GREEN"}
    assert ROLES["observer"].may_send == set()


def test_nobody_may_send_what_they_may_not_receive():
    for role in ROLES.values():
        assert all(role.code in MARKINGS[label].receivers for label in role.may_send)


# Goals and targets


def test_there_are_17_goals_and_169_targets():
    assert list(SDG_GOALS) == list(range(1, 18))
    assert len(SDG_TARGETS) == 169


def test_each_goal_has_as_many_targets_as_the_resolution_gives_it():
    counts = [list(SDG_TARGETS.values()).count(goal) for goal in SDG_GOALS]
    assert counts == [7, 8, 13, 10, 9, 8, 5, 12, 8, 10, 10, 11, 5, 10, 12, 12, 19]


@pytest.mark.parametrize(
    "value", [1, 16, 17, "1.1", "3.d", "8.10", "12.8", "14.c", "15.9", "16.3", "16.a", "17.19"]
)
def test_a_goal_or_a_target_is_recognised(value):
    assert is_sdg(value)


@pytest.mark.parametrize(
    "value",
    [0, 18, -1, True, "16", "0.1", "16.11", "16.c", "16.A", "17.20", "17.a", "1.01", "1.1 "],
)
def test_anything_else_is_neither_goal_nor_target(value):
    assert not is_sdg(value)


# Accreditation


def test_nothing_is_known_of_an_institution_before_its_first_record():
    assert ganhri_status("uz", date(2020, 12, 30)) is None
    assert ganhri_status("kz", date(2026, 1, 1)) is None


def test_a_recommendation_is_not_yet_a_status():
    known = ganhri_status("uz", date(2021, 6, 1))
    assert known is not None
    assert known.status is None
    assert "recommended B status" in known.note


def test_a_status_holds_from_the_day_it_was_stated():
    day_before = ganhri_status("uz", date(2022, 12, 28))
    same_day = ganhri_status("uz", date(2022, 12, 29))
    assert day_before is not None
    assert day_before.status is None
    assert same_day is not None
    assert same_day.status == "B"


def test_accreditations_are_in_the_order_of_their_dates():
    days = [row.since for row in ACCREDITATIONS]
    assert days == sorted(days)


# Real public records


def test_every_accreditation_rests_on_a_record(records):
    dates = {record["source"]: record["date"] for record in records}
    for row in ACCREDITATIONS:
        assert row.since.isoformat().startswith(dates[row.source])


def test_every_theme_of_the_records_is_in_the_vocabulary(records):
    assert {theme for record in records for theme in record["themes"]} <= set(THEMES)


def test_every_goal_of_the_records_is_in_the_vocabulary(records):
    assert all(is_sdg(sdg) for record in records for sdg in record["sdgs"])


def test_every_language_of_the_records_is_in_the_vocabulary(records):
    tags = {tag for record in records for tag in (*record["title"], *record["summary"])}
    # The records say `uz` for what is Latin Uzbek throughout.
    uzbek = "".join(record["title"].get("uz", "") for record in records)
    assert {letter for letter in uzbek.lower() if letter.isalpha()} <= set(ALPHABETS["uz-Latn"])
    assert tags - {"uz"} | {"uz-Latn"} <= set(LANGUAGES)
