"""Evidence to look at: a log in memory with a message, its receipts, rotated keys and witnesses."""

from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from schemas import checkpoint, cosignature, jsontext, merkle, note
from schemas import entry as entries
from schemas import policy as policies
from schemas.checkpoint import Checkpoint
from schemas.encoding import b64url, unb64url
from schemas.entry import AcceptedPrivate, Entry, Recipient
from schemas.evidence import archive, bundle
from schemas.evidence.bundle import Evidence, Row
from schemas.note import Vkey
from tests import builders

COVER = (Path(bundle.__file__).parent / "cover.html").read_text(encoding="utf-8")
TEXTS = jsontext.decode(
    COVER.partition('id="texts">')[2].partition("</script>")[0].encode(), dict[str, dict[str, str]]
)
"""The page's words, by language and name."""

ID = builders.message_id()
COSIGNED = 1_782_896_400
"""When the witnesses cosigned: a moment after ``builders.NOW``."""


class Log:
    """A log in memory; what is appended becomes a row."""

    def __init__(self, *lines: Entry) -> None:
        self.rows: list[Row] = []
        for line in lines:
            self.append(line)

    def append(self, line: Entry, private: bytes | None = None) -> Row:
        salt = None if private is None else builders.salt()
        row = Row(len(self.rows), entries.encode(line), private, salt)
        self.rows.append(row)
        return row

    @property
    def leaves(self) -> list[bytes]:
        return [merkle.leaf_hash(row.raw) for row in self.rows]

    @property
    def tiles(self) -> dict[merkle.Tile, bytes]:
        return merkle.append(0, {}, self.leaves)

    def signed(self, *cosigned_by: str) -> bytes:
        """The signed checkpoint, cosigned by these members' witness keys."""
        head = Checkpoint(builders.ORIGIN, len(self.rows), merkle.root(self.leaves))
        signed = note.parse_note(checkpoint.sign_checkpoint(head, builders.LOG, builders.LOG_KEY))
        lines = [
            cosignature.cosign(
                signed.text,
                cosignature.witness_name(builders.ORIGIN, code),
                builders.key(f"{code} witness"),
                COSIGNED,
            )
            for code in cosigned_by
        ]
        return note.encode(note.Note(signed.text, (*signed.signatures, *lines)))

    def accept(self, envelope: bytes, recipients: Iterable[str]) -> Row:
        """The acceptance of an envelope of kz with ``builders.message_id()``."""
        private = jsontext.encode(
            AcceptedPrivate(
                entries.digest(envelope),
                "activity_bulletin.v1",
                "TLP:GREEN",
                None,
                {
                    code: Recipient(position, "group:region")
                    for position, code in enumerate(recipients, 1)
                },
                {"tm": "suspended"},
            )
        )
        line = builders.entry(entries.MESSAGE_ACCEPTED, ID, actor="kz", private=private)
        return self.append(line, private)

    def receive(self, accepted: Row, code: str, position: int, seed: str | None = None) -> Row:
        """The receipt of one recipient."""
        entry_hash = b64url(merkle.leaf_hash(accepted.raw))
        raw = builders.signed_receipt(
            (ID, entry_hash, position, "received", ""),
            receiver=code,
            private=builders.key(seed or code),
        )
        line = builders.entry(
            entries.RECEIPTS_RECORDED, actor=code, at=builders.time(2), private=raw
        )
        return self.append(line, raw)


def witness(code: str) -> Vkey:
    """The witness key that a member registered."""
    name = cosignature.witness_name(builders.ORIGIN, code)
    private = builders.key(f"{code} witness")
    return cosignature.vkey(name, builders.public(private))


def policy(*lines: str, log: Vkey = builders.LOG) -> bytes:
    """A policy file that trusts the log; further lines, or no quorum."""
    return "\n".join((f"log {log}", *(lines or ("quorum none",)), "")).encode()


def quorum(*codes: str, of: int) -> bytes:
    """A policy that asks for so many of these members as witnesses."""
    named = [f"witness {code} {witness(code)}" for code in codes]
    return policy(*named, f"group all-of-them {of} {' '.join(codes)}", "quorum all-of-them")


def evidence(
    *,
    envelope: bytes | None = None,
    shown: bool = True,
    cosigned_by: Iterable[str] = ("kg", "tj"),
    receipts: Iterable[str] = ("kg", "tj"),
) -> Evidence:
    """The evidence of a bulletin of kz, which rotated its key before, to kg, tj and undp."""
    log = Log(*builders.directory_log(kz="member", kg="member", tj="member", undp="partner"))
    log.append(builders.rotated("kz", "kz second"))
    raw = envelope or builders.signed(builders.message(), builders.key("kz second"))
    recipients = ("kg", "tj", "undp")
    accepted = log.accept(raw, recipients)
    log.append(builders.entry(entries.HUB_STOPPED))
    kept = [accepted]
    kept += [log.receive(accepted, code, recipients.index(code) + 1) for code in receipts]
    log.append(builders.revoked("kz", "kz second"))
    log.append(builders.entry(entries.HUB_STARTED))
    return of_rows(log, kept, raw, shown=shown, cosigned_by=cosigned_by)


def of_rows(
    log: Log,
    kept: Iterable[Row],
    envelope: bytes,
    *,
    shown: bool = True,
    cosigned_by: Iterable[str] = (),
) -> Evidence:
    """The evidence of some rows of a log, with the history of the keys that they need."""
    kept = list(kept)
    directory = builders.fold(entries.decode(row.raw) for row in log.rows)
    head = bundle.head(
        log.signed(*cosigned_by),
        builders.LOG,
        policies.witnesses(builders.ORIGIN, directory).values(),
    )
    codes = bundle.parties(envelope, kept, head, directory)
    history = [row for row in log.rows if _is_about(entries.decode(row.raw), codes)]
    rows = [*kept, *history]
    tiles = {tile: log.tiles[tile] for tile in bundle.tiles(rows, head)}
    return bundle.assemble(ID, envelope if shown else None, rows, head, tiles)


def erased() -> Evidence:
    """The evidence of a bulletin of kz to kg that was erased after kg had it."""
    log = Log(*builders.directory_log(kz="member", kg="member"))
    raw = builders.signed(builders.message())
    accepted = log.accept(raw, ["kg"])
    received = log.receive(accepted, "kg", 1)
    decided = builders.entry(entries.MESSAGE_ERASED, ID, at=builders.time(3))
    gone = msgspec.structs.replace(accepted, private=None, salt=None)
    return of_rows(log, [gone, received, log.append(decided)], raw, shown=False)


def cosigned_with_ml_dsa() -> Evidence:
    """The evidence of a message under a checkpoint that a witness cosigned with ML-DSA-44."""
    log = Log(*builders.directory_log(kz="member"))
    raw = builders.signed(builders.message())
    accepted = log.accept(raw, ["kg"])
    private = MLDSA44PrivateKey.from_seed_bytes(bytes(32))
    signed = note.parse_note(log.signed())
    line = cosignature.cosign(signed.text, "pq.example", private, COSIGNED)
    cosigned = note.encode(note.Note(signed.text, (*signed.signatures, line)))
    by = cosignature.vkey_of("pq.example", private)
    head = bundle.head(cosigned, builders.LOG, [by])
    tiles = {tile: log.tiles[tile] for tile in bundle.tiles(log.rows, head)}
    return bundle.assemble(ID, raw, [*log.rows[:2], accepted], head, tiles)


def _is_about(line: Entry, codes: Collection[str | None]) -> bool:
    return line.type in entries.DIRECTORY_TYPES and line.subject in codes


def zipped(made: Evidence | None = None) -> bytes:
    """The zip."""
    return archive.write(made or evidence(), COVER)


def changed(made: Evidence, **members: object) -> Evidence:
    """Evidence with other members."""
    return msgspec.structs.replace(made, **members)


def with_entry(made: Evidence, at: int, **members: object) -> Evidence:
    """Evidence with one entry that has other members."""
    return changed(
        made,
        entries=tuple(
            msgspec.structs.replace(one, **members) if one.index == at else one
            for one in made.entries
        ),
    )


def index_of(made: Evidence, kind: str) -> int:
    """The index of the first entry of a type."""
    return next(one.index for one in made.entries if opened(one.entry).type == kind)


def opened(text: str) -> Entry:
    """An entry from its base64url."""
    return entries.decode(unb64url(text))


def small() -> Evidence:
    """The evidence of a message that one member sent and that nobody has received yet."""
    log = Log(*builders.directory_log(kz="member"))
    raw = builders.signed(builders.message())
    return of_rows(log, [log.accept(raw, ["kg"])], raw)
