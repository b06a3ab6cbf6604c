"""``joined.json``: all that the institution itself asked of the hub about its membership.

The daemon measures the log's entries about its own code with it: what is not in here, nobody here
asked for. A second join, after keys were lost or stolen, is added to the first.
"""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from connectors import files
from schemas import jsontext
from schemas.encoding import BASE64URL_PATTERN, CODE_PATTERN, TIME_PATTERN
from schemas.refusal import Refused


class JoinedError(ValueError):
    """The file is damaged or another institution's; the message says which."""


class Join(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request to join: the invitation that was used and the statement that was signed."""

    invitation: str
    statement: Annotated[str, Meta(pattern=BASE64URL_PATTERN)]
    fingerprint: Annotated[str, Meta(pattern="^[0-9]{30}$(?!\n)")]
    time: Annotated[str, Meta(pattern=TIME_PATTERN)]


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change of the keys: the statement that was signed with the old and the new one."""

    statement: Annotated[str, Meta(pattern=BASE64URL_PATTERN)]
    time: Annotated[str, Meta(pattern=TIME_PATTERN)]


class Joined(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The institution's requests, of each sort the first one first."""

    code: Annotated[str, Meta(pattern=CODE_PATTERN)]
    joins: tuple[Join, ...] = ()
    rotations: tuple[Rotation, ...] = ()

    @property
    def statements(self) -> frozenset[str]:
        """All key statements that the log may have of us, as it has them."""
        joins = (join.statement for join in self.joins)
        return frozenset((*joins, *(rotation.statement for rotation in self.rotations)))


def read(path: Path, code: str) -> Joined:
    """What this institution asked for; one that never joined asked for nothing.

    Raises:
        JoinedError: the file cannot be read, is damaged, or is another institution's.
    """
    try:
        joined = jsontext.decode(path.read_bytes(), Joined)
    except FileNotFoundError:
        return Joined(code)
    except OSError as error:
        raise JoinedError(f"{path} cannot be read: {error.strerror}.") from None
    except Refused as refusal:
        raise JoinedError(f"{path} is damaged: {refusal.detail}") from None
    if joined.code != code:
        raise JoinedError(f"{path} is about {joined.code}, not {code}.")
    return joined


def add(path: Path, code: str, join: Join) -> None:
    """Note a request, durably, before it is sent: its entry in the log must find it here.

    Raises:
        JoinedError: as ``read``.
        OSError: the disk is full or not to be written; then the request must not be sent.
    """
    known = read(path, code)
    if join not in known.joins:
        _write(path, replace(known, joins=(*known.joins, join)))


def add_rotation(path: Path, code: str, rotation: Rotation) -> None:
    """Note a change of the keys, durably, before it is sent.

    Raises:
        JoinedError, OSError: as ``add``.
    """
    known = read(path, code)
    if rotation not in known.rotations:
        _write(path, replace(known, rotations=(*known.rotations, rotation)))


def _write(path: Path, joined: Joined) -> None:
    files.make_folder(path.parent)
    files.write(path, msgspec.json.format(jsontext.encode(joined)))
