"""Servers: a RabbitMQ and a PostgreSQL of one's own, for the demo, the tests and measurements.

They listen on free ports of 127.0.0.1, keep everything in the folder given and have passwords that
nobody else knows: a machine's own services do not matter and are not touched. A folder that was
used before goes on with what it holds.

At the end of its context a server is stopped with all its processes. On Linux it also ends when
the program that started it is killed; its folder stays then.
"""

import asyncio
import dataclasses
import json
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from hub.delivery import topology
from hub.demo.processes import ProcessError
from hub.demo.program import (
    Command,
    Program,
    accepts,
    bound_to_us,
    environment,
    find,
    free_ports,
)

ADMIN: Final = "admin"
"""The administrator's account, on both servers."""

Resource: TypeAlias = Literal["memory", "disk"]

_LIMITS: Final[Mapping[Resource, tuple[str, str, str]]] = {
    # the command, what no machine can satisfy, RabbitMQ's own value
    "memory": ("set_vm_memory_high_watermark", "0", "0.4"),
    "disk": ("set_disk_free_limit", f"{10**15}", "50MB"),
}


@dataclasses.dataclass(frozen=True)
class RabbitMQ:
    """A node of RabbitMQ. Its administrator may do everything in ``/`` and where it imported."""

    node: str
    """The node's name, as ``ctl`` and the other nodes of a cluster know it."""
    port: int
    """The AMQP port on 127.0.0.1, the same after every start."""
    password: str
    """The administrator's."""
    _program: Program
    _ctl: Command

    @property
    def url(self) -> str:
        """The AMQP address of the virtual host ``/`` for the administrator."""
        return self.url_for("/", ADMIN, self.password)

    def url_for(self, vhost: str, user: str, password: str) -> str:
        """The AMQP address of a virtual host for an account."""
        account = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"amqp://{account}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._program.running

    async def start(self) -> None:
        """Start it with the data that it has.

        Raises:
            ProcessError: it did not come up.
        """
        await self._program.start(lambda: accepts(self.port))

    async def stop(self) -> None:
        """Let it close its files and end."""
        await self._program.end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL: it cannot finish anything."""
        await self._program.end(signal.SIGKILL)

    async def settle(self) -> None:
        """Bring to disk what was declared in the last seconds.

        A confirmed message is on disk, but not yet the name of the log that it stands in, where
        the quorum queue is new: after a SIGKILL then RabbitMQ 3.10 starts a second log for it, has
        lost the message and finds no leader.
        """
        await self.ctl("eval", "lists:foreach(fun dets:sync/1, dets:all()).")

    async def stop_app(self) -> None:
        """Stop the broker inside the node: listeners and connections close, the node stays."""
        await self.ctl("stop_app")

    async def start_app(self) -> None:
        """Start what ``stop_app`` stopped."""
        await self.ctl("start_app")

    async def ctl(self, *words: str) -> str:
        """``rabbitmqctl`` on this node; gives what it prints. Takes about a second.

        Raises:
            ProcessError: it failed.
        """
        return await self._ctl.run(*words)

    async def import_definitions(self, definitions: Mapping[str, object]) -> None:
        """Add what a definitions document has, and give the administrator its virtual hosts.

        Raises:
            ProcessError: RabbitMQ does not take it.
        """
        vhosts, permissions = definitions.get("vhosts", []), definitions.get("permissions", [])
        assert isinstance(vhosts, Sequence)
        assert isinstance(permissions, Sequence)
        everything = {"user": ADMIN, "configure": ".*", "write": ".*", "read": ".*"}
        ours = [everything | {"vhost": vhost["name"]} for vhost in vhosts]
        document = dict(definitions) | {"permissions": [*permissions, *ours]}
        await self._ctl.run("import_definitions", text=json.dumps(document))

    @asynccontextmanager
    async def alarm(self, resource: Resource) -> AsyncIterator[None]:
        """The alarm for memory or disk: while it lasts RabbitMQ reads nothing from publishers."""
        command, impossible, usual = _LIMITS[resource]
        await self.ctl(command, impossible)
        try:
            yield
        finally:
            await self.ctl(command, usual)


@asynccontextmanager
async def rabbitmq(
    folder: Path, definitions: Mapping[str, object] | None = None
) -> AsyncIterator[RabbitMQ]:
    """A node of RabbitMQ; it comes up in about 8 s and stops in one.

    Raises:
        ProcessError: RabbitMQ is not installed, did not come up or refuses the definitions.
    """
    async with rabbitmq_cluster(folder, 1) as (broker,):
        if definitions is not None:
            await broker.import_definitions(definitions)
        yield broker


@asynccontextmanager
async def rabbitmq_cluster(folder: Path, size: int = 3) -> AsyncIterator[tuple[RabbitMQ, ...]]:
    """Nodes of RabbitMQ that are one cluster; three come up in about 15 s.

    Raises:
        ProcessError: RabbitMQ is not installed or did not come up.
    """
    scripts = find("rabbitmq-server", "RabbitMQ 3.10 or newer", "/usr/lib/rabbitmq/bin").parent
    epmd = find("epmd", "Erlang, which RabbitMQ runs on,")
    folder = _made(folder)
    _secret(folder / ".erlang.cookie")
    port, *ports = free_ports(1 + 2 * size)
    shared = environment(
        HOME=str(folder),
        ERL_EPMD_ADDRESS="127.0.0.1",
        ERL_EPMD_PORT=str(port),
        RABBITMQ_CONF_ENV_FILE=os.devnull,  # not the settings of the machine's own RabbitMQ
        RABBITMQ_CTL_ERL_ARGS="-start_epmd false",
    )
    # Erlang's port mapper: one that a node starts for itself would outlive it.
    names = Program([*bound_to_us("KILL"), epmd], folder / "epmd", shared)
    brokers = [
        _node(folder / f"rabbit{number}", scripts, (ports.pop(), ports.pop()), shared)
        for number in range(1, size + 1)
    ]
    try:
        await names.start(lambda: accepts(port))
        await brokers[0].start()
        await asyncio.gather(*(broker.start() for broker in brokers[1:]))
        yield tuple(brokers)
    finally:
        try:
            await asyncio.gather(*(broker.stop() for broker in brokers))
        finally:
            await names.end(signal.SIGKILL)


def _node(home: Path, scripts: Path, ports: tuple[int, int], shared: Mapping[str, str]) -> RabbitMQ:
    """A node, not started, its files in ``home``."""
    name = f"{home.name}@localhost"
    port, port_for_nodes = ports
    password = _secret(home.parent / "password")
    home.mkdir(mode=0o700, exist_ok=True)
    settings, plugins = home / "rabbitmq.conf", home / "enabled_plugins"
    settings.write_text(_settings(name, port, password))
    plugins.write_text("[].\n")
    own = {
        **shared,
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_DIST_PORT": str(port_for_nodes),
        "RABBITMQ_CONFIG_FILE": str(settings),
        "RABBITMQ_CONFIG_FILES": str(home / "conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_MNESIA_BASE": str(home),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_LOGS": "-",  # all that it logs goes to its output
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        # The script becomes the server; otherwise it waits for it, and a SIGKILL hits it alone.
        "RUNNING_UNDER_SYSTEMD": "true",
    }
    # These scripts run as anybody; those that Debian has on the PATH change to a user of its own.
    program = Program([*bound_to_us("KILL"), scripts / "rabbitmq-server"], home, own)
    ctl = Command((scripts / "rabbitmqctl", "--quiet"), own, home)
    return RabbitMQ(name, port, password, program, ctl)


def _settings(name: str, port: int, password: str) -> str:
    first = "rabbit1@localhost"
    lines = {
        "listeners.tcp.1": f"127.0.0.1:{port}",
        "default_user": ADMIN,
        "default_pass": password,
        "max_message_size": str(topology.MAX_MESSAGE),
    }
    if name != first:
        # A node looks for the others at its first start only.
        lines["cluster_formation.peer_discovery_backend"] = "classic_config"
        lines["cluster_formation.classic_config.nodes.1"] = first
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


@dataclasses.dataclass(frozen=True)
class PostgreSQL:
    """A PostgreSQL and one of its databases."""

    port: int
    """The port on 127.0.0.1, the same after every start."""
    password: str
    """The superuser's; the account is ``ADMIN``."""
    database: str
    """The database that ``url``, ``psql`` and ``drop`` mean."""
    _program: Program
    _programs: Path

    @property
    def url(self) -> str:
        """The address of the database for the superuser."""
        return f"postgresql://{ADMIN}:{self.password}@127.0.0.1:{self.port}/{self.database}"

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._program.running

    async def start(self) -> None:
        """Start it with the data that it has; it is up when it has recovered them.

        Raises:
            ProcessError: it did not come up.
        """
        await self._program.start(self._is_ready)

    async def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, files are closed."""
        await self._program.end(signal.SIGINT)

    async def stop_at_once(self) -> None:
        """Immediate shutdown: nothing is finished, the next start has to recover."""
        await self._program.end(signal.SIGQUIT)

    async def psql(self, statements: str) -> str:
        """Run SQL with ``psql``; gives the rows, one a line, their columns separated by ``|``.

        Raises:
            ProcessError: PostgreSQL refuses it.
        """
        options = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-")
        return (await self._command("psql", *options).run(text=statements)).removesuffix("\n")

    async def create(self, database: str) -> "PostgreSQL":
        """A new, empty database of the same server.

        Raises:
            ProcessError: there is one of this name.
        """
        await self._elsewhere("postgres").psql(f'CREATE DATABASE "{database}"')
        return self._elsewhere(database)

    async def drop(self) -> None:
        """Drop this database, closing all connections to it."""
        await self._elsewhere("postgres").psql(f'DROP DATABASE "{self.database}" WITH (FORCE)')

    def _elsewhere(self, database: str) -> "PostgreSQL":
        return dataclasses.replace(self, database=database)

    async def _is_ready(self) -> bool:
        try:
            await self._command("pg_isready").run()
        except ProcessError:
            return False
        return True

    def _command(self, program: str, *options: str) -> Command:
        own = environment(
            PGHOST="127.0.0.1",
            PGPORT=str(self.port),
            PGUSER=ADMIN,
            PGPASSWORD=self.password,
            PGDATABASE=self.database,
        )
        return Command((self._programs / program, *options), own, Path("/"))


@asynccontextmanager
async def postgresql(folder: Path, database: str = "hub") -> AsyncIterator[PostgreSQL]:
    """A PostgreSQL with a database, empty at first; it comes up in about 3 s.

    It keeps what it commits: ``fsync`` and ``synchronous_commit`` are on.

    Raises:
        ProcessError: PostgreSQL is not installed or did not come up.
    """
    initdb = find("initdb", "PostgreSQL 13 or newer", "/usr/lib/postgresql/*/bin")
    folder = _made(folder)
    data = folder / "postgresql"
    password = _secret(folder / "password")
    before = _not_as_root(folder)
    new = not (data / "PG_VERSION").exists()
    if new:
        _give_away(data, folder / "password")
        await _initialise(data, folder / "password", [*before, initdb])
    (port,) = free_ports(1)
    words: list[str | Path] = [
        *before,
        *bound_to_us("QUIT"),
        initdb.with_name("postgres"),
        "-D",
        data,
    ]
    words += ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    program = Program(words, data, environment())
    server = PostgreSQL(port, password, database, program, initdb.parent)
    try:
        await server.start()
        if new:
            await server.create(database)
        yield server
    finally:
        await server.stop()


def _made(folder: Path) -> Path:
    """The folder, which is there, by a path that holds anywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


def _give_away(data: Path, password: Path) -> None:
    """A folder for the data and what its first program reads, for whom PostgreSQL runs as."""
    data.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(data, "postgres")
        shutil.chown(password, "postgres")


async def _initialise(data: Path, password: Path, initdb: Sequence[str | Path]) -> None:
    options = ("--encoding=UTF8", "--no-locale", "--no-sync", "--auth=scram-sha-256")
    command = Command((*initdb, "-D", data, *options), environment(), data)
    await command.run(f"--username={ADMIN}", f"--pwfile={password}")


def _not_as_root(folder: Path) -> list[str]:
    """The words before a program of PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise ProcessError(
            "PostgreSQL does not run as root, and there is no user postgres that could run it: "
            "do this as another user."
        ) from None
    setpriv = find("setpriv", "PostgreSQL does not run as root, and util-linux")
    words = [str(setpriv), "--reuid=postgres", "--regid=postgres", "--init-groups"]
    if not all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents)):
        # A folder in root's home: root lends its right to pass, nothing is opened to others.
        words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return words


def _secret(file: Path) -> str:
    """The secret in a file that only its owner can read; drawn at the first time."""
    if not file.exists():
        file.touch(0o600)
        file.write_text(secrets.token_hex(16))
        file.chmod(0o400)  # Erlang wants its cookie so
    return file.read_text()
