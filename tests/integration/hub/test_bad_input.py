"""Bad input gets a clear typed refusal; nothing is lost, and no neighbour is the worse for it.

Most cases are an envelope that kz sends over its own good connection. Besides the refusal, they
check that it is in the log, provably, and that a good message of kg passes right afterwards.
"""

import json
from datetime import timedelta

import msgspec
import pytest
import pytest_asyncio

from hub import app
from schemas import entry as entries
from schemas import signature
from schemas.encoding import b64url, format_time, unb64url
from tests import builders, client
from tests.builders import key


def edited(envelope, **members):
    """An envelope with other members."""
    return json.dumps(json.loads(envelope) | members).encode()


def with_header(message, **header):
    """An envelope whose protected header has other members; signed by kz all the same."""
    payload = b64url(builders.payload(message))
    made = {"alg": "Ed25519", "kid": builders.kid(key("kz")), "typ": "nhri-message+json"} | header
    return signed_over(b64url(json.dumps(made).encode()), payload)


def signed_over(protected, payload):
    value = b64url(key("kz").sign(f"{protected}.{payload}".encode()))
    signatures = [{"protected": protected, "signature": value}]
    return json.dumps({"payload": payload, "signatures": signatures}).encode()


def raw_payload(payload):
    """An envelope of kz over any bytes."""
    return signature.sign(payload, signature.MESSAGE_TYPE, key("kz"))


def payload_of(message, old, new):
    """A message's payload in which some bytes are replaced."""
    payload = builders.payload(message)
    assert old in payload
    return raw_payload(payload.replace(old, new))


def flipped(envelope):
    """The last bit of the signature is another."""
    made = json.loads(envelope)
    value = bytearray(unb64url(made["signatures"][0]["signature"]))
    value[0] ^= 1
    made["signatures"][0]["signature"] = b64url(bytes(value))
    return json.dumps(made).encode()


def nested(depth):
    return b"[" * depth + b"]" * depth


# What is sent, made of a good message of kz -> the refusal's code, and its path where it has one.
ENVELOPES = {
    "nothing": (lambda kz, good: b"", "malformed", None),
    "junk": (lambda kz, good: b"\x00\xff junk", "malformed", None),
    "a wrong signature": (lambda kz, good: flipped(kz.sign(good)), "bad-signature", None),
    "a signature over another payload": (
        lambda kz, good: edited(kz.sign(good), payload=b64url(b"{}")),
        "bad-signature",
        None,
    ),
    "an unknown key": (
        lambda kz, good: builders.signed(good, key("thief")),
        "unknown-key",
        None,
    ),
    "the key of another": (
        lambda kz, good: builders.signed(good, key("kg")),
        "sender-unsigned",
        None,
    ),
    "alg none": (lambda kz, good: with_header(good, alg="none"), "bad-header", "$.alg"),
    "alg EdDSA": (lambda kz, good: with_header(good, alg="EdDSA"), "bad-header", "$.alg"),
    "alg HS256": (lambda kz, good: with_header(good, alg="HS256"), "bad-header", "$.alg"),
    "an extra header": (lambda kz, good: with_header(good, crit=["x"]), "bad-header", "$.crit"),
    "another typ": (lambda kz, good: with_header(good, typ="JWT"), "bad-header", "$.typ"),
    "an unprotected header": (
        lambda kz, good: edited(
            kz.sign(good),
            signatures=[json.loads(kz.sign(good))["signatures"][0] | {"header": {}}],
        ),
        "malformed",
        "$.signatures[0].header",
    ),
    "a flattened envelope": (
        lambda kz, good: json.dumps(
            {"payload": json.loads(kz.sign(good))["payload"]}
            | json.loads(kz.sign(good))["signatures"][0]
        ).encode(),
        "malformed",
        "$.protected",
    ),
    "a duplicate key in the envelope": (
        lambda kz, good: kz.sign(good)[:-1] + b',"payload":""}',
        "duplicate-key",
        None,
    ),
    "a duplicate key in the payload": (
        lambda kz, good: payload_of(good, b'"kind":', b'"sender":"kg","kind":'),
        "duplicate-key",
        None,
    ),
    "NaN": (lambda kz, good: payload_of(good, b'"value":3', b'"value":NaN'), "malformed", None),
    "infinity": (
        lambda kz, good: payload_of(good, b'"value":3', b'"value":1e999'),
        "malformed",
        None,
    ),
    "a number too large to be read alike": (
        lambda kz, good: payload_of(good, b'"value":3', b'"value":9007199254740993'),
        "malformed",
        None,
    ),
    "deep nesting": (lambda kz, good: raw_payload(nested(10_000)), "malformed", None),
    "deep nesting in one member": (
        lambda kz, good: payload_of(good, b'"value":3', b'"value":' + nested(50)),
        "malformed",
        None,
    ),
    "deep nesting outside": (lambda kz, good: nested(100_000), "malformed", None),
    "invalid UTF-8": (
        lambda kz, good: payload_of(good, b"A visit", b"A vis\xc3\x28t"),
        "malformed",
        None,
    ),
    "half of a surrogate pair": (
        lambda kz, good: payload_of(good, b"A visit", rb"\ud800"),
        "malformed",
        None,
    ),
    "300 KiB": (lambda kz, good: kz.sign(good | {"pad": "x" * 300_000}), "too-large", None),
    "one byte too much": (
        lambda kz, good: b" " * (signature.MAX_ENVELOPE + 1),
        "too-large",
        None,
    ),
    "a compressed envelope that is no envelope": (
        lambda kz, good: b"\x1f\x8b junk",
        "malformed",
        None,
    ),
    "seventeen signatures": (
        lambda kz, good: builders.signed(good, *(key(str(number)) for number in range(17))),
        "malformed",
        None,
    ),
    "the same key twice": (
        lambda kz, good: builders.signed(good, key("kz"), key("kz")),
        "malformed",
        None,
    ),
}

MESSAGES = {
    "the sender is another": ({"sender": "kg"}, "sender-mismatch", None),
    "an unknown kind": ({"kind": "poem.v1"}, "unknown-kind", "$.kind"),
    "no kind at all": ({"kind": ""}, "unknown-kind", "$.kind"),
    "an unknown version": (
        {"kind": "activity_bulletin.v9"},
        "unsupported-version",
        "$.kind",
    ),
    "an unknown field": ({"colour": "red"}, "schema", "$.colour"),
    "an unknown field in the content": (
        {"content": {"activity": "visit", "place": {"planet": "Mars"}}},
        "schema",
        "$.content.place.planet",
    ),
    "a field of another type": ({"themes": "torture"}, "schema", "$.themes"),
    "an id of another form": ({"id": "1"}, "schema", "$.id"),
    "a time of another form": ({"created": "yesterday"}, "schema", "$.created"),
    "an unknown member in the audience": (
        {"audience": ["kg", "atlantis"]},
        "unknown-recipient",
        "$.audience",
    ),
    "nobody in the audience": ({"audience": []}, "schema", "$.audience"),
    "the sender in the audience": ({"audience": ["kz"]}, "schema", "$.audience"),
    "a partner under AMBER": (
        {"marking": "TLP:AMBER", "audience": ["kg", "undp"]},
        "marking-conflict",
        "$.audience",
    ),
    "a group under AMBER+STRICT": (
        {"marking": "TLP:AMBER+STRICT"},
        "marking-conflict",
        "$.audience",
    ),
    "a group that has only partners under AMBER": (
        {"marking": "TLP:AMBER", "audience": ["partners"]},
        "no-recipient",
        "$.audience",
    ),
    "a marking that there is not": ({"marking": "TLP:PINK"}, "schema", "$.marking"),
    "TLP:RED": (
        {"marking": "TLP:RED", "audience": ["kg"]},
        "sealed-unsupported",
        "$.marking",
    ),
    "sealed": ({"sealed": {}}, "sealed-unsupported", "$.sealed"),
    "attachments": (
        {"attachments": [{"size": 1, "sha256": "x" * 43}]},
        "attachments-unsupported",
        "$.attachments",
    ),
    "expired": (
        {"created": builders.time(-10), "expires": builders.time(-5)},
        "expired",
        "$.expires",
    ),
    "from the future": ({"created": builders.time(6)}, "created-out-of-range", "$.created"),
    "too old": ({"created": "2026-01-01T00:00:00.000Z"}, "created-out-of-range", "$.created"),
    **{
        f"a character that turns the text around, {name}": (
            {"texts": {"en": {"title": f"not {char}guilty"}}},
            "forbidden-character",
            "$.texts.en.title",
        )
        for name, char in {
            "RLO": "\u202e",
            "LRE": "\u202a",
            "LRI": "\u2066",
            "PDI": "\u2069",
        }.items()
    },
    **{
        f"a control character, {name}": (
            {"texts": {"en": {"title": "A visit", "body": f"x{char}y"}}},
            "forbidden-character",
            "$.texts.en.body",
        )
        for name, char in {"ESC": "\x1b", "NUL": "\x00", "CR": "\r", "DEL": "\x7f"}.items()
    },
    "a line feed in a title": (
        {"texts": {"en": {"title": "A\nvisit"}}},
        "forbidden-character",
        "$.texts.en.title",
    ),
    "a text that is not NFC": (
        {"texts": {"ru": {"title": "и\u0306"}}},
        "forbidden-character",
        "$.texts.ru.title",
    ),
}


async def check(hub, answer, code, path=None, actor="kz"):
    """The refusal is the one expected and in the log, and a neighbour's message passes."""
    assert answer.code == code, answer
    assert answer.json.get("path") == path
    opened = hub.open(answer.refusal())
    assert (opened.entry.type, opened.entry.actor) == ("message.refused", actor)
    assert opened.entry.public == {"code": code}
    private = msgspec.json.decode(opened.private, type=entries.RefusedPrivate)
    assert (private.detail, private.path) == (answer["detail"], path)
    await neighbour_passes(hub)
    return opened


async def neighbour_passes(hub):
    sent = await hub.participant("kg").send(audience=["tj"])
    assert hub.open(sent.acceptance()).entry.type == "message.accepted"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(everybody_joined, tmp_path_factory):
    """One hub for many refusals, which it records one by one."""
    settings = client.copied(everybody_joined, tmp_path_factory.mktemp("shared") / "hub")
    quota = msgspec.structs.replace(settings.quota, refusals_per_minute=1_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_clock", client.Clock())
        async with client.running(msgspec.structs.replace(settings, quota=quota)) as running:
            yield running


in_the_shared_hub = pytest.mark.asyncio(loop_scope="module")


@in_the_shared_hub
@pytest.mark.parametrize(("make", "code", "path"), ENVELOPES.values(), ids=ENVELOPES)
async def test_an_envelope_is_refused(shared, make, code, path):
    kz = shared.participant("kz")
    raw = make(kz, kz.message())
    opened = await check(shared, await kz.submit(raw), code, path)
    private = msgspec.json.decode(opened.private, type=entries.RefusedPrivate)
    assert private.envelope == entries.digest(raw[: signature.MAX_ENVELOPE + 1])


@in_the_shared_hub
@pytest.mark.parametrize(("lie", "code", "path"), MESSAGES.values(), ids=MESSAGES)
async def test_a_message_is_refused(shared, lie, code, path):
    kz = shared.participant("kz")
    sent = kz.message(**lie)
    opened = await check(shared, await kz.submit(kz.sign(sent)), code, path)
    if "id" not in lie:
        assert opened.entry.subject == sent["id"]
    assert await shared.participant("kg").inbox() == []


class TestAKey:
    async def test_that_was_replaced_is_refused(self, hub, kz):
        new = hub.participant("kz", "kz second")
        rotated = await kz.post("/v1/keys", builders.rotate("kz", "kz second"))
        assert rotated.status == 201
        await check(hub, await new.submit(kz.sign(kz.message())), "revoked-key")
        assert (await new.send()).status == 201

    async def test_that_was_revoked_is_refused_already_at_the_door(self, hub, kz):
        await hub.operator.post(f"/v1/keys/{builders.kid(kz.private)}/revoke", reason="lost")
        answer = await kz.send()
        assert (answer.status, answer.code) == (403, "revoked-key")
        await neighbour_passes(hub)

    async def test_that_expired_is_refused_already_at_the_door(self, hub, kz, clock):
        new = hub.participant("kz", "kz second")
        until = {"expires": format_time(clock() + timedelta(hours=1))}
        await kz.post("/v1/keys", builders.rotate("kz", "kz second", **until))
        assert (await new.send()).status == 201
        clock.forward(hours=1)
        answer = await new.send()
        assert (answer.status, answer.code) == (403, "expired-key")
        await neighbour_passes(hub)

    async def test_of_low_order_is_not_registered(self, hub):
        bundle = await hub.operator.invite("new")
        worthless = signature.jwk(bytes(32))
        keys = msgspec.structs.replace(builders.keys("new"), sign=worthless)
        new = hub.participant("new")
        body = client.join_request(new, bundle["invitation"], keys)
        answer = await new.connection.request("POST", "/v1/join", body=body)
        assert (answer.status, answer.code) == (422, "low-order-key")
        await neighbour_passes(hub)

    async def test_is_not_registered_twice(self, hub):
        bundle = await hub.operator.invite("new")
        new = hub.participant("new", "kz")
        body = client.join_request(new, bundle["invitation"], builders.keys("kz"))
        answer = await new.connection.request("POST", "/v1/join", body=body)
        assert (answer.status, answer.code) == (409, "conflict")


class TestTheSameId:
    async def test_with_another_payload_is_refused_and_recorded(self, hub, kz):
        sent = kz.message()
        await kz.submit(kz.sign(sent))
        other = kz.sign(sent | {"marking": "TLP:CLEAR"})
        await check(hub, await kz.submit(other), "id-conflict", "$.id")

    async def test_from_another_sender_is_refused_and_recorded(self, hub, kz):
        sent = kz.message()
        await kz.submit(kz.sign(sent))
        tj = hub.participant("tj")
        stolen = tj.sign(tj.message(id=sent["id"], audience=["kz"]))
        await check(hub, await tj.submit(stolen), "id-conflict", "$.id", actor="tj")

    async def test_that_was_refused_before_is_free(self, hub, kz):
        sent = kz.message()
        refused = await kz.submit(kz.sign(sent | {"audience": ["atlantis"]}))
        assert refused.code == "unknown-recipient"
        assert (await kz.submit(kz.sign(sent))).status == 201


class TestTheQuota:
    @pytest.fixture
    def settings(self, settings):
        quota = msgspec.structs.replace(settings.quota, messages_per_hour=2)
        return msgspec.structs.replace(settings, quota=quota)

    async def test_refuses_the_message_beyond_it_for_now(self, hub, kz, clock):
        for _ in range(2):
            assert (await kz.send()).status == 201
        sent = kz.sign(kz.message())
        refused = await kz.submit(sent)
        assert refused.status == 429
        assert refused["retryable"] is True
        assert int(refused.headers["Retry-After"]) > 0
        await check(hub, refused, "quota")
        clock.forward(minutes=61)
        assert (await kz.submit(sent)).status == 201


class TestTheLimitOfRecordedRefusals:
    @pytest.fixture
    def settings(self, settings):
        quota = msgspec.structs.replace(settings.quota, refusals_per_minute=2)
        return msgspec.structs.replace(settings, quota=quota)

    async def test_keeps_a_flood_out_of_the_log(self, hub, kz):
        size = await hub.size()
        answers = [await kz.submit(b"junk") for _ in range(5)]
        assert [answer.code for answer in answers] == ["malformed"] * 5
        assert ["refusal" in answer.json for answer in answers] == [True] * 2 + [False] * 3
        assert await hub.size() == size + 2
        await neighbour_passes(hub)


class TestAnAnswerToAJointAction:
    @pytest.fixture
    async def notice(self, hub, kz):
        """A notice of kz that invites kg, is told to tj, and is not known to tm."""
        content = {"action": "statement", "invited": ["kg"], "answer_by": builders.time(60)}
        made = builders.notice(**kz.new(audience=["kg", "tj"], content=content))
        assert (await kz.submit(kz.sign(made))).status == 201
        return made

    async def answer(self, hub, notice, sender, what, **overrides):
        who = hub.participant(sender)
        audience = [code for code in ("kz", "kg", "tj") if code != sender]
        made = builders.response(
            what, notice, **who.new(sender=sender, audience=audience) | overrides
        )
        return await who.submit(who.sign(made))

    async def test_is_accepted_from_whoever_was_invited(self, hub, notice):
        answer = await self.answer(hub, notice, "kg", "accept")
        assert hub.open(answer.acceptance()).entry.actor == "kg"

    @pytest.mark.parametrize(
        ("sender", "what", "code", "path"),
        [
            ("tj", "decline", "not-invited", None),
            ("tm", "decline", "unknown-action", "$.content.notice"),
            ("kg", "start", "not-proposer", None),
            ("kz", "start", "action-state", None),
            ("kz", "conclude", "action-state", None),
            ("kg", "withdraw", "action-state", None),
        ],
    )
    async def test_is_refused(self, hub, notice, sender, what, code, path):
        answer = await self.answer(hub, notice, sender, what)
        await check(hub, answer, code, path, actor=sender)

    async def test_is_refused_after_the_date(self, hub, notice, clock):
        clock.forward(minutes=61)
        answer = await self.answer(hub, notice, "kg", "accept")
        await check(hub, answer, "answer-late", actor="kg")

    async def test_is_refused_after_the_end(self, hub, notice):
        assert (await self.answer(hub, notice, "kz", "cancel")).status == 201
        answer = await self.answer(hub, notice, "kg", "accept")
        await check(hub, answer, "action-state", actor="kg")

    async def test_is_refused_with_the_signature_of_another(self, hub, notice):
        stolen = builders.cosignature(notice, key("tj"))
        content = {"notice": notice["id"], "answer": "accept", "signature": stolen}
        answer = await self.answer(hub, notice, "kg", "accept", content=content)
        path = "$.content.signature"
        await check(hub, answer, "bad-cosignature", path, actor="kg")

    async def test_is_refused_to_a_message_that_is_no_notice(self, hub, kz):
        sent = kz.message()
        await kz.submit(kz.sign(sent))
        answer = await self.answer(hub, sent, "kg", "decline")
        await check(hub, answer, "unknown-action", "$.content.notice", actor="kg")


class TestARole:
    async def test_that_may_not_send_this_marking_is_refused(self, hub):
        undp = hub.participant("undp")
        answer = await undp.send(marking="TLP:AMBER", audience=["kz"])
        await check(hub, answer, "role-may-not-send", "$.marking", actor="undp")

    async def test_that_may_not_send_at_all_is_refused_at_the_door(self, hub):
        answer = await hub.participant("guest").send(audience=["kz"])
        assert (answer.status, answer.code) == (403, "forbidden")
        await neighbour_passes(hub)


class TestAReceipt:
    @pytest.fixture
    async def delivery(self, kz, kg):
        await kz.send(audience=["kg", "tj"])
        [item] = await kg.inbox()
        return item

    async def refused(self, who, raw, code):
        answer = await who.post("/v1/receipts", raw)
        assert answer.code == code, answer

    async def test_of_another_is_refused(self, hub, kg, delivery):
        await self.refused(hub.participant("tj"), kg.receipt(delivery), "sender-mismatch")
        await neighbour_passes(hub)

    async def test_for_a_position_that_was_never_reached_is_refused(self, kg, delivery):
        _, delivered = delivery
        for position in (2, 2**31, 2**53 - 1):
            await self.refused(kg, kg.receipt((position, delivered)), "bad-receipt")

    async def test_for_somebody_elses_message_is_refused(self, hub, kz, delivery):
        _, delivered = delivery
        await self.refused(kz, kz.receipt((1, delivered)), "bad-receipt")

    async def test_that_is_junk_is_refused(self, kg):
        await self.refused(kg, b"\xff", "malformed")

    async def test_signed_as_a_message_is_refused(self, kg):
        await self.refused(kg, kg.sign(kg.message()), "bad-header")


class TestAKeyStatement:
    async def test_of_another_is_refused(self, hub, kg):
        answer = await kg.post("/v1/keys", builders.rotate("kz", "kz second"))
        assert answer.code == "sender-mismatch"
        await neighbour_passes(hub)

    async def test_by_a_key_that_is_not_the_present_one_is_refused(self, kz):
        answer = await kz.post("/v1/keys", builders.rotate("kz", "kz second", "thief"))
        assert answer.code == "conflict"

    async def test_too_large_for_the_log_is_refused(self, hub, kz):
        padded = signature.parse(builders.rotate("kz", "kz second"), "nhri-key+json").payload
        raw = signature.sign(padded + b" " * 60_000, "nhri-key+json", key("kz"))
        answer = await kz.post("/v1/keys", raw)
        assert answer.code == "bad-statement"
        await neighbour_passes(hub)


@in_the_shared_hub
class TestAnOperatorsMistake:
    @pytest.mark.parametrize(
        ("path", "body", "code"),
        [
            ("/v1/members", {"code": "KZ", "role": "member", "names": {"en": "x"}}, "schema"),
            ("/v1/members", {"code": "kz", "role": "member", "names": {"en": "x"}}, "conflict"),
            ("/v1/members", {"code": "hub", "role": "member", "names": {"en": "x"}}, "schema"),
            ("/v1/members", {"code": "new", "role": "king", "names": {"en": "x"}}, "schema"),
            ("/v1/members", {"code": "new", "role": "member", "names": {}}, "schema"),
            ("/v1/members", {"code": "new", "role": "member", "names": {"e": "x"}}, "schema"),
            (
                "/v1/members",
                {"code": "new", "role": "member", "names": {"en": "\u202e"}},
                "forbidden-character",
            ),
            ("/v1/members/nobody/suspend", {}, "conflict"),
            ("/v1/members/nobody/hold", {}, "not-found"),
            ("/v1/members/kz/resume", {}, "conflict"),
            ("/v1/members/kz/approve", {"fingerprint": "0" * 30}, "conflict"),
            ("/v1/members/kz/approve", {"fingerprint": "no"}, "schema"),
            ("/v1/keys/x/revoke", {"reason": "lost"}, "unknown-key"),
            ("/v1/keys/x/revoke", {"reason": "bored"}, "schema"),
            ("/v1/groups/network", {"members": ["nobody"]}, "conflict"),
            ("/v1/groups/Net%20work", {"members": ["kz"]}, "conflict"),
            ("/v1/groups/kz", {"members": ["kg"]}, "conflict"),
            ("/v1/tokens", {"account": "a b", "scopes": ["log"]}, "schema"),
            ("/v1/tokens", {"account": "a\n", "scopes": ["log"]}, "schema"),
            ("/v1/tokens", {"account": "a", "scopes": ["king"]}, "schema"),
            ("/v1/tokens", {"account": "a", "scopes": []}, "schema"),
            ("/v1/tokens/nobody/revoke", {}, "not-found"),
            ("/v1/members/kz/suspend", {"colour": "red"}, "schema"),
        ],
        ids=str,
    )
    async def test_is_refused_and_changes_nothing(self, shared, path, body, code):
        size = await shared.size()
        answer = await shared.operator.post(path, **body)
        assert answer.code == code, answer
        assert await shared.size() == size


@in_the_shared_hub
class TestAQuery:
    @pytest.mark.parametrize(
        "query",
        [
            {"after": "x"},
            {"after": "-2"},
            {"after": "9" * 30},
            {"limit": "0"},
            {"limit": "101"},
            {"wait": "61"},
            {"wait": "-1"},
            {"wait": "nan"},
            {"wait": "inf"},
            {"colour": "red"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("path", ["/v1/inbox", "/v1/receipts"])
    async def test_out_of_bounds_is_refused(self, shared, path, query):
        answer = await shared.participant("kz").get(path, **query)
        assert (answer.status, answer.code) == (400, "bad-request")

    async def test_with_a_parameter_twice_is_refused(self, shared):
        kz = shared.participant("kz")
        answer = await kz.request(
            "GET", "/v1/inbox?after=1&after=2", token=kz.token("GET", "/v1/inbox")
        )
        assert (answer.status, answer.code) == (400, "bad-request")

    @pytest.mark.parametrize(
        ("path", "query", "code"),
        [
            ("/v1/audit/events", {"since": "yesterday"}, "bad-request"),
            ("/v1/audit/events", {"limit": "501"}, "bad-request"),
            ("/v1/audit/events", {"after": "9" * 30}, "bad-request"),
            ("/v1/audit/events", {"planet": "Mars"}, "bad-request"),
            ("/v1/audit/events", {"before": "null"}, "bad-request"),
            ("/v1/audit/events", {"theme": "Mars"}, "bad-request"),
            ("/v1/audit/events", {"sdg": "18"}, "bad-request"),
            ("/v1/audit/events", {"text": "…"}, "bad-request"),
            ("/v1/audit/events", {"text": " ".join(map(str, range(17)))}, "bad-request"),
            ("/v1/audit/events", {"actor": "\x00"}, "bad-request"),
            ("/v1/audit/messages/unknown", {}, "not-found"),
            ("/v1/audit/messages/unknown/why", {"member": "kz"}, "not-found"),
            (f"/v1/audit/messages/{builders.message_id()}/why", {}, "bad-request"),
            ("/v1/members/nobody/join", {}, "not-found"),
            ("/log/tile/x", {}, "not-found"),
            ("/schemas/nothing.json", {}, "not-found"),
            ("/schemas/..%2F..%2Fpyproject.toml", {}, "not-found"),
            ("/nothing", {}, "not-found"),
        ],
        ids=str,
    )
    async def test_that_finds_nothing_says_so(self, shared, path, query, code):
        answer = await shared.operator.get(path, **query)
        assert answer.code == code

    @pytest.mark.parametrize(
        "path",
        ["/v1/audit/events?actor=%ff", "/v1/audit/messages/%ff", "/v1/members/%ed%a0%80/join"],
    )
    async def test_that_is_not_utf_8_is_answered(self, shared, path):
        answer = await shared.operator.get(path)
        assert answer.status < 500

    async def test_by_another_method_is_told_the_right_ones(self, shared):
        answer = await shared.operator.request("PUT", "/v1/members")
        assert (answer.status, answer.code) == (405, "not-found")
        assert set(answer.headers["Allow"].split(",")) == {"GET", "POST"}


class TestANulInAnAddress:
    """PostgreSQL takes none in a text; SQLite would find nothing."""

    @pytest.fixture
    async def on_postgresql(self, settings, clock, postgresql):
        replace = msgspec.structs.replace
        async with client.running(
            replace(settings, store=replace(settings.store, url=postgresql.url))
        ) as hub:
            await hub.operator.join(hub.participant("kz"))
            yield hub

    async def test_is_refused_to_whoever_may_ask(self, on_postgresql):
        kz, operator = on_postgresql.participant("kz"), on_postgresql.operator
        read = kz.token("GET", "/v1/messages/\0")
        answers = [
            await kz.request("GET", "/v1/messages/%00", token=read),
            await operator.get("/v1/members/%00/join"),
            await operator.get("/v1/audit/events?actor=a%00"),
            await operator.get("/v1/audit/events?%00=a"),
            await operator.post("/v1/members/%00/approve", fingerprint="0" * 30),
        ]
        for answer in answers:
            assert (answer.status, answer.code) == (400, "bad-request")
            assert answer["detail"] == "Take %00 out of the address."
        assert (await operator.get("/readyz"))["ok"] is True

    async def test_tells_nobody_else_more_than_any_address(self, on_postgresql):
        answer = await on_postgresql.account().get("/v1/messages/%00")
        assert answer.code == "unauthenticated"
