"""What every store keeps of webhooks: one suite for each database that the hub can use."""

from datetime import timedelta

import pytest
from msgspec.structs import replace
from sqlalchemy import update
from structlog.testing import capture_logs

from hub.delivery.deliveries import Claimed, Result, Standing
from hub.delivery.guard import Answer
from hub.delivery.schedule import (
    DELIVERY_MOVES,
    DeliveryState,
    Due,
    EndpointState,
    Heard,
    Notice,
)
from hub.delivery.subscription import Filter
from hub.intake import subscription as jobs
from hub.intake.erasure import Erase
from hub.intake.subscription import Create, Report, Reported, Terms
from hub.ledger.sequence import Draft
from hub.store import tables
from hub.store import webhooks as stored
from hub.store.webhooks import StoredWebhooks
from schemas.encoding import format_time
from tests.builders import NOW, message, message_id
from tests.contracts import test_store
from tests.contracts.test_store import running

address, database, store = test_store.address, test_store.database, test_store.store

URL = "https://hooks.example.org/"
MINUTE = timedelta(minutes=1)
LATER = format_time(NOW + MINUTE)
TIME = format_time(NOW)


@pytest.fixture
def webhooks(database):
    return StoredWebhooks(database)


async def subscribe(store, number=100, **terms):
    """A subscription of undp whose endpoint is proven."""
    agreed = Terms("undp", URL, Filter(), False)
    job = Create(message_id(number), replace(agreed, **terms), "undp", 5, None)
    [created] = await store.record(job)
    [proven] = await store.record(jobs.prove(created.outcome.value["subscription"]))
    return proven.outcome.value["subscription"]


async def owed(store, webhooks, *numbers, **terms):
    """A subscription, and these messages owed to it."""
    made = await subscribe(store, **terms)
    values = [message(id=message_id(n), audience=["undp"], marking="TLP:GREEN") for n in numbers]
    await store.send(*values)
    more, whose = await webhooks.match(*known(store), TIME)
    assert (more, whose) == (False, {made.id})
    return made


def known(store):
    """What a hub knows: the directory, and of how many entries it is."""
    return store.recorder.state.directory, store.recorder.state.tree.size


async def claim(webhooks, made, most=10, now=TIME):
    return (await webhooks.turn((), {made.id: most}, now, LATER)).claimed


async def settle(webhooks, *results):
    return await webhooks.turn(results, {}, TIME, LATER)


async def matched(store, webhooks):
    """Match until nothing more waits, as the hub does; in how many batches."""
    batches, more = 0, True
    while more:
        more, _ = await webhooks.match(*known(store), TIME)
        batches += 1
    return batches


async def owing(webhooks, made):
    """The ids of the messages that are owed to a subscription."""
    claimed = await claim(webhooks, made, 100)
    sent = await webhooks.sent([each.index for each in claimed])
    return sorted(sent[each.index].id for each in claimed)


def failed(claimed, state=DeliveryState.WAITING, at=NOW):
    following = at + timedelta(seconds=5) if state is DeliveryState.WAITING else None
    answer = Answer(500, excerpt=b"no")
    return Result(claimed, Due(state, following), at, Heard.FAILED, answer, URL)


async def test_a_subscription_is_read_back_as_it_was_made(store, webhooks):
    made = await subscribe(store, ordered=True, filter=Filter(senders=("kz",)))
    assert await webhooks.subscriptions() == [made]
    assert await webhooks.subscription(made.id) == made
    assert made.endpoint.state is EndpointState.ACTIVE


async def test_a_subscription_stands_with_what_waits_and_what_was_set_aside(store, webhooks):
    made = await owed(store, webhooks, 1, 2, 3)
    idle = await subscribe(store, 101)
    first, *_ = await claim(webhooks, made)
    await settle(webhooks, failed(first, DeliveryState.DEAD))
    assert await webhooks.standing([made.id, idle.id, message_id(102)]) == {
        made.id: Standing(waiting=2, dead=1, tried=TIME),
        idle.id: Standing(0, 0, None),
    }


async def test_a_message_is_owed_once_and_claimed_by_one(store, webhooks):
    made = await owed(store, webhooks, 1, 2)
    assert await webhooks.match(*known(store), TIME) == (False, frozenset())
    first = await claim(webhooks, made, 1)
    second = await claim(webhooks, made)
    assert [each.attempt for each in (*first, *second)] == [1, 1]
    assert first[0].index < second[0].index
    assert await claim(webhooks, made) == []
    # Whoever claimed them has died: the lease is over.
    assert len(await claim(webhooks, made, now=LATER)) == 2


@pytest.mark.parametrize(
    ("batch", "owed_at_once", "count", "batches"),
    [
        (2, 100, 3, 2),  # the last batch is not full
        (2, 100, 4, 3),  # it is, and only the next look shows that it was the last
        (2, 2, 5, 5),  # each message owes more than a batch may, and is one alone
        (100, 2, 3, 3),
        (2, 6, 4, 3),  # the second message of a batch owes the last row that it may
        (100, 6, 5, 3),
    ],
)
async def test_messages_that_are_matched_in_batches_are_owed_one_and_all(
    store, webhooks, monkeypatch, batch, owed_at_once, count, batches
):
    monkeypatch.setattr(stored, "BATCH", batch)
    monkeypatch.setattr(stored, "OWED", owed_at_once)
    everybody = [await subscribe(store, 100 + number) for number in range(3)]
    sent = [message_id(number) for number in range(1, count + 1)]
    for each in sent:
        await store.send(message(id=each, audience=["undp"], marking="TLP:GREEN"))
    taken = await matched(store, webhooks)
    assert [await owing(webhooks, made) for made in everybody] == [sent] * 3
    assert taken == batches


async def test_a_message_that_cannot_be_read_holds_up_nobody(store, webhooks, database):
    made = await subscribe(store)
    for number in (1, 2, 3):
        await store.send(message(id=message_id(number), audience=["undp"], marking="TLP:GREEN"))
    spoil = update(tables.messages).where(tables.messages.c.id == message_id(2))
    await database.write(lambda rows: rows.execute(spoil.values(envelope=b"{}")))
    with capture_logs() as events:
        await matched(store, webhooks)
    assert await owing(webhooks, made) == [message_id(1), message_id(3)]
    told = [each["message_id"] for each in events if each["event"] == "webhook.unreadable"]
    assert told == [message_id(2)]


async def test_messages_that_are_looked_at_in_parts_are_found_one_and_all(
    store, webhooks, monkeypatch
):
    made = await owed(store, webhooks, 1, 2, 3, 4)
    monkeypatch.setattr(stored, "BATCH", 2)
    found, looked_at = [], []
    following: int | None = -1
    while following is not None:
        looked = await webhooks.look(made, store.recorder.state.directory, TIME, LATER, following)
        found += [each.id for each in looked.matches]
        looked_at.append(looked.looked_at)
        following = looked.next
    assert (found, looked_at) == ([message_id(n) for n in (1, 2, 3, 4)], [2, 2, 0])


async def test_what_is_claimed_says_whether_it_was_erased_before(store, webhooks):
    made = await owed(store, webhooks, 1, 2)
    await store.record(Erase(message_id(1), "account:a", "a test of it"))
    assert [each.erased for each in await claim(webhooks, made)] == [True, False]


async def test_what_an_endpoint_answered_to_a_message_goes_with_it(store, webhooks):
    made = await owed(store, webhooks, 1, 2, 3)
    before, during, other = await claim(webhooks, made)
    await settle(webhooks, failed(before), failed(other))
    for number in (1, 2):
        await store.record(Erase(message_id(number), "account:a", "a test of it"))
    await settle(webhooks, failed(during))
    said = {each.message: each.excerpt for each in await webhooks.attempts(made.id, 10)}
    assert said == {message_id(1): "", message_id(2): "", message_id(3): "no"}


async def test_those_with_something_due_are_known(store, webhooks):
    made = await owed(store, webhooks, 1)
    await subscribe(store, 101, owner="kg")
    assert await webhooks.due(TIME) == {made.id}
    await claim(webhooks, made)
    assert await webhooks.due(TIME) == set()
    assert await webhooks.due(LATER) == {made.id}


async def test_an_attempt_is_settled_once(store, webhooks):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    await settle(webhooks, failed(claimed))
    await settle(webhooks, failed(claimed, DeliveryState.DEAD))
    assert await webhooks.dead(made.id, 10) == []
    [again] = await claim(webhooks, made, now=LATER)
    assert again == Claimed(made.id, claimed.index, 2)
    [attempt] = await webhooks.attempts(made.id, 10)
    assert (attempt.status, attempt.excerpt) == (500, "no")
    [stands] = await webhooks.subscriptions()
    assert stands.endpoint.failing_since == NOW


async def test_what_an_address_answers_after_it_was_replaced_says_nothing_of_the_new_one(
    store, webhooks
):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    late = replace(failed(claimed), url="https://before.undp.example/", heard=Heard.GONE)
    settled = await settle(webhooks, late)
    assert (settled.changed, settled.told) == ([], [])
    [attempt] = await webhooks.attempts(made.id, 10)
    assert attempt.status == 500


async def test_of_two_results_of_one_attempt_the_first_stands(store, webhooks):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    taken = Result(claimed, Due(DeliveryState.DELIVERED, None), NOW, Heard.TAKEN, Answer(200), URL)
    await settle(webhooks, taken, failed(claimed))
    [attempt] = await webhooks.attempts(made.id, 10)
    assert attempt.status == 200
    assert await claim(webhooks, made, now=LATER) == []


async def test_what_another_hub_recorded_is_matched_once_its_directory_is_known(store, webhooks):
    made = await subscribe(store)
    directory, size = known(store)
    await store.send(message(id=message_id(1), audience=["undp"], marking="TLP:GREEN"))
    assert await webhooks.match(directory, size, TIME) == (False, frozenset())
    assert await webhooks.match(*known(store), TIME) == (False, {made.id})


async def test_in_order_a_thread_waits_for_its_first(store, webhooks):
    made = await subscribe(store, ordered=True)
    first = message(id=message_id(1), audience=["undp"], marking="TLP:GREEN")
    reply = first | {"id": message_id(2), "thread": message_id(1)}
    await store.send(first, reply)
    await webhooks.match(*known(store), TIME)
    [claimed] = await claim(webhooks, made)
    taken = Result(claimed, Due(DeliveryState.DELIVERED, None), NOW, Heard.TAKEN, Answer(200), URL)
    assert await claim(webhooks, made) == []
    await settle(webhooks, taken)
    [following] = await claim(webhooks, made)
    assert following.index > claimed.index


async def test_what_was_set_aside_begins_anew_and_is_reported_once(store, webhooks):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    await settle(webhooks, failed(claimed, DeliveryState.DEAD))
    [outcome] = await webhooks.outcomes(TIME, TIME)
    assert (outcome.message, outcome.state, outcome.attempts) == (message_id(1), "dead", 1)
    assert await webhooks.outcomes(TIME, "2026-01-01T00:00:00.000Z") == ()
    told = Reported(outcome.message, outcome.index, outcome.state, outcome.attempts)
    await store.record(Report(made.id, (told,)))
    assert await webhooks.outcomes(LATER, LATER) == ()
    assert await webhooks.redrive(made.id, [message_id(1)], TIME) == 1
    assert len(await claim(webhooks, made)) == 1


@pytest.mark.parametrize("state", DeliveryState)
async def test_what_is_replayed_moves_as_the_table_says(store, webhooks, state):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    following = NOW + MINUTE if state is DeliveryState.WAITING else None
    await settle(webhooks, replace(failed(claimed), due=Due(state, following)))
    looked = await webhooks.look(made, store.recorder.state.directory, TIME, LATER, -1)
    await webhooks.replay(made.id, looked.matches, TIME)
    begun = [Claimed(made.id, claimed.index, 1)]
    assert await claim(webhooks, made) == (begun if (state, "replayed") in DELIVERY_MOVES else [])


async def test_what_is_owed_is_counted_by_what_waits_and_what_was_set_aside(store, webhooks):
    assert await webhooks.owing() == {DeliveryState.WAITING: 0, DeliveryState.DEAD: 0}
    made = await owed(store, webhooks, 1, 2, 3)
    first, second, _ = await claim(webhooks, made)
    taken = Result(first, Due(DeliveryState.DELIVERED, None), NOW, Heard.TAKEN, Answer(200), URL)
    await settle(webhooks, taken, failed(second, DeliveryState.DEAD))
    assert await webhooks.owing() == {DeliveryState.WAITING: 1, DeliveryState.DEAD: 1}


async def test_a_notice_is_left_to_whoever_records_it(store, webhooks):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    gone = Result(claimed, Due(DeliveryState.DEAD, None), NOW, Heard.GONE, Answer(410), URL)
    settled = await settle(webhooks, gone)
    [told] = settled.told
    assert (told.notice, settled.changed) == (Notice.GONE, [])
    await store.record(jobs.stand(told.before, told.after, told.notice))
    [stands] = await webhooks.subscriptions()
    assert stands.endpoint.state is EndpointState.DISABLED
    size = store.recorder.state.tree.size
    await store.record(jobs.stand(told.before, told.after, told.notice))
    assert store.recorder.state.tree.size == size


async def test_what_has_ended_is_forgotten(store, webhooks, database):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    await settle(webhooks, failed(claimed))
    draft = Draft(jobs.ENDED, "undp", made.id)
    ended = jobs.Alter(made.id, draft, lambda found, batch: replace(found, ended=batch.time))
    await store.record(ended)
    assert await webhooks.subscription(made.id) is None
    assert await webhooks.forget(TIME)
    assert not await webhooks.forget(TIME)
    assert await webhooks.attempts(made.id, 10) == []


async def test_what_is_replayed_while_the_old_is_forgotten_is_kept(
    store, webhooks, database, monkeypatch
):
    made = await owed(store, webhooks, 1)
    [claimed] = await claim(webhooks, made)
    taken = Result(claimed, Due(DeliveryState.DELIVERED, None), NOW, Heard.TAKEN, Answer(200), URL)
    await settle(webhooks, taken)
    [told] = await webhooks.outcomes(TIME, TIME)
    reported = Reported(told.message, told.index, told.state, told.attempts)
    await store.record(Report(made.id, (reported,)))
    looked = await webhooks.look(made, store.recorder.state.directory, TIME, LATER, -1)
    read = database.read

    async def replayed_meanwhile(work):
        found = await read(work)
        await webhooks.replay(made.id, looked.matches, TIME)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(database, "read", replayed_meanwhile)
        await webhooks.forget(LATER)
    assert [each.index for each in await claim(webhooks, made)] == [claimed.index]


async def test_of_old_deliveries_those_are_kept_that_may_be_sent_again(store, webhooks):
    made = await owed(store, webhooks, 1, 2, 3)
    taken, withheld, dead = await claim(webhooks, made)
    await settle(
        webhooks,
        Result(taken, Due(DeliveryState.DELIVERED, None), NOW, Heard.TAKEN, Answer(200), URL),
        Result(withheld, Due(DeliveryState.WITHHELD, None), NOW),
        failed(dead, DeliveryState.DEAD),
    )
    told = await webhooks.outcomes(TIME, TIME)
    await store.record(
        Report(made.id, tuple(Reported(o.message, o.index, o.state, o.attempts) for o in told))
    )
    store.now = NOW + timedelta(minutes=1)
    await store.send(message(id=message_id(4)))
    assert await webhooks.forget(LATER)
    assert [each.message for each in await webhooks.attempts(made.id, 10)] == [message_id(3)]
    assert [each.message for each in await webhooks.dead(made.id, 10)] == [message_id(3)]
    assert not await webhooks.forget(LATER)


async def test_a_store_that_is_opened_again_goes_on_where_it_was(store, webhooks, database):
    made = await owed(store, webhooks, 1)
    async with running(database):
        assert len(await claim(StoredWebhooks(database), made)) == 1
