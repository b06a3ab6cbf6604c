"""The private servers: they start, come back after a crash with what they promised, and vanish."""

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import aio_pika
import asyncpg
import pytest
from aio_pika import DeliveryMode, Message
from aiormq.exceptions import DeliveryError, ProbableAuthenticationError

from hub.demo import servers
from hub.demo.processes import ProcessError
from hub.demo.program import accepts

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder():
    """A folder that only its owner may enter."""
    with tempfile.TemporaryDirectory(prefix="nhri-test-") as name:
        yield Path(name)


# RabbitMQ


async def test_a_confirmed_message_in_a_quorum_queue_survives_sigkill(rabbitmq):
    await publish(rabbitmq.url, "survivor", b"promised")
    await rabbitmq.settle()
    await rabbitmq.kill()
    assert not rabbitmq.running
    assert not await accepts(rabbitmq.port)
    await rabbitmq.start()
    assert await take(rabbitmq.url, "survivor") == b"promised"


async def test_a_stopped_broker_comes_back_in_the_same_node(rabbitmq):
    await publish(rabbitmq.url, "patient", b"promised")
    await rabbitmq.stop_app()
    assert rabbitmq.running
    assert not await accepts(rabbitmq.port)
    await rabbitmq.start_app()
    assert await take(rabbitmq.url, "patient") == b"promised"


@pytest.mark.parametrize("resource", ["memory", "disk"])
async def test_an_alarm_holds_publishers_until_it_is_over(rabbitmq, resource):
    async with rabbitmq.alarm(resource):
        publishing = asyncio.create_task(publish(rabbitmq.url, "held", b"late"))
        alarms = await rabbitmq.ctl("eval", "rabbit_alarm:get_alarms().")
        assert f"{{resource_limit,{resource}," in alarms
        await asyncio.wait({publishing}, timeout=0.5)
        assert not publishing.done()
    await publishing
    assert await take(rabbitmq.url, "held") == b"late"


async def test_definitions_make_accounts_and_the_administrator_may_use_their_vhosts(rabbitmq):
    account = {"user": "reader", "configure": "", "write": "", "read": ".*"}
    queue = {"name": "defined", "durable": True, "auto_delete": False}
    await rabbitmq.import_definitions(
        {
            "vhosts": [{"name": "a/b"}],
            "users": [{"name": "reader", "password": "p:w/d", "tags": ""}],
            "permissions": [account | {"vhost": "a/b"}],
            "queues": [queue | {"vhost": "a/b", "arguments": {"x-queue-type": "quorum"}}],
        }
    )
    administrator = rabbitmq.url_for("a/b", servers.ADMIN, rabbitmq.password)
    await publish(administrator, "defined", b"for the reader")
    reader = rabbitmq.url_for("a/b", "reader", "p:w/d")
    assert await take(reader, "defined") == b"for the reader"
    with pytest.raises(ProbableAuthenticationError):
        await aio_pika.connect(rabbitmq.url_for("a/b", "reader", "another"))


async def test_rabbitmq_reads_and_writes_nothing_of_the_machine_s_own(rabbitmq):
    context = await rabbitmq.ctl("eval", "rabbit_prelaunch:get_context().")
    files = dict(re.findall(r"(\w+) =>\s+\"([^\"]*)\"", context))
    home = Path(files["main_config_file"]).parent
    for name in (
        "additional_config_files",
        "advanced_config_file",
        "enabled_plugins_file",
        "feature_flags_file",
        "log_base_dir",
        "mnesia_dir",
        "pid_file",
        "plugins_expand_dir",
        "quorum_queue_dir",
        "stream_queue_dir",
        "upgrade_log_file",
    ):
        assert Path(files[name]).is_relative_to(home), name


async def test_definitions_that_rabbitmq_does_not_take_are_told(rabbitmq):
    with pytest.raises(ProcessError, match="import_definitions"):
        await rabbitmq.import_definitions({"users": [{"name": "no password or tags"}]})


@pytest.mark.campaign  # three nodes of a broker take two cores half a minute to start
async def test_a_cluster_of_three_goes_on_without_the_leader_of_a_queue(folder):
    async with servers.rabbitmq_cluster(folder) as (leader, second, third):
        await publish(leader.url, "shared", b"promised")  # a queue's first leader is its client's
        for node in (leader, second, third):
            await node.settle()
        await leader.kill()
        await publish_again_and_again(second.url, "shared", b"promised later")
        assert await take(third.url, "shared") == b"promised"
        await leader.start()
        assert await take(leader.url, "shared") == b"promised later"


async def publish(url: str, queue: str, body: bytes) -> None:
    """Publish to a quorum queue, which is declared, and wait for the broker's confirm."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        message = Message(body, delivery_mode=DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue, timeout=60)


async def publish_again_and_again(url: str, queue: str, body: bytes) -> None:
    """Publish until the broker confirms: while it elects a leader it refuses."""
    async with asyncio.timeout(90):
        while True:
            with contextlib.suppress(DeliveryError):
                return await publish(url, queue, body)


async def take(url: str, name: str) -> bytes:
    """Take one message from a queue and acknowledge it."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(name)
        async with queue.iterator(timeout=60) as messages:
            async for message in messages:
                await message.ack()
                return message.body
    raise AssertionError("the iterator ended")


# PostgreSQL


async def test_what_was_committed_survives_an_immediate_shutdown_and_nothing_else(postgresql):
    connection = await asyncpg.connect(postgresql.url)
    await connection.execute("CREATE TABLE words (word text)")
    await connection.execute("INSERT INTO words VALUES ('committed')")
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO words VALUES ('not yet')")
    await postgresql.stop_at_once()
    connection.terminate()
    assert not postgresql.running
    await postgresql.start()
    assert await rows(postgresql.url, "SELECT word FROM words") == [("committed",)]


async def test_it_keeps_what_it_commits(postgresql):
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await rows(postgresql.url, f"SHOW {setting}") == [("on",)]


@pytest.mark.parametrize("number", [1, 2])
async def test_each_test_has_an_empty_database_of_its_own(postgresql, number):
    await postgresql.psql(f"CREATE TABLE number_{number} (word text)")
    tables = "SELECT relname FROM pg_stat_user_tables"
    assert await rows(postgresql.url, tables) == [(f"number_{number}",)]


async def test_a_database_is_dropped_under_who_still_uses_it(postgresql):
    other = await postgresql.create("abandoned")
    connection = await asyncpg.connect(other.url)
    await other.drop()
    connection.terminate()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(other.url)


async def test_it_speaks_tcp_alone_and_asks_for_the_password(postgresql):
    assert await rows(postgresql.url, "SHOW unix_socket_directories") == [("",)]
    assert await rows(postgresql.url, "SHOW listen_addresses") == [("127.0.0.1",)]
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgresql.url, password="another")


async def test_psql_gives_the_rows_and_tells_what_is_refused(postgresql):
    assert await postgresql.psql("SELECT 1, 'а'; SELECT 2, NULL") == "1|а\n2|"
    with pytest.raises(ProcessError, match='relation "nowhere" does not exist'):
        await postgresql.psql("SELECT * FROM nowhere")


async def rows(url: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


# Nothing is left behind

both = pytest.mark.parametrize("server", ["rabbitmq", "postgresql"])
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@on_linux
async def test_rabbitmq_leaves_no_process_and_a_folder_that_can_be_used_again(folder):
    async with servers.rabbitmq(folder) as broker:
        await publish(broker.url, "kept", b"promised")
        assert len(processes(folder)) > 2
    await eventually(lambda: not processes(folder))
    async with servers.rabbitmq(folder) as broker:
        assert await take(broker.url, "kept") == b"promised"


@on_linux
async def test_postgresql_leaves_no_process_and_a_folder_that_can_be_used_again(folder):
    async with servers.postgresql(folder) as database:
        await database.psql("CREATE TABLE kept AS SELECT 'promised' AS word")
        assert len(processes(folder)) > 2
    await eventually(lambda: not processes(folder))
    async with servers.postgresql(folder) as database:
        assert await database.psql("SELECT word FROM kept") == "promised"


@on_linux
@both
async def test_no_process_is_left_when_the_start_fails(folder, server, monkeypatch):
    monkeypatch.setattr("hub.demo.program.PATIENCE", 0.5)
    (folder / "postgresql").mkdir()
    (folder / "postgresql" / "in the way").touch()
    with pytest.raises(ProcessError):
        async with getattr(servers, server)(folder):
            pass
    await eventually(lambda: not processes(folder))


STARTER = """
import asyncio, sys
from pathlib import Path
from hub.demo import servers

async def main():
    async with getattr(servers, sys.argv[1])(Path(sys.argv[2])):
        print("up", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@on_linux
@both
async def test_no_process_is_left_when_who_started_it_is_killed(folder, server):
    starter = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        STARTER,
        server,
        folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=REPOSITORY,
    )
    assert starter.stdout is not None
    assert await starter.stdout.readline() == b"up\n"
    assert len(processes(folder)) > 2
    starter.kill()
    await starter.wait()
    await eventually(lambda: not processes(folder))


def processes(folder: Path) -> list[int]:
    """The processes that work in a folder or have it in their environment; no zombies."""
    return [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and concerns(process, folder)
    ]


def concerns(process: Path, folder: Path) -> bool:
    try:
        if "\nState:\tZ" in (process / "status").read_text():
            return False
        works_in = (process / "cwd").readlink()
        return works_in.is_relative_to(folder) or os.fsencode(folder) in (
            (process / "environ").read_bytes()
        )
    except OSError:  # it has just ended, or is another user's
        return False


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(90):
        while not condition():  # noqa: ASYNC110 - the end of another's process is no event
            await asyncio.sleep(0.02)
