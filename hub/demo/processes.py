"""Processes: the real programs of hub and connectors, none of which outlives the demo.

Each is the leader of a group of its own, so that Ctrl-C in the terminal reaches the demo alone,
which then stops the connectors before the hub.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")

Heard: TypeAlias = Callable[[str, bytes], None]
"""Called with a daemon's name and one line of its log."""

PATIENCE: Final = 20
"""Seconds that a process has to end after it was asked to."""

_WORDS: Final = 4
_LINES: Final = 4
"""How much of a command that failed, and of what it said, stands in the error."""

MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes of the longest line of a daemon's log that is read."""


async def together(*works: Coroutine[None, None, T]) -> list[T]:
    """Do several things at once; when one fails or all are cancelled, none of them goes on."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class ProcessError(Exception):
    """A program did not do what it was started for; the sentence says which and why."""


class Processes:
    """The running programs. As an async context manager it stops them all at its end."""

    def __init__(self, logs: Path, heard: Heard) -> None:
        """``logs`` is the folder for what the daemons say; ``heard`` gets every line of it."""
        self._logs = logs
        self._heard = heard
        self._daemons: dict[str, asyncio.subprocess.Process] = {}
        self._commands: set[asyncio.subprocess.Process] = set()
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._last_words: dict[str, bytes] = {}
        self._fallen = asyncio.Event()
        self._at_once = asyncio.Semaphore(os.cpu_count() or 1)

    async def __aenter__(self) -> "Processes":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        daemons = [*self._daemons.values()]
        for group in ([*self._commands], daemons[1:], daemons[:1]):
            await asyncio.gather(*map(_stop, group))
        await asyncio.gather(*self._readers.values(), return_exceptions=True)

    async def start(self, name: str, program: str, *arguments: str | Path) -> None:
        """Start a daemon; the first one started is the last one stopped."""
        process = await _spawn(program, arguments, output=asyncio.subprocess.PIPE)
        self._daemons[name] = process
        self._readers[name] = reader = asyncio.create_task(self._read(name, process))
        reader.add_done_callback(lambda _: self._fallen.set())

    async def run(self, program: str, *arguments: str | Path, may_say_no: bool = False) -> str:
        """Run a command to its end and give what it printed.

        Args:
            program: the command's name.
            arguments: its words.
            may_say_no: whether exit status 1, "it is not so", is an answer if words come with it.

        Raises:
            ProcessError: it ended otherwise than done.
        """
        async with self._at_once:
            process = await _spawn(program, arguments, errors=asyncio.subprocess.PIPE)
            self._commands.add(process)
            try:
                output, errors = await process.communicate()
            finally:
                if process.returncode is not None:
                    self._commands.discard(process)
        if process.returncode == 0 or (may_say_no and process.returncode == 1 and output):
            return output.decode()
        words = " ".join(map(str, arguments[:_WORDS]))
        said = "\n".join(errors.decode(errors="replace").splitlines()[-_LINES:])
        raise ProcessError(f"`{program} {words} …` ended with {process.returncode}: {said}")

    async def guard(self, work: Coroutine[None, None, T]) -> T:
        """Do something for which every daemon has to stay up.

        Raises:
            ProcessError: a daemon ended meanwhile.
        """
        task = asyncio.create_task(work)
        fallen = asyncio.create_task(self._fallen.wait())
        try:
            await asyncio.wait({task, fallen}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            task.cancel()
            fallen.cancel()
            await asyncio.wait({task, fallen})
        name = next(name for name, reader in self._readers.items() if reader.done())
        words = self._last_words.get(name, b"nothing").decode(errors="replace").strip()
        raise ProcessError(f"{name} ended by itself. It said last: {words}")

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with (self._logs / f"{name}.log").open("ab") as log:
            async for line in process.stdout:
                log.write(line)
                log.flush()
                self._last_words[name] = line
                self._heard(name, line)


async def _spawn(
    program: str,
    arguments: tuple[str | Path, ...],
    output: int = asyncio.subprocess.PIPE,
    errors: int = asyncio.subprocess.STDOUT,
) -> asyncio.subprocess.Process:
    # Settings in the environment are meant for another hub than the demo's.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NHRI_")
    }
    return await asyncio.create_subprocess_exec(
        executable(program),
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        limit=MAX_LINE,
        env=environment,
        start_new_session=True,
    )


def executable(program: str) -> Path:
    """The program of the same installation as this one."""
    beside = Path(sys.executable).parent / program
    found = beside if beside.exists() else shutil.which(program)
    if found is None:
        raise ProcessError(f"{program} is not installed beside {sys.executable}.")
    return Path(found)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End a process and its whole group: politely, and after ``PATIENCE`` by force."""
    for means in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, means)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), PATIENCE)
    # What its children left running has the same group, which is there as long as one of them is.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
