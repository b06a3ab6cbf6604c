"""What an endpoint does, and when its webhook is tried again: worker, guard and TLS as they are.

The clock and the jitter are the test's: each delay is as long as the schedule lets it become.
"""

import asyncio
import contextlib
import json
import re
from datetime import timedelta

import pytest
from msgspec.structs import replace

from hub import app
from hub.delivery.guard import Guard
from hub.settings import Webhooks
from schemas.encoding import format_time
from tests.integration.hub.test_webhooks import Owner, attempts, deliveries, forward, send
from tests.ports import free_port
from tests.unit.hub.delivery import test_guard
from tests.unit.hub.delivery.test_guard import DEEDS, NAME, Names

authority = test_guard.authority

HOST = "127.0.0.1"


class Endpoint:
    """A receiver over TLS that answers the challenge, and then does what the test says."""

    def __init__(self):
        self.act = test_guard.write(test_guard.OK)
        self.port = free_port()

    async def start(self, context):
        self._server = await asyncio.start_server(self._serve, HOST, self.port, ssl=context)

    async def stop(self):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            [length] = re.findall(rb"Content-Length: (\d+)", head)
            event = json.loads(await reader.readexactly(int(length)))
            if event["type"].endswith("challenge.v1"):
                text = event["data"]["challenge"]
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + text.encode())
            else:
                await asyncio.gather(self.act(writer) or asyncio.sleep(0))
            await writer.drain()
        writer.close()


@pytest.fixture
async def endpoint(authority):
    made = Endpoint()
    await made.start(authority.serving(NAME))
    yield made
    await made.stop()


@pytest.fixture
def settings(settings, endpoint, authority, monkeypatch):
    """The endpoint's name leads to this machine, and its certificate is of an authority here."""
    monkeypatch.setattr(
        app, "Guard", lambda allowed: Guard(allowed, resolve=Names([HOST]), tls=authority.trusting)
    )
    allowed = Webhooks(networks=(f"{HOST}/32",), ports=(443, endpoint.port))
    return replace(settings, webhooks=allowed)


@pytest.fixture
async def undp(hub):
    return Owner(hub.participant("undp"))


@pytest.fixture
async def made(hub, undp, endpoint, monkeypatch):
    """A subscription that is proven; from here on each delay grows by all that it may."""
    subscribed = await undp.subscribe(f"https://{NAME}:{endpoint.port}/hook")
    assert subscribed["state"] == "active"
    monkeypatch.setattr(hub.service.webhooks, "_random_bytes", lambda size: b"\xff" * size)
    return subscribed


async def is_tried_twice(hub, clock, undp, made, said, asked):
    """One attempt now and one when it is due: what was said, and when the next one comes."""
    for number, delay in enumerate((5.5, 330), 1):
        latest, *_ = await attempts(undp, made, number)
        assert (latest["status"], latest["error"]) == said
        seconds = max(delay, asked)
        due = format_time(clock() + timedelta(seconds=seconds))
        assert deliveries(hub, made) == [("waiting", number, due)]
        forward(hub, clock, seconds=seconds)


@pytest.mark.parametrize("deed", [deed for deed, (*_, seconds) in DEEDS.items() if seconds])
async def test_a_failure_is_tried_again_when_the_schedule_says(
    hub, clock, undp, made, endpoint, monkeypatch, deed
):
    endpoint.act, limits, status, error, seconds = DEEDS[deed]
    monkeypatch.setattr(hub.service.webhooks._guard, "_limits", limits)
    await send(hub.participant("kz"))
    await is_tried_twice(hub, clock, undp, made, (status, error), seconds)


@pytest.mark.parametrize("deed", [deed for deed, (*_, seconds) in DEEDS.items() if not seconds])
async def test_what_ends_a_delivery_leaves_nothing_to_try(hub, kz, undp, made, endpoint, deed):
    endpoint.act, _, status, *_ = DEEDS[deed]
    await send(kz)
    [tried] = await attempts(undp, made, 1)
    assert (tried["status"], tried["error"]) == (status, None)
    assert deliveries(hub, made) == [("dead" if status == 410 else "delivered", 1, None)]


async def test_an_endpoint_whose_certificate_has_expired_is_tried_again_as_any_other(
    hub, clock, kz, undp, made, endpoint, authority
):
    await endpoint.stop()
    await endpoint.start(authority.serving(NAME, days=-1))
    await send(kz)
    expired = "The endpoint's certificate is not accepted: certificate has expired."
    await is_tried_twice(hub, clock, undp, made, (None, expired), 0)
