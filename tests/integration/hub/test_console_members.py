"""What operators do in the console: each form, what it records, and what it must not do."""

import json
import re

import pytest

from hub.doors.access import CONSOLE, Role
from schemas.statement import spoken
from tests import builders, client
from tests.integration.hub.test_console import visiting


@pytest.fixture
async def desk(hub):
    """An operator at the console."""
    async with visiting(hub) as made:
        await made.enter(await hub.operator.token("desk", "operator"))
        yield Desk(made, await made.csrf())


class Desk:
    """Forms as the browser sends them."""

    def __init__(self, visitor, csrf):
        self.visitor = visitor
        self.csrf = csrf

    async def get(self, path):
        answer = await self.visitor.get(path)
        return answer.status, answer.body.decode()

    async def post(self, path, **fields):
        return await self.visitor.post(path, {"csrf": self.csrf, **fields})

    async def do(self, path, **fields):
        """Send a form that is taken, and give the page that follows."""
        answer = await self.post(path, **fields)
        assert answer.status == 303, answer
        status, page = await self.get(answer.headers["Location"])
        assert status == 200
        return page


async def newest(hub, kind):
    """The newest entry of a type, as an auditor sees it."""
    return (await hub.operator.get("/v1/audit/events", type=kind))["events"][-1]


async def state_of(hub, code):
    members = (await hub.operator.get("/v1/members"))["members"]
    return {one["code"]: one["state"] for one in members}.get(code)


async def invited(desk, code="osh"):
    return await desk.do("/console/invite", code=code, role="observer", **{"name-en": "Osh"})


async def asks_to_join(hub, desk, code="osh"):
    """Somebody who was invited and waits for its fingerprint."""
    bundle = json.loads((await desk.get(f"/console/members/{code}/bundle"))[1])
    who = hub.participant(code)
    body = client.join_request(who, bundle["invitation"])
    return (await who.connection.request("POST", "/v1/join", body=body))["fingerprint"]


# --- Inviting ---


async def test_an_invitation_is_recorded_as_the_accounts_and_its_bundle_is_a_file(hub, desk):
    page = await invited(desk)
    event = await newest(hub, "member.invited")
    assert (event["entry"]["actor"], event["entry"]["subject"]) == ("account:desk", "osh")
    assert f"Entry {event['index']} of the log." in page
    answer = await desk.visitor.get("/console/members/osh/bundle")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="osh.bundle.json"'
    other = await hub.operator.invite("other")
    assert answer.json.keys() == other.keys()
    assert (answer["code"], answer["role"], answer["names"]) == ("osh", "observer", {"en": "Osh"})
    assert answer["log"] == other["log"]


async def test_the_bundle_is_for_the_browser_that_made_it_and_for_no_script(hub, desk):
    fields = {"csrf": desk.csrf, "code": "osh", "role": "member", "name-en": "Osh"}
    answer = await desk.visitor.post("/console/invite", fields)
    said = answer.headers["Set-Cookie"]
    parts = {"HttpOnly", "SameSite=Strict", "Path=/console/members/osh", "Max-Age=600"}
    assert parts <= set(said.split("; "))
    secret = said.partition(";")[0].removeprefix("nhri-invitation=")
    async with visiting(hub) as other:
        await other.enter(await hub.operator.token("other", "operator"))
        assert "/bundle" not in (await other.get("/console/members/osh")).body.decode()
        assert (await other.get("/console/members/osh/bundle")).status == 404
    for name in ("hub.sqlite", "hub.sqlite-wal"):
        assert secret.encode() not in (hub.settings.log_key_path.parent / name).read_bytes()


async def test_a_bundle_that_was_used_or_replaced_is_not_handed_out(hub, desk):
    await invited(desk)
    await hub.operator.invite("osh", "observer")
    answer = await desk.visitor.get("/console/members/osh/bundle")
    assert answer.status == 409
    assert "make another one" in answer.body.decode()
    assert "/bundle" not in (await desk.get("/console/members/osh"))[1]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"code": "Osh", "name-en": "Osh Centre"}, "A code has 2 to 16 small letters"),
        ({"code": "osh"}, "in at least one language"),
        ({"code": "osh", "name-en": "Osh Centre", "country": "KAZ"}, "two letters"),
        ({"code": "region", "name-en": "Osh Centre"}, "region is reserved"),
        ({"code": "kz", "name-en": "Osh Centre"}, "it may not come while kz is active"),
        ({"code": "osh", "name-en": "Osh\u202eCentre"}, "U+202E"),
        ({"code": "osh", "name-en": "Osh Centre", "contact": "x" * 2001}, "2000"),
    ],
)
async def test_an_invitation_that_cannot_be_changes_nothing_and_loses_nothing(
    hub, desk, fields, said
):
    size = await hub.size()
    answer = await desk.post("/console/invite", **fields)
    page = answer.body.decode()
    assert 400 <= answer.status < 500
    assert said in page
    assert "Nothing was changed." in page
    assert all(value in page for value in fields.values())
    assert await hub.size() == size


async def test_who_was_invited_is_invited_again_with_what_was_said_before(hub, desk):
    await invited(desk)
    first = await desk.get("/console/members/osh/bundle")
    page = (await desk.get("/console/invite?code=osh"))[1]
    assert 'value="osh"' in page
    assert 'value="Osh"' in page
    await invited(desk)
    assert (await desk.get("/console/members/osh/bundle")) != first


# --- The fingerprint ---


async def test_the_digits_are_compared_without_their_spaces_and_let_the_institution_in(hub, desk):
    await invited(desk)
    digits = await asks_to_join(hub, desk)
    assert spoken(digits) in (await desk.get("/console/members/osh/approve"))[1]
    page = await desk.do("/console/members/osh/approve", fingerprint=f" {spoken(digits)} ")
    assert "Let in." in page
    assert await state_of(hub, "osh") == "active"
    event = await newest(hub, "member.joined")
    assert (event["entry"]["actor"], event["entry"]["subject"]) == ("account:desk", "osh")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "A fingerprint has 30 digits"),
        ("12345", "A fingerprint has 30 digits"),
        ("٣" * 30, "A fingerprint has 30 digits"),
        ("1" * 30, "compare again, aloud"),
    ],
)
async def test_other_digits_let_nobody_in_and_are_given_back(hub, desk, typed, said):
    await invited(desk)
    await asks_to_join(hub, desk)
    size = await hub.size()
    answer = await desk.post("/console/members/osh/approve", fingerprint=typed)
    page = answer.body.decode()
    assert 400 <= answer.status < 500
    assert said in page
    assert f'value="{typed}"' in page
    assert (await state_of(hub, "osh"), await hub.size()) == ("invited", size)


async def test_where_nobody_waits_there_is_nothing_to_compare(desk):
    assert (await desk.get("/console/members/kz/approve"))[0] == 409
    await invited(desk)
    assert (await desk.get("/console/members/osh/approve"))[0] == 404


async def test_lost_keys_end_at_once_and_new_ones_are_let_in_by_their_fingerprint(hub, desk, kz):
    page = await desk.do("/console/members/kz/hold", reason="A laptop was stolen.")
    assert "/console/members/kz/bundle" in page
    event = await newest(hub, "member.held")
    assert event["private"] == {"reason": "A laptop was stolen."}
    assert (await kz.send()).code == "revoked-key"
    bundle = json.loads((await desk.get("/console/members/kz/bundle"))[1])
    again = hub.participant("kz", "kz again")
    body = client.join_request(again, bundle["invitation"])
    digits = (await again.connection.request("POST", "/v1/join", body=body))["fingerprint"]
    await desk.do("/console/members/kz/approve", fingerprint=digits)
    assert (await newest(hub, "key.replaced"))["entry"]["actor"] == "account:desk"
    assert (await again.send()).status == 201
    page = (await desk.get("/console/members/kz"))[1]
    assert page.count('<th scope="row"><code>') == 2


# --- Standing, keys, groups, certificates ---


async def test_suspending_and_resuming_are_recorded_with_their_reasons(hub, desk, kz):
    page = await desk.do("/console/members/kz/suspend", reason="Asked for by letter.")
    assert "Suspended." in page
    event = await newest(hub, "member.suspended")
    assert event["entry"]["actor"] == "account:desk"
    assert event["private"] == {"reason": "Asked for by letter."}
    assert (await kz.send()).status == 403
    assert (await desk.get("/console/members/kz/suspend"))[0] == 409
    page = await desk.do("/console/members/kz/resume", reason="Asked for by letter.")
    assert "The suspension has ended." in page
    assert (await kz.send()).status == 201


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 2001])
async def test_without_a_reason_or_with_too_long_a_one_nothing_is_done(hub, desk, reason):
    size = await hub.size()
    answer = await desk.post("/console/members/kz/suspend", reason=reason)
    assert answer.status == 400
    assert f">{reason}</textarea>" in answer.body.decode()
    assert (await state_of(hub, "kz"), await hub.size()) == ("active", size)


async def test_a_revoked_key_signs_nothing_more(hub, desk, kz):
    path = f"/console/keys/{builders.kid(kz.private)}/revoke"
    assert (await desk.post(path, reason="because")).status == 400
    page = await desk.do(path, reason="compromised")
    assert "A key was revoked." in page
    event = await newest(hub, "key.revoked")
    assert event["entry"]["public"]["reason"] == "compromised"
    assert (await kz.send()).code == "revoked-key"
    assert (await desk.post(path, reason="lost")).status == 409
    assert (await desk.get("/console/keys/nothing/revoke"))[0] == 404


async def test_a_group_is_of_those_who_are_ticked(hub, desk):
    page = await desk.do("/console/group", code="child-rights", **{"in-kz": "on", "in-kg": "on"})
    assert "The group was changed." in page
    assert "<code>child-rights</code>: kg, kz" in page
    page = (await desk.get("/console/group?code=child-rights"))[1]
    assert re.findall(r'name="in-(\w+)" checked', page) == ["kg", "kz"]
    await desk.do("/console/group", code="child-rights", **{"in-tj": "on"})
    assert (await hub.operator.get("/v1/members"))["groups"] == {"child-rights": ["tj"]}


@pytest.mark.parametrize("code", ["", "X", "region", "kz"])
async def test_a_group_cannot_have_every_code(hub, desk, code):
    answer = await desk.post("/console/group", code=code, **{"in-kz": "on"})
    assert 400 <= answer.status < 500
    assert 'name="in-kz" checked' in answer.body.decode()
    assert (await hub.operator.get("/v1/members"))["groups"] == {}


async def test_nobody_unknown_gets_into_a_group(hub, desk):
    answer = await desk.post("/console/group", code="some", **{"in-nobody": "on"})
    assert answer.status == 409
    assert "nobody: not a participant" in answer.body.decode()


async def test_a_certificate_is_issued_again_and_its_end_is_warned_of(hub, desk, clock):
    who = hub.participant("osh")
    asked = builders.keys("osh", tls_request=builders.tls_request("osh"))
    await hub.operator.join(who, "observer", asked)
    page = await desk.do("/console/members/osh/certificate")
    assert "A certificate was issued." in page
    assert (
        len((await hub.operator.get("/v1/audit/events", type="certificate.issued"))["events"]) == 2
    )
    for days, tag in [(31, False), (30, True), (14, True), (3, True)]:
        [row] = (await hub.operator.get("/v1/certificates"))["certificates"]
        clock.forward(days=row["days_left"] - days)
        await desk.visitor.enter(await hub.operator.token("desk", "operator"))
        page = (await desk.get("/console/members"))[1]
        assert f"{days} days left" in page
        assert (f'<span class="tag bad">{days} days left</span>' in page) is tag


async def test_without_a_tls_request_there_is_no_certificate_to_issue(hub, desk):
    assert "/certificate" not in (await desk.get("/console/members/kz"))[1]
    answer = await desk.post("/console/members/kz/certificate")
    assert answer.status == 404
    assert "has registered no TLS request" in answer.body.decode()


# --- What a page says was done ---


async def test_a_page_says_only_of_the_visitors_own_entries_that_they_were_done(hub, desk):
    await hub.operator.post("/v1/members/kz/suspend", reason="a test")
    foreign = (await newest(hub, "member.suspended"))["index"]
    for given in (foreign, -1, "x", "٣", 10**9, "9" * 400):
        status, page = await desk.get(f"/console/members/kz?done={given}")
        assert status == 200
        assert "notice good" not in page


# --- Who may, and who may not ---

FORMS = sorted(path for method, path in CONSOLE if method == "POST" and path.count("/") > 1)
ACTS = [path for path in FORMS if CONSOLE["POST", path] == {Role.OPERATOR}]


def filled(path):
    kid = builders.kid(builders.key("kz"))
    return path.format(code="kz", kid=kid, digest="x", id="x")


async def test_an_auditor_sees_who_is_who_and_no_form(hub):
    async with visiting(hub) as auditor:
        await auditor.enter(await hub.operator.token("audit", "auditor"))
        for path in ("/console/members", "/console/members/kz", "/console/quarantine"):
            page = (await auditor.get(path)).body.decode()
            assert re.findall('action="([^"]+)"', page) == ["/console/logout"]
            assert not re.search("/(invite|group|suspend|hold|revoke)", page)


@pytest.mark.parametrize("path", ACTS)
async def test_an_auditors_forged_form_does_nothing(hub, path):
    async with visiting(hub) as auditor:
        await auditor.enter(await hub.operator.token("audit", "auditor"))
        size = await hub.size()
        forged = {"csrf": await auditor.csrf(), "reason": "lost", "code": "osh"}
        answer = await auditor.post(filled(path), forged)
        assert answer.status == 403
        assert "Auditors look and change nothing" in answer.body.decode()
        assert await hub.size() == size


@pytest.mark.parametrize("path", ACTS)
async def test_a_form_without_its_sessions_mark_does_nothing_and_says_why(hub, desk, path):
    size = await hub.size()
    answer = await desk.visitor.post(filled(path), {"reason": "lost", "code": "osh"})
    assert answer.status == 403
    assert "The form is of another session" in answer.body.decode()
    assert await hub.size() == size


async def test_what_a_participant_is_called_is_only_ever_text(hub, desk):
    nasty = "<script>alert(1)</script>"
    await desk.do("/console/invite", code="nasty", role="member", **{"name-en": nasty})
    await asks_to_join(hub, desk, "nasty")
    for path in ("", "/nasty", "/nasty/approve"):
        status, page = await desk.get(f"/console/members{path}")
        assert status == 200
        assert "<script>alert" not in page
        assert '<bdi dir="auto">&lt;script&gt;alert' in page


async def test_nobody_who_is_not_there_has_a_page(desk):
    for path in ("/nobody", "/nobody/suspend", "/nobody/bundle"):
        assert (await desk.get(f"/console/members{path}"))[0] == 404
    assert (await desk.post("/console/members/nobody/suspend", reason="x")).status == 404
