"""Taking content out of the database, and the list that keeps it out.

The list is the file ``erasures`` beside the settings: a line for each erased message, its id and
the time of the decision. It holds nothing that members may not read in the log. A backup is older
than some of its lines; whoever restores it leaves the file in place, and at the next start the
content that came back goes again (``reapply``), before anybody can ask for it.

A crash before a line is written: the next round finds in the database what the list lacks. After
it: the line is there, and is not written again.
"""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import Connection, delete, select, update

from hub.ledger.queries import Erasure
from hub.settings import StartError
from hub.store import facts, tables
from schemas.encoding import TIME_PATTERN, UUID7_PATTERN

_message = tables.messages

FILE = "erasures"
"""Name of the list, in the folder of the settings."""

_LINE = re.compile(f"({UUID7_PATTERN.strip('^$')}) ({TIME_PATTERN.strip('^$')})")


def take_content(connection: Connection, ids: Sequence[str]) -> None:
    """Take everything out of the tables that tells what these messages said.

    That is the envelope and the digest of its payload, salt and private part of the acceptance, and
    of a notice the answers to it. Rows, positions and receipts stay. This is the only place that
    does so: what else is derived from a message's content has to be forgotten here.
    """
    for start in range(0, len(ids), facts.CHUNK):
        chunk = ids[start : start + facts.CHUNK]
        indices = select(_message.c.idx).where(_message.c.id.in_(chunk))
        private, answers = tables.log_private, tables.answers
        connection.execute(delete(private).where(private.c.idx.in_(indices)))
        connection.execute(delete(answers).where(answers.c.notice.in_(chunk)))
        connection.execute(
            update(_message).where(_message.c.id.in_(chunk)).values(envelope=b"", payload_digest="")
        )


def reapply(connection: Connection, ids: Sequence[str]) -> int:
    """Take out again what came back, as from a backup; gives how many messages had to be.

    No decision stands in this log yet: the upkeep records one for each (``undecided``).
    """
    back: list[str] = []
    for start in range(0, len(ids), facts.CHUNK):
        query = select(_message.c.id).where(
            _message.c.id.in_(ids[start : start + facts.CHUNK]), _message.c.envelope != b""
        )
        back += connection.execute(query).scalars()
    take_content(connection, back)
    return len(back)


def undecided(connection: Connection, limit: int) -> Sequence[str]:
    """Messages without content of which no decision is recorded."""
    query = select(_message.c.id).where(_message.c.erased.is_(None), _message.c.envelope == b"")
    return connection.execute(query.limit(limit)).scalars().all()


def since(connection: Connection, index: int) -> Sequence[tuple[int, Erasure]]:
    """The erasures that the log decided after an entry, with the entry of each."""
    entry = tables.log_entries
    query = (
        select(_message.c.id, _message.c.erased, entry.c.time)
        .join(entry, entry.c.idx == _message.c.erased)
        .where(_message.c.erased > index)
        .order_by(_message.c.erased)
    )
    return [(row.erased, Erasure(row.id, row.time)) for row in connection.execute(query)]


def read(path: Path) -> Sequence[Erasure]:
    """The list; empty where there is none.

    Raises:
        StartError: it cannot be read, or a line of it is not one of ours.
    """
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The list of erasures {path} cannot be read: {error}.") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise StartError(f"Line {number} of {path} is no erasure; bring the file back.")
        found.append(Erasure(matched[1], matched[2]))
    return found


def add(path: Path, erasures: Iterable[Erasure]) -> None:
    """Write erasures at the end of the list, durably."""
    lines = "".join(f"{one.id} {one.time}\n" for one in erasures)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
