"""Slow, huge and senseless requests: an answer or an end, and the neighbours do not notice."""

import asyncio
import contextlib
import gzip
import json
import re
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from structlog.testing import capture_logs

from hub import app
from hub.doors import http, service
from hub.doors.strangers import PER_MINUTE
from schemas import signature
from tests import builders, client
from tests.builders import key


async def neighbour_passes(hub):
    sent = await hub.participant("kg").send(audience=["tj"])
    assert hub.open(sent.acceptance()).entry.type == "message.accepted"


class Wire:
    """A connection on which a test writes what it likes."""

    def __init__(self, hub):
        self._address = urlsplit(hub.settings.url)

    async def __aenter__(self):
        host, port = self._address.hostname, self._address.port
        self.reader, self.writer = await asyncio.open_connection(host, port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(ConnectionError):  # the hub may have been the first
            await self.writer.wait_closed()

    def head(self, who, length, path="/v1/messages", method="POST"):
        """Write the head of a request with a body of this length."""
        token = who.token(method, path)
        lines = (
            f"{method} {path} HTTP/1.1",
            "Host: hub.example",
            f"Authorization: Bearer {token}",
            f"Content-Length: {length}",
        )
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def answer(self):
        """Status and body of the answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        lengths = [
            line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        body = await self.reader.readexactly(int(lengths[0].split(b":")[1]))
        return status, body


class TestASlowBody:
    async def test_does_not_keep_others_waiting(self, hub, kz):
        envelope = kz.sign(kz.message())
        async with Wire(hub) as slow:
            slow.head(kz, len(envelope))
            slow.writer.write(envelope[:100])
            await slow.writer.drain()
            await neighbour_passes(hub)
            slow.writer.write(envelope[100:])
            status, body = await slow.answer()
        assert status == 201
        assert json.loads(body)["entry"]

    async def test_that_never_ends_leaves_nothing(self, hub, kz):
        size = await hub.size()
        async with Wire(hub) as broken:
            broken.head(kz, 1_000)
            broken.writer.write(b"{")
            await broken.writer.drain()
        await neighbour_passes(hub)
        assert await hub.size() == size + 1

    async def test_of_a_hundred_at_once_does_not_keep_others_waiting(self, hub, kz):
        async with asyncio.timeout(90), contextlib.AsyncExitStack() as stack:
            for _ in range(100):
                wire = await stack.enter_async_context(Wire(hub))
                wire.head(kz, 1_000)
                await wire.writer.drain()
            await neighbour_passes(hub)

    @pytest.mark.parametrize(
        "path",
        [
            "/v1/messages",
            "/v1/receipts",
            "/v1/keys",
            "/v1/certificate",
            "/v1/join",
            "/v1/witness/response",
        ],
    )
    async def test_is_refused_when_its_time_is_over(self, hub, kz, monkeypatch, path):
        monkeypatch.setattr(service, "BODY_SECONDS", 0.2)
        size = await hub.size()
        async with Wire(hub) as slow, asyncio.timeout(90):
            slow.head(kz, 1_000, path)
            slow.writer.write(b"{")
            status, body = await slow.answer()
        told = json.loads(body)
        assert (status, told["code"], told["retryable"]) == (408, "too-slow", True)
        assert told["detail"] == "The body was not here after 0.2 seconds; send it again."
        await neighbour_passes(hub)
        assert await hub.size() == size + 1

    async def test_that_trickles_has_no_more_time_than_one_that_stands_still(
        self, hub, kz, monkeypatch
    ):
        monkeypatch.setattr(service, "BODY_SECONDS", 0.5)
        async with Wire(hub) as slow, asyncio.timeout(90):
            slow.head(kz, 10**6)
            answer = asyncio.create_task(slow.answer())
            while not answer.done():
                slow.writer.write(b" ")
                await asyncio.wait({answer}, timeout=0.02)
        assert answer.result()[0] == 408


class TestASlowHead:
    @pytest.fixture
    async def impatient(self, settings, clock, monkeypatch):
        monkeypatch.setattr(app, "IDLE_SECONDS", 0.3)
        async with client.running(settings) as hub:
            yield hub

    @pytest.mark.parametrize("head", [b"", b"GET /livez HTTP/1.1\r\nHost: hub.example\r\n"])
    async def test_that_stands_still_ends_the_connection(self, impatient, head):
        async with Wire(impatient) as slow, asyncio.timeout(90):
            slow.writer.write(head)
            assert await slow.reader.read() == b""
        await neighbour_passes(impatient)

    async def test_that_trickles_has_no_more_time_than_one_that_stands_still(self, impatient):
        async with Wire(impatient) as slow, asyncio.timeout(90):
            await self.trickle(slow)

    async def test_has_no_more_time_after_an_answer(self, impatient):
        async with Wire(impatient) as slow, asyncio.timeout(90):
            slow.writer.write(b"GET /livez HTTP/1.1\r\nHost: hub.example\r\n\r\n")
            assert (await slow.answer())[0] == 200
            await self.trickle(slow)

    async def trickle(self, slow):
        """Write on and on at one head, until the hub has closed the connection."""
        slow.writer.write(b"GET /livez HTTP/1.1\r\n")
        ended = asyncio.create_task(slow.reader.read())
        while not ended.done():
            slow.writer.write(b"X: y\r\n")
            await asyncio.wait({ended}, timeout=0.02)
        with contextlib.suppress(ConnectionError):
            assert ended.result() == b""

    async def test_says_nothing_about_who_waits_for_an_answer(self, impatient):
        kz = impatient.participant("kz")
        assert (await kz.get("/v1/inbox", wait=1)).status == 200


class TestAnAnswerThatNobodyReads:
    async def test_ends_the_connection(self, hub, kz, kg, monkeypatch):
        monkeypatch.setattr(http, "UNREAD_SECONDS", 0.5)
        texts = {"en": {"title": "Large", "summary": "Large.", "body": "b" * 190_000}}
        for _ in range(8):
            await kz.send(texts=texts)
        async with Wire(hub) as idle, asyncio.timeout(90):
            # As many answers as no buffers of the two kernels hold.
            for _ in range(30):
                idle.head(kg, 0, "/v1/inbox", "GET")
            idle.writer.write(b"GET /livez HTTP/1.1\r\n")
            while not idle.writer.transport.is_closing():
                idle.writer.write(b"X: y\r\n")  # only to what is written to does the end show
                await asyncio.sleep(0.02)
        await neighbour_passes(hub)


class TestAHugeBody:
    async def test_is_not_read_to_its_end(self, hub, kz):
        """The answer comes when a little more than an envelope's limit was sent."""
        async with Wire(hub) as huge:
            huge.head(kz, 10**12)
            huge.writer.write(b"x" * (signature.MAX_ENVELOPE + 1))
            status, body = await huge.answer()
        assert (status, json.loads(body)["code"]) == (413, "too-large")
        await neighbour_passes(hub)

    @pytest.mark.parametrize("path", ["/v1/receipts", "/v1/keys", "/v1/join"])
    async def test_is_refused_on_every_route(self, hub, kz, path):
        answer = await kz.post(path, b"x" * 300_000)
        assert (answer.status, answer.code) == (413, "too-large")

    async def test_packed_small_is_not_unpacked(self, hub, kz):
        bomb = gzip.compress(b" " * 50_000_000)
        answer = await kz.submit(bomb, headers={"Content-Encoding": "gzip"})
        assert (answer.status, answer.code) == (400, "malformed")
        await neighbour_passes(hub)


NO_HTTP = [
    b"\x00\x01\x02\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/join HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/join HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
]


class TestWhatIsNoHttp:
    @pytest.mark.parametrize("raw", NO_HTTP, ids=lambda raw: raw[:30].decode("latin-1"))
    async def test_is_told_so_by_a_hub_of_no_known_version(self, hub, raw):
        async with Wire(hub) as wire:
            wire.writer.write(raw)
            head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.split()[1].startswith(b"4")
        assert b"\r\nServer: nhri-hub\r\n" in head
        await neighbour_passes(hub)

    async def test_leaves_few_lines_in_the_log_and_no_token(self, hub, caplog):
        bad = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\x00\r\n\r\n"
        with capture_logs() as logs:
            for _ in range(2 * PER_MINUTE):
                async with Wire(hub) as wire:
                    wire.writer.write(bad)
                    await wire.reader.read()
        [line, *others] = [one for one in logs if one["event"] == "stranger.refused"]
        assert (line["code"], line["route"], len(others)) == ("bad-request", "none", PER_MINUTE - 1)
        assert "secret" not in str(logs)
        assert not caplog.records


JOIN = b"POST /v1/join HTTP/1.1\r\n"
HIDDEN = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        JOIN + b"Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        JOIN + b"Host: a\r\nContent-Length: 0\r\nContent-Length: 33\r\n\r\n",
        JOIN + b"Host: a\r\nContent-Length: 0, 33\r\n\r\n",
        JOIN + b"Host: a\r\nContent-Length: +0\r\n\r\n",
        JOIN + b"Host: a\r\nContent-Length : 0\r\n\r\n",
        JOIN + b"Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        JOIN + b"Host: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        JOIN + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n-0\r\n\r\n",
        JOIN + b"Host: a\r\nX: y\r\n Content-Length: 0\r\n\r\n",
        JOIN + b"Host: a\nContent-Length: 0\n\n",
        JOIN + b"Host: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
        JOIN + b"Content-Length: 0\r\n\r\n",
    ],
    ids=lambda raw: raw.removeprefix(JOIN).decode(),
)
async def test_a_request_whose_end_is_in_doubt_ends_the_connection(hub, raw):
    """What a proxy takes for its body must not become a request of its own."""
    async with Wire(hub) as wire, asyncio.timeout(90):
        wire.writer.write(raw + HIDDEN)
        answers = await wire.reader.read()
    assert re.findall(rb"HTTP/1\.[01] (\d{3}) ", answers) == [b"400"]
    await neighbour_passes(hub)


GOOD = builders.signed(builders.message(audience=["kg"]))


@st.composite
def mutated(draw):
    start = draw(st.integers(0, len(GOOD)))
    end = draw(st.integers(start, len(GOOD)))
    return GOOD[:start] + draw(st.binary(max_size=30)) + GOOD[end:]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@st.composite
def signed(draw):
    """A properly signed message with anything in one of its members."""
    name = draw(st.sampled_from(list(builders.message())))
    payload = json.dumps(builders.message(**{name: draw(VALUES)})).encode()
    return signature.sign(payload, signature.MESSAGE_TYPE, key("kz"))


@pytest.fixture
def ask(settings, clock):
    """A hub that answers one request after another, from outside of its event loop."""
    with asyncio.Runner() as runner:
        context = client.running(settings)
        hub = runner.run(context.__aenter__())
        kz = hub.participant("kz")
        try:
            yield lambda path, body: runner.run(kz.post(path, body))
        finally:
            runner.run(context.__aexit__(None, None, None))


@examples(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.binary(max_size=200) | mutated() | signed(),
    path=st.sampled_from(["/v1/messages", "/v1/messages", "/v1/receipts", "/v1/keys", "/v1/join"]),
)
def test_any_bytes_get_an_acceptance_or_one_typed_refusal(ask, body, path):
    answer = ask(path, body)
    if answer.code is None:
        assert answer.acceptance()
    else:
        assert 400 <= answer.status < 500
        assert answer["detail"]
