"""What witnesses cosigned, as the database keeps it."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from hub.intake.batch import Token
from hub.ledger.witnesses import Shown, Standing, Watcher, Witnessed
from hub.store import tables
from hub.store.database import Database
from schemas import witness
from schemas.note import SignatureLine
from schemas.refusal import Refused

_row = tables.witnessed
_signed = tables.checkpoints

_WAITING = select(_row).where(_row.c.quorum.is_(None)).order_by(_row.c.size.desc()).limit(1)
_LAST = select(_row).where(_row.c.quorum.is_not(None)).order_by(_row.c.size.desc()).limit(1)
_SIGNED = select(_signed).order_by(_signed.c.size.desc()).limit(1)
# Every writer takes this lock first, so that nobody signs or freezes meanwhile.
_LOCK = select(tables.log_head.c.size).with_for_update()

# Never back: an answer that was on its way for long says nothing new.
_WATCHER = text(
    "INSERT INTO witnesses (code, size, time) VALUES (:code, :size, :time) "
    "ON CONFLICT (code) DO UPDATE SET size = excluded.size, time = excluded.time "
    "WHERE excluded.size >= witnesses.size"
)
_SHOWN = text(
    "INSERT INTO contradictions (code, note, time) VALUES (:code, :note, :time) "
    "ON CONFLICT (code) DO UPDATE SET note = excluded.note, time = excluded.time"
)


class StoredWitnesses:
    """The adapter behind the port ``WitnessStore``."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database."""
        self._database = database

    async def standing(self) -> Standing:
        """What is kept, of one moment."""

        def work(connection: Connection) -> Standing:
            watchers = select(tables.witnesses).order_by(tables.witnesses.c.code)
            shown = select(tables.contradictions).order_by(tables.contradictions.c.code)
            return Standing(
                _witnessed(connection, _WAITING),
                _witnessed(connection, _LAST),
                [Watcher(row.code, row.size, row.time) for row in connection.execute(watchers)],
                [Shown(row.code, row.note, row.time) for row in connection.execute(shown)],
            )

        return await self._database.read(work)

    async def served(self) -> bytes | None:
        """The last checkpoint with a quorum; before the first, the candidate or the last signed."""

        def work(connection: Connection) -> bytes | None:
            found = (_first(connection, query) for query in (_LAST, _WAITING, _SIGNED))
            return next((row.note for row in found if row is not None), None)

        return await self._database.read(work)

    async def freeze(self) -> None:
        """Make the last signed checkpoint the candidate, unless one waits or it has its quorum.

        Its size is that of all entries, so that what was served before is never larger.
        """

        def work(connection: Connection) -> None:
            connection.execute(_LOCK)
            signed, last = _first(connection, _SIGNED), _first(connection, _LAST)
            waits = _first(connection, _WAITING) is not None
            if signed is None or waits or (last is not None and last.size >= signed.size):
                return
            connection.execute(insert(_row).values(size=signed.size, note=signed.note))

        await self._database.write(work)

    async def thaw(self) -> None:
        """Let no candidate wait any more."""

        def work(connection: Connection) -> None:
            connection.execute(_LOCK)
            connection.execute(delete(_row).where(_row.c.quorum.is_(None)))

        await self._database.write(work)

    async def cosigned(
        self,
        watcher: Watcher,
        token: Token | None,
        lines: Sequence[SignatureLine],
        holds: Callable[[bytes], bool],
    ) -> bool:
        """Add cosignatures to the checkpoint of their size, where it was frozen.

        Returns:
            Whether that checkpoint has a quorum.

        Raises:
            Refused: ``unauthenticated``: the token was used before.
        """

        def work(connection: Connection) -> bool:
            connection.execute(_LOCK)
            if token is not None:
                values = {"jti": token.jti, "expires": token.expires}
                connection.execute(insert(tables.used_tokens).values(values))
            values = {"code": watcher.code, "size": watcher.size, "time": watcher.time}
            connection.execute(_WATCHER, values)
            row = _first(connection, select(_row).where(_row.c.size == watcher.size))
            if row is None:
                return False
            note = witness.merge(row.note, lines)
            quorum = row.quorum or (watcher.time if holds(note) else None)
            changed = update(_row).where(_row.c.size == row.size)
            connection.execute(changed.values(note=note, quorum=quorum))
            return quorum is not None

        try:
            return await self._database.write(work)
        except IntegrityError:
            raise Refused(
                "unauthenticated", "This token was used already; sign a new one."
            ) from None

    async def settle(self, size: int, time: str) -> None:
        """The checkpoint of a size has its quorum."""
        changed = update(_row).where(_row.c.size == size, _row.c.quorum.is_(None))
        await self._database.write(
            lambda connection: connection.execute(changed.values(quorum=time))
        )

    async def keep(self, shown: Shown) -> None:
        """Keep what a witness holds against us, the last of each witness."""
        values = {"code": shown.code, "note": shown.note, "time": shown.time}
        await self._database.write(lambda connection: connection.execute(_SHOWN, values))


def _first(connection: Connection, query: Select[Any]) -> Row[Any] | None:
    return connection.execute(query).first()


def _witnessed(connection: Connection, query: Select[Any]) -> Witnessed | None:
    row = _first(connection, query)
    return None if row is None else Witnessed(row.size, row.note, row.quorum)
