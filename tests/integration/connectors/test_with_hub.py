"""Connectors and the hub itself: what the simulator stands for is so."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from connectors import actions, keys
from connectors import config as configs
from connectors.cli.main import main
from connectors.link import Unreachable
from connectors.link.http import HttpLink
from connectors.tables import SentState
from hub import certificates
from schemas import signature
from schemas.acceptance import open_acceptance
from schemas.encoding import format_time
from schemas.joint_action import ActionState
from tests import client
from tests.ports import free_port
from tests.simulator.institution import Institution
from tests.simulator.waiting import until


@asynccontextmanager
async def exchange(folder, **roles):
    """A hub, and the daemons of participants that joined it by their fingerprints."""
    async with client.running(client.new_settings(folder)) as hub, AsyncExitStack() as stack:
        institutions = []
        for code, role in roles.items():
            one = Institution(code, folder, hub.connection.url, hub.vkey)
            bundle = await hub.operator.invite(code, role)
            fingerprint = await one.join(str(bundle["invitation"]))
            path = f"/v1/members/{code}/approve"
            assert (await hub.operator.post(path, fingerprint=fingerprint)).status == 200
            await stack.enter_async_context(one.running())
            institutions.append(one)
        yield hub, *institutions


async def test_bulletins_go_to_the_region_and_to_partners_and_come_back_as_receipts(tmp_path):
    async with exchange(tmp_path, kz="member", kg="member", undp="partner") as (hub, kz, kg, undp):
        to_all = [kz.send(audience=["region", "undp"]) for _ in range(5)]
        back = kg.send(audience=["kz"], marking="TLP:AMBER")
        await kg.sees(*to_all)
        await undp.sees(*to_all)
        await kz.sees(back)
        for sent in to_all:
            await kz.settled(sent)
            assert kz.receipts(sent) == {"kg": "received", "undp": "received"}
        await kg.settled(back)
        assert kz.alarm_kinds() | kg.alarm_kinds() | undp.alarm_kinds() == set()
        size = await hub.size()
        await until(partial(has_followed, kz, size), "the whole log")


def has_followed(institution, size):
    return institution.log.of("log.followed")[-1]["size"] >= size


async def test_a_refused_message_comes_back_with_its_entry_in_the_log(tmp_path):
    async with exchange(tmp_path, kz="member", undp="partner") as (hub, kz, undp):
        refused = kz.send(audience=["undp"], marking="TLP:AMBER")
        accepted = kz.send(audience=["undp"])
        await undp.sees(accepted)
        await until(lambda: kz.sent(refused).state is not SentState.PENDING, "an answer")
        row = kz.sent(refused)
        assert (row.state, row.code) == (SentState.REFUSED, "marking-conflict")
        assert row.acceptance is not None
        assert open_acceptance(row.acceptance, hub.vkey).entry.subject == refused
        assert kz.alarm_kinds() == set()


async def test_a_joint_action_is_agreed_on(tmp_path):
    async with exchange(tmp_path, kz="member", kg="member") as (_hub, kz, kg):
        answer_by = format_time(datetime.now(UTC) + timedelta(days=1))
        content = {"action": "statement", "invited": ["kg"], "answer_by": answer_by}
        notice = kz.send(kind="joint_action_notice.v1", content=content)
        await kg.sees(notice)
        await kz.settled(notice)
        envelope = kg.ask(lambda store: store.valid(notice)).envelope
        payload = signature.parse(envelope, signature.MESSAGE_TYPE).payload
        wire = signature.sign_payload(payload, signature.MESSAGE_TYPE, kg.keyring.sign)
        kg.send(
            kind="joint_action_response.v1",
            in_reply_to=notice,
            texts={},
            content={
                "notice": notice,
                "answer": "accept",
                "signature": {"protected": wire.protected, "signature": wire.signature},
            },
        )
        await until(partial(is_agreed, kz, notice), "agreed")
        await until(partial(is_agreed, kg, notice), "agreed")


def is_agreed(institution, notice):
    known = institution.ask(lambda store: actions.joint_action_of(store, notice))
    return known.action.state is ActionState.AGREED


async def test_a_suspended_institution_is_told_and_its_message_waits(tmp_path):
    async with exchange(tmp_path, kz="member", kg="member") as (hub, kz, kg):
        first = kz.send()
        await kz.settled(first)
        await hub.operator.post("/v1/members/kz/suspend", reason="a test")
        await kz.alarmed("own-standing")
        later = kz.send()
        await kz.taken(later)
        await until(lambda: kz.sent(later).code, "an answer")
        assert (kz.sent(later).state, kz.sent(later).code) == (SentState.PENDING, "forbidden")
        await kz.alarmed("hub-refuses")
        await hub.operator.post("/v1/members/kz/resume", reason="a test")
        await kg.sees(later)
        await kz.settled(later)
        assert kg.alarm_kinds() == set()


async def test_a_message_that_was_erased_before_its_answer_came_contradicts_no_receipt(
    tmp_path, monkeypatch
):
    submit = HttpLink.submit

    async def lost(link, envelope, named):
        await submit(link, envelope, named)
        raise Unreachable("The answer was lost.")

    async with exchange(tmp_path, kz="member", kg="member") as (hub, kz, kg):
        with monkeypatch.context() as losing:
            losing.setattr(HttpLink, "submit", lost)
            sent = kz.send()
            await kg.sees(sent)
            await until(lambda: kz.ask(lambda store: store.receipts()), "kg's receipt")
            path = f"/v1/messages/{sent}/erase"
            assert (await hub.operator.post(path, reason="a test of it")).status == 200
            await kz.alarmed("sent-erased")
        await until(lambda: kz.sent(sent).state is SentState.REFUSED, "an answer")
        row = kz.sent(sent)
        assert (row.code, row.entry_hash) == ("erased", None)
        again = kz.send()
        await kz.settled(again)
        assert kz.alarm_kinds() == {"sent-erased"}
        verified = await asyncio.to_thread(
            CliRunner().invoke, main, ["verify", "--all", "--config", str(kz.path)]
        )
        assert verified.exit_code == 0, verified.output


async def test_the_certificate_of_the_approval_is_fetched_and_one_for_another_key_is_made(tmp_path):
    async with exchange(tmp_path, kz="member") as (hub, kz):
        path = tmp_path / "kz.pem"
        broker = f"amqps://kz@127.0.0.1:{free_port()}/nhri"  # nobody is there
        link = LINK.format(broker=broker)
        kz.path.write_text(kz.path.read_text().replace("[receipts]", link))
        kz.config = configs.load(kz.path, {})
    async with client.running(hub.settings) as hub:
        async with kz.running():
            await until(path.exists, "a certificate")
        first = await newest(hub)
        assert path.read_text() == first
        other = ec.generate_private_key(ec.SECP256R1())
        (kz.config.keys / keys.TLS_FILE).write_bytes(certificates.private_pem(other))
        async with kz.running():
            await until(lambda: path.read_text() != first, "a new one")
        assert path.read_text() == await newest(hub)


async def newest(hub):
    [one] = (await hub.operator.get("/v1/certificates"))["certificates"]
    return one["certificate"]


LINK = """\
[link]
amqp = "{broker}"
certificate = "kz.pem"

[receipts]"""
