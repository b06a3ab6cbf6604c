"""Taking content out of the database, and the list that keeps it out.

The list is the file ``erasures`` beside the settings: a line for each erased message, its id and
the time of the decision. It holds nothing that members may not read in the log. A backup is older
than some of its lines; whoever restores it leaves the file in place, and at the next start the
content that came back goes again (``reapply``), before anybody can ask for it. Where the database
goes back under a hub that runs, its next round does that.

A crash before a line is written: the next round finds in the database what the list lacks. In the
middle of it: half a line counts for nothing, and is cut off before the next. After it: the line is
there, and is not written again.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
from sqlalchemy import Connection, Select, Update, delete, select, update

from hub.settings import StartError
from hub.store import facts, index, tables
from hub.store.database import Database

_message = tables.messages

_LINE = re.compile(r"(?P<id>[0-9a-f-]{36}) (?P<time>[0-9TZ:.-]{24})")

_ENDS = ("\n", "\r")


def take_content(connection: Connection, ids: Sequence[str]) -> None:
    """Take everything out of the tables that tells what these messages said.

    That is the envelope and the digest of its payload, salt and private part of the acceptance, of
    a notice the answers to it, and what endpoints answered to its webhooks: they may have repeated
    it. Rows, positions and receipts stay. This is the only place that does so: what else is derived
    from a message's content has to be forgotten here.
    """
    for start in range(0, len(ids), facts.CHUNK):
        chunk = ids[start : start + facts.CHUNK]
        for message_id in chunk:
            index.forget(connection, message_id)
        indices = select(_message.c.idx).where(_message.c.id.in_(chunk))
        private, answers = tables.log_private, tables.answers
        connection.execute(delete(private).where(private.c.idx.in_(indices)))
        connection.execute(delete(answers).where(answers.c.notice.in_(chunk)))
        connection.execute(_forget_answered(indices))
        connection.execute(
            update(_message).where(_message.c.id.in_(chunk)).values(envelope=b"", payload_digest="")
        )


def _forget_answered(indices: Select[tuple[int]]) -> Update:
    tried = tables.webhook_attempts
    # The key begins with the subscription: without it, every attempt would be looked at.
    return (
        update(tried)
        .where(tried.c.subscription.in_(select(tables.subscriptions.c.id)))
        .where(tried.c.idx.in_(indices))
        .values(excerpt=b"")
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
    query = select(_message.c.id).where(tables.is_undecided).limit(limit)
    return connection.execute(query).scalars().all()


class Erasure(msgspec.Struct, frozen=True):
    """A message that was erased, and when that was decided."""

    id: str
    time: str


def since(connection: Connection, after: int) -> Sequence[tuple[int, Erasure]]:
    """The messages that entries after this one erased, each with its entry."""
    entry = tables.log_entries
    query = (
        select(_message.c.id, _message.c.erased, entry.c.time)
        .join(entry, entry.c.idx == _message.c.erased)
        .where(_message.c.erased > after)
        .order_by(_message.c.erased)
    )
    return [(row.erased, Erasure(row.id, row.time)) for row in connection.execute(query)]


class Erasures:
    """The list, kept up to date with the database, and the database's files clean of it."""

    def __init__(self, database: Database, path: Path) -> None:
        """Keep the list in this file; ``listed`` are the messages in it."""
        self._database = database
        self._path = path
        self._upto = -1
        self.listed: frozenset[str] = frozenset()

    async def apply(self) -> int:
        """Take out of the database what the list has; gives how many messages had to be.

        Raises:
            StartError: the list cannot be read.
        """
        ids = [one.id for one in read(self._path)]
        self.listed = frozenset(ids)
        return await self._database.write(lambda connection: reapply(connection, ids))

    async def keep(self) -> None:
        """List what was erased since, and let nothing of it stay in the database's files.

        A crash at any point: the first round after it looks at everything again.
        """
        upto = await self.note()
        if upto == self._upto:
            return
        await index.purge(self._database)
        if await self._database.scrub():
            self._upto = upto

    async def note(self) -> int:
        """List what was erased since the files were clean; gives the newest decision's entry."""
        upto = self._upto
        new = await self._database.read(lambda connection: since(connection, upto))
        if not new:
            return upto
        listed = {one.id for one in read(self._path)}
        add(self._path, [one for _, one in new if one.id not in listed])
        self.listed |= {one.id for _, one in new}
        return new[-1][0]


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
    for number, line in enumerate(_written(text).splitlines(), 1):
        matched = _LINE.fullmatch(line)
        if matched is None:
            raise StartError(f"Line {number} of {path} is no erasure; correct or remove it.")
        found.append(Erasure(matched["id"], matched["time"]))
    return found


def _written(text: str) -> str:
    """The list without a last line that was begun and not written to its end, as in a crash.

    Nothing is lost by leaving it out: a line is written once its decision is in the database, and
    goes on missing in the list as if it had never been begun. Whoever has not listed it looks at
    that decision again (``Erasures.note``), after a start at all there are.
    """
    last = "".join(text.splitlines(keepends=True)[-1:])
    # One that lacks nothing but its end says all the same what is to be kept out.
    if last.endswith(_ENDS) or _LINE.match(last):
        return text
    return text.removesuffix(last)


def add(path: Path, erasures: Sequence[Erasure]) -> None:
    """Write erasures at the end of the list, durably; where that fails, it is as it was before.

    Raises:
        OSError: they were not written, as on a full disk.
    """
    if not erasures:
        return
    lines = "".join(f"{one.id} {one.time}\n" for one in erasures)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        there = _written(path.read_bytes().decode("ascii"))  # byte for byte, whoever edited it
        try:
            os.ftruncate(descriptor, len(there))  # what comes behind half a line is no line
            _append(descriptor, lines if not there or there.endswith(_ENDS) else f"\n{lines}")
        except OSError:
            # If this fails as well, half a line is left: the next reader leaves it out.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, len(there))
            raise
    finally:
        os.close(descriptor)


def _append(descriptor: int, text: str) -> None:
    # Without a buffer: it would be written at the end in spite of all.
    rest = text.encode("ascii")
    while rest:  # a disk that is filling up takes a part, and refuses the next
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)
