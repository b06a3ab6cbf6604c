"""What waits in the outbox goes out, whatever happens to one message or its file."""

from connectors.tables import SentState
from tests.simulator.institution import exchange


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
