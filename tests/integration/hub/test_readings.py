"""Reading a body at the hub: recorded before it is shown, and not shown to whom it may not be."""

import asyncio
import json
import re
from datetime import timedelta

import pytest
from click.testing import CliRunner

from hub.cli.main import main
from hub.ledger import reading
from hub.ledger.reading import Body
from schemas import entry as entries
from schemas.encoding import format_time
from schemas.refusal import Refused
from tests import builders

WHY = "Complaint 7/26 of the sender"


def path(message_id):
    return f"/v1/audit/messages/{message_id}/body"


async def sent(kz, **overrides):
    made = kz.message(**overrides)
    assert (await kz.submit(kz.sign(made))).status == 201
    return made


async def recorded(hub):
    """The readings that are recorded: entry and private part."""
    answer = await hub.operator.get("/v1/audit/events", type="operator.body_read")
    return answer["events"]


@pytest.mark.parametrize("marking", ["TLP:CLEAR", "TLP:GREEN"])
async def test_up_to_green_an_operator_reads_without_a_reason(hub, kz, marking):
    made = await sent(kz, marking=marking)
    answer = await hub.operator.post(path(made["id"]))
    assert answer.status == 200, answer
    assert answer["message"] == made
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("marking", ["TLP:AMBER", "TLP:AMBER+STRICT"])
async def test_above_green_an_operator_reads_with_a_reason(hub, kz, marking):
    made = await sent(kz, marking=marking, audience=["kg"])
    for too_little in ({}, {"reason": ""}, {"reason": "  Case 7   "}):
        refused = await hub.operator.post(path(made["id"]), **too_little)
        assert (refused.status, refused.code) == (422, "reason-needed")
        assert marking in refused["detail"]
    answer = await hub.operator.post(path(made["id"]), reason=f" {WHY} ")
    assert answer["message"]["texts"] == made["texts"]


async def test_a_reading_is_an_entry_with_the_reason_in_its_private_part(hub, kz):
    made = await sent(kz, marking="TLP:AMBER")
    answer = await hub.operator.post(path(made["id"]), reason=WHY)
    [event] = await recorded(hub)
    assert event["index"] == answer["recorded"]
    assert event["entry"]["subject"] == made["id"]
    assert event["entry"]["actor"].startswith("account:")
    assert event["entry"]["public"] == {}
    assert event["private"] == {
        "path": path(made["id"]),
        "reason": WHY,
        "marking": "TLP:AMBER",
        "outcome": "shown",
    }


async def test_what_was_refused_is_recorded_too(hub, kz):
    made = await sent(kz, marking="TLP:AMBER")
    await hub.operator.post(path(made["id"]), reason="curious")
    [event] = await recorded(hub)
    assert event["private"]["outcome"] == "reason-needed"
    assert event["private"]["reason"] == "curious"


async def test_nothing_is_shown_when_the_reading_cannot_be_recorded(hub, kz, monkeypatch):
    made = await sent(kz)

    async def full(*_):
        raise Refused("storage", "The disk is full.")

    monkeypatch.setattr(type(hub.service), "change", full)
    for answer in (
        await hub.operator.post(path(made["id"])),
        await hub.operator.get(f"/v1/audit/messages/{made['id']}/evidence"),
    ):
        assert (answer.status, answer.code) == (503, "storage")
        assert b"A visit" not in answer.body


@pytest.mark.parametrize("scope", ["auditor", "log"])
async def test_nobody_but_an_operator_reads_a_body(hub, kz, scope):
    made = await sent(kz)
    someone = hub.account(await hub.operator.token("anna", scope))
    answer = await someone.post(path(made["id"]), reason=WHY)
    assert (answer.status, answer.code) == (403, "forbidden")
    assert (await kz.post(path(made["id"]), b"{}")).code == "forbidden"


async def test_red_and_sealed_bodies_are_closed_and_the_attempt_is_recorded(hub, kz, monkeypatch):
    made = await sent(kz)
    monkeypatch.setattr(reading, "body_of", lambda _: Body("TLP:RED", sealed=True))
    refused = await hub.operator.post(path(made["id"]), reason=WHY)
    assert (refused.status, refused.code) == (403, "forbidden")
    assert "ask its sender or one of its receivers" in refused["detail"]
    [event] = await recorded(hub)
    assert (event["private"]["outcome"], event["private"]["marking"]) == ("forbidden", "TLP:RED")


async def test_what_has_expired_is_not_read_any_more(hub, kz, clock):
    made = await sent(kz, expires=format_time(clock() + timedelta(minutes=1)))
    assert (await hub.operator.post(path(made["id"]))).status == 200
    clock.forward(minutes=1)
    refused = await hub.operator.post(path(made["id"]), reason=WHY)
    assert (refused.status, refused.code) == (422, "expired")
    assert str(made["expires"]) in refused["detail"]
    proofs = await hub.operator.get(f"/v1/audit/messages/{made['id']}/evidence")
    assert proofs.status == 200
    assert b"A visit" not in proofs.body


async def test_what_was_erased_is_said_to_be(hub, kz):
    made = await sent(kz)
    await hub.operator.post(f"/v1/messages/{made['id']}/erase", reason=WHY)
    refused = await hub.operator.post(path(made["id"]), reason=WHY)
    assert (refused.status, refused.code) == (404, "not-found")
    assert "erased at" in refused["detail"]


async def test_a_message_that_was_refused_or_never_came_has_no_body(hub, kz):
    made = kz.message(audience=["nobody"])
    await kz.submit(kz.sign(made))
    refused = await hub.operator.post(path(made["id"]), reason=WHY)
    assert (refused.code, "refused this message" in refused["detail"]) == ("not-found", True)
    unknown = await hub.operator.post(path(builders.message_id()), reason=WHY)
    assert (unknown.code, "no message with this id" in unknown["detail"]) == ("not-found", True)
    asked = await hub.operator.get("/v1/audit/events", type=entries.OPERATOR_QUERY)
    assert path(made["id"]) in {event["private"]["path"] for event in asked["events"]}


@pytest.mark.parametrize("body", [b"[]", b'{"reason": 7}', b'{"why": "x"}', b"{"])
async def test_what_is_no_reason_is_refused_and_shows_nothing(hub, kz, body):
    made = await sent(kz)
    answer = await hub.operator.request("POST", path(made["id"]), body=body)
    assert answer.code in {"schema", "malformed"}
    assert await recorded(hub) == []


# --- The command ---

TEXTS = {
    "ru": {"title": "Посещение", "summary": "Что мы видели.", "body": "Первая\nВторая"},
    "en": {"title": "A visit", "body": "At length."},
    "uz-Cyrl": {"title": "Ташриф"},
}


@pytest.fixture
def typed(settings):
    """Type the command with these words; gives its result when it ends as it should."""

    async def type_it(*words, status=0):
        config = settings.socket.parent / "hub.toml"
        line = ["audit", "body", "--config", *map(str, (config, *words))]
        result = await asyncio.to_thread(CliRunner().invoke, main, line)
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return result

    return type_it


@pytest.mark.parametrize(
    ("language", "title", "said"),
    [
        ("ru", "Посещение", "In ru; there is also en, uz-Cyrl."),
        ("uz-Latn", "Ташриф", "In uz-Cyrl; there is also ru, en."),
        ("kk", "A visit", "In en; there is also ru, uz-Cyrl."),
    ],
)
async def test_a_body_is_shown_in_the_wanted_language_or_the_nearest(
    hub, kz, typed, language, title, said
):
    made = await sent(kz, texts=TEXTS)
    told = (await typed(made["id"], "--language", language)).output
    assert told.startswith(f"{title}\n")
    assert said in told
    assert "TLP:GREEN" in told


async def test_its_lines_stay_lines_and_the_reader_is_told_of_the_record(hub, kz, typed):
    made = await sent(kz, texts=TEXTS, marking="TLP:AMBER")
    told = (await typed(made["id"], "--reason", WHY, "--language", "ru")).output
    assert "Первая\nВторая\n" in told
    [event] = await recorded(hub)
    assert f"as entry {event['index']}, that you read it" in told


async def test_without_the_reason_that_it_takes_the_command_is_refused(hub, kz, typed):
    made = await sent(kz, marking="TLP:AMBER")
    told = await typed(made["id"], status=4)
    assert "It is TLP:AMBER. Say with --reason why you have to read it" in told.output
    assert "A visit" not in told.output
    as_json = json.loads((await typed(made["id"], "--json", status=4)).stdout)
    assert as_json["code"] == "reason-needed"


def pairs(result):
    """The table that a command printed."""
    lines = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in result.output.splitlines())
    return dict(line for line in lines if len(line) == 2)


async def test_content_is_told_line_by_line(hub, kz, kg, typed):
    content = {
        "activity": "visit",
        "place": {"country": "KZ", "name": "Almaty"},
        "figures": [{"name": "appeals", "value": 3, "unit": "count"}],
    }
    told = pairs(await typed((await sent(kz, content=content))["id"]))
    assert told["activity"] == "visit"
    assert told["place"] == "KZ, Almaty"
    assert told["figures"] == "appeals, 3, count"


async def test_of_an_answer_it_is_told_what_it_answers_to_what(hub, kz, kg, typed):
    notice = builders.notice(**kz.new(audience=["kg"]))
    later = format_time(kz.clock() + timedelta(days=1))
    notice["content"] = {"action": "visit", "invited": ["kg"], "answer_by": later}
    response = builders.response("accept", notice, **kg.new(audience=["kz"]))
    for who, message in ((kz, notice), (kg, response)):
        assert (await who.submit(who.sign(message))).status == 201
    told = pairs(await typed(notice["id"]))
    assert told["action"] == "visit"
    assert told["invited"] == "kg"
    assert told["answer by"] == later
    told = pairs(await typed(response["id"]))
    assert told["answer"] == "accept"
    assert told["in reply to"] == notice["id"]
    assert "signature" not in told


async def test_for_programs_the_message_is_as_it_was_signed(hub, kz, typed):
    made = await sent(kz, texts=TEXTS)
    assert json.loads((await typed(made["id"], "--json")).stdout)["message"] == made
