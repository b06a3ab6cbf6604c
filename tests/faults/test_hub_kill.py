"""kill -9 of the hub at any time: what was promised holds, and nothing is doubled.

The hub runs as a process of its own while all members send at once. It is killed again and again at
random moments and started anew; whoever got no answer sends the same envelope again. A seed brings
the same choices back.
"""

import asyncio
import json
import multiprocessing
import os
import random
import secrets
import signal
from collections import Counter
from datetime import UTC, datetime

import aiohttp
import pytest

from hub import app
from schemas import acceptance, merkle
from schemas import entry as entries
from schemas.acceptance import Acceptance, Delivery
from schemas.encoding import unb64url
from tests import client
from tests.client import Participant

MEMBERS = ("kz", "kg", "tj", "tm")
SENDERS_EACH = 2


def now():
    return datetime.now(UTC)


# A process that has imported the hub already and forks: ten starts would take ten times as long.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["hub.app"])


class Process:
    """The hub as a process of its own: what ``nhri-hub serve`` runs."""

    def __init__(self, settings, local):
        self.up = asyncio.Event()
        self._settings = settings
        self._local = local

    async def start(self):
        """Start it, and wait until its doors are open."""
        # A daemon ends with us: what a test that failed leaves behind must not hold up its end.
        self._process = FORKS.Process(target=app.serve, args=(self._settings,), daemon=True)
        self._process.start()
        while not await self._answers():
            assert self._process.is_alive(), "the hub did not start"
        self.up.set()

    async def _answers(self):
        try:
            return (await self._local.request("GET", "/readyz")).status == 200
        except aiohttp.ClientError:
            return False

    async def end(self, how):
        """Send it a signal and wait for its end; the exit status."""
        self.up.clear()
        assert self._process.pid is not None
        os.kill(self._process.pid, how)
        await asyncio.to_thread(self._process.join)
        status = self._process.exitcode
        self._process.close()
        return status


class Sender:
    """Sends one message after the other, and each until there is an answer."""

    def __init__(self, process, participant, promised):
        self._process = process
        self._participant = participant
        self._promised = promised
        self.stopping = False

    async def run(self):
        while not self.stopping:
            message = self._participant.message()
            acceptance = await self._until_answered(self._participant.sign(message))
            self._promised.put_nowait((message["id"], acceptance))

    async def _until_answered(self, envelope):
        while True:
            await self._process.up.wait()
            try:
                answer = await self._participant.submit(envelope)
            except aiohttp.ClientError:
                continue
            if answer.code in {"busy", "storage"}:
                continue
            return answer.acceptance()


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.campaign)])
async def test_killing_the_hub_anywhere_loses_and_doubles_nothing(tmp_path, kills):
    seed = secrets.randbits(32)
    print(f"seed of the kills: {seed}")
    settings = client.new_settings(tmp_path)
    async with client.running(settings) as hub:
        for code in MEMBERS:
            await hub.operator.join(hub.participant(code))
    async with client.connected(settings) as (http, local):
        connection = client.Connection(http, settings.url)
        members = {code: Participant(connection, code, now) for code in MEMBERS}
        process = Process(settings, local)
        promised = await send_and_kill(process, members, kills, random.Random(seed))
        async with client.running(settings) as hub:
            await check(hub, members, promised)


async def send_and_kill(process, members, kills, chance):
    """What the members were promised: message id -> acceptance."""
    promised: asyncio.Queue[tuple[str, Acceptance]] = asyncio.Queue()
    answers: list[tuple[str, Acceptance]] = []
    senders = [
        Sender(process, participant, promised)
        for participant in members.values()
        for _ in range(SENDERS_EACH)
    ]
    await process.start()
    async with asyncio.TaskGroup() as group, asyncio.timeout(30 + 10 * kills):
        for sender in senders:
            group.create_task(sender.run())
        for _ in range(kills):
            answers += [await promised.get() for _ in range(chance.randint(1, 40))]
            await asyncio.sleep(chance.uniform(0, 0.02))  # somewhere within what follows
            await process.end(signal.SIGKILL)
            await process.start()
        for sender in senders:
            sender.stopping = True
    assert await process.end(signal.SIGTERM) == 0
    while not promised.empty():
        answers.append(promised.get_nowait())
    assert len(answers) == len(dict(answers))
    return dict(answers)


async def check(hub, members, promised):
    verdict = await hub.operator.get("/v1/audit/verify")
    assert verdict["ok"], verdict
    raws = await whole_log(hub, members["kz"])
    accepted = Counter(
        entry.subject for entry in map(entries.decode, raws) if entry.type == "message.accepted"
    )
    assert accepted == Counter(promised.keys())
    tiles = merkle.append(0, {}, [merkle.leaf_hash(raw) for raw in raws])
    for message_id, given in promised.items():
        opened = hub.open(given)
        assert opened.entry.subject == message_id
        assert unb64url(given.entry) == raws[opened.index]
        assert opened.checkpoint.root == merkle.tree_root(opened.checkpoint.size, tiles)
    for code, member in members.items():
        await check_inbox(hub, code, member, promised)


async def whole_log(hub, reader):
    """Every entry, read from the tiles as anybody would."""
    size = await hub.size()
    raws: list[bytes] = []
    while len(raws) < size:
        n = len(raws) // merkle.TILE_WIDTH
        width = min(size - len(raws), merkle.TILE_WIDTH)
        answer = await reader.get(f"/log/{merkle.tile_path('entries', n, width)}")
        raws += merkle.decode_bundle(answer.body)
    return raws


async def check_inbox(hub, code, member, promised):
    items: list[tuple[int, Delivery]] = []
    while page := await member.inbox(after=len(items)):
        items += page
    assert [position for position, _ in items] == list(range(1, len(items) + 1))
    expected = Counter(
        message_id
        for message_id, given in promised.items()
        if code in acceptance.accepted_private(hub.open(given)).recipients
    )
    assert Counter(client.sent(delivery).id for _, delivery in items) == expected
    for position, delivery in items:
        private = json.loads(unb64url(delivery.private))
        assert private["recipients"][code]["position"] == position
