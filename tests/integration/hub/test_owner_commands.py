"""``nhri-connector subscription`` as an owner types it, with a real hub and real endpoints."""

import asyncio
import functools
import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from connectors.cli.main import main
from connectors.link.http import HttpLink
from schemas import webhook
from schemas.encoding import format_time
from schemas.refusal import Refused
from schemas.webhook import Secret
from tests.integration.hub import test_webhooks
from tests.integration.hub.test_webhooks import Owner, exhaust, send
from tests.simulator.institution import Institution

endpoint, other, settings = (
    test_webhooks.endpoint,
    test_webhooks.other,
    test_webhooks.settings,
)


class Person:
    """Somebody at the connector of an institution that has joined."""

    def __init__(self, hub, institution):
        self.code = institution.code
        participant = hub.participant(institution.code)
        participant.private = institution.keyring.sign
        self.api = Owner(participant)
        self._config = str(institution.path)

    async def types(self, *words, status=0):
        """Type a command, which must end with this exit status; what is said."""
        line = ["subscription", *map(str, words), "--config", self._config]
        result = await asyncio.to_thread(CliRunner().invoke, main, line)
        assert result.exit_code == status, f"{line}\n{result.output}\n{result.exception!r}"
        return result

    async def told(self, *words, status=0):
        """The same, for programs."""
        return json.loads((await self.types(*words, "--json", status=status)).stdout)

    async def subscribes(self, *words):
        """A new subscription, with its secret."""
        return await self.told("create", *words)


@pytest.fixture
async def joined(hub, clock, tmp_path, monkeypatch):
    """Lets an institution join by its own connector, whose clock is the hub's."""
    clock.forward(seconds=(datetime.now(UTC) - clock()).total_seconds())
    by_hubs_clock = functools.partial(HttpLink, clock=clock)
    monkeypatch.setattr("connectors.cli.subscription.HttpLink", by_hubs_clock)

    async def join(code, role):
        one = Institution(code, tmp_path, hub.connection.url, hub.vkey)
        bundle = await hub.operator.invite(code, role)
        await one.join(str(bundle["invitation"]))
        await hub.operator.approve(code)
        return Person(hub, one)

    with capture_logs():  # the hub's, which is in this process: commands have stdout for themselves
        yield join


@pytest.fixture
async def ohchr(joined):
    return await joined("ohchr", "partner")


def holds(secret, got, hub):
    """Whether a webhook is signed with a secret."""
    headers, body = got
    key = webhook.parse_key(secret)
    assert isinstance(key, Secret)
    try:
        names = {name.lower(): value for name, value in headers.items()}
        webhook.verify([key], names, body, hub.service.clock())
    except Refused:
        return False
    return True


@pytest.mark.parametrize(
    ("code", "role"), [("uz", "member"), ("ohchr", "partner"), ("ganhri", "observer")]
)
async def test_members_partners_and_observers_subscribe_for_themselves(
    hub, kz, joined, endpoint, tmp_path, code, role
):
    owner, file = await joined(code, role), tmp_path / "secret"
    await Owner(hub.participant("undp")).subscribe(endpoint.url)  # another's is not theirs
    assert (await owner.types("list")).stdout == "There are no subscriptions.\n"
    made = await owner.types("create", endpoint.url, "--sender", "kz", "--ordered", "-o", file)
    assert made.stdout == ""
    assert "active; its public key is whpk_" in made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    [wish] = (await owner.told("list"))["subscriptions"]
    assert (wish["owner"], wish["filter"]["senders"], wish["ordered"]) == (code, ["kz"], True)
    sent = await send(kz, audience=[code], marking="TLP:CLEAR")
    await endpoint.until(2)  # undp is sent what is TLP:CLEAR, too
    signed = [holds(file.read_text().strip(), got, hub) for got in endpoint.got]
    assert sorted(signed) == [False, True]
    await test_webhooks.attempts(owner.api, wish, 1)
    said = (await owner.types("attempts", wish["id"])).stdout
    assert sent in said
    assert "thanks" in said
    shown = (await owner.types("show", wish["id"])).stdout
    assert shown.startswith("owner ")
    assert "senders: kz" in shown
    ended = await owner.types("end", wish["id"])
    assert ended.stdout == f"The subscription {wish['id']} has ended.\n"
    assert (await owner.told("list"))["subscriptions"] == []


async def test_an_endpoint_that_does_not_answer_is_named_and_tested_again(ohchr, endpoint):
    endpoint.proves = False
    made = await ohchr.types("create", endpoint.url)
    assert made.stdout.startswith("whsec_")
    name = (await ohchr.told("list"))["subscriptions"][0]["id"]
    assert f"nhri-connector subscription test {name}" in made.stderr
    failed = await ohchr.types("test", name, status=1)
    assert "It answered “hello”. The subscription is unproven." in failed.stderr
    assert (await ohchr.told("test", name, status=1))["proven"] is False
    endpoint.proves = True
    tested = await ohchr.types("test", name)
    assert "answered the challenge; the subscription is active." in tested.stdout


async def test_what_is_given_is_changed_and_the_rest_stays(ohchr, endpoint, other):
    made = await ohchr.subscribes(endpoint.url, "--sender", "kz", "--sdg", "16", "--sdg", "5.1")
    changed = await ohchr.told("change", made["id"], "--url", other.url, "--ordered")
    assert (changed["url"], changed["ordered"]) == (other.url, True)
    assert changed["filter"]["sdgs"] == [16, "5.1"]
    changed = await ohchr.told("change", made["id"], "--sender", "kg", "--unordered")
    assert (changed["url"], changed["ordered"]) == (other.url, False)
    assert (changed["filter"]["senders"], changed["filter"]["sdgs"]) == (["kg"], [])
    shown = await ohchr.types("change", made["id"], "--everything")
    assert "everything that its owner may have" in shown.stdout


async def test_an_address_that_does_not_answer_changes_nothing(ohchr, endpoint, other):
    made = await ohchr.subscribes(endpoint.url)
    other.proves = False
    refused = await ohchr.types("change", made["id"], "--url", other.url, status=4)
    assert "Nothing was changed." in refused.stderr
    assert (await ohchr.told("show", made["id"]))["url"] == endpoint.url


async def test_a_new_secret_signs_and_for_a_day_the_old_one_too(hub, kz, ohchr, endpoint, tmp_path):
    made, file = await ohchr.subscribes(endpoint.url), tmp_path / "new"
    told = await ohchr.told("rotate", made["id"], "-o", file)
    assert told == {"id": made["id"], "file": str(file)}
    await send(kz, audience=["ohchr"])
    await endpoint.until(1)
    new = file.read_text().strip()
    assert new != made["secret"]
    assert [holds(key, endpoint.got[0], hub) for key in (new, made["secret"])] == [True, True]
    third = (await ohchr.types("rotate", made["id"])).stdout.strip()
    assert third.startswith("whsec_")
    assert third != new


async def test_a_dry_run_lists_what_would_have_been_sent(hub, clock, kz, kg, ohchr):
    wanted = await send(kz, audience=["ohchr"])
    await send(kg, audience=["ohchr"])
    clock.forward(seconds=1)
    tried = await ohchr.types("dry-run", "--sender", "kz")
    assert wanted in tried.stdout
    assert tried.stderr.startswith("1 messages since ")
    assert (await ohchr.told("dry-run"))["matched"] == 2
    nothing = await ohchr.types("dry-run", "--sender", "tm")
    assert nothing.stdout == "No message would have been sent.\n"


async def test_what_was_set_aside_is_listed_and_begun_anew_and_a_time_is_replayed(
    hub, clock, kz, ohchr, endpoint
):
    since = format_time(clock())
    made = await ohchr.subscribes(endpoint.url)
    assert (await ohchr.types("attempts", made["id"])).stdout == "Nothing was sent yet.\n"
    assert (await ohchr.types("dead", made["id"])).stdout == "No message was set aside.\n"
    endpoint.status = 500
    sent = await send(kz, audience=["ohchr"])
    await exhaust(hub, clock, ohchr.api, made)
    await test_webhooks.dead_letters(ohchr.api, made, 1)
    assert sent in (await ohchr.types("dead", made["id"])).stdout
    endpoint.status, before = 200, len(endpoint.got)
    assert (
        "0 messages" in (await ohchr.types("redrive", made["id"], "--message", made["id"])).stdout
    )
    assert "1 messages" in (await ohchr.types("redrive", made["id"])).stdout
    await endpoint.until(before + 1)
    until = format_time(clock() + timedelta(seconds=1))
    again = await ohchr.types("replay", made["id"], "--since", since, "--until", until)
    assert again.stdout == "1 messages are sent again.\n"
    await endpoint.until(before + 2)
    assert set(endpoint.ids) == {sent}
    assert await ohchr.told("replay", made["id"], "--since", until) == {"messages": 0}
    assert await ohchr.told("replay", made["id"], "--message", sent) == {"messages": 1}


async def test_a_replay_goes_on_until_all_were_looked_at(kz, ohchr, endpoint, clock, monkeypatch):
    since = format_time(clock())
    for _ in range(3):
        await send(kz, audience=["ohchr"])
    clock.forward(seconds=1)
    made = await ohchr.subscribes(endpoint.url)
    monkeypatch.setattr("hub.doors.webhooks.LOOKED_AT", 1)
    monkeypatch.setattr("hub.store.webhooks.BATCH", 1)
    assert await ohchr.told("replay", made["id"], "--since", since) == {"messages": 3}


async def test_refusals_are_sentences_that_say_what_they_are_about(ohchr, hub, endpoint):
    others = await Owner(hub.participant("undp")).subscribe(endpoint.url)
    for words, says in {
        ("create", "http://hooks.example.org/"): "It is about $.url.",
        ("create", endpoint.url, "--theme", "x"): "'x' is not a theme. It is about $.themes[0].",
        ("dry-run", "--language", "?"): "It is about $.filter.languages[0].",
        ("show", others["id"]): "There is no subscription with this id.",
        ("end", "../members"): "There is nothing here under that name.",
    }.items():
        refused = await ohchr.types(*words, status=4)
        assert refused.stdout == ""
        assert refused.stderr.startswith("Error: The hub refused: ")
        assert says in refused.stderr
    assert (await ohchr.told("list"))["subscriptions"] == []


async def test_who_is_suspended_is_told_so(hub, ohchr):
    await hub.operator.post("/v1/members/ohchr/suspend", reason="a test of this")
    assert "suspended" in (await ohchr.types("list", status=4)).stderr


async def test_before_the_hub_is_asked_mistakes_are_found(ohchr, endpoint, tmp_path):
    made, there = await ohchr.subscribes(endpoint.url), tmp_path / "there"
    there.write_text("something else")
    for words, says in {
        ("create", endpoint.url, "-o", there): "cannot be made: File exists",
        ("rotate", made["id"], "-o", there): "cannot be made: File exists",
        ("change", made["id"]): "Say what is to be another",
        ("change", made["id"], "--everything", "--sender", "kz"): "give one of the two",
        ("replay", made["id"]): "--since",
    }.items():
        assert says in (await ohchr.types(*words, status=2)).stderr
    assert there.read_text() == "something else"
    assert len((await ohchr.told("list"))["subscriptions"]) == 1


async def test_a_refused_subscription_leaves_no_file_for_its_secret(ohchr, tmp_path):
    file = tmp_path / "secret"
    await ohchr.types("create", "https://10.0.0.1/", "-o", file, status=4)
    assert not file.exists()
