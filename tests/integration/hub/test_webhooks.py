"""Webhook subscriptions over a real hub and real endpoints on 127.0.0.1, by the hub's own clock."""

import asyncio
import base64
import json
import sqlite3
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import standardwebhooks
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec.structs import replace

from connectors.link.http import HttpLink, Identity
from connectors.webhooks import KINDS as ALARMS
from hub import upkeep
from hub.delivery import pace, schedule, webhooks
from hub.delivery.lines import IN_LINE, PER_ENDPOINT
from hub.doors import webhooks as doors
from hub.settings import Webhooks
from hub.store import webhooks as stored
from schemas import webhook
from schemas.acceptance import Acceptance
from schemas.encoding import format_time
from schemas.refusal import Refused
from schemas.webhook import PublicKey, Secret
from tests import client
from tests.integration.hub.test_metrics import measures

PATIENCE = 90


async def eventually(holds):
    """Ask again until it is so."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110 - it is known to the hub alone
            await asyncio.sleep(0.02)


class Endpoint:
    """A receiver that answers the challenge, and to all else what the test says."""

    def __init__(self):
        self.status = 200
        self.headers = {}
        self.text = "thanks"
        self.proves = True
        self.meanwhile = None
        self.hanging = None
        self.asked = []
        self.got = []
        self.url = ""
        self.port = 0
        self._news = asyncio.Event()

    async def answer(self, request):
        body = await request.read()
        event = json.loads(body)
        if event["type"].endswith("challenge.v1"):
            self.asked.append(dict(request.headers))
            if self.meanwhile is not None:
                await self.meanwhile()
            return web.Response(text=event["data"]["challenge"] if self.proves else "hello")
        self.got.append((dict(request.headers), body))
        self._news.set()
        if self.hanging is not None:
            await self.hanging.wait()
        return web.Response(status=self.status, headers=self.headers, text=self.text)

    @property
    def ids(self):
        return [json.loads(body)["id"] for _, body in self.got]

    async def until(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.got) < count:
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def listening():
    endpoint = Endpoint()
    application = web.Application()
    application.router.add_post("/hook", endpoint.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    endpoint.port = port
    endpoint.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield endpoint
    finally:
        if endpoint.hanging is not None:
            endpoint.hanging.set()
        await runner.cleanup()


@pytest.fixture
async def endpoint():
    async with listening() as made:
        yield made


@pytest.fixture
async def other():
    async with listening() as made:
        yield made


@pytest.fixture
def settings(settings, endpoint, other):
    """The operator allows the endpoints of the test, and nothing else."""
    allowed = Webhooks(
        hosts=("127.0.0.1",),
        networks=("127.0.0.1/32",),
        ports=(443, 8443, endpoint.port, other.port),
    )
    return replace(settings, webhooks=allowed)


class Owner:
    """A participant and its subscriptions."""

    def __init__(self, participant):
        self.participant = participant

    async def post(self, path, **body):
        return await self.participant.post(f"/v1/subscriptions{path}", json.dumps(body).encode())

    async def get(self, path, **query):
        return await self.participant.get(f"/v1/subscriptions{path}", **query)

    async def subscribe(self, url, **wanted):
        answer = await self.post("", url=url, **wanted)
        assert answer.status == 201, answer
        return answer.json

    async def state(self, subscription):
        return (await self.get(f"/{subscription['id']}"))["state"]

    async def until(self, subscription, state):
        async def stands():
            return await self.state(subscription) == state

        await eventually(stands)


@pytest.fixture
def undp(hub):
    return Owner(hub.participant("undp"))


async def send(participant, **overrides):
    """Have a message accepted; its id."""
    made = participant.message(**{"audience": ["undp"], "marking": "TLP:GREEN"} | overrides)
    answer = await participant.submit(participant.sign(made))
    assert answer.status == 201, answer
    return made["id"]


def forward(hub, clock, **duration):
    """Time passes, and the worker looks at its clock."""
    clock.forward(**duration)
    hub.service.webhooks.wake()


def deliveries(hub, subscription):
    """State, attempts and the time of the next one of each delivery, in the order of the log."""
    query = "SELECT state, attempts, next FROM webhook_deliveries WHERE subscription = ?"
    with closing(sqlite3.connect(Path(hub.settings.folder) / "hub.sqlite")) as database:
        return database.execute(f"{query} ORDER BY idx", (subscription["id"],)).fetchall()


async def attempts(owner, subscription, count):
    """The attempts, the newest first, once there are so many."""
    found: list[dict[str, object]] = []

    async def there():
        answer = await owner.get(f"/{subscription['id']}/attempts")
        found[:] = answer["attempts"]
        return len(found) >= count

    await eventually(there)
    return found


async def nothing_waits(hub, made):
    """What was sent is settled, too: it could not be sent again before."""
    store = hub.service.webhooks.store

    async def holds():
        return (await store.standing([made["id"]]))[made["id"]].waiting == 0

    await eventually(holds)


# --- Subscribing ---


async def test_an_endpoint_that_answers_the_challenge_is_active_at_once(undp, endpoint):
    made = await undp.subscribe(endpoint.url, filter={"senders": ["kz"]})
    assert made["state"] == "active"
    assert [each["Content-Type"] for each in endpoint.asked] == ["application/cloudevents+json"]
    assert made["secret"].startswith("whsec_")
    assert made["key"].startswith("whpk_")
    [listed] = (await undp.get(""))["subscriptions"]
    assert listed == {name: value for name, value in made.items() if name != "secret"}


async def test_nothing_is_sent_to_an_endpoint_that_did_not_answer_its_challenge(
    hub, kz, undp, endpoint
):
    endpoint.proves = False
    made = await undp.subscribe(endpoint.url)
    assert made["state"] == "unproven"
    await send(kz)
    tried = await undp.post(f"/{made['id']}/test")
    assert (tried["proven"], tried["status"], tried["excerpt"]) == (False, 200, "hello")
    endpoint.proves = True
    tried = await undp.post(f"/{made['id']}/test")
    assert (tried["proven"], tried["state"]) == (True, "active")
    second = await send(kz)
    await endpoint.until(1)
    assert endpoint.ids == [second]


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        ({"url": "http://hooks.example.org/"}, "bad-request", "$.url"),
        ({"url": "https://10.0.0.1/"}, "bad-request", "$.url"),
        ({"url": "https://hooks.undp.org/", "filter": {"kinds": ["x"]}}, "schema", "$.kinds[0]"),
        ({"url": "https://hooks.undp.org/", "colour": 1}, "schema", "$.colour"),
        ({"url": "https://hooks.undp.org/", "owner": "kz"}, "forbidden", None),
    ],
)
async def test_what_cannot_be_subscribed_to_is_refused_with_a_reason(undp, body, code, path):
    answer = await undp.post("", **body)
    assert (answer.code, answer.json.get("path")) == (code, path)
    assert (await undp.get(""))["subscriptions"] == []


async def test_an_owner_has_so_many_subscriptions_and_no_more(hub, undp, endpoint):
    limit = hub.settings.webhooks.subscriptions
    *_, made = [await undp.subscribe(endpoint.url) for _ in range(limit)]
    answer = await undp.post("", url=endpoint.url)
    assert (answer.status, answer.code) == (409, "conflict")
    assert (await undp.post(f"/{made['id']}/end")).status == 200
    await undp.subscribe(endpoint.url)


async def test_nobody_reaches_another_s_subscription(hub, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    kz = Owner(hub.participant("kz"))
    assert (await kz.get(""))["subscriptions"] == []
    for path in ("", "/attempts", "/dead"):
        assert (await kz.get(f"/{made['id']}{path}")).code == "not-found"
    for path in ("", "/end", "/secret", "/test", "/redrive"):
        assert (await kz.post(f"/{made['id']}{path}")).code == "not-found"
    assert await undp.state(made) == "active"


async def test_an_operator_subscribes_for_a_participant_and_does_not_see_what_it_answers(
    hub, kz, undp, endpoint
):
    endpoint.text = "private words"
    made = await hub.operator.post("/v1/subscriptions", url=endpoint.url, owner="undp")
    assert made.status == 201
    await send(kz)
    [own] = await attempts(undp, made, 1)
    assert own["excerpt"] == "private words"
    seen = await hub.operator.get(f"/v1/subscriptions/{made['id']}/attempts")
    assert [each["excerpt"] for each in seen["attempts"]] == [None]
    tried = await hub.operator.post(f"/v1/subscriptions/{made['id']}/test")
    assert tried["excerpt"] is None
    ended = await hub.operator.post(f"/v1/subscriptions/{made['id']}/end")
    assert ended.status == 200
    assert (await undp.get(""))["subscriptions"] == []


async def test_all_that_happens_to_a_subscription_is_in_the_log(hub, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    await undp.post(f"/{made['id']}/secret")
    await undp.post(f"/{made['id']}", ordered=True)
    await undp.post(f"/{made['id']}/end")
    events = (await hub.operator.get("/v1/audit/events", subject=made["id"]))["events"]
    assert [(e["entry"]["type"], e["entry"]["actor"]) for e in events] == [
        ("subscription.created", "undp"),
        ("webhook.proven", "hub"),
        ("subscription.secret_rotated", "undp"),
        ("subscription.changed", "undp"),
        ("subscription.ended", "undp"),
    ]
    assert all(event["entry"]["public"] == {} for event in events)
    assert events[0]["private"]["url"] == endpoint.url


# --- Sending ---


async def test_a_message_arrives_signed_and_carries_what_proves_it(hub, kz, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    sent = await send(kz)
    await endpoint.until(1)
    [(headers, body)] = endpoint.got
    names = {name.lower(): value for name, value in headers.items()}
    assert names["content-type"] == "application/cloudevents+json"
    for text in (made["secret"], made["key"]):
        key = webhook.parse_key(text)
        assert isinstance(key, Secret | PublicKey)
        webhook.verify([key], names, body, hub.service.clock())
    event = json.loads(body)
    assert names["webhook-id"] == event["id"] == sent
    assert event["data"]["message"]["sender"] == "kz"
    accepted = msgspec.convert(event["data"]["acceptance"], Acceptance)
    assert hub.open(accepted).entry.subject == sent
    [attempt] = await attempts(undp, made, 1)
    assert (attempt["message"], attempt["status"], attempt["excerpt"]) == (sent, 200, "thanks")


async def test_other_libraries_take_the_signatures(hub, kz, undp, endpoint, monkeypatch):
    made = await undp.subscribe(endpoint.url)
    await send(kz)
    await endpoint.until(1)
    [(headers, body)] = endpoint.got
    names = {name.lower(): value for name, value in headers.items()}
    library = standardwebhooks.Webhook(made["secret"])
    monkeypatch.setattr(library, "_Webhook__verify_timestamp", lambda _: hub.service.clock())
    assert library.verify(body, names)["id"] == names["webhook-id"]
    key = webhook.parse_key(made["key"])
    assert isinstance(key, PublicKey)
    content = f"{names['webhook-id']}.{names['webhook-timestamp']}.".encode() + body
    [signed] = [s for s in names["webhook-signature"].split() if s.startswith("v1a,")]
    Ed25519PublicKey.from_public_bytes(key.raw).verify(
        base64.b64decode(signed.removeprefix("v1a,")), content
    )


async def test_only_what_routing_and_filter_let_through_is_sent(hub, kz, kg, undp, endpoint):
    await undp.subscribe(endpoint.url, filter={"senders": ["kz"]})
    await send(kg)
    await send(kz, audience=["kg"])
    own = await send(kz)
    clear = await send(kz, audience=["kg"], marking="TLP:CLEAR")
    await endpoint.until(2)
    assert sorted(endpoint.ids) == sorted([own, clear])


async def test_amber_goes_to_a_webhook_of_a_member_and_to_no_partner_s(
    hub, kz, undp, endpoint, other
):
    kg = Owner(hub.participant("kg"))
    await kg.subscribe(other.url)
    await undp.subscribe(endpoint.url)
    amber = await send(kz, audience=["kg"], marking="TLP:AMBER")
    await send(kz, audience=["kg"], marking="TLP:AMBER+STRICT")
    last = await send(kz, audience=["kg", "undp"])
    await asyncio.gather(other.until(2), endpoint.until(1))
    assert sorted(other.ids) == sorted([amber, last])
    assert endpoint.ids == [last]


async def test_the_languages_asked_for_come_first(hub, kz, undp, endpoint):
    await undp.subscribe(endpoint.url, filter={"languages": ["ru"]})
    texts = {tag: {"title": tag, "summary": tag, "body": tag} for tag in ("en", "ru")}
    await send(kz, texts=texts)
    await endpoint.until(1)
    assert list(json.loads(endpoint.got[0][1])["data"]["message"]["texts"]) == ["ru", "en"]


async def test_a_message_erased_before_it_went_out_is_withheld(hub, clock, kz, undp, endpoint):
    endpoint.status = 500
    made = await undp.subscribe(endpoint.url)
    sent = await send(kz)
    await attempts(undp, made, 1)
    erased = await hub.operator.post(f"/v1/messages/{sent}/erase", reason="a test of it")
    assert erased.status == 200
    endpoint.status = 200
    forward(hub, clock, seconds=6)
    second = await send(kz)
    await endpoint.until(2)
    assert endpoint.ids == [sent, second]


async def in_line(hub, kz, endpoint, count, **overrides):
    """The ids of so many messages in line, behind posts at which the endpoint hangs."""
    endpoint.hanging = asyncio.Event()
    sent = [await send(kz, **overrides) for _ in range(PER_ENDPOINT + count)]
    await endpoint.until(PER_ENDPOINT)

    async def claimed():
        return hub.service.webhooks.in_hand == len(sent)

    await eventually(claimed)
    return [each for each in sent if each not in endpoint.ids]


async def none_in_hand(hub):
    """Until all that was in line is posted or put off."""

    async def left():
        return hub.service.webhooks.in_hand == 0

    await eventually(left)


async def test_a_message_erased_while_it_waits_in_line_is_not_sent(hub, kz, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    first, second = await in_line(hub, kz, endpoint, 2)
    erased = await hub.operator.post(f"/v1/messages/{first}/erase", reason="a test of it")
    assert erased.status == 200
    endpoint.hanging.set()
    await endpoint.until(PER_ENDPOINT + 1)
    await attempts(undp, made, PER_ENDPOINT + 1)
    assert (endpoint.ids[PER_ENDPOINT], first in endpoint.ids) == (second, False)


async def states(hub, subscription, *expected):
    """Until the deliveries stand so, in the order of the log."""

    async def there():
        return [state for state, *_ in deliveries(hub, subscription)] == list(expected)

    await eventually(there)


async def test_the_marking_is_decided_again_while_a_message_waits_in_line(
    hub, kz, endpoint, monkeypatch
):
    kg = Owner(hub.participant("kg"))
    made = await kg.subscribe(endpoint.url)
    await in_line(hub, kz, endpoint, 2, audience=["kg"], marking="TLP:AMBER")
    now = hub.service.webhooks._directory()
    partner = replace(now.participants["kg"], role="partner")
    changed = replace(now, participants={**now.participants, "kg": partner})
    monkeypatch.setattr(hub.service.webhooks, "_directory", lambda: changed)
    green = await send(kz, audience=["kg"])
    endpoint.hanging.set()
    await states(hub, made, *PER_ENDPOINT * ["delivered"], "withheld", "withheld", "delivered")
    assert endpoint.ids[PER_ENDPOINT:] == [green]


async def test_a_message_whose_time_ends_while_it_waits_in_line_is_not_sent(
    hub, clock, kz, undp, endpoint
):
    made = await undp.subscribe(endpoint.url)
    ends = format_time(clock() + timedelta(seconds=5))
    await in_line(hub, kz, endpoint, 2, expires=ends)
    clock.forward(seconds=5)
    lasting = await send(kz)
    endpoint.hanging.set()
    await states(hub, made, *PER_ENDPOINT * ["delivered"], "withheld", "withheld", "delivered")
    assert endpoint.ids[PER_ENDPOINT:] == [lasting]


async def test_what_waited_in_line_for_too_long_is_sent_after_its_lease(
    hub, clock, kz, undp, endpoint
):
    await undp.subscribe(endpoint.url)
    late = await in_line(hub, kz, endpoint, 2)
    clock.forward(seconds=webhooks.MAX_IN_LINE.total_seconds())
    endpoint.hanging.set()
    await none_in_hand(hub)
    assert len(endpoint.got) == PER_ENDPOINT
    forward(hub, clock, seconds=(webhooks.LEASE - webhooks.MAX_IN_LINE).total_seconds())
    await endpoint.until(PER_ENDPOINT + 2)
    assert sorted(endpoint.ids[PER_ENDPOINT:]) == sorted(late)


async def test_what_waits_in_line_for_an_owner_who_is_suspended_is_not_sent(
    hub, kz, undp, endpoint
):
    await undp.subscribe(endpoint.url)
    await in_line(hub, kz, endpoint, 2)
    await hub.operator.post("/v1/members/undp/suspend", reason="a test of it")
    endpoint.hanging.set()
    await none_in_hand(hub)
    assert len(endpoint.got) == PER_ENDPOINT


# --- Trying again ---


async def test_a_failure_is_tried_again_by_the_table_with_the_same_id(
    hub, clock, kz, undp, endpoint
):
    endpoint.status = 500
    made = await undp.subscribe(endpoint.url)
    sent = await send(kz)
    for number, delay in enumerate(schedule.RETRIES[:4], 1):
        await attempts(undp, made, number)
        clock.forward(seconds=delay.total_seconds() - 1)
        hub.service.webhooks.wake()
        assert len((await undp.get(f"/{made['id']}/attempts"))["attempts"]) == number
        forward(hub, clock, seconds=1 + delay.total_seconds() * schedule.JITTER)
    endpoint.status = 200
    await endpoint.until(5)
    forward(hub, clock, hours=6)
    await undp.until(made, "active")
    assert set(endpoint.ids) == {sent}


async def test_an_endpoint_that_says_it_is_gone_is_disabled_at_once(hub, kz, undp, endpoint):
    endpoint.status = 410
    made = await undp.subscribe(endpoint.url)
    await send(kz)
    await undp.until(made, "disabled")
    events = (await hub.operator.get("/v1/audit/events", subject=made["id"]))["events"]
    assert "webhook.gone" in {event["entry"]["type"] for event in events}
    await send(kz)
    tried = await undp.post(f"/{made['id']}/test")
    assert tried["state"] == "active"
    endpoint.status = 200
    last = await send(kz)
    await endpoint.until(2)
    assert endpoint.ids[1:] == [last]
    await none_in_hand(hub)
    posts = await measures(hub.operator)
    assert posts["nhri_hub_webhook_attempt_seconds_count", "gone"] == 1
    assert posts["nhri_hub_webhook_attempt_seconds_count", "taken"] == 1


async def test_of_what_is_in_line_nothing_is_sent_after_an_endpoint_said_that_it_is_gone(
    hub, clock, kz, undp, endpoint
):
    since = format_time(hub.service.clock())
    sent = [await send(kz) for _ in range(PER_ENDPOINT + IN_LINE)]
    made = await undp.subscribe(endpoint.url)
    endpoint.hanging = asyncio.Event()
    until = format_time(hub.service.clock() + timedelta(seconds=1))
    await undp.post(f"/{made['id']}/replay", since=since, until=until)  # all of them at once
    await endpoint.until(PER_ENDPOINT)
    assert hub.service.webhooks.in_hand == len(sent)
    endpoint.status = 410
    endpoint.hanging.set()
    await none_in_hand(hub)
    await undp.until(made, "disabled")
    assert len(endpoint.got) == len(await dead_letters(undp, made, PER_ENDPOINT))
    endpoint.status = 200
    assert (await undp.post(f"/{made['id']}/test"))["state"] == "active"
    forward(hub, clock, seconds=webhooks.LEASE.total_seconds())
    await endpoint.until(len(sent))
    assert sorted(endpoint.ids) == sorted(sent)


@pytest.mark.parametrize("status", [429, 503])
async def test_an_endpoint_that_asks_for_a_rest_is_sent_nothing_until_then(
    hub, clock, kz, undp, endpoint, other, status
):
    made = await undp.subscribe(endpoint.url)
    await Owner(hub.participant("guest")).subscribe(other.url)
    await in_line(hub, kz, endpoint, 2)
    endpoint.status, endpoint.headers = status, {"Retry-After": "3600"}
    endpoint.hanging.set()
    await none_in_hand(hub)
    endpoint.status = 200
    await send(kz, audience=["undp", "guest"])
    await other.until(1)
    now, rested = (format_time(clock() + timedelta(hours=hours)) for hours in (0, 1))
    assert sorted(deliveries(hub, made)) == [
        ("waiting", 0, now),  # it came during the rest: it is not even looked at
        *2 * [("waiting", 0, rested)],
        *PER_ENDPOINT * [("waiting", 1, rested)],
    ]
    forward(hub, clock, seconds=3599)
    await send(kz, audience=["undp", "guest"])
    await other.until(2)
    assert len(endpoint.got) == PER_ENDPOINT
    forward(hub, clock, seconds=1)
    await endpoint.until(PER_ENDPOINT + PER_ENDPOINT + 2 + 2)
    assert len(set(endpoint.ids)) == PER_ENDPOINT + 2 + 2


async def test_a_rest_is_nobody_else_s(hub, clock, kz, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    await Owner(hub.participant("guest")).subscribe(endpoint.url, filter={"senders": ["kg"]})
    endpoint.status, endpoint.headers = 429, {"Retry-After": "3600"}
    first = await send(kz)
    await attempts(undp, made, 1)
    endpoint.status = 200
    second = await send(hub.participant("kg"), audience=["undp", "guest"])
    await endpoint.until(2)
    third = await send(hub.participant("kg"), audience=["guest"])
    await endpoint.until(3)
    assert endpoint.ids == [first, second, third]
    forward(hub, clock, hours=1)
    await endpoint.until(5)
    assert sorted(endpoint.ids[3:]) == sorted([first, second])


async def test_a_rest_ends_with_the_address_that_asked_for_it(hub, kz, undp, endpoint, other):
    made = await undp.subscribe(endpoint.url)
    endpoint.status, endpoint.headers = 429, {"Retry-After": "3600"}
    await send(kz)
    await attempts(undp, made, 1)
    await undp.post(f"/{made['id']}", url=other.url)
    sent = await send(kz)
    await other.until(1)
    assert other.ids == [sent]


async def test_an_endpoint_that_fails_for_days_is_warned_of_and_then_disabled(
    hub, clock, kz, undp, endpoint
):
    endpoint.status = 503
    made = await undp.subscribe(endpoint.url)
    for _ in range(7):
        await send(kz)
        before = len(endpoint.got)
        await endpoint.until(before or 1)
        forward(hub, clock, days=1)

        async def tried(count=before + 1):
            return len(endpoint.got) >= count or await undp.state(made) == "disabled"

        await eventually(tried)
        if await undp.state(made) == "disabled":
            break
    await undp.until(made, "disabled")
    events = (await hub.operator.get("/v1/audit/events", subject=made["id"]))["events"]
    told = [event["entry"]["type"] for event in events]
    assert told.index("webhook.warned") < told.index("webhook.disabled")


async def test_a_connector_is_told_how_its_endpoints_stand(hub, kz, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    endpoint.status = 410
    await send(kz)
    await undp.until(made, "disabled")
    identity = Identity("undp", undp.participant.private, client.ORIGIN)
    link = HttpLink(hub.connection.url, identity, hub.service.clock)
    try:
        [found] = await link.webhooks()
    finally:
        await link.close()
    assert (found.id, found.state, found.state in ALARMS) == (made["id"], "disabled", True)


async def exhaust(hub, clock, owner, subscription):
    """Let every retry fail."""
    for number, delay in enumerate((*schedule.RETRIES, None), 1):
        await attempts(owner, subscription, number)
        if delay is not None:
            forward(hub, clock, seconds=delay.total_seconds() * (1 + schedule.JITTER))


async def dead_letters(owner, subscription, count):
    found: list[dict[str, object]] = []

    async def there():
        found[:] = (await owner.get(f"/{subscription['id']}/dead"))["dead"]
        return len(found) == count

    await eventually(there)
    return found


async def recorded(hub, kind, subscription):
    """Who did something with a subscription, and what was asked for, as the log has it."""
    query = {"subject": subscription["id"], "type": kind}
    events = (await hub.operator.get("/v1/audit/events", **query))["events"]
    assert all(event["entry"]["public"] == {} for event in events)
    return [(event["entry"]["actor"], event["private"]) for event in events]


async def test_what_was_set_aside_is_listed_and_can_be_begun_anew(hub, clock, kz, undp, endpoint):
    endpoint.status = 500
    made = await undp.subscribe(endpoint.url)
    sent = await send(kz)
    await exhaust(hub, clock, undp, made)
    [letter] = await dead_letters(undp, made, 1)
    assert (letter["message"], letter["attempts"]) == (sent, 1 + len(schedule.RETRIES))
    endpoint.status, before = 200, len(endpoint.got)
    assert (await undp.post(f"/{made['id']}/redrive"))["messages"] == 1
    await endpoint.until(before + 1)
    assert set(endpoint.ids) == {sent}
    await dead_letters(undp, made, 0)
    redriven = await recorded(hub, "subscription.redriven", made)
    assert redriven == [("undp", {"messages": []})]


async def test_a_time_is_replayed_under_the_same_ids(hub, kz, undp, endpoint):
    since = format_time(hub.service.clock())
    early = await send(kz)
    made = await undp.subscribe(endpoint.url)
    late = await send(kz)
    await endpoint.until(1)
    await attempts(undp, made, 1)
    until = format_time(hub.service.clock() + timedelta(seconds=1))
    answer = await undp.post(f"/{made['id']}/replay", since=since, until=until)
    assert answer.json == {"messages": 2, "next": None}
    await endpoint.until(3)
    assert endpoint.ids[0] == late
    assert sorted(endpoint.ids[1:]) == sorted([early, late])
    await nothing_waits(hub, made)
    named = await undp.post(f"/{made['id']}/replay", since=since, until=until, messages=[early])
    assert named["messages"] == 1
    await endpoint.until(4)
    assert endpoint.ids[3] == early
    asked = {"since": since, "until": until, "messages": [], "after": -1}
    assert await recorded(hub, "subscription.replayed", made) == [
        ("undp", asked),
        ("undp", asked | {"messages": [early]}),
    ]


async def test_a_dry_run_shows_what_would_have_matched_and_sends_nothing(hub, kz, kg, undp):
    own = await send(kz)
    await send(kg)
    await send(kz, audience=["kg"])
    hub.service.clock.forward(seconds=1)
    answer = await undp.post("/dry-run", filter={"senders": ["kz"]})
    assert [match["id"] for match in answer["messages"]] == [own]
    assert (answer["matched"], answer["looked_at"], answer["whole"]) == (1, 3, True)
    hub.service.clock.forward(days=31)
    assert (await undp.post("/dry-run"))["looked_at"] == 0


async def test_old_and_new_secret_both_sign_for_a_day(hub, clock, kz, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    rotated = await undp.post(f"/{made['id']}/secret")
    old, new = made["secret"], rotated["secret"]
    assert old != new
    await send(kz)
    await endpoint.until(1)
    clock.forward(days=1)
    await send(kz)
    await endpoint.until(2)
    holding = [[text for text in (old, new) if holds(text, *got)] for got in endpoint.got]
    assert holding == [[old, new], [new]]


def holds(text, headers, body):
    key = webhook.parse_key(text)
    assert isinstance(key, Secret)
    names = {name.lower(): value for name, value in headers.items()}
    try:
        sent = datetime.fromtimestamp(int(names["webhook-timestamp"]), UTC)
        webhook.verify([key], names, body, sent)
    except Refused:
        return False
    return True


async def test_in_order_the_next_of_a_thread_waits_for_the_one_before(
    hub, clock, kz, undp, endpoint
):
    made = await undp.subscribe(endpoint.url, ordered=True)
    endpoint.status = 500
    first = await send(kz)
    await attempts(undp, made, 1)
    endpoint.status = 200
    reply = await send(kz, thread=first, in_reply_to=first)
    elsewhere = await send(kz)
    await endpoint.until(2)
    forward(hub, clock, seconds=6)
    await endpoint.until(4)
    assert endpoint.ids == [first, elsewhere, first, reply]


async def test_an_endpoint_that_hangs_delays_no_other(hub, kz, undp, endpoint, other):
    endpoint.hanging = asyncio.Event()
    await undp.subscribe(endpoint.url)
    await Owner(hub.participant("guest")).subscribe(other.url)
    sent = [await send(kz, audience=["undp", "guest"]) for _ in range(12)]
    await asyncio.gather(other.until(12), endpoint.until(PER_ENDPOINT))
    assert sorted(other.ids) == sorted(sent)
    assert len(endpoint.got) == PER_ENDPOINT


async def test_a_new_address_takes_effect_only_if_it_answers_its_challenge(
    kz, undp, endpoint, other
):
    made = await undp.subscribe(endpoint.url)
    other.proves = False
    answer = await undp.post(f"/{made['id']}", url=other.url)
    assert (answer.status, answer.code) == (409, "conflict")
    await send(kz)
    await endpoint.until(1)
    other.proves = True
    assert (await undp.post(f"/{made['id']}", url=other.url))["url"] == other.url
    moved = await send(kz)
    await other.until(1)
    assert (other.ids, len(endpoint.got)) == ([moved], 1)


async def test_what_changes_while_a_new_address_is_challenged_stays_changed(
    hub, undp, endpoint, other
):
    made = await undp.subscribe(endpoint.url)

    async def change():
        assert (await undp.post(f"/{made['id']}", ordered=True))["ordered"]

    other.meanwhile = change
    moved = await undp.post(f"/{made['id']}", url=other.url)
    assert (moved["url"], moved["ordered"]) == (other.url, True)
    events = await hub.operator.get("/v1/audit/events", type="subscription.changed")
    agreed = [each["private"] for each in events["events"]]
    assert [(each["url"], each["ordered"]) for each in agreed] == [
        (endpoint.url, True),
        (other.url, True),
    ]


async def test_a_change_brings_no_address_back_that_proved_nothing(
    undp, endpoint, other, monkeypatch
):
    endpoint.proves = False
    made = await undp.subscribe(endpoint.url)
    alter = doors.alter

    async def late(*given):
        monkeypatch.setattr(doors, "alter", alter)
        assert (await undp.post(f"/{made['id']}", url=other.url))["state"] == "active"
        return await alter(*given)

    monkeypatch.setattr(doors, "alter", late)
    changed = await undp.post(f"/{made['id']}", ordered=True)
    assert (changed["url"], changed["state"]) == (other.url, "active")


async def test_an_owner_has_two_addresses_asked_at_a_time(hub, undp, endpoint, other):
    refused = []

    async def third():
        refused.append(await undp.post("", url=endpoint.url))

    async def second():
        endpoint.meanwhile = third
        await undp.subscribe(endpoint.url)

    other.meanwhile = second
    await undp.subscribe(other.url)
    assert [(answer.status, answer.code) for answer in refused] == [(503, "busy")]
    assert len((await undp.get(""))["subscriptions"]) == 2
    endpoint.meanwhile = None
    assert (await undp.post("", url=endpoint.url)).status == 201


async def test_what_became_of_deliveries_is_one_entry_in_the_log(hub, clock, kz, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    sent = [await send(kz) for _ in range(3)]
    await attempts(undp, made, 3)
    clock.forward(minutes=1)
    await upkeep._report_webhooks(hub.service, clock())
    await upkeep._report_webhooks(hub.service, clock())
    query = {"subject": made["id"], "type": "webhook.delivered"}
    [event] = (await hub.operator.get("/v1/audit/events", **query))["events"]
    assert event["entry"]["public"] == {"messages": 3}
    told = {
        (each["message"], each["state"], each["attempts"]) for each in event["private"]["outcomes"]
    }
    assert told == {(each, "delivered", 1) for each in sent}
    measures = hub.service.metrics.text().decode()
    assert 'nhri_hub_webhooks_done_total{outcome="delivered"} 3.0' in measures.splitlines()


async def test_whatever_became_of_many_deliveries_is_recorded_in_the_same_minute(
    hub, clock, kz, undp, endpoint, monkeypatch
):
    monkeypatch.setattr(stored, "REPORTED", 2)
    made = [await undp.subscribe(endpoint.url) for _ in range(2)]
    sent = [await send(kz) for _ in range(3)]
    for subscription in made:
        await attempts(undp, subscription, 3)
    clock.forward(minutes=1)
    await upkeep._report_webhooks(hub.service, clock())
    for subscription in made:
        query = {"subject": subscription["id"], "type": "webhook.delivered"}
        events = (await hub.operator.get("/v1/audit/events", **query))["events"]
        told = [each["message"] for event in events for each in event["private"]["outcomes"]]
        assert sorted(told) == sorted(sent)


async def test_what_was_owed_when_the_hub_stopped_is_sent_after_its_start(
    settings, clock, endpoint
):
    endpoint.status = 500
    async with client.running(settings) as hub:
        undp = Owner(hub.participant("undp"))
        made = await undp.subscribe(endpoint.url)
        sent = await send(hub.participant("kz"))
        await attempts(undp, made, 1)
    endpoint.status = 200
    clock.forward(seconds=6)
    async with client.running(settings):
        await endpoint.until(2)
    assert endpoint.ids == [sent, sent]


class TestWithOneSlot:
    @pytest.fixture
    def settings(self, settings):
        return replace(settings, webhooks=replace(settings.webhooks, slots=1))

    async def test_those_with_nothing_due_keep_it_from_nobody(self, hub, kz, undp, endpoint, other):
        for _ in range(3):
            await undp.subscribe(other.url, filter={"senders": ["kg"]})
        await undp.subscribe(endpoint.url)
        hub.service.webhooks.refresh()  # all of them may have something due
        sent = await send(kz)
        await endpoint.until(1)
        assert (endpoint.ids, other.ids) == ([sent], [])


async def test_an_endpoint_is_posted_to_no_faster_than_its_pace(
    hub, kz, undp, endpoint, other, clock, monkeypatch
):
    monkeypatch.setattr(pace, "BURST", 2)
    await undp.subscribe(endpoint.url, filter={"senders": ["kz"]})
    await undp.subscribe(other.url, filter={"senders": ["kg"]})
    sent = [await send(kz) for _ in range(3)]
    await endpoint.until(2)
    # The hub's clock stands still: there is room for another endpoint, and none for the third.
    await send(hub.participant("kg"))
    await other.until(1)
    assert len(endpoint.got) == 2
    forward(hub, clock, seconds=1)
    await endpoint.until(3)
    assert sorted(endpoint.ids) == sorted(sent)
