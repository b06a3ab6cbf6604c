"""Connectors whose link is RabbitMQ, and the hub itself: what they do over HTTP they do over it."""

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from msgspec.structs import replace
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from connectors import config as configs
from connectors import daemon
from connectors.events import Events
from connectors.link.http import HttpLink
from connectors.tables import SentState
from hub.delivery import broker as connections
from schemas import jsontext, trace
from schemas.encoding import b64url
from schemas.signature import JwsEnvelope
from tests import builders, client
from tests.simulator.institution import Institution
from tests.simulator.process import Process
from tests.simulator.waiting import until


@asynccontextmanager
async def exchange(folder, broker, *codes):
    """A hub on a broker, and connectors of members that joined it; none of them runs yet."""
    settings = broker.settings(client.new_settings(folder))
    async with client.running(settings) as hub:
        institutions = []
        for code in codes:
            one = Institution(code, folder, hub.connection.url, hub.vkey)
            with one.path.open("a") as file:
                file.write(f'\n[link]\namqp = "{broker.url(code)}"\n')
            one.config = configs.load(one.path, {})
            bundle = await hub.operator.invite(code)
            fingerprint = await one.join(str(bundle["invitation"]))
            await hub.operator.post(f"/v1/members/{code}/approve", fingerprint=fingerprint)
            institutions.append(one)
        await broker.ready(hub)
        yield hub, *institutions


@asynccontextmanager
async def running(*institutions):
    async with AsyncExitStack() as stack:
        for one in institutions:
            await stack.enter_async_context(one.running())
        yield


@pytest.fixture
def over_http(monkeypatch):
    """The positions of inboxes that connectors took over HTTP."""
    found: list[int] = []
    plain = HttpLink.inbox

    async def inbox(link, after, limit, wait):
        page = await plain(link, after, limit, wait)
        found.extend(item.position for item in page.deliveries)
        return page

    monkeypatch.setattr(HttpLink, "inbox", inbox)
    return found


async def test_messages_go_out_and_receipts_come_back(tmp_path, broker, over_http):
    async with (
        exchange(tmp_path, broker, "kz", "kg", "tj") as (hub, kz, kg, tj),
        running(kz, kg, tj),
    ):
        await kz.settled(kz.send(audience=["region"]))
        sent = [kz.send(audience=["region"]) for _ in range(5)]
        for one in sent:
            await kz.settled(one)
            assert kz.receipts(one) == {"kg": "received", "tj": "received"}
        assert kz.alarm_kinds() | kg.alarm_kinds() | tj.alarm_kinds() == set()
        # Some may be: the first poll began before there was a connection, and after a quiet one it
        # is asked over HTTP whether there is more.
        assert len(over_http) < 6
        measures = hub.service.metrics.text().decode()
        assert 'route="GET /v1/receipts"' in measures
        assert 'route="POST /v1/messages"' not in measures
        assert 'route="POST /v1/receipts"' not in measures


async def test_all_lines_about_a_message_have_its_trace(tmp_path, broker):
    async with exchange(tmp_path, broker, "kz", "kg") as (_, kz, kg), running(kz, kg):
        with capture_logs([merge_contextvars]) as of_hub:
            sent = kz.send()
            await kz.settled(sent)
            await until(lambda: kz.log.of("receipt.received"), "the receipt")
        found = traced(kz=kz.log.events, kg=kg.log.events, hub=of_hub)
        assert found[trace.of_message(sent)] == {
            ("kz", "message.accepted", sent),
            ("hub", "submission", sent),
            ("kg", "message.received", sent),
            ("kz", "receipt.received", sent),
        }


@pytest.mark.parametrize("link", ["amqp", "http"])
async def test_the_hub_names_the_trace_of_a_message_that_it_cannot_read(tmp_path, broker, link):
    async with exchange(tmp_path, broker, "kz") as (_, kz):
        if link == "http":
            kz.config = replace(kz.config, link=configs.LinkConfig())
        sent, envelope = kz.compose()
        forged = jsontext.decode(envelope, JwsEnvelope)
        first = replace(forged.signatures[0], signature=b64url(bytes(64)))
        kz.outbox.put(jsontext.encode(replace(forged, signatures=[first])), sent)
        with capture_logs([merge_contextvars]) as of_hub:
            async with running(kz):
                await until(lambda: kz.log.of("message.refused"), "refused")
        found = traced(kz=kz.log.events, hub=of_hub)
        assert found[trace.of_message(sent)] == {
            ("hub", "submission", None),
            ("kz", "message.refused", sent),
        }


def traced(**logs):
    """The lines by their trace: whose each is, its event, and the message that it is about."""
    found = defaultdict(set)
    for whose, lines in logs.items():
        for line in lines:
            found[line.get("trace_id")].add((whose, line["event"], line.get("message_id")))
    return found


async def test_a_refused_message_comes_back_with_its_entry_in_the_log(tmp_path, broker):
    async with exchange(tmp_path, broker, "kz", "kg") as (_, kz, kg), running(kz, kg):
        refused, accepted = kz.send(audience=["nobody"]), kz.send()
        await kg.sees(accepted)
        await until(lambda: kz.sent(refused).state is not SentState.PENDING, "an answer")
        row = kz.sent(refused)
        assert (row.state, row.code) == (SentState.REFUSED, "unknown-recipient")
        assert row.acceptance is not None
        assert kz.alarm_kinds() == set()


async def test_a_broker_that_is_away_for_a_while_raises_no_alarm(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(connections, "LONGEST_PAUSE", 0.5)
    async with exchange(tmp_path, broker, "kz", "kg") as (hub, kz, kg), running(kz, kg):
        first = kz.send()
        await kz.settled(first)
        await broker.node.stop_app()
        later = [kz.send() for _ in range(3)]
        await kz.taken(later[0])
        assert kz.sent(later[0]).state is SentState.PENDING
        await broker.node.start_app()
        await broker.ready(hub)
        for one in later:
            await kz.settled(one)
        assert kz.alarm_kinds() | kg.alarm_kinds() == set()
        assert "broker" in {event["work"] for event in kz.log.of("trouble")}


async def test_a_connector_at_a_broker_takes_at_most_80_mb(tmp_path, broker):
    async with exchange(tmp_path, broker, "kz", "kg") as (_, kz, kg), running(kz):
        with Process(kg) as process:
            process.start()
            sent = [kz.send(audience=["kg"]) for _ in range(20)]
            await kg.sees(*sent)
            answer = kg.send(audience=["kz"])
            await kz.sees(answer)
            assert process.memory() <= 80
            assert await process.stop() == 0


@pytest.mark.parametrize("name", ["ca", "certificate"])
async def test_a_file_for_tls_that_cannot_be_used_is_said_at_the_start(tmp_path, name):
    one = Institution("kz", tmp_path, "http://127.0.0.1:1", builders.LOG)
    (tmp_path / "no.pem").write_text("no PEM at all")
    with one.path.open("a") as file:
        file.write(f'\n[link]\namqp = "amqps://kz@127.0.0.1:1/nhri"\n{name} = "no.pem"\n')
    settings = configs.load(one.path, {})
    with pytest.raises(configs.ConfigError, match="a file for TLS cannot be used"):
        await daemon.run(settings, asyncio.Event(), Events("kz", one.log))
