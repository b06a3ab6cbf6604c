"""Exports from a hub: what is in them, that each is recorded first, and how one ends early."""

import asyncio
import csv
import io
import json

import aiohttp
import pytest
from click.testing import CliRunner

from hub.cli.main import main
from hub.doors import exports
from hub.ledger.export import FORMS, Check, Writer
from hub.ledger.queries import Event, Page
from hub.store.queries import Queries
from schemas import checkpoint, merkle, note
from schemas.refusal import Refused
from tests import builders

PATH = "/v1/audit/export"


@pytest.fixture
def auditor_token(hub):
    return hub.operator.token("anna", "auditor")


def opened(form, answer):
    """Head and end of a whole export."""
    assert answer.status == 200, answer
    check = Check(FORMS[form])
    for line in answer.body.splitlines(keepends=True):
        check.take(line)
    end = check.end()
    assert check.head is not None
    return check.head, end


async def test_it_has_every_entry_up_to_its_checkpoint_and_each_is_the_hashed_one(hub, kz):
    await kz.send()
    answer = await hub.operator.get(PATH, format="ndjson")
    head, end = opened("ndjson", answer)
    signed = checkpoint.open_checkpoint(head.checkpoint.encode(), hub.vkey)
    rows = [json.loads(line) for line in answer.body.splitlines()[1:-1]]
    assert [row["index"] for row in rows] == list(range(signed.size))
    assert end.rows == signed.size
    raws = [line.split(b'"entry":')[1] for line in answer.body.splitlines()[1:-1]]
    exact = await hub.service.queries.entries(0, signed.size)
    assert all(raw.startswith(one) for raw, one in zip(raws, exact, strict=True))
    leaves = [merkle.leaf_hash(one) for one in exact]
    assert merkle.tree_root(signed.size, merkle.append(0, {}, leaves)) == signed.root


@pytest.mark.parametrize("form", FORMS)
async def test_both_forms_have_what_a_search_with_these_filters_finds(hub, kz, form, monkeypatch):
    monkeypatch.setattr(exports, "PAGE", 2)
    for _ in range(5):
        await kz.send()
    await hub.participant("kg").send(marking="TLP:AMBER", audience=["kz"])
    filters = {"type": "message.accepted", "actor": "kz"}
    found = (await hub.operator.get("/v1/audit/events", **filters))["events"]
    answer = await hub.operator.get(PATH, format=form, **filters)
    head, end = opened(form, answer)
    assert (head.filter, end.rows) == (filters, 5)
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"), newline="")))[1:-1]
        assert [int(row["index"]) for row in rows] == [event["index"] for event in found]
        assert [json.loads(row["private"]) for row in rows] == [e["private"] for e in found]
    else:
        assert [json.loads(line) for line in answer.body.splitlines()[1:-1]] == found


@pytest.mark.parametrize("form", FORMS)
async def test_it_is_a_file_to_keep_and_not_to_cache(hub, form):
    answer = await hub.operator.get(PATH, format=form)
    head, _ = opened(form, answer)
    size = checkpoint.open_checkpoint(head.checkpoint.encode(), hub.vkey).size
    assert answer.headers["Content-Type"] == f"{FORMS[form].media_type}; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="log-{size}.{form}"'
    assert answer.headers["Cache-Control"] == "no-store"


async def test_an_export_is_recorded_with_its_filters_and_says_where(hub, auditor_token):
    auditor = hub.account(await auditor_token)
    head, _ = opened("ndjson", await auditor.get(PATH, format="ndjson", member="kz"))
    found = await hub.operator.get("/v1/audit/events", type="operator.export")
    [event] = found["events"]
    assert event["index"] == head.recorded
    assert event["entry"]["actor"] == "account:anna"
    assert event["entry"]["public"] == {}
    assert event["private"] == {"path": PATH, "format": "ndjson", "query": {"member": "kz"}}


async def test_nothing_leaves_when_it_cannot_be_recorded(hub, monkeypatch):
    async def full(*_):
        raise Refused("storage", "The disk is full.")

    monkeypatch.setattr(type(hub.service), "change", full)
    answer = await hub.operator.get(PATH, format="ndjson")
    assert (answer.status, answer.code) == (503, "storage")


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"format": "xlsx"},
        {"format": "csv", "colour": "red"},
        {"format": "csv", "limit": "5"},
        {"format": "csv", "since": "2026-13-01T00:00:00.000Z"},
    ],
)
async def test_what_cannot_be_exported_is_refused_and_not_recorded(hub, query):
    answer = await hub.operator.get(PATH, **query)
    assert (answer.status, answer.code) == (400, "bad-request")
    found = await hub.operator.get("/v1/audit/events", type="operator.export")
    assert found["events"] == []


async def test_no_participant_exports_the_log(hub, kz):
    assert (await kz.get(PATH, format="csv")).code == "forbidden"


# --- A stream that ends early ---


async def reading(hub, token, **rest):
    headers = {"Authorization": f"Bearer {token}"}
    return hub.connection.http.get(
        hub.connection.url + PATH, headers=headers, params={"format": "ndjson"}, **rest
    )


async def drain(response):
    """Read on without keeping it."""
    async for _ in response.content.iter_any():
        pass


def endless(monkeypatch, size=1_000_000):
    """A log in which there is always one more large entry; gives the count of those read."""
    counted = [0]
    raw = json.dumps({"filler": "x" * size}).encode()

    async def search(*_):
        counted[0] += 1
        return Page([Event(0, raw, None)], 0)

    monkeypatch.setattr(exports, "PAGE", 1)
    monkeypatch.setattr(Queries, "search", search)
    return counted


async def test_the_hub_reads_no_further_ahead_than_the_buffers_of_the_line(
    hub, auditor_token, monkeypatch
):
    token = await auditor_token
    counted = endless(monkeypatch)
    came, ahead = 0, []
    async with await reading(hub, token) as response:
        async for chunk in response.content.iter_any():
            came += len(chunk)
            ahead.append(counted[0] - came // 1_000_000)
            if came > 50_000_000:
                break
    assert max(ahead) < 16


async def test_whoever_goes_away_ends_the_queries(hub, auditor_token, monkeypatch):
    token, ended = await auditor_token, asyncio.Event()

    async def forever(*_):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(Queries, "search", forever)
    async with await reading(hub, token) as response:
        assert await response.content.readline()
        response.close()
    await asyncio.wait_for(ended.wait(), 10)


async def test_a_token_that_is_revoked_ends_its_exports(hub, auditor_token, monkeypatch):
    token = await auditor_token
    endless(monkeypatch, 1_000)
    async with await reading(hub, token) as response:
        await response.content.readline()
        assert (await hub.operator.post("/v1/tokens/anna/revoke")).status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await drain(response)


async def test_a_fault_on_the_way_is_a_broken_answer_and_no_file_that_looks_whole(
    hub, auditor_token, monkeypatch
):
    token = await auditor_token

    async def broken(*_):
        raise OSError("The disk is gone.")

    monkeypatch.setattr(Queries, "search", broken)
    async with await reading(hub, token) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert (await hub.account(token).get("/v1/status")).status == 200


# --- The command ---


@pytest.fixture
def typed(settings):
    """Type the command with these words; gives its result when it ends as it should."""

    async def type_it(*words, status=0):
        config = settings.socket.parent / "hub.toml"
        line = ["audit", "export", "--config", *map(str, (config, *words))]
        result = await asyncio.to_thread(CliRunner().invoke, main, line)
        assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
        return result

    return type_it


@pytest.mark.parametrize("form", FORMS)
async def test_the_command_writes_a_file_for_its_owner_alone(hub, kz, typed, tmp_path, form):
    await kz.send()
    file = tmp_path / "out" / f"kz.{form}"
    file.parent.mkdir()
    told = await typed("--format", form, "-o", file, "--actor", "kz")
    assert f"{file}: 1 of the first {await hub.size()} entries of {hub.vkey.name}" in told.output
    assert [*file.parent.iterdir()] == [file]
    assert file.stat().st_mode & 0o777 == 0o600
    check = Check(FORMS[form])
    for line in file.read_bytes().splitlines(keepends=True):
        check.take(line)
    assert (check.end().rows, check.head and check.head.filter) == (1, {"actor": "kz"})


async def test_for_programs_it_says_what_it_wrote(hub, typed, tmp_path):
    file = tmp_path / "log.ndjson"
    told = json.loads((await typed("--format", "ndjson", "-o", file, "--json")).stdout)
    end = json.loads(file.read_bytes().splitlines()[-1])
    assert (told["rows"], told["sha256"]) == (end["rows"], end["sha256"])
    assert (told["file"], told["size"]) == (str(file), await hub.size())


async def test_into_a_pipe_it_writes_the_export_and_nothing_else(hub, typed):
    result = await typed("--format", "ndjson", "-o", "-")
    check = Check(FORMS["ndjson"])
    for line in result.stdout_bytes.splitlines(keepends=True):
        check.take(line)
    assert f"{check.end().rows} of the first" in result.stderr


async def test_a_file_that_is_there_is_left_and_the_hub_not_asked(hub, typed, tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("mine")
    told = await typed("--format", "csv", "-o", file, status=2)
    assert "is there already" in told.output
    assert file.read_text() == "mine"
    found = await hub.operator.get("/v1/audit/events", type="operator.export")
    assert found["events"] == []


async def test_a_folder_that_is_not_there_is_a_matter_of_usage(hub, typed, tmp_path):
    told = await typed("--format", "csv", "-o", tmp_path / "no" / "log.csv", status=2)
    assert "cannot be made: No such file" in told.output


class Leaving(Writer):
    """A hub that leaves out a row."""

    def rows(self, events):
        made = super().rows(events)
        return made[made.index(b"\n") + 1 :]


class Changing(Writer):
    """A line on which something is changed."""

    def rows(self, events):
        return super().rows(events).replace(b"hub.started", b"hub.stopped")


class Cutting(Writer):
    """A hub that stops before the end."""

    def end(self):
        return b""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("writer", "says"),
    [(Leaving, "where its end says"), (Changing, "SHA-256 is another"), (Cutting, "was cut off")],
)
async def test_what_is_not_whole_leaves_no_file(
    hub, typed, tmp_path, monkeypatch, form, writer, says
):
    monkeypatch.setattr(exports, "Writer", writer)
    folder = tmp_path / "out"
    folder.mkdir()
    told = await typed("--format", form, "-o", folder / "log", status=1)
    assert says in told.output
    assert "Export it again." in told.output
    assert [*folder.iterdir()] == []


async def test_a_broken_line_leaves_no_file(hub, typed, tmp_path, monkeypatch):
    async def broken(*_):
        raise OSError("The disk is gone.")

    monkeypatch.setattr(Queries, "search", broken)
    folder = tmp_path / "out"
    folder.mkdir()
    await typed("--format", "csv", "-o", folder / "log.csv", status=3)
    assert [*folder.iterdir()] == []


async def test_a_checkpoint_of_another_log_is_not_believed(hub, typed, tmp_path):
    public = builders.key("another log").public_key().public_bytes_raw()
    other = note.ed25519_vkey(hub.vkey.name, public)
    folder = tmp_path / "out"
    folder.mkdir()
    told = await typed("--format", "csv", "-o", folder / "x", "--vkey", other, status=1)
    assert "The checkpoint of the export does not hold" in told.output
    assert [*folder.iterdir()] == []


async def test_whoever_may_not_export_is_told_so_and_gets_no_file(hub, typed, tmp_path):
    token = tmp_path / "token"
    token.write_text(await hub.operator.token("reader", "log"))
    elsewhere = ("--hub", hub.settings.url, "--token-file", token)
    told = await typed("--format", "csv", "-o", tmp_path / "x.csv", *elsewhere, status=4)
    assert "may not use GET /v1/audit/export" in told.output
    assert not (tmp_path / "x.csv").exists()
