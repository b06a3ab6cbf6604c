"""``python -m tests.bench.receivers ACCOUNTS COPIES ANSWERS``: the members, as far as they receive.

Every member takes what comes into its inbox, and signs and publishes receipts as a connector does:
one for all that it owes to a sender, and the next when the last is answered. Nothing is verified or
stored here: what is measured is the hub.

It says ``ready`` when everybody consumes, and the time when so many copies have their receipts
recorded, as the hub's acceptances say, and so many submissions their answers.
"""

import asyncio
import collections
import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import aio_pika
import msgspec
import uvloop
from aio_pika.abc import AbstractConnection, AbstractExchange
from aiormq.abc import DeliveredMessage

from schemas import amqp, merkle, receipt
from schemas.acceptance import Delivery
from schemas.encoding import b64url, format_time, unb64url
from schemas.entry import AcceptedPrivate, Entry
from schemas.receipt import MAX_ITEMS, Item, Receipt
from tests.bench import accounts
from tests.bench.accounts import Account

PREFETCH = 200


class Goal:
    """What has to come in, over all members."""

    def __init__(self, copies: int, answers: int) -> None:
        self._copies = copies
        self._answers = answers
        self.reached: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def note(self, copies: int = 0, answers: int = 0) -> None:
        """So many copies have their receipts recorded, so many submissions their answers."""
        self._copies -= copies
        self._answers -= answers
        if self._copies <= 0 and self._answers <= 0 and not self.reached.done():
            self.reached.set_result(time.perf_counter())

    def fail(self, error: BaseException) -> None:
        """It will never be reached."""
        if not self.reached.done():
            self.reached.set_exception(error)

    def end(self, work: "asyncio.Task[None]") -> None:
        """Somebody's work has ended, which never happens without an error."""
        if not work.cancelled() and (error := work.exception()) is not None:
            self.fail(error)


class Receiver:
    """One member."""

    def __init__(self, code: str, account: Account, goal: Goal) -> None:
        self._code = code
        self._private = account.private
        self._goal = goal
        self._came: list[DeliveredMessage] = []
        self._bell = asyncio.Event()
        self._held: set[int] = set()
        self._owed: dict[str, list[Item]] = collections.defaultdict(list)
        self._owes = asyncio.Event()
        self._answers: dict[str, asyncio.Future[None]] = {}

    async def consume(self, connection: AbstractConnection) -> None:
        """Have the broker hand out the inbox."""
        # On the channel below aio-pika's, which costs least: the machine is to work for the hub.
        channel = await (await connection.channel(publisher_confirms=False)).get_underlay_channel()
        await channel.basic_qos(prefetch_count=PREFETCH)
        await channel.basic_consume(amqp.inbox(self._code), self._note)
        self._channel = channel

    async def _note(self, message: DeliveredMessage) -> None:
        self._came.append(message)
        self._bell.set()

    async def take(self) -> None:
        """Take what has come, and acknowledge all of it at once."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            came, self._came = self._came, []
            for message in came:
                self._read(message)
            await self._channel.basic_ack(came[-1].delivery_tag or 0, multiple=True, wait=False)

    def _read(self, message: DeliveredMessage) -> None:
        kind = message.header.properties.message_type
        match kind:
            case amqp.DELIVERY:
                self._hold(msgspec.json.decode(message.body, type=Delivery))
            case amqp.ACCEPTANCE:
                body = msgspec.json.decode(message.body, type=amqp.Acceptances)
                answered = [self._answers.pop(one.id, None) for one in body.acceptances]
                for answer in filter(None, answered):
                    answer.set_result(None)
                self._goal.note(answers=answered.count(None))
            case _:
                raise RuntimeError(f"{self._code}: {kind}: {message.body.decode()}")

    def _hold(self, delivery: Delivery) -> None:
        raw = unb64url(delivery.entry)
        entry = msgspec.json.decode(raw, type=Entry)
        private = msgspec.json.decode(unb64url(delivery.private), type=AcceptedPrivate)
        position = private.recipients[self._code].position
        if position not in self._held:
            self._held.add(position)
            entry_hash = b64url(merkle.leaf_hash(raw))
            item: Item = (entry.subject or "", entry_hash, position, "received", "")
            self._owed[entry.actor].append(item)
            self._owes.set()

    async def answer(self, exchange: AbstractExchange) -> None:
        """Sign a receipt for each sender, offer one after the other, and begin again."""
        while True:
            await self._owes.wait()
            self._owes.clear()
            owed, self._owed = self._owed, collections.defaultdict(list)
            for items in owed.values():
                for start in range(0, len(items), MAX_ITEMS):
                    await self._offer(exchange, items[start : start + MAX_ITEMS])

    async def _offer(self, exchange: AbstractExchange, items: Sequence[Item]) -> None:
        now = format_time(datetime.now(UTC))
        signed = receipt.sign(Receipt(self._code, now, tuple(items)), self._private)
        reference = secrets.token_hex(8)
        answer = self._answers[reference] = asyncio.get_running_loop().create_future()
        message = aio_pika.Message(
            signed,
            type=amqp.RECEIPT,
            user_id=self._code,
            message_id=reference,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await exchange.publish(message, self._code)
        await answer
        self._goal.note(copies=len(items))


async def receive(path: Path, copies: int, answers: int) -> float:
    """Receive until the goal is reached; gives the time of it."""
    goal = Goal(copies, answers)
    tasks = []
    for code, account in accounts.read(path).items():
        connection = await aio_pika.connect(account.url)
        channel = await connection.channel()
        exchange = await channel.get_exchange(amqp.SUBMISSIONS, ensure=False)
        receiver = Receiver(code, account, goal)
        await receiver.consume(connection)
        for work in (receiver.take(), receiver.answer(exchange)):
            task = asyncio.create_task(work)
            task.add_done_callback(goal.end)
            tasks.append(task)
    print("ready", flush=True)
    return await goal.reached


if __name__ == "__main__":
    print(uvloop.run(receive(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))), flush=True)
