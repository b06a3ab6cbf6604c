"""What the hub records and tells of an endpoint that fails for days, as time passes."""

from datetime import timedelta

import pytest

from hub import upkeep
from hub.delivery import schedule
from tests.integration.hub import test_webhooks
from tests.integration.hub.test_webhooks import exhaust, send

endpoint, other, settings, undp = (
    test_webhooks.endpoint,
    test_webhooks.other,
    test_webhooks.settings,
    test_webhooks.undp,
)


@pytest.fixture(autouse=True)
def _rounds_without_rest(monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)


@pytest.fixture
async def warned(hub, clock, kz, undp, endpoint):
    """A subscription whose one message was tried for the last time, three days later."""
    endpoint.status = 503
    made = await undp.subscribe(endpoint.url)
    await send(kz)
    await exhaust(hub, clock, undp, made)
    await undp.until(made, "warned")
    return made


async def last_notice(hub, made):
    events = (await hub.operator.get("/v1/audit/events", subject=made["id"]))["events"]
    entries = [event["entry"] for event in events]
    return next(
        (entry["type"], entry["actor"], entry["public"])
        for entry in reversed(entries)
        if entry["type"] != "webhook.delivered"
    )


async def test_an_endpoint_that_was_warned_of_is_disabled_though_nothing_is_left_to_be_sent(
    hub, clock, undp, endpoint, warned
):
    assert await last_notice(hub, warned) == (
        "webhook.warned",
        "hub",
        {"outcome": "will-be-disabled"},
    )
    lasted = sum(schedule.RETRIES, timedelta())
    clock.forward(seconds=(schedule.DISABLE_AFTER - lasted).total_seconds())
    await undp.until(warned, "disabled")
    assert await last_notice(hub, warned) == ("webhook.disabled", "hub", {"outcome": "disabled"})
    assert len(endpoint.got) == 1 + len(schedule.RETRIES)


async def test_an_endpoint_that_works_again_after_its_warning_is_said_to(
    hub, kz, undp, endpoint, warned
):
    endpoint.status = 200
    await send(kz)
    await undp.until(warned, "active")
    assert await last_notice(hub, warned) == ("webhook.recovered", "hub", {"outcome": "recovered"})
