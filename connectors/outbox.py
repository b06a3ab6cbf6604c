"""The outbox: signed messages as files, until the store has the hub's answer.

The programs that write a message (``send``, ``respond``) only put files here; the daemon alone
reads and removes them. So there is one writer of the database, and a message outlives every crash.
"""

import os
from pathlib import Path

from connectors import files

SUFFIX = ".jose"

_ASIDE = "unreadable"


class Outbox:
    """A folder of envelopes, one file a message, named by its id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, envelope: bytes, message_id: str) -> Path:
        """Keep an envelope; once this returns, it survives a crash and a power cut.

        The same envelope again changes nothing.

        Raises:
            FileExistsError: the id already stands for another envelope.
            OSError: the disk is full or not to be written; then nothing was kept.
        """
        files.make_folder(self.folder)
        path = self._path(message_id)
        if path.exists() and path.read_bytes() != envelope:
            raise FileExistsError(f"{message_id} waits in the outbox with another content.")
        # A crash in here leaves the whole message or none; nothing was promised to anyone yet.
        files.write(path, envelope)
        return path

    def pending(self) -> list[str]:
        """The ids that wait, the oldest first (a UUIDv7 sorts by its time)."""
        try:
            names = [entry.name for entry in os.scandir(self.folder)]
        except FileNotFoundError:
            return []
        return sorted(
            name.removesuffix(SUFFIX)
            for name in names
            if name.endswith(SUFFIX) and not name.startswith(".")
        )

    def read(self, message_id: str) -> bytes:
        """The envelope of an id that waits."""
        return self._path(message_id).read_bytes()

    def remove(self, message_id: str) -> None:
        """Let go of a message whose answer the store has committed.

        Not made durable: a crash can bring the file back; the daemon then finds the answer in the
        store and removes it again.
        """
        self._path(message_id).unlink(missing_ok=True)

    def set_aside(self, message_id: str) -> Path:
        """Keep a file that is no message of this institution where a person can look at it."""
        folder = self.folder / _ASIDE
        files.make_folder(folder)
        return self._path(message_id).replace(folder / f"{message_id}{SUFFIX}")

    def _path(self, message_id: str) -> Path:
        return self.folder / f"{message_id}{SUFFIX}"
