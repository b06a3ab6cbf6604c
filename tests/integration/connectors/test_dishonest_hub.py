"""A hub that lies, one lie a test: which connector notices, and what it sees.

Three institutions are enough: kz sends, kg and tj receive. A test names those whose alarms it
expects; all others must stay calm.
"""

from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest

from connectors.config import HubConfig
from connectors.tables import InboxState, SentState
from schemas import entry as entries
from schemas import jsontext, note, receipt
from schemas.encoding import b64url, format_time, unb64url
from schemas.entry import AcceptedPrivate
from tests import builders
from tests.simulator.institution import exchange
from tests.simulator.waiting import until


@asynccontextmanager
async def region():
    """kz, kg and tj at work, and caught up with the log; and their hub."""
    async with exchange("kz", "kg", "tj") as (hub, them), AsyncExitStack() as stack:
        for one in them.values():
            await stack.enter_async_context(one.running())
        for one in them.values():
            await until(partial(caught_up, one, hub), one.code)
        yield hub, *them.values()


def caught_up(institution, hub):
    followed = institution.log.of("log.followed")
    return followed and followed[-1]["size"] >= hub.history.size


def has_notices(institution, count):
    return len(institution.log.of("notice")) == count


def calm(*institutions):
    return all(one.alarm_kinds() == set() for one in institutions)


def sentence(institution, kind):
    """The first words of an alarm, as the daemon's log tells it."""
    return next(e["sentence"] for e in institution.log.events if e.get("kind") == kind)


# --- Withholding ---


async def test_a_message_that_is_passed_over_leaves_a_gap_that_its_recipient_sees():
    async with region() as (hub, kz, kg, tj):
        withheld, envelope = kz.compose()
        hub.lies.withhold.add(("kg", withheld))
        kz.outbox.put(envelope, withheld)
        await tj.sees(withheld)
        after = kz.send()
        await kg.sees(after)
        await kg.alarmed("position-gap")
        assert ("position-gap", "1") in kg.alarms()
        assert not kg.has(withheld)
        assert calm(kz, tj)
        hub.lies.withhold.clear()
        await kg.sees(withheld)
        await until(lambda: calm(kg), "the gap is filled")
        await kz.settled(withheld)


async def test_a_position_that_stays_away_keeps_no_other_from_being_asked_for():
    async with region() as (hub, kz, kg, _):
        sent = []
        for withheld in (False, True, True, False, True, False):
            message_id, envelope = kz.compose()
            hub.lies.withhold |= {("kg", message_id)} if withheld else set()
            kz.outbox.put(envelope, message_id)
            await until(partial(hub.history.accepted.get, message_id), "accepted")
            sent.append(message_id)
        await kg.sees(sent[5])
        await kg.alarmed("position-gap")
        hub.lies.withhold.discard(("kg", sent[4]))
        await kg.sees(sent[4])
        assert [kg.has(one) for one in sent] == [True, False, False, True, True, True]
        assert ("position-gap", "2") in kg.alarms()
        hub.lies.withhold.clear()
        await kg.sees(*sent)
        await until(lambda: calm(kg), "the gaps are filled")


async def test_a_position_is_asked_for_again_though_the_metrics_cannot_be_written(tmp_path):
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        nowhere = tmp_path / "missing" / "nhri-kg.prom"
        kg.config = msgspec.structs.replace(kg.config, metrics=nowhere)
        await stack.enter_async_context(kz.running())
        await stack.enter_async_context(kg.running())
        withheld, envelope = kz.compose()
        hub.lies.withhold.add(("kg", withheld))
        kz.outbox.put(envelope, withheld)
        await until(partial(hub.history.accepted.get, withheld), "accepted")
        await kg.sees(kz.send())
        assert not kg.has(withheld)
        hub.lies.withhold.clear()
        await kg.sees(withheld)
        assert "watch" in {trouble["work"] for trouble in kg.log.of("trouble")}


async def test_the_last_message_is_missed_by_the_number_that_the_hub_itself_gives():
    async with region() as (hub, kz, kg, tj):
        withheld, envelope = kz.compose()
        hub.lies.withhold.add(("kg", withheld))
        kz.outbox.put(envelope, withheld)
        await kg.alarmed("position-gap")
        assert "Position 1 of 1" in sentence(kg, "position-gap")
        assert calm(kz, tj)


async def test_a_hub_that_hides_a_message_altogether_is_seen_by_its_sender():
    hours = timedelta()
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, kg = them.values()
        hub.lies.promise = -1
        await stack.enter_async_context(kz.running(clock=lambda: datetime.now(UTC) + hours))
        await stack.enter_async_context(kg.running())
        hidden, envelope = kz.compose()
        hub.lies.withhold.add(("kg", hidden))
        kz.outbox.put(envelope, hidden)
        await until(lambda: kz.log.of("message.accepted"), "accepted")
        hours = timedelta(hours=73)
        await kz.alarmed("receipt-overdue")
        assert "kg has given no receipt" in sentence(kz, "receipt-overdue")
        assert calm(kg)


async def test_a_recipient_that_the_hub_leaves_out_is_missed_by_the_sender_and_by_the_others():
    async with region() as (hub, kz, kg, tj):
        hub.lies.leave_out.add("kg")
        sent = kz.send()
        await kz.alarmed("recipient-missing")
        await tj.alarmed("recipient-missing")
        assert ("recipient-missing", f"{sent} kg") in kz.alarms() & tj.alarms()
        assert calm(kg)
        assert tj.has(sent)


# --- Positions ---


async def test_renumbered_positions_are_seen_and_the_messages_are_still_read():
    async with region() as (hub, kz, kg, tj):
        hub.lies.renumber["kg"] = 3
        sent = kz.send()
        await kg.alarmed("position-differs")
        assert "came as position 4; the log has position 1" in sentence(kg, "position-differs")
        await kg.sees(sent)
        assert calm(kz, tj)


async def test_a_message_that_is_called_erased_without_a_decision_is_missed():
    async with region() as (hub, kz, kg, _):
        read = kz.send()
        await kz.settled(read)
        hub.lies.withhold.update({("kg", sent := kz.send()), ("tj", sent)})
        await until(lambda: sent in hub.history.accepted, "accepted")
        hub.erase(sent, decided=False)
        hub.lies.withhold.clear()
        await kg.alarmed("delivery-broken")
        assert f"the log does not say that {sent} was erased" in sentence(kg, "delivery-broken")
        assert kg.ask(lambda store: store.last_position()) == 1


async def test_one_erasure_hides_one_message_and_no_other():
    async with region() as (hub, kz, kg, _):
        hub.lies.withhold.update({("kg", one := kz.send()), ("kg", other := kz.send())})
        await until(lambda: {one, other} <= set(hub.history.accepted), "accepted")
        hub.erase(one)
        inbox = hub.history.inboxes["kg"]
        hub.history.inboxes["kg"] = [hub.history.accepted[one]] * len(inbox)
        hub.lies.withhold.clear()
        await kg.alarmed("message-repeated")
        assert kg.ask(lambda store: store.last_position()) == 1


async def test_one_position_for_two_messages_is_seen():
    async with region() as (hub, kz, kg, tj):
        first = kz.send()
        await kg.sees(first)
        hub.lies.forget_positions.add("kg")
        second = kz.send()
        await kg.alarmed("position-repeated")
        assert ("position-repeated", f"1 {second}") in kg.alarms()
        await tj.sees(first, second)
        assert calm(kz, tj)


async def test_a_message_that_stands_twice_in_the_log_is_shown_once():
    async with region() as (hub, kz, kg, tj):
        sent = kz.send()
        await kz.settled(sent)
        hub.slip_in(hub.history.envelopes[hub.history.accepted[sent]])
        await kg.alarmed("message-repeated")
        await tj.alarmed("message-repeated")
        rows = kg.ask(lambda store: store.inbox())
        assert [row.state for row in rows] == [InboxState.VALID, InboxState.INVALID]


# --- What is delivered ---


async def test_a_tampered_envelope_is_no_delivery_and_the_true_one_is_taken_later():
    async with region() as (hub, kz, kg, tj):
        forged = kz.compose(texts={"en": {"title": "The opposite"}})[1]
        hub.lies.tamper = lambda envelope: forged
        sent = kz.send()
        await kg.alarmed("delivery-broken")
        await tj.alarmed("delivery-broken")
        assert "another envelope" in sentence(kg, "delivery-broken")
        assert not kg.has(sent)
        assert calm(kz)
        hub.lies.tamper = None
        await kg.sees(sent)
        await kz.settled(sent)


def acceptance_in(item):
    return {name: value for name, value in item["delivery"].items() if name != "envelope"}


def only_accepted(item):
    return {"position": item["position"], "acceptance": acceptance_in(item)}


def called_expired(item):
    return {**item, "tombstone": "expired"}


def called_expired_and_accepted(item):
    return {**item, "tombstone": "expired", "acceptance": acceptance_in(item)}


def delivered_and_accepted(item):
    return {**item, "acceptance": acceptance_in(item)}


@pytest.mark.parametrize(
    "disguise",
    [only_accepted, called_expired, called_expired_and_accepted, delivered_and_accepted],
)
async def test_what_is_half_a_delivery_and_half_a_tombstone_hides_no_message(disguise):
    async with region() as (hub, kz, kg, tj):
        hub.lies.disguise = disguise
        sent = kz.send()
        await kg.alarmed("delivery-broken")
        await tj.alarmed("delivery-broken")
        assert "neither a delivery nor a tombstone" in sentence(kg, "delivery-broken")
        assert kg.ask(lambda store: store.last_position()) == 0
        await until(lambda: kz.receipts(sent), "accepted")
        assert kz.receipts(sent) == {"kg": "waiting", "tj": "waiting"}
        assert calm(kz)
        hub.lies.disguise = lambda item: item
        await kg.sees(sent)
        await kz.settled(sent)


async def test_a_message_that_its_sender_did_not_sign_is_not_shown_and_refused():
    async with region() as (hub, kz, kg, tj):
        message_id, _ = kz.compose()
        thief = builders.key("thief")
        forged = builders.signed(
            builders.message(id=message_id, created=now(), audience=["kg"]), thief
        )
        hub.slip_in(forged)
        await kg.alarmed("message-invalid")
        (row,) = kg.ask(lambda store: store.inbox())
        assert (row.state, row.status) == (InboxState.INVALID, "refused")
        assert "unknown-key" in row.reason
        await kz.alarmed("own-message")
        assert calm(tj)


async def test_a_message_that_the_rules_forbid_is_not_shown():
    async with exchange("kz", "kg", "undp") as (hub, them), AsyncExitStack() as stack:
        kz, kg, undp = them.values()
        for one in them.values():
            await stack.enter_async_context(one.running())
        old = format_time(datetime.now(UTC) - timedelta(days=100))
        sent = hub.slip_in(kz.compose(created=old, audience=["kg"])[1])
        await kg.alarmed("message-invalid")
        (row,) = kg.ask(lambda store: store.inbox())
        assert (row.id, row.state) == (sent, InboxState.INVALID)
        assert "created-out-of-range" in row.reason
        assert calm(undp)


async def test_the_sender_is_told_what_a_recipient_could_not_take():
    async with region() as (_hub, kz, kg, _tj):
        # An invalid message that kz itself sent, and a hub that takes it.
        old = format_time(datetime.now(UTC) - timedelta(days=100))
        sent = kz.send(created=old, audience=["kg"])
        await kg.alarmed("message-invalid")
        await kz.alarmed("receipt-refused")
        assert kz.receipts(sent) == {"kg": "refused"}
        assert "out of range" in sentence(kz, "receipt-refused")


# --- Ghosts ---


async def test_a_ghost_recipient_is_seen_by_the_sender_and_by_every_recipient():
    async with region() as (hub, kz, kg, tj):
        hub.lies.let_in.add("ghost")
        sent = kz.send()
        for one in (kz, kg, tj):
            await one.alarmed("recipient-ghost")
            assert ("recipient-ghost", f"{sent} ghost") in one.alarms()


async def test_a_ghost_that_is_properly_registered_is_announced_to_everybody():
    async with region() as (hub, kz, kg, tj):
        hub.log_entry(builders.invited("ghost"))
        hub.log_entry(builders.joined("ghost"))
        for one in (kz, kg, tj):
            await until(partial(has_notices, one, 2), one.code)
            said = [event["sentence"] for event in one.log.of("notice")]
            assert "ghost was invited as member" in said[0]
            assert "ghost joined and registered its keys" in said[1]


# --- The directory ---


async def test_a_forged_rotation_is_believed_by_nobody_and_the_thief_by_nobody():
    async with region() as (hub, kz, kg, tj):
        hub.log_entry(builders.rotated("kg", "thief second", previous="thief"))
        for one in (kz, kg, tj):
            await one.alarmed("directory-impossible")
        await kg.alarmed("own-keys")
        message_id, _ = kg.compose()
        forged = builders.message(id=message_id, sender="kg", created=now(), audience=["kz", "tj"])
        hub.slip_in(builders.signed(forged, builders.key("thief second")))
        for one in (kz, tj):
            await one.alarmed("message-invalid")
            assert not one.has(message_id)
        await kg.alarmed("own-message")
        true = kg.send()
        await kz.sees(true)


async def test_keys_replaced_behind_its_back_are_an_alarm_to_their_owner_and_news_to_all_others():
    async with region() as (hub, kz, kg, tj):
        hub.log_entry(builders.held("kg", "stolen"))
        hub.log_entry(builders.replaced("kg", "thief", "stolen"))
        await kg.alarmed("own-standing")
        await kg.alarmed("own-keys")
        assert "key.replaced about us; we did not ask for it" in sentence(kg, "own-keys")
        for one in (kz, tj):
            await until(partial(has_notices, one, 2), one.code)
            assert "in place of lost or stolen ones" in one.log.of("notice")[1]["sentence"]
        assert calm(kz, tj)


async def test_a_group_of_a_members_name_is_an_alarm_to_all_and_stops_nobody():
    async with region() as (hub, kz, kg, tj):
        hub.log_entry(builders.group("kz", "kg"))
        for one in (kz, kg, tj):
            await one.alarmed("directory-impossible")
            assert one.alarm_kinds() == {"directory-impossible"}
        sent = kz.send()
        await kg.sees(sent)
        await kz.settled(sent)


async def test_a_suspension_is_told_to_whom_it_concerns():
    async with region() as (hub, kz, kg, tj):
        hub.log_entry(builders.suspended("kg"))
        await kg.alarmed("own-standing")
        await until(lambda: kz.log.of("notice"), "kz")
        assert "kg was suspended" in kz.log.of("notice")[0]["sentence"]
        assert calm(kz, tj)


async def test_a_message_in_our_name_that_we_did_not_send_is_seen_in_the_log():
    async with region() as (hub, kz, kg, tj):
        sent = hub.slip_in(kz.compose()[1])
        await kz.alarmed("own-message")
        assert ("own-message", sent) in kz.alarms()
        assert calm(kg, tj)


# --- Acceptances and receipts ---


async def test_an_acceptance_that_does_not_hold_is_no_acceptance():
    async with region() as (hub, kz, kg, tj):
        hub.lies.break_acceptance = lambda made: msgspec.structs.replace(
            made, private=b64url(forget_everybody(made.private))
        )
        sent = kz.send()
        await kz.alarmed("acceptance-broken")
        assert kz.sent(sent).state is SentState.PENDING
        other = kz.send()
        await kg.sees(sent, other)
        hub.lies.break_acceptance = None
        await kz.settled(sent)
        await kz.settled(other)
        assert calm(kz, kg, tj)


def forget_everybody(private):
    read = jsontext.decode(unb64url(private), AcceptedPrivate)
    return jsontext.encode(msgspec.structs.replace(read, recipients={}))


async def test_the_acceptance_of_another_message_is_no_acceptance():
    async with region() as (hub, kz, kg, _tj):
        first = kz.send()
        await kz.settled(first)
        index = hub.history.accepted[first]
        hub.lies.break_acceptance = lambda made: hub.history.acceptance(index)
        second = kz.send()
        await kz.alarmed("acceptance-broken")
        assert f"it is about {first}, not {second}" in sentence(kz, "acceptance-broken")
        assert kz.sent(second).state is SentState.PENDING
        await kg.sees(second)


async def test_a_receipt_that_the_hub_changed_is_seen_on_both_sides():
    async with region() as (hub, kz, kg, tj):
        hub.lies.change_receipt = sign_with_another_key
        sent = kz.send(audience=["kg"])
        await kg.alarmed("receipt-unrecorded")
        await kz.alarmed("receipt-broken")
        assert kz.receipts(sent) == {"kg": "waiting"}
        assert calm(tj)
        hub.lies.change_receipt = None
        await kz.settled(sent)


def sign_with_another_key(raw):
    return receipt.sign(receipt.parse(raw)[1], builders.key("thief"))


# --- The log ---


async def test_a_fork_is_seen_as_soon_as_one_checkpoint_of_the_others_is_seen():
    async with region() as (hub, kz, kg, tj):
        hub.fork("kg")
        await until(lambda: kg.log.of("log.followed")[-1]["size"] == hub.history.size + 1, "kg")
        assert calm(kz, kg, tj)
        hub.fill(1)
        hub.lies.checkpoint = hub.history.checkpoint()
        await kg.alarmed("log-forked")
        assert calm(kz, tj)


async def test_a_member_that_lives_in_another_history_is_betrayed_by_its_receipts():
    async with region() as (hub, kz, kg, tj):
        hub.fork("kg")
        sent = kz.send(audience=["kg"])
        await until(lambda: kz.log.of("message.accepted"), "accepted")
        hub.replay(sent, "kg")
        await kg.sees(sent)
        await until(lambda: hub.histories["kg"].recorded_receipts, "receipted")
        hub.replay_receipts("kg")
        await kz.alarmed("receipt-differs")
        assert "kg has" in sentence(kz, "receipt-differs")
        assert "under another log entry" in sentence(kz, "receipt-differs")
        assert calm(tj)


async def test_a_delivery_from_another_history_is_not_believed():
    async with region() as (hub, kz, kg, tj):
        hub.fork("kg")
        sent = kz.send(audience=["kg"])
        await until(lambda: kz.log.of("message.accepted"), "accepted")
        # kg was shown another history for a while, and is brought back to that of all others.
        await until(lambda: kg.log.of("log.followed")[-1]["size"] == hub.histories["kg"].size, "kg")
        del hub.histories["kg"]
        await kg.alarmed("log-forked")
        await kg.alarmed("delivery-broken")
        assert not kg.has(sent)
        assert calm(kz, tj)


async def test_a_log_that_becomes_shorter_is_seen_although_it_fits():
    async with region() as (hub, kz, kg, tj):
        old = hub.history.checkpoint()
        hub.fill(3)
        for one in (kz, kg, tj):
            await until(partial(caught_up, one, hub), one.code)
        await until(lambda: all(served(one) == hub.history.size for one in (kz, kg, tj)), "served")
        hub.lies.checkpoint = old
        for one in (kz, kg, tj):
            await one.alarmed("log-shrank")


def served(institution):
    return institution.ask(lambda store: store.followed()).served


async def test_a_log_that_is_signed_but_not_shown_is_seen():
    async with region() as (hub, kz, kg, tj):
        hub.lies.hide_entries = True
        hub.fill(1)
        for one in (kz, kg, tj):
            await one.alarmed("log-withheld")
        hub.lies.hide_entries = False
        await until(lambda: calm(kz, kg, tj), "shown after all")


async def test_a_log_under_another_key_than_the_one_compared_is_not_believed():
    async with exchange("kz", "kg") as (hub, them), AsyncExitStack() as stack:
        kz, _ = them.values()
        other = str(note.ed25519_vkey(hub.log.name, builders.public(builders.key("other log"))))
        kz.config = msgspec.structs.replace(kz.config, hub=HubConfig(hub.url("kz"), other))
        await stack.enter_async_context(kz.running())
        sent = kz.send()
        await kz.alarmed("log-key")
        await kz.alarmed("acceptance-broken")
        assert kz.sent(sent).state is SentState.PENDING
        assert kz.ask(lambda store: store.directory()).participants == {}


async def test_an_entry_that_nobody_can_read_is_told_once():
    async with region() as (hub, kz, _kg, _tj):
        entry = builders.entry(entries.OPERATOR_QUERY)
        for _ in range(2):
            hub.log_entry(msgspec.structs.replace(entry, v=2))
        await kz.alarmed("log-unreadable")
        await until(partial(caught_up, kz, hub), "kz")
        assert [e["kind"] for e in kz.log.of("alarm")] == ["log-unreadable"]


def now():
    return format_time(datetime.now(UTC))
