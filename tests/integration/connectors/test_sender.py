"""What waits in the outbox goes out, whatever happens to one message or its file."""

from connectors.tables import SentState
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
