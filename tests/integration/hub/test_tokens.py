"""Who is asking: wrong, old, stolen and used tokens open nothing."""

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from hub import upkeep
from hub.doors.strangers import PER_MINUTE
from schemas.encoding import unb64url
from tests import client
from tests.builders import key


async def refused(who, token, method="GET", path="/v1/inbox", body=None):
    """The door's refusal; a neighbour is not the worse for it."""
    answer = await who.request(method, path, token=token, body=body)
    assert answer.status in {401, 403}, answer
    assert answer.code is not None
    return answer


class TestAParticipantsToken:
    @pytest.mark.parametrize(
        ("lie", "code"),
        [
            ({"htm": "POST"}, "unauthenticated"),
            ({"htu": "https://hub.example/v1/receipts"}, "unauthenticated"),
            ({"htu": "http://["}, "unauthenticated"),
            ({"aud": "other.example/log"}, "unauthenticated"),
            ({"iss": "kg"}, "unauthenticated"),
            ({"iss": "nobody"}, "unauthenticated"),
            ({"jti": "short"}, "unauthenticated"),
            ({"exp": 4_000_000_000}, "unauthenticated"),
            ({"extra": 1}, "unauthenticated"),
            ({"private": key("kg")}, "unauthenticated"),
            ({"private": key("thief")}, "unauthenticated"),
        ],
        ids=lambda value: ", ".join(value) if isinstance(value, dict) else str(value),
    )
    async def test_that_lies_is_refused(self, kz, lie, code):
        token = kz.token("GET", "/v1/inbox", **lie)
        assert (await refused(kz, token)).code == code

    @pytest.mark.parametrize(
        "header", [{"alg": "none"}, {"alg": "HS256"}, {"typ": "JWT"}, {"jwk": {}}], ids=str
    )
    async def test_with_another_header_is_refused(self, kz, header):
        good = kz.token("GET", "/v1/inbox")
        claims = unb64url(good.split(".")[1])
        forged = client.compact(claims, kz.private, **header)
        assert (await refused(kz, forged)).code == "unauthenticated"

    async def test_without_a_signature_is_refused(self, kz):
        header, claims, _ = kz.token("GET", "/v1/inbox").split(".")
        for token in (f"{header}.{claims}.", f"{header}.{claims}", f"..{claims}"):
            assert (await refused(kz, token)).code == "unauthenticated"

    async def test_older_than_a_minute_is_refused_and_told_the_time(self, kz, clock):
        token = kz.token("GET", "/v1/inbox")
        clock.forward(seconds=61)
        answer = await refused(kz, token)
        assert answer.code == "unauthenticated"
        assert "Date" in answer.headers

    async def test_from_the_future_is_refused(self, kz, clock):
        clock.forward(minutes=2)
        token = kz.token("GET", "/v1/inbox")
        clock.forward(minutes=-2)
        assert (await refused(kz, token)).code == "unauthenticated"

    @pytest.mark.parametrize("aud", ["hub.example/log", None])
    async def test_names_the_hub_by_its_log_or_its_address(self, hub, kz, aud):
        token = kz.token("GET", "/v1/inbox", aud=aud or hub.settings.url)
        assert (await kz.request("GET", "/v1/inbox", token=token)).status == 200

    async def test_of_somebody_who_has_not_been_approved_is_refused(self, hub):
        bundle = await hub.operator.invite("new")
        new = hub.participant("new")
        body = client.join_request(new, bundle["invitation"])
        assert (await new.connection.request("POST", "/v1/join", body=body)).status == 202
        assert (await refused(new, None)).code == "unauthenticated"


class TestAUsedToken:
    async def test_does_not_write_twice(self, hub, kz):
        token = kz.token("POST", "/v1/messages")
        assert (await kz.submit(kz.sign(kz.message()), token=token)).status == 201
        size = await hub.size()
        again = await kz.submit(kz.sign(kz.message()), token=token)
        assert (again.status, again.code) == (401, "unauthenticated")
        assert await hub.size() == size
        assert (await kz.send()).status == 201

    async def test_does_not_write_twice_even_what_was_refused(self, kz):
        token = kz.token("POST", "/v1/messages")
        assert (await kz.submit(b"junk", token=token)).code == "malformed"
        assert (await kz.submit(b"junk", token=token)).code == "unauthenticated"

    async def test_does_not_write_after_a_restart(self, settings, clock):
        async with client.running(settings) as hub:
            kz = hub.participant("kz")
            token = kz.token("POST", "/v1/messages")
            envelope = kz.sign(kz.message())
            first = await kz.submit(envelope, token=token)
        async with client.running(settings) as hub:
            kz = hub.participant("kz")
            assert (await kz.submit(envelope, token=token)).code == "unauthenticated"
            again = await kz.submit(envelope)
        assert (again.status, again.body) == (200, first.body)

    async def test_still_reads(self, kz):
        token = kz.token("GET", "/v1/inbox")
        for _ in range(2):
            assert (await kz.request("GET", "/v1/inbox", token=token)).status == 200

    async def test_of_one_participant_says_nothing_about_anothers(self, kz, kg):
        jti = "same-id-of-both-bodies"
        for who in (kz, kg):
            token = who.token("POST", "/v1/messages", jti=jti)
            envelope = who.sign(who.message(audience=["tj"]))
            assert (await who.submit(envelope, token=token)).status == 201


class TestAnAccessToken:
    async def test_that_nobody_made_is_refused(self, hub):
        answer = await hub.account("wrong").get("/v1/status")
        assert (answer.status, answer.code) == (401, "unauthenticated")

    async def test_that_was_revoked_is_refused(self, hub):
        who = hub.account(await hub.operator.token("desk", "auditor"))
        assert (await who.get("/v1/status")).status == 200
        assert (await hub.operator.post("/v1/tokens/desk/revoke")).status == 200
        assert (await who.get("/v1/status")).code == "unauthenticated"

    async def test_is_shown_once_and_kept_as_its_hash(self, hub, settings):
        token = await hub.operator.token("desk", "auditor")
        listed = await hub.operator.get("/v1/tokens")
        assert [each["account"] for each in listed["tokens"]] == ["desk"]
        assert token not in json.dumps(listed.json)
        for name in ("hub.sqlite", "hub.sqlite-wal"):
            stored = (hub.settings.log_key_path.parent / name).read_bytes()
            assert token.encode() not in stored

    @pytest.mark.parametrize(
        "header",
        [
            "",
            "Bearer",
            "Bearer ",
            "Basic eDp5",
            "Bearer a b",
            "Bearer \xe4",
            "bearer x.y.z",
            "." * 9,
        ],
    )
    async def test_of_any_other_form_is_refused(self, hub, header):
        answer = await hub.connection.request(
            "GET", "/v1/status", headers={"Authorization": header}
        )
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_flood_of_strangers_leaves_few_lines_in_the_log(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)
    with capture_logs() as logs:
        async with client.running(settings) as hub, asyncio.timeout(90):
            for path in ("/v1/inbox", "/v1/status", "/v1/audit/verify"):
                for _ in range(PER_MINUTE):
                    assert (await hub.account("wrong").get(path)).status == 401
            clock.forward(minutes=1)
            while not (counted := [one for one in logs if one["event"] == "stranger.left-out"]):
                await hub.operator.get("/livez")
    assert [(one["code"], one["count"]) for one in counted] == [("unauthenticated", 2 * PER_MINUTE)]
    lines = [one["route"] for one in logs if one["event"] == "stranger.refused"]
    assert lines == ["GET /v1/inbox"] * PER_MINUTE


async def test_who_tries_invitations_is_in_the_log_too(hub):
    with capture_logs() as logs:
        answer = await hub.connection.request(
            "POST", "/v1/join", body=client.join_request(hub.participant("tm"), "A" * 22)
        )
    assert answer.status >= 400
    [line] = [one for one in logs if one["event"] == "stranger.refused"]
    assert (line["code"], line["route"]) == (answer.code, "POST /v1/join")
