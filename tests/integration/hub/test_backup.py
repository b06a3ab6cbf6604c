"""Backup and restore of a real hub: while it runs, into either database, and nothing is believed.

What a hub with an older log may sign, ``test_witnesses`` tells.
"""

import asyncio
import contextlib
import json
import sqlite3
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from hub import backup, recovery
from hub import settings as configuration
from hub.backup import Backup, BackupError
from hub.cli.main import main
from hub.cli.output import progress
from hub.settings import Webhooks
from hub.store import copies
from schemas.acceptance import open_acceptance
from tests import client
from tests.integration.hub import test_webhooks
from tests.integration.hub.test_webhooks import Owner
from tests.ports import free_port

endpoint = test_webhooks.endpoint

DATABASES = ["sqlite", "postgresql"]


@pytest.fixture
def fresh(settings, tmp_path):
    """The same hub on another machine: its settings and its key, and no database."""

    def made(url="sqlite:///hub.sqlite", key=True):
        folder = tmp_path / "another"
        folder.mkdir(exist_ok=True)
        for name in ("hub.toml", "authority.pem", "authority-key.pem", *(["log.pem"] * key)):
            path = folder / name
            path.write_bytes((Path(settings.folder) / name).read_bytes())
            path.chmod(0o600)
        loaded = configuration.load(folder / "hub.toml", {})
        http = replace(loaded.http, port=free_port())
        return replace(loaded, store=replace(loaded.store, url=url), http=http)

    return made


@pytest.fixture
def file(tmp_path):
    return tmp_path / "hub.zip"


async def backed_up(settings, file, *, with_key=False):
    return await recovery.back_up(settings, file, progress, with_key=with_key)


async def restored(settings, file):
    return await recovery.restore(settings, file, progress)


async def traffic(hub, count=5):
    """Messages with receipts; gives their acceptances."""
    kz, kg = hub.participant("kz"), hub.participant("kg")
    acceptances = [(await kz.send()).acceptance() for _ in range(count)]
    await kg.post("/v1/receipts", kg.receipt(*(await kg.inbox())))
    return acceptances


async def everything(hub):
    """What anybody can see of a hub that must be the same after a restore."""
    seen = {
        code: [
            (position, delivery.entry, delivery.envelope)
            for position, delivery in await hub.participant(code).inbox()
        ]
        for code in ("kg", "tj", "tm")
    }
    receipts = (await hub.participant("kz").get("/v1/receipts", after=-1)).json
    entries = [r["acceptance"]["entry"] for r in receipts["receipts"]]
    return seen, entries, (await hub.operator.get("/v1/members")).json


# --- There and back ---


@pytest.mark.parametrize("before", DATABASES)
@pytest.mark.parametrize("after", DATABASES)
async def test_a_restored_hub_is_the_one_that_was_kept(
    settings, clock, fresh, file, before, after, postgresql_server
):
    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        for kind in {before, after} & {"postgresql"}:
            for name in ("before", "after"):
                database = await postgresql_server.create(f"backup_{name}_{before}_{after}")
                stack.push_async_callback(database.drop)
                urls[kind, name] = database.url
        source = settings
        if before == "postgresql":
            # Sqlite's rows first: the way there is the way back.
            await first_move(settings, fresh, file, urls["postgresql", "before"])
            source = fresh(urls["postgresql", "before"])
            (Path(source.folder) / "restored").unlink(missing_ok=True)
        async with client.running(source) as hub:
            await traffic(hub)
            made = await backed_up(source, file)
            seen = await everything(hub)
        target = fresh(urls.get((after, "after"), "sqlite:///hub.sqlite"))
        assert await restored(target, file) == made
        target.restored.unlink()
        async with client.running(target) as hub:
            assert await everything(hub) == seen
            verdict = (await hub.operator.get("/v1/audit/verify")).json
            assert (verdict["ok"], verdict["problems"]) == (True, [])
            assert (await hub.participant("kz").send()).status == 201


async def first_move(settings, fresh, file, url):
    await backed_up(settings, file)
    await restored(fresh(url), file)
    file.unlink()


async def test_webhook_subscriptions_come_back(settings, clock, fresh, file, postgresql, endpoint):
    allowed = Webhooks(hosts=("127.0.0.1",), networks=("127.0.0.1/32",), ports=(endpoint.port,))
    async with client.running(replace(settings, webhooks=allowed)) as hub:
        undp = Owner(hub.participant("undp"))
        await undp.subscribe(endpoint.url, ordered=True)
        seen = (await undp.get("")).json
        await backed_up(settings, file)
    moved = fresh(postgresql.url)
    await restored(moved, file)
    file.unlink()
    await backed_up(moved, file)
    target = fresh()
    await restored(target, file)
    target.restored.unlink()
    async with client.running(target) as hub:
        assert (await Owner(hub.participant("undp")).get("")).json == seen


async def test_a_backup_of_an_older_version_is_brought_to_date(
    settings, clock, fresh, file, monkeypatch
):
    made = copies.snapshot

    def older(table):
        kept = [place for place, name in enumerate(table.columns) if name != "kid"]
        rows = (tuple(row[place] for place in kept) for row in table.rows)
        return replace(table, columns=tuple(table.columns[place] for place in kept), rows=rows)

    def snapshot(connection):
        taken = made(connection)
        tables = (older(each) if each.name == "sessions" else each for each in taken.tables)
        return replace(taken, revision="0006", tables=tables)

    monkeypatch.setattr(copies, "snapshot", snapshot)
    await backed_up(settings, file)
    target = fresh()
    assert (await restored(target, file)).revision == "0006"
    target.restored.unlink()
    async with client.running(target) as hub:
        await traffic(hub)
        found = await hub.operator.get("/v1/audit/events", sender="kz")
        assert len(found["events"]) == 5


async def test_a_backup_in_the_middle_of_traffic_is_of_one_moment(settings, clock, fresh, file):
    async with client.running(settings) as hub:
        sending = asyncio.create_task(traffic(hub, 60))
        while await hub.size() < 20:
            await hub.participant("tj").get("/v1/members")
        made = await backed_up(settings, file)
        acceptances = await sending
        assert made.size < await hub.size()
    target = fresh()
    await restored(target, file)
    target.restored.unlink()
    async with client.running(target) as hub:
        kept = [a for a in acceptances if open_acceptance(a, hub.vkey).index < made.size]
        assert 0 < len(kept) < len(acceptances)
        assert [d.entry for _, d in await hub.participant("kg").inbox()] == [a.entry for a in kept]
        assert (await hub.operator.get("/v1/audit/verify"))["ok"] is True


async def test_a_restored_hub_signs_nothing_before_its_witnesses_have_asked(
    settings, clock, fresh, file
):
    await backed_up(settings, file)
    target = fresh()
    await restored(target, file)
    async with client.running(target) as hub:
        assert (await hub.participant("kz").send()).code == "storage"
        assert "was restored" in (await hub.operator.get("/v1/status"))["signing_stopped"]
        for code in ("kz", "kg", "tj", "tm"):
            await hub.participant(code).get("/v1/witness/tail", size=0)
        assert (await hub.participant("kz").send()).status == 201


async def test_a_backup_holds_the_log_s_key_only_when_asked(settings, clock, fresh, tmp_path):
    without, with_key = tmp_path / "without.zip", tmp_path / "with.zip"
    key = settings.log_key_path.read_bytes()
    assert not (await backed_up(settings, without)).with_key
    assert (await backed_up(settings, with_key, with_key=True)).with_key
    assert key not in await parts(settings, without)
    target = fresh(key=False)
    with pytest.raises(BackupError, match=r"key .* is missing, and it is not in this backup"):
        await restored(target, without)
    await restored(target, with_key)
    assert target.log_key_path.read_bytes() == key
    assert stat.S_IMODE(target.log_key_path.stat().st_mode) == 0o600


async def parts(settings, file):
    with backup.opened(file) as raw:
        found = Backup(raw, configuration.log_vkey(settings))
        return [found._archive.read(name) for name in found._archive.namelist()]


async def test_only_its_owner_reads_a_backup(settings, clock, file):
    await backed_up(settings, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# --- What is not done ---


async def test_nothing_is_restored_over_a_database(settings, clock, file):
    await backed_up(settings, file)
    path = Path(settings.folder) / "hub.sqlite"
    before = path.read_bytes()
    with pytest.raises(BackupError, match="There is a database already"):
        await restored(settings, file)
    assert path.read_bytes() == before
    assert not settings.restored.exists()


async def test_a_write_ahead_log_without_its_database_is_not_taken_for_a_new_one(
    settings, clock, fresh, file
):
    await backed_up(settings, file)
    target = fresh()
    (Path(target.folder) / "hub.sqlite-wal").write_bytes(b"of another file")
    with pytest.raises(BackupError, match=r"hub\.sqlite-wal"):
        await restored(target, file)


async def test_a_postgresql_with_tables_is_not_empty(settings, clock, fresh, file, postgresql):
    await backed_up(settings, file)
    target = fresh(postgresql.url)
    await restored(target, file)
    with pytest.raises(BackupError, match="is not empty"):
        await restored(target, file)
    assert target.restored.exists()  # the first one's


async def test_a_backup_is_not_written_over_a_file(settings, clock, file):
    file.write_bytes(b"precious")
    with pytest.raises(BackupError, match="is there already"):
        await backed_up(settings, file)
    assert file.read_bytes() == b"precious"


async def test_another_hub_s_backup_is_refused(settings, clock, fresh, file, tmp_path):
    await backed_up(settings, file)
    other = client.new_settings(tmp_path / "other")
    with pytest.raises(BackupError, match="not signed by the key of"):
        await restored(other, file)
    assert not (Path(other.folder) / "hub.sqlite").exists()
    assert not other.restored.exists()


async def test_there_is_no_backup_of_nothing(clock, tmp_path):
    with pytest.raises(BackupError, match="nothing to keep"):
        await backed_up(client.new_settings(tmp_path / "new"), tmp_path / "hub.zip")
    assert not (tmp_path / "hub.zip").exists()


async def test_a_damaged_log_is_noticed_when_it_is_kept(settings, clock, file):
    with contextlib.closing(sqlite3.connect(Path(settings.folder) / "hub.sqlite")) as database:
        database.execute("UPDATE log_entries SET entry = CAST(entry || ' ' AS BLOB) WHERE idx = 3")
        database.commit()
    with pytest.raises(BackupError, match="was damaged when the backup was made"):
        await backed_up(settings, file)
    assert not file.exists()


# --- The commands ---


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_the_commands_say_what_was_done_and_what_comes_next(everybody_joined, tmp_path):
    settings = client.copied(everybody_joined, tmp_path / "hub")
    config, file = Path(settings.folder) / "hub.toml", tmp_path / "hub.zip"
    made = run("backup", "-o", file, "--config", config)
    assert made.exit_code == 0, made.output
    assert "The log's key is not in it" in made.output
    again = run("backup", "-o", file, "--config", config)
    assert (again.exit_code, "is there already" in again.output) == (1, True)
    (Path(settings.folder) / "hub.sqlite").rename(tmp_path / "old.sqlite")
    done = run("restore", file, "--config", config)
    assert done.exit_code == 0, done.output
    assert f"nhri-hub serve --config {config}" in done.output
    assert settings.restored.exists()
    refused = run("restore", file, "--config", config)
    assert (refused.exit_code, "Move it away" in refused.output) == (1, True)


def test_the_commands_speak_json(everybody_joined, tmp_path):
    settings = client.copied(everybody_joined, tmp_path / "hub")
    file = tmp_path / "hub.zip"
    made = run(
        "backup", "-o", file, "--with-key", "--json", "--config", f"{settings.folder}/hub.toml"
    )
    document = json.loads(made.stdout)
    assert document["with_key"] is True
    assert document["origin"] == client.ORIGIN
    assert document["rows"] > document["size"] > 0


def test_without_settings_nothing_is_done(tmp_path):
    for command in (("backup", "-o", tmp_path / "x.zip"), ("restore", tmp_path / "x.zip")):
        assert run(*command, "--config", tmp_path / "none.toml").exit_code == 2
