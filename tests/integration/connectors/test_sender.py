"""What waits in the outbox goes out, whatever happens to one message or its file."""

from msgspec.structs import replace

from connectors.tables import SentState
from schemas.acceptance import open_acceptance
from tests.builders import message_id
from tests.simulator.institution import exchange
from tests.simulator.waiting import until


async def test_a_message_whose_file_is_gone_is_offered_until_it_is_answered():
    async with exchange("kz", "kg") as (hub, them):
        kz, kg = them.values()
        await hub.stop()
        async with kz.running():
            sent = kz.send()
            await kz.taken(sent)
            kz.outbox.remove(sent)
            await hub.start()
            async with kg.running():
                await kg.sees(sent)
                await kz.settled(sent)


async def test_a_message_that_only_the_store_of_a_backup_has_is_offered_after_the_start():
    async with exchange("kz", "kg") as (hub, them):
        kz, kg = them.values()
        await hub.stop()
        async with kz.running():
            sent = kz.send()
            await kz.taken(sent)
        kz.outbox.remove(sent)
        await hub.start()
        assert kz.sent(sent).state is SentState.PENDING
        async with kz.running(), kg.running():
            await kg.sees(sent)
            await kz.settled(sent)


async def test_a_message_that_was_corrected_after_a_refusal_is_offered_under_its_id():
    async with exchange("kz", "kg") as (hub, them):
        kz, kg = them.values()
        hub.weather.refuse = [("/v1/messages", "unknown-recipient")]
        async with kz.running(), kg.running():
            sent = kz.send(texts={"en": {"title": "A visit"}})
            await kz.taken(sent)
            await until(lambda: kz.sent(sent).state is SentState.REFUSED, "refused")
            await until(lambda: not kz.outbox.pending(), "its file is removed")
            kz.send(id=sent, texts={"en": {"title": "A visit, corrected"}})
            await kg.sees(sent)
            await kz.settled(sent)
            assert (kz.sent(sent).code, kz.alarm_kinds()) == (None, set())


async def test_another_message_under_an_id_that_was_accepted_is_set_aside_and_told():
    async with exchange("kz", "kg") as (_hub, them):
        kz, _ = them.values()
        async with kz.running():
            sent = kz.send()
            await kz.taken(sent)
            await until(lambda: kz.sent(sent).state is SentState.ACCEPTED, "accepted")
            await until(lambda: not kz.outbox.pending(), "its file is removed")
            accepted = kz.sent(sent)
            _, other = kz.compose(id=sent, texts={"en": {"title": "Another"}})
            kz.outbox.put(other, sent)
            await kz.alarmed("outbox-unreadable")
            await until(lambda: not kz.outbox.pending(), "set aside")
        aside = kz.config.outbox / "unreadable" / f"{sent}.jose"
        assert aside.read_bytes() == other
        assert kz.sent(sent) == accepted


async def test_a_file_that_cannot_be_read_keeps_no_message_waiting_and_is_told():
    async with exchange("kz", "kg") as (_hub, them):
        kz, kg = them.values()
        unreadable, envelope = kz.compose()
        folder = kz.config.outbox / f"{unreadable}.jose"
        folder.mkdir(parents=True)
        async with kz.running(), kg.running():
            sent = [kz.send(), kz.send()]
            await kg.sees(*sent)
            await kz.alarmed("outbox-waiting")
            assert ("outbox-waiting", unreadable) in kz.alarms()
            folder.rmdir()
            kz.outbox.put(envelope, unreadable)
            await kg.sees(unreadable)
            await until(lambda: kz.alarm_kinds() == set(), "the alarm is over")


async def test_a_message_whose_answer_nobody_can_read_keeps_no_other_waiting():
    async with exchange("kz", "kg") as (hub, them):
        kz, kg = them.values()
        stuck, *sent = [kz.send(id=message_id(number)) for number in (1, 2, 3)]

        def unreadable(acceptance):
            about = open_acceptance(acceptance, hub.log).entry.subject
            return replace(acceptance, proof=()) if about == stuck else acceptance

        hub.lies.break_acceptance = unreadable
        async with kz.running(), kg.running():
            for one in sent:
                await kz.settled(one)
            assert kz.sent(stuck).state is SentState.PENDING
            hub.lies.break_acceptance = None
            await kz.settled(stuck)


async def test_replies_to_one_message_keep_their_order_when_the_hub_does_not_take_the_first():
    async with exchange("kz", "kg") as (hub, them):
        kz, kg = them.values()
        about = message_id(0)
        replies = [kz.send(id=message_id(number), in_reply_to=about) for number in (1, 2)]
        other = kz.send(id=message_id(3))
        hub.weather.refuse = [("/v1/messages", "storage")]
        async with kz.running(), kg.running():
            await kg.sees(other, *replies)
        assert list(hub.history.accepted) == [other, *replies]
