"""Messages of the past: which a filter would have let in, and which are sent once more."""

import pytest

from hub.doors import webhooks as doors
from hub.store import webhooks as store
from schemas.encoding import format_time
from tests.builders import message_id
from tests.integration.hub import test_webhooks
from tests.integration.hub.test_webhooks import attempts, send

endpoint, other, settings, undp = (
    test_webhooks.endpoint,
    test_webhooks.other,
    test_webhooks.settings,
    test_webhooks.undp,
)


@pytest.fixture
def looking(monkeypatch):
    """Two messages are read at a time, and four looked at."""
    monkeypatch.setattr(store, "BATCH", 2)
    monkeypatch.setattr(doors, "LOOKED_AT", 4)


async def test_a_dry_run_of_more_than_is_looked_at_is_of_the_newest(
    looking, hub, clock, kz, kg, undp
):
    *_, fourth, third = [await send(kz) for _ in range(5)]
    await send(kg)
    newest = await send(kz)
    clock.forward(seconds=1)
    answer = await undp.post("/dry-run", filter={"senders": ["kz"]})
    assert [match["id"] for match in answer["messages"]] == [newest, third, fourth]
    assert (answer["matched"], answer["looked_at"], answer["whole"]) == (3, 4, False)
    clock.forward(days=29)
    await send(kz)
    clock.forward(days=1)
    answer = await undp.post("/dry-run")
    assert (answer["matched"], answer["looked_at"], answer["whole"]) == (1, 1, True)


async def test_a_replay_of_more_than_is_looked_at_goes_on_where_it_stopped(
    looking, hub, clock, kz, undp, endpoint
):
    since = format_time(clock())
    sent = [await send(kz) for _ in range(5)]
    made = await undp.subscribe(endpoint.url)
    clock.forward(seconds=1)
    first = await undp.post(f"/{made['id']}/replay", since=since)
    assert (first["messages"], first["next"] is None) == (4, False)
    await endpoint.until(4)
    assert sorted(endpoint.ids) == sorted(sent[:4])
    rest = await undp.post(f"/{made['id']}/replay", since=since, after=first["next"])
    assert rest.json == {"messages": 1, "next": None}
    await endpoint.until(5)
    assert endpoint.ids[4] == sent[4]


async def test_messages_are_sent_again_by_their_ids_alone(looking, clock, kz, kg, undp, endpoint):
    wanted, *_ = [await send(kz) for _ in range(5)]
    hidden, unwanted = await send(kz, audience=["kg"]), await send(kg)
    clock.forward(days=40)
    made = await undp.subscribe(endpoint.url, filter={"senders": ["kz"]})
    replay = f"/{made['id']}/replay"
    named = [wanted, hidden, unwanted, message_id(1)]
    assert (await undp.post(replay, messages=named)).json == {"messages": 1, "next": None}
    await endpoint.until(1)
    assert endpoint.ids == [wanted]
    await attempts(undp, made, 1)
    again = await undp.post(replay, messages=[wanted], since=format_time(clock()))
    assert again["messages"] == 0
    again = await undp.post(replay, messages=[wanted], until=format_time(clock()))
    assert again["messages"] == 1


async def test_a_replay_of_neither_a_time_nor_messages_is_refused(hub, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    answer = await undp.post(f"/{made['id']}/replay", until=format_time(hub.service.clock()))
    assert (answer.status, answer.code, answer.json["path"]) == (422, "schema", "$.since")
