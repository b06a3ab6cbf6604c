"""A connector's daemon as a process of its own, to be killed and measured."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.simulator.institution import Institution
from tests.simulator.waiting import until

ROOT = Path(__file__).parents[2]

_RUN = """
import sys
from pathlib import Path
from connectors.daemon import main
sys.exit(main(Path(sys.argv[1])))
"""


class Process:
    """The daemon of an institution; each start adds to the same log file."""

    def __init__(self, institution: Institution) -> None:
        self.institution = institution
        self.log = institution.path.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave nothing running, also after a test that failed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUN, str(self.institution.path)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )

    def kill(self) -> None:
        """What a power cut does to a process: nothing of it runs any more."""
        self._running.kill()
        assert self._running.wait() == -signal.SIGKILL, self.log.read_text()

    async def stop(self) -> int:
        """Ask it to stop; gives its exit status."""
        self._running.send_signal(signal.SIGTERM)
        return await self.end()

    async def end(self) -> int:
        """Wait until it ends, while the hub in this process goes on; gives its exit status."""
        await until(lambda: self._running.poll() is not None, "the daemon ends")
        return self._running.returncode

    def events(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def memory(self) -> float:
        """The most that was resident, in MiB."""
        status = Path(f"/proc/{self._running.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process
