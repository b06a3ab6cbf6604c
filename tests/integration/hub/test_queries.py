"""Searching a running hub: what is asked for, what is found, and what is recorded of it."""

import pytest

from schemas import entry as entries

LANGUAGES = {
    "ru": {"title": "Посещение", "body": "Права человека"},
    "kk": {"title": "Сапар", "body": "Адам құқықтары"},
    "ky": {"title": "Барып көрүү", "body": "Адам укуктары"},
    "tg": {"title": "Боздид", "body": "Ҳуқуқи инсон, дастрасӣ"},
    "tk": {"title": "Baryp görmek", "body": "Adam hukuklary"},
    "uz-Latn": {"title": "Tashrif", "body": "Oʻzbekiston inson huquqlari"},
    "en": {"title": "A visit", "body": "Human rights"},
}


async def found(hub, **query):
    answer = await hub.operator.get("/v1/audit/events", limit=500, **query)
    assert answer.status == 200
    return [event["entry"]["subject"] for event in answer["events"]]


@pytest.mark.parametrize(
    "text",
    [
        "ПРАВА человека",
        "құқық*",
        "укук*",
        "дастраси",
        "gormek",
        "o'zbekiston huquq*",
        "human visit",
    ],
)
async def test_words_of_every_language_find_the_message(hub, kz, text):
    message = kz.message(texts=LANGUAGES)
    await kz.submit(kz.sign(message))
    assert await found(hub, text=text) == [message["id"]]


async def test_everything_given_must_hold(hub, kz):
    message = kz.message(texts=LANGUAGES)
    await kz.submit(kz.sign(message))
    given = {"text": "visit", "recipient": "kg", "theme": "torture_prevention", "sdg": "16.3"}
    assert await found(hub, **given) == [message["id"]]
    assert await found(hub, **given | {"recipient": "nobody"}) == []


async def test_the_newest_come_first_below_an_index(hub):
    newest = await hub.operator.get("/v1/audit/events", before=10**15, limit=3)
    indices = [event["index"] for event in newest["events"]]
    assert indices == sorted(indices, reverse=True)
    assert newest["next"] == indices[-1]
    older = await hub.operator.get("/v1/audit/events", before=newest["next"], limit=3)
    assert [event["index"] for event in older["events"]] == [indices[-1] - n for n in (1, 2, 3)]


async def test_every_search_is_recorded_with_its_question(hub):
    await found(hub, text="visit")
    answer = await hub.operator.get("/v1/audit/events", type=entries.OPERATOR_QUERY)
    asked = [event["private"]["query"] for event in answer["events"]]
    assert {"text": "visit", "limit": 500} in asked


async def test_counts_are_of_what_matches_and_recorded(hub, kz):
    await kz.send()
    answer = await hub.operator.get("/v1/audit/counts", of="type", by="year")
    assert answer.status == 200
    size = answer["size"]
    while answer["indexed"] < size:
        answer = await hub.operator.get("/v1/audit/counts", of="type", by="year")
    counted = {row["value"]: row["count"] for row in answer["counts"]}
    assert counted[entries.MESSAGE_ACCEPTED] == 1
    assert counted[entries.OPERATOR_QUERY] >= 1


@pytest.mark.parametrize("query", [{}, {"of": "thread"}, {"of": "kind", "by": "week"}], ids=str)
async def test_counts_of_what_is_not_counted_are_refused(hub, query):
    answer = await hub.operator.get("/v1/audit/counts", **query)
    assert answer.code == "bad-request"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"type": "accepted"}, "a type of entry, such as"),
        ({"kind": "activity_bulletin"}, "a kind, such as activity_bulletin.v1"),
        ({"marking": "green"}, "a marking; those are TLP:CLEAR, TLP:GREEN"),
        ({"theme": "weather"}, "a theme"),
        ({"sdg": "99"}, "a goal or target, such as"),
    ],
    ids=str,
)
async def test_what_cannot_stand_in_any_log_is_a_mistake_and_not_an_empty_answer(hub, query, said):
    answer = await hub.operator.get("/v1/audit/events", **query)
    assert (answer.status, answer.code) == (400, "bad-request")
    assert said in answer["detail"]
