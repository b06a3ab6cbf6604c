"""Processes that are measured or that measure: started, waited for, weighed, ended."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def process(
    *arguments: str, quiet: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that is ended with the block; a quiet one logs to nowhere."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if quiet else None,
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            started.terminate()
        await started.wait()


async def line(running: asyncio.subprocess.Process, what: str, seconds: float) -> str:
    """The next line that a process says.

    Raises:
        RuntimeError: it ended, or it said nothing in time.
    """
    assert running.stdout is not None
    try:
        async with asyncio.timeout(seconds):
            said = await running.stdout.readline()
    except TimeoutError:
        raise RuntimeError(f"{what}: nothing for {seconds:g} s") from None
    if not said:
        raise RuntimeError(f"{what}: the process ended with status {await running.wait()}")
    return said.decode().strip()


async def listening(host: str, port: int) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(90):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def resident_mb(pid: int) -> float:
    """Resident memory of a process (Linux), in units of 10^6 bytes."""
    return _status_mb(pid, "VmRSS")


def peak_mb(pid: int) -> float:
    """The most that was ever resident of a process (Linux), in units of 10^6 bytes."""
    return _status_mb(pid, "VmHWM")


def _status_mb(pid: int, field: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (value,) = (row.split()[1] for row in status.splitlines() if row.startswith(f"{field}:"))
    return int(value) * 1024 / 1e6
