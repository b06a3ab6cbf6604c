"""Erasing: by an operator's decision or a rule, and what everybody sees of it afterwards."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from hub import recovery, upkeep
from hub.cli.evidence import cover
from hub.cli.main import main
from hub.cli.output import progress
from hub.settings import StartError
from schemas import acceptance
from schemas import policy as policies
from schemas.acceptance import Acceptance
from schemas.encoding import b64url
from schemas.evidence import archive
from schemas.evidence.check import check
from tests import builders, client
from tests.simulator.waiting import DEADLINE, until

REASON = "The person named in it asked for it."
MARK = "an unmistakable word of a complaint"
WORD = b"unmistakable"


def words(text=MARK):
    return {"en": {"title": "A visit", "summary": text, "body": text * 500}}


async def send(kz, **overrides):
    """A message with the mark in it, longer than a page of the database; its id."""
    made = kz.message(texts=words(), **overrides)
    assert (await kz.submit(kz.sign(made))).status == 201
    return str(made["id"])


async def erase(hub, message_id):
    answer = await hub.operator.post(f"/v1/messages/{message_id}/erase", reason=REASON)
    assert answer.status == 200, answer
    return answer


async def test_whoever_reads_afterwards_finds_a_tombstone(hub, kz, kg):
    erased = await send(kz)
    kept = await send(kz)
    decided = await erase(hub, erased)
    assert decided["received"] == []
    assert decided["waiting"] == ["kg", "tj", "tm"]
    tombstone, delivery = (await kg.get("/v1/inbox"))["deliveries"]
    assert (tombstone["position"], tombstone["tombstone"]) == (1, "erased")
    opened = acceptance.open_erased(msgspec.convert(tombstone["acceptance"], Acceptance), hub.vkey)
    assert opened.entry.subject == erased
    assert opened.checkpoint.size > decided["index"]
    assert delivery["position"] == 2
    gone = await kg.get(f"/v1/messages/{erased}")
    assert (gone.status, gone.code) == (410, "erased")
    assert (await kg.get(f"/v1/messages/{kept}")).status == 200


async def test_the_stream_of_a_recipient_brings_the_tombstone(hub, kz, kg):
    erased = await send(kz)
    await erase(hub, erased)
    async with kg.events() as stream:
        event = await anext(stream)
    assert (event.id, event.name, event.data["tombstone"]) == (1, "tombstone", "erased")


async def test_the_same_message_again_is_refused_and_says_why(hub, kz):
    made = kz.message(texts=words())
    await kz.submit(kz.sign(made))
    await erase(hub, made["id"])
    answer = await kz.submit(kz.sign(made))
    assert (answer.status, answer.code) == (410, "erased")
    assert "give it a new id" in answer["detail"]
    hub.open(answer.refusal())


async def test_only_an_operator_erases(hub, kz):
    message_id = await send(kz)
    auditor = hub.account(await hub.operator.token("anna", "auditor"))
    for somebody in (auditor, hub.account(await hub.operator.token("log", "log"))):
        answer = await somebody.post(f"/v1/messages/{message_id}/erase", reason=REASON)
        assert answer.code == "forbidden"
    assert (await kz.post(f"/v1/messages/{message_id}/erase", b"{}")).code == "forbidden"
    assert (await kz.get(f"/v1/messages/{message_id}")).status == 200


@pytest.mark.parametrize("reason", ["", "too short", "x" * 2_001, 12])
async def test_a_decision_needs_a_reason(hub, kz, reason):
    message_id = await send(kz)
    answer = await hub.operator.post(f"/v1/messages/{message_id}/erase", reason=reason)
    assert (answer.status, answer.code, answer["path"]) == (422, "schema", "$.reason")
    assert (await kz.get(f"/v1/messages/{message_id}")).status == 200


async def test_auditors_are_told_what_became_of_it(hub, kz, kg):
    message_id = await send(kz)
    await kg.post("/v1/receipts", kg.receipt(*await kg.inbox()))
    index = (await erase(hub, message_id))["index"]
    timeline = await hub.operator.get(f"/v1/audit/messages/{message_id}")
    types = [event["entry"]["type"] for event in timeline["events"]]
    expected = ["message.accepted", "receipts.recorded", "message.erased", "delivery.erased"]
    assert types == expected
    assert timeline["events"][2]["private"]["reason"] == REASON
    assert timeline["acceptance"]["private"] is None
    states = {copy["recipient"]: copy["state"] for copy in timeline["deliveries"]}
    assert states == {"kg": "received", "tj": "erased", "tm": "erased"}
    why = await hub.operator.get(f"/v1/audit/messages/{message_id}/why", member="kg")
    assert (why["received"], why["rule"]) == (True, f"erased by entry {index}")
    verdict = await hub.operator.get("/v1/audit/verify")
    assert (verdict["ok"], verdict["erased"], verdict["problems"]) == (True, 1, [])


async def test_the_evidence_still_proves_that_it_was_accepted_and_received(hub, kz, kg):
    message_id = await send(kz)
    await kg.post("/v1/receipts", kg.receipt(*await kg.inbox()))
    await erase(hub, message_id)
    answer = await kz.get(f"/v1/audit/messages/{message_id}/evidence")
    assert answer.status == 200, answer
    trusted = policies.parse(f"log {hub.vkey}\nquorum none\n".encode())
    report = check(answer.body, cover(), trusted)
    assert report.holds, report.findings
    assert archive.read(answer.body).envelope is None
    assert any("kg signed at" in finding.sentence for finding in report.findings)


async def test_the_bytes_leave_the_files_of_the_database(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    async with client.running(settings) as hub:
        kz = hub.participant("kz")
        message_id = await send(kz)
        encoded = b64url((MARK * 3).encode())[8:40].encode()
        assert encoded in everything(settings.folder)
        await until(lambda: WORD in everything(settings.folder))  # in the search index
        await erase(hub, message_id)
        await until(lambda: encoded not in everything(settings.folder))
        await until(lambda: WORD not in everything(settings.folder))
        await until(settings.erasures.exists)
        assert settings.erasures.read_text() == f"{message_id} {builders.time()}\n"
        assert (await hub.operator.get("/v1/audit/verify"))["ok"]


def everything(folder):
    """The bytes of the database's files."""
    found = b""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            found += Path(folder, f"hub.sqlite{suffix}").read_bytes()
    return found


async def test_it_stands_in_the_list_as_soon_as_the_operator_is_told(settings, clock):
    async with client.running(settings) as hub:
        message_id = await send(hub.participant("kz"))
        await erase(hub, message_id)
        assert settings.erasures.read_text() == f"{message_id} {builders.time()}\n"


async def test_a_backup_that_still_has_it_gives_it_to_nobody(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    backup = f"{settings.folder}/hub.backup"
    async with client.running(settings) as hub:
        message_id = await send(hub.participant("kz"))
        with sqlite3.connect(f"{settings.folder}/hub.sqlite") as live:
            live.execute("VACUUM INTO ?", (backup,))
        await erase(hub, message_id)
    for suffix in ("-wal", "-shm"):
        settings.erasures.with_name(f"hub.sqlite{suffix}").unlink(missing_ok=True)
    shutil.move(backup, f"{settings.folder}/hub.sqlite")
    async with client.running(settings) as hub:
        kg = hub.participant("kg")
        # Nothing is given until the decision is recorded again.
        [tombstone] = (await kg.get("/v1/inbox", wait=20))["deliveries"]
        assert tombstone["tombstone"] == "erased"
        found: list[dict[str, Any]] = []
        while not found:
            answer = await hub.operator.get("/v1/audit/events", type="message.erased")
            found = answer["events"]
        assert found[0]["entry"]["actor"] == "hub"
        assert "restored" in found[0]["private"]["reason"]
        assert (await hub.operator.get("/v1/audit/verify"))["ok"]


async def test_a_line_that_a_crash_left_half_written_is_written_anew(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    async with client.running(settings) as hub:
        message_id = await send(hub.participant("kz"))
        await erase(hub, message_id)
    line = settings.erasures.read_text()
    settings.erasures.write_text(line[:20])
    async with client.running(settings):
        await until(lambda: settings.erasures.read_text() == line)


async def test_a_list_that_is_damaged_keeps_the_hub_from_starting(settings, clock):
    settings.erasures.write_text("nonsense\n")
    with pytest.raises(StartError, match=r"Line 1 of .*erasures is no erasure"):
        async with client.running(settings):
            pass


async def test_rules_of_retention_erase_what_is_due_and_nothing_else(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    rules = {"TLP:AMBER": 30, "activity_bulletin.v1 TLP:CLEAR": 60}
    async with client.running(replace(settings, retention=rules)) as hub:
        kz, kg = hub.participant("kz"), hub.participant("kg")
        for marking in ("TLP:AMBER", "TLP:GREEN", "TLP:CLEAR"):
            await send(kz, marking=marking)
        assert (await hub.operator.get("/v1/retention"))["due"] == []
        clock.forward(days=31)
        erased: list[dict[str, Any]] = []
        while not erased:
            answer = await hub.operator.get("/v1/audit/events", type="message.erased")
            erased = answer["events"]
        items = (await kg.get("/v1/inbox"))["deliveries"]
        assert [item.get("tombstone") for item in items] == ["erased", None, None]
        [event] = erased
        assert event["entry"]["actor"] == "hub"
        assert event["private"]["reason"] == "Retention: TLP:AMBER = 30 days."


async def test_what_is_due_can_be_seen_before_it_goes(settings, clock):
    async with client.running(replace(settings, retention={"TLP:GREEN": 30})) as hub:
        message_id = await send(hub.participant("kz"))
        clock.forward(days=31)
        shown = await hub.operator.get("/v1/retention")
        assert shown["rules"] == {"TLP:GREEN": 30}
        [due] = shown["due"]
        assert (due["id"], due["rule"]) == (message_id, "TLP:GREEN = 30")


async def hold(hub, message_id):
    answer = await hub.operator.post(
        f"/v1/messages/{message_id}/hold", reason="Case 7/26 of a court"
    )
    assert answer.status == 200, answer


async def test_what_is_held_outlives_the_rules_and_an_operator(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    async with client.running(replace(settings, retention={"TLP:AMBER": 30})) as hub:
        kz, kg = hub.participant("kz"), hub.participant("kg")
        held = await send(kz, marking="TLP:AMBER")
        await send(kz, marking="TLP:AMBER")
        await hold(hub, held)
        clock.forward(days=31)
        async with asyncio.timeout(DEADLINE):
            while not (await hub.operator.get("/v1/audit/events", type="message.erased"))["events"]:
                pass
        assert (await hub.operator.get("/v1/retention"))["due"] == []
        items = (await kg.get("/v1/inbox"))["deliveries"]
        assert [item.get("tombstone") for item in items] == [None, "erased"]
        refused = await hub.operator.post(f"/v1/messages/{held}/erase", reason=REASON)
        assert (refused.status, refused.code) == (409, "conflict")
        assert "release it first" in refused["detail"]


async def test_what_was_held_is_held_after_a_restore(settings, clock, tmp_path):
    amber = replace(settings, retention={"TLP:AMBER": 30})
    async with client.running(amber) as hub:
        held, other = [await send(hub.participant("kz"), marking="TLP:AMBER") for _ in range(2)]
        await hold(hub, held)
        await recovery.back_up(amber, tmp_path / "hub.zip", progress, with_key=False)
    empty = replace(amber, store=replace(amber.store, url="sqlite:///restored.sqlite"))
    await recovery.restore(empty, tmp_path / "hub.zip", progress)
    clock.forward(days=31)
    async with client.running(empty) as hub:
        due = (await hub.operator.get("/v1/retention"))["due"]
        assert [one["id"] for one in due] == [other]


class TestTheCommands:
    async def run(self, hub, *arguments):
        config = f"{hub.settings.folder}/hub.toml"
        return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--config", config])

    async def test_erase_says_who_has_a_copy(self, hub, kz, kg):
        message_id = await send(kz)
        await kg.post("/v1/receipts", kg.receipt(*await kg.inbox()))
        told = await self.run(hub, "message", "erase", message_id, "--reason", REASON)
        assert told.exit_code == 0, told.stderr
        assert f"The message {message_id} is erased here; entry " in told.stdout
        assert "A copy is with kg: ask them to erase it, too." in told.stdout
        assert "No receipt came from tj, tm" in told.stdout
        shown = await self.run(hub, "audit", "show", message_id)
        assert shown.exit_code == 0, shown.stderr
        assert "erased by account:" in shown.stdout
        assert "The acceptance holds" in shown.stdout
        assert "1 private parts were erased" in (await self.run(hub, "audit", "verify")).stdout

    async def test_erase_is_refused_for_what_is_not_there(self, hub):
        told = await self.run(hub, "message", "erase", builders.message_id(), "--reason", REASON)
        assert (told.exit_code, "No message with this id" in told.stderr) == (4, True)

    async def test_hold_keeps_a_message_until_it_is_released(self, hub, kz):
        message_id = await send(kz)
        words = ("audit", "hold", message_id, "--reason", "Case 7/26 of a court")
        told = await self.run(hub, *words)
        assert told.exit_code == 0, told.stderr
        assert f"The message {message_id} is held: nothing erases it until it is" in told.stdout
        told = await self.run(hub, "message", "erase", message_id, "--reason", REASON)
        assert (told.exit_code, "release it first" in told.stderr) == (4, True)
        told = await self.run(hub, *words, "--release", "--json")
        assert json.loads(told.stdout)["index"] > 0
        shown = await self.run(hub, "audit", "show", message_id)
        assert "message.held" in shown.stdout
        assert "message.released" in shown.stdout
        erased = await self.run(hub, "message", "erase", message_id, "--reason", REASON)
        assert erased.exit_code == 0, erased.stderr

    async def test_erase_gives_json(self, hub, kz):
        message_id = await send(kz)
        told = await self.run(hub, "message", "erase", message_id, "--reason", REASON, "--json")
        assert json.loads(told.stdout)["waiting"] == ["kg", "tj", "tm"]

    async def test_due_says_that_there_are_no_rules(self, hub):
        told = await self.run(hub, "message", "due")
        assert told.stdout == "There are no rules of retention: every message is kept.\n"

    async def test_due_lists_rules_and_messages(self, settings, clock):
        async with client.running(replace(settings, retention={"TLP:GREEN": 30})) as hub:
            message_id = await send(hub.participant("kz"))
            assert "No message is due." in (await self.run(hub, "message", "due")).stdout
            clock.forward(days=31)
            assert message_id in (await self.run(hub, "message", "due")).stdout
