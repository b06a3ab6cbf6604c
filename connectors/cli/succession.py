"""New keys in place of old ones: they stand beside them until the hub has taken them.

So the old keys are the ones that count until the new ones do, wherever a crash falls.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors import files, keys
from connectors.cli.outcome import NotSo
from connectors.config import Config
from connectors.keys import Keyring


def next_keys(config: Config) -> Path:
    """The folder of keys that are not in use yet."""
    return config.keys.with_name("keys-next")


def made(folder: Path) -> Keyring:
    """The keys in a folder, new ones where there are none.

    Raises:
        KeysError: those that are there cannot be used.
    """
    return keys.load(folder) if folder.exists() else keys.make(folder)


def take_over(config: Config) -> None:
    """Let the next keys take the place of the present ones, which are kept beside them.

    A crash in between leaves the next keys and none in use; doing it again finishes it.

    Raises:
        KeysError: the present keys cannot be read.
    """
    folder = next_keys(config)
    if not folder.exists():
        return
    if config.keys.exists():
        keys.set_aside(config.keys)
    folder.rename(config.keys)
    files.sync_folder(config.keys.parent)


def daemon_runs(config: Config) -> bool:
    """Whether a daemon holds the store's lock."""
    try:
        with _lock(config).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


@contextmanager
def daemon_kept_out(config: Config) -> Iterator[None]:
    """Keep the daemon from starting: it reads its keys only then.

    Raises:
        NotSo: it runs.
    """
    descriptor = os.open(_lock(config), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise NotSo("The daemon runs; stop it first, it uses the present keys.") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(config: Config) -> Path:
    return config.store.with_name("lock")
