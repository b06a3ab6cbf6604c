"""A connector's backup: settings, keys, outbox and store in one file, sealed with a passphrase.

A tar, encrypted in pieces by the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár, 2015)
over ChaCha20-Poly1305, under a key that scrypt (RFC 7914) makes of the passphrase. A piece that is
changed, left out, moved or cut off is noticed when it is read, and nothing is used before all of
them were read.
"""

import io
import os
import secrets
import shutil
import sqlite3
import tarfile
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from connectors import config as configs
from connectors import files, keys
from connectors.config import Config, ConfigError
from connectors.keys import KeysError
from connectors.store import Reader, StoreError
from connectors.witness import BOUND

MAGIC: Final = b"nhri-connector backup v1\n"
SETTINGS: Final = PurePosixPath("connector.toml")
STATE: Final = PurePosixPath("state")

MIN_PASSPHRASE: Final = 12
"""Characters."""

_SALT: Final = 16
_PIECE: Final = 64 * 1024
_TAG: Final = 16

# Of the store a copy of one moment is taken instead; the lock is the daemon's.
_NOT_AS_THEY_ARE: Final = frozenset(
    {"lock", "store.sqlite", "store.sqlite-wal", "store.sqlite-shm"}
)


class BackupError(Exception):
    """A backup cannot be made, or is not to be used; one sentence that says what to do."""


class _Sealer(io.RawIOBase):
    """Takes bytes and writes sealed pieces; the last one is marked, and may be empty."""

    def __init__(self, into: IO[bytes], passphrase: str) -> None:
        salt = secrets.token_bytes(_SALT)
        into.write(MAGIC + salt)
        self._into = into
        self._cipher = _cipher(passphrase, salt)
        self._waiting = bytearray()
        self._number = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]  # a tar writes nothing else
        self._waiting += data
        while len(self._waiting) > _PIECE:
            self._seal(bytes(self._waiting[:_PIECE]), last=False)
            del self._waiting[:_PIECE]
        return len(data)

    def finish(self) -> None:
        self._seal(bytes(self._waiting), last=True)

    def _seal(self, piece: bytes, *, last: bool) -> None:
        self._into.write(self._cipher.encrypt(_nonce(self._number, last=last), piece, MAGIC))
        self._number += 1


class _Opened(io.RawIOBase):
    """The bytes in sealed pieces, each given only after it was verified."""

    def __init__(self, source: IO[bytes], passphrase: str) -> None:
        if source.read(len(MAGIC)) != MAGIC:
            raise BackupError("The file is no backup of a connector, or one of a newer version.")
        salt = source.read(_SALT)
        self._source = source
        self._cipher = _cipher(passphrase, salt)
        self._next = source.read(_PIECE + _TAG)
        self._number = 0
        self._waiting = b""
        self.ended = False

    def read(self, size: int = -1) -> bytes:
        while not self.ended and (size < 0 or len(self._waiting) < size):
            self._waiting += self._piece()
        end = len(self._waiting) if size < 0 else size
        given, self._waiting = self._waiting[:end], self._waiting[end:]
        return given

    def _piece(self) -> bytes:
        sealed, self._next = self._next, self._source.read(_PIECE + _TAG)
        self.ended = not self._next
        try:
            piece = self._cipher.decrypt(_nonce(self._number, last=self.ended), sealed, MAGIC)
        except InvalidTag:
            if self._number == 0:
                raise BackupError("The passphrase is another, or the file is damaged.") from None
            raise BackupError("The backup is damaged or cut off; take another one.") from None
        self._number += 1
        return piece


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _cipher(passphrase: str, salt: bytes) -> ChaCha20Poly1305:
    # The same letters can be typed as other code points on another keyboard.
    typed = unicodedata.normalize("NFC", passphrase).encode()
    # 64 MiB for a moment: a connector's machine has 512.
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=2**16, r=8, p=1).derive(typed))


def write(path: Path, settings: Path, config: Config, passphrase: str) -> int:
    """Write a backup, while the daemon runs or not, and read it all again.

    Returns:
        How many files are in it.

    Raises:
        BackupError: it cannot be made; then there is no file.
        StoreError: the store is not there, foreign or damaged.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BackupError(f"{path} is there already; it is not overwritten.") from None
    except OSError as error:
        raise BackupError(f"{path} cannot be made: {error.strerror}.") from None
    try:
        with _writing(), os.fdopen(descriptor, "w+b") as file:
            _pack(file, settings, config, passphrase)
            file.flush()
            os.fsync(descriptor)
            file.seek(0)
            return sum(1 for _ in _members(file, passphrase))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackupError(f"The backup cannot be written: {error.strerror}.") from None


def _pack(file: IO[bytes], settings: Path, config: Config, passphrase: str) -> None:
    sealer = _Sealer(file, passphrase)
    with tarfile.open(fileobj=sealer, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        tar.add(settings, str(SETTINGS))
        # The outbox before the store: a message that moves meanwhile is in both, never in neither.
        for found in sorted(config.state.rglob("*")):
            name = found.relative_to(config.state)
            if found.is_file() and name.as_posix() not in _NOT_AS_THEY_ARE and not _draft(name):
                _add(tar, found, STATE / name)
        with _store_copy(config.store) as copy:
            tar.add(copy, str(STATE / config.store.name))
    sealer.finish()


def _draft(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _add(tar: tarfile.TarFile, found: Path, name: PurePosixPath) -> None:
    """Add a file; the daemon may have taken it out of the outbox since it was listed."""
    try:
        data = found.read_bytes()
    except FileNotFoundError:
        return
    member = tarfile.TarInfo(str(name))
    member.size, member.mode = len(data), 0o600
    tar.addfile(member, io.BytesIO(data))


@contextmanager
def _store_copy(store: Path) -> Iterator[Path]:
    """A copy of the store as of one moment, beside it, whatever the daemon writes."""
    Reader.open(store).close()  # it is ours, or this raises
    copy = store.with_name(".store.backup")
    copy.unlink(missing_ok=True)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            if target.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise StoreError(f"{store} is damaged: there is nothing sound to keep.")
            # One file: the restored store makes its own write-ahead log.
            target.execute("PRAGMA journal_mode = DELETE")
        yield copy
    except sqlite3.Error as error:
        raise StoreError(f"{store}: {error}.") from error
    finally:
        copy.unlink()


def _members(file: IO[bytes], passphrase: str) -> Iterator[tuple[PurePosixPath, IO[bytes]]]:
    """The files in a backup, one after the other; complete once the last one was given."""
    opened = _Opened(file, passphrase)
    try:
        with tarfile.open(fileobj=opened, mode="r|") as tar:
            for member in tar:
                name, data = PurePosixPath(member.name), tar.extractfile(member)
                ours = name == SETTINGS or (STATE in name.parents and ".." not in name.parts)
                if data is None or not ours:
                    raise BackupError(f"The backup holds {member.name!r}, which has no place.")
                yield name, data
    except tarfile.TarError as error:
        raise BackupError(f"The backup cannot be read ({error}); take another one.") from None
    while not opened.ended:  # what pads the tar is verified as well
        opened.read(_PIECE)


def restore(path: Path, settings: Path, passphrase: str) -> Config:
    """Bring settings and state back, all of it or nothing.

    The settings are written to ``settings`` where there are none; those that are there stay, and
    must be of the same institution and log. What is restored witnesses nothing until it has a new
    key: the file that binds keys and store is another than the store knows (``witness.bind``).

    Raises:
        BackupError: it cannot be done; nothing was changed.
    """
    settings = settings.resolve()
    draft, kept = (settings.with_name(f".{settings.name}.{end}") for end in ("state", "restored"))
    try:
        with _writing():
            _unpack(path, draft, kept, passphrase)
            # Beside the settings that are to be: the paths in it are relative to that place.
            config = configs.load(settings if settings.exists() else kept)
            _check(draft, config)
            _put_in_place(draft, config.state)
            # A crash before this line: `restore` finds the state there, and says so.
            if not settings.exists():
                kept.rename(settings)
                files.sync_folder(settings.parent)
    except (ConfigError, KeysError) as error:
        raise BackupError(f"What the backup holds cannot be used: {error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        kept.unlink(missing_ok=True)
    return config


def _put_in_place(draft: Path, state: Path) -> None:
    if state.exists() and any(state.iterdir()):
        raise BackupError(
            f"There is something in {state} already; move it away, nothing is restored over it."
        )
    bound = draft / "keys" / BOUND
    if not bound.exists():  # it had never run before the backup; whether it did since, who knows
        files.write(bound, b"Restored from a backup.\n")
    files.make_folder(state.parent)
    if state.exists():
        state.rmdir()
    shutil.move(draft, state)
    files.sync_folder(state.parent)


def _unpack(path: Path, draft: Path, kept: Path, passphrase: str) -> None:
    """Write the state into one folder, and the settings to a file."""
    shutil.rmtree(draft, ignore_errors=True)
    kept.unlink(missing_ok=True)
    files.make_folder(draft)
    try:
        source = path.open("rb")
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}.") from None
    with source:
        for name, data in _members(source, passphrase):
            target = kept if name == SETTINGS else draft / name.relative_to(STATE)
            files.make_folder(target.parent)
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                shutil.copyfileobj(data, file)
                file.flush()
                os.fsync(descriptor)


def _check(draft: Path, config: Config) -> None:
    """See that what was unpacked is the state of the institution in the settings."""
    keys.load(draft / config.keys.name)
    store = draft / config.store.name
    try:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as copy:
            code, log = copy.execute("SELECT code, log FROM identity").fetchone()
    except sqlite3.Error as error:
        raise BackupError(f"The store in the backup cannot be used: {error}.") from None
    if (code, log) != (config.code, config.hub.log):
        raise BackupError(f"The backup is {code}'s, or follows another log than the settings.")
