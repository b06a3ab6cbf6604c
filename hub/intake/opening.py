"""What was handed in, opened at the door and perhaps once more where it is recorded. Pure."""

from collections.abc import Callable
from typing import Generic, TypeVar

from schemas.directory import Directory
from schemas.refusal import Refused

T = TypeVar("T")


class Opening(Generic[T]):
    """Signed bytes, and what they are or why they are nothing."""

    def __init__(
        self, raw: bytes, directory: Directory, read: Callable[[bytes, Directory], T]
    ) -> None:
        """Read and verify by who is who at the door."""
        self.raw = raw
        self._directory = directory
        self._read = read
        self.found = self._look()

    def look_again(self, directory: Directory) -> None:
        """By who is who when it is recorded: another hub may have learned the key in between."""
        unknown = isinstance(self.found, Refused) and self.found.code == "unknown-key"
        if unknown and directory is not self._directory:
            self._directory = directory
            self.found = self._look()

    def _look(self) -> T | Refused:
        try:
            return self._read(self.raw, self._directory)
        except Refused as refusal:
            return refusal
