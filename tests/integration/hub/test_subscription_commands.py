"""``nhri-hub subscription`` as an operator types it, with ``listen`` as the endpoint."""

import asyncio
import json
import os
import sys

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from hub.cli.main import main
from hub.demo.program import accepts
from hub.settings import Webhooks
from tests import client
from tests.ports import free_port

PATIENCE = 90
MESSAGE = "01890a5d-ac96-774b-bcce-b302099a8058"


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def settings(tmp_path, port):
    """Those of a new hub with the machine's own clock: what listens has no other."""
    allowed = Webhooks(hosts=("127.0.0.1",), networks=("127.0.0.1/32",), ports=(port,))
    return replace(client.new_settings(tmp_path / "hub"), webhooks=allowed)


@pytest.fixture
async def hub(settings):
    async with client.running(settings) as running:
        await running.operator.join(running.participant("kz"))
        await running.operator.join(running.participant("undp"), "partner")
        yield running


@pytest.fixture
def run(hub):
    config = f"{hub.settings.folder}/hub.toml"

    async def command(*words):
        line = ["subscription", *map(str, words), "--config", config]
        return await asyncio.to_thread(CliRunner().invoke, main, line)

    return command


async def test_a_receiver_that_listens_is_proven_and_prints_what_is_sent(
    hub, kz, run, port, tmp_path
):
    url, secret = f"http://127.0.0.1:{port}/", tmp_path / "undp.secret"
    made = await run("create", url, "--owner", "undp", "--sender", "kz", "-o", secret, "--json")
    assert made.exit_code == 0, made.output
    name = json.loads(made.stdout)["id"]
    tested = await run("test", name)
    assert (tested.exit_code, "unproven" in tested.output) == (1, True)
    listener = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from hub.cli.main import main; main()"),
        *("subscription", "listen"),
        *("--port", str(port), "--key-file", str(secret), "--count", "1", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await accepts(port):
                assert listener.returncode is None
                await asyncio.sleep(0.05)
            tested = await run("test", name)
            assert tested.exit_code == 0, tested.output
            assert (await kz.send(audience=["undp"], marking="TLP:GREEN")).status == 201
            output, _ = await listener.communicate()
    finally:
        if listener.returncode is None:
            listener.kill()
            await listener.wait()
    challenge, event = map(json.loads, output.splitlines())
    assert challenge["subject"] == name
    assert event["data"]["message"]["sender"] == "kz"
    shown = await run("show", name)
    assert "senders: kz" in shown.output


async def test_a_subscription_is_listed_shown_and_ended(hub, run, port):
    assert "no subscriptions" in (await run("list")).output
    made = await run("create", f"http://127.0.0.1:{port}/", "--owner", "undp")
    assert made.stdout.startswith("whsec_")
    name = json.loads((await run("list", "--json")).stdout)["subscriptions"][0]["id"]
    assert "undp" in (await run("list", "--owner", "undp")).output
    assert "no subscriptions" in (await run("list", "--owner", "guest")).output
    for what, says in {"attempts": "Nothing was sent", "dead": "No message"}.items():
        assert says in (await run(what, name)).output
    assert "0 messages" in (await run("redrive", name)).output
    assert "0 messages" in (await run("replay", name, "--since", "2026-01-01T00:00:00.000Z")).output
    assert "0 messages" in (await run("replay", name, "--message", MESSAGE)).output
    neither = await run("replay", name)
    assert (neither.exit_code, "--since" in neither.output) == (2, True)
    assert (await run("end", name)).exit_code == 0
    again = await run("end", name)
    assert (again.exit_code, "no subscription with this id" in again.output) == (4, True)


async def test_an_operator_sees_what_a_participant_would_be_sent(kz, run):
    assert (await kz.send(audience=["undp"], marking="TLP:GREEN")).status == 201
    tried = await run("dry-run", "--owner", "undp", "--sender", "kz")
    assert "activity_bulletin.v1" in tried.stdout
    assert tried.stderr.startswith("1 messages since ")
    nothing = await run("dry-run", "--owner", "undp", "--sender", "kg", "--json")
    assert json.loads(nothing.stdout)["messages"] == []
    unsaid = await run("dry-run")
    assert (unsaid.exit_code, "--owner" in unsaid.output) == (2, True)


async def test_every_option_is_a_field_of_the_filter_and_given_twice_has_both(run, port):
    wished: dict[str, list[int | str]] = {
        "sender": ["kz", "undp"],
        "kind": ["activity_bulletin", "joint_action_notice.v1"],
        "theme": ["women", "children"],
        "sdg": [16, "5.2"],
        "marking": ["TLP:CLEAR", "TLP:GREEN"],
        "thread": [MESSAGE, MESSAGE[:-1] + "9"],
        "language": ["ru", "uz-Latn"],
    }
    options = [
        word for name, terms in wished.items() for each in terms for word in (f"--{name}", each)
    ]
    made = await run("create", f"http://127.0.0.1:{port}/", "--owner", "undp", *options, "--json")
    assert made.exit_code == 0, made.output
    shown = await run("show", json.loads(made.stdout)["id"], "--json")
    assert json.loads(shown.stdout)["filter"] == {f"{name}s": of for name, of in wished.items()}
    refused = await run("create", "https://hooks.undp.org/", "--owner", "undp", "--theme", "x")
    assert (refused.exit_code, "'x' is not a theme" in refused.output) == (4, True)


async def test_what_listens_needs_a_key_that_can_verify(run, tmp_path):
    for words, says in {
        (): "--key whpk_",
        ("--key", "whpk_x"): "A key is whsec_",
        ("--key", f"whsk_{'A' * 43}="): "stays with the hub",
    }.items():
        result = CliRunner().invoke(main, ["subscription", "listen", *words])
        assert (result.exit_code, says in result.output) == (2, True), result.output
