"""``nhri-hub rabbitmq`` as operators meet it: against a running hub and a real RabbitMQ."""

import asyncio
import json
import stat
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from hub.cli.main import main
from hub.delivery import broker as connections
from hub.doors import amqp as door
from hub.doors import submissions
from schemas import amqp
from schemas import entry as entries
from tests import broker as brokers
from tests import client

EVERYBODY = ("kz", "kg", "tj", "tm", "undp", "guest")


@pytest.fixture
def clock():
    """The machine's own, instead of one that stands still."""
    return lambda: datetime.now(UTC)


@pytest.fixture
async def hub(settings, clock, broker, monkeypatch):
    """A hub on the broker that everybody has joined."""
    monkeypatch.setattr(door, "BUSY_PAUSE", 0.05)
    async with client.running(broker.settings(settings)) as running:
        await broker.ready(running)
        yield running


async def run(hub, *words, code=0):
    """Run a command and give what it printed."""
    words = ("rabbitmq", *map(str, words), "--config", f"{hub.settings.folder}/hub.toml")
    result = await asyncio.to_thread(CliRunner().invoke, main, words)
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.output


class TestDefinitions:
    async def test_can_be_imported_as_they_are_and_are_what_the_hub_makes(
        self, hub, rabbitmq, tmp_path
    ):
        file = tmp_path / "accounts.json"
        known = {name: brokers.PASSWORDS[name] for name in ("hub", *EVERYBODY)}
        file.write_text(json.dumps(known))
        file.chmod(0o600)
        document = json.loads(await run(hub, "definitions", "--passwords-to", file))
        for _ in range(2):  # what is there already stays as it is
            await rabbitmq.import_definitions(document)
        place = brokers.Broker(rabbitmq, amqp.VHOST)
        async with place.channel() as channel:
            # A queue with other arguments would be refused: precondition failed.
            depths = await connections.declare(channel, EVERYBODY)
        assert set(depths) == set(EVERYBODY)
        async with place.channel("kz", on_return_raises=True) as channel:
            await brokers.publish(channel, "kz", b"through the imported bindings")
        assert (await place.depth(amqp.SUBMISSIONS_QUEUE)).waiting == 1

    async def test_draw_a_password_for_who_has_none_and_keep_the_others(self, hub, tmp_path):
        file = tmp_path / "accounts.json"
        await run(hub, "definitions", "--passwords-to", file)
        first = json.loads(file.read_text())
        assert set(first) == set(EVERYBODY)
        assert len(set(first.values())) == len(first)
        assert min(map(len, first.values())) >= 32
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        await hub.operator.join(hub.participant("uz"))
        await run(hub, "definitions", "--passwords-to", file)
        second = json.loads(file.read_text())
        assert set(second) == {*first, "uz"}
        assert {**second, **first} == second

    async def test_leave_the_hub_with_the_account_that_it_has(self, hub, rabbitmq, tmp_path):
        """As at an operator's who made it when the broker was set up."""
        file = tmp_path / "accounts.json"
        file.write_text(json.dumps({name: brokers.PASSWORDS[name] for name in EVERYBODY}))
        file.chmod(0o600)
        document = json.loads(await run(hub, "definitions", "--passwords-to", file))
        assert "hub" not in {user["name"] for user in document["users"]}
        await rabbitmq.import_definitions(document)
        for name in ("hub", *EVERYBODY):
            await rabbitmq.ctl("authenticate_user", name, brokers.PASSWORDS[name])

    async def test_have_an_account_for_the_hub_where_that_is_asked_for(self, hub, tmp_path):
        file = tmp_path / "accounts.json"
        how = ("definitions", "--passwords-to", file)
        for words in ((*how, "--with-hub"), how):  # then it is in the file
            document = json.loads(await run(hub, *words))
            assert "hub" in {user["name"] for user in document["users"]}
            assert {"hub", *EVERYBODY} == json.loads(file.read_text()).keys()

    async def test_show_no_password(self, hub, tmp_path):
        file = tmp_path / "accounts.json"
        printed = await run(hub, "definitions", "--passwords-to", file)
        passwords = json.loads(file.read_text())
        assert not any(password in printed for password in passwords.values())

    async def test_without_passwords_are_for_client_certificates(self, hub):
        document = json.loads(await run(hub, "definitions", "--external"))
        hashes = {user["name"]: user["password_hash"] for user in document["users"]}
        assert hashes == dict.fromkeys(EVERYBODY, "")

    async def test_do_not_take_passwords_that_others_can_read(self, hub, tmp_path):
        file = tmp_path / "accounts.json"
        file.write_text("{}")
        file.chmod(0o644)
        assert "chmod 600" in await run(hub, "definitions", "--passwords-to", file, code=1)

    @pytest.mark.parametrize("text", ["[]", '{"hub": 1}', "no JSON"])
    async def test_do_not_overwrite_what_holds_something_else(self, hub, tmp_path, text):
        file = tmp_path / "accounts.json"
        file.write_text(text)
        file.chmod(0o600)
        said = await run(hub, "definitions", "--passwords-to", file, code=1)
        assert "does not hold passwords" in said
        assert file.read_text() == text

    async def test_want_to_know_how_accounts_come_in(self, hub, tmp_path):
        assert "Give one of" in await run(hub, "definitions", code=2)
        both = ("--external", "--passwords-to", tmp_path / "accounts.json")
        assert "Give one of" in await run(hub, "definitions", *both, code=2)

    async def test_say_which_file_cannot_be_written(self, hub, tmp_path):
        file = tmp_path / "nowhere" / "accounts.json"
        said = await run(hub, "definitions", "--passwords-to", file, code=2)
        assert "cannot be used: No such file" in said


@pytest.fixture
async def poison(hub, broker):
    """The digest of a message in quarantine."""
    body = "Poison\x1b[31m of кг".encode()
    async with broker.channel("kg") as channel:
        await brokers.publish(channel, "kg", body, type="surprise")

    async def quarantined():
        return (await broker.depth(amqp.QUARANTINE)).waiting

    await brokers.eventually(quarantined, "it is in quarantine")
    return entries.digest(body)


class TestTheQuarantine:
    async def test_is_listed_with_the_reason(self, hub, poison):
        printed = await run(hub, "quarantine", "list")
        assert poison in printed
        assert "There is no type 'surprise'" in printed
        (message,) = json.loads(await run(hub, "quarantine", "list", "--json"))["messages"]
        assert (message["digest"], message["user"]) == (poison, "kg")

    async def test_shows_a_message_without_obeying_it(self, hub, poison):
        refused = await run(hub, "quarantine", "show", poison, code=4)
        assert "Say with --reason why you have to read it" in refused
        printed = await run(hub, "quarantine", "show", poison, "--reason", "What did kg send?")
        assert "Poison[31m of кг" in printed
        assert "\x1b" not in printed

    async def test_discards_with_a_reason(self, hub, poison):
        printed = await run(hub, "quarantine", "discard", poison, "--reason", "A test.")
        assert "is thrown away" in printed
        assert json.loads(await run(hub, "quarantine", "list", "--json")) == {"messages": []}
        found = await hub.operator.get("/v1/audit/events", type="quarantine.discarded")
        assert found["events"][0]["private"]["reason"] == "A test."

    async def test_does_not_release_what_still_cannot_be_answered(self, hub, poison):
        said = await run(hub, "quarantine", "release", poison, code=4)
        assert "It still cannot be answered: There is no type 'surprise'" in said

    async def test_releases_what_can_be_answered_by_now(self, hub, poison, monkeypatch):
        monkeypatch.setitem(submissions.OPEN, "surprise", submissions.OPEN[amqp.MESSAGE])
        printed = await run(hub, "quarantine", "release", poison, "--json")
        answer = json.loads(printed[printed.index("{") :])  # after the log of the hub in here
        found = await hub.operator.get("/v1/audit/events", type="quarantine.released")
        assert found["events"][0]["index"] == answer["index"]

    async def test_knows_what_is_not_there(self, hub):
        assert "quarantine list" in await run(hub, "quarantine", "show", "../x", code=2)
        said = await run(hub, "quarantine", "show", entries.digest(b"nothing"), code=4)
        assert "No message in quarantine" in said
