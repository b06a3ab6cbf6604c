"""An institution's way in and out, as an operator goes it in the browser, with a real connector."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from schemas.statement import spoken
from tests.browser.console import DESKTOP, PHONE, sideways, violations
from tests.client import join_request

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
SIZES = {"phone": PHONE, "desktop": DESKTOP}

_CONNECTOR = "from connectors.cli.main import main; main()"


async def connector(*arguments):
    """``nhri-connector`` as a process of its own; what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CONNECTOR, *map(str, arguments), "--json"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(printed)


async def send(page, **fields):
    """Fill in the form of the page, send it, and give what the next page says was done."""
    for name, value in fields.items():
        await page.fill(f"main [name='{name}']", value)
    await page.click("main form button")
    return await page.inner_text("[role=status].notice")


async def invite(page, code, folder):
    """Invite somebody, and give the file with the bundle."""
    await page.goto("/console/members")
    await page.click("text=Invite an institution")
    assert "Invited." in await send(page, code=code, **{"name-en": f"Centre {code}"})
    async with page.expect_download() as download:
        await page.click("text=Download the bundle")
    file = folder / (await download.value).suggested_filename
    await (await download.value).save_as(file)
    return file


async def let_in(page, digits):
    """Type other digits, which changes nothing, and then those that the technician reads."""
    await page.click("text=Compare the fingerprint")
    assert await page.inner_text("p.digits") == digits
    await page.fill("[name=fingerprint]", "1" * 30)
    await page.click("main form button")
    assert "compare again, aloud" in await page.inner_text("[role=alert]")
    assert await page.input_value("[name=fingerprint]") == "1" * 30
    assert "Let in." in await send(page, fingerprint=digits)


async def revoke(page):
    """Revoke the one key that there is."""
    await page.click("main a[href$='/revoke']")
    assert "This cannot be undone." in await page.inner_text("main")
    await page.select_option("[name=reason]", "compromised")
    assert "A key was revoked." in await send(page)
    assert "compromised" in await page.inner_text("main")
    assert await page.locator("main a[href$='/revoke']").count() == 0


@pytest.mark.parametrize("javascript", [True, False])
async def test_an_institution_is_invited_let_in_suspended_resumed_and_its_key_revoked(
    console, tmp_path, javascript
):
    code = "osh" if javascript else "osh-2"
    async with console.visitor("operator", javascript=javascript) as page:
        standing = page.locator("#standing")
        bundle = await invite(page, code, tmp_path)
        joined = await connector("join", bundle, "--config", tmp_path / f"{code}.toml")
        await page.reload()  # a request to join is no entry of the log, which open pages follow
        await expect(standing).to_contain_text("waits for its fingerprint")
        await let_in(page, spoken(joined["fingerprint"]))
        await expect(standing).to_contain_text("active")
        assert joined["kid"] in await page.inner_text("main")
        await page.click("main nav >> text=Suspend")
        assert "Suspended." in await send(page, reason="Asked for by letter.")
        await expect(standing).to_contain_text("suspended")
        await page.click("main nav >> text=End the suspension")
        assert "The suspension has ended." in await send(page, reason="Asked for by letter.")
        await expect(standing).to_contain_text("active")
        await revoke(page)
    events = (await console.hub.operator.get("/v1/audit/events", subject=code))["events"]
    told = [(one["entry"]["type"], one["entry"]["actor"]) for one in events]
    kinds = ("member.invited", "member.joined", "member.suspended", "member.resumed", "key.revoked")
    # The connector asks for a certificate with its keys, and an approval answers that, too.
    assert [one for one in told if one[0] != "certificate.issued"] == [
        (kind, "account:operator") for kind in kinds
    ]


async def test_what_was_done_is_said_once_and_in_the_readers_language(console):
    async with console.visitor("operator", "kk", javascript=False) as page:
        await page.goto("/console/members/tm/suspend")
        assert "Тоқтатыла тұрды." in await send(page, reason="Хат бойынша.")
        await page.goto("/console/members/tm")
        assert await page.locator("[role=status].notice").count() == 0
        await page.goto("/console/members/tm/resume")
        assert "Тоқтата тұру аяқталды." in await send(page, reason="Хат бойынша.")


async def test_an_auditor_finds_the_same_pages_without_anything_to_press(console):
    async with console.visitor("auditor") as page:
        await page.goto("/console/")
        await page.click("header nav >> text=Members")
        await page.click("text=Ombudsman of Turkmenistan")
        assert await page.locator("main form, main button, main .button, main nav").count() == 0
        for path in ("/console/invite", "/console/members/tm/suspend", "/console/group"):
            answer = await page.goto(path)
            assert answer.status == 403


@pytest_asyncio.fixture(loop_scope="module")
async def forms(console):
    """The pages of the forms for somebody who was invited and waits, and for a member."""
    operator = console.hub.operator
    if (await operator.get("/v1/members/waits/join")).status == 404:
        bundle = await operator.invite("waits")
        who = console.hub.participant("waits")
        await who.connection.request(
            "POST", "/v1/join", body=join_request(who, bundle["invitation"])
        )
    directory = console.hub.service.recorder.state.directory
    return [
        "/console/invite",
        "/console/group",
        "/console/members/waits",
        "/console/members/waits/approve",
        *(f"/console/members/kz/{name}" for name in ("suspend", "hold", "certificate")),
        f"/console/keys/{directory.participants['kz'].kid}/revoke",
    ]


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_every_form_can_be_used_by_everybody(console, forms, size, scheme, language):
    async with console.visitor("operator", language, SIZES[size], scheme) as page:
        found = {}
        for path in forms:
            await page.goto(path)
            found[path] = await violations(page), await sideways(page)
        await page.goto("/console/members/kz/suspend")
        await page.fill("[name=reason]", " ")
        await page.click("main form button")
        found["refused"] = await violations(page), await sideways(page)
    assert {path: one for path, one in found.items() if one != ([], 0)} == {}
