"""Webhooks at the console: what owners, operators and auditors see and do, and what they cannot."""

import asyncio
import re
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from hub.delivery import schedule
from hub.doors import webhooks
from hub.settings import Webhooks
from tests import client
from tests.integration.hub import test_webhooks
from tests.integration.hub.test_console import visiting
from tests.integration.hub.test_console_members import Desk
from tests.integration.hub.test_webhooks import (
    Owner,
    attempts,
    eventually,
    forward,
    nothing_waits,
    send,
)

endpoint, other, settings = (
    test_webhooks.endpoint,
    test_webhooks.other,
    test_webhooks.settings,
)
PATH = "/console/webhooks"


@pytest.fixture
def undp(hub):
    return Owner(hub.participant("undp"))


@pytest.fixture
async def own(hub):
    """undp at the console."""
    async with visiting(hub) as made:
        await made.enter(hub.participant("undp").token("POST", "/console/login"))
        yield Desk(made, await made.csrf(PATH))


@pytest.fixture
async def desk(hub):
    """An operator at the console."""
    async with visiting(hub) as made:
        await made.enter(await hub.operator.token("desk", "operator"))
        yield Desk(made, await made.csrf())


@pytest.fixture
async def audit(hub):
    async with visiting(hub) as made:
        await made.enter(await hub.operator.token("audit", "auditor"))
        yield Desk(made, await made.csrf())


async def page(desk, path):
    status, text = await desk.get(path)
    assert status == 200, text
    return text


async def last(hub, kind):
    return (await hub.operator.get("/v1/audit/events", type=kind))["events"][-1]


# --- The list ---


async def test_an_owner_sees_its_own_and_operators_and_auditors_see_all(
    hub, undp, own, desk, audit, endpoint, other
):
    mine = await undp.subscribe(endpoint.url, filter={"senders": ["kz"], "sdgs": [16]})
    others = await Owner(hub.participant("kg")).subscribe(other.url)
    listed = await page(own, PATH)
    assert mine["id"] in listed
    assert others["id"] not in listed
    assert f"127.0.0.1:{endpoint.port}" in listed
    assert "16. Peace, justice and strong institutions" in listed
    for each in (desk, audit):
        listed = await page(each, PATH)
        assert mine["id"] in listed
        assert others["id"] in listed
        assert "All that its owner may be sent" in listed


async def test_where_webhooks_are_off_the_pages_say_so(settings, clock):
    off = replace(settings, webhooks=Webhooks(enabled=False))
    async with client.running(off) as hub, visiting(hub) as visitor:
        await visitor.enter(hub.participant("undp").token("POST", "/console/login"))
        own = Desk(visitor, "")
        shown = await page(own, PATH)
        assert "This hub sends no webhooks." in shown
        assert f"{PATH}/new" not in shown
        assert (await own.get(f"{PATH}/new"))[0] == 404


# --- One ---


async def test_what_the_endpoint_answered_is_for_its_owner(
    hub, kz, undp, own, desk, audit, endpoint
):
    endpoint.text = "<i>private words</i>"
    made = await undp.subscribe(endpoint.url)
    sent = await send(kz)
    await attempts(undp, made, 1)
    here = f"{PATH}/{made['id']}"
    shown = await page(own, here)
    assert "&lt;i&gt;private words" in shown
    assert sent in shown
    for each in (desk, audit):
        shown = await page(each, here)
        assert f'"/console/messages/{sent}"' in shown
        assert "private words" not in shown
        assert "Beginning of the answer" not in shown
    tested = await desk.post(f"{here}/test")
    assert "Beginning of the answer" not in tested.body.decode()


async def test_nobody_reaches_another_s(hub, own, endpoint):
    made = await Owner(hub.participant("kg")).subscribe(endpoint.url)
    here = f"{PATH}/{made['id']}"
    size = await hub.size()
    for path in (here, f"{here}/end", f"{here}/secret", f"{here}/replay"):
        assert (await own.get(path))[0] == 404
    for name in ("end", "secret", "replay", "redrive", "test"):
        answer = await own.post(f"{here}/{name}", since="2026-07-01", all="yes")
        assert answer.status == 404
    assert await hub.size() == size


async def test_an_auditor_sees_no_form(audit, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    for path in (PATH, f"{PATH}/{made['id']}"):
        shown = await page(audit, path)
        assert set(re.findall('action="([^"]+)"', shown)) == {"/console/logout"}
        assert not re.search("/(end|secret|replay|new)", shown)


async def test_a_test_says_what_the_endpoint_made_of_the_challenge(own, undp, endpoint):
    endpoint.proves = False
    made = await undp.subscribe(endpoint.url)
    here = f"{PATH}/{made['id']}"
    assert "Start the receiver, then test it" in await page(own, here)
    failed = (await own.post(f"{here}/test")).body.decode()
    assert "The address did not answer the challenge." in failed
    assert "did not answer with the text of data.challenge" in failed
    assert '<bdi dir="auto">hello</bdi>' in failed
    endpoint.proves = True
    assert "The address answered the challenge." in (await own.post(f"{here}/test")).body.decode()
    assert await undp.state(made) == "active"


async def test_a_new_secret_is_shown_once_and_to_its_owner(hub, own, desk, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    here = f"{PATH}/{made['id']}"
    shown = await own.do(f"{here}/secret")
    [secret] = re.findall(r"whsec_[A-Za-z0-9+/]{43}=", shown)
    found = await hub.service.webhooks.store.subscription(made["id"])
    assert secret == webhooks.secret(hub.service, found) != made["secret"]
    assert "There is a new secret." in shown
    assert "whsec_" not in await page(own, here)
    assert (await last(hub, "subscription.secret_rotated"))["entry"]["actor"] == "undp"
    assert (await desk.post(f"{here}/secret")).status == 403
    assert "secret" not in await page(desk, here)


async def test_a_secret_that_somebody_puts_into_the_cookie_is_not_shown(own, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    [session] = own.visitor.cookies.values()
    cookie = f"{session.key}={session.value}; nhri-webhook-secret=whsec_{'A' * 43}="
    answer = await own.visitor.get(f"{PATH}/{made['id']}", Cookie=cookie)
    assert answer.status == 200
    assert b"whsec_" not in answer.body


async def test_bytes_that_are_no_text_in_the_cookie_are_no_secret(hub, own, undp, endpoint):
    made = await undp.subscribe(endpoint.url)
    [session] = own.visitor.cookies.values()
    lines = [
        f"GET {PATH}/{made['id']} HTTP/1.1",
        *("Host: hub", "Connection: close"),
        f'Cookie: {session.key}={session.value}; nhri-webhook-secret="\xff"',
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(hub.settings.url).port)
    async with asyncio.timeout(test_webhooks.PATIENCE):
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_nul_in_the_address_is_refused(own):
    answer = await own.visitor.get(f"{PATH}/%00")
    assert answer.status == 400
    assert "Take %00 out of the address." in answer.body.decode()


@pytest.mark.parametrize("who", ["own", "desk"])
async def test_it_is_ended(hub, own, desk, undp, endpoint, who):
    desk = {"own": own, "desk": desk}[who]
    made = await undp.subscribe(endpoint.url)
    here = f"{PATH}/{made['id']}"
    assert "This cannot be undone." in await page(desk, f"{here}/end")
    assert "The subscription has ended." in await desk.do(f"{here}/end")
    actor = {"own": "undp", "desk": "account:desk"}[who]
    assert (await last(hub, "subscription.ended"))["entry"]["actor"] == actor
    assert (await desk.get(here))[0] == 404


async def set_aside(hub, clock, kz, undp, made, endpoint, count=1):
    """Messages that were tried until the end."""
    endpoint.status = 500
    sent = [await send(kz) for _ in range(count)]
    for number, delay in enumerate((*schedule.RETRIES, schedule.RETRIES[0]), 1):
        await attempts(undp, made, number * count)
        forward(hub, clock, seconds=delay.total_seconds() * (1 + schedule.JITTER))

    async def all_dead():
        return len((await undp.get(f"/{made['id']}/dead"))["dead"]) == count

    await eventually(all_dead)
    return sent


async def test_what_was_set_aside_is_tried_anew(hub, clock, kz, undp, endpoint, other):
    made = await undp.subscribe(endpoint.url)
    first, second = await set_aside(hub, clock, kz, undp, made, endpoint, 2)
    async with visiting(hub) as visitor:
        await visitor.enter(hub.participant("undp").token("POST", "/console/login"))
        own = Desk(visitor, await visitor.csrf(PATH))
        here = f"{PATH}/{made['id']}"
        shown = await page(own, here)
        assert f'name="message-{first}"' in shown
        nothing = await own.post(f"{here}/redrive")
        assert nothing.status == 400
        assert "Tick the messages" in nothing.body.decode()
        endpoint.status = 200
        before = len(endpoint.got)
        shown = await own.do(f"{here}/redrive", **{f"message-{second}": "on"})
        assert "The messages are tried anew." in shown
        await endpoint.until(before + 1)
        assert endpoint.ids[before:] == [second]
        await own.do(f"{here}/redrive", all="yes")
        await endpoint.until(before + 2)
        assert endpoint.ids[before:] == [second, first]


async def test_messages_of_some_days_are_sent_again(hub, clock, kz, undp, own, endpoint):
    made = await undp.subscribe(endpoint.url)
    here = f"{PATH}/{made['id']}"
    day = hub.service.clock().date().isoformat()
    none = (await own.post(f"{here}/replay", since=day)).body.decode()
    assert "asks for none of the messages" in none
    first, second = await send(kz), await send(kz)
    await endpoint.until(2)
    await nothing_waits(hub, made)
    shown = await own.do(f"{here}/replay", since=day, until=day)
    assert "The messages are sent again." in shown
    await endpoint.until(4)
    await nothing_waits(hub, made)
    clock.forward(seconds=1)
    await own.do(f"{here}/replay", message=f" {second} ")
    await endpoint.until(5)
    assert sorted(endpoint.ids[2:4]) == sorted([first, second])
    assert endpoint.ids[4] == second


async def test_a_long_replay_goes_on_where_it_stopped(own, undp, endpoint, monkeypatch):
    made = await undp.subscribe(endpoint.url)
    asked = []

    async def replay(hub, asked_for, wanted):
        asked.append(wanted)
        return webhooks.SentAgain(3, None, next=41 if wanted.after == -1 else None)

    monkeypatch.setattr(webhooks, "replay", replay)
    here = f"{PATH}/{made['id']}"
    shown = (await own.post(f"{here}/replay", since="2026-07-01")).body.decode()
    assert "3 messages are sent again." in shown
    [after] = re.findall('name="after" value="([^"]+)"', shown)
    assert 'value="2026-07-01"' in shown
    await own.do(f"{here}/replay", since="2026-07-01", after=after)
    assert [each.after for each in asked] == [-1, 41]
    assert asked[1] == replace(asked[0], after=41)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Give a day as YYYY-MM-DD."),
        ({"since": "yesterday"}, "Give a day as YYYY-MM-DD."),
        ({"since": "2026-07-01", "message": "x"}, "message"),
        ({"since": "2026-07-01", "after": "x"}, "after"),
        ({"since": "2026-07-01", "after": "9" * 30}, "after"),
    ],
)
async def test_a_replay_that_cannot_be_keeps_what_was_typed(own, undp, endpoint, fields, said):
    made = await undp.subscribe(endpoint.url)
    answer = await own.post(f"{PATH}/{made['id']}/replay", **fields)
    assert answer.status in {400, 422}
    shown = answer.body.decode()
    assert said in shown
    assert f'value="{fields.get("since", "")}"' in shown


# --- A new one ---


async def test_an_owner_sees_what_it_would_have_been_sent_and_then_subscribes(
    hub, clock, kz, kg, own, endpoint
):
    wanted = await send(kz)
    unwanted = await send(kg)
    clock.forward(seconds=1)
    fields = {"url": endpoint.url, "senders-kz": "on", "languages": "ru, en", "ordered": "on"}
    size = await hub.size()
    tried = await own.post(f"{PATH}/try", **fields)
    assert tried.status == 200
    shown = tried.body.decode()
    assert "1 message." in shown
    assert wanted in shown
    assert unwanted not in shown
    assert await hub.size() == size
    hidden = dict(re.findall('type="hidden" name="([^"]+)" value="([^"]*)"', shown))
    assert hidden.pop("csrf")
    assert hidden == fields
    made = await own.do(PATH, **hidden)
    assert "The subscription was made." in made
    assert len(re.findall(r"whsec_[A-Za-z0-9+/]{43}=", made)) == 1
    [found] = await hub.service.webhooks.store.subscriptions()
    assert (found.owner, found.ordered, found.endpoint.state) == ("undp", True, "active")
    assert (found.filter.senders, found.filter.languages) == (("kz",), ("ru", "en"))
    created = await last(hub, "subscription.created")
    assert (created["entry"]["actor"], created["entry"]["subject"]) == ("undp", found.id)
    assert "whsec_" not in await page(own, f"{PATH}/{found.id}")


async def test_an_operator_subscribes_for_a_participant(hub, desk, endpoint):
    form = await page(desk, f"{PATH}/new")
    assert '<option value="undp">' in form
    refused = await desk.post(f"{PATH}/try", url=endpoint.url)
    assert "Say for whom" in refused.body.decode()
    made = await desk.do(PATH, url=endpoint.url, owner="undp")
    assert "whsec_" in made
    [found] = await hub.service.webhooks.store.subscriptions()
    assert found.owner == "undp"
    assert (await last(hub, "subscription.created"))["entry"]["actor"] == "account:desk"


async def test_nobody_who_is_suspended_can_be_chosen(hub, desk):
    await hub.operator.post("/v1/members/tm/suspend", reason="a test")
    form = await page(desk, f"{PATH}/new")
    assert '<option value="kz">' in form
    assert '<option value="tm">' not in form


@pytest.mark.parametrize(
    ("fields", "wrong", "said"),
    [
        ({"url": "http://hooks.example.org/"}, "url", "begins with https://"),
        ({"url": "https://10.0.0.1/"}, "url", "give a public address"),
        ({"languages": "Russian"}, "languages", "marks no text; write a language as"),
        ({"threads": "x"}, "threads", "is no id of a message"),
        ({"markings-TLP:PINK": "on"}, "markings", "The markings are"),
        ({"sdgs-99": "on"}, "sdgs", "is no goal"),
        ({f"sdgs-{'9' * 5000}": "on"}, "sdgs", "999"),
        ({"owner": "kz"}, None, "for oneself"),
    ],
)
@pytest.mark.parametrize("path", [PATH, f"{PATH}/try"])
async def test_what_cannot_be_is_said_beside_its_field(own, hub, path, fields, wrong, said):
    size = await hub.size()
    answer = await own.post(path, **{"url": "https://hooks.undp.org/", **fields})
    assert answer.status in {400, 403, 422}
    shown = answer.body.decode()
    assert said in shown
    assert re.findall('<p id="([a-z]+)-wrong"', shown) == ([wrong] if wrong else [])
    assert f'value="{fields.get("url", "https://hooks.undp.org/")}"' in shown
    assert await hub.size() == size


async def test_the_form_can_be_changed_after_the_trial(own, endpoint):
    fields = {"url": endpoint.url, "themes-torture_prevention": "on", "languages": "ru"}
    form = (await own.post(f"{PATH}/new", **fields)).body.decode()
    assert 'name="themes-torture_prevention" checked' in form
    assert f'value="{endpoint.url}"' in form
    assert form.count(" checked") == 1


async def test_who_has_as_many_as_it_may_is_told(hub, own, undp, endpoint):
    for _ in range(hub.settings.webhooks.subscriptions):
        await undp.subscribe(endpoint.url)
    answer = await own.post(PATH, url=endpoint.url)
    assert answer.status == 409
    assert "the limit; end one first" in answer.body.decode()
