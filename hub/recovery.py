"""Backup and restore of a hub: its database, and the log's key where it is asked for."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path

from hub import backup
from hub import settings as configuration
from hub.backup import Backup, BackupError, Manifest, Progress
from hub.ledger.sequence import LogKey
from hub.settings import Settings
from hub.store import copies, database
from schemas.encoding import format_time


async def back_up(settings: Settings, path: Path, told: Progress, *, with_key: bool) -> Manifest:
    """Write a backup, also while hubs run, and read it all again.

    Raises:
        StartError, BackupError: it cannot be made; then there is no file.
    """
    key = LogKey(configuration.log_vkey(settings), configuration.log_key(settings))
    pem = settings.log_key_path.read_bytes() if with_key else None
    time = format_time(datetime.now(UTC))
    with backup.new_file(path) as file:
        with told("Writing") as advance:
            await database.glance(
                settings.store.url,
                Path(settings.folder),
                lambda rows: backup.write(file, copies.snapshot(rows), key, time, pem, advance),
            )
        with told("Reading it again") as advance:
            made = Backup(file, key.vkey)
            made.check(advance)
    return made.manifest


async def restore(settings: Settings, path: Path, told: Progress) -> Manifest:
    """Fill an empty database from a backup, once all of that is verified.

    The hub that is started next waits for the witnesses before it signs anything.

    Raises:
        StartError, BackupError: it cannot be done; then nothing was changed.
    """
    with backup.opened(path) as file, contextlib.ExitStack() as undo:
        if not settings.log_key_path.exists():
            pem = backup.log_key(file)
            if pem is None:
                raise BackupError(
                    f"The log's key {settings.log_key_path} is missing, and it is not in this "
                    "backup; bring it from where you keep it."
                )
            configuration.write_new(settings.log_key_path, pem, 0o600)
            undo.callback(settings.log_key_path.unlink)
        found = Backup(file, configuration.log_vkey(settings))
        with told("Verifying") as advance:
            found.check(advance)
        if not settings.restored.exists():
            # Before the rows: a hub must never start upon them without it.
            configuration.write_new(settings.restored, b"", 0o600)
            undo.callback(settings.restored.unlink)
        with told("Restoring") as advance:
            await database.fill(
                settings.store.url,
                Path(settings.folder),
                lambda rows: copies.load(rows, found, advance),
            )
        undo.pop_all()
    return found.manifest
