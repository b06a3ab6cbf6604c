"""Every route for every role: the door lets in exactly whom the table lets in."""

import re

import pytest

from hub.doors.access import TABLE, Role
from tests.client import Account, Participant

PARTICIPANTS = {
    Role.MEMBER: "kz",
    Role.PARTNER: "undp",
    Role.OBSERVER: "guest",
    Role.SUSPENDED: "tm",
}
ROUTES = sorted(TABLE)


def concrete(path):
    """A path of the route; what it names need not exist."""
    known = {"tile": "tile/0/000", "code": "kg"}
    return re.sub(r"{(\w+)[^}]*}", lambda found: known.get(found[1], "unknown"), path)


async def caller(hub, role):
    """Somebody of this role and of no other."""
    if role is Role.ANONYMOUS:
        return hub.account()
    if role in PARTICIPANTS:
        if role is Role.SUSPENDED:
            await hub.operator.post("/v1/members/tm/suspend", reason="a test")
        return hub.participant(PARTICIPANTS[role])
    return hub.account(await hub.operator.token(f"a-{role}", role))


@pytest.mark.parametrize("role", Role)
async def test_the_door_lets_in_whom_the_table_lets_in(hub, role):
    who = await caller(hub, role)
    let_in = set()
    for method, path in ROUTES:
        answer = await who.request(method, concrete(path))
        assert answer.status < 500, (method, path, answer)
        if answer.code not in {"unauthenticated", "forbidden"}:
            let_in.add((method, path))
        else:
            assert answer.status == (401 if role is Role.ANONYMOUS else 403), (method, path)
    # These tests run on the hub's own machine, where the measures need no token.
    here = {("GET", "/metrics")} if role is Role.ANONYMOUS else set()
    assert let_in == {route for route, allowed in TABLE.items() if role in allowed} | here


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/", "/", "/v1/members/kz", "/log/tile", "/console/"]
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
