"""Revoking and suspending end what is open: nobody goes on reading with a key that ended."""

import asyncio
from datetime import timedelta

import pytest

from hub.doors import exchange
from schemas.encoding import format_time
from tests import builders


async def suspend(hub, kg):
    await hub.operator.post("/v1/members/kg/suspend", reason="a test")


async def revoke(hub, kg):
    await hub.operator.post(f"/v1/keys/{builders.kid(kg.private)}/revoke", reason="compromised")


async def hold(hub, kg):
    await hub.operator.post("/v1/members/kg/hold", reason="the laptop was stolen")


async def revoke_it_itself(hub, kg):
    raw = builders.revoke("kg", builders.kid(kg.private), "kg")
    assert (await kg.post("/v1/keys", raw)).status == 201


async def rotate(hub, kg):
    assert (await kg.post("/v1/keys", builders.rotate("kg", "kg second"))).status == 201


ENDS = [suspend, revoke, hold, revoke_it_itself, rotate]


@pytest.mark.parametrize("end", ENDS)
async def test_an_event_stream_ends_with_the_key_or_the_standing(hub, kz, kg, end):
    await kz.send()
    async with kg.events() as stream:
        assert (await anext(stream)).id == 1
        await end(hub, kg)
        assert [event.id async for event in stream] == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("path", ["/v1/inbox", "/v1/receipts"])
async def test_a_long_poll_ends_with_the_key_or_the_standing(hub, kg, path, end):
    polling = asyncio.create_task(kg.get(path, wait=20))
    while "kg" not in hub.service.bells._bells:
        await hub.operator.get("/livez")
    await end(hub, kg)
    answer = await polling
    assert (answer.status, answer.code) == (403, "forbidden")


async def test_an_event_stream_ends_when_the_key_expires(hub, kz, clock, monkeypatch):
    monkeypatch.setattr(exchange, "HEARTBEAT", 0.02)
    soon = {"expires": format_time(clock() + timedelta(minutes=1))}
    await kz.post("/v1/keys", builders.rotate("kz", "kz second", **soon))
    new = hub.participant("kz", "kz second")
    async with new.events() as stream:
        clock.forward(minutes=1)
        assert [event.id async for event in stream] == []


async def test_an_event_stream_of_others_goes_on(hub, kz, kg):
    tj = hub.participant("tj")
    async with kg.events() as ended, tj.events() as other:
        await suspend(hub, kg)
        assert [event.id async for event in ended] == []
        await kz.send()
        assert (await anext(other)).id == 1
