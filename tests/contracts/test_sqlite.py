"""SQLite files: what the hub opens, and what it refuses with a sentence and leaves as it was."""

import asyncio
import os
import shutil
import sqlite3
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from hub import app
from hub import settings as configuration
from hub.settings import StartError
from hub.store.database import open_database
from hub.store.sqlite import APPLICATION_ID
from schemas import entry as entries
from tests import builders, client
from tests.builders import signed

URL = "sqlite:///hub.sqlite"


@asynccontextmanager
async def opened(folder):
    database = await open_database(URL, folder)
    try:
        yield database
    finally:
        await database.close()


async def refusal(folder, url=URL):
    with pytest.raises(StartError) as caught:
        await open_database(url, folder)
    return str(caught.value)


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The folder of a stopped hub with two members and a message."""
    folder = tmp_path_factory.mktemp("used")

    async def use():
        async with client.running(client.new_settings(folder)) as hub:
            kz, kg = hub.participant("kz"), hub.participant("kg")
            await hub.operator.join(kz)
            await hub.operator.join(kg)
            assert (await kz.submit(signed(kz.message(audience=["kg"])))).status == 201

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_clock", client.Clock())
        asyncio.run(use())
    return folder


@pytest.fixture
def settings(used, tmp_path):
    """The settings of this test's own copy of the hub."""
    folder = tmp_path / "hub"
    shutil.copytree(used, folder)
    return configuration.load(folder / "hub.toml", {})


async def start(settings):
    async with app.running(settings):
        pass


async def start_refusal(settings):
    with pytest.raises(StartError) as caught:
        await start(settings)
    return str(caught.value)


class TestAFile:
    async def test_is_made_where_there_is_none_for_its_owner_alone(self, tmp_path):
        async with opened(tmp_path):
            assert (tmp_path / "hub.sqlite").stat().st_mode & 0o077 == 0

    async def test_bears_the_mark_of_the_hub(self, tmp_path):
        async with opened(tmp_path) as database:
            mark = await database.read(
                lambda connection: connection.execute(text("PRAGMA application_id")).scalar()
            )
        assert mark == APPLICATION_ID

    async def test_syncs_every_commit_to_the_disk(self, tmp_path):
        def pragmas(connection):
            names = ("journal_mode", "synchronous", "foreign_keys")
            return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

        async with opened(tmp_path) as database:
            assert await database.write(pragmas) == ["wal", 2, 1]
            assert await database.read(pragmas) == ["wal", 2, 1]

    async def test_can_be_opened_again(self, tmp_path):
        for _ in range(2):
            async with opened(tmp_path):
                pass

    async def test_may_be_empty(self, tmp_path):
        (tmp_path / "hub.sqlite").touch()
        async with opened(tmp_path):
            pass


class TestAForeignFile:
    def foreign(self, folder):
        with sqlite3.connect(folder / "hub.sqlite") as other:
            other.execute("CREATE TABLE recipes (name TEXT)")
        other.close()
        return (folder / "hub.sqlite").read_bytes()

    async def test_of_another_program_is_refused_and_not_touched(self, tmp_path):
        before = self.foreign(tmp_path)
        assert "is the database of another program" in await refusal(tmp_path)
        assert (tmp_path / "hub.sqlite").read_bytes() == before

    async def test_that_is_no_database_is_refused_and_not_touched(self, tmp_path):
        (tmp_path / "hub.sqlite").write_bytes(b"Dear diary, " * 1_000)
        assert "file is not a database" in await refusal(tmp_path)
        assert (tmp_path / "hub.sqlite").read_bytes() == b"Dear diary, " * 1_000

    async def test_does_not_keep_the_lock(self, tmp_path):
        self.foreign(tmp_path)
        await refusal(tmp_path)
        (tmp_path / "hub.sqlite").unlink()
        async with opened(tmp_path):
            pass

    @pytest.mark.parametrize("url", ["mysql://x/y", "nonsense"])
    async def test_at_an_address_of_another_kind_is_refused(self, tmp_path, url):
        assert url in await refusal(tmp_path, url)


class TestADamagedFile:
    @pytest.mark.parametrize("page", [0, 1, 2, 5])
    async def test_is_refused(self, settings, page):
        path = Path(settings.folder) / "hub.sqlite"
        raw = bytearray(path.read_bytes())
        start = 100 if page == 0 else page * 4096  # after the header of the file
        for position in range(start, start + 64):
            raw[position] ^= 0xFF
        path.write_bytes(raw)
        told = await start_refusal(settings)
        assert "restore a backup" in told

    async def test_cut_short_is_refused(self, settings):
        path = Path(settings.folder) / "hub.sqlite"
        path.write_bytes(path.read_bytes()[:8192])
        assert "restore a backup" in await start_refusal(settings)


def edit(settings, *statements):
    """Change the rows of a stopped hub."""
    with sqlite3.connect(Path(settings.folder) / "hub.sqlite") as edited:
        for statement in statements:
            edited.execute(statement)
    edited.close()


class TestALog:
    async def test_that_is_whole_is_gone_on_with(self, settings):
        await start(settings)

    async def test_of_another_key_is_refused(self, settings, tmp_path):
        configuration.initialise(tmp_path / "other", "hub.example")
        shutil.copy(tmp_path / "other/log.pem", settings.log_key_path)
        told = await start_refusal(settings)
        assert "holds another log than hub.example/log with this key" in told

    async def test_of_another_name_is_refused(self, settings):
        told = await start_refusal(replace(settings, name="other.example"))
        assert "holds another log than other.example/log" in told

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE tiles SET hashes = zeroblob(length(hashes))",
            "DELETE FROM tiles",
            "UPDATE tiles SET hashes = substr(hashes, 1, 32)",
            "DELETE FROM checkpoints",
            "DELETE FROM checkpoints WHERE size = (SELECT max(size) FROM checkpoints)",
            "UPDATE log_head SET size = size - 1",
            "UPDATE log_head SET size = size + 1",
            "UPDATE log_head SET size = 100000",
            "DELETE FROM log_head",
            "DELETE FROM log_entries WHERE type = 'member.joined'",
            "UPDATE log_entries SET entry = x'6a756e6b' WHERE type = 'member.joined'",
        ],
    )
    async def test_that_was_edited_is_refused(self, settings, statement):
        edit(settings, "PRAGMA foreign_keys=OFF", statement)
        assert "restore a backup" in await start_refusal(settings)

    async def test_whose_directory_was_forged_is_refused(self, settings):
        """Somebody put their own key under the name of a member."""
        forged = entries.encode(builders.joined("kg", "thief"))
        path = Path(settings.folder) / "hub.sqlite"
        with sqlite3.connect(path) as edited:
            edited.execute(
                "UPDATE log_entries SET entry = ? WHERE type = 'member.joined' AND subject = 'kg'",
                (forged,),
            )
        edited.close()
        assert "restore a backup" in await start_refusal(settings)


class TestASecondHub:
    async def test_on_the_same_file_is_refused(self, tmp_path):
        async with opened(tmp_path):
            assert "Another hub is using the database" in await refusal(tmp_path)

    async def test_may_start_when_the_first_has_stopped(self, tmp_path):
        async with opened(tmp_path):
            pass
        async with opened(tmp_path):
            pass


@contextmanager
def nobody():
    """Without the rights of root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class TestAFolderThatCannotBeWritten:
    @pytest.fixture
    def folder(self):
        """Outside of pytest's own folders, which others may not enter."""
        made = Path(tempfile.mkdtemp())
        yield made
        made.chmod(0o700)
        shutil.rmtree(made)

    async def test_is_named(self, folder):
        folder.chmod(0o555)
        with nobody():
            told = await refusal(folder)
        assert told == (f"The database {folder}/hub.sqlite cannot be opened: Permission denied.")

    async def test_or_a_file_is_named(self, folder):
        async with opened(folder):
            pass
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        with nobody():
            assert "Permission denied" in await refusal(folder)

    async def test_or_is_not_there(self, tmp_path):
        assert "No such file or directory" in await refusal(tmp_path / "nowhere")
