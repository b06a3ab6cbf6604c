"""What every link keeps: one suite for each way to the hub and each database behind it.

A real hub, the connectors' own links; what a link gives is checked against the log's key. The hub
lives as long as the suite, so that a test begins where the inboxes stand.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from msgspec.structs import replace

from connectors.link import HubRefused, InboxItem
from connectors.link.amqp import AmqpLink
from hub import app
from hub.intake.erasure import Erase
from schemas import acceptance, receipt
from schemas import entry as entries
from schemas.encoding import b64url, format_time
from schemas.receipt import Item, Receipt
from tests import broker as brokers
from tests import builders, client
from tests.simulator.waiting import until

MEMBERS = ("kz", "kg", "tj")

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Clock:
    """The time, as it goes on, moved forward now and then."""

    ahead = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.ahead


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database(postgresql_server):
    """An empty database on PostgreSQL."""
    made = await postgresql_server.create("contract_link")
    yield made
    await made.drop()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def site(request, brokers, database, tmp_path_factory):
    """A hub on one of the databases that everybody has joined, and its place on the broker."""
    place = await brokers.new()
    settings = client.new_settings(tmp_path_factory.mktemp("hub"))
    if request.param == "postgresql":
        settings = replace(settings, store=replace(settings.store, url=database.url))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_clock", Clock())
        async with client.running(place.settings(settings)) as hub:
            for code in MEMBERS:
                await hub.operator.join(hub.participant(code))
            yield hub, place


@pytest.fixture
def hub(site):
    return site[0]


@pytest_asyncio.fixture(loop_scope="module", params=["http", "amqp"])
async def connect(request, site):
    """Make a participant's link."""
    hub, place = site
    links = []

    def make(code):
        made = place.link(hub, code) if request.param == "amqp" else brokers.http_link(hub, code)
        links.append(made)
        return made

    yield make
    await asyncio.gather(*(link.close() for link in links))


def envelope(hub, code, **overrides):
    sender = hub.participant(code)
    return sender.sign(sender.message(**overrides))


def last(hub, code):
    """The last position in somebody's inbox."""
    return hub.service.recorder.state.positions.get(code, 0)


async def read(link, after, count=1):
    """So many items of the inbox, page by page, as a connector asks for them."""
    found: list[InboxItem] = []
    async with asyncio.timeout(90):
        while len(found) < count:
            page = await link.inbox(after + len(found), 8, 5)
            found += page.deliveries
            assert page.last >= after + len(found)
    return found


async def connected(link):
    """The same link once it need not fall back on another way."""
    if isinstance(link, AmqpLink):
        link._start()
        await until(link._connected.is_set, "the link is connected")
    return link


def by_another_way(link):
    """The positions that a link over the broker took over HTTP."""
    if not isinstance(link, AmqpLink):
        return []
    assert isinstance(link._other, brokers.CountedLink)
    return link._other.positions


class TestSubmitting:
    async def test_gives_an_acceptance_that_holds(self, hub, connect):
        sent = envelope(hub, "kz")
        opened = hub.open(await connect("kz").submit(sent))
        assert opened.entry.type == entries.MESSAGE_ACCEPTED
        private = acceptance.accepted_private(opened)
        assert private.envelope == entries.digest(sent)
        assert set(private.recipients) == {"kg", "tj"}

    async def test_the_same_again_gives_the_first_acceptance(self, hub, connect):
        link, sent = connect("kz"), envelope(hub, "kz")
        before = last(hub, "kg")
        first = await link.submit(sent)
        await link.submit(envelope(hub, "kz"))
        assert await link.submit(sent) == first
        assert last(hub, "kg") == before + 2

    async def test_what_cannot_be_accepted_is_refused_with_its_place_in_the_log(self, hub, connect):
        with pytest.raises(HubRefused) as caught:
            await connect("kz").submit(envelope(hub, "kz", kind="no_such_kind.v1"))
        assert caught.value.code == "unknown-kind"
        assert caught.value.final
        assert caught.value.refusal is not None
        assert hub.open(caught.value.refusal).entry.public == {"code": "unknown-kind"}

    async def test_another_s_message_is_refused(self, hub, connect):
        with pytest.raises(HubRefused, match="sender-mismatch"):
            await connect("kz").submit(envelope(hub, "kg"))

    async def test_who_is_suspended_is_told_and_may_try_again_later(self, hub, connect):
        link, sent = connect("kz"), envelope(hub, "kz")
        await hub.operator.post("/v1/members/kz/suspend", reason="a test")
        with pytest.raises(HubRefused, match="suspended") as caught:
            await link.submit(sent)
        assert not caught.value.final
        await hub.operator.post("/v1/members/kz/resume", reason="a test")
        assert hub.open(await link.submit(sent)).entry.type == entries.MESSAGE_ACCEPTED

    async def test_many_at_once_are_each_answered(self, hub, connect):
        link = connect("kz")
        sent = [envelope(hub, "kz") for _ in range(50)]
        answers = await asyncio.gather(*map(link.submit, sent))
        digests = [acceptance.accepted_private(hub.open(one)).envelope for one in answers]
        assert digests == [entries.digest(one) for one in sent]


class TestTheInbox:
    async def test_comes_in_order_and_whole(self, hub, connect):
        link, reader, before = connect("kz"), await connected(connect("kg")), last(hub, "kg")
        sent = [envelope(hub, "kz") for _ in range(30)]
        for one in sent:
            await link.submit(one)
        items = await read(reader, before, 30)
        assert [item.position for item in items] == list(range(before + 1, before + 31))
        assert [client.envelope(item.delivery) for item in items] == sent
        assert {hub.open(item.proof).entry.type for item in items} == {entries.MESSAGE_ACCEPTED}
        assert by_another_way(reader) == []

    async def test_can_be_read_from_an_earlier_position_again(self, hub, connect):
        link, reader, before = connect("kz"), connect("kg"), last(hub, "kg")
        for _ in range(5):
            await link.submit(envelope(hub, "kz"))
        first = await read(reader, before, 5)
        assert await read(reader, before + 2, 3) == first[2:]

    async def test_waits_for_what_comes(self, hub, connect):
        link, reader, before = connect("kz"), connect("kg"), last(hub, "kg")
        waiting = asyncio.create_task(reader.inbox(before, 8, 20))
        sent = envelope(hub, "kz")
        await link.submit(sent)
        async with asyncio.timeout(90):
            (item,) = (await waiting).deliveries
        assert client.envelope(item.delivery) == sent

    async def test_has_nothing_after_its_end(self, hub, connect):
        end = last(hub, "kg")
        page = await connect("kg").inbox(end, 8, 0)
        assert (page.deliveries, page.last) == ((), end)

    async def test_goes_on_where_an_earlier_connector_stopped(self, hub, connect):
        link, first, before = connect("kz"), connect("kg"), last(hub, "kg")
        for _ in range(3):
            await link.submit(envelope(hub, "kz"))
        await read(first, before, 3)
        await first.close()
        await link.submit(envelope(hub, "kz"))
        (item,) = await read(connect("kg"), before + 3)
        assert item.position == before + 4

    async def test_holds_a_tombstone_where_a_message_expired_before_it_came(self, hub, connect):
        link, before, now = connect("kz"), last(hub, "kg"), hub.service.clock()
        late = await link.submit(
            envelope(hub, "kz", expires=format_time(now + timedelta(seconds=1)))
        )
        await link.submit(envelope(hub, "kz"))
        hub.service.clock.ahead += timedelta(seconds=2)
        gone, there = await read(connect("kg"), before, 2)
        assert there.delivery is not None
        # What was on its way at that moment may still come whole; it is the same entry.
        assert (gone.position, gone.proof.entry) == (before + 1, late.entry)

    async def test_holds_a_tombstone_where_a_message_was_erased_before_it_came(self, hub, connect):
        link, before = connect("kz"), last(hub, "kg")
        sent = envelope(hub, "kz")
        opened = hub.open(await link.submit(sent))
        decided = await hub.service.change(erasing(opened))
        await link.submit(envelope(hub, "kz"))
        gone, there = await read(connect("kg"), before, 2)
        assert (gone.position, there.position) == (before + 1, before + 2)
        assert there.delivery is not None
        if gone.delivery is None:  # over the broker it may have been on its way, and comes whole
            erased = acceptance.open_erased(gone.proof, hub.vkey)
            assert erased.entry == opened.entry
            assert erased.checkpoint.size > decided.index

    async def test_sent_again_after_it_was_erased_is_refused_for_good(self, hub, connect):
        link, sent = connect("kz"), envelope(hub, "kz")
        opened = hub.open(await link.submit(sent))
        await hub.service.change(erasing(opened))
        with pytest.raises(HubRefused) as caught:
            await link.submit(sent)
        assert (caught.value.code, caught.value.final) == ("erased", True)


def erasing(opened):
    return Erase(opened.entry.subject, "account:a", "A test of erasing.")


class TestReceipts:
    async def test_are_recorded_and_reach_the_sender(self, hub, connect):
        kz, kg, before = connect("kz"), connect("kg"), last(hub, "kg")
        await kz.submit(envelope(hub, "kz"))
        (item,) = await read(kg, before)
        signed = signed_receipt(hub, "kg", item)
        opened = hub.open(await kg.send_receipt(signed))
        assert (opened.entry.type, opened.private) == (entries.RECEIPTS_RECORDED, signed)
        page = await kz.receipts(opened.index - 1, 25, 5)
        assert [one.position for one in page.receipts] == [opened.index]

    async def test_the_same_again_is_answered_as_the_first_time(self, hub, connect):
        kz, kg, before = connect("kz"), connect("kg"), last(hub, "kg")
        await kz.submit(envelope(hub, "kz"))
        signed = signed_receipt(hub, "kg", *await read(kg, before))
        assert await kg.send_receipt(signed) == await kg.send_receipt(signed)

    async def test_for_what_was_not_delivered_there_are_refused(self, hub, connect):
        kz, kg, before = connect("kz"), connect("kg"), last(hub, "kg")
        await kz.submit(envelope(hub, "kz"))
        (item,) = await read(kg, before)
        elsewhere = replace(item, position=item.position + 1)
        with pytest.raises(HubRefused, match="bad-receipt"):
            await kg.send_receipt(signed_receipt(hub, "kg", elsewhere))


def signed_receipt(hub, code, *items):
    told: list[Item] = []
    for item in items:
        opened = hub.open(item.proof)
        told.append(
            (opened.entry.subject, b64url(opened.entry_hash), item.position, "received", "")
        )
    made = Receipt(code, format_time(hub.service.clock()), tuple(told))
    return receipt.sign(made, builders.key(code))


async def test_the_log_can_be_read(hub, connect):
    link = connect("kz")
    assert (await link.checkpoint()).startswith(b"hub.example/log\n")
    assert b"hub.started" in await link.entries(0, 1)
