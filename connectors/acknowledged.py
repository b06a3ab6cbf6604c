"""Acknowledged alarms: somebody looked at them and wrote down what came of it.

One file each in a folder, written by ``nhri-connector alarms ack``: the store has one writer, the
daemon, which only reads these. An acknowledgement is of one raising of an alarm: what is over and
comes back is open again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from connectors import files
from connectors.shown import MAX_SHOWN
from connectors.tables import Alarm
from schemas import jsontext
from schemas.encoding import TIME_PATTERN
from schemas.refusal import Refused

_SUFFIX = ".json"


class Acknowledgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody noted on an alarm: its number, when it was raised, the note, and the time."""

    number: Annotated[int, Meta(ge=1)]
    raised: Annotated[str, Meta(pattern=TIME_PATTERN)]
    note: Annotated[str, Meta(min_length=1, max_length=MAX_SHOWN)]
    time: Annotated[str, Meta(pattern=TIME_PATTERN)]


Acknowledgements = Mapping[int, Acknowledgement]
"""By the number of the alarm."""


def read(folder: Path) -> Acknowledgements:
    """What was acknowledged. A file that cannot be read counts for nothing: its alarm is open."""
    found = (_read(path) for path in sorted(folder.glob(f"[!.]*{_SUFFIX}")))
    return {one.number: one for one in found if one is not None}


def _read(path: Path) -> Acknowledgement | None:
    try:
        return jsontext.decode(path.read_bytes(), Acknowledgement)
    except (OSError, Refused):
        return None


def add(folder: Path, acknowledgement: Acknowledgement) -> None:
    """Keep an acknowledgement, durably; it takes the place of an earlier one of the same alarm.

    Raises:
        OSError: the disk is full or not to be written; then the alarm stays open.
    """
    files.make_folder(folder)
    content = jsontext.encode(acknowledgement)
    files.write(folder / f"{acknowledgement.number}{_SUFFIX}", content)


def of(alarm: Alarm, known: Acknowledgements) -> Acknowledgement | None:
    """The acknowledgement of an alarm as it was raised last; None while it is open."""
    found = known.get(alarm.number)
    return found if found is not None and found.raised == alarm.time else None
