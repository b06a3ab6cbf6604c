"""Backup and restore of a hub: its database, the log's key where it is asked for, and what is lost.

Where nobody can bring back the content of an entry, an operator decides to go on without it, by the
file ``lost`` beside the settings, which is ``restored`` renamed. At the next start the entries that
lack their content are written into it, once: whatever goes missing later is damage.
"""

import contextlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import structlog

from hub import backup
from hub import settings as configuration
from hub.backup import Backup, BackupError, Manifest, Progress
from hub.ledger.queries import Queries
from hub.ledger.sequence import LogKey
from hub.ledger.witnesses import lacking
from hub.settings import Settings, StartError
from hub.store import copies, database
from schemas.encoding import format_time

_LOST: Final = "# Entries whose content was lost with a database and given up; one number a line."

_LINE: Final = re.compile(r"(?P<index>[0-9]+)(?P<erased> erased)?")

log = structlog.get_logger("hub")


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


class GivenUp(msgspec.Struct, frozen=True):
    """Entries that were given up; ``content`` is without those whose message was erased anyway."""

    entries: frozenset[int]
    content: frozenset[int]


async def given_up(settings: Settings, queries: Queries) -> GivenUp:
    """The entries whose content was given up as lost.

    A crash before the list is in its place: it is made at the next start.

    Raises:
        StartError: the list cannot be read or written.
    """
    try:
        text = settings.lost.read_text("ascii") if settings.lost.exists() else None
        if text == "":
            text = await _list_missing(settings.lost, queries)
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The list of what was lost {settings.lost}: {error}.") from None
    lines = [line for line in (text or "").splitlines() if not line.startswith("#")]
    found = {line: _LINE.fullmatch(line) for line in lines}
    if wrong := next((line for line, matched in found.items() if not matched), None):
        raise StartError(f"{settings.lost} has the line {wrong!r}, which is no entry's number.")
    known = {int(matched["index"]): matched["erased"] for matched in found.values() if matched}
    content = frozenset(index for index, erased in known.items() if not erased)
    return GivenUp(frozenset(known), content)


async def wait_where_content_lacks(
    settings: Settings, queries: Queries, given_up: frozenset[int]
) -> None:
    """Leave the file ``restored`` where another hub has begun to have this log made whole.

    Positions of messages that are not back yet would be given again.

    Raises:
        StartError: the file cannot be written.
    """
    missing = await lacking(queries, given_up)
    if missing and not settings.restored.exists():
        log.warning("content.missing", first=min(missing))
        try:
            configuration.write_new(settings.restored, b"", 0o600)
        except OSError as error:
            raise StartError(
                f"The file {settings.restored} cannot be written: {error.strerror}."
            ) from None


async def _list_missing(path: Path, queries: Queries) -> str:
    """What lacks its content now; of a message that was erased only its positions are lost."""
    missing, after = dict[int, int | None](), -1
    while page := await queries.missing(after):
        missing |= page
        after = max(page)
    lines = [
        f"{index}" if erased is None else f"{index} erased" for index, erased in missing.items()
    ]
    text = "".join(f"{line}\n" for line in (_LOST, *lines))
    draft = path.with_name(f".{path.name}")
    draft.unlink(missing_ok=True)
    configuration.write_new(draft, text.encode("ascii"), 0o600)
    draft.replace(path)
    log.warning("content.given_up", entries=len(missing))
    return text
