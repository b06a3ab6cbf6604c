"""The socket guard before real servers: those it must never reach, and those that misbehave."""

import asyncio
import contextlib
import datetime
import gzip
import socket
import ssl
from ipaddress import ip_network

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hub.delivery import guard, schedule
from hub.delivery.addresses import Allowed, check_url
from hub.delivery.guard import Answer, Guard, Limits
from hub.delivery.response import MAX_ANSWER
from hub.delivery.schedule import DeliveryState, Heard
from schemas.refusal import Refused
from tests.builders import NOW
from tests.forms import FORMS
from tests.ports import free_port

NAME = "hook.example.org"
ENDPOINT = "127.0.0.2"  # the operator allows this one, and no other
EVERYWHERE = ("0.0.0.0/0", "::/0")
INSIDE = ("127.0.0.1", "127.8.8.8", "::1")
USUAL = Limits()
REFUSED = "The host leads to an address that webhooks do not go to."

BODY_SENT = b"{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def head(status, *headers):
    lines = [f"HTTP/1.1 {status} So", "Content-Length: 2", *headers]
    return "\r\n".join([*lines, "", "no"]).encode()


def write(raw):
    """What an endpoint does: send these bytes."""
    return lambda writer: writer.write(raw)


class Names:
    """A resolver whose look-ups give these lists of addresses, one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def __call__(self, host, port):
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not addresses:
            raise socket.gaierror("no such name")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                0,
                "",
                (address, port),
            )
            for address in addresses
        ]


class Authority:
    """Issues certificates, each in a file with its key; ``trusting`` is who believes it."""

    def __init__(self, folder):
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._own = self._certify("authority", self._key, 1)
        pem = self._own.public_bytes(serialization.Encoding.PEM)
        self.trusting = ssl.create_default_context(cadata=pem.decode())

    def serving(self, name=NAME, days=1):
        """Who serves with a certificate for a name that ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = serialization.Encoding.PEM
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self._folder / f"{name}.pem"
        path.write_bytes(private + self._certify(name, key, days).public_bytes(pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _certify(self, name, key, days):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=30))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(
                x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True
            )
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


class Neighbourhood:
    """An endpoint that the operator allows, and on the same port what lies inside.

    ``act`` is what the endpoint does with a request that it has read; afterwards it ``keeps`` the
    connection or closes it. Who connects to what lies inside is counted, and gets no answer.
    """

    def __init__(self):
        self.act = lambda writer: writer.write(OK)
        self.keeps = False
        self.requests = []
        self.served = 0
        self.connections = 0
        self._servers = []
        self._seen = asyncio.Event()

    async def start(self, context):
        self.port = free_port()
        served = await asyncio.start_server(self._serve, ENDPOINT, self.port, ssl=context)
        self._servers.append(served)
        for address in INSIDE:
            self._servers.append(await asyncio.start_server(self._count, address, self.port))

    async def stop(self):
        for server in self._servers:
            server.close()
        for server in self._servers:
            await server.wait_closed()

    async def reached(self):
        """How many connections came to what lies inside.

        A connection of our own comes last in the line at each address: once it is counted, so is
        everything before it.
        """
        for address in INSIDE:
            self._seen.clear()
            before = self.connections
            _, writer = await asyncio.open_connection(address, self.port)
            while self.connections == before:
                await self._seen.wait()
            self.connections -= 1
            writer.close()
        return self.connections

    async def _count(self, reader, writer):
        self.connections += 1
        self._seen.set()
        writer.close()

    async def _serve(self, reader, writer):
        self.served += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                request = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(request)
                await reader.readexactly(len(BODY_SENT))
                await asyncio.gather(self.act(writer) or asyncio.sleep(0))
                await writer.drain()
                if not self.keeps:
                    writer.close()
        writer.close()


@pytest.fixture
async def neighbourhood(authority, request):
    """With a good certificate, unless a test asks for another by its name and days."""
    made = Neighbourhood()
    await made.start(authority.serving(*getattr(request, "param", ())))
    yield made
    await made.stop()


@pytest.fixture
def guarded(neighbourhood, authority):
    """Makes a guard for whom the name leads to these addresses, look-up by look-up."""

    def make(*answers, limits=USUAL, networks=(f"{ENDPOINT}/32",)):
        allowed = Allowed(
            networks=tuple(map(ip_network, networks)),
            ports=frozenset({443, neighbourhood.port}),
        )
        return Guard(allowed, limits, Names(*(answers or [[ENDPOINT]])), authority.trusting)

    return make


def post(to, where, host=NAME):
    return to.post(f"https://{host}:{where.port}/hook", {"webhook-id": "1"}, BODY_SENT)


# --- What is never reached ---


@pytest.mark.parametrize("host", FORMS)
class TestAFormThatLeadsInside:
    async def test_is_refused_on_saving(self, neighbourhood, host):
        allowed = Allowed(ports=frozenset({neighbourhood.port}))
        with pytest.raises(Refused):
            check_url(f"https://{host}:{neighbourhood.port}/hook", allowed)
        assert await neighbourhood.reached() == 0

    async def test_is_refused_on_sending(self, neighbourhood, guarded, host):
        async with guarded([FORMS[host]]) as to:
            answer = await post(to, neighbourhood, host)
            assert (answer.status, bool(answer.error)) == (None, True)
            # The same behind a name that is nothing special.
            assert await post(to, neighbourhood) == Answer(error=REFUSED)
        assert await neighbourhood.reached() == 0

    async def test_is_not_reached_through_a_redirect(self, neighbourhood, guarded, host):
        location = f"Location: https://{host}:{neighbourhood.port}/hook"
        for status in (301, 302, 303, 307, 308):
            neighbourhood.act = write(head(status, location))
            # Not even where the address would be allowed.
            async with guarded([ENDPOINT], [FORMS[host]], networks=EVERYWHERE) as to:
                answer = await post(to, neighbourhood)
            assert (answer.status, answer.error) == (status, None)
            assert schedule.heard(answer.status, answer.error) is Heard.FAILED
        assert len(neighbourhood.requests) == 5
        assert await neighbourhood.reached() == 0

    async def test_is_not_reached_through_a_name_that_changes(self, neighbourhood, guarded, host):
        async with guarded([ENDPOINT], [FORMS[host]]) as to:
            assert (await post(to, neighbourhood)).status == 200
            assert await post(to, neighbourhood) == Answer(error=REFUSED)
        assert len(neighbourhood.requests) == 1
        assert await neighbourhood.reached() == 0


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0",
        "localhost",
        "::1",
        "::",
        "::ffff:127.0.0.1",
    ],
)
async def test_without_the_guard_what_lies_inside_would_have_been_reached(neighbourhood, address):
    _, writer = await asyncio.open_connection(address, neighbourhood.port)
    writer.close()
    assert await neighbourhood.reached() == 1


async def test_a_network_that_the_operator_allows_is_reached(neighbourhood, guarded):
    async with guarded(["127.0.0.1"], networks=("127.0.0.0/8",)) as to:
        await post(to, neighbourhood)
    assert await neighbourhood.reached() > 0


async def test_of_several_addresses_only_those_that_may_be_are_connected_to(neighbourhood, guarded):
    async with guarded(["127.0.0.1", "::1", ENDPOINT, "10.0.0.1"]) as to:
        assert (await post(to, neighbourhood)).status == 200
    assert await neighbourhood.reached() == 0


async def test_no_proxy_is_taken_from_the_environment(neighbourhood, guarded, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{neighbourhood.port}")
    async with guarded() as to:
        assert (await post(to, neighbourhood)).status == 200
    assert await neighbourhood.reached() == 0


# --- What an endpoint does ---


async def forever(writer, chunk=b""):
    """Go on until the other side has had enough."""
    while not writer.is_closing():
        writer.write(chunk)
        await writer.drain()
        await asyncio.sleep(0.01)


async def drip_a_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    await forever(writer, b".")


async def drip_a_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    await forever(writer, b".")


async def go_on_with_100(writer):
    await forever(writer, b"HTTP/1.1 100 Continue\r\n\r\n")


async def send_ten_megabytes(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"x" * 10_000)
        await writer.drain()


HEAD = Limits(connect=1.0, head=1.0)
BODY = Limits(body=0.2)
DAY = 24 * 60 * 60

IN_TIME = "The endpoint did not answer in time."
CUT = "The endpoint cut the connection before its answer was whole."
UNSOUND = "What the endpoint answered is not sound HTTP, or breaks off."
DRIPPED = "The answer's body did not end within 0.2 seconds."

DEEDS = {
    # what it does: the act, the limits, status and error, the seconds to the next attempt
    "204": (write(b"HTTP/1.1 204 No\r\n\r\n"), USUAL, 204, None, None),
    "500": (write(head(500)), USUAL, 500, None, 5),
    "503 with Retry-After": (write(head(503, "Retry-After: 60")), USUAL, 503, None, 60),
    "429 with Retry-After": (write(head(429, "Retry-After: 120")), USUAL, 429, None, 120),
    "429 for ever": (write(head(429, "Retry-After: 99999999")), USUAL, 429, None, DAY),
    "429 with nonsense": (write(head(429, "Retry-After: soon")), USUAL, 429, None, 5),
    "410": (write(head(410)), USUAL, 410, None, None),
    "hang": (forever, HEAD, None, IN_TIME, 5),
    "drip the head": (drip_a_head, HEAD, None, IN_TIME, 5),
    "drip the body": (drip_a_body, BODY, 200, DRIPPED, 5),
    "100 for ever": (go_on_with_100, HEAD, None, IN_TIME, 5),
    "reset": (lambda writer: writer.transport.abort(), USUAL, None, CUT, 5),
    "break off": (write(OK[:-1]), USUAL, 200, UNSOUND, 5),
    "10 MB": (send_ten_megabytes, USUAL, 200, None, None),
    "nonsense": (write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), USUAL, None, UNSOUND, 5),
}


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_an_endpoint_does_raises_nothing_and_moves_the_delivery(
    neighbourhood, guarded, deed
):
    act, limits, status, error, seconds = DEEDS[deed]
    neighbourhood.act = act
    async with guarded(limits=limits) as to:
        answer = await post(to, neighbourhood)
    assert (answer.status, answer.error) == (status, error)
    assert len(neighbourhood.requests) == 1
    asked = schedule.rest(answer.retry_after, NOW)
    heard = schedule.heard(answer.status, answer.error)
    due = schedule.after_attempt(1, heard, NOW, 0, asked)
    if seconds is None:
        done = DeliveryState.DEAD if status == 410 else DeliveryState.DELIVERED
        assert due == schedule.Due(done, None)
    else:
        assert due.next == NOW + datetime.timedelta(seconds=seconds)


def answered(*headers, status="200 OK", body=b"ok"):
    """An answer with headers that a decent server would not send."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 1000,
        b"\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        answered(status="99999 So"),
        answered(status="0 So"),
        answered(status="-200 So"),
        answered(status="101 Switching", body=b""),
        answered("Content-Length: -1"),
        answered("Content-Length: 1e9"),
        answered("Content-Length: 1", "Content-Length: 2"),
        answered("Content-Length: 2", "Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        answered("Transfer-Encoding: chunked", body=b"zz\r\nok"),
        answered("Transfer-Encoding: chunked", body=b"ffffffffffffffffffff\r\nok"),
        answered("Transfer-Encoding: gzip, chunked", body=b"2\r\nok\r\n0\r\n\r\n"),
        answered("Content-Encoding: br", "Content-Length: 2"),
        answered("Content-Type: \xff\xfe; charset=\x80", "Content-Length: 2"),
        answered("Set-Cookie: \x01=\x02; Expires=never", "Content-Length: 2"),
        answered("Connection: Upgrade", "Upgrade: h2c", status="101 So"),
        answered("No colon"),
        answered(": no name"),
        answered("A: \x00b"),
        answered(" folded: a"),
        answered("A: " + "a" * 100_000),
        answered(*(f"A{number}: b" for number in range(5000))),
        answered("Retry-After: " + "9" * 5000, "Content-Length: 2", status="503 So"),
        answered("Location: https://[", status="302 So", body=b""),
    ],
)
async def test_whatever_bytes_an_endpoint_answers_they_are_an_answer(neighbourhood, guarded, raw):
    neighbourhood.act = write(raw)
    async with guarded(limits=BODY) as to:
        answer = await post(to, neighbourhood)
    assert answer.error is None or answer.error.endswith(".")
    assert (answer.status is None) <= (answer.error is not None)
    heard = schedule.heard(answer.status, answer.error)
    asked = schedule.rest(answer.retry_after, NOW)
    due = schedule.after_attempt(1, heard, NOW, 0, asked)
    assert (heard is Heard.TAKEN) == (due.state is DeliveryState.DELIVERED)


async def test_of_a_long_answer_64_kib_are_kept(neighbourhood, guarded):
    neighbourhood.act = send_ten_megabytes
    async with guarded() as to:
        answer = await post(to, neighbourhood)
    assert answer.excerpt == b"x" * MAX_ANSWER == b"x" * 65536


async def test_a_packed_answer_is_not_unpacked(neighbourhood, guarded):
    bomb = gzip.compress(bytes(1_000_000))
    packed = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    neighbourhood.act = write(packed.encode() + bomb)
    async with guarded() as to:
        assert (await post(to, neighbourhood)).excerpt == bomb


async def test_what_is_posted_arrives_with_its_headers_and_without_cookies(neighbourhood, guarded):
    neighbourhood.act = write(head(200, "Set-Cookie: a=b; Path=/"))
    async with guarded() as to:
        assert await post(to, neighbourhood) == Answer(200, None, b"no")
        await post(to, neighbourhood)
    for request in neighbourhood.requests:
        lines = request.decode().split("\r\n")
        assert lines[0] == "POST /hook HTTP/1.1"
        assert {"webhook-id: 1", "Content-Length: 2", "User-Agent: nhri-exchange"} <= set(lines)
        assert b"cookie" not in request.lower()


@pytest.mark.parametrize("neighbourhood", [("p",)], indirect=True)
async def test_a_host_whose_name_stands_in_the_scheme_is_posted_to(neighbourhood, authority):
    ports, networks = frozenset({neighbourhood.port}), (ip_network(f"{ENDPOINT}/32"),)
    allowed = Allowed(networks, frozenset({"p"}), ports)
    async with Guard(allowed, USUAL, Names([ENDPOINT]), authority.trusting) as to:
        assert (await post(to, neighbourhood, "p")).status == 200
    assert neighbourhood.requests[0].startswith(b"POST /hook HTTP/1.1\r\n")


# --- Connections that are kept ---


@pytest.fixture
def keeping(neighbourhood):
    neighbourhood.keeps = True
    return neighbourhood


async def closed(guarding):
    """Once the guard keeps nothing any more."""
    async with asyncio.timeout(10):
        while guarding.kept:  # noqa: ASYNC110 - it is known to the guard alone
            await asyncio.sleep(0.01)


async def test_a_connection_is_used_again_for_the_same_place(keeping, guarded):
    async with guarded() as to:
        for _ in range(3):
            assert await post(to, keeping) == Answer(200, None, b"ok")
        assert (keeping.served, to.kept) == (1, 1)
        # The same address under another name is another place: it has another certificate.
        answer = await post(to, keeping, "other.example.org")
        assert answer.error is not None
        assert "Hostname mismatch" in answer.error
    assert len(keeping.requests) == 3


async def test_two_posts_at_a_time_have_a_connection_each(keeping, guarded):
    async with guarded() as to:
        await asyncio.gather(post(to, keeping), post(to, keeping))
        assert (keeping.served, to.kept) == (2, 2)
        await asyncio.gather(post(to, keeping), post(to, keeping))
        assert keeping.served == 2


@pytest.mark.parametrize(
    "deed", ["drip the body", "10 MB", "hang", "100 for ever", "nonsense", "more", "last", "old"]
)
async def test_a_connection_whose_answer_has_no_sound_end_is_not_used_again(keeping, guarded, deed):
    acts = {name: (act, limits) for name, (act, limits, *_) in DEEDS.items()} | {
        "more": (write(OK + OK), USUAL),
        "last": (write(head(200, "Connection: close")), USUAL),
        "old": (write(OK.replace(b"1.1", b"1.0")), USUAL),
    }
    keeping.act, limits = acts[deed]
    async with guarded(limits=limits) as to:
        await post(to, keeping)
        assert to.kept == 0
        keeping.act = write(OK)
        assert (await post(to, keeping)).status == 200
    assert keeping.served == 2


async def test_a_connection_on_which_something_comes_unasked_is_closed(keeping, guarded):
    writers = []

    def remember(writer):
        writers.append(writer)
        writer.write(OK)

    keeping.act = remember
    async with guarded() as to:
        await post(to, keeping)
        writers[0].write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        await closed(to)
        assert (await post(to, keeping)).status == 200
    assert keeping.served == 2


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_connection_on_which_a_request_was_answered_unread_is_not_used_again(authority, run):
    async def work():
        over, ended = asyncio.Event(), asyncio.Event()

        async def answer_unread(reader, writer):
            writer.transport.pause_reading()
            writer.write(OK)
            await over.wait()
            writer.transport.abort()
            await asyncio.sleep(0.01)  # the loop closes the socket
            ended.set()

        server = await asyncio.start_server(answer_unread, ENDPOINT, 0, ssl=authority.serving())
        port = server.sockets[0].getsockname()[1]
        allowed = Allowed((ip_network(f"{ENDPOINT}/32"),), ports=frozenset({port}))
        async with Guard(allowed, USUAL, Names([ENDPOINT]), authority.trusting) as to:
            answer = await to.post(f"https://{NAME}:{port}/", {}, bytes(32 * 1024 * 1024))
            kept = to.kept
        over.set()
        async with asyncio.timeout(10):
            await ended.wait()
        server.close()
        return answer, kept

    assert run(work()) == (Answer(200, None, b"ok"), 0)


def close_unanswered(writer):
    writer.close()


async def test_a_kept_connection_that_ends_as_it_is_posted_on_is_no_failure(keeping, guarded):
    def close_the_second(writer):
        if len(keeping.requests) == 2:
            writer.close()
        else:
            writer.write(OK)

    keeping.act = close_the_second
    async with guarded() as to:
        await post(to, keeping)
        assert await post(to, keeping) == Answer(200, None, b"ok")
    # It is the same post, so that a receiver which had it before it closed knows it by its id.
    assert [b"webhook-id: 1\r\n" in request for request in keeping.requests] == [True] * 3
    assert keeping.served == 2


async def test_on_a_new_connection_it_is_made_once_and_fails(keeping, guarded):
    async with guarded() as to:
        await post(to, keeping)
        keeping.act = close_unanswered
        assert await post(to, keeping) == Answer(error=CUT)
        assert len(keeping.requests) == 3
        assert await post(to, keeping) == Answer(error=CUT)
        assert len(keeping.requests) == 4


async def test_what_was_begun_to_be_answered_is_not_posted_again(keeping, guarded):
    async with guarded() as to:
        await post(to, keeping)

        def begin(writer):
            writer.write(b"HTTP/1.1 2")
            writer.close()

        keeping.act = begin
        assert await post(to, keeping) == Answer(error=CUT)
    assert len(keeping.requests) == 2


async def test_a_connection_is_kept_for_a_while_and_no_longer(keeping, guarded, monkeypatch):
    monkeypatch.setattr(guard, "IDLE", 0.05)
    async with guarded() as to:
        await post(to, keeping)
        assert to.kept == 1
        await closed(to)
        await post(to, keeping)
    assert keeping.served == 2


async def test_no_more_connections_are_kept_than_may_be(keeping, guarded, monkeypatch):
    monkeypatch.setattr(guard, "MAX_KEPT", 1)
    async with guarded() as to:
        await asyncio.gather(post(to, keeping), post(to, keeping))
        assert to.kept == 1


async def test_a_name_that_changes_is_looked_up_again_when_a_connection_is_old(
    keeping, guarded, monkeypatch
):
    async with guarded([ENDPOINT], ["127.0.0.1"]) as to:
        await post(to, keeping)
        # Still the address that was checked.
        assert (await post(to, keeping)).status == 200
        monkeypatch.setattr(guard, "AGE", 0.0)
        assert (await post(to, keeping)).status == 200
        assert to.kept == 0
        assert await post(to, keeping) == Answer(error=REFUSED)
    assert (len(keeping.requests), keeping.served) == (3, 1)
    assert await keeping.reached() == 0


def test_the_loop_of_the_hub_keeps_connections_just_so(authority):
    """The hub runs on uvloop, whose transports are others."""

    async def work():
        where = Neighbourhood()
        await where.start(authority.serving())
        where.keeps = True
        allowed = Allowed((ip_network(f"{ENDPOINT}/32"),), ports=frozenset({where.port}))
        async with Guard(allowed, USUAL, Names([ENDPOINT]), authority.trusting) as to:
            answers = [await post(to, where) for _ in range(2)]
            where.act = close_unanswered
            answers += [await post(to, where), await post(to, where, "other.example.org")]
        await where.stop()
        return answers, where.served

    (*kept, cut, other), served = uvloop.run(work())
    assert kept == [Answer(200, None, b"ok")] * 2
    assert cut == Answer(error=CUT)
    assert "Hostname mismatch" in other.error
    assert served == 2


# --- Before there is a connection ---


@pytest.mark.parametrize(
    ("neighbourhood", "reason"),
    [((NAME, -1), "certificate has expired"), (("other.example.org",), "Hostname mismatch")],
    indirect=["neighbourhood"],
)
async def test_a_certificate_that_does_not_hold_is_a_failure(neighbourhood, guarded, reason):
    async with guarded() as to:
        answer = await post(to, neighbourhood)
    assert answer.status is None
    assert answer.error is not None
    assert answer.error.startswith(f"The endpoint's certificate is not accepted: {reason}")
    assert neighbourhood.requests == []
    heard = schedule.heard(answer.status, answer.error)
    due = schedule.after_attempt(2, heard, NOW, 0)
    assert due.next == NOW + datetime.timedelta(minutes=5)


async def test_an_endpoint_without_tls_is_a_failure(neighbourhood, guarded):
    async with guarded(["127.0.0.1"], networks=("127.0.0.1/32",)) as to:
        answer = await post(to, neighbourhood)
    assert answer.status is None
    assert answer.error is not None
    assert answer.error.endswith(".")


async def test_an_endpoint_that_is_not_there_is_a_failure(neighbourhood, guarded):
    async with guarded(["127.0.0.3"], networks=("127.0.0.3/32",)) as to:
        assert await post(to, neighbourhood) == Answer(error="The endpoint cannot be connected to.")


async def test_a_name_that_is_not_known_is_a_failure(neighbourhood, guarded):
    async with guarded([]) as to:
        assert await post(to, neighbourhood) == Answer(error="The host's name leads to no address.")


async def test_the_error_does_not_tell_where_inside_a_name_leads(neighbourhood, guarded):
    async with guarded(["10.20.30.40"]) as to:
        answer = await post(to, neighbourhood)
    assert answer.error is not None
    assert "10." not in answer.error


# --- A connection that does not come about ---

CONNECT = Limits(connect=0.1)


async def in_time(to, port):
    """What is posted to a port; the test fails if that waits for more than its limit."""
    async with asyncio.timeout(10):
        return await to.post(f"https://{NAME}:{port}/hook", {"webhook-id": "1"}, BODY_SENT)


def connecting(authority, port, resolve):
    allowed = Allowed((ip_network(f"{ENDPOINT}/32"),), ports=frozenset({port}))
    return Guard(allowed, CONNECT, resolve, authority.trusting)


async def test_who_never_shakes_hands_is_left_in_time(authority):
    left = asyncio.Event()

    async def say_nothing(reader, writer):
        await reader.read()  # the greeting, until the other side leaves
        left.set()
        writer.close()

    server = await asyncio.start_server(say_nothing, ENDPOINT, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connecting(authority, port, Names([ENDPOINT])) as to:
        assert await in_time(to, port) == Answer(error=IN_TIME)
        async with asyncio.timeout(10):
            await left.wait()


async def test_a_resolver_that_never_answers_is_waited_for_no_longer(authority):
    async def never(host, port):
        return await asyncio.get_running_loop().create_future()

    async with connecting(authority, 443, never) as to:
        assert await in_time(to, 443) == Answer(error=IN_TIME)


async def test_an_address_that_does_not_accept_is_given_up_in_time(authority):
    with contextlib.ExitStack() as sockets:
        server = sockets.enter_context(socket.socket())
        server.bind((ENDPOINT, 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(4):  # its line is full, and to whoever comes next it says nothing
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((ENDPOINT, port))
        async with connecting(authority, port, Names([ENDPOINT])) as to:
            assert await in_time(to, port) == Answer(error=IN_TIME)
