"""The daemon with an honest hub, over real HTTP: the path of a message, and bad weather on it."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from msgspec.structs import replace

from connectors import actions, follower
from connectors.link.http import HttpLink
from connectors.store import StoreError
from connectors.tables import InboxState, SentState
from schemas import entry as entries
from schemas import jsontext, signature
from schemas.acceptance import open_acceptance
from schemas.encoding import format_time
from schemas.joint_action import ActionState
from schemas.signature import JwsEnvelope
from tests import builders
from tests.simulator.institution import FAST, exchange
from tests.simulator.process import Process
from tests.simulator.waiting import until


class MovedClock:
    """A clock that is off, by as much as a test says."""

    def __init__(self, **off: float) -> None:
        self.off = timedelta(**off)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.off


async def all_running(them, stack: AsyncExitStack):
    for one in them.values():
        await stack.enter_async_context(one.running())
    return them.values()


async def test_a_message_is_accepted_delivered_verified_and_receipted():
    async with exchange("kz", "kg", "tj") as (hub, them), AsyncExitStack() as stack:
        kz, kg, tj = await all_running(them, stack)
        sent = kz.send()
        await kg.sees(sent)
        await tj.sees(sent)
        await kz.settled(sent)
        assert kz.receipts(sent) == {"kg": "received", "tj": "received"}
        assert kz.alarm_kinds() | kg.alarm_kinds() | tj.alarm_kinds() == set()
        row = kz.sent(sent)
        opened = open_acceptance(acceptance_of(row), hub.log)
        assert (opened.entry.actor, opened.entry.subject) == ("kz", sent)
        assert kz.outbox.pending() == []


async def test_the_log_has_one_line_an_event_with_stable_names_and_no_secret():
    async with exchange("kz", "kg") as (_hub, them), AsyncExitStack() as stack:
        kz, kg = await all_running(them, stack)
        texts = {
            "en": {"title": "A visit", "body": "Nobody but its readers reads this."},
            "ky": {"title": "Сапар"},
        }
        sent = kz.send(texts=texts)
        await kz.settled(sent)
        index = kz.sent(sent).index
        (accepted,) = kz.log.of("message.accepted")
        assert (accepted["message_id"], accepted["to"], accepted["index"]) == (sent, ["kg"], index)
        (received,) = kg.log.of("message.received")
        assert received["message_id"] == sent
        assert (received["sender"], received["kind"]) == ("kz", "activity_bulletin.v1")
        assert (received["position"], received["title"]) == (1, "Сапар")
        (receipt,) = kz.log.of("receipt.received")
        assert receipt["message_id"] == sent
        assert (receipt["from"], receipt["status"]) == ("kg", "received")
        assert kz.log.of("log.followed")[-1]["size"] > index
        logged = kz.log.getvalue() + kg.log.getvalue()
        assert "Nobody but" not in logged
        assert "PRIVATE KEY" not in logged


async def test_messages_keep_their_order_over_many_pages():
    async with exchange("kz", "kg") as (_hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        sent = [kz.send() for _ in range(40)]
        await all_running(them, stack)
        await kg.sees(*sent)
        await kz.settled(sent[-1])
        received = kg.ask(lambda store: [row.id for row in store.inbox(limit=100)])
        assert received == sorted(sent)


async def test_what_is_written_while_the_hub_is_away_goes_out_when_it_is_back():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        await hub.stop()
        kz, kg = await all_running(them, stack)
        sent = kz.send()
        await until(lambda: len(kz.log.of("trouble")) > 5, "several attempts")
        assert kz.sent(sent).state is SentState.PENDING
        await hub.start()
        await kg.sees(sent)
        await kz.settled(sent)
        await hub.stop()
        other = kz.send()
        await hub.start()
        await kg.sees(other)


async def test_an_answer_lost_after_recording_doubles_nothing():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        hub.weather.lose_answers = 3
        kz, kg = await all_running(them, stack)
        sent = [kz.send(), kz.send()]
        await kg.sees(*sent)
        for one in sent:
            await kz.settled(one)
        assert hub.weather.lost == 3
        logged = [entries.decode(raw) for raw in hub.history.raws]
        accepted = [e.subject for e in logged if e.type == entries.MESSAGE_ACCEPTED]
        assert set(accepted) == set(sent)
        assert len(accepted) == len(sent)
        assert len(hub.history.recorded_receipts) == len(hub.history.receipts["kz"])
        await until(lambda: sum(answered(kg)) >= len(sent), "kg knows its receipts to be recorded")
        assert sum(answered(kg)) == 2


def answered(institution):
    """How many receipts each of its requests was answered for."""
    return [event["count"] for event in institution.log.of("receipt.sent")]


@pytest.mark.parametrize("code", ["quota", "busy", "storage", "held"])
async def test_a_hub_that_cannot_take_it_now_is_asked_again_when_it_says(code):
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        hub.weather.refuse = [("/v1/messages", code)]
        kz, kg = await all_running(them, stack)
        sent = kz.send()
        await kg.sees(sent)
        (trouble,) = [e for e in kz.log.of("trouble") if e["work"] == "outbox"]
        assert code in trouble["detail"]
        assert code == "held" or trouble["again_in"] >= 1


async def test_a_refusal_for_good_is_kept_with_its_entry_and_the_next_message_goes_on():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        taken, envelope = kz.compose(texts={"en": {"title": "Another with the same id"}})
        hub.slip_in(envelope)
        kz.send(id=taken)
        after = kz.send()
        await all_running(them, stack)
        await kg.sees(after)
        await until(lambda: kz.sent(taken).state is not SentState.PENDING, "an answer")
        refused = kz.sent(taken)
        assert (refused.state, refused.code) == (SentState.REFUSED, "id-conflict")
        opened = open_acceptance(acceptance_of(refused), hub.log)
        assert (opened.entry.type, opened.entry.subject) == (entries.MESSAGE_REFUSED, taken)
        (line,) = kz.log.of("message.refused")
        assert (line["message_id"], line["code"]) == (taken, "id-conflict")


async def test_a_captive_portal_is_not_the_hub():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        hub.weather.portal = True
        kz, kg = await all_running(them, stack)
        sent = kz.send()
        await until(lambda: len(kz.log.of("trouble")) > 5, "several attempts")
        assert kz.sent(sent).state is SentState.PENDING
        hub.weather.portal = False
        await kg.sees(sent)


async def test_a_connector_whose_clock_is_days_off_learns_the_hubs():
    async with exchange("kz", "kg") as (_hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        await stack.enter_async_context(kz.running(clock=MovedClock(days=-3)))
        await stack.enter_async_context(kg.running())
        sent = kz.send()
        await kg.sees(sent)
        await kz.settled(sent)


async def test_before_the_operator_approves_messages_wait_and_nothing_is_refused():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        account = hub.accounts.pop(kz.keyring.kid)
        await all_running(them, stack)
        sent = kz.send()
        await kz.alarmed("hub-refuses")
        # The alarm may come from another request before the message is tried.
        await until(lambda: kz.sent(sent).code == "unknown-key", "the hub's answer is noted")
        assert kz.sent(sent).state is SentState.PENDING
        hub.accounts[kz.keyring.kid] = account
        await kg.sees(sent)
        await until(lambda: kz.alarm_kinds() == set(), "the alarm is over")


async def test_what_was_mended_while_the_daemon_was_stopped_is_no_alarm_after_its_start():
    async with exchange("kz", "kg") as (hub, them):
        kz, _ = them.values()
        account = hub.accounts.pop(kz.keyring.kid)
        async with kz.running():
            await kz.alarmed("hub-refuses")
        hub.accounts[kz.keyring.kid] = account
        async with kz.running():
            await until(lambda: kz.alarm_kinds() == set(), "the alarm is over")


async def test_a_file_that_is_no_message_is_set_aside_and_keeps_nobody_waiting():
    async with exchange("kz", "kg") as (_hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        kz.outbox.put(b"not an envelope", builders.message_id(1))
        kz.outbox.put(kg.compose()[1], builders.message_id(2))
        sent = kz.send()
        await all_running(them, stack)
        await kg.sees(sent)
        await kz.alarmed("outbox-unreadable")
        await until(lambda: not kz.outbox.pending(), "all were taken")
        aside = sorted(path.stem for path in (kz.config.outbox / "unreadable").iterdir())
        assert aside == [builders.message_id(1), builders.message_id(2)]


async def test_a_second_daemon_is_refused():
    async with exchange("kz") as (_hub, them), AsyncExitStack() as stack:
        (kz,) = await all_running(them, stack)
        await until(lambda: kz.log.of("daemon.started"), "started")
        with pytest.raises(StoreError, match="Another connector daemon"):
            async with kz.running() as second:
                await second


async def test_a_newcomer_follows_a_long_log_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(follower, "STAGE_TILES", 1)
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        hub.fill(700)
        kz, kg = await all_running(them, stack)
        sent = kz.send()
        await kg.sees(sent)
        await kz.settled(sent)
        assert set(kg.ask(lambda store: store.directory()).participants) == {"kz", "kg"}
        assert kg.ask(lambda store: store.root_at(650)) == kz.ask(lambda store: store.root_at(650))


async def test_who_was_there_before_is_no_news_and_who_comes_later_is():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, _ = await all_running(them, stack)
        await until(lambda: kz.log.of("log.followed"), "followed")
        assert kz.log.of("notice") == []
        hub.invite("undp", "partner")
        await until(lambda: kz.log.of("notice"), "a notice")
        assert "undp was invited as partner" in str(kz.log.of("notice")[0]["sentence"])


async def test_a_message_that_has_expired_leaves_its_position_and_needs_no_receipt():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        await stack.enter_async_context(kz.running())
        gone = kz.send()
        await until(lambda: gone in hub.history.accepted, "accepted")
        del hub.history.envelopes[hub.history.accepted[gone]]
        await stack.enter_async_context(kg.running())
        sent = kz.send()
        await kg.sees(sent)
        await kz.settled(sent)
        rows = kg.ask(lambda store: store.inbox())
        assert [row.state for row in rows] == [InboxState.EXPIRED, InboxState.VALID]
        assert kz.receipts(gone) == {"kg": "waiting"}
        assert kg.alarm_kinds() == set()


async def test_a_message_that_was_erased_leaves_its_position_and_is_no_more_waited_for():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        clock = MovedClock()
        await stack.enter_async_context(kz.running(clock=clock))
        gone = kz.send()
        await until(lambda: kz.started and kz.receipts(gone), "accepted")
        clock.off = timedelta(hours=73)
        await kz.alarmed("receipt-overdue")
        hub.erase(gone)
        await until(lambda: kz.alarm_kinds() == {"sent-erased"}, "nothing is overdue any more")
        told = next(e["sentence"] for e in kz.log.events if e.get("kind") == "sent-erased")
        assert f"the hub erased our message {gone}; no receipt had come from kg" in str(told)
        await stack.enter_async_context(kg.running())
        sent = kz.send()
        await kg.sees(sent)
        await kz.settled(sent)
        erased, _ = kg.ask(lambda store: store.inbox())
        assert (erased.position, erased.state, erased.id) == (1, InboxState.ERASED, gone)
        assert (erased.sender, erased.kind, erased.envelope) == ("kz", None, b"")
        assert kz.receipts(gone) == {"kg": "waiting"}
        assert kg.alarm_kinds() == set()


async def test_of_a_message_that_was_erased_after_it_came_the_institution_is_told():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = await all_running(them, stack)
        sent = kz.send()
        await kz.settled(sent)
        hub.erase(sent)
        await until(lambda: ("received-erased", sent) in kg.alarms(), "told")
        await until(lambda: ("sent-erased", sent) in kz.alarms(), "its sender as well")
        assert kg.has(sent)
        assert kg.ask(lambda store: store.erased(sent)).index == hub.history.size - 1


async def test_an_overdue_receipt_is_an_alarm_until_it_comes():
    async with exchange("kz", "kg") as (_hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        clock = MovedClock()
        await stack.enter_async_context(kz.running(clock=clock))
        sent = kz.send()
        await until(lambda: kz.started and kz.receipts(sent), "accepted")
        assert kz.alarm_kinds() == set()
        clock.off = timedelta(hours=73)
        await kz.alarmed("receipt-overdue")
        assert ("receipt-overdue", f"{sent} kg") in kz.alarms()
        await stack.enter_async_context(kg.running())
        await kz.settled(sent)
        await until(lambda: "receipt-overdue" not in kz.alarm_kinds(), "the alarm is over")


async def test_a_receipt_that_overtakes_the_acceptance_waits_for_it_in_silence(monkeypatch):
    ask, given = HttpLink.receipts, list[object]()

    async def noted(link, after, limit, wait):
        page = await ask(link, after, limit, wait)
        given.extend(page.receipts)
        return page

    monkeypatch.setattr(HttpLink, "receipts", noted)
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        hub.lies.break_acceptance = lambda acceptance: replace(acceptance, proof=())
        await stack.enter_async_context(kz.running(replace(FAST, wait=20)))
        await stack.enter_async_context(kg.running())
        sent = kz.send()
        await until(lambda: given, "kg's receipt is there")
        assert kz.sent(sent).state is SentState.PENDING
        hub.lies.break_acceptance = None
        await kz.settled(sent)
        assert "receipts" not in {event["work"] for event in kz.log.of("trouble")}


async def test_a_hub_that_is_away_for_a_day_is_an_alarm_until_it_is_back():
    async with exchange("kz") as (hub, them), AsyncExitStack() as stack:
        (kz,) = them.values()
        clock = MovedClock()
        await stack.enter_async_context(kz.running(clock=clock))
        await until(lambda: kz.log.of("log.followed"), "followed")
        await hub.stop()
        waiting = kz.send()
        await kz.taken(waiting)
        clock.off = timedelta(days=4)
        await until(lambda: kz.alarm_kinds() == {"hub-away", "outbox-waiting"}, "alarms")
        await hub.start()
        await until(lambda: kz.alarm_kinds() == set(), "the alarms are over")


def subscription(state, number=1):
    since = None if state == "active" else "2026-07-01T09:00:00.000Z"
    url = "https://hooks.example.org/secret"
    return {"id": f"hook-{number}", "url": url, "state": state, "failing_since": since}


async def alarmed(institution, *alarms):
    """These alarms about webhooks, and no others."""

    def there():
        found = {alarm for alarm in institution.alarms() if alarm[0].startswith("webhook")}
        return found == set(alarms)

    await until(lambda: institution.started and there(), f"the alarms {alarms}")


async def test_a_webhook_of_ours_that_fails_for_days_is_an_alarm_until_it_works_again():
    async with exchange("kz") as (hub, them), AsyncExitStack() as stack:
        (kz,) = them.values()
        hub.subscriptions["kz"] = [subscription("warned"), subscription("failing", 2)]
        await stack.enter_async_context(kz.running(replace(FAST, webhooks=0.05)))
        await alarmed(kz, ("webhook-failing", "hook-1"))
        hub.subscriptions["kz"] = [subscription("disabled"), subscription("active", 2)]
        await alarmed(kz, ("webhook-disabled", "hook-1"))
        told = [event for event in kz.log.events if "hook-1" in str(event.get("sentence"))]
        assert [event["kind"] for event in told] == ["webhook-failing", "webhook-disabled"]
        assert "secret" not in str(told)
        hub.subscriptions["kz"] = [subscription("active"), subscription("active", 2)]
        await alarmed(kz)


async def test_a_webhook_that_has_ended_is_no_alarm_any_more():
    async with exchange("kz") as (hub, them), AsyncExitStack() as stack:
        (kz,) = them.values()
        hub.subscriptions["kz"] = [subscription("disabled")]
        await stack.enter_async_context(kz.running(replace(FAST, webhooks=0.05)))
        await alarmed(kz, ("webhook-disabled", "hook-1"))
        hub.subscriptions["kz"] = []
        await alarmed(kz)


async def test_institutions_agree_on_a_joint_action_and_its_signatures_can_be_assembled():
    async with exchange("kz", "kg", "tj") as (_hub, them), AsyncExitStack() as stack:
        kz, kg, tj = await all_running(them, stack)
        answer_by = format_time(datetime.now(UTC) + timedelta(days=1))
        content = {"action": "statement", "invited": ["kg", "tj"], "answer_by": answer_by}
        notice = kz.send(kind="joint_action_notice.v1", content=content)
        for one in (kg, tj):
            await one.sees(notice)
            row = one.ask(lambda store: store.valid(notice))
            payload = signature.parse(row.envelope, signature.MESSAGE_TYPE).payload
            wire = signature.sign_payload(payload, signature.MESSAGE_TYPE, one.keyring.sign)
            one.send(
                kind="joint_action_response.v1",
                in_reply_to=notice,
                texts={},
                content={
                    "notice": notice,
                    "answer": "accept",
                    "signature": {"protected": wire.protected, "signature": wire.signature},
                },
            )
        await kz.settled(notice)
        for one in (kz, kg, tj):
            await until(partial(has_answers, one, notice, 2), f"{one.code}: both answers")
            agreed = joint(one, notice)
            assert agreed.action.state is ActionState.AGREED
            whole = actions.assemble(agreed)
            assert len(jsontext.decode(whole, JwsEnvelope).signatures) == 3
            keys = one.ask(lambda store: store.directory()).keys
            jws = signature.parse(whole, signature.MESSAGE_TYPE)
            signature.verify(jws, {kid: key.public for kid, key in keys.items()}.__getitem__)


def has_answers(institution, notice, count):
    return len(joint(institution, notice).answers) == count


def joint(institution, notice):
    return institution.ask(lambda store: actions.joint_action_of(store, notice))


def has_accepted(hub, count):
    return len(hub.history.accepted) >= count


async def test_stopping_in_the_middle_of_everything_is_like_a_crash_and_loses_nothing():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        sent = [kz.send() for _ in range(10)]
        await stack.enter_async_context(kg.running())
        for count in (2, 4, 6, 8):
            async with kz.running():
                await until(partial(has_accepted, hub, count), "some accepted")
        async with kz.running():
            await kg.sees(*sent)
            for one in sent:
                await kz.settled(one)
        logged = [entries.decode(raw).type for raw in hub.history.raws]
        assert logged.count(entries.MESSAGE_ACCEPTED) == 10


def acceptance_of(sent):
    assert sent.acceptance is not None
    return sent.acceptance


async def test_as_a_process_it_stays_small_and_stops_when_told_to():
    async with exchange("kz", "kg") as (_hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        process = stack.enter_context(Process(kg))
        process.start()
        await stack.enter_async_context(kz.running())
        long = {"en": {"title": "Long", "body": "x" * 190_000}}
        sent = [kz.send(texts=long) for _ in range(20)]
        await kg.sees(*sent)
        for one in sent:
            await kz.settled(one)
        assert process.memory() <= 80
        assert await process.stop() == 0
        assert process.events()[-1]["event"] == "daemon.stopped"


async def test_without_keys_or_settings_it_says_what_is_wrong():
    async with exchange("kz") as (_hub, them):
        (kz,) = them.values()
        (kz.config.keys / "sign.pem").unlink()
        with Process(kz) as process:
            process.start()
            assert await process.end() == 1
            (line,) = process.events()
            assert line["event"] == "daemon.failed"
            assert "nhri-connector join" in str(line["detail"])
            kz.path.write_text("code = 7")
            process.start()
            assert await process.end() == 2
            assert "code: A code is" in str(process.events()[1]["detail"])
