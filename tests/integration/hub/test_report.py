"""A report from a running hub: over HTTP and from the command line, recorded and repeatable."""

import asyncio
import hashlib
import json

import pytest
from click.testing import CliRunner

from hub.cli import report as command
from hub.cli.main import main
from schemas.encoding import b64url
from tests import builders

PATH = "/v1/audit/report"
JULY = {"from": "2026-07-01", "to": "2026-07-31"}


@pytest.fixture
async def sent(hub, kz, clock):
    """A bulletin, which kg received after two minutes and tj refused, and a refused message."""
    await kz.send(audience=["kg", "tj"])
    await kz.send(audience=["nobody"])
    clock.forward(minutes=2)
    for code, status in (("kg", "received"), ("tj", "refused")):
        who = hub.participant(code)
        receipt = who.receipt(*await who.inbox(), status=status)
        assert (await who.post("/v1/receipts", receipt)).status == 201
    return await hub.indexed()


@pytest.fixture
def typed(settings):
    """Type the command with these words; gives its result when it ends as it should."""

    async def type_it(*words, status=0):
        config = settings.socket.parent / "hub.toml"
        line = ["audit", "report", "--config", *map(str, (config, *words))]
        result = await asyncio.to_thread(CliRunner().invoke, main, line)
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return result

    return type_it


async def test_it_tells_what_was_sent_received_and_refused(hub, sent):
    answer = await hub.operator.get(PATH, **JULY, at=sent)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["Content-Disposition"] == (
        'attachment; filename="report-2026-07-01-2026-07-31.html"'
    )
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    html = answer.body.decode()
    for cells in (
        '>Messages accepted</th><td class="number">1</td>',
        '>Copies, one for each recipient</th><td class="number">2</td>',
        '<td class="number">2 min</td>',
        "<code>unknown-recipient</code>",
    ):
        assert cells in html, cells
    assert f"first {sent} entries" in html


async def test_asking_is_recorded_with_the_days_that_are_reported(hub, sent):
    await hub.operator.get(PATH)
    found = await hub.operator.get("/v1/audit/events", type="operator.query")
    private = found["events"][0]["private"]
    quarter = {"from": "2026-04-01", "to": "2026-06-30"}
    assert (private["path"], private["query"]) == (PATH, quarter)


async def test_under_the_same_checkpoint_it_is_the_same_to_the_byte(hub, kz, sent):
    first = await hub.operator.get(PATH, **JULY, at=sent, language="ru")
    await kz.send(audience=["kg"])
    assert await hub.indexed() > sent
    again = await hub.operator.get(PATH, **JULY, at=sent, language="ru")
    assert first.body == again.body
    newer = await hub.operator.get(PATH, **JULY, language="ru")
    assert newer.body != first.body


async def test_it_has_nothing_that_anybody_wrote_and_no_id_or_account(hub, sent):
    token = await hub.operator.token("anna.petrova", "auditor")
    await hub.indexed()
    answer = await hub.account(token).get(PATH, **JULY)
    html = answer.body.decode()
    texts = builders.message()["texts"]
    assert isinstance(texts, dict)
    said = [*texts["en"].values(), "Almaty", "anna.petrova"]
    events = (await hub.operator.get("/v1/audit/events", limit=500))["events"]
    ids = {event["entry"]["subject"] for event in events if event["entry"]["type"][:7] == "message"}
    assert ids
    for text in (*said, *filter(None, ids)):
        assert text not in html, text


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"from": "2026-07-01"}, "Give both days"),
        ({"from": "2026-07-02", "to": "2026-07-01"}, "is after the last one"),
        ({"from": "2026-02-30", "to": "2026-07-01"}, "from and to: "),
        ({"from": "1999-01-01", "to": "2026-07-01"}, "regex"),
        ({"from": "2026-07-01T00:00", "to": "2026-07-01"}, "regex"),
        ({"language": "fr"}, "fr"),
        ({"at": "1000000"}, "entries. Ask without at"),
        ({"format": "pdf"}, "format"),
    ],
    ids=str,
)
async def test_what_cannot_be_reported_is_refused_with_a_sentence(hub, asked, says):
    answer = await hub.operator.get(PATH, **asked)
    assert (answer.status, answer["code"]) == (400, "bad-request")
    assert says in answer["detail"]


async def test_the_farthest_days_there_are_give_an_empty_report(hub, sent):
    answer = await hub.operator.get(PATH, **{"from": "2000-01-01", "to": "2999-12-31"})
    assert answer.status == 200
    ages = await hub.operator.get(PATH, **{"from": "2999-01-01", "to": "2999-12-31"})
    assert "No message was accepted in this period." in ages.body.decode()


# --- The command ---


async def test_the_command_writes_the_page_for_its_owner_alone(hub, sent, typed, tmp_path):
    file = tmp_path / "out" / "report.html"
    file.parent.mkdir()
    days = ("--from", "2026-07-01", "--to", "2026-07-31")
    told = await typed("-o", file, *days, "--language", "kk", "--at", sent)
    assert f"{file}: open it in a browser." in told.output
    assert [*file.parent.iterdir()] == [file]
    assert file.stat().st_mode & 0o777 == 0o600
    same = await hub.operator.get(PATH, **JULY, language="kk", at=sent)
    assert file.read_bytes() == same.body


async def test_what_the_page_says_gives_it_again(sent, typed, tmp_path):
    first, again = tmp_path / "first.html", tmp_path / "again.html"
    await typed("-o", first, "--language", "tg")
    line = first.read_text("utf-8").split("<pre>nhri-hub audit report ")[1].split("</pre>")[0]
    await typed(*line.removesuffix("report.html").split(), again)
    assert again.read_bytes() == first.read_bytes()


async def test_for_programs_it_says_what_it_wrote(sent, typed, tmp_path):
    file = tmp_path / "report.html"
    told = json.loads((await typed("-o", file, "--json")).stdout)
    made = file.read_bytes()
    digest = b64url(hashlib.sha256(made).digest())
    assert told == {"file": str(file), "bytes": len(made), "sha256": digest}


async def test_into_a_pipe_it_writes_the_page_and_nothing_else(sent, typed):
    result = await typed("-o", "-")
    assert result.stdout_bytes.startswith(b"<!doctype html>")
    assert result.stdout_bytes.endswith(b"</html>")
    assert f"{len(result.stdout_bytes)} bytes" in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--from", "2026-01-01"), "both --from and --to"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "--from is after --to"),
        (("--from", "1.2.2026", "--to", "2026-01-01"), "YYYY-MM-DD"),
        (("--from", "2026-02-30", "--to", "2026-03-01"), "day"),
        (("--from", "1999-01-01", "--to", "2026-03-01"), "from 2000-01-01 on"),
        (("--language", "fr"), "'fr' is not one of"),
        (("--at", "0"), "--at"),
    ],
)
async def test_a_slip_is_a_matter_of_usage_and_the_hub_not_asked(hub, typed, tmp_path, words, says):
    told = await typed("-o", tmp_path / "report.html", *words, status=2)
    assert says in told.output
    assert [*tmp_path.glob("*.html")] == []
    found = await hub.operator.get("/v1/audit/events", type="operator.query")
    assert [event["private"]["path"] for event in found["events"]] == ["/v1/audit/events"]


async def test_what_the_hub_refuses_leaves_no_file(hub, sent, typed, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    told = await typed("-o", folder / "report.html", "--at", 10**6, status=4)
    assert "Ask without at" in told.output
    assert [*folder.iterdir()] == []


async def test_what_does_not_end_or_is_no_page_leaves_no_file(sent, typed, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(command, "_ENDS", b"</never>")
    assert "no report" in (await typed("-o", folder / "report.html", status=3)).output
    monkeypatch.setattr(command, "MAX_PAGE", 1_000)
    assert "does not end" in (await typed("-o", folder / "report.html", status=1)).output
    assert [*folder.iterdir()] == []
