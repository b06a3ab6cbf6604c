"""The report in a real browser: read by everybody on any screen, and printed on A4."""

import re

import pytest
import pytest_asyncio

from hub.doors.console.languages import LANGUAGES
from tests.browser.console import (
    DESKTOP,
    LOOKS,
    NARROW,
    PHONE,
    picture,
    sideways,
    violations,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZES = {"narrow": NARROW, "phone": PHONE, "desktop": DESKTOP}
_SCHEMES = {look[1]: look[2] for look in LOOKS}  # it is always light, as paper is
ASKED = {"from": "2026-07-01", "to": "2026-07-31"}


@pytest_asyncio.fixture(loop_scope="module")
async def opened(console, tmp_path):
    """Open a report as the file that somebody was given."""
    contexts = []

    async def opening(language="en", size=DESKTOP, **asked):
        answer = await console.hub.operator.get(
            "/v1/audit/report", language=language, **(asked or ASKED)
        )
        file = tmp_path / "report.html"
        file.write_bytes(answer.body)
        context = await console.browser.new_context(viewport=size)
        contexts.append(context)
        page = await context.new_page()
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        await page.goto(file.as_uri())
        assert requests == [file.as_uri()]
        return page

    yield opening
    for context in contexts:
        await context.close()


@pytest.mark.parametrize(
    ("language", "size"),
    [*((language, "narrow") for language in LANGUAGES), ("kk", "phone"), ("en", "desktop")],
)
async def test_it_can_be_read_by_everybody(opened, language, size):
    page = await opened(language, SIZES[size])
    await picture(page, "report", language, size, _SCHEMES.get(size, ""))
    assert await page.get_attribute("html", "lang") == language
    assert await page.locator("svg").count() > 10
    assert await violations(page) == []
    assert await sideways(page) == 0


async def test_an_empty_one_can_be_read_too(opened):
    page = await opened(**{"from": "2001-01-01", "to": "2001-12-31"})
    assert "No message was accepted" in await page.inner_text("main")
    assert await violations(page) == []


async def test_it_is_printed_on_a4_and_no_chart_is_wider_than_the_paper(opened):
    page = await opened()
    pdf = await page.pdf(prefer_css_page_size=True)
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[(.*?)\]", pdf)}
    assert {(round(box[2]), round(box[3])) for box in boxes} == {(595, 842)}
    await page.emulate_media(media="print")
    await page.set_viewport_size({"width": 687, "height": 1_000})  # 182 mm
    wide = "[...document.querySelectorAll('table, svg')].filter((one) => {0} > 687).length"
    assert await page.evaluate(wide.replace("{0}", "one.getBoundingClientRect().right")) == 0


async def test_no_row_chart_or_small_table_is_cut_by_the_end_of_a_page(opened):
    page = await opened()
    await page.emulate_media(media="print")
    found = await page.evaluate(
        "[...document.querySelectorAll('tr, svg, section section')]"
        ".map((one) => getComputedStyle(one).breakInside)"
    )
    assert {*found} == {"avoid"}


async def test_it_can_be_told_apart_without_colours(opened):
    page = await opened()
    now, before = [
        await page.locator(f"td rect.{name}").first.evaluate(
            "(one) => [getComputedStyle(one).fill, getComputedStyle(one).stroke]"
        )
        for name in ("now", "before")
    ]
    assert now == ["rgb(29, 79, 110)", "none"]  # nearly black
    assert before == ["rgb(255, 255, 255)", "rgb(17, 17, 17)"]  # white in a black line
