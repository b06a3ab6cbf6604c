"""Every route for everybody, over the real door. Whom it has to let in is written out here.

Nothing in ``MATRIX`` is taken from ``hub.doors.access``: a row that is wrong there fails here.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import unquote, urlencode, urlsplit

import msgspec
import pytest
from msgspec.structs import replace

from hub.doors import http
from hub.doors.service import Service
from schemas.acceptance import Delivery
from tests import builders, client
from tests.client import Account, Participant

MATRIX = """
                                         anonymous member other partner observer suspended auditor operator log metrics
GET  /livez                                  y       y      y      y       y         y        y       y      y     y
GET  /readyz                                 y       y      y      y       y         y        y       y      y     y
GET  /openapi.json                           y       y      y      y       y         y        y       y      y     y
GET  /schemas/{name}                         y       y      y      y       y         y        y       y      y     y
POST /v1/join                                y       y      y      y       y         y        y       y      y     y
GET  /log/checkpoint                         y       y      y      y       y         y        y       y      y     y
GET  /log/{tile}                             -       y      y      y       y         y        y       y      y     -
GET  /feed                                   y       y      y      y       y         y        y       y      y     y
GET  /feed/member/{code}                     y       y      y      y       y         y        y       y      y     y
GET  /feed/theme/{theme}                     y       y      y      y       y         y        y       y      y     y
GET  /feed/{id}/evidence                     0       0      0      0       0         0        0       0      0     0
GET  /metrics                                -       -      -      -       -         -        -       y      -     y
POST /v1/messages                            -       y      y      y       -         -        -       -      -     -
GET  /v1/messages/{id}                       -       y      0      0       0         -        -       -      -     -
GET  /v1/inbox                               -       y      y      y       y         -        -       -      -     -
POST /v1/receipts                            -       y      y      y       y         -        -       -      -     -
GET  /v1/receipts                            -       y      y      y       -         -        -       -      -     -
GET  /v1/witness/request                     -       y      y      y       y         -        -       -      -     -
POST /v1/witness/response                    -       y      y      y       y         -        -       -      -     -
GET  /v1/witness/tail                        -       y      y      y       y         -        -       -      -     -
POST /v1/witness/tail                        -       y      y      y       y         -        -       -      -     -
POST /v1/witness/parts                       -       y      y      y       y         -        -       -      -     -
POST /v1/keys                                -       y      y      y       y         -        -       -      -     -
GET  /v1/keys                                -       y      y      y       y         -        y       y      -     -
GET  /v1/members                             -       y      y      y       y         -        y       y      -     -
GET  /v1/certificate                         -       y      y      y       y         -        -       -      -     -
POST /v1/certificate                         -       y      y      y       y         -        -       -      -     -
GET  /v1/certificates                        -       -      -      -       -         -        y       y      -     -
POST /v1/certificates/{code}                 -       -      -      -       -         -        -       y      -     -
POST /v1/members                             -       -      -      -       -         -        -       y      -     -
GET  /v1/members/{code}/join                 -       -      -      -       -         -        -       y      -     -
POST /v1/members/{code}/approve              -       -      -      -       -         -        -       y      -     -
POST /v1/members/{code}/suspend              -       -      -      -       -         -        -       y      -     -
POST /v1/members/{code}/resume               -       -      -      -       -         -        -       y      -     -
POST /v1/members/{code}/hold                 -       -      -      -       -         -        -       y      -     -
POST /v1/keys/{kid}/revoke                   -       -      -      -       -         -        -       y      -     -
POST /v1/groups/{code}                       -       -      -      -       -         -        -       y      -     -
GET  /v1/tokens                              -       -      -      -       -         -        -       y      -     -
POST /v1/tokens                              -       -      -      -       -         -        -       y      -     -
POST /v1/tokens/{account}/revoke             -       -      -      -       -         -        -       y      -     -
GET  /v1/retention                           -       -      -      -       -         -        y       y      -     -
GET  /v1/audit/events                        -       -      -      -       -         -        y       y      -     -
GET  /v1/audit/counts                        -       -      -      -       -         -        y       y      -     -
GET  /v1/audit/export                        -       -      -      -       -         -        y       y      -     -
GET  /v1/audit/report                        -       -      -      -       -         -        y       y      -     -
GET  /v1/audit/messages/{id}                 -       -      -      -       -         -        y       y      -     -
GET  /v1/audit/messages/{id}/why             -       -      -      -       -         -        y       y      -     -
GET  /v1/audit/messages/{id}/evidence        -       y      0      0       0         -        y       y      -     -
POST /v1/audit/messages/{id}/body            -       -      -      -       -         -        -       y      -     -
GET  /v1/audit/verify                        -       -      -      -       -         -        y       y      -     -
GET  /v1/quarantine                          -       -      -      -       -         -        y       y      -     -
GET  /v1/quarantine/{digest}                 -       -      -      -       -         -        -       y      -     -
POST /v1/quarantine/{digest}/release         -       -      -      -       -         -        -       y      -     -
POST /v1/quarantine/{digest}/discard         -       -      -      -       -         -        -       y      -     -
GET  /v1/status                              -       -      -      -       -         -        y       y      -     -
POST /v1/messages/{id}/erase                 -       -      -      -       -         -        -       y      -     -
POST /v1/messages/{id}/hold                  -       -      -      -       -         -        -       y      -     -
GET  /v1/subscriptions                       -       y      y      y       y         -        y       y      -     -
POST /v1/subscriptions                       -       y      y      y       y         -        -       y      -     -
POST /v1/subscriptions/dry-run               -       y      y      y       y         -        -       y      -     -
GET  /v1/subscriptions/{id}                  -       0      0      0       0         -        0       0      -     -
POST /v1/subscriptions/{id}                  -       0      0      0       0         -        -       -      -     -
POST /v1/subscriptions/{id}/end              -       0      0      0       0         -        -       0      -     -
POST /v1/subscriptions/{id}/secret           -       0      0      0       0         -        -       -      -     -
POST /v1/subscriptions/{id}/test             -       0      0      0       0         -        -       0      -     -
GET  /v1/subscriptions/{id}/attempts         -       0      0      0       0         -        0       0      -     -
GET  /v1/subscriptions/{id}/dead             -       0      0      0       0         -        0       0      -     -
POST /v1/subscriptions/{id}/redrive          -       0      0      0       0         -        -       0      -     -
POST /v1/subscriptions/{id}/replay           -       0      0      0       0         -        -       0      -     -
"""  # noqa: E501 - a table is read across
"""y: let in; -: not let in; 0: let in, and told that there is no such message.

``member`` sent the message that ``{id}`` stands for. It is TLP:AMBER, so that the feed does not
have it, and went to kg alone, so that ``other``, a member too, ``partner`` and ``observer`` have no
part in it. No subscription has this id.
"""

CALLERS, *LINES = [line.split() for line in MATRIX.strip().splitlines()]
EXPECTED = {
    (method, path): dict(zip(CALLERS, marks, strict=True)) for method, path, *marks in LINES
}
GUARDED = [route for route, marks in EXPECTED.items() if marks["anonymous"] == "-"]
PARTICIPANTS = {
    "member": "kz",
    "other": "tj",
    "partner": "undp",
    "observer": "guest",
    "suspended": "tm",
}

QUERIES: Mapping[tuple[str, str], Mapping[str, object]] = {
    ("GET", "/v1/witness/request"): {"old": 0},
    ("GET", "/v1/witness/tail"): {"size": 0},
    ("GET", "/v1/audit/messages/{id}/why"): {"member": "kg"},
    ("GET", "/v1/audit/messages/{id}/evidence"): {"reason": "Case 7/26."},
    ("GET", "/v1/audit/counts"): {"of": "type"},
}
"""What a plausible request asks for, by route; a new row needs none unless its handler does."""

BODIES = {
    ("POST", "/v1/members"): b'{"code":"new","role":"member","names":{"en":"New"}}',
    ("POST", "/v1/members/{code}/approve"): b'{"fingerprint":"%s"}' % (b"0" * 30),
    ("POST", "/v1/keys/{kid}/revoke"): b'{"reason":"lost"}',
    ("POST", "/v1/groups/{code}"): b'{"members":["kz"]}',
    ("POST", "/v1/audit/messages/{id}/body"): b'{"reason":"Case 7/26."}',
    ("POST", "/v1/messages/{id}/erase"): b'{"reason":"Case 7/26."}',
    ("POST", "/v1/messages/{id}/hold"): b'{"reason":"Case 7/26."}',
    ("POST", "/v1/subscriptions"): b'{"url":"https://10.0.0.1/"}',
    ("POST", "/v1/subscriptions/{id}/replay"): b'{"since":"2026-07-01T00:00:00.000Z"}',
    ("POST", "/v1/tokens"): b'{"account":"another","scopes":["log"]}',
}
"""The body of a plausible request, by route, where it is not an empty object."""


class Exchange(msgspec.Struct):
    """A hub over which kz has sent kg, and nobody else, a message; tm is suspended."""

    hub: client.Hub
    message_id: str
    position: int
    delivery: Delivery

    def path(self, route: str) -> str:
        """A path of the route."""
        known = {
            "id": self.message_id,
            "code": "kg",
            "kid": builders.kid(builders.key("kg")),
            "name": "message.json",
            "theme": "torture_prevention",
            "tile": "tile/0/000.p/1",
        }
        return re.sub(r"{(\w+)}", lambda found: known.get(found[1], "unknown"), route)

    async def caller(self, name: str) -> Account | Participant:
        """Somebody of a column of the matrix."""
        if name == "anonymous":
            return self.hub.account()
        if name in PARTICIPANTS:
            return self.hub.participant(PARTICIPANTS[name])
        return self.hub.account(await self.hub.operator.token(f"a-{name}", name))

    def body(self, who: Account | Participant, route: tuple[str, str]) -> bytes | None:
        """What is plausible to send there; whoever has no key of its own sends what kz would."""
        method, path = route
        if method == "GET":
            return None
        sender = who if isinstance(who, Participant) else self.hub.participant("kz")
        match path:
            case "/v1/messages":
                return sender.sign(sender.message(audience=["kg"]))
            case "/v1/receipts":
                return sender.receipt((self.position, self.delivery))
            case "/v1/certificate":
                return builders.tls_request(sender.code).encode()
        return BODIES.get(route, b"{}")

    def shows_content(self, answer: client.Answer) -> bool:
        """Whether what the message says can be read in an answer."""
        envelope = client.envelope(self.delivery)
        payload = str(msgspec.json.decode(envelope)["payload"])
        return self.delivery.envelope.encode() in answer.body or payload.encode() in answer.body

    def shows_recipients(self, answer: client.Answer) -> bool:
        """Whether an answer tells of more than the log's public part does."""
        private = (self.delivery.private, self.delivery.salt)
        return any(part.encode() in answer.body for part in private)


@pytest.fixture
async def exchange(settings, clock):
    # Behind a proxy, so that being on the hub's own machine opens nothing.
    proxied = replace(settings, http=replace(settings.http, url="https://hub.example"))
    async with client.running(proxied) as hub:
        address = f"http://127.0.0.1:{settings.http.port}"
        hub.connection = client.Connection(hub.connection.http, address)
        kz, kg = hub.participant("kz"), hub.participant("kg")
        made = kz.message(audience=["kg"], marking="TLP:AMBER")
        assert (await kz.submit(kz.sign(made))).status == 201
        [(position, delivery)] = await kg.inbox()
        suspended = await hub.operator.post("/v1/members/tm/suspend", reason="a test")
        assert suspended.status == 200
        yield Exchange(hub, str(made["id"]), position, delivery)


def seen(path: str, answer: client.Answer) -> str:
    """The mark of an answer, or the answer itself where it is none that the door may give."""
    match answer.status, answer.code:
        case (401, "unauthenticated") | (403, "forbidden"):
            return "-"
        case (404, "not-found") if "{id}" in path:
            return "0"
        case status, _ if status < 500 and status not in {401, 403}:
            return "y"
    return repr(answer)


@pytest.mark.parametrize("caller", CALLERS)
async def test_every_route_lets_in_whom_the_matrix_lets_in(exchange, caller):
    who, wrong, denied = await exchange.caller(caller), [], set()
    content, recipients = [], []
    for (method, path), marks in EXPECTED.items():
        body, query = exchange.body(who, (method, path)), QUERIES.get((method, path), {})
        answer = await who.request(method, exchange.path(path), body=body, **query)
        mark = seen(path, answer)
        if mark != marks[caller]:
            wrong.append(f"{method} {path}: {marks[caller]} in the matrix, got {mark}, {answer}")
        if mark == "-":
            denied.add(answer.status)
        content += [path] if exchange.shows_content(answer) else []
        recipients += [path] if exchange.shows_recipients(answer) else []
    assert not wrong, "\n".join([f"for {caller}:", *wrong])
    assert denied <= ({401} if caller == "anonymous" else {403})
    # An operator says why it reads, and an auditor never does.
    assert bool(content) == (caller in {"member", "operator"}), content
    assert bool(recipients) == (caller in {"member", "auditor", "operator"}), recipients


def built(*, console):
    """Method and path of the routes that the door has, of the console or all others."""
    routes = http.build(cast(Service, None)).router.routes()
    found = {(route.method, route.resource.canonical) for route in routes if route.resource}
    return {route for route in found if route[1].startswith("/console") is console}


def test_every_route_has_its_line_in_the_matrix():
    missing = [f"{method} {path}" for method, path in sorted(built(console=False) - set(EXPECTED))]
    assert not missing, (
        f"Add to MATRIX in {__file__} a line for each of {missing}, with a mark for everybody; "
        "where an empty request would not do, add to QUERIES or BODIES what to send."
    )
    gone = [f"{method} {path}" for method, path in sorted(set(EXPECTED) - built(console=False))]
    assert not gone, f"Take out of MATRIX in {__file__}: {gone}; the door has no such route."


PAGES_FOR_ANYBODY = {
    ("GET", "/console"),
    ("GET", "/console/static/{name}"),
    ("GET", "/console/login"),
    ("POST", "/console/login"),
}
"""Pages need a session, which no token is; these are those that need none."""


@pytest.mark.parametrize("caller", ["anonymous", "member", "auditor", "operator"])
async def test_without_a_session_every_other_page_leads_to_the_sign_in(exchange, caller):
    who = await exchange.caller(caller)
    form = [
        f"Origin: {exchange.hub.settings.url}",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Length: 0",
    ]
    for method, route in sorted(built(console=True) - PAGES_FOR_ANYBODY):
        path = exchange.path(route)
        token = who.token(method, path) if isinstance(who, Participant) else who.bearer
        credentials = [f"Authorization: Bearer {token}"] if token else []
        status, head, body = await on_the_wire(
            exchange, f"{method} {path} HTTP/1.1", *form, *credentials
        )
        assert status == 303, (method, path, status, body)
        assert b"\r\nLocation: /console/login" in head


PAGES = """
                                             member partner observer suspended auditor operator
GET  /console/                                 -       -       -         -        y       y
POST /console/logout                           y       y       y         -        y       y
GET  /console/live                             -       -       -         -        y       y
GET  /console/search                           -       -       -         -        y       y
GET  /console/search/export                    -       -       -         -        y       y
GET  /console/messages/{id}                    -       -       -         -        y       y
GET  /console/messages/{id}/acceptance         -       -       -         -        y       y
GET  /console/messages/{id}/evidence           -       -       -         -        y       y
POST /console/messages/{id}/evidence           -       -       -         -        -       y
POST /console/messages/{id}/envelope           -       -       -         -        -       y
POST /console/messages/{id}/text               -       -       -         -        -       y
GET  /console/entries/{index}                  -       -       -         -        y       y
GET  /console/entries/{index}/proof            -       -       -         -        y       y
GET  /console/checkpoints                      -       -       -         -        y       y
GET  /console/settings                         -       -       -         -        y       y
GET  /console/members                          -       -       -         -        y       y
GET  /console/members/{code}                   -       -       -         -        y       y
GET  /console/members/{code}/bundle            -       -       -         -        -       y
GET  /console/members/{code}/approve           -       -       -         -        -       y
POST /console/members/{code}/approve           -       -       -         -        -       y
GET  /console/members/{code}/hold              -       -       -         -        -       y
POST /console/members/{code}/hold              -       -       -         -        -       y
GET  /console/members/{code}/suspend           -       -       -         -        -       y
POST /console/members/{code}/suspend           -       -       -         -        -       y
GET  /console/members/{code}/resume            -       -       -         -        -       y
POST /console/members/{code}/resume            -       -       -         -        -       y
GET  /console/members/{code}/certificate       -       -       -         -        -       y
POST /console/members/{code}/certificate       -       -       -         -        -       y
GET  /console/invite                           -       -       -         -        -       y
POST /console/invite                           -       -       -         -        -       y
GET  /console/group                            -       -       -         -        -       y
POST /console/group                            -       -       -         -        -       y
GET  /console/keys/{kid}/revoke                -       -       -         -        -       y
POST /console/keys/{kid}/revoke                -       -       -         -        -       y
GET  /console/webhooks                         y       y       y         -        y       y
POST /console/webhooks                         y       y       y         -        -       y
GET  /console/webhooks/new                     y       y       y         -        -       y
POST /console/webhooks/new                     y       y       y         -        -       y
POST /console/webhooks/try                     y       y       y         -        -       y
GET  /console/webhooks/{id}                    y       y       y         -        y       y
POST /console/webhooks/{id}/test               y       y       y         -        -       y
POST /console/webhooks/{id}/redrive            y       y       y         -        -       y
GET  /console/webhooks/{id}/replay             y       y       y         -        -       y
POST /console/webhooks/{id}/replay             y       y       y         -        -       y
GET  /console/webhooks/{id}/secret             y       y       y         -        -       -
POST /console/webhooks/{id}/secret             y       y       y         -        -       -
GET  /console/webhooks/{id}/end                y       y       y         -        -       y
POST /console/webhooks/{id}/end                y       y       y         -        -       y
GET  /console/quarantine                       -       -       -         -        y       y
GET  /console/quarantine/{digest}              -       -       -         -        y       y
POST /console/quarantine/{digest}              -       -       -         -        -       y
GET  /console/quarantine/{digest}/release      -       -       -         -        -       y
POST /console/quarantine/{digest}/release      -       -       -         -        -       y
GET  /console/quarantine/{digest}/discard      -       -       -         -        -       y
POST /console/quarantine/{digest}/discard      -       -       -         -        -       y
"""
"""y: let in, whatever the page then says; -: not let in. The forms are empty."""

VISITORS, *_PAGES = [line.split() for line in PAGES.strip().splitlines()]
EXPECTED_PAGES = {
    (method, path): dict(zip(VISITORS, marks, strict=True)) for method, path, *marks in _PAGES
}


def test_every_page_has_its_line_in_the_matrix():
    assert set(EXPECTED_PAGES) == built(console=True) - PAGES_FOR_ANYBODY


class Window:
    """A browser in which somebody signs in with a token of their own."""

    def __init__(self, exchange):
        self.exchange = exchange
        self.headers = {"Sec-Fetch-Site": "same-origin"}
        self.csrf = ""

    async def request(self, method, path, **fields):
        """Status and place of the answer, and the beginning of the page: some never end."""
        connection = self.exchange.hub.connection
        data = urlencode({"csrf": self.csrf} | fields) if method == "POST" else None
        form = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
        async with connection.http.request(
            *(method, connection.url + path),
            data=data,
            headers=self.headers | form,
            allow_redirects=False,
        ) as response:
            cookie = response.headers.get("Set-Cookie", "")
            page = (await response.content.read(64 * 1024)).decode("utf-8", "replace")
            return response.status, response.headers.get("Location", ""), cookie, page

    async def enter(self, token):
        status, where, cookie, page = await self.request("POST", "/console/login", token=token)
        if status != 303:
            return page
        self.headers["Cookie"] = cookie.partition(";")[0]
        *_, page = await self.request("GET", where)
        found = re.search('name="csrf" value="([^"]+)"', page)
        assert found, page
        self.csrf = found[1]
        return page

    async def mark(self, method, path):
        status, where, cookie, page = await self.request(method, path)
        if path == "/console/logout":
            return "y" if "Max-Age=0" in cookie else "-"
        refused = status == 303 and where.startswith("/console/login")
        return "-" if refused or status == 403 else "y" if status < 500 else page


async def window(exchange, caller):
    """Somebody of a column of the matrix at the console, and the first page that they see."""
    made, who = Window(exchange), await exchange.caller(caller)
    token = who.bearer if isinstance(who, Account) else who.token("POST", "/console/login")
    return made, await made.enter(token)


@pytest.mark.parametrize("caller", VISITORS)
async def test_every_page_lets_in_whom_the_matrix_lets_in(exchange, caller):
    made, _ = await window(exchange, caller)
    last = ("POST", "/console/logout")
    wrong = []
    for method, path in sorted(EXPECTED_PAGES, key=lambda page: page == last):
        mark = await made.mark(method, exchange.path(path))
        if mark != EXPECTED_PAGES[method, path][caller]:
            wrong.append(f"{method} {path}: {mark}")
    assert not wrong, "\n".join([f"for {caller}:", *wrong])


@pytest.mark.parametrize("caller", ["member", "partner", "observer", "auditor", "operator"])
async def test_the_menu_leads_to_pages_that_may_be_opened_and_to_no_others(exchange, caller):
    _, page = await window(exchange, caller)
    [menu] = re.findall("<nav aria-label=.Pages.>.*?</nav>", page, re.DOTALL)
    linked = set(re.findall('href="([^"]+)"', menu))
    menus = {"/console/", "/console/search", "/console/members", "/console/webhooks"}
    menus |= {"/console/quarantine", "/console/checkpoints", "/console/settings"}
    assert linked == {path for path in menus if EXPECTED_PAGES["GET", path][caller] == "y"}


# --- Credentials that open nothing ---

FALSE_TOKENS = {
    "of-another-path": {"htu": "https://hub.example/v1/elsewhere"},
    "of-another-method": {"htm": "PUT"},
    "for-another-hub": {"aud": "other.example/log"},
    "of-another-name": {"iss": "kg"},
    "over": {"iat": 1, "exp": 60},
    "too-long": {"exp": 4_000_000_000},
}
"""Claims that are not so, by what is wrong with them."""


async def opened(exchange, credentials):
    """The guarded routes that let in whoever sends what ``credentials(method, path)`` gives."""
    found = []
    for method, path in GUARDED:
        concrete = exchange.path(path)
        headers = [("Authorization", value) for value in credentials(method, concrete)]
        answer = await exchange.hub.connection.request(method, concrete, headers=headers)
        if answer.code not in {"unauthenticated", "forbidden", "revoked-key"}:
            found.append(f"{method} {path}: {answer}")
    return found


@pytest.mark.parametrize("lie", FALSE_TOKENS.values(), ids=FALSE_TOKENS)
async def test_a_token_that_lies_opens_nothing(exchange, lie):
    kz = exchange.hub.participant("kz")
    assert not await opened(
        exchange, lambda method, path: [f"Bearer {kz.token(method, path, **lie)}"]
    )


async def test_a_revoked_key_opens_nothing(exchange):
    kz = exchange.hub.participant("kz")
    revoked = await exchange.hub.operator.post(
        f"/v1/keys/{builders.kid(kz.private)}/revoke", reason="compromised"
    )
    assert revoked.status == 200
    assert not await opened(exchange, lambda method, path: [f"Bearer {kz.token(method, path)}"])


async def test_a_revoked_token_opens_nothing(exchange):
    token = await exchange.hub.operator.token("anna", "operator", "auditor", "log", "metrics")
    assert (await exchange.hub.account(token).get("/v1/status")).status == 200
    assert (await exchange.hub.operator.post("/v1/tokens/anna/revoke")).status == 200
    assert not await opened(exchange, lambda *_: [f"Bearer {token}"])


async def test_two_good_tokens_open_nothing(exchange):
    """Whoever passes a request on may look at the other one than we do."""
    kz = exchange.hub.participant("kz")
    assert not await opened(
        exchange, lambda method, path: [f"Bearer {kz.token(method, path)}" for _ in range(2)]
    )


# --- What belongs to others ---


async def test_receipts_are_for_the_sender_of_what_they_acknowledge(exchange):
    kg, kz, tj = (exchange.hub.participant(code) for code in ("kg", "kz", "tj"))
    receipt = kg.receipt((exchange.position, exchange.delivery))
    stolen = await tj.post("/v1/receipts", receipt)
    assert (stolen.status, stolen.code) == (403, "sender-mismatch")
    own = await tj.post("/v1/receipts", tj.receipt((exchange.position, exchange.delivery)))
    assert (own.status, own.code) == (422, "bad-receipt")
    assert (await kg.post("/v1/receipts", receipt)).status == 201
    assert len((await kz.get("/v1/receipts", after=-1))["receipts"]) == 1
    for after in (-1, 0, exchange.position, 10**6):
        for other in (kg, tj, exchange.hub.participant("undp")):
            assert (await other.get("/v1/receipts", after=after))["receipts"] == []


@pytest.mark.parametrize("after", [-1, 0])
async def test_an_inbox_holds_what_was_sent_to_its_own_member(exchange, after):
    assert len(await exchange.hub.participant("kg").inbox(after)) == 1
    for code in ("kz", "tj", "undp", "guest"):
        assert await exchange.hub.participant(code).inbox(after) == []


async def test_a_certificate_is_its_own_member_s(exchange):
    kg, tj = exchange.hub.participant("kg"), exchange.hub.participant("tj")
    body = builders.tls_request("kg").encode()
    assert (await kg.post("/v1/certificate", body)).status == 201
    assert (await kg.get("/v1/certificate"))["code"] == "kg"
    assert (await tj.get("/v1/certificate", code="kg")).code == "not-found"


@pytest.mark.parametrize("name", ["member", "code", "recipient", "as", "iss"])
@pytest.mark.parametrize("path", ["/v1/inbox", "/v1/receipts"])
async def test_no_parameter_makes_one_member_another(exchange, path, name):
    answer = await exchange.hub.participant("tj").get(path, **{name: "kg"})
    assert (answer.status, answer.code) == (400, "bad-request")


@pytest.mark.parametrize(
    "path", ["/v1/keys", "/v1/audit/messages/{id}/why", "/v1/audit/events", "/v1/inbox"]
)
@pytest.mark.parametrize("query", ["member=kz&member=kg", "member=kz&colour=red"])
async def test_a_question_that_may_be_read_in_two_ways_is_refused(exchange, path, query):
    who = exchange.hub.participant("kz") if path == "/v1/inbox" else exchange.hub.operator
    connection, concrete = who.connection, exchange.path(path)
    token = who.token("GET", concrete) if isinstance(who, Participant) else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await connection.request("GET", f"{concrete}?{query}", headers=headers)
    assert (answer.status, answer.code) == (400, "bad-request")


@pytest.mark.parametrize("caller", ["anonymous", "member", "auditor", "operator"])
async def test_no_answer_is_kept_on_the_way(exchange, caller):
    who = await exchange.caller(caller)
    for method, path in GUARDED:
        body, query = exchange.body(who, (method, path)), QUERIES.get((method, path), {})
        answer = await who.request(method, exchange.path(path), body=body, **query)
        if path == "/log/{tile}" and answer.status == 200:
            # It never changes; whoever has it may keep it, and nobody between.
            assert answer.headers["Cache-Control"].startswith("private, ")
        else:
            assert answer.headers["Cache-Control"] == "no-store", (method, path, answer)


async def test_an_event_stream_is_not_kept_on_the_way(exchange):
    async with exchange.hub.participant("kg").events() as stream:
        assert stream.headers["Cache-Control"] == "no-store"


# --- Ways around the table ---

OTHER_SPELLINGS = [
    "//v1/status",
    "/v1//status",
    "/v1/./status",
    "/v1/x/../status",
    "/livez/../v1/status",
    "/v1/status/",
    "/V1/STATUS",
    "/v1%2fstatus",
    "/v1%2Fstatus",
    "/%76%31/status",
    "/v1/%73tatus",
    "/v1/status%00",
    "/v1/status%20",
    "/v1/status;a=b",
    "/v1/status%3fa=b",
    "http://elsewhere/v1/status",
]


@pytest.mark.parametrize("target", OTHER_SPELLINGS)
async def test_another_spelling_of_a_path_opens_nothing(exchange, target):
    kz = exchange.hub.participant("kz")
    tokens = [kz.token("GET", path) for path in (target, "/v1/status", unquote(target))]
    for header in [[], *([f"Authorization: Bearer {token}"] for token in tokens)]:
        status, _, body = await on_the_wire(exchange, f"GET {target} HTTP/1.1", *header)
        assert status in {401, 403, 404}, body


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH"])
async def test_another_method_opens_nothing_and_gives_nothing_back(exchange, method):
    for path in ("/v1/inbox", "/v1/members", "/v1/status"):
        head = "Authorization: Bearer secret-token"
        status, headers, body = await on_the_wire(exchange, f"{method} {path} HTTP/1.1", head)
        assert status == 405
        assert b"secret-token" not in headers + body


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "X-Original-URL: /livez",
        "X-Rewrite-URL: /livez",
        "X-HTTP-Method-Override: PUT",
        "X-Forwarded-User: operator",
        "Cookie: session=operator",
        "Proxy-Authorization: Bearer operator",
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/v1/status"])
async def test_no_other_header_says_who_is_asking(exchange, path, header):
    status, _, body = await on_the_wire(exchange, f"GET {path} HTTP/1.1", header)
    assert status == 401, body


async def test_a_read_is_not_made_a_write_by_a_header(exchange):
    size = await exchange.hub.size()
    answer = await exchange.hub.operator.connection.request(
        "GET", "/v1/tokens", headers={"X-HTTP-Method-Override": "POST"}
    )
    assert answer["tokens"] == []
    assert await exchange.hub.size() == size


async def on_the_wire(exchange, *head):
    """Status, head and body of the answer to a request whose every byte is the test's own."""
    address = urlsplit(exchange.hub.connection.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        lines = [*head, "Host: hub.example", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    headers, _, body = answer.partition(b"\r\n\r\n")
    return int(headers.split()[1]), headers, body


# --- What the table does not have, and who comes from where ---


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/", "/", "/v1/members/kz", "/log/tile", "/console/nothing"]
)
async def test_a_path_without_a_row_does_not_exist(hub, path):
    for who in (hub.account(), hub.participant("kz"), hub.operator):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
            answer = await who.request(method, path)
            assert (answer.status, answer.code) == (404, "not-found")


async def test_a_token_has_all_of_its_scopes(hub):
    both = hub.account(await hub.operator.token("both", "operator", "log"))
    assert (await both.get("/v1/status")).status == 200
    assert (await both.get("/log/tile/0/000.p/1")).status == 200


async def test_a_suspended_member_is_told_so_and_comes_back_when_resumed(hub, kz):
    await hub.operator.post("/v1/members/kz/suspend", reason="a test")
    answer = await kz.send()
    assert (answer.status, answer.code) == (403, "forbidden")
    assert "suspended" in answer["detail"]
    await hub.operator.post("/v1/members/kz/resume", reason="over")
    assert (await kz.send()).status == 201


async def test_a_member_whose_keys_were_lost_is_out_until_new_ones_are_approved(hub, kz, kg):
    held = await hub.operator.post("/v1/members/kz/hold", reason="the laptop was stolen")
    assert (await kz.send()).code == "revoked-key"
    new = hub.participant("kz", "kz second")
    await hub.operator.join_with(new, held["invitation"])
    assert (await new.send(audience=["kg"])).status == 201
    assert len(await kg.inbox()) == 1


async def test_whoever_comes_over_the_socket_is_named_by_the_system(hub):
    await hub.operator.post("/v1/members/kz/suspend", reason="a test")
    events = await hub.operator.get("/v1/audit/events", type="member.suspended")
    actor = events["events"][0]["entry"]["actor"]
    assert actor.startswith("account:")
    assert len(actor) > len("account:")


async def test_over_the_socket_a_wrong_token_is_still_a_wrong_token(hub):
    with_token = Account(hub.operator.connection, "wrong")
    assert (await with_token.get("/v1/status")).code == "unauthenticated"


async def test_a_participant_may_come_over_the_socket_as_itself(hub):
    kz = Participant(hub.operator.connection, "kz", hub.service.clock, salt="socket")
    assert (await kz.send()).status == 201
    assert (await kz.get("/v1/status")).code == "forbidden"
