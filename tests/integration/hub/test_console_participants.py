"""Participants at the console: a token of their own key opens it, and what ends that ends it."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from connectors.cli.main import main
from hub.doors.console.sessions import IDLE
from tests import builders
from tests.integration.hub.test_console import visiting
from tests.simulator.institution import Institution

LOGIN = "/console/login"
HOME = "/console/webhooks"


@pytest.fixture
async def visitor(hub):
    async with visiting(hub) as made:
        yield made


@pytest.fixture
async def undp(hub, visitor):
    """A partner who is signed in."""
    await visitor.enter(hub.participant("undp").token("POST", LOGIN))
    return visitor


async def is_in(visitor):
    return (await visitor.get(HOME)).status == 200


@pytest.mark.parametrize("code", ["kz", "undp", "guest"])
async def test_whoever_is_active_signs_in_with_its_own_token(hub, visitor, code):
    answer = await visitor.enter(hub.participant(code).token("POST", LOGIN))
    assert (answer.status, answer.headers["Location"]) == (303, HOME)
    page = (await visitor.get(HOME)).body.decode()
    assert f'<bdi dir="auto">{code}</bdi>' in page
    events = (await hub.operator.get("/v1/audit/events", type="participant.login"))["events"]
    assert [event["entry"]["actor"] for event in events] == [code]


@pytest.mark.parametrize("wanted", ["/console/settings", "/console/", "https://evil.example/"])
async def test_after_signing_in_its_own_pages_follow(hub, visitor, wanted):
    token = hub.participant("undp").token("POST", LOGIN)
    assert (await visitor.enter(token, next=wanted)).headers["Location"] == HOME


async def test_a_token_opens_it_once(hub, visitor):
    token = hub.participant("undp").token("POST", LOGIN)
    assert (await visitor.enter(token)).status == 303
    async with visiting(hub) as other:
        again = await other.enter(token)
        assert again.status == 401
        assert "used already" in again.body.decode()


@pytest.mark.parametrize(
    "lie",
    [
        {"htu": "https://hub.example/v1/inbox"},
        {"htm": "GET"},
        {"aud": "other.example/log"},
        {"iss": "kz"},
        {"iat": 1, "exp": 60},
    ],
)
async def test_a_token_for_something_else_does_not(hub, visitor, lie):
    answer = await visitor.enter(hub.participant("undp").token("POST", LOGIN, **lie))
    assert answer.status == 401
    assert not await is_in(visitor)


async def test_a_token_of_a_stranger_says_what_is_missing(hub, visitor):
    answer = await visitor.enter(hub.participant("uz").token("POST", LOGIN))
    assert answer.status == 401
    assert "has an operator approved the fingerprint?" in answer.body.decode()


async def test_wrong_tokens_have_to_wait_as_those_of_accounts_do(hub, visitor):
    uz = hub.participant("uz")
    tried = [(await visitor.enter(uz.token("POST", LOGIN))).status for _ in range(11)]
    assert tried == [401] * 10 + [429]


async def test_it_ends_when_nobody_does_anything_and_by_signing_out(hub, undp, clock):
    clock.forward(seconds=IDLE.total_seconds() - 1)
    assert await is_in(undp)
    assert (await undp.leave(csrf=await undp.csrf(HOME))).headers["Location"] == LOGIN
    assert not await is_in(undp)
    await undp.enter(hub.participant("undp").token("POST", LOGIN))
    clock.forward(seconds=(IDLE + timedelta(seconds=1)).total_seconds())
    assert not await is_in(undp)


async def test_it_opens_nothing_while_the_participant_is_suspended(hub, undp):
    await hub.operator.post("/v1/members/undp/suspend", reason="a test")
    assert not await is_in(undp)
    refused = await undp.enter(hub.participant("undp").token("POST", LOGIN))
    assert refused.status == 403
    assert "undp is suspended" in refused.body.decode()


@pytest.mark.parametrize("how", ["hold", "revoke"])
async def test_it_ends_with_the_key(hub, undp, how):
    kid = builders.kid(builders.key("undp"))
    path = f"/v1/keys/{kid}/revoke" if how == "revoke" else "/v1/members/undp/hold"
    assert (await hub.operator.post(path, reason="lost")).status in {200, 201}
    assert not await is_in(undp)
    assert (await undp.enter(hub.participant("undp").token("POST", LOGIN))).status == 403


async def test_other_pages_say_whom_they_are_for_and_lead_back(undp):
    answer = await undp.get("/console/members")
    assert answer.status == 403
    page = answer.body.decode()
    assert "operators and auditors" in page
    assert f'<p><a href="{HOME}">' in page
    assert '"/console/"' not in page


async def test_the_connector_makes_the_token(hub, clock, tmp_path, visitor):
    clock.forward(seconds=(datetime.now(UTC) - clock()).total_seconds())  # the connector's own
    one = Institution("uz", tmp_path, hub.connection.url, hub.vkey)
    bundle = await hub.operator.invite("uz", "observer")
    await one.join(str(bundle["invitation"]))
    await hub.operator.approve("uz")
    line = ["console", "--config", str(one.path)]
    said = await asyncio.to_thread(CliRunner().invoke, main, [*line, "--json"])
    assert said.exit_code == 0, said.output
    printed = json.loads(said.stdout)
    assert printed["address"] == hub.connection.url + LOGIN
    assert (await visitor.enter(printed["token"])).headers["Location"] == HOME
    for_people = await asyncio.to_thread(CliRunner().invoke, main, line)
    assert "within a minute" in for_people.output
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", for_people.stdout)
