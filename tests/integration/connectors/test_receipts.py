"""Receipts, ours and those of others: trouble about one message keeps back no other."""

from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from msgspec.structs import replace

from connectors.link import Later, Unreachable
from connectors.link.http import HttpLink
from connectors.store import Store
from connectors.tables import SentState
from schemas import receipt
from schemas.acceptance import open_acceptance
from schemas.encoding import b64url
from tests.simulator.institution import FAST, exchange
from tests.simulator.waiting import until


@asynccontextmanager
async def one_without_an_answer():
    """kz and kg at work, and a message of kz that is recorded while kz gets no good answer."""
    async with exchange("kz", "kg") as (hub, them):
        kz, kg = them.values()
        stuck, envelope = kz.compose()

        def broken(acceptance):
            about = open_acceptance(acceptance, hub.log).entry.subject
            return replace(acceptance, private=b64url(b"{}")) if about == stuck else acceptance

        hub.lies.break_acceptance = broken
        kz.outbox.put(envelope, stuck)
        async with kz.running(replace(FAST, wait=0.2)), kg.running():
            await until(lambda: hub.history.receipts.get("kz"), "kg's receipt is recorded")
            yield hub, kz, stuck


async def test_a_message_without_an_answer_keeps_back_no_receipts_for_others():
    async with one_without_an_answer() as (hub, kz, stuck):
        for _ in range(2):
            await kz.settled(kz.send())
        assert kz.sent(stuck).state is SentState.PENDING
        hub.lies.break_acceptance = None
        await kz.settled(stuck)
        await until(lambda: kz.alarm_kinds() == set(), "the alarm is over")


async def test_an_answer_that_comes_while_receipts_are_asked_for_loses_none(monkeypatch):
    ask = HttpLink.receipts
    async with one_without_an_answer() as (hub, kz, stuck):
        (first,) = hub.history.receipts["kz"]

        async def late(link, after, limit, wait):
            page = await ask(link, after, limit, wait)
            if page.receipts and after >= first:
                hub.lies.break_acceptance = None
                await until(lambda: kz.sent(stuck).state is SentState.ACCEPTED, "the answer")
            return page

        monkeypatch.setattr(HttpLink, "receipts", late)
        sent = kz.send()
        await kz.settled(stuck)
        await kz.settled(sent)


@pytest.mark.parametrize("trouble", [Later, Unreachable])
async def test_a_receipt_of_ours_that_is_not_recorded_keeps_back_no_other(trouble, monkeypatch):
    offer = HttpLink.send_receipt
    async with exchange("kz", "kg", "tj") as (_hub, them), AsyncExitStack() as stack:
        kz, kg, tj = them.values()
        stuck, envelope = tj.compose(audience=["kg"])

        async def fails(link, raw):
            if any(item[0] == stuck for item in receipt.parse(raw)[1].items):
                raise trouble("It is about this receipt alone.")
            return await offer(link, raw)

        with monkeypatch.context() as failing:
            failing.setattr(HttpLink, "send_receipt", fails)
            for one in them.values():
                await stack.enter_async_context(one.running())
            tj.outbox.put(envelope, stuck)
            await until(lambda: "answers" in troubles(kg), "the receipt for it fails")
            await kz.settled(kz.send(audience=["kg"]))
        await tj.settled(stuck)


async def test_many_receipts_of_ours_without_a_good_answer_keep_back_no_other(monkeypatch):
    offer = HttpLink.send_receipt

    async def fails(link, raw):
        if raw == b"stuck":
            raise Later("It is about this receipt alone.")
        return await offer(link, raw)

    monkeypatch.setattr(HttpLink, "send_receipt", fails)
    async with exchange("kz", "kg") as (_hub, them):
        kz, kg = them.values()
        config = kg.config
        with Store.open_for(config.store, "kg", config.hub.log) as store, store.transaction():
            for _ in range(150):
                store.add_answer("tj", b"stuck", [])
        async with kz.running(), kg.running():
            await kz.settled(kz.send(audience=["kg"]))


def troubles(institution):
    return {event["work"] for event in institution.log.of("trouble")}
