"""The console in a real browser: for everybody, on any screen, with or without JavaScript."""

import pytest
from playwright.async_api import expect

from hub.doors.console.languages import LANGUAGES
from hub.ledger.queries import Flow
from tests.browser.console import (
    DESKTOP,
    NARROW,
    PAGES,
    PHONE,
    cut_labels,
    picture,
    sideways,
    violations,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZES = {"phone": PHONE, "desktop": DESKTOP}


@pytest.mark.parametrize("language", ["en", "kk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_page_can_be_used_by_everybody(console, size, scheme, language):
    async with console.visitor("operator", language, SIZES[size], scheme) as page:
        found = {}
        for name, path in PAGES.items():
            await page.goto(path)
            await picture(page, name, language, size, scheme)
            for fold in await page.query_selector_all("summary"):
                await fold.click()
            found[name] = await violations(page), await sideways(page)
    assert found == dict.fromkeys(PAGES, ([], 0))


@pytest.mark.parametrize("size", SIZES)
async def test_the_longest_codes_and_numbers_stand_whole_in_the_picture(console, monkeypatch, size):
    code = "ombudsman-region"

    async def flows(*_):
        return [Flow("uz-nhrc", code, 1_234_567), Flow(code, "uz-nhrc", 152)]

    monkeypatch.setattr(console.hub.service.queries, "flows", flows)
    async with console.visitor("operator", size=SIZES[size]) as page:
        assert await page.locator("svg.flow text").count() == 4
        assert await cut_labels(page) == []


@pytest.mark.parametrize("language", ["en", "kk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_so_can_the_one_to_sign_in_at(console, size, scheme, language):
    async with console.visitor(None, language, SIZES[size], scheme) as page:
        await page.goto("/console/")
        await picture(page, "login", language, size, scheme)
        await page.fill("input[name=token]", "wrong")
        await page.click("main button")
        assert await page.locator("[role=alert]").is_visible()
        assert await violations(page) == []
        assert await sideways(page) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_what_went_wrong_is_said_on_a_page_for_everybody(console, scheme):
    async with console.visitor("auditor", "ru", PHONE, scheme) as page:
        await page.goto("/console/static/nothing.css")
        assert await page.inner_text("main p[lang=en]") == "There is no such file."
        assert await violations(page) == []
        assert await sideways(page) == 0


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_pages_speak_each_language_of_the_exchange(console, language):
    async with console.visitor("auditor", size=NARROW, javascript=False) as page:
        await page.goto("/console/")
        await page.click(f"footer a[lang='{language}']")
        titles = set()
        for path in PAGES.values():  # chosen once, it is remembered
            await page.goto(path)
            assert await page.get_attribute("html", "lang") == language
            assert await sideways(page) == 0
            titles.add(await page.inner_text("h1"))
    assert len(titles) == len(PAGES)


async def test_without_javascript_everything_is_there(console):
    async with console.visitor("auditor", javascript=False) as page:
        await page.goto("/console/")
        assert await page.locator("svg.flow path").count() > 10
        await page.click("summary")
        assert "Ombudsman of Turkmenistan" in await page.inner_text("#flow-table")
        await page.click("header nav >> text=Settings")
        await page.click("text=Sign out")
        await page.wait_for_url("**/console/login")
        await page.goto("/console/")
        assert "/console/login" in page.url


async def test_an_open_page_brings_itself_up_to_date(console):
    async with console.visitor() as page:
        await page.goto("/console/")
        await page.click("summary")
        shown = int(await page.inner_text("#figures dd >> nth=0"))
        await console.hub.participant("kz").send()
        await expect(page.locator("#figures dd").first).to_have_text(str(shown + 1))
        assert await page.locator("details[open]").count() == 1


async def test_an_open_page_says_when_its_session_has_ended(console):
    token = await console.hub.operator.token("leaving", "auditor")
    async with console.visitor(None) as page:
        await page.goto("/console/login")
        await page.fill("input[name=token]", token)
        await page.click("main button")
        await page.wait_for_url("**/console/")
        assert await page.inner_text("#live-state") == ""
        await console.hub.operator.post("/v1/tokens/leaving/revoke")
        await expect(page.locator("#live-state")).to_contain_text("no longer up to date")
        await page.reload()
        assert "/console/login" in page.url


async def test_who_asks_for_a_page_is_there_after_signing_in(console):
    async with console.visitor(None) as page:
        await page.goto("/console/settings")
        await page.fill("input[name=token]", await console.token("auditor"))
        await page.click("main button")
        await page.wait_for_url("**/console/settings")


async def test_the_keyboard_alone_is_enough(console):
    async with console.visitor() as page:
        await page.goto("/console/")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        await page.keyboard.press("Tab")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
        assert outline == "3px"
