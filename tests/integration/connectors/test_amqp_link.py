"""The connector's link over a real RabbitMQ: what it acknowledges when, and what it rides out.

The test plays the hub: it answers submissions and fills the inbox as it likes. Over HTTP the link
gets a hub that has every position.
"""

import asyncio
import contextlib

import pytest
from aio_pika import IncomingMessage
from msgspec.structs import replace

from connectors.link import HubRefused, InboxItem, InboxPage, Unreachable
from connectors.link.amqp import HEARTBEAT, PREFETCH, AmqpLink, address
from hub.delivery import broker as connections
from schemas import amqp, jsontext
from schemas import entry as entries
from schemas.acceptance import Acceptance, Delivery, Tombstone
from schemas.amqp import Acceptances, Accepted, Refusal
from schemas.encoding import b64url
from schemas.entry import AcceptedPrivate, Recipient
from tests import broker as brokers
from tests.simulator.waiting import until

YES = Acceptance("entry", "private", "salt", "proof")


def delivery(position):
    """What the hub would deliver at a position; a link believes it as it is."""
    recipients = {"kz": Recipient(position, "named"), "tj": Recipient(7, "named")}
    private = AcceptedPrivate("digest", "kind.v1", "TLP:GREEN", None, recipients, {})
    return Delivery(f"entry {position}", b64url(jsontext.encode(private)), "salt", "proof", "e")


class Http:
    """The other link: a hub that has so many positions, and counts how often it is asked."""

    def __init__(self):
        self.last = 0
        self.asked = []
        self.away = False

    async def inbox(self, after, limit, wait):
        self.asked.append(after)
        if self.away:
            raise Unreachable("away")
        positions = range(after + 1, min(self.last, after + limit) + 1)
        items = tuple(InboxItem(position, delivery(position)) for position in positions)
        if not items:
            await asyncio.sleep(min(wait, 0.05))
        return InboxPage(items, self.last)

    async def close(self):
        pass


class Hub:
    """The hub's end of the broker."""

    def __init__(self, channel):
        self.channel = channel
        self.got = []
        self.answering = True
        self.answer = lambda message: (
            amqp.ACCEPTANCE,
            Acceptances([Accepted(message.message_id, YES)]),
        )

    async def open(self):
        await connections.declare(self.channel, ("kz", "kg"))
        await brokers.take_all(self.channel, amqp.SUBMISSIONS_QUEUE, self._take)

    async def _take(self, message):
        self.got.append(message)
        await message.ack()
        if self.answering:
            kind, body = self.answer(message)
            await self.put(jsontext.encode(body), kind)

    async def put(self, body, kind=amqp.DELIVERY):
        """Put something into the inbox of kz."""
        made = {"to": amqp.DELIVERIES, "key": "inbox.kz", "type": kind, "user_id": None}
        await brokers.publish(self.channel, "hub", body, **made)

    async def deliver(self, *positions):
        for position in positions:
            await self.put(jsontext.encode(delivery(position)))


@pytest.fixture
async def hub(broker):
    async with broker.channel() as channel:
        made = Hub(channel)
        await made.open()
        yield made


@pytest.fixture
def http():
    return Http()


@pytest.fixture
async def connect(http, broker):
    """Make a link of kz; its troubles are kept in it."""
    links = []

    def make(url=None, **patience):
        troubles = []
        quick = replace(brokers.QUICK, **patience)

        def trouble(work, error, delay):
            troubles.append(str(error))

        address = url if callable(url) else lambda: url or broker.url("kz")
        made = AmqpLink(address, "kz", http, trouble, patience=quick)
        made.troubles = troubles  # type: ignore[attr-defined]
        links.append(made)
        return made

    yield make
    await asyncio.gather(*(link.close() for link in links))


@pytest.fixture
async def link(hub, connect):
    made = connect()
    await connected(made)
    return made


async def connected(link):
    link._start()
    await until(link._connected.is_set, "the link is connected")


async def arrived(link, *positions):
    await until(lambda: {*positions} <= {*link._inbox}, f"{positions} at the link")


def positions(page):
    return [item.position for item in page.deliveries]


class TestTheInbox:
    async def test_is_acknowledged_once_it_is_known_to_be_stored(self, hub, link, http, broker):
        await hub.deliver(1, 2, 3)
        await arrived(link, 1, 2, 3)
        assert positions(await link.inbox(0, 8, 5)) == [1, 2, 3]
        await link.inbox(2, 8, 0)
        await link.close()
        assert (await broker.depth("inbox.kz")).waiting == 1
        assert http.asked == []

    async def test_of_a_connector_that_fell_is_handed_out_again(self, hub, link, connect, http):
        await hub.deliver(1, 2)
        await arrived(link, 1, 2)
        await link.inbox(0, 8, 5)
        await link.close()
        again = connect()
        await connected(again)
        await arrived(again, 1, 2)
        assert positions(await again.inbox(0, 8, 5)) == [1, 2]

    async def test_is_held_only_in_part(self, hub, link, broker):
        await hub.deliver(*range(1, PREFETCH + 11))
        await arrived(link, *range(1, PREFETCH + 1))
        assert (await broker.depth("inbox.kz")).waiting == 10
        assert positions(await link.inbox(0, 8, 5)) == [*range(1, 9)]
        assert positions(await link.inbox(8, 8, 5)) == [*range(9, 17)]
        await arrived(link, *range(17, 25))

    async def test_is_put_into_order(self, hub, link, http):
        await hub.deliver(3, 1)
        await arrived(link, 1, 3)
        assert positions(await link.inbox(0, 8, 5)) == [1]
        waiting = asyncio.create_task(link.inbox(1, 8, 5))
        await hub.deliver(2)
        assert positions(await waiting) == [2, 3]
        assert http.asked == []

    async def test_that_lacks_a_position_is_asked_for_over_http_after_a_moment(
        self, hub, link, http
    ):
        http.last = 3
        await hub.deliver(1, 3)
        await arrived(link, 1, 3)
        assert positions(await link.inbox(0, 8, 5)) == [1]
        async with asyncio.timeout(30):  # not the 60 seconds that it may wait when all is well
            page = await link.inbox(1, 8, 60)
        assert (positions(page), page.last, http.asked) == ([2, 3], 3, [1])
        await hub.deliver(4)
        await arrived(link, 4)
        assert positions(await link.inbox(3, 8, 5)) == [4]

    async def test_that_lacks_its_end_is_asked_for_over_http_when_the_time_is_over(
        self, link, http
    ):
        http.last = 2
        page = await link.inbox(0, 8, 0.1)
        assert (positions(page), page.last) == ([1, 2], 2)

    async def test_that_is_empty_everywhere_promises_nothing(self, link, http):
        assert await link.inbox(0, 8, 0.1) == InboxPage((), 0)
        http.away = True
        assert await link.inbox(0, 8, 0.1) == InboxPage((), 0)

    async def test_with_a_gap_that_cannot_be_filled_now_is_no_empty_one(self, hub, link, http):
        http.away = True
        await hub.deliver(2)
        await arrived(link, 2)
        with pytest.raises(Unreachable):
            await link.inbox(0, 8, 5)

    async def test_that_was_handed_out_and_not_stored_is_asked_for_over_http(self, hub, link, http):
        http.last = 1
        await hub.deliver(1)
        await arrived(link, 1)
        await link.inbox(0, 8, 5)
        assert positions(await link.inbox(0, 8, 5)) == [1]
        assert http.asked == [0]

    async def test_of_long_ago_is_asked_for_over_http(self, hub, link, http):
        http.last = 9
        await link.inbox(9, 8, 0)
        assert positions(await link.inbox(4, 1, 0)) == [5]

    @pytest.mark.parametrize("given_up", [False, True], ids=["it was cut", "aiormq gave it up"])
    async def test_goes_on_where_the_line_ends_while_it_is_acknowledged(
        self, hub, link, monkeypatch, given_up
    ):
        await hub.deliver(1, 2, 3, 4)
        await arrived(link, 4)
        page = await link.inbox(0, 3, 5)
        assert positions(page) == [1, 2, 3]

        async def ended(*_):
            monkeypatch.undo()
            link._inbox.clear()  # with the connection
            if given_up:
                raise asyncio.CancelledError

        monkeypatch.setattr(IncomingMessage, "ack", ended)
        assert positions(await link.inbox(3, 8, 0)) == []

    async def test_takes_a_position_that_comes_twice_once(self, hub, link, broker):
        await hub.deliver(1, 1, 1, 2)
        await arrived(link, 2)
        assert positions(await link.inbox(0, 8, 5)) == [1, 2]
        await link.inbox(2, 8, 0)
        await hub.deliver(1, 3)
        await arrived(link, 3)
        await link.close()
        assert (await broker.depth("inbox.kz")).waiting == 1

    async def test_holds_tombstones(self, hub, link):
        await hub.put(jsontext.encode(Tombstone(1, "expired", YES)))
        await arrived(link, 1)
        (item,) = (await link.inbox(0, 8, 5)).deliveries
        assert (item.position, item.tombstone, item.acceptance) == (1, "expired", YES)

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            (amqp.DELIVERY, b"{"),
            (amqp.DELIVERY, b"[]"),
            (amqp.DELIVERY, b'{"tombstone": "risen", "position": 1}'),
            (amqp.DELIVERY, jsontext.encode(replace(delivery(1), private="?"))),
            (amqp.DELIVERY, jsontext.encode(replace(delivery(1), private="e30"))),
            (amqp.ACCEPTANCE, b'{"acceptances": 1}'),
            (amqp.REFUSAL, b""),
            ("surprise", b"of a newer hub"),
        ],
    )
    async def test_passes_over_what_it_does_not_understand(self, hub, link, broker, kind, body):
        await hub.put(body, kind)
        await hub.deliver(1)
        await arrived(link, 1)
        assert positions(await link.inbox(0, 8, 5)) == [1]
        await link.close()
        assert (await broker.depth("inbox.kz")).waiting == 1  # only what was not stored


class TestASubmission:
    async def test_says_who_sends_what(self, hub, link):
        assert await link.submit(b"envelope") == YES
        assert await link.send_receipt(b"receipt") == YES
        message, receipt = hub.got
        assert (message.type, message.body, message.user_id) == (amqp.MESSAGE, b"envelope", "kz")
        assert (message.routing_key, message.delivery_mode) == ("kz", 2)
        assert message.message_id == entries.digest(b"envelope")
        assert (receipt.type, receipt.body) == (amqp.RECEIPT, b"receipt")

    async def test_that_is_refused_raises_the_refusal(self, hub, link):
        hub.answer = lambda message: (
            amqp.REFUSAL,
            Refusal(message.message_id, "quota", "Too\x1b many.", True, None, YES),
        )
        with pytest.raises(HubRefused) as caught:
            await link.submit(b"envelope")
        refused = caught.value
        assert (refused.code, refused.detail) == ("quota", "Too\\x1b many.")
        assert (refused.retryable, refused.refusal, refused.final) == (True, YES, False)

    async def test_without_an_answer_in_time_can_be_made_again(self, hub, connect):
        link = connect(answer=0.2)
        hub.answering = False
        with pytest.raises(Unreachable, match="did not answer"):
            await link.submit(b"envelope")
        hub.answering = True
        assert await link.submit(b"envelope") == YES

    async def test_is_settled_by_a_late_answer_to_an_earlier_try(self, hub, connect):
        link = connect(answer=0.5)
        hub.answering = False
        with pytest.raises(Unreachable, match="did not answer"):
            await link.submit(b"envelope")
        again = asyncio.create_task(link.submit(b"envelope"))
        await until(lambda: len(hub.got) == 2, "the second try")
        kind, body = Hub(None).answer(hub.got[0])
        await hub.put(jsontext.encode(body), kind)
        assert await again == YES

    async def test_is_not_settled_by_answers_to_others(self, hub, connect):
        link = connect(answer=0.3)
        hub.answer = lambda message: (amqp.ACCEPTANCE, Acceptances([Accepted("another", YES)]))
        with pytest.raises(Unreachable, match="did not answer"):
            await link.submit(b"envelope")

    async def test_that_no_queue_takes_is_not_believed_to_be_sent(self, hub, link):
        await hub.channel.queue_delete(amqp.SUBMISSIONS_QUEUE)
        with pytest.raises(Unreachable, match="no queue for submissions"):
            await link.submit(b"envelope")

    async def test_that_is_refused_is_offered_on_another_connection(self, hub, link):
        full = {"x-max-length": 0, "x-overflow": "reject-publish"}
        queue = await hub.channel.declare_queue("full", arguments=full)
        await queue.bind(amqp.SUBMISSIONS, "#")
        with pytest.raises(Unreachable, match="refused it"):
            await link.submit(b"envelope")
        await hub.channel.queue_delete("full")
        await until(lambda: link.troubles, "the connection is given up")
        assert await link.submit(b"envelope") == YES
        assert link.troubles == ["The broker is away: it refuses what is published."]

    async def test_under_an_alarm_says_what_may_be_the_matter(self, hub, connect, broker):
        link = connect(confirm=0.3)
        await connected(link)
        async with broker.node.alarm("disk"):
            with pytest.raises(Unreachable, match="short of memory or disk"):
                await link.submit(b"envelope")
        hub.answering = True
        assert await link.submit(b"envelope") == YES
        assert link.troubles == []


class Proxy:
    """A line to the broker that can be cut, also without a word to either end."""

    def __init__(self, port):
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._open = asyncio.Event()
        self._open.set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._open.set()
        self._server.close()
        self.cut()

    async def _serve(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, back]
        await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))

    async def _pipe(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self):
        """End all connections at once."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers = []


@pytest.fixture
async def line(broker):
    """A line that can be cut."""
    async with Proxy(broker.node.port) as proxy:
        yield proxy


def through(line, broker):
    return broker.url("kz").replace(f":{broker.node.port}/", f":{line.port}/")


class TestALinkThatIsLost:
    async def test_says_so_in_one_line_and_comes_back(self, hub, connect, broker, line):
        link = connect(through(line, broker))
        assert await link.submit(b"first") == YES
        line.cut()
        await until(lambda: link.troubles, "it says so")
        assert await link.submit(b"second") == YES
        assert len(link.troubles) == 1
        assert link.troubles[0].startswith("The broker is away: ")

    async def test_while_an_answer_is_awaited_still_gets_it(self, hub, connect, broker, line):
        link = connect(through(line, broker))
        hub.answering = False
        waiting = asyncio.create_task(link.submit(b"envelope"))
        await until(lambda: hub.got, "the hub has it")
        line.cut()
        kind, body = hub.answer(hub.got[0])
        await hub.put(jsontext.encode(body), kind)
        assert await waiting == YES

    async def test_reads_the_inbox_over_http_meanwhile(self, hub, connect, broker, line, http):
        link = connect(through(line, broker), connect=1)
        await connected(link)
        await hub.deliver(1, 2)
        await arrived(link, 1, 2)
        line._server.close()
        line.cut()
        await until(lambda: not link._connected.is_set(), "it is noticed")
        http.last = 2
        assert positions(await link.inbox(0, 8, 5)) == [1, 2]
        with pytest.raises(Unreachable, match="no connection"):
            await link.submit(b"envelope")

    async def test_waits_longer_and_longer_and_not_in_step_with_others(self, connect, broker):
        link = connect("amqp://kz:x@127.0.0.1:1/nhri", connect=0.05)
        delays = []
        link._trouble = lambda work, error, delay: delays.append(delay)
        link._chance = iter([0, 1, 0, 1, 0, 1, 0, 1, 0, 1]).__next__
        with pytest.raises(Unreachable):
            await link.submit(b"envelope")
        await until(lambda: len(delays) >= 5, "five attempts")
        first, longest = brokers.QUICK.first, brokers.QUICK.longest
        assert delays[:5] == [first / 2, 2 * first, 2 * first, 8 * first, longest / 2]

    async def test_is_soon_tried_again_each_time_when_it_had_outlasted_the_pause(
        self, hub, connect, broker, line
    ):
        link = connect(through(line, broker), first=1e-6)
        delays = []
        noticed = asyncio.Event()

        def trouble(work, error, delay):
            delays.append(delay)
            noticed.set()

        link._trouble, link._chance = trouble, lambda: 1
        for _ in range(3):
            await connected(link)
            noticed.clear()
            line.cut()
            await noticed.wait()
        assert set(delays) == {1e-6}

    async def test_whose_inbox_is_deleted_says_so_and_comes_back_to_the_new_one(
        self, hub, link, broker
    ):
        await hub.channel.queue_delete("inbox.kz")
        await until(lambda: link.troubles, "it says so")
        assert "our inbox was deleted" in link.troubles[0]
        await connections.declare(hub.channel, ("kz",))
        await until(link._connected.is_set, "it is back")
        await hub.deliver(1)
        assert positions(await link.inbox(0, 8, 5)) == [1]

    async def test_whose_channel_the_broker_closes_says_so_and_opens_another(
        self, hub, link, broker
    ):
        """Alone: publishing to an exchange that is gone leaves the connection as it is."""
        await hub.channel.exchange_delete(amqp.SUBMISSIONS)
        with pytest.raises(Unreachable):
            await link.submit(b"envelope")
        await until(lambda: "no exchange 'submissions'" in str(link.troubles), "it says so")
        await connections.declare(hub.channel, ("kz",))
        hub.answering = True

        async def answered():
            with contextlib.suppress(Unreachable):  # not connected yet
                return await link.submit(b"envelope") == YES

        await brokers.eventually(answered, "it is back")

    async def test_whose_password_was_changed_says_so_and_comes_back_with_the_right_one(
        self, hub, link, broker
    ):
        await broker.node.ctl("change_password", "kz", "another")
        try:
            await broker.node.ctl("close_all_connections", "--vhost", broker.vhost, "a test")
            await until(lambda: "ACCESS_REFUSED" in str(link.troubles), "it says so")
        finally:
            await broker.node.ctl("change_password", "kz", brokers.PASSWORDS["kz"])
        await until(link._connected.is_set, "it is back")

    async def test_takes_a_changed_password_without_a_restart(self, hub, connect, broker):
        urls = [broker.url("kz").replace(brokers.PASSWORDS["kz"], "another")]
        link = connect(lambda: urls[-1])
        link._start()
        await until(lambda: "ACCESS_REFUSED" in str(link.troubles), "it says so")
        urls.append(broker.url("kz"))
        await until(link._connected.is_set, "it is there")


def test_a_silent_line_is_given_up_within_a_minute_or_two():
    assert HEARTBEAT * 3 <= 120


def test_a_client_certificate_stands_for_a_password():
    assert address("amqps://kz@broker/nhri", "kz.pem").endswith("?auth=external")
    assert address("amqps://kz:secret@broker/nhri", "kz.pem") == "amqps://kz:secret@broker/nhri"
    assert address("amqps://kz:secret@broker/nhri", "") == "amqps://kz:secret@broker/nhri"
