"""The link's own decisions: tokens, what counts as the hub's answer, and clocks."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from aiohttp import web

from connectors.link import HubRefused, Unreachable
from connectors.link import http as links
from connectors.link.http import HttpLink, Identity, token
from schemas import jsontext, signature
from schemas.encoding import unb64url
from tests import builders

WHO = Identity("kz", builders.key("kz"), "hub.example/log")


def test_a_token_is_bound_to_one_request_and_lives_for_a_minute():
    compact = token(WHO, "POST", "https://hub.example/v1/messages", builders.NOW, "j" * 22)
    protected, payload, value = compact.split(".")
    assert signature.holds(
        builders.public(WHO.sign), unb64url(value), f"{protected}.{payload}".encode()
    )
    header = jsontext.parse(unb64url(protected))
    assert header == {
        "alg": "Ed25519",
        "kid": builders.kid(WHO.sign),
        "typ": signature.AUTH_TYPE,
    }
    claims = jsontext.parse(unb64url(payload))
    assert isinstance(claims, dict)
    issued = int(builders.NOW.timestamp()) - 5
    assert claims == {
        "iss": "kz",
        "aud": "hub.example/log",
        "iat": issued,
        "exp": issued + 60,
        "jti": "j" * 22,
        "htm": "POST",
        "htu": "https://hub.example/v1/messages",
    }


class Door:
    """A web server that gives one prepared answer and notes what it was asked."""

    def __init__(self):
        self.answer = lambda: web.Response(text="{}")
        self.asked = []

    async def start(self):
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"

    async def stop(self):
        await self._runner.cleanup()

    async def _handle(self, request):
        self.asked.append(request)
        answer = self.answer()
        return await answer(request) if callable(answer) else answer


@pytest.fixture
async def door():
    made = Door()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def link(door):
    made = HttpLink(door.url, WHO)
    yield made
    await made.close()


def problem(status=403, **members):
    body = jsontext.encode({"code": "forbidden", "detail": "No.", **members})
    return web.Response(body=body, status=status, content_type="application/problem+json")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="<h1>Welcome</h1>", content_type="text/html"),
        lambda: web.Response(status=302, headers={"Location": "https://portal.example"}),
        lambda: web.Response(status=502, text="Bad gateway"),
        lambda: web.Response(status=403, text='{"code": "forbidden"}'),
        lambda: web.Response(status=403, text="nonsense", content_type="application/problem+json"),
        lambda: web.Response(text='{"entry": "a", "entry": "b"}'),
        lambda: web.Response(text='{"entry": 1}'),
        lambda: web.Response(text="[" * 100_000),
    ],
)
async def test_what_is_not_an_answer_of_the_hub_is_nobody_there(door, link, answer):
    door.answer = answer
    with pytest.raises(Unreachable):
        await link.submit(b"{}")
    assert len(door.asked) == 1


async def test_an_answer_beyond_all_measure_is_not_read_to_its_end(door, link, monkeypatch):
    monkeypatch.setattr(links, "MAX_ANSWER", 1000)
    door.answer = lambda: web.Response(text="x" * 1001)
    with pytest.raises(Unreachable, match="larger"):
        await link.checkpoint()


def dripping(seconds):
    """An answer of which a part comes every moment, for so many seconds."""

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        with contextlib.suppress(ConnectionError):
            while clock() < end:
                await response.write(b"x")
                await asyncio.sleep(0.01)
        return response

    return lambda: answer


async def test_a_slow_line_is_waited_for_as_long_as_something_comes(door, link, monkeypatch):
    monkeypatch.setattr(links, "TIMEOUT", 1.0)
    door.answer = dripping(seconds=1.5)
    assert set(await link.checkpoint()) == set(b"x")


async def test_an_answer_of_which_nothing_more_comes_is_nobody_there(door, link, monkeypatch):
    over = asyncio.Event()

    async def begin_and_fall_silent(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await over.wait()
        return response

    monkeypatch.setattr(links, "TIMEOUT", 0.1)
    door.answer = lambda: begin_and_fall_silent
    with pytest.raises(Unreachable, match="in time"):
        await link.checkpoint()
    over.set()


async def test_no_hub_holds_a_connector_for_ever_by_giving_little(door, link, monkeypatch):
    monkeypatch.setattr(links, "LONGEST", 0.2)
    door.answer = dripping(seconds=60)
    with pytest.raises(Unreachable, match="in time"):
        await link.checkpoint()


async def test_nobody_at_the_port_is_nobody_there(door, link):
    await door.stop()
    with pytest.raises(Unreachable, match="cannot be reached"):
        await link.checkpoint()


async def test_a_refusal_says_what_it_is_in_printable_characters(door, link):
    door.answer = lambda: problem(
        429,
        code="quota",
        detail="Too\u202e many\n.",
        path="$.\u202ex",
        retryable=True,
        newer="field",
    )
    with pytest.raises(HubRefused) as caught:
        await link.submit(b"{}")
    assert (caught.value.code, caught.value.retryable, caught.value.final) == ("quota", True, False)
    assert caught.value.detail == "Too\\u202e many\\n."
    assert caught.value.path == "$.\\u202ex"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [({"Retry-After": "7"}, 7), ({"Retry-After": "999999999"}, 3600), ({}, None)],
)
async def test_how_long_to_wait_is_what_the_hub_says_within_reason(door, link, header, seconds):
    def answer():
        made = problem(503, code="busy", retryable=True)
        made.headers.update(header)
        return made

    door.answer = answer
    with pytest.raises(HubRefused) as caught:
        await link.submit(b"{}")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("code", "recorded", "final"),
    [
        ("schema", False, True),
        ("id-conflict", True, True),
        ("unknown-key", False, False),
        ("unknown-key", True, True),
        ("unauthenticated", False, False),
        ("suspended", False, False),
        ("a-newer-code", False, True),
    ],
)
async def test_a_refusal_of_the_one_who_asks_is_no_verdict_on_the_message(
    door, link, code, recorded, final
):
    acceptance = jsontext.parse(jsontext.encode(builders.acceptance()))
    door.answer = lambda: problem(code=code, refusal=acceptance if recorded else None)
    with pytest.raises(HubRefused) as caught:
        await link.submit(b"{}")
    assert caught.value.final is final


async def test_what_is_for_anyone_is_asked_without_a_token(door, link):
    door.answer = lambda: web.Response(body=b"a checkpoint")
    assert await link.checkpoint() == b"a checkpoint"
    door.answer = lambda: web.Response(body=b"a bundle")
    assert await link.entries(1234, 7) == b"a bundle"
    checkpoint, bundle = door.asked
    assert "Authorization" not in checkpoint.headers
    assert bundle.path == "/log/tile/entries/x001/234.p/7"
    assert bundle.headers["Authorization"].startswith("Bearer ")


async def test_a_clock_that_is_off_is_set_by_the_hubs_and_asked_once_more(door):
    off = timedelta(hours=5)
    link = HttpLink(door.url, WHO, clock=lambda: datetime.now(UTC) - off)
    accepted = jsontext.encode(builders.acceptance())
    answers = [problem(401, code="unauthenticated"), web.Response(body=accepted)]
    door.answer = partial(answers.pop, 0)
    try:
        assert await link.submit(b"{}") == builders.acceptance()
        assert abs(link.offset - off) < timedelta(seconds=2)
        first, second = door.asked
        assert issued(second) - issued(first) >= off.total_seconds() - 2
    finally:
        await link.close()


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 1000 00:00:00 GMT",
        f"Fri, 31 Dec {'9' * 20} 23:59:59 GMT",
        f"Mon, 30 Nov 2026 12:00:00 +{'9' * 20}",
        "Mon, 30 Nov 2026 12:00:00 -0000",
        "yesterday",
    ],
)
async def test_a_date_that_is_no_clock_s_is_not_learnt_from(door, link, date):
    door.answer = lambda: web.Response(body=b"a checkpoint", headers={"Date": date})
    assert await link.checkpoint() == b"a checkpoint"
    assert link.offset == timedelta()
    assert await link.entries(1234, 7) == b"a checkpoint"  # with a token of this hour


async def test_a_refusal_that_no_clock_explains_is_not_asked_again(door, link):
    door.answer = lambda: problem(401, code="unauthenticated")
    with pytest.raises(HubRefused):
        await link.submit(b"{}")
    with pytest.raises(HubRefused):
        await link.submit(b"{}")
    assert len(door.asked) == 2


def issued(request):
    payload = request.headers["Authorization"].removeprefix("Bearer ").split(".")[1]
    claims = jsontext.parse(unb64url(payload))
    assert isinstance(claims, dict)
    return claims["iat"]
