"""The path of a message, end to end: submitted, accepted, delivered, receipted and explained."""

import asyncio
import hashlib

import msgspec

from hub import upkeep
from hub.store import queries
from schemas import checkpoint, merkle, receipt
from schemas.acceptance import Acceptance, Delivery, accepted_private
from schemas.encoding import b64url
from tests import builders, client


async def test_a_message_goes_to_its_recipients_and_their_receipts_come_back(hub, kz, kg):
    message = kz.message(audience=["region", "undp"])
    envelope = kz.sign(message)

    submitted = await kz.submit(envelope)
    assert submitted.status == 201
    opened = hub.open(submitted.acceptance())
    private = accepted_private(opened)
    assert (opened.entry.actor, opened.entry.subject) == ("kz", message["id"])
    assert opened.entry.public == {}
    assert private.envelope == b64url(hashlib.sha256(envelope).digest())
    assert {code: (r.position, r.reason) for code, r in private.recipients.items()} == {
        "kg": (1, "group:region"),
        "tj": (1, "group:region"),
        "tm": (1, "group:region"),
        "undp": (1, "named"),
    }
    assert private.left_out == {"kz": "sender"}

    [(position, delivery)] = await kg.inbox()
    assert position == 1
    assert delivery.acceptance == submitted.acceptance()
    assert client.envelope(delivery) == envelope

    receipt_of_kg = kg.receipt((position, delivery))
    recorded = await kg.post("/v1/receipts", receipt_of_kg)
    assert recorded.status == 201

    answer = await kz.get("/v1/receipts", after=-1)
    [item] = answer["receipts"]
    told = hub.open(msgspec.convert(item["acceptance"], Acceptance))
    assert told.private == receipt_of_kg
    assert told.index == item["position"] == answer["last"]
    _, parsed = receipt.parse(told.private)
    assert parsed.items[0][:4] == (message["id"], b64url(opened.entry_hash), 1, "received")

    again = await kg.post("/v1/receipts", receipt_of_kg)
    assert again.status == 200
    assert again.acceptance() == recorded.acceptance()


async def test_an_operator_can_say_what_became_of_a_message_and_why(hub, kz, kg):
    sent = kz.message(audience=["kg", "tj"])
    acceptance = (await kz.submit(kz.sign(sent))).acceptance()
    [delivery] = await kg.inbox()
    await kg.post("/v1/receipts", kg.receipt(delivery))
    path = f"/v1/audit/messages/{sent['id']}"

    timeline = await hub.operator.get(path)
    assert [event["entry"]["type"] for event in timeline["events"]] == [
        "message.accepted",
        "receipts.recorded",
    ]
    assert msgspec.convert(timeline["acceptance"], Acceptance) == acceptance
    states = {copy["recipient"]: copy["state"] for copy in timeline["deliveries"]}
    assert states == {"kg": "received", "tj": "waiting"}

    received = await hub.operator.get(f"{path}/why", member="kg")
    assert (received["received"], received["rule"], received["position"]) == (True, "named", 1)
    waiting = await hub.operator.get(f"{path}/why", member="tj")
    assert (waiting["received"], waiting["status"]) == (False, "waiting")
    left = await hub.operator.get(f"{path}/why", member="tm")
    assert (left["received"], left["rule"]) == (False, "not in the audience")

    asked = await hub.operator.get("/v1/audit/events", type="operator.query")
    assert [event["private"]["path"] for event in asked["events"]] == [
        path,
        *[f"{path}/why"] * 3,
        "/v1/audit/events",
    ]


async def test_the_log_verifies_and_can_be_followed_from_tile_to_tile(hub, kz):
    for _ in range(3):
        await kz.send()
    verdict = await hub.operator.get("/v1/audit/verify")
    assert (verdict["ok"], verdict["problems"]) == (True, [])

    note = (await hub.account().get("/log/checkpoint")).body
    head = checkpoint.open_checkpoint(note, hub.vkey)
    assert (head.size, head.root.hex()) == (verdict["size"], verdict["root"])
    width = head.size
    bundle = await kz.get(f"/log/{merkle.tile_path('entries', 0, width)}")
    entries = merkle.decode_bundle(bundle.body)
    hashes = await kz.get(f"/log/{merkle.tile_path(0, 0, width)}")
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    assert hashes.body == b"".join(leaves)
    assert merkle.root(leaves) == head.root


async def test_the_log_shows_no_tile_that_is_not_signed_yet(hub, kz):
    size = await hub.size()
    for path in (
        merkle.tile_path(0, 0, size + 1),
        merkle.tile_path("entries", 0, size + 1),
        merkle.tile_path(0, 0),
        merkle.tile_path(1, 0, 1),
        merkle.tile_path(63, 0, 1),
        merkle.tile_path(0, merkle.MAX_TREE_SIZE),
        merkle.tile_path("entries", merkle.MAX_TREE_SIZE),
        merkle.tile_path("entries", 2**40),
    ):
        answer = await kz.get(f"/log/{path}")
        assert (answer.status, answer.code) == (404, "not-found"), path


async def test_the_same_envelope_again_gets_the_same_acceptance_and_no_second_entry(hub, kz, kg):
    envelope = kz.sign(kz.message())
    first = await kz.submit(envelope)
    size = await hub.size()
    again = await kz.submit(envelope)
    assert again.status == 200
    assert again.body == first.body
    assert await hub.size() == size
    assert len(await kg.inbox()) == 1


class TestALongPoll:
    async def test_returns_with_the_first_message(self, hub, kz, kg):
        polling = asyncio.create_task(kg.inbox(wait=20))
        await waiting(hub, "kg")
        sent = await kz.send()
        [(position, delivery)] = await polling
        assert position == 1
        assert delivery.acceptance == sent.acceptance()

    async def test_is_not_ended_by_other_news(self, hub, kz, kg):
        """A receipt for one's own message rings the same bell."""
        await kg.send(audience=["kz"])
        polling = asyncio.create_task(kg.inbox(wait=20))
        await waiting(hub, "kg")
        [delivery] = await kz.inbox()
        await kz.post("/v1/receipts", kz.receipt(delivery))
        await kz.send()
        assert len(await polling) == 1

    async def test_for_receipts_returns_with_the_first_receipt(self, hub, kz, kg):
        await kz.send(audience=["kg"])
        polling = asyncio.create_task(kz.get("/v1/receipts", wait=20))
        await waiting(hub, "kz")
        [delivery] = await kg.inbox()
        await kg.post("/v1/receipts", kg.receipt(delivery))
        assert len((await polling)["receipts"]) == 1

    async def test_returns_empty_when_its_time_is_over(self, kg):
        answer = await kg.get("/v1/inbox", wait=0.01)
        assert answer.json == {"deliveries": [], "last": 0}


class TestAPage:
    async def test_goes_on_after_a_position_and_tells_the_last_one(self, kz, kg):
        for _ in range(5):
            await kz.send()
        answer = await kg.get("/v1/inbox", after=1, limit=2)
        assert [item["position"] for item in answer["deliveries"]] == [2, 3]
        assert answer["last"] == 5

    async def test_of_the_largest_messages_is_short_and_the_next_one_goes_on(self, kz, kg):
        texts = {"en": {"title": "Large", "summary": "Large.", "body": "b" * 190_000}}
        sent = [(await kz.send(texts=texts)).acceptance() for _ in range(20)]
        given: list[dict[str, object]] = []
        while (answer := await kg.get("/v1/inbox", after=len(given)))["deliveries"]:
            assert len(answer.body) < 2.2 * 1024 * 1024
            assert answer["last"] == 20
            given += answer["deliveries"]
        assert [item["position"] for item in given] == list(range(1, 21))
        deliveries = [msgspec.convert(item["delivery"], Delivery) for item in given]
        assert [delivery.acceptance for delivery in deliveries] == sent

    async def test_has_a_tombstone_where_a_message_expired(self, kz, kg, clock):
        accepted = (await kz.send(expires=builders.time(10))).acceptance()
        clock.forward(minutes=10)
        answer = await kg.get("/v1/inbox")
        [item] = answer["deliveries"]
        assert (item["position"], item["tombstone"]) == (1, "expired")
        assert msgspec.convert(item["acceptance"], Acceptance) == accepted


async def test_what_expired_unfetched_is_noted_in_the_log(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    async with client.running(settings) as hub:
        kz, kg = hub.participant("kz"), hub.participant("kg")
        sent = await kz.send(expires=builders.time(10))
        await kg.post("/v1/receipts", kg.receipt(*await kg.inbox()))
        clock.forward(minutes=10)
        found: list[dict[str, dict[str, object]]] = []
        while not found:
            answer = await hub.operator.get("/v1/audit/events", type="delivery.expired")
            found = answer["events"]
    [event] = found
    assert event["entry"]["subject"] == hub.open(sent.acceptance()).entry.subject
    assert event["private"] == {"recipients": ["tj", "tm"]}


class TestAnEventStream:
    async def test_goes_on_from_page_to_page(self, kz, kg, monkeypatch):
        monkeypatch.setattr(queries, "MAX_PAGE", 1)
        for _ in range(3):
            await kz.send()
        async with kg.events() as stream:
            assert [(await anext(stream)).id for _ in range(3)] == [1, 2, 3]

    async def test_brings_what_is_there_and_then_what_comes(self, kz, kg):
        await kz.send()
        async with kg.events() as stream:
            first = await anext(stream)
            assert (first.id, first.name) == (1, "delivery")
            sent = await kz.send()
            second = await anext(stream)
        assert second.id == second.data["position"] == 2
        assert second.data["delivery"]["entry"] == sent["entry"]

    async def test_goes_on_after_the_last_event_that_was_seen(self, kz, kg):
        for _ in range(3):
            await kz.send()
        async with kg.events(after=0, Last_Event_ID="2") as stream:
            assert (await anext(stream)).id == 3

    async def test_takes_a_last_event_id_that_is_none_for_nothing_seen(self, kz, kg):
        await kz.send()
        for nonsense in ("-1", "x", "9" * 5000, "٣"):
            async with kg.events(Last_Event_ID=nonsense) as stream:
                assert (await anext(stream)).id == 1


class TestOneMessage:
    async def test_is_given_to_its_sender_and_its_recipients_alone(self, hub, kz, kg):
        sent = kz.message(audience=["kg"])
        acceptance = (await kz.submit(kz.sign(sent))).acceptance()
        for reader in (kz, kg):
            answer = await reader.get(f"/v1/messages/{sent['id']}")
            assert answer["entry"] == acceptance.entry
        other = await hub.participant("tj").get(f"/v1/messages/{sent['id']}")
        unknown = await kz.get("/v1/messages/nothing")
        assert (other.code, other["detail"]) == (unknown.code, unknown["detail"])
        assert other.code == "not-found"


async def test_the_directory_tells_who_is_who(hub, kz):
    answer = await kz.get("/v1/members")
    assert {member["code"]: member["role"] for member in answer["members"]} == {
        "kz": "member",
        "kg": "member",
        "tj": "member",
        "tm": "member",
        "undp": "partner",
        "guest": "observer",
    }
    keys = await kz.get("/v1/keys", member="kg")
    assert [key["member"] for key in keys["keys"]] == ["kg"]


async def test_a_group_can_be_addressed(hub, kz):
    changed = await hub.operator.post("/v1/groups/network", members=["kg", "undp"])
    assert changed.status == 200
    private = accepted_private(hub.open((await kz.send(audience=["network"])).acceptance()))
    assert set(private.recipients) == {"kg", "undp"}


async def waiting(hub, code):
    """Until somebody waits at the bell of a participant."""
    while code not in hub.service.bells._bells:
        await hub.operator.get("/livez")
