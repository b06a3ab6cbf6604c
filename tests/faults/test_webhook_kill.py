"""kill -9 of the hub while webhooks leave: each arrives, none is invented, none changes its id.

The hub runs as a process of its own; the endpoints are this test. A seed brings the moments of the
kills back.
"""

import asyncio
import json
import multiprocessing
import os
import random
import secrets
import signal
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from hub import app
from hub.delivery import webhooks
from hub.settings import Webhooks
from schemas import webhook
from schemas.refusal import Refused
from schemas.webhook import PublicKey
from tests import client
from tests.client import Participant

SUBSCRIPTIONS = 10
PATIENCE = 1_200


def now():
    return datetime.now(UTC)


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["hub.app"])


def serve(settings):
    """The hub, which does not wait for minutes until what the killed one claimed is due again."""
    webhooks.LEASE = timedelta(seconds=3)  # type: ignore[misc] # only in this process
    webhooks.ROUND_SECONDS = 0.5  # type: ignore[misc]
    app.serve(settings)


class Process:
    """The hub as a process of its own."""

    def __init__(self, settings, local):
        self._settings = settings
        self._local = local

    async def start(self):
        self._process = FORKS.Process(target=serve, args=(self._settings,))
        self._process.start()
        while not await self._answers():
            assert self._process.is_alive(), "the hub did not start"

    async def _answers(self):
        try:
            return (await self._local.request("GET", "/readyz")).status == 200
        except aiohttp.ClientError:
            return False

    async def end(self, how):
        assert self._process.pid is not None
        os.kill(self._process.pid, how)
        await asyncio.to_thread(self._process.join)
        self._process.close()


class Endpoints:
    """One for each subscription; what arrives is verified and counted."""

    def __init__(self):
        self.key: PublicKey | None = None
        self.got = Counter[tuple[str, str]]()
        self.bodies: dict[tuple[str, str], bytes] = {}
        self.wrong = 0
        self._news = asyncio.Event()

    async def answer(self, request):
        try:
            return await self._take(request)
        except (AssertionError, Refused):
            self.wrong += 1  # else it is a failure that the hub tries again
            raise

    async def _take(self, request):
        body = await request.read()
        event = json.loads(body)
        if event["type"].endswith("challenge.v1"):
            return web.Response(text=event["data"]["challenge"])
        assert self.key is not None
        names = {name.lower(): value for name, value in request.headers.items()}
        webhook.verify([self.key], names, body, now())
        assert names["webhook-id"] == event["id"] == event["data"]["message"]["id"]
        place = request.match_info["number"], event["id"]
        assert self.bodies.setdefault(place, body) == body
        self.got[place] += 1
        self._news.set()
        return web.Response()

    async def until(self, count):
        while len(self.got) < count:
            self._news.clear()
            await self._news.wait()


@asynccontextmanager
async def listening():
    """The endpoints, and the port that they are at."""
    endpoints = Endpoints()
    application = web.Application()
    application.router.add_post("/{number}", endpoints.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield endpoints, runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("messages", "kills"), [(100, 2), pytest.param(1_000, 20, marks=pytest.mark.campaign)]
)
async def test_killing_the_hub_loses_no_webhook_and_invents_none(tmp_path, messages, kills):
    seed = secrets.randbits(32)
    print(f"seed of the kills: {seed}")
    async with listening() as (endpoints, port), asyncio.timeout(PATIENCE):
        allowed = Webhooks(hosts=("127.0.0.1",), networks=("127.0.0.1/32",), ports=(port,))
        settings = replace(client.new_settings(tmp_path), webhooks=allowed)
        async with client.running(settings) as hub:
            await hub.operator.join(hub.participant("kz"))
            await hub.operator.join(hub.participant("undp"), "partner")
        async with client.connected(settings) as (http, local):
            process = Process(settings, local)
            connection = client.Connection(http, settings.url)
            kz, undp = (Participant(connection, code, now) for code in ("kz", "undp"))
            await process.start()
            await subscribe(undp, endpoints, port)
            sent = {await send(kz) for _ in range(messages)}
            await kill(process, endpoints, messages * SUBSCRIPTIONS, kills, random.Random(seed))
    assert set(endpoints.got) == {(str(n), name) for n in range(SUBSCRIPTIONS) for name in sent}
    posts = endpoints.got.total()
    print(f"{len(endpoints.got)} deliveries in {posts} posts; {endpoints.wrong} were not as owed")
    assert endpoints.wrong == 0


async def kill(process, endpoints, expected, kills, chance):
    """Kill it so often while the webhooks leave, then let all of them arrive."""
    before = len(endpoints.got)
    for number in range(1, kills + 1):
        await endpoints.until(before + (expected - before) * number // (kills + 2))
        await asyncio.sleep(chance.uniform(0, 0.02))  # somewhere within what follows
        await process.end(signal.SIGKILL)
        await process.start()
    await endpoints.until(expected)
    await process.end(signal.SIGTERM)


async def subscribe(undp, endpoints, port):
    for number in range(SUBSCRIPTIONS):
        body = {"url": f"http://127.0.0.1:{port}/{number}"}
        made = await undp.post("/v1/subscriptions", json.dumps(body).encode())
        assert made["state"] == "active"
        key = webhook.parse_key(made["key"])
        assert isinstance(key, PublicKey)
        endpoints.key = key


async def send(kz):
    message = kz.message(audience=["undp"], marking="TLP:GREEN")
    answer = await kz.submit(kz.sign(message))
    assert answer.status == 201, answer
    return message["id"]
