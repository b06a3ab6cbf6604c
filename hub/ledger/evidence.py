"""Gathering evidence: everything that the log has to prove about one message, for one reader."""

from collections.abc import Iterable

import msgspec

from hub.ledger.queries import Event, EventFilter, MessageRow, Queries
from schemas import entry as entries
from schemas import merkle, note
from schemas.directory import Directory
from schemas.entry import Entry
from schemas.evidence import bundle
from schemas.evidence.bundle import Evidence, Head, Row
from schemas.note import Vkey
from schemas.proof import Proof
from schemas.refusal import Refused

_PAGE = 500


class Reader(msgspec.Struct, frozen=True):
    """Who will read the evidence; without a ``code`` somebody at the hub, who sees every receipt.

    ``body`` says whether the message itself is shown, ``receipts`` whether any receipt is.
    """

    code: str | None
    body: bool
    receipts: bool = True


class Log(msgspec.Struct, frozen=True):
    """Whose log it is, the checkpoint that it serves, and the witnesses that may stand under it."""

    vkey: Vkey
    served: bytes | None
    witnesses: tuple[Vkey, ...]


async def gather(
    queries: Queries, directory: Directory, log: Log, message_id: str, reader: Reader
) -> Evidence:
    """The evidence of a message, under a cosigned checkpoint where one covers it.

    Raises:
        Refused: ``not-found``, where there is nothing that this reader may see.
    """
    row = await queries.message(message_id)
    shown = await _shown(queries, message_id, row, reader)
    if not shown:
        raise Refused("not-found", "The log has no message with this id that you may see.")
    head = await _head(queries, log, shown[0].index)
    assert head is not None  # the last checkpoint that was signed covers every entry
    rows = await _with_salts(queries, _below(shown, head))
    codes = bundle.parties(row.envelope if row else None, rows, head, directory)
    history = [Row(e.index, e.raw) for code in codes for e in await _changes(queries, code)]
    rows += [changed for changed in history if changed.index < head.checkpoint.size]
    tiles = await queries.tiles(bundle.tiles(rows, head))
    envelope = row.envelope if row is not None and reader.body else None
    return bundle.assemble(message_id, envelope, rows, head, tiles)


async def proof(queries: Queries, log: Log, index: int) -> Proof:
    """That the log has an entry at an index, under a cosigned checkpoint where one covers it.

    Raises:
        Refused: ``not-found``, where there is no such entry.
    """
    head = await _head(queries, log, index)
    if head is None:
        raise Refused("not-found", "The log has no entry with this index.")
    size = head.checkpoint.size
    known = await queries.tiles(merkle.tiles_for_inclusion(index, size))
    hashes = merkle.inclusion_proof(index, size, known)
    return Proof(index, tuple(hashes), note.encode(head.note))


async def _head(queries: Queries, log: Log, index: int) -> Head | None:
    """The checkpoint to prove an entry under; None where the log has no such entry."""
    notes = filter(None, (log.served, await queries.checkpoint()))
    heads = [bundle.head(signed, log.vkey, log.witnesses) for signed in notes]
    return bundle.chosen(heads, index)


async def _shown(
    queries: Queries, message_id: str, row: MessageRow | None, reader: Reader
) -> list[Event]:
    """The entries about a message that a reader may see; without its acceptance none.

    A recipient sees no receipt but its own: others can name messages that it did not get.
    """
    found = [(entries.decode(e.raw), e) for e in await queries.events_of_message(message_id)]
    if row is None:
        refused = [e for entry, e in found if _is_refusal(entry, reader)]
        return refused[-1:]
    if reader.code not in (None, row.sender):
        recipients = {copy.recipient for copy in await queries.deliveries(message_id)}
        if reader.code not in recipients:
            return []
        found = [(entry, e) for entry, e in found if entry.actor in (reader.code, row.sender)]
    return [event for entry, event in found if _is_part(entry, event, reader)]


def _is_refusal(entry: Entry, reader: Reader) -> bool:
    return entry.type == entries.MESSAGE_REFUSED and reader.code in (None, entry.actor)


def _is_part(entry: Entry, event: Event, reader: Reader) -> bool:
    if entry.type == entries.RECEIPTS_RECORDED:
        return reader.receipts and event.private is not None
    return entry.type in (entries.MESSAGE_ACCEPTED, *bundle.ABOUT_MESSAGE)


def _below(events: Iterable[Event], head: Head) -> list[Event]:
    """What the checkpoint covers: a later entry is evidence under a later one."""
    return [event for event in events if event.index < head.checkpoint.size]


async def _with_salts(queries: Queries, events: Iterable[Event]) -> list[Row]:
    rows = []
    for event in events:
        kept = await queries.private(event.index, event.index + 1)
        salt, private = kept.get(event.index, (None, None))
        rows.append(Row(event.index, event.raw, private, salt))
    return rows


async def _changes(queries: Queries, code: str) -> list[Event]:
    """The entries of the directory about one participant."""
    found: list[Event] = []
    after = -1
    while True:
        page = await queries.events(EventFilter(subject=code, after=after, limit=_PAGE))
        found += (e for e in page if entries.decode(e.raw).type in entries.DIRECTORY_TYPES)
        if len(page) < _PAGE:
            return found
        after = page[-1].index
