"""The quarantine in the browser, over a real broker: looked at, read, taken in, discarded."""

import tempfile
from pathlib import Path

import pytest
import pytest_asyncio

from schemas import amqp
from schemas import entry as entries
from tests import broker as brokers_of
from tests import client
from tests.browser.console import DESKTOP, PHONE, Console, picture, sideways, violations
from tests.client import Clock

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(brokers):
    """A place on the broker for the tests of this file."""
    return await brokers.new()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(browser, broker):
    """A hub on that broker, which kz and kg have joined."""
    with tempfile.TemporaryDirectory() as folder:
        settings = broker.settings(client.new_settings(Path(folder) / "hub"))
        async with client.running(settings) as hub:
            await hub.operator.join(hub.participant("kz"))
            await hub.operator.join(hub.participant("kg"))
            await broker.ready(hub)
            yield Console(hub, browser, Clock())


async def quarantined(console, broker, body, code="kz", **properties):
    """What cannot even be refused; the digest under which it is in quarantine."""
    async with broker.channel(code) as channel:
        await brokers_of.publish(channel, code, body, message_id="1", **properties)
    digest = entries.digest(body)

    async def is_there():
        messages = (await console.hub.operator.get("/v1/quarantine"))["messages"]
        return digest in {one["digest"] for one in messages}

    await brokers_of.eventually(is_there, "it is in quarantine")
    return digest


async def last(console, kind):
    return (await console.hub.operator.get("/v1/audit/events", type=kind))["events"][-1]


async def test_a_message_is_read_with_a_reason_and_discarded(console, broker):
    kz = console.hub.participant("kz")
    body = kz.sign(kz.message(marking="TLP:AMBER", audience=["kg"]))
    digest = await quarantined(console, broker, body, type="surprise")
    async with console.visitor("operator", javascript=False) as page:
        await page.goto("/console/quarantine")
        assert "no type 'surprise'" in await page.inner_text("main table")
        await page.click(f"text={digest[:10]}")
        await page.fill("[name=reason]", "short")
        await page.click("text=Show it")
        assert "TLP:AMBER" in await page.inner_text("[role=alert]")
        await page.fill("[name=reason]", "What did kz try to send?")
        await page.click("text=Show it")
        assert '"marking":"TLP:AMBER"' in await page.inner_text("pre")
        read = await last(console, "operator.body_read")
        assert read["entry"]["actor"] == "account:operator"
        assert read["private"]["reason"] == "What did kz try to send?"
        await page.click("text=Discard it")
        assert "This cannot be undone." in await page.inner_text("main")
        await page.fill("[name=reason]", "A test of somebody's.")
        await page.click("main form button")
        assert "The message was discarded." in await page.inner_text("[role=status].notice")
        assert "Nothing is in quarantine." in await page.inner_text("main")
    event = await last(console, "quarantine.discarded")
    assert event["entry"]["actor"] == "account:operator"
    assert event["private"]["digest"] == digest
    assert event["private"]["reason"] == "A test of somebody's."
    assert (await broker.depth(amqp.QUARANTINE)).waiting == 0


async def test_a_message_that_still_cannot_be_answered_stays_until_it_can(console, broker):
    uz = console.hub.participant("uz")
    digest = await quarantined(console, broker, uz.sign(uz.message(audience=["kz"])), "uz")
    async with console.visitor() as page:
        await page.goto(f"/console/quarantine/{digest}/release")
        await page.fill("[name=reason]", "uz will join soon")
        await page.click("main form button")
        assert "still cannot be answered" in await page.inner_text("[role=alert]")
        assert await page.input_value("[name=reason]") == "uz will join soon"
        await console.hub.operator.join(uz)
        await page.click("main form button")
        assert "The message was taken in." in await page.inner_text("[role=status].notice")
    assert (await last(console, "quarantine.released"))["entry"]["actor"] == "account:operator"
    assert (await last(console, "message.accepted"))["entry"]["actor"] == "uz"


async def test_an_auditor_sees_that_something_is_there_and_not_what_it_says(console, broker):
    digest = await quarantined(console, broker, b"<script>alert(1)</script>", type="surprise")
    async with console.visitor("auditor") as page:
        await page.goto(f"/console/quarantine/{digest}")
        assert await page.locator("main form, main .button").count() == 0
        assert "no type 'surprise'" in await page.inner_text("main")
    await discard(console, digest)


@pytest.mark.parametrize("language", ["en", "kk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_of_it_can_be_used_by_everybody(console, broker, scheme, language):
    digest = await quarantined(console, broker, b"<script>alert(1)</script>" * 30, type="surprise")
    here, found = f"/console/quarantine/{digest}", {}
    for name, size in {"phone": PHONE, "desktop": DESKTOP}.items():
        async with console.visitor("operator", language, size, scheme) as page:
            for path in ("/console/quarantine", here, f"{here}/release", f"{here}/discard"):
                await page.goto(path)
                if path == here:
                    await picture(page, "quarantined", language, name, scheme)
                found[name, path] = await violations(page), await sideways(page)
            await page.goto(here)
            await page.fill("[name=reason]", "Nobody can say what it is.")
            await page.click("main form button")
            assert "<script>" in await page.inner_text("pre")
            found[name, "body"] = await violations(page), await sideways(page)
    await discard(console, digest)
    assert {one: what for one, what in found.items() if what != ([], 0)} == {}


async def discard(console, digest):
    path = f"/v1/quarantine/{digest}/discard"
    assert (await console.hub.operator.post(path, reason="a test")).status == 200


async def test_what_is_no_longer_there_has_no_page(console):
    async with console.visitor() as page:
        answer = await page.goto(f"/console/quarantine/{entries.digest(b'nothing')}")
        assert answer.status == 404
        assert "No message in quarantine has this digest" in await page.inner_text("main")
