"""The hub on a real RabbitMQ: who may do what, what a crash leaves, and who holds up whom."""

import asyncio
import contextlib
import gc
import json
import shutil
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPError
from aiormq.exceptions import ChannelAccessRefused, ChannelPreconditionFailed
from msgspec.structs import replace
from pamqp import encode
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from hub import upkeep
from hub.delivery import broker as connections
from hub.delivery import burst, quarantine, stuck, topology
from hub.delivery import publisher as publishing
from hub.delivery.quarantine import Quarantine
from hub.doors import amqp as door
from hub.doors import quarantine as quarantine_door
from hub.doors import submissions
from schemas import amqp, jsontext
from schemas import entry as entries
from schemas.acceptance import Acceptance, Delivery
from schemas.amqp import Acceptances, Refusal
from schemas.encoding import unb64url
from tests import broker as brokers
from tests import builders, client
from tests.integration.hub.test_metrics import measures
from tests.ports import free_port
from tests.simulator.waiting import until

EVERYBODY = ("kz", "kg", "tj", "tm", "undp", "guest")


@pytest.fixture
def clock():
    """The machine's own, instead of one that stands still."""
    return lambda: datetime.now(UTC)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    """What the hub does from time to time, it does at once."""
    monkeypatch.setattr(publishing, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(publishing, "ROUND_LOOKS", 4)
    monkeypatch.setattr(publishing, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(publishing, "CLAIM_SECONDS", 0.1)
    monkeypatch.setattr(connections, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(door, "BUSY_PAUSE", 0.05)


@pytest.fixture
async def hub(settings, clock, broker):
    """A hub on the broker that everybody has joined."""
    async with client.running(broker.settings(settings)) as running:
        await broker.ready(running)
        yield running


class Mailbox:
    """A participant that speaks AMQP itself: publishes, and keeps all that comes to its inbox."""

    def __init__(self, participant, channel):
        self.participant = participant
        self.code = participant.code
        self.channel = channel
        self.deliveries: list[Delivery] = []
        self.headers: list[dict[str, object]] = []
        self.acceptances: dict[str, Acceptance] = {}
        self.refusals: dict[str, Refusal] = {}
        self.receipting = False

    async def open(self):
        await brokers.take_all(self.channel, amqp.inbox(self.code), self._take)

    async def _take(self, message):
        match message.type:
            case amqp.DELIVERY:
                self.headers.append(message.headers)
                self.deliveries.append(jsontext.decode(message.body, Delivery))
                if self.receipting:
                    await self._receipt(self.deliveries[-1])
            case amqp.ACCEPTANCE:
                found = jsontext.decode(message.body, Acceptances).acceptances
                self.acceptances.update({one.id: one.acceptance for one in found})
            case amqp.REFUSAL:
                refusal = jsontext.decode(message.body, Refusal)
                self.refusals[refusal.id] = refusal
        await message.ack()

    async def _receipt(self, delivery):
        position = positions(self.code, delivery)
        signed = self.participant.receipt((position, delivery))
        await self.publish(signed, "receipt", type=amqp.RECEIPT)

    async def publish(self, body, message_id, **properties):
        await brokers.publish(self.channel, self.code, body, message_id=message_id, **properties)

    async def send(self, message_id="1", **overrides):
        envelope = self.participant.sign(self.participant.message(**overrides))
        await self.publish(envelope, message_id)
        return envelope

    async def answered(self, *ids):
        await until(
            lambda: {*ids} <= {*self.acceptances, *self.refusals},
            f"answers to {ids} for {self.code}",
        )

    async def received(self, count):
        await until(lambda: len(self.deliveries) >= count, f"{count} deliveries to {self.code}")


async def came(box, count):
    """Wait for so many positions, each perhaps more than once."""
    await until(lambda: in_order(box) == [*range(1, count + 1)], f"{count} positions in order")


def in_order(box):
    """The positions of what came, each where it came first."""
    return [*dict.fromkeys(positions(box.code, each) for each in box.deliveries)]


def positions(code, delivery):
    return json.loads(unb64url(delivery.private))["recipients"][code]["position"]


@pytest.fixture
async def mailbox(hub, broker):
    """Open somebody's mailbox."""
    async with contextlib.AsyncExitStack() as stack:

        async def opened(code, *, consume=True):
            channel = await stack.enter_async_context(broker.channel(code, on_return_raises=True))
            made = Mailbox(hub.participant(code), channel)
            if consume:
                await made.open()
            return made

        yield opened


async def accepted_entries(hub, subject):
    found = await hub.operator.get("/v1/audit/events", type=entries.MESSAGE_ACCEPTED, limit=500)
    return [event for event in found["events"] if event["entry"]["subject"] == subject]


# What a member's account may not do

Attempt: TypeAlias = Callable[[AbstractChannel], Awaitable[object]]


async def exchange_of(channel: AbstractChannel, name: str) -> aio_pika.abc.AbstractExchange:
    return await channel.get_exchange(name, ensure=False)


def publishing_to(name: str, key: str, user: str = "kz") -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        exchange = channel.default_exchange if name == "" else await exchange_of(channel, name)
        await exchange.publish(aio_pika.Message(b"{}", user_id=user), key, timeout=10)

    return attempt


def consuming(name: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        async def nothing(message: object) -> None:
            pass

        await (await channel.get_queue(name, ensure=False)).consume(nothing)

    return attempt


def getting(name: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        await (await channel.get_queue(name, ensure=False)).get(fail=False)

    return attempt


def purging(name: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        await (await channel.get_queue(name, ensure=False)).purge()

    return attempt


def binding(name: str, source: str, key: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        await (await channel.get_queue(name, ensure=False)).bind(source, key)

    return attempt


def unbinding(name: str, source: str, key: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> None:
        await (await channel.get_queue(name, ensure=False)).unbind(source, key)

    return attempt


async def binding_exchanges(channel: AbstractChannel) -> None:
    await (await exchange_of(channel, amqp.SUBMISSIONS)).bind(amqp.DELIVERIES, "inbox.kg")


async def deleting_an_exchange(channel: AbstractChannel) -> None:
    await channel.exchange_delete(amqp.DELIVERIES)


ATTEMPTS: dict[str, Attempt] = {
    "publish with another's routing key": publishing_to(amqp.SUBMISSIONS, "kg"),
    "publish with a routing key that begins with its own": publishing_to(amqp.SUBMISSIONS, "kz.kg"),
    "publish as another user": publishing_to(amqp.SUBMISSIONS, "kz", user="kg"),
    "publish as the hub": publishing_to(amqp.SUBMISSIONS, "kz", user="hub"),
    "publish a delivery into another's inbox": publishing_to(amqp.DELIVERIES, "inbox.kg"),
    "publish a delivery into its own inbox": publishing_to(amqp.DELIVERIES, "inbox.kz"),
    "publish into quarantine": publishing_to(amqp.QUARANTINE, ""),
    "publish into another's inbox by the queue's name": publishing_to("", "inbox.kg"),
    "publish to the hub by the queue's name": publishing_to("", amqp.SUBMISSIONS_QUEUE),
    "consume another's inbox": consuming("inbox.kg"),
    "consume what others submit": consuming(amqp.SUBMISSIONS_QUEUE),
    "consume the quarantine": consuming(amqp.QUARANTINE),
    "get from another's inbox": getting("inbox.kg"),
    "get what others submit": getting(amqp.SUBMISSIONS_QUEUE),
    "purge another's inbox": purging("inbox.kg"),
    "purge what others submit": purging(amqp.SUBMISSIONS_QUEUE),
    "delete another's inbox": lambda channel: channel.queue_delete("inbox.kg"),
    "delete its own inbox": lambda channel: channel.queue_delete("inbox.kz"),
    "delete an exchange": deleting_an_exchange,
    "declare a queue": lambda channel: channel.declare_queue("inbox.kz2", durable=True),
    "declare an exchange": lambda channel: channel.declare_exchange("mine"),
    "bind its inbox to another's deliveries": binding("inbox.kz", amqp.DELIVERIES, "inbox.kg"),
    "bind its inbox to what others submit": binding("inbox.kz", amqp.SUBMISSIONS, "#"),
    "unbind another's inbox": unbinding("inbox.kg", amqp.DELIVERIES, "inbox.kg"),
    "bind exchanges": binding_exchanges,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(brokers):
    """A broker with everything on it and no hub."""
    made = await brokers.new()
    async with made.channel() as channel:
        await connections.declare(channel, ("kz", "kg"))
    return made


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_the_broker_refuses_a_member_s_account_to(site, attempt):
    async with site.channel("kz") as channel:
        with pytest.raises((ChannelAccessRefused, ChannelPreconditionFailed)):
            await ATTEMPTS[attempt](channel)
    async with site.channel() as channel:
        depths = {**await connections.declare(channel, ("kz", "kg"))}
    depths["hub"] = await site.depth(amqp.SUBMISSIONS_QUEUE)
    assert set(depths.values()) == {connections.Depth(0, 0)}


async def test_the_broker_refuses_a_member_s_account_another_virtual_host(site):
    url = site.node.url_for("/", "kz", brokers.PASSWORDS["kz"])
    with pytest.raises(AMQPError):
        await aio_pika.connect(url)


async def test_the_broker_lets_a_member_s_account_do_what_it_is_for(site):
    async with site.channel("kz") as channel:
        await publishing_to(amqp.SUBMISSIONS, "kz")(channel)
        await consuming("inbox.kz")(channel)
    async with site.channel() as channel:
        queue = await channel.get_queue(amqp.SUBMISSIONS_QUEUE)
        message = await queue.get()
        assert (message.user_id, message.routing_key) == ("kz", "kz")
        await message.ack()


# A message


async def test_one_publish_reaches_all_recipients(mailbox):
    kz, kg, tj = await mailbox("kz"), await mailbox("kg"), await mailbox("tj")
    envelope = await kz.send(audience=["kg", "tj"])
    await kg.received(1)
    await tj.received(1)
    # Both got the very message that was published to the one with the other as carbon copy.
    assert kg.headers == tj.headers
    (copies,) = (list(headers["CC"]) for headers in kg.headers)
    assert len(copies) == 1
    assert set(copies) < {"inbox.kg", "inbox.tj"}
    assert kg.deliveries == tj.deliveries
    assert client.envelope(kg.deliveries[0]) == envelope


async def test_each_publish_is_timed_to_its_confirm_and_each_copy_to_its_receipt(hub, mailbox):
    before = await measures(hub.operator)
    kz, kg = await mailbox("kz"), await mailbox("kg", consume=False)
    await kz.send(audience=["kg"])
    await kz.answered("1")
    await until_measured(hub, ("nhri_hub_queue_messages", "inbox.kg"), 1)
    kg.receipting = True
    await kg.open()
    await until_measured(hub, ("nhri_hub_receipt_seconds_count",), 1)
    after = await measures(hub.operator)
    assert after["nhri_hub_receipt_seconds_sum",] > 0
    # The delivery, and kz's acceptance; kg's, of its receipt, may be on its way.
    confirmed = ("nhri_hub_publish_seconds_count",)
    assert after[confirmed] - before[confirmed] >= 2
    assert after[confirmed] == after["nhri_hub_publishes_total", "confirmed"]
    assert after["nhri_hub_publish_seconds_sum",] > before["nhri_hub_publish_seconds_sum",]


async def test_the_answer_names_what_it_is_to(hub, mailbox):
    kz = await mailbox("kz")
    await kz.send("yes")
    await kz.send("no", kind="no_such_kind.v1")
    await kz.answered("yes", "no")
    assert hub.open(kz.acceptances["yes"]).entry.type == entries.MESSAGE_ACCEPTED
    assert (kz.refusals["no"].code, kz.refusals["no"].retryable) == ("unknown-kind", False)
    assert hub.open(kz.refusals["no"].refusal).entry.type == entries.MESSAGE_REFUSED


async def test_a_line_has_the_trace_that_the_sender_named(mailbox):
    kz, trace = await mailbox("kz"), "4bf92f3577b34da6a3ce929d0e0e4736"
    named = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    with capture_logs([merge_contextvars]) as logs:
        await kz.publish(kz.participant.sign(kz.participant.message()), "yes", headers=named)
        await kz.publish(b"no envelope", "no", headers=named)
        await kz.publish(b"no envelope", "not a trace", headers={"traceparent": 7})
        await kz.answered("yes", "no", "not a trace")
    lines = [line for line in logs if line["event"] == "submission"]
    assert [line.get("trace_id") for line in lines] == [trace, trace, None]


async def test_an_observer_cannot_send(mailbox):
    guest = await mailbox("guest")
    await guest.send("1", audience=["kz"])
    await guest.answered("1")
    assert guest.refusals["1"].code == "forbidden"


async def test_who_joins_while_the_hub_runs_gets_its_messages(hub, mailbox):
    uz = hub.participant("uz")
    await hub.operator.join(uz)
    kz = await mailbox("kz")
    await kz.send(audience=["uz"])
    await kz.answered("1")
    await until(lambda: "uz" in hub.service.publisher._surveyed, "the new inbox")
    assert (await (await mailbox("uz")).received(1)) is None


# Crashes


async def test_what_was_committed_and_not_answered_is_answered_after_a_crash(
    settings, clock, broker, monkeypatch
):
    silent = asyncio.Event()

    async def nobody(self, code, kind, body):
        silent.set()
        await asyncio.Event().wait()

    async with contextlib.AsyncExitStack() as stack:
        channel = await stack.enter_async_context(broker.channel("kz"))
        with monkeypatch.context() as patch:
            patch.setattr(publishing.Publisher, "answer", nobody)
            async with client.running(broker.settings(settings)) as hub:
                await broker.ready(hub)
                kz = Mailbox(hub.participant("kz"), channel)
                await kz.open()
                await kz.send()
                await silent.wait()
                size = await hub.size()
        assert kz.acceptances == {}
        async with client.running(broker.settings(settings)) as hub:
            await kz.answered("1")
            opened = hub.open(kz.acceptances["1"])
            assert opened.index == size - 1
            assert len(await accepted_entries(hub, opened.entry.subject)) == 1


async def test_what_was_recorded_and_not_delivered_is_delivered_after_a_crash(
    settings, clock, broker, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(publishing.Publisher, "committed", lambda self, committed: None)
        patch.setattr(publishing.Publisher, "_look", lambda self: asyncio.sleep(0))
        async with client.running(broker.settings(settings)) as hub:
            await broker.ready(hub)
            (await hub.participant("kz").send(audience=["kg"])).acceptance()
            assert (await broker.depth("inbox.kg")).waiting == 0
    async with (
        client.running(broker.settings(settings)) as hub,
        broker.channel("kg") as channel,
    ):
        kg = Mailbox(hub.participant("kg"), channel)
        await kg.open()
        await kg.received(1)


async def test_a_hub_that_cannot_store_leaves_the_message_with_the_broker(
    hub, mailbox, monkeypatch
):
    async def full(*_):
        raise OSError(28, "No space left on device")

    kz = await mailbox("kz")
    journal = hub.service.recorder._journal
    with monkeypatch.context() as patch:
        patch.setattr(journal, "transact", full)
        await kz.send()
        await until(lambda: hub.service.recorder.failing, "the store fails")
    await kz.answered("1")
    assert hub.open(kz.acceptances["1"]).entry.type == entries.MESSAGE_ACCEPTED


async def test_a_broker_that_stops_and_starts_is_used_again(hub, broker, mailbox):
    kz = await mailbox("kz")
    await kz.send()
    await kz.answered("1")
    await broker.node.stop_app()
    waiting = hub.participant("kz")
    sent = waiting.sign(waiting.message())
    assert (await waiting.submit(sent)).status == 201
    await broker.node.start_app()
    await broker.ready(hub)
    kg = await mailbox("kg")
    await kg.received(2)
    assert {client.envelope(delivery) for delivery in kg.deliveries} >= {sent}


async def test_queues_that_are_deleted_under_it_are_made_again(hub, broker, mailbox):
    async with broker.channel() as channel:
        await channel.queue_delete(amqp.SUBMISSIONS_QUEUE)
        await channel.queue_delete("inbox.kg")
    kz = await mailbox("kz")
    async with asyncio.timeout(90):
        while True:
            try:
                await kz.send()
                break
            except AMQPError:  # no queue yet: returned to the sender, and not lost
                await asyncio.sleep(0.05)
    await kz.answered("1")
    await broker.ready(hub)
    kg = await mailbox("kg", consume=False)

    async def arrived():
        return (await broker.depth("inbox.kg")).waiting

    await brokers.eventually(arrived, "the inbox is there again")
    await kg.open()
    await kg.received(1)


async def test_copies_that_are_lost_with_their_queue_are_published_again(hub, broker, mailbox):
    for _ in range(3):
        (await hub.participant("kz").send(audience=["kg"])).acceptance()

    async def arrived():
        return (await broker.depth("inbox.kg")).waiting == 3

    await brokers.eventually(arrived, "they wait in the inbox")
    async with broker.channel() as channel:
        await channel.queue_delete("inbox.kg")
    await brokers.eventually(arrived, "they are there again", seconds=60)
    kg = await mailbox("kg")
    await kg.received(3)
    assert in_order(kg) == [1, 2, 3]


@pytest.mark.parametrize("deleted", [False, True], ids=["until it works again", "until deleted"])
async def test_an_inbox_for_which_the_broker_confirms_nothing_keeps_no_other_waiting(
    hub, broker, mailbox, monkeypatch, deleted
):
    monkeypatch.setattr(burst, "STUCK_SECONDS", 1.0)
    monkeypatch.setattr(stuck, "ASK_SECONDS", 0.1)
    kz, kg, tj = [await mailbox(code) for code in ("kz", "kg", "tj")]
    with capture_logs() as logs:
        async with broker.stuck("inbox.tj"):
            sent = await tj.send("from tj", audience=["kg"])
            for number in range(10):
                await kz.send(f"{number}", audience=["kg", "tj", "tm"])
            await kz.answered(*map(str, range(10)))
            await kg.received(11)
            await until_measured(hub, ("nhri_hub_inboxes_stuck",), 1)
            # Nor does it afterwards, and what its owner submits is recorded.
            for number in range(10, 20):
                await kz.send(f"{number}", audience=["kg", "tj", "tm"])
                await tj.send(f"{number}", audience=["kg"])
            await kz.answered(*map(str, range(10, 20)))
            await kg.received(31)
            assert (tj.acceptances, tj.deliveries) == ({}, [])
            if deleted:
                await broker.node.ctl("delete_queue", "-p", broker.vhost, "inbox.tj")

                async def refilled():
                    return (await broker.depth("inbox.tj")).waiting >= 20

                await brokers.eventually(refilled, "the queue is there again")
                tj = await mailbox("tj")
        await tj.received(20)
        await tj.publish(sent, "from tj")
        await tj.answered("from tj")
    assert in_order(tj) == list(range(1, 21))
    assert in_order(kg) == list(range(1, 32))
    said = [(entry["event"], entry.get("recipient")) for entry in logs]
    # RabbitMQ may have an internal error of its own where a queue goes while it is asked for.
    assert [one for one in said if one[0].startswith("inbox.") and one[0] != "inbox.unsure"] == [
        ("inbox.stuck", "tj"),
        ("inbox.works-again", "tj"),
    ]


async def test_a_hub_that_begins_with_a_stuck_inbox_fills_the_others(settings, clock, broker):
    """RabbitMQ waits for that one with the very first message, and holds back others' confirms."""
    async with client.running(broker.settings(settings)) as hub:
        await broker.ready(hub)
    async with client.running(settings) as hub:
        kz = hub.participant("kz")
        for audience in (["kg"], ["tj"], ["kg"], ["tm"], ["kg", "tj"], ["kg"]):
            (await kz.send(audience=audience)).acceptance()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(broker.stuck("inbox.tj"))
        hub = await stack.enter_async_context(client.running(broker.settings(settings)))
        boxes = [
            Mailbox(hub.participant(code), await stack.enter_async_context(broker.channel(code)))
            for code in ("kg", "tm")
        ]
        for box, count in zip(boxes, (4, 1), strict=True):
            await box.open()
            await came(box, count)


async def test_a_channel_that_the_broker_closes_is_replaced_and_nothing_is_lost(
    hub, broker, mailbox, capsys
):
    """Alone: publishing to an exchange that is gone leaves the connection as it is."""
    async with broker.channel() as channel:
        await channel.exchange_delete(amqp.DELIVERIES)
    (await hub.participant("kz").send(audience=["kg"])).acceptance()
    said: list[str] = []

    async def noticed():
        said.append(capsys.readouterr().out)
        return "NOT_FOUND - no exchange 'deliveries'" in "".join(said)

    await brokers.eventually(noticed, "the channel is closed")
    kz, kg = await mailbox("kz"), await mailbox("kg")
    await kg.received(1)
    await kz.send()
    await kz.answered("1")


async def hub_blocked(hub):
    text = (await hub.operator.get("/metrics")).body.decode()
    return "nhri_hub_broker_blocked 1.0" in text


async def test_under_an_alarm_it_says_so_nothing_is_lost_and_http_goes_on(
    hub, broker, mailbox, capsys, monkeypatch
):
    monkeypatch.setattr(connections, "ALARM_SECONDS", 0.05)
    kz = await mailbox("kz")
    async with broker.node.alarm("memory"):
        sending = asyncio.create_task(kz.send())
        answer = await hub.participant("tj").send(audience=["kg"])
        assert hub.open(answer.acceptance()).entry.type == entries.MESSAGE_ACCEPTED
        assert not sending.done()
        await until(lambda: "RabbitMQ is short of memory or disk" in capsys.readouterr().out)
        assert await hub_blocked(hub)
    await sending
    await kz.answered("1")
    await until(lambda: "broker.alarm-over" in capsys.readouterr().out, "it says that it is over")
    assert not await hub_blocked(hub)
    kg = await mailbox("kg")
    await kg.received(2)


async def test_with_a_wrong_password_it_says_so_and_comes_back(hub, broker, settings, capsys):
    right = brokers.PASSWORDS["hub"]
    await broker.node.ctl("change_password", "hub", "another")
    try:
        await broker.node.ctl("close_all_connections", "--vhost", broker.vhost, "a test")
        await until(lambda: not hub.service.publisher._ready, "the connection ends")
        await until(lambda: "ACCESS_REFUSED" in capsys.readouterr().out, "it says why")
    finally:
        await broker.node.ctl("change_password", "hub", right)
    await broker.ready(hub)


async def test_a_changed_password_is_taken_from_its_file_without_a_restart(
    settings, clock, broker, tmp_path, monkeypatch, capsys
):
    file = tmp_path / "broker_url"
    file.write_text(broker.url("hub"))
    monkeypatch.setenv("NHRI_BROKER_URL_FILE", str(file))
    right = brokers.PASSWORDS["hub"]
    async with client.running(broker.settings(settings)) as hub:
        await broker.ready(hub)
        await broker.node.ctl("change_password", "hub", "another")
        try:
            await broker.node.ctl("close_all_connections", "--vhost", broker.vhost, "a test")
            await until(lambda: "ACCESS_REFUSED" in capsys.readouterr().out, "it says why")
            file.write_text(broker.url("hub").replace(right, "another"))
            publisher = hub.service.publisher
            assert publisher is not None
            await until(lambda: publisher._ready, "it is back")
            assert (await hub.operator.get("/v1/quarantine")).status == 200
        finally:
            await broker.node.ctl("change_password", "hub", right)


@pytest.fixture
async def broker_without_limit(broker):
    """The same for whoever opens a channel now, with the limit that RabbitMQ has by itself."""

    async def limit(size):
        await broker.node.ctl("eval", f"application:set_env(rabbit, max_message_size, {size}).")

    await limit(134217728)
    yield broker
    await limit(topology.MAX_MESSAGE)


async def test_a_broker_that_takes_too_large_messages_is_named_with_what_to_do(
    settings, clock, broker_without_limit, capsys
):
    async with client.running(broker_without_limit.settings(settings)) as hub:
        await broker_without_limit.ready(hub)
    said = capsys.readouterr().out
    assert "Set max_message_size = 1048576 in rabbitmq.conf and restart RabbitMQ" in said


async def test_a_broker_with_the_limit_is_not(settings, clock, broker, capsys):
    async with client.running(broker.settings(settings)) as hub:
        await broker.ready(hub)
    assert "max_message_size" not in capsys.readouterr().out


# Who is slow


async def test_a_full_recipient_holds_up_nobody_and_catches_up_in_order(settings, clock, broker):
    small = broker.settings(settings, outstanding=10)
    async with client.running(small) as hub, contextlib.AsyncExitStack() as stack:
        await broker.ready(hub)
        boxes = {}
        for code in ("kz", "kg", "tj"):
            channel = await stack.enter_async_context(broker.channel(code))
            boxes[code] = Mailbox(hub.participant(code), channel)
        kz, kg, tj = boxes.values()
        tj.receipting = kg.receipting = True
        await kz.open()
        await tj.open()
        for number in range(40):
            await kz.send(f"{number}", audience=["kg", "tj"])
        await tj.received(40)
        # A copy may come twice; what does not is the other thirty.
        assert (await broker.depth("inbox.kg")).waiting < 20
        await kg.open()
        await kg.received(40)
        # A copy whose receipt is late may come again.
        everything = list(range(1, 41))
        await until(lambda: in_order(tj) == everything, "all, in order")
        await until(lambda: in_order(kg) == everything, "all, in order, if later")


async def test_an_inbox_that_nobody_consumes_does_not_grow_with_receipts_over_http(
    settings, clock, broker
):
    small = broker.settings(settings, outstanding=5)
    async with client.running(small) as hub:
        await broker.ready(hub)
        kz, kg = hub.participant("kz"), hub.participant("kg")
        publisher = hub.service.publisher
        assert publisher is not None
        for position in range(1, 21):
            (await kz.send(audience=["kg"])).acceptance()
            delivery = await kg.inbox(after=position - 1)
            (await kg.post("/v1/receipts", kg.receipt(*delivery))).acceptance()
            if position == 10:
                await until(lambda: publisher._lanes["kg"].parked, "the lane is parked")
        full = (await broker.depth("inbox.kg")).waiting
        assert full <= 10
        async with broker.channel("kg") as channel:
            box = Mailbox(kg, channel)
            await box.open()
            (await kz.send(audience=["kg"])).acceptance()
            await box.received(full + 1)
            assert positions("kg", box.deliveries[-1]) == 21


async def test_of_two_hubs_one_fills_the_inboxes_and_the_other_takes_over(
    settings, clock, broker, postgresql, tmp_path
):
    shared = replace(settings, store=replace(settings.store, url=postgresql.url))
    first = broker.settings(shared)
    shutil.copytree(settings.folder, tmp_path / "other")
    http = replace(shared.http, port=free_port())
    other = replace(first, http=http, folder=str(tmp_path / "other"))
    async with contextlib.AsyncExitStack() as stack:
        running = contextlib.AsyncExitStack()
        one = await running.enter_async_context(client.running(first))
        for code in ("kz", "kg"):
            await one.operator.join(one.participant(code))
        await broker.ready(one)
        two = await stack.enter_async_context(client.running(other))
        channel = await stack.enter_async_context(broker.channel("kg"))
        kg = Mailbox(two.participant("kg"), channel)
        await kg.open()
        for hub in (one, two, two, one, two):
            (await hub.participant("kz").send(audience=["kg"])).acceptance()
        await kg.received(5)
        publisher = two.service.publisher
        assert publisher is not None
        assert not publisher._ready
        await running.aclose()
        await until(lambda: publisher._ready, "the other takes over")
        (await two.participant("kz").send(audience=["kg"])).acceptance()

        def arrived():
            # The last ones may come a second time, as after any crash; none is left out.
            return [*dict.fromkeys(positions("kg", each) for each in kg.deliveries)]

        await until(lambda: arrived() == [1, 2, 3, 4, 5, 6], "all have come in order")


async def test_what_another_hub_has_just_recorded_about_a_sender_holds_at_once(
    settings, clock, broker, postgresql, tmp_path, monkeypatch
):
    monkeypatch.setattr(upkeep, "FOLLOW_SECONDS", 3_600)  # it does not look by itself
    elsewhere = replace(settings, store=replace(settings.store, url=postgresql.url))
    shutil.copytree(settings.folder, tmp_path / "other")
    shared = replace(elsewhere, folder=str(tmp_path / "other"))
    shared = broker.settings(replace(shared, http=replace(shared.http, port=free_port())))
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(client.running(elsewhere))
        for code in ("kz", "kg"):
            await one.operator.join(one.participant(code))
        two = await stack.enter_async_context(client.running(shared))
        await broker.ready(two)
        kz, kg, uz = (one.participant(code) for code in ("kz", "kg", "uz"))
        assert (await kz.send(audience=["kg"])).status == 201

        async def taken(participant, body, **properties):
            channel = await stack.enter_async_context(broker.channel(participant.code))
            box = Mailbox(participant, channel)
            await box.publish(body, "1", **properties)

            async def something_came():
                return (await broker.depth(amqp.inbox(box.code))).waiting

            await brokers.eventually(something_came, "there is an inbox with something in it")
            await box.open()
            await box.answered("1")
            assert box.refusals == {}

        await kg.post("/v1/keys", builders.rotate("kg", "kg second"))
        kg.private = builders.key("kg second")
        await taken(kg, kg.receipt(*await kg.inbox()), type=amqp.RECEIPT)

        await kz.post("/v1/keys", builders.rotate("kz", "kz second"))
        kz.private = builders.key("kz second")
        await taken(kz, kz.sign(kz.message(audience=["kg"])))

        await one.operator.join(uz)
        await taken(uz, uz.sign(uz.message(audience=["kg"])))


# The quarantine


@pytest.fixture
def unreadable(mailbox, monkeypatch):
    """Ways to send a header that the library cannot read; each says what it published."""

    async def published(kind, written, body, **properties):
        kz = await mailbox("kz")
        with monkeypatch.context() as patch:
            patch.setitem(encode.METHODS, kind, written)
            await kz.publish(body, **properties)
        return body

    async def far_future():
        micro = struct.pack(">Q", 1_700_000_000_000_000)  # what is in seconds, in microseconds
        now = datetime.now(UTC)
        return await published("timestamp", lambda _: micro, b"late", message_id="1", timestamp=now)

    async def no_utf8():
        def written(value):
            return b"\x02\xff\xfe" if value == "BAD" else encode.short_string(value)

        return await published("shortstr", written, b"no utf-8", message_id="BAD")

    async def deep_table():
        deep = b""
        for _ in range(2_000):
            deep = b"\x01aF" + struct.pack(">I", len(deep)) + deep
        table = struct.pack(">I", len(deep)) + deep
        return await published("table", lambda _: table, b"deep", message_id="1", headers={"a": 1})

    return locals()


@pytest.fixture
def poisons(hub, mailbox, broker, monkeypatch, unreadable):
    """Ways to send what cannot even be refused; each says what it published."""

    async def unknown_user():
        async with broker.channel("uz") as channel:
            uz = Mailbox(hub.participant("uz"), channel)
            return await uz.send()

    async def unknown_type():
        kz = await mailbox("kz")
        envelope = kz.participant.sign(kz.participant.message())
        await kz.publish(envelope, "1", type="surprise")
        return envelope

    async def no_user():
        kz = await mailbox("kz")
        envelope = kz.participant.sign(kz.participant.message())
        await kz.publish(envelope, "1", user_id=None)
        return envelope

    async def wrong_routing_key():
        async with broker.channel() as channel:
            await brokers.publish(channel, "hub", b"poison", key="kz")
            return b"poison"

    async def fault():
        def broken(*_):
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setitem(submissions.OPEN, amqp.MESSAGE, broken)
            kz = await mailbox("kz")
            envelope = await kz.send()
            await until_quarantined(hub, envelope)
        return envelope

    return unreadable | locals()


async def until_quarantined(hub, body):
    """What the hub says of a message, once it is in quarantine."""
    found: list[dict[str, object]] = []

    async def is_there():
        messages = (await hub.operator.get("/v1/quarantine"))["messages"]
        found.extend(each for each in messages if each["digest"] == entries.digest(body))
        return found

    await brokers.eventually(is_there, "it is in quarantine")
    return found[0]


async def events(hub, kind):
    return (await hub.operator.get("/v1/audit/events", type=kind))["events"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unknown_user", "'uz' is no participant"),
        ("unknown_type", "no type 'surprise'"),
        ("no_user", "'' is no participant"),
        ("wrong_routing_key", "'hub' is no participant"),
        ("far_future", "'' is no participant"),
        ("no_utf8", "'' is no participant"),
        ("deep_table", "'' is no participant"),
        ("fault", "A fault of the hub"),
    ],
)
async def test_what_cannot_be_answered_is_kept_with_its_reason_and_its_neighbours_pass(
    hub, mailbox, poisons, kind, reason
):
    body = await poisons[kind]()
    tj = await mailbox("tj")
    await tj.send()
    await tj.answered("1")
    assert list(tj.acceptances) == ["1"]
    message = await until_quarantined(hub, body)
    assert reason in message["reason"]
    assert (message["size"], message["copies"]) == (len(body), 1)
    (event,) = await events(hub, "quarantine.added")
    assert event["entry"]["actor"] == "hub"
    assert event["entry"]["public"] == {}
    assert event["private"]["digest"] == entries.digest(body)
    assert reason in event["private"]["reason"]


async def test_reading_the_quarantine_leaves_it_as_it_was(hub, broker, poisons):
    body = await poisons["unknown_type"]()
    await until_quarantined(hub, body)
    path = f"/v1/quarantine/{entries.digest(body)}"
    shown = await hub.operator.get(path, reason="what is it that came?")
    assert unb64url(shown["body"]) == body
    (event,) = await events(hub, "operator.body_read")
    assert event["private"]["path"] == path
    assert event["private"]["reason"] == "what is it that came?"
    await until_quarantined(hub, body)
    assert (await broker.depth(amqp.QUARANTINE)).waiting == 1


async def test_two_hubs_read_the_quarantine_one_after_the_other(hub, broker, poisons):
    """Otherwise the second would find it empty."""
    body = await poisons["unknown_type"]()
    await until_quarantined(hub, body)
    one, other = (Quarantine(lambda: broker.url("hub")) for _ in range(2))

    async def read():
        async with other.opened() as messages:
            return [message.body for message in messages]

    async with one.opened() as messages:
        reading = asyncio.create_task(read())
        await asyncio.wait([reading], timeout=1)
        assert [message.body for message in messages] == [body]
        assert not reading.done()
    assert await reading == [body]


async def test_a_quarantine_that_another_hub_reads_for_long_is_busy(
    hub, broker, poisons, monkeypatch
):
    body = await poisons["unknown_type"]()
    await until_quarantined(hub, body)
    async with Quarantine(lambda: broker.url("hub")).opened():
        monkeypatch.setattr(quarantine, "_TIMEOUT", 0.5)
        answer = await hub.operator.get("/v1/quarantine")
    assert (answer.status, answer.code) == (503, "busy")


@pytest.mark.parametrize("error", [Exception("cut"), ConnectionResetError("reset")])
async def test_a_quarantine_behind_a_line_that_is_cut_is_busy(hub, poisons, monkeypatch, error):
    """Of any exception: aiormq has no type for it."""

    async def cut(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(quarantine, "_take", cut)
        answer = await hub.operator.get("/v1/quarantine")
    assert (answer.status, answer.code) == (503, "busy")
    assert str(error) in answer["detail"]


async def test_a_decision_that_the_broker_did_not_hear_is_to_be_made_again(
    hub, poisons, monkeypatch
):
    body = await poisons["unknown_type"]()
    await until_quarantined(hub, body)

    async def cut(*_):
        raise Exception("cut")  # noqa: TRY002 - as aiormq does

    path = f"/v1/quarantine/{entries.digest(body)}/discard"
    with monkeypatch.context() as patch:
        patch.setattr(aio_pika.IncomingMessage, "ack", cut)
        answer = await hub.operator.post(path, reason="a test")
    assert (answer.status, answer.code) == (503, "busy")
    await until_quarantined(hub, body)
    assert (await hub.operator.post(path, reason="a test")).status == 200


async def test_a_released_message_is_taken_in_and_its_sender_is_answered(hub, broker, poisons):
    body = await poisons["unknown_user"]()
    await until_quarantined(hub, body)
    path = f"/v1/quarantine/{entries.digest(body)}/release"
    refused = await hub.operator.post(path, reason="too early")
    assert (refused.status, refused.code) == (409, "conflict")
    await hub.operator.join(hub.participant("uz"))
    released = await hub.operator.post(path, reason="uz has joined")
    assert released.status == 200, released
    async with broker.channel("uz") as channel:
        uz = Mailbox(hub.participant("uz"), channel)
        await uz.open()
        await uz.answered("1")
        assert hub.open(uz.acceptances["1"]).entry.actor == "uz"
    assert (await broker.depth(amqp.QUARANTINE)).waiting == 0
    (event,) = await events(hub, "quarantine.released")
    assert event["index"] == released["index"]
    assert event["entry"]["actor"].startswith("account:")
    assert event["private"]["reason"] == "uz has joined"


async def test_a_discarded_message_is_gone_and_its_digest_stays(hub, broker, poisons):
    body = await poisons["unknown_type"]()
    await until_quarantined(hub, body)
    await until_measured(hub, ("nhri_hub_queue_messages", amqp.QUARANTINE), 1)
    path = f"/v1/quarantine/{entries.digest(body)}/discard"
    assert (await hub.operator.post(path, reason="a test")).status == 200
    assert (await broker.depth(amqp.QUARANTINE)).waiting == 0
    (event,) = await events(hub, "quarantine.discarded")
    assert event["private"]["digest"] == entries.digest(body)
    assert (await hub.operator.post(path, reason="again")).code == "not-found"
    await until_measured(hub, ("nhri_hub_queue_messages", amqp.QUARANTINE), 0)


async def until_measured(hub, sample, value):
    """A measure becomes so, at the latest with the next survey of the queues."""

    async def is_so():
        return (await measures(hub.operator)).get(sample) == value

    await brokers.eventually(is_so, f"{sample} is {value}")


async def test_a_flood_of_poison_is_counted_and_does_not_fill_the_log(hub, broker, monkeypatch):
    kz = hub.participant("kz")
    monkeypatch.setattr(hub.service.meter, "_limit", 3)
    async with broker.channel("kz") as channel:
        for number in range(10):
            await brokers.publish(channel, "kz", b"%d" % number, type="surprise")

        async def quarantined():
            return (await broker.depth(amqp.QUARANTINE)).waiting == 10

        await brokers.eventually(quarantined, "all are in quarantine")
    assert len(await events(hub, "quarantine.added")) == 3
    assert len((await hub.operator.get("/v1/quarantine"))["messages"]) == 10
    assert (await kz.send()).status == 201


async def quarantined(hub, broker, count, size=100):
    """Put so many messages of a size into quarantine; what they are, in order."""
    bodies = [b"%d" % number + b" " * (size - 1) for number in range(count)]
    async with broker.channel("kz") as channel:
        for body in bodies:
            await brokers.publish(channel, "kz", body, type="surprise")

        async def are_there():
            return (await broker.depth(amqp.QUARANTINE)).waiting == count

        await brokers.eventually(are_there, "all are in quarantine")
    return [entries.digest(body) for body in bodies]


async def test_a_large_quarantine_is_read_in_parts_and_all_of_it_is_decided_on(
    hub, broker, monkeypatch
):
    monkeypatch.setattr(quarantine, "MAX_BYTES", 150)
    left = await quarantined(hub, broker, 5)
    while left:
        messages = (await hub.operator.get("/v1/quarantine"))["messages"]
        assert [message["digest"] for message in messages] == left[:2]
        for digest in reversed(left[:2]):
            path = f"/v1/quarantine/{digest}/discard"
            assert (await hub.operator.post(path, reason="a test")).status == 200
        left = left[2:]
    assert (await hub.operator.get("/v1/quarantine"))["messages"] == []


async def test_no_body_is_kept_once_the_quarantine_was_read(hub, broker, monkeypatch):
    """To look up the reasons in the log takes long, and meanwhile others may read, too."""
    await quarantined(hub, broker, 2)
    known, kept = quarantine_door._known, []

    async def looking_up(hub):
        gc.collect()
        kept.append(sum(type(each) is aio_pika.IncomingMessage for each in gc.get_objects()))
        return await known(hub)

    monkeypatch.setattr(quarantine_door, "_known", looking_up)
    answer = await hub.operator.get("/v1/quarantine")
    assert [message["copies"] for message in answer["messages"]] == [1, 1]
    assert kept == [0]


async def test_without_a_broker_there_is_no_quarantine(settings, clock):
    async with client.running(settings) as hub:
        assert (await hub.operator.get("/v1/quarantine")).code == "not-found"


def test_the_accounts_of_the_tests_are_those_of_the_topology():
    made = topology.definitions(brokers.CODES, brokers.HASHES)
    assert {user["name"] for user in made["users"]} == set(brokers.PASSWORDS)  # type: ignore[attr-defined]
