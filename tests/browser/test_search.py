"""Finding a message in a real browser, and seeing who received it, who did not, and why."""

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.browser.console import DESKTOP, NARROW, PHONE, picture, sideways, violations

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZES = {"phone": PHONE, "desktop": DESKTOP}

WHY = {
    "en": "Ombudsman of Turkmenistan did not receive it: it was suspended at that time.",
    "ru": "Омбудсмен Туркменистана: сообщение не получено, участие тогда было приостановлено.",
    "tk": "Türkmenistanyň Ombudsmeni ony almady: ol wagt gatnaşmagy togtadylypdy.",
}


async def send(sender, **message):
    made = sender.message(**message)
    assert (await sender.submit(sender.sign(made))).status == 201
    return made["id"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def left_out(console):
    """The id of a message to the region that was sent while Turkmenistan was suspended."""
    hub = console.hub
    await hub.operator.post("/v1/members/tm/suspend", reason="Its keys are looked into.")
    sent = await send(hub.participant("kz"), audience=["region"], marking="TLP:AMBER")
    await hub.operator.post("/v1/members/tm/resume", reason="All is well.")
    return sent


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def received(console):
    """The id of a message of a thread that Kyrgyzstan has, in two languages."""
    hub = console.hub
    uz, kg = hub.participant("uz"), hub.participant("kg")
    first = await send(uz, audience=["kg"])
    texts = {
        "ru": {"title": "О поездке", "summary": "Кратко.", "body": "Первый день.\nВторой день."},
        "en": {"title": "On the way", "body": "The first day.\nThe second day."},
    }
    sent = await send(uz, audience=["kg"], thread=first, texts=texts)
    *_, (position, delivery) = await kg.inbox()
    receipt = await kg.post("/v1/receipts", kg.receipt((position, delivery)))
    assert receipt.status == 201
    return sent


# --- Why did Turkmenistan not receive it? ---


@pytest.mark.parametrize("language", WHY)
async def test_three_clicks_say_why_somebody_did_not_receive_a_message(console, left_out, language):
    async with console.visitor("auditor", language, javascript=False) as page:
        await page.click("header nav a[href='/console/search']")
        await page.click(f"main a[href='/console/messages/{left_out}']")
        sentence = page.get_by_text(WHY[language], exact=True)
        await expect(sentence).to_be_visible()


async def test_whoever_has_only_its_id_finds_it_as_fast(console, left_out):
    async with console.visitor("auditor", javascript=False) as page:
        await page.goto("/console/search?message=x")  # with the other fields folded out
        await page.fill("input[name=message]", left_out)
        await page.click("main form button")
        assert await page.locator(".found tbody tr").count() == 1
        await page.click(".found a")
        await expect(page.locator("#tm .tag")).to_have_text("left out")


# --- For everybody ---


@pytest.mark.parametrize("language", ["en", "kk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_a_messages_page_can_be_used_by_everybody(
    console, left_out, received, size, scheme, language
):
    found = {}
    async with console.visitor("operator", language, SIZES[size], scheme) as page:
        for name, sent in {"message": left_out, "received": received}.items():
            await page.goto(f"/console/messages/{sent}")
            if name == "message":
                await picture(page, name, language, size, scheme)
            found[name] = await violations(page), await sideways(page)
        await page.click("main form button >> nth=0")
        await page.click("summary")
        found["text"] = await violations(page), await sideways(page)
        await page.goto("/console/search?text=nowhere&since=2026-07-01&type=")
        found["nothing"] = await violations(page), await sideways(page)
        await page.goto("/console/search?since=yesterday")
        found["refused"] = await violations(page), await sideways(page)
    assert found == dict.fromkeys(found, ([], 0))


async def test_it_fits_into_a_window_at_400_percent(console, left_out, received):
    async with console.visitor("auditor", "ru", NARROW, javascript=False) as page:
        for sent in (left_out, received):
            await page.goto(f"/console/messages/{sent}")
            assert await sideways(page) == 0


# --- Searching ---


async def test_a_search_by_fields_and_words_finds_what_was_sent(console, received):
    async with console.visitor("operator", "ru", javascript=False) as page:
        await page.goto("/console/search")
        await page.fill("input[name=text]", "поездк*")
        await page.select_option("select[name=sender]", "uz")
        await page.select_option("select[name=recipient]", "kg")
        await page.fill("input[name=since]", "2026-07-01")
        await page.fill("input[name=until]", "2026-07-01")
        await page.click("main form button")
        assert await page.locator(".found tbody tr").count() == 1
        assert await page.inner_text(".found a") == "О поездке"
        assert await page.input_value("input[name=text]") == "поездк*"


async def test_pages_go_on_to_the_first_entry_and_back(console):
    async with console.visitor("auditor", javascript=False) as page:
        await page.goto("/console/search?type=")
        seen = 0
        while await page.locator(".paging a:has-text('Older')").count():
            seen += await page.locator(".found tbody tr").count()
            await page.click(".paging a:has-text('Older')")
        seen += await page.locator(".found tbody tr").count()
        assert seen > 40
        assert "Entry 0" in await page.inner_text(".found tbody tr >> nth=-1")
        await page.click("text=Back to the newest")
        assert "operator.query" in await page.inner_text(".found tbody tr >> nth=0")


async def test_where_nothing_is_found_the_page_says_what_to_try(console):
    async with console.visitor("auditor", javascript=False) as page:
        await page.goto("/console/search?text=nowhere")
        assert "fewer words" in await page.inner_text("main")
        await page.click("text=Look among all entries")
        assert await page.input_value("select[name=type]") == ""
        assert await page.input_value("input[name=text]") == "nowhere"


async def test_what_was_found_can_be_taken_away(console):
    async with console.visitor("auditor") as page:
        await page.goto("/console/search?marking=TLP:GREEN&type=")
        for form in ("CSV", "NDJSON"):
            async with page.expect_download() as download:
                await page.click(f"main a >> text='{form}'")
            file = await download.value
            assert file.suggested_filename.endswith(f".{form.lower()}")
            assert await file.failure() is None


# --- The text ---


async def test_an_operator_states_a_reason_and_reads(console, left_out):
    async with console.visitor("operator", javascript=False) as page:
        await page.goto(f"/console/messages/{left_out}")
        await page.fill("input[name=reason]", "Complaint 7/26 of the sender")
        await page.click("text=Show the text")
        assert "What we saw." in await page.inner_text("main")
        await page.click("text=Back to the message")
        assert "Text read at the hub" in await page.inner_text("main")


async def test_the_text_comes_in_the_readers_language_first(console, received):
    async with console.visitor("operator", "ru", javascript=False) as page:
        await page.goto(f"/console/messages/{received}")
        assert await page.inner_text("h1") == "О поездке"
        await page.click("main form button >> nth=0")
        assert await page.locator("main section").first.get_attribute("lang") == "ru"
        assert "Первый день.\nВторой день." in await page.inner_text("main section >> nth=0")


async def test_from_the_text_another_language_leads_back_to_the_message(console, received):
    async with console.visitor("operator", javascript=False) as page:
        await page.goto(f"/console/messages/{received}")
        await page.click("main form button >> nth=0")
        await page.click("footer a[lang='tk']")
        assert page.url.endswith(f"/console/messages/{received}?lang=tk")
        assert await page.get_attribute("html", "lang") == "tk"


async def test_a_form_that_is_refused_says_so_and_leads_on_in_another_language(console, left_out):
    async with console.visitor("operator", javascript=False) as page:
        await page.goto(f"/console/messages/{left_out}")
        await page.fill("input[name=reason]", " " * 12)
        await page.click("text=Signed message")
        assert "10 characters or more" in await page.inner_text("main")
        await page.click("footer a[lang='tk']")
        assert await page.get_attribute("html", "lang") == "tk"


async def test_an_auditor_has_the_proofs_and_no_way_to_the_text(console, received):
    async with console.visitor("auditor") as page:
        await page.goto(f"/console/messages/{received}")
        assert await page.locator("main form").count() == 0
        assert "О поездке" not in await page.content()
        files = {}
        entry = "section:has(#lines-heading) tbody tr:first-child a"
        for link in await page.locator(f"{entry}, .links a[download]").all():
            async with page.expect_download() as download:
                await link.click()
            file = await download.value
            files[file.suggested_filename] = await file.failure()
        found = sorted(name.partition("-")[0] + name[name.rindex(".") :] for name in files)
        assert found == ["acceptance.json", "entry.json", "entry.tlog-proof", "evidence.zip"]
        assert set(files.values()) == {None}


async def test_the_thread_leads_to_its_other_messages(console, received):
    async with console.visitor("operator", javascript=False) as page:
        await page.goto(f"/console/messages/{received}")
        await page.click("section:has(#thread-heading) a")
        assert received not in page.url
        await page.click("section:has(#thread-heading) a")
        assert received in page.url
