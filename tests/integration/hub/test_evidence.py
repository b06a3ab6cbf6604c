"""Evidence from a hub: who gets how much of it, that reading it is recorded, and that it holds."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from hub.cli.evidence import cover
from hub.cli.main import main
from hub.ledger import reading
from hub.ledger.reading import Body
from schemas import cosignature, note, witness
from schemas import entry as entries
from schemas import policy as policies
from schemas.encoding import unb64url
from schemas.evidence import archive
from schemas.evidence.check import check
from tests import builders


def path(message_id):
    return f"/v1/audit/messages/{message_id}/evidence"


def holds(hub, answer):
    assert answer.status == 200, answer
    trusted = policies.parse(f"log {hub.vkey}\nquorum none\n".encode())
    report = check(answer.body, cover(), trusted)
    assert report.holds, report.findings
    return archive.read(answer.body)


def kinds(evidence):
    return [entries.decode(unb64url(one.entry)).type for one in evidence.entries]


def receivers(evidence):
    found = (entries.decode(unb64url(one.entry)) for one in evidence.entries)
    return {entry.actor for entry in found if entry.type == entries.RECEIPTS_RECORDED}


@pytest.fixture
async def sent(hub, kz, kg):
    """A bulletin to the region that kg and tj have given a receipt for."""
    return await send(hub, kz)


async def send(hub, kz, **overrides):
    made = kz.message(**overrides)
    assert (await kz.submit(kz.sign(made))).status == 201
    for code in ("kg", "tj"):
        receiver = hub.participant(code)
        last = (await receiver.inbox())[-1]
        assert (await receiver.post("/v1/receipts", receiver.receipt(last))).status == 201
    return str(made["id"])


async def test_the_sender_gets_everything_about_its_message(hub, kz, sent):
    evidence = holds(hub, await kz.get(path(sent)))
    assert evidence.envelope is not None
    assert receivers(evidence) == {"kg", "tj"}
    assert kinds(evidence).count(entries.MEMBER_JOINED) == 3


async def test_a_recipient_gets_the_message_and_its_own_receipt(hub, kg, sent):
    evidence = holds(hub, await kg.get(path(sent)))
    assert evidence.envelope is not None
    assert receivers(evidence) == {"kg"}


@pytest.mark.parametrize("code", ["undp", "guest"])
async def test_whoever_neither_sent_nor_received_it_is_told_nothing(hub, code, sent):
    answer = await hub.participant(code).get(path(sent))
    assert (answer.status, answer.code) == (404, "not-found")
    unknown = await hub.participant(code).get(path(builders.message_id()))
    assert (unknown.status, unknown["detail"]) == (404, answer["detail"])


async def test_it_is_a_file_to_keep_and_not_to_cache(hub, kz, sent):
    answer = await kz.get(path(sent))
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="evidence-{sent}.zip"'
    assert answer.headers["Cache-Control"] == "no-store"


async def test_an_auditor_gets_proofs_and_not_the_message(hub, sent):
    auditor = hub.account(await hub.operator.token("anna", "auditor"))
    evidence = holds(hub, await auditor.get(path(sent)))
    assert evidence.envelope is None
    assert receivers(evidence) == {"kg", "tj"}
    assert (await recorded(hub))[-1]["entry"]["type"] == entries.OPERATOR_QUERY


async def recorded(hub):
    """The readings that are recorded, but for this search itself."""
    answer = await hub.operator.get("/v1/audit/events", limit=500)
    return [e for e in answer["events"] if e["entry"]["type"].startswith("operator.")][:-1]


async def test_an_operator_reads_green_without_a_reason_and_that_is_recorded(hub, sent):
    evidence = holds(hub, await hub.operator.get(path(sent)))
    assert evidence.envelope is not None
    entry = (await recorded(hub))[-1]["entry"]
    assert (entry["type"], entry["subject"]) == ("operator.body_read", sent)


async def test_above_green_an_operator_says_why(hub, kz):
    amber = await send(hub, kz, marking="TLP:AMBER")
    refused = await hub.operator.get(path(amber))
    assert (refused.status, refused.code) == (422, "reason-needed")
    assert "TLP:AMBER" in refused["detail"]
    assert (await hub.operator.get(path(amber), reason=" Case 7   ")).code == "reason-needed"
    holds(hub, await hub.operator.get(path(amber), reason="Case 7/26, complaint"))
    event = (await recorded(hub))[-1]
    assert event["entry"]["type"] == "operator.body_read"
    assert event["private"]["reason"] == "Case 7/26, complaint"


async def test_a_reason_does_not_open_a_message_to_an_auditor(hub, kz):
    amber = await send(hub, kz, marking="TLP:AMBER")
    auditor = hub.account(await hub.operator.token("anna", "auditor"))
    evidence = holds(hub, await auditor.get(path(amber), reason="Case 7/26, complaint"))
    assert evidence.envelope is None
    assert b"A visit" not in (await auditor.get(path(amber))).body


async def test_of_what_nobody_at_the_hub_may_read_an_operator_gets_the_proofs(
    hub, sent, monkeypatch
):
    monkeypatch.setattr(reading, "body_of", lambda _: Body("TLP:RED", sealed=True))
    answer = await hub.operator.get(path(sent), reason="Case 7/26, complaint")
    assert holds(hub, answer).envelope is None
    assert (await recorded(hub))[-1]["entry"]["type"] == entries.OPERATOR_QUERY


async def test_a_refusal_is_proven_to_the_one_who_was_refused_and_to_nobody_else(hub, kz, kg):
    made = kz.message(audience=["nobody"])
    assert (await kz.submit(kz.sign(made))).code == "unknown-recipient"
    evidence = holds(hub, await kz.get(path(made["id"])))
    assert entries.MESSAGE_REFUSED in kinds(evidence)
    assert (await kg.get(path(made["id"]))).code == "not-found"
    assert (await hub.operator.get(path(made["id"]))).status == 200


async def test_keys_that_were_replaced_later_are_part_of_the_history(hub, kz, sent):
    assert (await kz.post("/v1/keys", builders.rotate("kz", "kz second"))).status == 201
    evidence = holds(hub, await hub.participant("kz", "kz second").get(path(sent)))
    assert entries.KEY_ROTATED in kinds(evidence)


async def test_the_id_must_be_one(hub, kz):
    assert (await kz.get(path("1"))).code == "not-found"


# --- Witnesses ---


async def test_the_evidence_has_the_cosignatures_of_the_quorum(hub, sent):
    witnesses = {code: await cosign(hub, code) for code in ("kz", "kg", "tj", "tm")}
    answer = await hub.operator.get(path(sent))
    assert len(holds(hub, answer).witnesses) == 4
    regional = policies.regional(hub.vkey, witnesses)
    assert regional is not None
    report = check(answer.body, cover(), policies.parse(regional.encode()))
    assert report.holds, report.findings
    told = [f.sentence for f in report.findings if f.check == "quorum"]
    assert told == ["The policy's quorum is reached (region; 4 of its witnesses cosigned)."]


async def test_what_came_after_the_quorum_is_under_the_log_s_signature_alone(hub, kz, sent):
    for code in ("kz", "kg", "tj", "tm"):
        await cosign(hub, code)
    later = await send(hub, kz)
    assert holds(hub, await hub.operator.get(path(later))).witnesses == ()


async def cosign(hub, code):
    """Cosign what the hub asks for, as a member that has cosigned nothing yet."""
    member = hub.participant(code)
    request = witness.parse((await member.get("/v1/witness/request", old=0)).body)
    text = note.parse_note(request.note).text
    name, key = cosignature.witness_name(hub.vkey.name, code), builders.key(f"{code} witness")
    merged = witness.merge(request.note, [cosignature.cosign(text, name, key, 1_780_000_000)])
    assert (await member.post("/v1/witness/response", merged)).status == 200
    return cosignature.vkey_of(name, key)


# --- The commands ---


async def typed(*words, status=0):
    result = await asyncio.to_thread(CliRunner().invoke, main, [*map(str, words)])
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


def policy(folder, *lines):
    file = folder / "policy.txt"
    file.write_text("\n".join((*lines, "quorum none", "")))
    return file


async def test_evidence_is_written_and_verified_offline(hub, settings, sent, tmp_path):
    config, file = settings.socket.parent / "hub.toml", tmp_path / "x.zip"
    result = await typed("evidence", sent, "-o", file, "--config", config)
    assert f"nhri-hub verify {file} --policy FILE" in result.output
    assert file.stat().st_mode & 0o777 == 0o600
    trusted = policy(tmp_path, f"log {hub.vkey}")
    told = await typed("verify", file, "--policy", trusted)
    assert "holds   kg signed at" in told.output
    assert "All of it holds, under keys that the policy trusts." in told.output
    as_json = json.loads((await typed("verify", file, "--policy", trusted, "--json")).stdout)
    assert as_json["ok"]
    assert {finding["result"] for finding in as_json["findings"]} == {"holds"}


async def test_without_a_policy_the_keys_are_unanchored(hub, settings, sent, tmp_path):
    config, file = settings.socket.parent / "hub.toml", tmp_path / "x.zip"
    await typed("evidence", sent, "-o", file, "--config", config)
    told = await typed("verify", file, status=1)
    assert "OPEN    Nobody vouches for the log's key" in told.output
    assert "under a log key that nobody vouches for" in told.output


async def test_a_changed_file_is_not_believed_and_the_place_is_named(hub, settings, sent, tmp_path):
    config, file = settings.socket.parent / "hub.toml", tmp_path / "x.zip"
    await typed("evidence", sent, "-o", file, "--config", config)
    file.write_bytes(file.read_bytes().replace(b'"title":"A visit"', b'"title":"A Visit"'))
    told = await typed("verify", file, "--policy", policy(tmp_path, f"log {hub.vkey}"), status=1)
    assert "message.json differs" in told.output


async def test_nothing_is_overwritten(hub, settings, sent, tmp_path):
    file = tmp_path / "x.zip"
    file.write_text("mine")
    config = settings.socket.parent / "hub.toml"
    await typed("evidence", sent, "-o", file, "--config", config, status=1)
    assert file.read_text() == "mine"


async def test_what_cannot_be_read_is_a_matter_of_usage(tmp_path):
    await typed("verify", tmp_path / "none.zip", status=2)
    file = tmp_path / "x.zip"
    file.write_bytes(b"no zip at all")
    wrong = await typed("verify", file, "--policy", policy(tmp_path, "log x"), status=2)
    assert "Line 1" in wrong.output
    assert "The file is no evidence" in (await typed("verify", file, status=1)).output
