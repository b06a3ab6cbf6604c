"""Letters about alarms: when they are due, and what they say in every language."""

import unicodedata
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from connectors import letter
from connectors.acknowledged import Acknowledgement
from connectors.alarms import KINDS, Severity, Step
from connectors.letter import Letterhead
from connectors.tables import Alarm
from schemas.encoding import format_time
from schemas.vocabulary import LANGUAGES
from tests import builders
from tests.builders import NOW, time

HEAD = Letterhead(
    "kz",
    "connector@kz.example",
    ["a@kz.example"],
    "en",
    letter.words("en"),
    ZoneInfo("Asia/Almaty"),
)


def alarm(number=1, kind="log-forked", subject="7", **overrides):
    made = Alarm(number, kind, subject, time(), "Words of a stranger.", b"{}", None)
    return replace(made, **overrides)


def body(*alarms, head=HEAD):
    return letter.compose(head, alarms, NOW).get_content()


# --- Words ---


@pytest.mark.parametrize("tag", LANGUAGES)
def test_every_language_has_every_word_step_and_title(tag):
    words = letter.words(tag)
    assert set(words.steps) == set(Step)
    assert set(words.titles) == (set() if tag == "en" else set(KINDS))
    for text in (*words.steps.values(), *words.titles.values()):
        assert text == unicodedata.normalize("NFC", text).strip() != ""
    assert words.words.alarms.format(count=3).count("3") == 1
    assert "uz-nhrc" in words.words.intro.format(code="uz-nhrc")
    assert "3" in words.words.more.format(count=3)


def test_another_language_is_refused():
    for tag in ("fr", "../config", ""):
        with pytest.raises(LookupError, match="there are en, ru"):
            letter.words(tag)


@pytest.mark.parametrize("tag", LANGUAGES)
def test_a_letter_about_any_kind_says_what_it_is_and_what_to_do(tag):
    head = replace(HEAD, tag=tag, words=letter.words(tag))
    for kind, row in KINDS.items():
        made = letter.compose(head, [alarm(kind=kind)], NOW)
        assert head.words.title(kind) in made["Subject"]
        assert head.words.title(kind) in made.get_content()
        assert head.words.steps[row.step] in made.get_content()
        assert made["Content-Language"] == tag


# --- What is told ---


def test_no_words_of_anybody_else_are_in_it():
    said = body(alarm(), alarm(2, "outbox-unreadable", "Victim Name.jose"))
    assert "stranger" not in said
    assert "Victim" not in said


@pytest.mark.parametrize(
    "subject",
    ["7", "before joining", f"{builders.message_id(1)} uz-nhrc", "cosigned 120", "checkpoint"],
)
def test_ids_codes_and_numbers_are(subject):
    assert f"    About: {subject}" in body(alarm(subject=subject)).splitlines()


def test_the_worst_comes_first_and_times_are_those_on_the_wall():
    said = body(alarm(1, "receipt-overdue"), alarm(2, "log-forked"))
    assert said.index("2. The hub showed") < said.index("1. A recipient's receipt")
    local = NOW.astimezone(ZoneInfo("Asia/Almaty"))
    assert f"Since: {local:%Y-%m-%d %H:%M} (Asia/Almaty)" in said


def test_of_what_is_over_nothing_has_to_be_done():
    said = body(alarm(ended=time(5)))
    assert "Over since" in said
    assert "To do" not in said


def test_a_long_list_is_cut_and_counted():
    said = body(*(alarm(n, subject=str(n)) for n in range(1, letter.LIMIT + 6)))
    assert said.count("About: ") == letter.LIMIT
    assert "And more: 5." in said


def test_the_subject_counts_alarms_of_one_kind_and_of_several():
    same = letter.compose(HEAD, [alarm(1), alarm(2)], NOW)
    assert same["Subject"] == "[nhri kz] The hub showed another history than before (2)"
    mixed = letter.compose(HEAD, [alarm(1), alarm(2, "own-keys")], NOW)
    assert mixed["Subject"] == "[nhri kz] Alarms: 2"


def test_the_same_letter_sent_again_can_be_told_by_its_id():
    first, again = (letter.compose(HEAD, [alarm()], NOW + timedelta(days=n)) for n in (0, 1))
    assert first["Message-ID"] == again["Message-ID"]
    assert first["Message-ID"].endswith("@kz.example>")
    back = letter.compose(HEAD, [alarm(time=time(9))], NOW)
    assert back["Message-ID"] != first["Message-ID"]


# --- When ---


def test_notices_and_what_was_noted_wait_for_no_letter():
    noted = {2: Acknowledgement(2, time(), "Known.", time())}
    alarms = [alarm(1, "directory-changed"), alarm(2), alarm(3), alarm(4, "hub-away")]
    assert alarms[0].severity is Severity.NOTICE
    assert letter.waiting(alarms, noted) == alarms[2:]


@pytest.mark.parametrize(
    ("ago", "told"), [(0, False), (4.9, False), (5, True), (600, True), (-1, True)]
)
def test_a_kind_rests_after_its_last_letter_and_no_other_does(ago, told):
    alarms = [alarm(1), alarm(2, "own-keys")]
    last = {"log-forked": format_time(NOW - timedelta(minutes=ago))}
    found = letter.due(alarms, last, NOW.astimezone(UTC))
    assert found == (alarms if told else alarms[1:])
