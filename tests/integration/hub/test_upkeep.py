"""The rounds of the upkeep: what fails in one of them keeps nothing else from its turn."""

import asyncio
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub import upkeep
from hub.intake.access import ExpireDeliveries
from hub.store import journal
from hub.store.erasures import Erasures
from hub.store.queries import Queries
from tests import builders, client
from tests.simulator.waiting import DEADLINE

RUNBOOK = Path(__file__).parents[3] / "deploy/runbooks/hub-upkeep-stale.md"

FIGURE = 'nhri_hub_inbox_copies{member="kg"} 1.0'
WHOLE = re.compile(r"^nhri_hub_upkeep_timestamp_seconds [1-9]", re.MULTILINE)


async def measures(hub):
    return (await hub.operator.get("/metrics")).body.decode()


async def fail(*_):
    raise OSError("broken")


def failed(logs):
    return {(line["step"], line["reason"]) for line in logs if line["event"] == "upkeep.failed"}


@pytest.mark.parametrize(
    ("owner", "what", "step"),
    [
        (Queries, "due_to_expire", "expiry"),
        (Queries, "undecided", "erasing"),
        (Erasures, "keep", "erasures"),
        (journal, "forget", "tokens"),
        (Queries, "certificates", "certificates"),
    ],
)
async def test_a_step_that_fails_is_named_and_keeps_none_behind_it(
    settings, clock, monkeypatch, owner, what, step
):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)
    with capture_logs() as logs, monkeypatch.context() as broken:
        broken.setattr(owner, what, fail)
        async with client.running(settings) as hub, asyncio.timeout(DEADLINE):
            await hub.participant("kz").send(audience=["kg"])
            while FIGURE not in await measures(hub):
                pass
            assert not WHOLE.search(await measures(hub))
            broken.undo()
            while not WHOLE.search(await measures(hub)):
                pass
    assert failed(logs) == {(step, "broken")}


async def test_a_message_that_cannot_expire_keeps_no_other(settings, clock, monkeypatch):
    decide, poisoned = ExpireDeliveries.decide, ""

    def decided(job, batch):
        if job._message_id == poisoned:
            raise RuntimeError("a fault of ours")
        return decide(job, batch)

    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    monkeypatch.setattr(ExpireDeliveries, "decide", decided)
    with capture_logs() as logs:
        async with client.running(settings) as hub, asyncio.timeout(DEADLINE):
            kz = hub.participant("kz")
            sent = [await kz.send(expires=builders.time(10)) for _ in range(3)]
            subjects = [str(hub.open(each.acceptance()).entry.subject) for each in sent]
            poisoned, *others = sorted(subjects)  # it would be the first
            clock.forward(minutes=10)
            expired: set[str] = set()
            while expired != {*others}:
                answer = await hub.operator.get("/v1/audit/events", type="delivery.expired")
                expired = {event["entry"]["subject"] for event in answer["events"]}
    assert {step for step, _ in failed(logs)} == {"expiry"}


async def test_the_runbook_has_every_step(settings, clock, monkeypatch):
    made = []

    def remember(*given):
        made.append(upkeep._Rounds(*given))
        return asyncio.Event().wait()  # it never ends

    monkeypatch.setattr(upkeep, "run", remember)
    async with client.running(settings):
        steps = [step.name for step in made[0]._steps(builders.NOW)]
    rows = re.findall(r"^ +\| (`.+?) \|", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for row in rows for name in re.findall(r"`(.+?)`", row)] == steps
