"""PostgreSQL: what the hub writes to, and what it refuses with a sentence and leaves as it was."""

import asyncio
import socket
import threading
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hub.intake.recorder import StorageError
from hub.settings import StartError
from hub.store import postgresql as stored
from hub.store.database import open_database
from hub.store.journal import Journal, Transaction
from tests.broker import eventually
from tests.ports import free_port
from tests.simulator.waiting import DEADLINE

pytestmark = pytest.mark.servers

UNSAFE = ("fsync", "full_page_writes", "synchronous_commit")


async def refusal(url, folder):
    with pytest.raises(StartError) as caught:
        await open_database(url, folder)
    return str(caught.value)


@asynccontextmanager
async def server_with(server, setting, value):
    """The server with a setting for everybody, as an administrator changes it."""

    async def is_so():
        return await server.psql(f"SHOW {setting}") == value

    usual = await server.psql(f"SHOW {setting}")
    await server.psql(f"ALTER SYSTEM SET {setting} = {value}; SELECT pg_reload_conf()")
    try:
        await eventually(is_so, f"{setting} is {value}")
        yield
    finally:
        value = usual
        await server.psql(f"ALTER SYSTEM RESET {setting}; SELECT pg_reload_conf()")
        await eventually(is_so, f"{setting} is {value} again")


class TestAServer:
    @pytest.mark.parametrize("setting", UNSAFE)
    async def test_that_can_lose_what_it_commits_is_refused(self, postgresql, tmp_path, setting):
        async with server_with(postgresql, setting, "off"):
            assert await refusal(postgresql.url, tmp_path) == (
                f"PostgreSQL runs with {setting} = off: it can lose what it has committed. "
                f"Set {setting} = on and restart it."
            )

    @pytest.mark.parametrize("value", ["off", "local"])
    @pytest.mark.parametrize("who", ["DATABASE {}", "ROLE admin IN DATABASE {}"])
    async def test_that_can_lose_what_it_commits_here_is_refused(
        self, postgresql, tmp_path, who, value
    ):
        of = who.format(postgresql.database)
        await postgresql.psql(f"ALTER {of} SET synchronous_commit = {value}")
        said = await refusal(postgresql.url, tmp_path)
        assert said.startswith(f"PostgreSQL runs with synchronous_commit = {value}:")

    async def test_that_is_reached_anew_is_asked_again(self, postgresql, tmp_path):
        """After a failover it is another."""
        database = await open_database(postgresql.url, tmp_path)
        try:
            journal = Journal(database)

            async def refused():
                with pytest.raises(StorageError) as caught:  # the first may be about the line
                    await write(journal, 0)
                return "PostgreSQL runs with fsync = off" in str(caught.value)

            async with server_with(postgresql, "fsync", "off"):
                await hang_up(postgresql)
                await eventually(refused, "the setting is named")
            assert await write(journal, 0) == 0
        finally:
            await database.close()

    async def test_that_does_not_answer_is_named(self, tmp_path):
        said = await refusal(f"postgresql://nhri:secret@127.0.0.1:{free_port()}/hub", tmp_path)
        assert said.startswith("The database 127.0.0.1/hub cannot be used (")
        assert said.endswith("is PostgreSQL running, and are address, user and password right?")
        assert "secret" not in said

    async def test_that_does_not_know_the_password_is_named(self, postgresql, tmp_path):
        url = postgresql.url.replace(postgresql.password, "another")
        said = await refusal(url, tmp_path)
        assert "password authentication failed" in said
        assert "another" not in said


class TestADatabase:
    async def test_of_another_program_is_refused_and_not_touched(self, postgresql, tmp_path):
        await postgresql.psql("CREATE TABLE recipes (name text)")
        assert await refusal(postgresql.url, tmp_path) == (
            "The database holds another program's tables; name an empty database."
        )
        assert await postgresql.psql(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ) == ("recipes")

    async def test_can_be_opened_again(self, postgresql, tmp_path):
        for _ in range(2):
            database = await open_database(postgresql.url, tmp_path)
            assert await write(Journal(database), 0) == 0
            await database.close()


class TestAHub:
    async def test_that_stands_still_in_a_transaction_holds_up_no_other(self, postgresql, tmp_path):
        """As when its machine is gone: it holds the head of the log, and never goes on."""
        here, there = [await open_database(postgresql.url, tmp_path) for _ in range(2)]
        holds, ended = threading.Event(), threading.Event()

        def stand_still(connection):
            soon = "SET LOCAL idle_in_transaction_session_timeout = 100"  # for 30 s
            connection.execute(text(soon))
            Transaction(connection).head(0)
            holds.set()
            assert ended.wait(DEADLINE)
            Transaction(connection).head(0)

        stands = asyncio.create_task(here.write(stand_still))
        await asyncio.to_thread(holds.wait, DEADLINE)
        assert await write(Journal(there), 0) == 0
        ended.set()
        with pytest.raises(DBAPIError):
            await stands
        assert await write(Journal(here), 0) == 0
        for database in (here, there):
            await database.close()

    async def test_finds_out_that_its_server_is_gone(self, postgresql, tmp_path):
        """And its server finds out that a hub is: either within half a minute."""
        database = await open_database(postgresql.url, tmp_path)
        by_server = await database.write(
            lambda rows: {
                name: rows.execute(text(f"SHOW {name}")).scalar_one() for name in stored._GIVEN_UP
            }
        )
        by_hub = await database.write(keepalive)
        assert (by_server, by_hub) == (stored._GIVEN_UP, 10)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert await database.write(user_timeout) == 30_000
        await database.close()


def keepalive(connection):
    """After how many quiet seconds our side of a connection asks whether the server is there."""
    return line(connection).getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)


def user_timeout(connection):
    """For how many milliseconds our side waits until what it sent is acknowledged."""
    return line(connection).getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def line(connection):
    return connection.connection.driver_connection._transport.get_extra_info("socket")


async def write(journal, known):
    """Begin to write; the size of the log."""
    size, _ = await journal.transact(lambda transaction: transaction.head(known))
    return size


async def hang_up(server):
    """Have the server close all other connections to the database."""
    await server.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
