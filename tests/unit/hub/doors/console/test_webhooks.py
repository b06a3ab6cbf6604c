"""What the pages about webhooks say of a filter, and what their form asks for."""

import pytest

from hub.delivery.subscription import Filter, check
from hub.doors.console import languages, subscribe
from hub.doors.console.subscribe import groups, wanted
from hub.doors.console.subscription import Replay, replaying
from hub.doors.console.webhooks import Wish, wishes
from hub.doors.webhooks import Replaying
from schemas.refusal import Refused
from schemas.vocabulary import SDG_GOALS, THEMES
from tests.builders import message_id

FULL = Filter(
    senders=("kz", "kg"),
    kinds=("activity_bulletin", "joint_action_notice.v1"),
    themes=("torture_prevention",),
    sdgs=(16, "16.10"),
    markings=("TLP:CLEAR",),
    threads=(message_id(1),),
    languages=("ru", "uz", "kaa"),
)


def test_a_filter_is_said_in_the_readers_words():
    assert wishes(FULL, "ru") == [
        Wish("senders", ["kz", "kg"]),
        Wish("kinds", ["activity_bulletin", "joint_action_notice.v1"]),
        Wish("themes", [THEMES["torture_prevention"]["ru"]]),
        Wish("sdgs", [f"16. {SDG_GOALS[16]['ru']}", "16.10"]),
        Wish("markings", ["TLP:CLEAR"]),
        Wish("threads", [message_id(1)]),
        Wish("languages", ["Русский", "uz", "kaa"]),
    ]
    assert wishes(Filter(), "ru") == []


def test_the_form_asks_for_what_is_ticked_and_written():
    asked = wanted(
        {
            "url": " https://hooks.undp.org/ ",
            "ordered": "on",
            "senders-kz": "on",
            "senders-uz-nhrc": "on",
            "sdgs-16": "on",
            "markings-TLP:AMBER": "on",
            "languages": "ru, uz-Latn",
            "threads": f"{message_id(1)}\n{message_id(2)}\n",
            "csrf": "x",
        }
    )
    assert (asked.url, asked.ordered, asked.owner) == ("https://hooks.undp.org/", True, None)
    assert asked.filter == Filter(
        senders=("kz", "uz-nhrc"),
        sdgs=(16,),
        markings=("TLP:AMBER",),
        threads=(message_id(1), message_id(2)),
        languages=("ru", "uz-Latn"),
    )


def test_an_empty_form_asks_for_everything():
    assert wanted({"url": "https://hooks.undp.org/"}).filter == Filter()


@pytest.mark.parametrize("language", languages.LANGUAGES)
def test_whatever_can_be_ticked_can_be_asked_for(language):
    made = groups({"kz": "Уәкіл"}, {}, language)
    assert [group.field for group in made] == list(subscribe.BOXES)
    one_each = {group.boxes[-1].name: "on" for group in made}
    check(wanted({"url": "", **one_each}).filter)
    for group in made:
        for box in group.boxes:
            check(wanted({"url": "", box.name: "on"}).filter)
    ticked = [box.name for group in groups({"kz": ""}, one_each, language) for box in group.boxes]
    assert set(one_each) <= set(ticked)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("$.url", "url"),
        ("$.filter.senders[0]", "senders"),
        ("$.sdgs[3]", "sdgs"),
        ("$", None),
        (None, None),
    ],
)
def test_a_refusal_is_about_a_field_of_the_form(path, field):
    assert subscribe.field_of(path) == field


def test_a_replay_is_of_whole_days():
    asked = replaying(Replay("2026-07-01", "2026-07-02", f" {message_id(1)} ", 7))
    day = "T00:00:00.000Z"
    assert asked == Replaying(f"2026-07-01{day}", f"2026-07-03{day}", (message_id(1),), 7)
    assert replaying(Replay("2026-07-01")).until is None


def test_a_message_is_replayed_without_its_day():
    assert replaying(Replay(message=message_id(1))) == Replaying(messages=(message_id(1),))


def test_a_day_that_is_none_is_said_to_be():
    with pytest.raises(Refused, match="YYYY-MM-DD"):
        replaying(Replay("01.07.2026"))
