"""Two hubs on one PostgreSQL send the webhooks of one log: each message by one of them."""

import pytest

from hub.delivery import webhooks
from tests.integration.hub import test_two_hubs, test_webhooks
from tests.integration.hub.test_webhooks import Owner, eventually, send

endpoint, other, settings, hubs = (
    test_webhooks.endpoint,
    test_webhooks.other,
    test_webhooks.settings,
    test_two_hubs.hubs,
)

MESSAGES = 40


@pytest.fixture(autouse=True)
def _short_rounds(monkeypatch):
    """Each hub looks soon at what the other one left or changed."""
    monkeypatch.setattr(webhooks, "ROUND_SECONDS", 0.05)


async def known(hub, subscription):
    """Once a hub has seen in a round that there is a subscription."""

    async def there():
        return subscription["id"] in hub.service.webhooks._known

    await eventually(there)


async def idle(*hubs):
    """Once nothing is owed to anybody, and no hub has anything in hand."""

    async def done():
        owing = [await hub.service.webhooks.store.due(HEREAFTER) for hub in hubs]
        return not any(owing) and not any(hub.service.webhooks.in_hand for hub in hubs)

    await eventually(done)


HEREAFTER = "9999-12-31T23:59:59.999Z"


def silence(hub, monkeypatch):
    """Have a hub take no deliveries, so that the other one has them all."""
    monkeypatch.setattr(hub.service.webhooks, "_may_be_sent_to", lambda _: False)


async def test_each_message_is_sent_once_by_either(hubs, endpoint):
    made = await Owner(hubs[0].participant("kg")).subscribe(endpoint.url)
    for hub in hubs:
        await known(hub, made)
    senders = [hub.participant("kz") for hub in hubs]
    sent = [await send(senders[number % 2], audience=["kg"]) for number in range(MESSAGES)]
    await endpoint.until(MESSAGES)
    await idle(*hubs)
    assert sorted(endpoint.ids) == sorted(sent)


async def test_what_one_hub_recorded_for_a_subscription_of_its_own_the_other_one_sends(
    hubs, endpoint, monkeypatch
):
    one, _ = hubs
    silence(one, monkeypatch)
    await Owner(one.participant("kg")).subscribe(endpoint.url)
    sent = await send(one.participant("kz"), audience=["kg"])
    await endpoint.until(1)
    assert endpoint.ids == [sent]


async def test_a_subscription_that_ended_at_one_hub_is_not_sent_to_by_the_other(
    hubs, clock, endpoint, other, monkeypatch
):
    one, two = hubs
    silence(one, monkeypatch)
    kg = Owner(one.participant("kg"))
    ended, going_on = await kg.subscribe(endpoint.url), await kg.subscribe(other.url)
    endpoint.status = other.status = 500
    await send(one.participant("kz"), audience=["kg"])
    await endpoint.until(1)
    await other.until(1)
    assert (await kg.post(f"/{ended['id']}/end")).status == 200

    async def forgotten():
        return ended["id"] not in two.service.webhooks._known

    await eventually(forgotten)
    endpoint.status = other.status = 200
    clock.forward(seconds=6)
    await other.until(2)
    await idle(*hubs)
    assert await kg.state(going_on) == "active"
    assert len(endpoint.got) == 1
