"""A real hub against its own OpenAPI document.

First one walk that succeeds on every route, each answer compared with its description; then
schemathesis, which tries what nobody thought of.
"""

import asyncio
import re
import shutil
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit

import pytest
import requests
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from msgspec.structs import replace
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks

from hub import settings as configuration
from hub.doors import openapi
from hub.doors.access import TABLE, Role
from schemas import cosignature, note, witness
from schemas.encoding import format_time
from tests import builders, client
from tests.ports import free_port

DOCUMENT = openapi.document()
ROUTES = {(method, openapi.template(path)): allowed for (method, path), allowed in TABLE.items()}

# --- Every route, once ---


def route_of(method: str, path: str) -> tuple[str, str]:
    """The route of a request; paths without parameters go before those with."""
    for template in sorted(DOCUMENT["paths"], key=lambda path: path.count("{")):
        part = ".+" if template == "/log/{tile}" else "[^/]+"
        pattern = re.sub(r"\\{\w+\\}", part, re.escape(template))
        if (method, template) in ROUTES and re.fullmatch(pattern, path):
            return method, template
    raise AssertionError(f"{method} {path} is not described")


def check(method: str, path: str, answer: client.Answer) -> None:
    """Compare an answer with the document."""
    method, template = route_of(method, path)
    responses = DOCUMENT["paths"][template][method.lower()]["responses"]
    assert str(answer.status) in responses, answer
    content = responses[str(answer.status)]["content"]
    media_type = answer.headers["Content-Type"].partition(";")[0]
    assert media_type in content
    if media_type.endswith(("/json", "+json")):
        schema = {**content[media_type]["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(schema).validate(answer.json)


class Watched(client.Connection):
    """A connection that checks every answer and notes which routes gave one of success."""

    def __init__(self, connection: client.Connection, seen: set[tuple[str, str]]) -> None:
        super().__init__(connection.http, connection.url)
        self._seen = seen

    async def request(self, method, path, **rest):
        answer = await super().request(method, path, **rest)
        check(method, path, answer)
        if answer.status < 300:
            self._seen.add(route_of(method, path))
        return answer


# Only a restored hub answers them with success (test_tail); there is quarantine with a broker.
OF_THE_RESTORED = {("POST", "/v1/witness/tail"), ("POST", "/v1/witness/parts")}


async def test_every_route_gives_the_answer_that_is_described(hub, clock):
    seen: set[tuple[str, str]] = set()
    hub.connection = Watched(hub.connection, seen)
    operator = client.Account(Watched(hub.operator.connection, seen))
    new = hub.participant("uz-nhrc")
    with_tls = replace(builders.keys("uz-nhrc"), tls_request=builders.tls_request("uz-nhrc"))
    await operator.join(new, keys=with_tls)
    sent = await exchange_a_message(hub, clock)
    await cosign(hub.participant("kz"))
    await look_everything_up(operator, sent)
    await read_the_feed(hub)
    await subscribe(hub.participant("kz"), format_time(clock()))
    await certify(operator, new)
    await new.post("/v1/keys", builders.rotate("uz-nhrc", "uz-nhrc second"))
    await erase(operator, sent)
    await change_the_directory(operator, hub.participant("kg").private)
    assert seen == {route for route in ROUTES if "quarantine" not in route[1]} - OF_THE_RESTORED


async def exchange_a_message(hub, clock) -> str:
    kz, kg = hub.participant("kz"), hub.participant("kg")
    sent = kz.message(audience=["region"])
    assert (await kz.submit(kz.sign(sent))).status == 201
    assert (await kz.submit(kz.sign(sent))).status == 200
    assert (await kz.send(audience=["nobody"])).code == "unknown-recipient"
    assert (await kg.get("/v1/audit/events")).code == "forbidden"
    [(position, delivery)] = await kg.inbox()
    await kg.post("/v1/receipts", kg.receipt((position, delivery)))
    await kz.get("/v1/receipts", after=-1)
    await kg.get(f"/v1/messages/{sent['id']}")
    await kz.get("/log/tile/entries/000.p/1")
    await kz.send(audience=["kg"], expires=format_time(clock() + timedelta(minutes=1)))
    clock.forward(minutes=2)
    [tombstone] = (await kg.get("/v1/inbox", after=position))["deliveries"]
    assert tombstone["tombstone"] == "expired"
    return str(sent["id"])


async def cosign(participant: client.Participant) -> None:
    asked = witness.parse((await participant.get("/v1/witness/request", old=0)).body)
    text = note.parse_note(asked.note).text
    name, key = cosignature.witness_name(client.ORIGIN, "kz"), builders.key("kz witness")
    raw = witness.merge(asked.note, [cosignature.cosign(text, name, key, 1)])
    assert (await participant.post("/v1/witness/response", raw))["quorum"] is False
    assert (await participant.get("/v1/witness/tail", size=0))["wanted"] is False


async def look_everything_up(operator: client.Account, sent: str) -> None:
    for path in ("/livez", "/readyz", "/openapi.json", "/schemas/message.json", "/log/checkpoint"):
        await operator.get(path)
    for path in ("/v1/members", "/v1/keys", "/v1/status", "/v1/audit/verify", "/metrics"):
        await operator.get(path)
    for message_id in (sent, builders.message_id()):
        await operator.get(f"/v1/audit/messages/{message_id}")
        await operator.get(f"/v1/audit/messages/{message_id}/why", member="kg")
        await operator.get(f"/v1/audit/messages/{message_id}/evidence")
        await operator.post(f"/v1/audit/messages/{message_id}/body")
    await operator.get("/v1/audit/events", limit=500)
    for form in ("csv", "ndjson"):
        await operator.get("/v1/audit/export", format=form)
    await operator.get("/v1/audit/counts", of="type")
    await operator.get("/v1/audit/report", language="tk")


async def read_the_feed(hub) -> None:
    kz = hub.participant("kz")
    public = kz.message(marking="TLP:CLEAR")
    assert (await kz.submit(kz.sign(public))).status == 201
    for path in ("", "/member/kz", "/theme/children", f"/{public['id']}/evidence"):
        await hub.connection.request("GET", f"/feed{path}")
    for path in ("/member/nobody", "/theme/weather", f"/{builders.message_id()}/evidence"):
        await hub.connection.request("GET", f"/feed{path}", lang="ru")


async def subscribe(participant: client.Participant, now: str) -> None:
    path = "/v1/subscriptions"
    assert (await participant.post(f"{path}/dry-run", b"{}"))["matched"] == 0
    assert (await participant.post(path, b'{"url":"https://10.0.0.1/"}')).code == "bad-request"
    # A name that is reserved and leads nowhere.
    made = await participant.post(path, b'{"url":"https://hooks.example.org/"}')
    own = f"{path}/{made['id']}"
    assert len((await participant.get(path))["subscriptions"]) == 1
    assert (await participant.post(own, b'{"ordered":true}'))["ordered"] is True
    assert (await participant.post(f"{own}/test", b""))["proven"] is False
    await participant.post(f"{own}/replay", b'{"since":"%s"}' % now.encode())
    for what in ("redrive", "secret"):
        await participant.post(f"{own}/{what}", b"")
    for what in ("", "/attempts", "/dead"):
        await participant.get(own + what)
    await participant.post(f"{own}/end", b"")


async def certify(operator: client.Account, participant: client.Participant) -> None:
    body = builders.tls_request("uz-nhrc").encode()
    assert (await participant.post("/v1/certificate", body)).status == 201
    assert (await participant.get("/v1/certificate"))["code"] == "uz-nhrc"
    await operator.post("/v1/certificates/uz-nhrc")
    assert len((await operator.get("/v1/certificates"))["certificates"]) == 1


async def erase(operator: client.Account, sent: str) -> None:
    assert (await operator.get("/v1/retention"))["due"] == []
    held = await operator.post(f"/v1/messages/{sent}/hold", reason="Case 7/26 of a court.")
    assert held["index"] > 0
    await operator.post(f"/v1/messages/{sent}/hold", reason="It is closed.", release=True)
    assert (await operator.post(f"/v1/messages/{sent}/erase", reason="short")).code == "schema"
    erased = await operator.post(f"/v1/messages/{sent}/erase", reason="Asked for by its sender.")
    assert (erased["received"], erased["waiting"]) == (["kg"], ["tj", "tm", "uz-nhrc"])
    await operator.get(f"/v1/audit/messages/{sent}")
    await operator.get(f"/v1/audit/messages/{sent}/why", member="kg")
    await operator.get(f"/v1/audit/messages/{sent}/evidence")


async def change_the_directory(operator: client.Account, lost: Ed25519PrivateKey) -> None:
    await operator.token("reader", "log")
    await operator.post("/v1/tokens/reader/revoke")
    assert len((await operator.get("/v1/tokens"))["tokens"]) == 1
    await operator.post("/v1/groups/network", members=["kz", "kg"])
    await operator.post("/v1/members/tj/suspend", reason="A test.")
    await operator.post("/v1/members/tj/resume")
    await operator.post("/v1/members/tm/hold")
    await operator.post(f"/v1/keys/{builders.kid(lost)}/revoke", reason="lost")


# --- What nobody thought of ---

EXAMPLES = 5
"""For each route, beside the limits and wrong types that schemathesis always tries."""

CONFIG = SchemathesisConfig.from_dict({"generation": {"max-examples": EXAMPLES}})
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


class Exchange:
    """A hub in a thread of its own, and somebody for every role that a route may ask for."""

    def __init__(self, settings: configuration.Settings) -> None:
        self.url = settings.url
        self.session = requests.Session()
        self.session.trust_env = False
        self._settings = settings
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_):
        self.session.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with client.running(self._settings) as hub:
            self._account = await hub.operator.token("fuzz", "operator", "auditor", "log")
            self._kz = client.Participant(hub.connection, "kz", lambda: datetime.now(UTC))
            await self._kz.send(audience=["kg"])
            self._ready.set()
            await self._stop.wait()

    def authorization(self, method: str, path: str, template: str) -> dict[str, str]:
        """The header of somebody who may use a route."""
        allowed = ROUTES.get((method, template))
        if allowed is None or Role.ANONYMOUS in allowed:
            return {}
        token = self._kz.token(method, path) if Role.MEMBER in allowed else self._account
        return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def exchange(everybody_joined, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed") / "hub"
    shutil.copytree(everybody_joined, folder)
    copied = configuration.load(folder / "hub.toml", {})
    with Exchange(replace(copied, http=replace(copied.http, port=free_port()))) as running:
        yield running


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_comes_the_hub_answers_as_described(case, exchange):
    if isinstance(case.query, dict) and case.query.get("wait"):
        case.query["wait"] = 0  # nothing will come
    path = unquote(urlsplit(case.as_transport_kwargs(exchange.url)["url"]).path)
    headers = exchange.authorization(case.method, path, case.operation.path)
    response = case.call(exchange.url, exchange.session, headers, allow_redirects=False)
    # Well-formed is not enough to be accepted: a signature has to hold, a code has to be free.
    case.validate_response(
        response, headers=headers, excluded_checks=[checks.positive_data_acceptance]
    )
