"""Taking the missing tail back, while nothing is signed: the writer of a log that is not whole.

Each piece and each part is one transaction. A crash between two: what is there is there, and who
asks again is told what is still missing.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence

import structlog

from hub.intake.access import ACCESS_REVOKED
from hub.intake.batch import NOTHING, Batch, Loaded, Needs
from hub.intake.recorder import Journal, Recorder, StorageError, Transaction, write_entries
from hub.intake.tail import Found, write_erasure
from hub.ledger import tail
from hub.ledger.queries import Queries
from hub.ledger.sequence import Appended, LogKey
from hub.ledger.witnesses import Witnesses, lacking
from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.refusal import Refused
from schemas.tail import Part, Piece

log = structlog.get_logger("hub.restorer")


class Restorer:
    """Writes past the guard that keeps the recorder from signing: only what was signed before."""

    def __init__(
        self,
        journal: Journal,
        queries: Queries,
        key: LogKey,
        recorder: Recorder,
        witnesses: Witnesses,
        lack: Callable[[], None],
        listed: Callable[[], frozenset[str]],
    ) -> None:
        """Write to this journal, and let the recorder and the witnesses know.

        ``lack`` is called before the first entries: it leaves word, for the next start as well,
        that the log was an older copy and that its witnesses are to be waited for. ``listed`` gives
        the messages of the list of erasures, whose content is not to come back.
        """
        self._journal = journal
        self._queries = queries
        self._key = key
        self._recorder = recorder
        self._witnesses = witnesses
        self._lack = lack
        self._listed = listed
        self._one_at_a_time = asyncio.Lock()

    async def extend(self, piece: Piece, code: str) -> int:
        """Append entries that were signed before and ``code`` brought; gives the size of the log.

        Raises:
            Refused: nothing is missing, or the piece is not of this log.
            StorageError: the database did not take it.
        """
        self._check_wanted()
        self._lack()
        # Whoever brought it may be gone before the end: what is stored has to be known here, too.
        return await asyncio.shield(self._extend(piece, code))

    async def _extend(self, piece: Piece, code: str) -> int:
        def work(transaction: Transaction) -> int:
            transaction.head(0)  # takes the lock
            state = transaction.state(NOTHING)
            appended = tail.extend(state.tree, piece, self._key)
            write_entries(transaction, appended.entries)
            batch = Batch(state, Loaded({}, {}, set(), {}, {}, {}), self._recorder.clock(), b"")
            for message_id, decision in tail.erased(appended):
                write_erasure(batch, message_id, decision)
            for account, time in _revoked(appended):
                batch.write("revoke_tokens", revoked_account=account, time=time)
            transaction.write(batch, appended)
            return appended.tree.size

        async with self._one_at_a_time:
            await self._witnesses.thaw()
            size = await self._journal.transact(work)
            log.warning("tail.extended", start=piece.start, size=size)
            if piece.proof:
                # More than this was signed. A crash before it is kept: the next piece shows it.
                await self._witnesses.show(code, piece.checkpoint.encode())
            await self._reload()
        return size

    async def fill(self, parts: Sequence[Part]) -> int:
        """Bring content back, part by part, earlier entries first; gives how many were taken.

        Raises:
            Refused: nothing is missing, or a part is not what its entry commits to.
            StorageError: the database did not take it.
        """
        self._check_wanted()
        taken = 0
        # What two bring at the same time is missing only once.
        async with self._one_at_a_time:
            missing, end = dict[int, int | None](), -1
            for part in sorted(parts, key=lambda part: part.index):
                if part.index > end:
                    given_up, before = self._witnesses.given_up, part.index - 1
                    missing = await lacking(self._queries, given_up, before)
                    end = max(missing, default=MAX_SAFE_INTEGER)
                if part.index in missing:
                    [raw] = await self._queries.entries(part.index, part.index + 1)
                    found = Found(part, raw, missing.pop(part.index), self._listed())
                    taken += await self._back(found)
            if taken:
                log.warning("tail.filled", taken=taken)
                await self._reload()
        return taken

    async def _back(self, found: Found) -> bool:
        """Bring one part back; whether it is there now."""
        try:
            return await self._journal.transact(self._filler(found))
        except (Refused, StorageError):
            raise
        except Exception:
            # Another entry has its position, or whatever is its own: it is for an operator to give
            # up, and the others come back all the same.
            log.exception("tail.left_out", index=found.index)
            return False

    def _filler(self, found: Found) -> Callable[[Transaction], bool]:
        def work(transaction: Transaction) -> bool:
            transaction.head(0)
            # Whoever brought it may be gone before the end; its positions are taken all the same.
            self._recorder.stale = True
            needs = Needs(self._recorder.state.directory)
            now = self._recorder.clock()
            found.needs(needs)
            batch = Batch(transaction.state(NOTHING), transaction.facts(needs, now), now, b"")
            rebuilt = found.rebuild(batch)
            transaction.write(batch, None)
            return rebuilt

        return work

    def _check_wanted(self) -> None:
        if self._witnesses.stopped is None:
            raise Refused("conflict", "This hub lacks nothing that was signed.")

    async def _reload(self) -> None:
        # Nothing else changes the state meanwhile: the recorder's journal is guarded. What the
        # recorder knows to be signed it goes on knowing until all of that is back.
        known = self._recorder.state.tree
        if await self._witnesses.root(known.size) == known.root:
            self._recorder.state, _ = await self._queries.head()
        await self._witnesses.check()


def _revoked(appended: Appended) -> Iterator[tuple[str, str]]:
    """Whose access tokens these entries ended, and when: in a backup they still count."""
    for sequenced in appended.entries:
        entry = sequenced.entry
        if entry.type == ACCESS_REVOKED and entry.subject is not None:
            yield entry.subject, entry.time
