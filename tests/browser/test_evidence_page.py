"""The cover page of evidence in a real browser: offline, from a file, and as strict as Python."""

import json
import re

import pytest
import pytest_asyncio

from schemas import entry as entries
from schemas.encoding import b64url, unb64url
from schemas.evidence import archive
from schemas.evidence.check import check
from schemas.note import ed25519_vkey
from schemas.vocabulary import LANGUAGES
from tests import builders, chromium
from tests import evidence as samples

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONLY_PYTHON = {"archive", "log-key", "quorum"}
"""What needs the whole file, or a policy."""

TEXTS = samples.TEXTS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page():
    async with chromium.opened() as opened:
        yield opened


@pytest.fixture
def show(page, tmp_path):
    """Open the page of some evidence, or a page as it is, and give its verdict."""

    async def shown(made, language="en"):
        raw = isinstance(made, bytes)
        html = made if raw else archive.files(made, samples.COVER)["index.html"]
        file = tmp_path / "index.html"
        file.write_bytes(html)
        await page.open("about:blank")
        await page.open(f"{file.as_uri()}#{language}")
        await page.until(f"{VERDICT} && {VERDICT} !== 'checking'")
        return await page.evaluate(VERDICT)

    return shown


VERDICT = "document.documentElement.dataset.verdict"


async def findings(page):
    """What the page says it checked: name, about what, and how it ended."""
    listed = await page.evaluate(
        "[...document.querySelectorAll('[data-check]')].map("
        "(one) => [one.dataset.check, one.dataset.about, one.dataset.result])"
    )
    return sorted(map(tuple, listed))


def by_python(made):
    """The same from Python, without what only Python can check."""
    report = check(archive.write(made, samples.COVER), samples.COVER, None)
    found = [(f.check, f.about, str(f.result)) for f in report.findings]
    return sorted(one for one in found if one[0] not in ONLY_PYTHON)


# --- Verdicts ---


async def test_good_evidence_fits_together_and_asks_for_the_key_from_elsewhere(page, show):
    assert await show(samples.evidence()) == "holds"
    said = await page.evaluate("document.getElementById('verdict').innerText")
    assert "compare the log’s key below" in said
    assert await page.evaluate("document.querySelector('.key').innerText") == str(builders.LOG)


async def test_nothing_is_loaded_from_anywhere(page, show):
    await show(samples.evidence())
    assert page.requests
    assert all(url == "about:blank" or url.startswith("file://") for url in page.requests)


async def test_with_the_right_key_everything_holds_and_with_another_nothing(page, show):
    await show(samples.evidence())
    await paste(page, samples.policy().decode())
    assert await page.evaluate(VERDICT) == "trusted"
    await paste(page, str(builders.LOG).replace("hub.example", "hub.elsewhere"))
    assert await page.evaluate(VERDICT) == "fails"
    assert "another one" in await page.evaluate("document.getElementById('verdict').innerText")
    await paste(page, "")
    assert await page.evaluate(VERDICT) == "holds"


async def paste(page, text):
    await page.evaluate(
        "{ const box = document.getElementById('given'); "
        f"box.value = {json.dumps(text)}; box.dispatchEvent(new Event('input')); }}"
    )


async def test_a_browser_without_ed25519_says_so_and_claims_nothing(page, show):
    script = await page.tell(
        "Page.addScriptToEvaluateOnNewDocument",
        source="crypto.subtle.importKey = () => Promise.reject(new DOMException('no'));",
    )
    assert await show(samples.evidence()) == "unsupported"
    assert "nhri-hub verify" in await page.evaluate("document.body.innerText")
    assert await findings(page) == []
    await page.tell(
        "Page.removeScriptToEvaluateOnNewDocument", identifier=str(script["identifier"])
    )


# --- The same checks as in Python ---


def tampered():
    """Evidence in which one thing each is not so."""
    made = samples.evidence()
    accepted = samples.index_of(made, entries.MESSAGE_ACCEPTED)
    rotated = samples.index_of(made, entries.KEY_ROTATED)
    receipt = samples.index_of(made, entries.RECEIPTS_RECORDED)
    forged = b64url(entries.encode(builders.rotated("kz", "thief")))
    other = builders.signed(builders.message(marking="TLP:CLEAR"), builders.key("kz second"))
    without_kz = tuple(e for e in made.entries if samples.opened(e.entry).subject != "kz")
    flipped = unb64url(made.entries[0].proof[0])
    proof = (b64url(bytes([flipped[0] ^ 1]) + flipped[1:]), *made.entries[0].proof[1:])
    return {
        "another message": samples.changed(made, envelope=b64url(other)),
        "no envelope at all": samples.changed(made, envelope=b64url(b"{}")),
        "another salt": samples.with_entry(made, accepted, salt=b64url(bytes(32))),
        "no private part": samples.with_entry(made, accepted, private=None, salt=None),
        "a forged rotation": samples.with_entry(made, rotated, entry=forged),
        "a changed proof": samples.with_entry(made, 0, proof=proof),
        "a shorter proof": samples.with_entry(made, 0, proof=made.entries[0].proof[1:]),
        "another index": samples.with_entry(made, 13, index=14),
        "another receipt": samples.with_entry(made, receipt, private=b64url(b"{}")),
        "the keys left out": samples.changed(made, entries=without_kz),
        "another root": samples.changed(
            made, checkpoint=made.checkpoint.replace("\n15\n", "\n16\n")
        ),
        "another log key": samples.changed(
            made, log=str(ed25519_vkey(builders.ORIGIN, builders.public(builders.key("x"))))
        ),
        "no witnesses named": samples.changed(made, witnesses=()),
        "a witness too many": samples.changed(
            made, witnesses=(*made.witnesses, str(samples.witness("undp")))
        ),
        "signed by another member": samples.evidence(
            envelope=builders.signed(builders.message(), builders.key("kg"))
        ),
        "signed with a former key": samples.evidence(
            envelope=builders.signed(builders.message(), builders.key("kz"))
        ),
        "signed by a stranger": samples.evidence(
            envelope=builders.signed(builders.message(), builders.key("thief"))
        ),
        "an id that is another's": samples.changed(made, id=builders.message_id(2)),
    }


@pytest.mark.parametrize("tampering", tampered())
async def test_what_python_does_not_believe_the_page_does_not_either(page, show, tampering):
    made = tampered()[tampering]
    assert await show(made) == "fails"
    assert await findings(page) == by_python(made)


GOOD = {
    "all": samples.evidence(),
    "without the message": samples.evidence(shown=False),
    "erased": samples.erased(),
    "without receipts and witnesses": samples.evidence(receipts=(), cosigned_by=()),
    "of one member": samples.small(),
}


@pytest.mark.parametrize("which", GOOD)
async def test_what_python_believes_the_page_does_too(page, show, which):
    assert await show(GOOD[which]) == "holds"
    assert await findings(page) == by_python(GOOD[which])


async def test_a_member_that_lost_its_keys_and_came_back_has_its_history(page, show):
    log = samples.Log(*builders.directory_log(kz="member", kg="member"))
    log.append(builders.suspended("kz"))
    log.append(builders.resumed("kz"))
    log.append(builders.held("kz", "again"))
    log.append(builders.replaced("kz", "kz third", "again"))
    raw = builders.signed(builders.message(), builders.key("kz third"))
    kept = [log.accept(raw, ["kg"])]
    log.append(builders.rotated("kz", "kz fourth", "kz third"))
    log.append(builders.revoked("kz", "kz fourth", by="kz fourth"))
    made = samples.of_rows(log, kept, raw)
    assert await show(made) == "holds"
    assert await findings(page) == by_python(made)
    assert "new keys after the old ones ended" in await page.evaluate("document.body.innerText")


async def test_a_witness_with_ml_dsa_is_left_to_other_programs_and_that_is_said(page, show):
    made = samples.cosigned_with_ml_dsa()
    assert by_python(made)[1][0::2] == ("cosignature", "holds")
    assert await show(made) == "holds"
    assert [one for one in await findings(page) if one[2] == "open"] == [
        ("cosignature", "pq.example", "open")
    ]


async def test_a_member_that_stands_twice_in_json_is_not_one(page, show):
    payload = builders.payload(builders.message())
    twice = payload[:-1] + b',"sender":"kz"}'
    made = samples.evidence(envelope=builders.signed(twice, builders.key("kz second")))
    assert await show(made) == "fails"
    assert await findings(page) == by_python(made)


async def test_any_change_of_the_embedded_data_flips_the_verdict(page, show):
    html = archive.files(samples.small(), samples.COVER)["index.html"]
    start = html.index(b'{"v":1,"id"')
    end = html.index(b"</script>", start)
    data = html[start:end]
    values = [match.start() for match in re.finditer(rb"[A-Za-z0-9_-]{20}", data)][::7]
    assert len(values) > 20
    for at in values:
        place = start + at + 9
        other = b"B" if html[place : place + 1] != b"B" else b"C"
        changed = html[:place] + other + html[place + 1 :]
        assert await show(changed) == "fails", data[at : at + 20]


async def test_data_of_another_form_than_any_does_not_hold(page, show):
    html = archive.files(samples.small(), samples.COVER)["index.html"]
    for before, after in [(b'"entries":[', b'"entry":['), (b'"proof":[', b'"proof":["x",')]:
        assert await show(html.replace(before, after)) == "fails"


# --- What people see ---


async def test_texts_of_others_are_only_ever_text(page, show):
    nasty = "<img src=x onerror=\"document.documentElement.dataset.owned='1'\">"
    said = {"en": {"title": nasty, "summary": nasty, "body": f"</script>{nasty}"}}
    raw = builders.signed(builders.message(texts=said), builders.key("kz second"))
    assert await show(samples.evidence(envelope=raw)) == "holds"
    assert await page.evaluate("document.documentElement.dataset.owned ?? 'nobody'") == "nobody"
    assert nasty in await page.evaluate("document.querySelector('h1').textContent")
    assert await page.evaluate("document.images.length") == 0


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_page_speaks_each_language_of_the_exchange(page, show, language):
    assert await show(samples.evidence(), language) == "holds"
    assert await page.evaluate("document.documentElement.lang") == language
    shown = await page.evaluate("document.body.innerText")
    assert TEXTS[language]["holds"] in shown
    assert TEXTS[language]["checks"] in shown
    assert not re.search(r"\b(c|limit)_[a-z]+\b|{\w+}", shown)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_of_an_erased_message_the_page_says_that_its_hash_is_gone_too(page, show, language):
    made = samples.erased()
    assert await show(made, language) == "holds"
    shown = await page.evaluate("document.body.innerText")
    n = samples.index_of(made, "message.erased")
    assert shown.count(TEXTS[language]["erased"].replace("{n}", str(n))) == 2
    assert TEXTS[language]["hidden"] not in shown


async def test_a_click_changes_the_language_and_not_the_verdict(page, show):
    await show(samples.evidence())
    await page.evaluate("document.querySelector('nav a[lang=ru]').click()")
    await page.until("document.documentElement.lang === 'ru'")
    assert await page.evaluate(VERDICT) == "holds"


@pytest.mark.parametrize("width", [390, 1200])
async def test_nothing_sticks_out_of_the_window(page, show, width):
    await page.resize(width, 844)
    await show(samples.evidence(), "ru")
    await page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.resize(1200, 844)
