"""Evidence from a connector's own store: what it holds proves its messages without the hub's help.

The entries of the directory and the hashes of all others were read when the log was followed, so
that every proof can be made here. Only the cosignatures of others are the hub's to give.
"""

import contextlib
from collections.abc import Iterator

from connectors.store import Reader, StoreError
from connectors.tables import Received, Sent
from schemas import entry as entries
from schemas import jsontext, policy, proof
from schemas.acceptance import Acceptance
from schemas.directory import Directory
from schemas.encoding import unb64url
from schemas.evidence import bundle
from schemas.evidence.bundle import Evidence, Head, Row
from schemas.merkle import ProofError
from schemas.note import NoteError, Vkey


def gather(reader: Reader, log: Vkey, row: Sent | Received, served: bytes | None) -> Evidence:
    """The evidence of a message that was sent or received.

    Args:
        reader: the store.
        log: the log's key.
        row: the message.
        served: the checkpoint that the hub serves just now, for the cosignatures under it; it is
            used where it is of the history that was followed. None: the hub was not asked.

    Raises:
        StoreError: the hub has not answered to it, or the log was not followed as far.
        NoteError, ProofError: the store does not hold what was followed.
    """
    if row.acceptance is None:
        raise StoreError(f"The hub has not answered to {row.id}: there is nothing to prove yet.")
    directory = reader.directory()
    accepted = _row(row.acceptance)
    head = bundle.chosen(_heads(reader, log, directory, served), accepted.index)
    if head is None:
        raise StoreError(f"The log was not followed as far as {row.id} yet.")
    rows = [accepted, *(r for r in _receipts(reader, row) if r.index < head.checkpoint.size)]
    rows += _erasure(reader, row, head)
    rows += _history(reader, row.envelope or None, rows, head, directory)
    tiles = reader.tiles(bundle.tiles(rows, head))
    return bundle.assemble(row.id or "", row.envelope or None, rows, head, tiles)


def _heads(reader: Reader, log: Vkey, directory: Directory, served: bytes | None) -> Iterator[Head]:
    """The followed checkpoint and the served one, where it is of the same history."""
    known = tuple(policy.witnesses(log.name, directory).values())
    followed = reader.followed()
    if followed is not None:
        yield bundle.head(followed.note, log, known)
    if served is not None:
        with contextlib.suppress(NoteError, ProofError):
            head = bundle.head(served, log, known)
            if head.checkpoint.root == reader.root_at(head.checkpoint.size):
                yield head


def _row(acceptance: Acceptance) -> Row:
    return Row(
        proof.parse(acceptance.proof).index,
        unb64url(acceptance.entry),
        None if acceptance.private is None else unb64url(acceptance.private),
        None if acceptance.salt is None else unb64url(acceptance.salt),
    )


def _receipts(reader: Reader, row: Sent | Received) -> Iterator[Row]:
    """Of a message of ours the receipts of all others, of another's our own."""
    if isinstance(row, Received):
        own = None if row.answer is None else reader.recorded_answer(row.answer)
        if own is not None:
            yield _row(own)
        return
    for index in {e.index for e in reader.expected(row.id) if e.index is not None}:
        for recorded in reader.receipts(index - 1, 1):
            yield _row(jsontext.decode(recorded.raw, Acceptance))


def _erasure(reader: Reader, row: Sent | Received, head: Head) -> Iterator[Row]:
    """The hub's decision to erase the message, where there is one."""
    erased = reader.erased(row.id or "")
    if erased is not None and erased.index < head.checkpoint.size:
        for kept in reader.log_entries(erased.index, erased.index + 1):
            yield Row(kept.index, kept.raw)


def _history(
    reader: Reader, envelope: bytes | None, rows: list[Row], head: Head, directory: Directory
) -> Iterator[Row]:
    codes = bundle.parties(envelope, rows, head, directory)
    for kept in reader.log_entries(0, head.checkpoint.size):
        if kept.type in entries.DIRECTORY_TYPES and entries.decode(kept.raw).subject in codes:
            yield Row(kept.index, kept.raw)
