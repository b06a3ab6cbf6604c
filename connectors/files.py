"""Private files that survive a crash: whole or not there, and readable by their owner alone."""

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder of mode 0700, durably, with those above it."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)


def write(path: Path, content: bytes) -> None:
    """Put content under a name, durably; it takes the place of an earlier file at once.

    A crash leaves the earlier file or the new one, and perhaps a dot file, which nobody reads.

    Raises:
        OSError: the disk is full or not to be written; then the earlier file is still there.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - its mode is set before its content
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it a rename can be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
