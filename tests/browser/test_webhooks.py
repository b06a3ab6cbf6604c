"""Webhooks in the browser: an owner with a token of its own, an operator, and their pages."""

import asyncio
import json
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from hub import app
from hub.delivery import schedule
from hub.delivery.guard import Answer, Guard
from schemas import jsontext
from tests import client
from tests.browser.console import (
    DESKTOP,
    LOOKS,
    NAMES,
    NARROW,
    PHONE,
    Console,
    picture,
    sideways,
    violations,
)
from tests.client import Clock

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZES = {"phone": PHONE, "desktop": DESKTOP}
PATH = "/console/webhooks"
WELL, ILL, SILENT = (
    f"https://{host}/nhri" for host in ("hooks.undp.org", "old.undp.org", "hooks.ombudsman.kz")
)
FILTER = {
    "senders": ["kz", "kg"],
    "kinds": ["activity_bulletin"],
    "themes": ["torture_prevention", "places_of_detention"],
    "sdgs": [16],
    "languages": ["ru", "en"],
}


async def post(_, url, headers, body):
    """What receivers all over the world answer, without a network."""
    host = urlsplit(url).hostname
    if host == urlsplit(SILENT).hostname:
        return Answer(error="The connection was refused.")
    event = json.loads(body)
    if challenge := event["data"].get("challenge"):
        return Answer(200, excerpt=challenge.encode())
    if host == urlsplit(ILL).hostname:
        return Answer(500, excerpt=b"<h1>Internal Server Error</h1>")
    return Answer(200, excerpt=b"taken")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(browser):
    """A hub whose partner has a webhook that works and one whose messages were set aside."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(app, "_clock", clock)
        patch.setattr(Guard, "post", post)
        async with client.running(client.new_settings(Path(folder) / "hub")) as hub:
            made = Console(hub, browser, clock)
            await history(made)
            yield made


async def history(console):
    hub = console.hub
    for code in ("kz", "kg", "undp"):
        role = "partner" if code == "undp" else "member"
        answer = await hub.operator.post("/v1/members", code=code, role=role, names=NAMES[code])
        await hub.operator.join_with(hub.participant(code), answer["invitation"])
    await subscribe(console, "undp", ILL)
    for _ in range(2):
        await hub.participant("kz").send(audience=["undp"])
    await set_aside(console, 2)
    await subscribe(console, "undp", WELL, filter=FILTER)
    await subscribe(console, "kz", SILENT, ordered=True)
    for sender in ("kz", "kg", "kz"):
        await hub.participant(sender).send(audience=["undp"])
    await settled(console, WELL, lambda standing: standing.tried is not None)
    console.clock.forward(minutes=1)


async def subscribe(console, code, url, **wanted):
    body = jsontext.encode({"url": url, **wanted})
    answer = await console.hub.participant(code).post("/v1/subscriptions", body)
    assert answer.status == 201, answer


async def of(console, url):
    """The subscription to an address."""
    found = await console.hub.service.webhooks.store.subscriptions()
    return next(each for each in found if each.url == url)


async def settled(console, url, holds):
    """Until what waits for an address is so."""
    store, about = console.hub.service.webhooks.store, await of(console, url)
    async with asyncio.timeout(20):
        while not holds((await store.standing([about.id]))[about.id]):  # noqa: ASYNC110 - the hub's
            await asyncio.sleep(0.02)


async def set_aside(console, count):
    """All that is owed to the address that fails was tried until the end."""
    store, about = console.hub.service.webhooks.store, await of(console, ILL)
    for number, delay in enumerate((*schedule.RETRIES, schedule.RETRIES[0]), 1):
        async with asyncio.timeout(20):
            while len(await store.attempts(about.id, 100)) < number * count:  # noqa: ASYNC110 - the worker's
                await asyncio.sleep(0.02)
        console.clock.forward(seconds=delay.total_seconds() * (1 + schedule.JITTER))
        console.hub.service.webhooks.wake()
    await settled(console, ILL, lambda standing: standing.dead == count)


async def enter(console, page, code="undp"):
    """With a token that its connector signs."""
    await page.goto("/console/login")
    token = console.hub.participant(code).token("POST", "/console/login")
    await page.fill("input[name=token]", token)
    await page.click("main button")
    await page.wait_for_url(f"**{PATH}")


async def looked_at(page, found, name):
    for fold in await page.query_selector_all("details:not([open]) > summary"):
        await fold.click()
    found[name] = await violations(page), await sideways(page)


async def pages_of_one(console, page, names):
    """Go to each of these pages about the two subscriptions of undp."""
    well, ill = await of(console, WELL), await of(console, ILL)
    for name, path in {
        "webhooks": PATH,
        "webhook": f"{PATH}/{ill.id}",
        "well": f"{PATH}/{well.id}",
        "replay": f"{PATH}/{ill.id}/replay",
        "secret": f"{PATH}/{ill.id}/secret",
        "end": f"{PATH}/{ill.id}/end",
        "new": f"{PATH}/new",
    }.items():
        if name in names:
            await page.goto(path)
            yield name


OWN = {"webhooks", "webhook", "well", "replay", "secret", "end", "new"}


@pytest.mark.parametrize("language", ["en", "kk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_an_owner_s_pages_can_be_used_by_everybody(console, size, scheme, language):
    found: dict[str, tuple[list[str], int]] = {}
    async with console.visitor(None, language, SIZES[size], scheme) as page:
        await enter(console, page)
        async for name in pages_of_one(console, page, OWN):
            await looked_at(page, found, name)
        await page.fill("[name=url]", "http://hooks.undp.org/")
        await page.fill("[name=languages]", "ru")
        await page.click("main form.panel button")
        await looked_at(page, found, "wrong")
        assert await page.get_attribute("#url", "aria-invalid") == "true"
        await page.fill("[name=url]", WELL)
        await page.click("main form.panel button")
        await looked_at(page, found, "trial")
    assert {name: what for name, what in found.items() if what != ([], 0)} == {}
    assert len(found) == len(OWN) + 2


@pytest.mark.parametrize(("language", "size", "scheme"), LOOKS)
async def test_so_can_an_operator_s(console, size, scheme, language):
    found: dict[str, tuple[list[str], int]] = {}
    async with console.visitor("operator", language, SIZES[size], scheme) as page:
        async for name in pages_of_one(console, page, OWN - {"secret"}):
            if name == "webhooks":
                await picture(page, name, language, size, scheme)
            await looked_at(page, found, name)
    assert {name: what for name, what in found.items() if what != ([], 0)} == {}


@pytest.mark.parametrize("language", ["ky", "tg", "tk", "uz-Latn", "ru"])
async def test_they_speak_the_other_languages_on_the_narrowest_screen(console, language):
    async with console.visitor(None, size=NARROW) as page:
        await enter(console, page)
        await page.click(f"footer a[lang='{language}']")
        async for name in pages_of_one(console, page, OWN):
            assert await page.get_attribute("html", "lang") == language, name
            assert await sideways(page) == 0, name


async def made(page, url):
    """A subscription through the form, which is changed once; the secret that is shown once."""
    await page.click("text=A new subscription")
    await page.fill("[name=url]", url)
    await page.check("[name=senders-kg]")
    await page.fill("[name=languages]", "ru")
    await page.click("text=See what it would have been sent")
    assert "0 messages." in await page.inner_text("main")  # they are in English
    await page.click("text=Change it")
    assert await page.is_checked("[name=senders-kg]")
    await page.fill("[name=languages]", "")
    await page.click("text=See what it would have been sent")
    assert "1 message." in await page.inner_text("main")
    await page.click("main button >> text=Subscribe")
    assert "The subscription was made." in await page.inner_text("[role=status].notice")
    secret = await page.inner_text("section.notice code")
    assert secret.startswith("whsec_")
    await page.reload()
    assert "whsec_" not in await page.inner_text("main")
    return secret


@pytest.mark.parametrize("javascript", [True, False])
async def test_an_owner_subscribes_tests_changes_the_secret_and_ends_it(console, javascript):
    url = f"https://hooks.undp.org/{'with' if javascript else 'without'}"
    async with console.visitor(None, javascript=javascript) as page:
        await enter(console, page)
        first = await made(page, url)
        await page.click("text=Test the address")
        said = await page.inner_text("[role=status].notice")
        assert "The address answered the challenge." in said
        await page.click("header nav >> text=Webhooks")
        about = await of(console, url)
        await page.click(f"main a[href='{PATH}/{about.id}']")
        await page.click("text=Make a new secret")
        await page.click("main form button")
        second = await page.inner_text("section.notice code")
        assert second.startswith("whsec_")
        assert second != first
        await page.click("text=End the subscription")
        await page.click("main form button")
        assert "The subscription has ended." in await page.inner_text("[role=status].notice")
        assert await page.locator(f"main a[href='{PATH}/{about.id}']").count() == 0
