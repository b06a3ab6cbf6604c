"""A connector is lost and brought back from its backup: at a real hub, by its commands."""

import asyncio
import json
import shutil
from contextlib import asynccontextmanager

from click.testing import CliRunner

from connectors import keys
from connectors.cli.main import main
from connectors.link import Unreachable
from connectors.link.http import HttpLink
from schemas import receipt
from tests import client
from tests.simulator.institution import Institution, Log
from tests.simulator.waiting import until


async def run(*words, status=0):
    result = await asyncio.to_thread(CliRunner().invoke, main, [*map(str, words)])
    assert result.exit_code == status, f"{words}\n{result.output}\n{result.exception!r}"
    return result


async def institution(hub, folder, code):
    """An institution that has joined; its daemon does not run yet."""
    one = Institution(code, folder, hub.connection.url, hub.vkey)
    bundle = await hub.operator.invite(code)
    fingerprint = await one.join(str(bundle["invitation"]))
    approved = await hub.operator.post(f"/v1/members/{code}/approve", fingerprint=fingerprint)
    assert approved.status == 200
    return one


def cosigned(one):
    return one.log.of("log.cosigned")


@asynccontextmanager
async def lost_and_back(folder):
    """A hub; kz, whose backup was made while it ran and whose machine is gone since; and kg.

    With them an id that kz sent before the backup, one after it, and what it had received.
    """
    secret, file = folder / "secret", folder / "kz.backup"
    secret.write_text("a passphrase of some length\n")
    given = ("--passphrase-file", secret)
    async with client.running(client.new_settings(folder)) as hub:
        kz, kg = [await institution(hub, folder, code) for code in ("kz", "kg")]
        async with kg.running():
            async with kz.running():
                received = [kg.send(audience=["kz"])]
                known = kz.send(audience=["kg"])
                await kz.sees(*received)
                await kz.settled(known)
                await until(lambda: cosigned(kz), "kz cosigns")
                made = await run("backup", "-o", file, *given, "--config", kz.path, "--json")
                assert json.loads(made.stdout)["code"] == "kz"
                received += [kg.send(audience=["kz"]) for _ in range(3)]
                forgotten = kz.send(audience=["kg"])
                await kz.settled(forgotten)
                for one in received:
                    await kg.settled(one)
            text = kz.path.read_text()
            shutil.rmtree(kz.config.state)
            kz.path.unlink()
            again = await run("restore", file, *given, "--config", kz.path)
            assert "nhri-connector rotate" in again.output
            assert kz.path.read_text() == text
            kz.log = Log()
            yield kz, kg, known, forgotten, received


async def test_a_lost_connector_comes_back_goes_on_and_witnesses_with_a_new_key(tmp_path):
    async with lost_and_back(tmp_path) as (kz, kg, known, forgotten, received):
        async with kz.running():
            await kz.sees(*received)
            await kz.alarmed("witness-restored")
            await kz.alarmed("own-message")  # what it sent since, and the receipt for it
            await kz.alarmed("receipt-differs")
            await until(lambda: not kz.ask(lambda store: store.status().unanswered), "receipts")
            assert kz.receipts(known) == {"kg": "received"}
            await until(lambda: ("own-message", forgotten) in kz.alarms(), "what it sent since")
        assert not cosigned(kz)
        await run("rotate", "--config", kz.path)
        kz.keyring = keys.load(kz.config.keys)
        async with kz.running():
            await until(lambda: cosigned(kz), "kz cosigns with its new key")
            await kg.sees(kz.send(audience=["kg"]))
            await until(lambda: "witness-restored" not in kz.alarm_kinds(), "it is over")
        assert kz.alarm_kinds() == {"own-message", "receipt-differs"}
        assert kg.alarm_kinds() == set()


async def test_receipts_that_were_forgotten_are_signed_again_in_parts_as_they_were_given(
    tmp_path, monkeypatch
):
    offer, all_are_owed, sizes = HttpLink.send_receipt, asyncio.Event(), list[int]()

    async def counted(link, raw):
        await all_are_owed.wait()
        sizes.append(len(receipt.parse(raw)[1].items))
        return await offer(link, raw)

    async with client.running(client.new_settings(tmp_path)) as hub:
        kz, kg = [await institution(hub, tmp_path, code) for code in ("kz", "kg")]
        async with kz.running():
            async with kg.running():
                for _ in range(12):
                    await kz.settled(kz.send(audience=["kg"]))
            for file in kg.config.state.glob("store*"):
                file.unlink()
            monkeypatch.setattr(HttpLink, "send_receipt", counted)
            async with kg.running():
                await until(lambda: kg.started and given(kg) == 12, "all are there again")
                all_are_owed.set()
                await until(lambda: not kg.ask(lambda s: s.status().unanswered), "receipts")
    # One at a time before; the first offered now may have been signed when few had come.
    assert sum(sizes[1:]) <= 2 * 12


def given(one):
    return one.ask(lambda store: store.last_position())


async def test_a_receipt_whose_key_ended_before_it_was_recorded_is_signed_anew(
    tmp_path, monkeypatch
):
    async def cut(link, raw):
        raise Unreachable("The line is cut.")

    async with client.running(client.new_settings(tmp_path)) as hub:
        kz, kg = [await institution(hub, tmp_path, code) for code in ("kz", "kg")]
        async with kz.running():
            first = kz.send(audience=["kg"])
            with monkeypatch.context() as away:
                away.setattr(HttpLink, "send_receipt", cut)
                async with kg.running():
                    await until(lambda: kg.started and waiting(kg), "a receipt that waits")
            held = await hub.operator.post("/v1/members/kg/hold", reason="A stolen laptop")
            (tmp_path / "kg.bundle").write_bytes(held.body)
            await approved(hub, kg, tmp_path / "kg.bundle")
            async with kg.running():
                await kz.settled(first)
                second = kz.send(audience=["kg"])
                await kz.settled(second)
                await until(lambda: not waiting(kg), "kg knows its receipts to be recorded")
                assert "receipt-unrecorded" not in kg.alarm_kinds()


def waiting(one):
    return one.ask(lambda store: store.pending_answers())


async def approved(hub, one, bundle):
    """Join again with new keys, after the old ones were lost or stolen."""
    asked = await run("join", bundle, "--config", one.path, "--json")
    fingerprint = json.loads(asked.stdout)["fingerprint"]
    path = f"/v1/members/{one.code}/approve"
    assert (await hub.operator.post(path, fingerprint=fingerprint)).status == 200
    one.keyring = keys.load(one.config.keys)


async def test_commands_end_with_a_sentence(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("too short\n")
    async with client.running(client.new_settings(tmp_path)) as hub:
        kz = await institution(hub, tmp_path, "kz")
        short = await run(
            *("backup", "-o", tmp_path / "f", "--passphrase-file", secret, "--config", kz.path),
            status=2,
        )
        assert "fewer than 12" in short.output
        secret.write_text("a passphrase of some length\n")
        given = ("--passphrase-file", secret, "--config", kz.path)
        # It has no store yet.
        nothing = await run("backup", "-o", tmp_path / "f", *given, status=1)
        assert "There is no store" in nothing.output
        assert not (tmp_path / "f").exists()
        missing = await run("restore", tmp_path / "none", *given, status=1)
        assert "cannot be read" in missing.output
        secret.with_name("junk").write_bytes(b"junk")
        junk = await run("restore", tmp_path / "junk", *given, status=1)
        assert "no backup of a connector" in junk.output
        assert kz.config.keys.exists()
