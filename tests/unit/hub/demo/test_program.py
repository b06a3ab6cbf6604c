"""hub/demo/program.py: what concerns no server in particular."""

import os
import re
import select
import signal
import socket
from pathlib import Path

import pytest

from hub.demo import program
from hub.demo.processes import ProcessError
from hub.demo.program import Command, Program


async def at_once() -> bool:
    return True


async def never() -> bool:
    return False


def shell(script, folder) -> Program:
    return Program(["/bin/sh", "-c", script], folder, os.environ)


async def test_a_program_that_ends_while_it_starts_is_told_with_its_last_words(tmp_path):
    broken = shell("echo the disk is full; exit 3", tmp_path / "store")
    with pytest.raises(ProcessError, match="store did not start: the disk is full"):
        await broken.start(never)
    assert not broken.running


async def test_a_program_that_is_not_ready_in_time_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "PATIENCE", 0.1)
    slow = shell("exec sleep 60", tmp_path / "slow")
    with pytest.raises(ProcessError, match="slow did not start: it said nothing"):
        await slow.start(never)
    assert not slow.running


async def test_a_program_that_does_not_listen_is_ended_by_force(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "PATIENCE", 0.1)
    deaf = shell("trap '' TERM; while :; do sleep 60; done", tmp_path / "deaf")
    await deaf.start(at_once)
    await deaf.end(signal.SIGTERM)
    assert not deaf.running


async def test_a_program_takes_those_that_it_started_with_it(tmp_path):
    children: Path = tmp_path / "children"
    parent = shell(f"sleep 60 & echo $! > {children}; wait", tmp_path / "parent")

    def child_number() -> str:
        return children.read_text() if children.exists() else ""

    async def has_a_child() -> bool:
        return child_number().endswith("\n")

    await parent.start(has_a_child)
    child = os.pidfd_open(int(child_number()))
    try:
        await parent.end(signal.SIGKILL)
        assert ended(child)
    finally:
        os.close(child)


def ended(pidfd: int) -> bool:
    """Whether a process has ended within ten seconds; its pidfd is readable then."""
    readable, _, _ = select.select([pidfd], [], [], 10)
    return bool(readable)


async def test_a_program_that_has_ended_can_be_started_again(tmp_path):
    again = shell("echo started; exec sleep 60", tmp_path / "again")
    for _ in range(2):
        await again.start(at_once)
        assert again.running
        await again.end(signal.SIGKILL)
    await again.end(signal.SIGTERM)


async def test_a_failing_command_is_told_with_what_it_said(tmp_path):
    command = Command(("/bin/sh", "-c", 'echo "no $1" >&2; exit 2', "sh"), os.environ, tmp_path)
    with pytest.raises(ProcessError, match="failed: no room"):
        await command.run("room")


async def test_a_command_reads_and_prints(tmp_path):
    assert await Command(("/bin/cat",), os.environ, tmp_path).run(text="Салом") == "Салом"


def test_the_newest_version_is_found_and_fifteen_is_newer_than_nine(tmp_path):
    for version in ("9", "15", "common"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    found = program.find("initdb", "PostgreSQL", f"{tmp_path}/*/bin")
    assert found == tmp_path / "15" / "bin" / "initdb"


def test_otherwise_the_one_on_the_path_is_found(tmp_path, monkeypatch):
    (tmp_path / "initdb").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.find("initdb", "PostgreSQL", "/nowhere/*/bin") == tmp_path / "initdb"


def test_a_missing_program_is_told_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    sentence = (
        "PostgreSQL 13 or newer is missing: initdb is neither in /nowhere/*/bin nor on the PATH. "
        "Install it (`sh deploy/setup.sh rabbitmq postgresql` does so on Debian and Ubuntu)."
    )
    with pytest.raises(ProcessError, match=f"^{re.escape(sentence)}$"):
        program.find("initdb", "PostgreSQL 13 or newer", "/nowhere/*/bin")


def test_settings_for_another_server_are_not_inherited(monkeypatch):
    for name in ("RABBITMQ_NODENAME", "ERL_EPMD_PORT", "PGDATA", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "another's")
    ours = program.environment(PGPORT="1")
    assert "another's" not in ours.values()
    assert ours["PGPORT"] == "1"
    assert ours["PATH"] == os.environ["PATH"]


def test_free_ports_differ_and_nobody_listens_there():
    ports = program.free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_too_many_ports_are_refused():
    with pytest.raises(ProcessError, match="30000 free ports"):
        program.free_ports(30_000)
