"""The console at the door: who comes in, for how long, and what no other page can make it do."""

import asyncio
import contextlib
import json
import re
from datetime import timedelta

import aiohttp
import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from hub.doors.access import CONSOLE, Role
from hub.doors.console import live
from hub.doors.console.headers import POLICY
from hub.doors.console.sessions import IDLE, LONGEST
from hub.doors.console.sign_in import TRIES_PER_MINUTE
from tests import client
from tests.client import Answer

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


class Visitor:
    """A browser as far as the wire shows it: it keeps cookies and follows nothing by itself."""

    def __init__(self, hub, http):
        self.hub = hub
        self.http = http

    async def request(self, method, path, data=None, **headers):
        async with self.http.request(
            method, path, data=data, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path="/console/", **headers):
        return await self.request("GET", path, **headers)

    async def post(self, path, data, **headers):
        return await self.request("POST", path, data, **{**FORM, **headers})

    async def enter(self, token, **fields):
        return await self.post("/console/login", {"token": token, **fields})

    async def leave(self, **fields):
        return await self.post("/console/logout", fields or {"csrf": await self.csrf()})

    async def csrf(self, path="/console/"):
        page = (await self.get(path)).body.decode()
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found, page
        return found[1]

    @property
    def cookies(self):
        return {cookie.key: cookie for cookie in self.http.cookie_jar}


@contextlib.asynccontextmanager
async def visiting(hub):
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(hub.settings.url, cookie_jar=jar) as http:
        yield Visitor(hub, http)


@pytest.fixture
async def visitor(hub):
    async with visiting(hub) as made:
        yield made


@pytest.fixture
async def operator(hub, visitor):
    answer = await visitor.enter(await hub.operator.token("desk", "operator"))
    assert answer.status == 303, answer
    return visitor


def signed_in(answer):
    """Whether a page was answered, and not the way to the one to sign in at."""
    assert answer.status in {200, 303}, answer
    return answer.status == 200


# --- Signing in ---


async def test_nobody_sees_a_page_without_signing_in(visitor):
    for (method, pattern), allowed in CONSOLE.items():
        path = re.sub(r"{\w+}", "1", pattern)
        if Role.ANONYMOUS not in allowed:
            answer = await (visitor.get(path) if method == "GET" else visitor.post(path, {}))
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/console/login")


@pytest.mark.parametrize("scope", ["operator", "auditor"])
async def test_a_token_of_an_operator_or_auditor_opens_a_session(hub, visitor, scope):
    answer = await visitor.enter(await hub.operator.token("desk", scope))
    assert (answer.status, answer.headers["Location"]) == (303, "/console/")
    assert signed_in(await visitor.get())
    events = (await hub.operator.get("/v1/audit/events", type="operator.login"))["events"]
    assert [event["entry"]["actor"] for event in events] == ["account:desk"]


@pytest.mark.parametrize("scope", ["log", "metrics"])
async def test_a_token_for_other_things_does_not(hub, visitor, scope):
    answer = await visitor.enter(await hub.operator.token("desk", scope))
    assert answer.status == 403
    assert "scope operator or auditor" in answer.body.decode()
    assert not signed_in(await visitor.get())


@pytest.mark.parametrize("token", ["wrong", "", "x.y.z", "ҚҚҚ", "a" * 201, "a" * 4_097])
async def test_a_wrong_token_does_not_and_the_page_says_so(visitor, token):
    answer = await visitor.enter(token)
    assert answer.status in {400, 401}
    assert "text/html" in answer.headers["Content-Type"]
    assert not signed_in(await visitor.get())


async def test_too_many_wrong_tokens_have_to_wait_and_none_of_them_is_logged(hub, visitor, clock):
    good = await hub.operator.token("desk", "operator")
    with capture_logs() as logs:
        tried = [await visitor.enter(f"wrong-{n}") for n in range(TRIES_PER_MINUTE)]
        assert {answer.status for answer in tried} == {401}
        assert (await visitor.enter(good)).status == 429
        clock.forward(seconds=61)
        assert (await visitor.enter(good)).status == 303
    assert len([one for one in logs if one["event"] == "stranger.refused"]) == len(tried) + 1
    assert "wrong-" not in json.dumps(logs, default=str)


async def test_behind_a_proxy_the_one_who_tries_has_to_wait_and_nobody_else(settings, clock):
    behind = replace(settings, http=replace(settings.http, url="https://hub.example"))
    async with client.running(behind) as hub, aiohttp.ClientSession() as http:
        token = await hub.operator.token("desk", "operator")

        async def enter(token, forwarded):
            async with http.post(
                f"http://127.0.0.1:{behind.http.port}/console/login",
                data={"token": token},
                headers={**FORM, "X-Forwarded-For": forwarded},
                allow_redirects=False,
            ) as response:
                return response.status

        tried = {await enter("wrong", f"10.0.0.{n}, 203.0.113.9") for n in range(TRIES_PER_MINUTE)}
        assert tried == {401}
        assert await enter(token, "203.0.113.9") == 429
        assert await enter(token, "203.0.113.8") == 303


async def test_while_nothing_is_signed_nobody_signs_in_and_who_is_in_may_look(settings, clock):
    async with client.running(settings) as hub, visiting(hub) as first:
        token = await hub.operator.token("desk", "operator")
        await first.enter(token)
        [cookie] = first.cookies.values()
    settings.restored.touch()
    async with client.running(settings) as hub, visiting(hub) as second:
        assert (await second.enter(token)).status == 503
        clock.forward(minutes=2)
        page = await second.get(Cookie=f"{cookie.key}={cookie.value}")
        assert signed_in(page)
        assert "The hub signs nothing at present" in page.body.decode()


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        ("/console/settings", "/console/settings"),
        ("/console/?lang=kk", "/console/?lang=kk"),
        ("https://evil.example/console/", "/console/"),
        ("//evil.example/console/", "/console/"),
        ("/console/..//evil.example", "/console/"),
        ("/\\evil.example", "/console/"),
        ("/console/\\..\\x", "/console/"),
        ("/console/logout", "/console/"),
        ("/v1/status", "/console/"),
        ("javascript:alert(1)", "/console/"),
        ("http://[", "/console/"),
    ],
)
async def test_after_signing_in_only_a_page_of_the_console_follows(hub, visitor, wanted, location):
    answer = await visitor.enter(await hub.operator.token("desk", "auditor"), next=wanted)
    assert answer.headers["Location"] == location


# --- The cookie and the headers ---


async def test_the_cookie_is_for_the_console_alone_and_no_script_reads_it(operator):
    [cookie] = operator.cookies.values()
    assert cookie.key == "nhri-session"
    assert cookie["httponly"]
    assert (cookie["samesite"], cookie["path"]) == ("Strict", "/console")


async def test_the_cookies_secret_is_kept_as_its_hash(hub, operator):
    [cookie] = operator.cookies.values()
    for name in ("hub.sqlite", "hub.sqlite-wal"):
        stored = (hub.settings.log_key_path.parent / name).read_bytes()
        assert cookie.value.encode() not in stored


async def test_behind_tls_the_cookie_belongs_to_this_host_alone(settings, clock):
    behind = replace(settings, http=replace(settings.http, url="https://hub.example"))
    async with client.running(behind) as hub:
        token = await hub.operator.token("desk", "operator")
        headers = {**FORM, "X-Forwarded-For": "203.0.113.9"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"http://127.0.0.1:{behind.http.port}/console/login",
                data={"token": token},
                headers=headers,
                allow_redirects=False,
            ) as response,
        ):
            said = response.headers["Set-Cookie"]
    assert said.startswith("__Host-nhri-session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(said.split("; "))


async def test_over_plain_http_to_another_machine_nobody_can_sign_in(settings, clock):
    plain = replace(settings, http=replace(settings.http, url="http://hub.example"))
    async with client.running(plain) as hub:
        url = f"http://127.0.0.1:{plain.http.port}/console/login"
        token = await hub.operator.token("desk", "operator")
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as response:
                assert response.status == 403
                assert "only served over https" in await response.text()
            async with http.post(url, data={"token": token}, headers=FORM) as response:
                assert response.status == 403


async def test_every_answer_says_what_the_browser_may_do(operator):
    for path in ("/console/", "/console/login", "/console/static/console.js", "/console/settings"):
        answer = await operator.get(path)
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in POLICY


# --- How a session ends ---


async def test_it_ends_by_signing_out(operator):
    [cookie] = operator.cookies.values()
    answer = await operator.leave()
    assert (answer.status, answer.headers["Location"]) == (303, "/console/login")
    assert operator.cookies == {}
    assert not signed_in(await operator.get(Cookie=f"{cookie.key}={cookie.value}"))


async def test_it_ends_when_nobody_does_anything(operator, clock):
    for _ in range(3):
        clock.forward(seconds=IDLE.total_seconds() - 1)
        assert signed_in(await operator.get())
    clock.forward(seconds=IDLE.total_seconds())
    assert not signed_in(await operator.get())


async def test_a_page_that_asks_by_itself_does_not_keep_it_open(operator, clock):
    for _ in range(2):
        clock.forward(seconds=IDLE.total_seconds() / 2 - 1)
        assert signed_in(await operator.get(**{"Sec-Fetch-Dest": "empty"}))
    clock.forward(seconds=2)
    assert not signed_in(await operator.get())


async def test_it_ends_after_a_day_at_work(operator, clock):
    step = IDLE - timedelta(minutes=1)
    for _ in range(LONGEST // step):
        clock.forward(seconds=step.total_seconds())
        assert signed_in(await operator.get())
    clock.forward(seconds=step.total_seconds())
    assert not signed_in(await operator.get())


async def test_it_ends_with_the_accounts_tokens(hub, operator):
    assert signed_in(await operator.get())
    await hub.operator.post("/v1/tokens/desk/revoke")
    assert not signed_in(await operator.get())


async def test_an_open_stream_ends_with_the_accounts_tokens(hub, operator, monkeypatch):
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0.0)
    async with asyncio.timeout(90), operator.http.get("/console/live") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.content.readline() == b"event: log\r\n"
        await hub.operator.post("/v1/tokens/desk/revoke")
        rest = (await response.content.read()).decode()
    assert rest.endswith("event: ended\r\ndata: \r\n\r\n")


async def test_it_outlives_a_restart(settings, clock):
    async with client.running(settings) as hub, visiting(hub) as first:
        await first.enter(await hub.operator.token("desk", "operator"))
        [cookie] = first.cookies.values()
    async with client.running(settings) as hub, visiting(hub) as second:
        assert signed_in(await second.get(Cookie=f"{cookie.key}={cookie.value}"))


@pytest.mark.parametrize("value", ["", "x", "ҚҚ", '"', "a" * 4_000])
async def test_a_cookie_that_nobody_was_given_is_none(visitor, value):
    cookie = f"nhri-session={value}".encode().decode("latin-1")
    assert not signed_in(await visitor.get(Cookie=cookie))


# --- Forms ---


@pytest.mark.parametrize("path", ["/console/login", "/console/logout"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
    ],
)
async def test_a_form_of_another_site_does_nothing(hub, operator, path, headers):
    token, csrf = await hub.operator.token("other", "operator"), await operator.csrf()
    before = operator.cookies
    answer = await operator.post(path, {"token": token, "csrf": csrf}, **headers)
    assert answer.status == 403
    assert operator.cookies == before
    assert signed_in(await operator.get())


async def test_an_older_browser_names_the_origin(hub, visitor):
    token = await hub.operator.token("desk", "operator")
    content = {"Content-Type": FORM["Content-Type"]}
    for origin, status in [
        (None, 403),
        ("null", 403),
        ("https://evil.example", 403),
        (hub.settings.url, 303),
    ]:
        headers = content if origin is None else content | {"Origin": origin}
        answer = await visitor.request("POST", "/console/login", {"token": token}, **headers)
        assert answer.status == status, origin


@pytest.mark.parametrize("csrf", ["", "x", "Қ"])
async def test_a_form_without_its_sessions_mark_does_nothing(operator, csrf):
    answer = await operator.leave(csrf=csrf)
    assert answer.status == 403
    assert "another session" in answer.body.decode()
    assert signed_in(await operator.get())


async def test_the_mark_of_another_session_is_none(hub, operator):
    async with visiting(hub) as other:
        await other.enter(await hub.operator.token("other", "operator"))
        assert (await operator.leave(csrf=await other.csrf())).status == 403


@pytest.mark.parametrize(
    ("content", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data; boundary=x", b"--x--"),
        ("application/x-www-form-urlencoded", b"token=a&token=b"),
        ("application/x-www-form-urlencoded", b"token=%ff"),
        ("application/x-www-form-urlencoded", b"\xff"),
        ("application/x-www-form-urlencoded", b"&".join(b"x%d=1" % n for n in range(400))),
        ("application/x-www-form-urlencoded", b""),
    ],
)
async def test_what_is_no_form_is_refused_with_a_page(visitor, content, body):
    answer = await visitor.post("/console/login", body, **{"Content-Type": content})
    assert answer.status == 400
    assert "text/html" in answer.headers["Content-Type"]


# --- Pages ---


async def test_a_file_that_is_not_there_is_not_found(visitor):
    for name in ("nothing.css", "..%2Fheaders.py"):
        assert (await visitor.get(f"/console/static/{name}")).status == 404


async def test_what_a_participant_is_called_is_only_ever_text(hub, operator, kz):
    names = {"en": "<script>alert(1)</script>"}
    await hub.operator.post("/v1/members", code="nasty", role="member", names=names)
    bundle = await hub.operator.post("/v1/members", code="nasty2", role="member", names=names)
    nasty = hub.participant("nasty2")
    await hub.operator.join_with(nasty, bundle["invitation"])
    await kz.send(audience=["nasty2"])
    for path in ("/console/", "/console/checkpoints"):
        page = (await operator.get(path)).body.decode()
        assert "<script>alert" not in page
        assert '<bdi dir="auto">&lt;script&gt;alert' in page
