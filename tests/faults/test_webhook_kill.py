"""kill -9 of the hub while webhooks leave: each arrives, none is invented, none changes its id.

Messages are sent all the while, so that a kill meets the hub as it records, matches and posts:
100 messages, which are 1,000 deliveries, with 2 kills; in the campaign 10,000 deliveries with 20.
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
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from hub import app
from hub.delivery import webhooks
from hub.settings import Webhooks
from schemas import webhook
from schemas.refusal import Refused
from schemas.webhook import PublicKey, Secret
from tests import client
from tests.client import Participant

SUBSCRIPTIONS = 10
SENDERS = 4
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
        self.keys: dict[str, list[Secret | PublicKey]] = {}
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
        number = request.match_info["number"]
        names = {name.lower(): value for name, value in request.headers.items()}
        for key in self.keys[number]:
            webhook.verify([key], names, body, now())
        assert names["webhook-id"] == event["id"] == event["data"]["message"]["id"]
        place = number, event["id"]
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
            sending = Sending(kz, messages)
            async with asyncio.TaskGroup() as tasks:
                for _ in range(SENDERS):
                    tasks.create_task(sending.run())
                await kill(process, settings, sending, kills, random.Random(seed))
            await endpoints.until(messages * SUBSCRIPTIONS)
            await process.end(signal.SIGTERM)
    owed = {(str(n), name) for n in range(SUBSCRIPTIONS) for name in sending.sent}
    assert set(endpoints.got) == owed
    posts = endpoints.got.total()
    print(f"{len(endpoints.got)} deliveries in {posts} posts; {endpoints.wrong} were not as owed")
    assert endpoints.wrong == 0


class Sending:
    """Sends so many messages; what a killed hub did not answer is sent again as it is."""

    def __init__(self, kz, messages):
        self.sent: set[str] = set()
        self._kz = kz
        self._left = iter(range(messages))
        self._messages = messages
        self._news = asyncio.Event()

    async def run(self):
        for _ in self._left:
            message = self._kz.message(audience=["undp"], marking="TLP:GREEN")
            await self._submit(self._kz.sign(message))
            self.sent.add(message["id"])
            self._news.set()

    async def _submit(self, envelope):
        while True:
            try:
                answer = await self._kz.submit(envelope)
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)  # until it is there again
                continue
            assert answer.status in {200, 201}, answer
            return

    async def until(self, part):
        """Until a part of all is sent."""
        while len(self.sent) < part * self._messages:
            self._news.clear()
            await self._news.wait()


async def kill(process, settings, sending, kills, chance):
    """Kill it so often while messages come and webhooks leave."""
    for number in range(1, kills + 1):
        await sending.until(number / (kills + 2))
        await asyncio.sleep(chance.uniform(0, 0.2))  # somewhere within what follows
        print(f"killed with {unfinished(settings)}")
        await process.end(signal.SIGKILL)
        await process.start()


def unfinished(settings):
    """What a hub has to do; asked before the kill, for what that leaves is not to be touched."""
    with closing(sqlite3.connect(Path(settings.folder) / "hub.sqlite")) as database:
        [(entries, waiting)] = database.execute(
            "SELECT (SELECT size FROM log_head) - (SELECT size FROM webhook_head),"
            " (SELECT count(*) FROM webhook_deliveries WHERE state = 'waiting')"
        )
    return f"{entries} entries to match and {waiting} deliveries to make"


async def subscribe(undp, endpoints, port):
    for number in range(SUBSCRIPTIONS):
        body = {"url": f"http://127.0.0.1:{port}/{number}"}
        made = await undp.post("/v1/subscriptions", json.dumps(body).encode())
        assert made["state"] == "active"
        endpoints.keys[str(number)] = [webhook.parse_key(made[name]) for name in ("secret", "key")]
