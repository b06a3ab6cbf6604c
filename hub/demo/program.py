"""Programs of a server: the server itself, which can be killed and started again, and commands.

On Linux such a server also ends when the program that started it is killed.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from hub.demo.processes import ProcessError

PATIENCE: Final = 90
"""Seconds that a server has to come up, and to end after it was asked to."""

POLL: Final = 0.02
"""Seconds between two looks at a server that comes up or ends."""

Words: TypeAlias = Sequence[str | Path]
"""A program and its arguments."""

Check: TypeAlias = Callable[[], Awaitable[bool]]

_FOREIGN: Final = ("RABBITMQ_", "ERL_", "PG", "NOTIFY_SOCKET")
"""What begins so in the environment is meant for another server."""

PORTS = range(10_000, 32_768)
"""Ports that no system gives to outgoing connections: nobody takes one while its server is down,
and a client that tries again and again does not connect to itself."""


class Program:
    """A server program, the leader of its own group. Outlives event loops, not its thread."""

    def __init__(self, words: Words, folder: Path, environment: Mapping[str, str]) -> None:
        """It works in ``folder``; what it says is appended to ``<folder>.log``."""
        self._words = words
        self._folder = folder
        self._environment = environment
        self._log = folder.with_name(f"{folder.name}.log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    async def start(self, ready: Check) -> None:
        """Start it and wait until it is ready; where it does not get so far, it is ended.

        Raises:
            ProcessError: it ended or was not ready in time; the sentence has its last words.
        """
        assert not self.running, "it runs already"
        self._launch()
        try:
            if not await _until(lambda: self._has_ended_or(ready)) or not self.running:
                raise ProcessError(f"{self._folder.name} did not start: {self._last_words()}")
        except BaseException:
            await self.end(signal.SIGKILL)
            raise

    async def end(self, means: signal.Signals) -> None:
        """Send it a signal and wait for its end, which comes by force after ``PATIENCE``."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.send_signal(means)
            await _until(lambda: _has_ended(process))
        finally:
            # Also when nobody waits any longer, and for what it left running in its group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _launch(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # Popen, because a process of asyncio's belongs to one event loop.
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the words are ours
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )

    async def _has_ended_or(self, ready: Check) -> bool:
        return not self.running or await ready()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        return " / ".join(line.strip() for line in lines[-8:] if line.strip()) or "it said nothing"


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a server, which runs to its end."""

    words: tuple[str | Path, ...]
    environment: Mapping[str, str]
    folder: Path

    async def run(self, *more: str | Path, text: str = "") -> str:
        """Run it with more words and ``text`` as its input; gives what it prints.

        Raises:
            ProcessError: it failed; the sentence has what it said.
        """
        words = (*self.words, *more)
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
        )
        try:
            output, errors = await process.communicate(text.encode())
        finally:
            if process.returncode is None:
                process.terminate()  # not kill: an initdb takes away what it began
                await process.wait()
        if process.returncode != 0:
            said = (errors or output).decode(errors="replace").strip()
            raise ProcessError(f"`{' '.join(map(str, words))}` failed: {said}")
        return output.decode()


def bound_to_us(parting: str) -> list[str]:
    """The words before a program that gets a signal when our thread dies; only Linux has them.

    They stand last: a change of user would undo them (prctl(2), PR_SET_PDEATHSIG).
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, f"--pdeathsig={parting}"] if setpriv else []


def find(program: str, what: str, places: str = "") -> Path:
    """A program: the one of the newest version in ``places`` (a pattern), or on the PATH.

    Raises:
        ProcessError: it is nowhere; the sentence says how ``what`` is installed.
    """
    found = sorted(Path("/").glob(f"{places[1:]}/{program}"), key=_version) if places else []
    if found:
        return found[-1]
    if path := shutil.which(program):
        return Path(path)
    where = f"neither in {places} nor on the PATH" if places else "not on the PATH"
    raise ProcessError(
        f"{what} is missing: {program} is {where}. "
        "Install it (`sh deploy/setup.sh rabbitmq postgresql` does so on Debian and Ubuntu)."
    )


def _version(path: Path) -> int:
    """The 15 of ``/usr/lib/postgresql/15/bin/initdb``."""
    folder = path.parts[-3]
    return int(folder) if folder.isdecimal() else 0


def environment(**ours: str) -> dict[str, str]:
    """The environment of a private server or its commands."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return inherited | ours


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens at.

    Raises:
        ProcessError: there are not so many.
    """
    found: list[int] = []
    start = secrets.randbelow(len(PORTS))
    for port in itertools.chain(PORTS[start:], PORTS[:start]):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise ProcessError(f"{count} free ports of 127.0.0.1 are needed, and only {len(found)} found.")


async def accepts(port: int) -> bool:
    """Whether somebody listens at a port of 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


async def _until(condition: Check) -> bool:
    """Whether something came true within ``PATIENCE``."""
    deadline = time.monotonic() + PATIENCE
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True
