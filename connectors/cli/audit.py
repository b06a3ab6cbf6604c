"""Verifying all over again what the store holds: offline, from bytes, trusting nobody.

What the daemon found when something came in is not believed here. Its tables say only where to
look; every signature, proof and root is computed anew, against the one key that was compared at
joining.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from connectors import actions, monitor, verification
from connectors.store import Reader
from connectors.tables import Expected, InboxState, Received, RecordedReceipt, Sent, SentState
from connectors.verification import Backed, Entered
from schemas import checkpoint as checkpoints
from schemas import entry as entries
from schemas import jsontext, merkle, signature
from schemas.acceptance import Acceptance, Broken
from schemas.directory import Directory, DirectoryError
from schemas.joint_action import ActionState
from schemas.merkle import HASH_SIZE, TILE_WIDTH, ProofError, Tile
from schemas.message import Message
from schemas.note import NoteError, Vkey
from schemas.refusal import Refused

Advance = Callable[[int, int], None]

_BROKEN = (Broken, DirectoryError, NoteError, ProofError, Refused)
"""How what is not so shows itself."""


class Assembled(msgspec.Struct, frozen=True):
    """A joint action's notice as one envelope: who signed it, and the action's state."""

    envelope: bytes
    signers: tuple[str, ...]
    state: ActionState


class Auditor:
    """Verifies one store. ``checked`` counts what held, ``problems`` says what did not.

    ``log`` is the log's key, ``code`` the institution whose store it is.
    """

    def __init__(self, reader: Reader, code: str, log: Vkey) -> None:
        self.checked: Counter[str] = Counter()
        self.problems: list[str] = []
        self._reader = reader
        self._code = code
        self._log = log
        self._roots: dict[int, bytes] = {}
        self._given: set[tuple[str, str]] = set()
        self._tile = (-1, b"")
        self._indices: list[int] = []
        self._directories = [Directory()]
        self._fold()

    @property
    def directory(self) -> Directory:
        """The newest directory."""
        return self._directories[-1]

    def directory_before(self, index: int) -> Directory:
        """The directory as it was when the entry ``index`` was recorded."""
        return self._directories[bisect_left(self._indices, index)]

    # --- The log ---

    def check_log(self, advance: Advance) -> None:
        """The signed checkpoint, and every hash below it down to the entries that are kept."""
        followed = self._reader.followed()
        if followed is None:
            self.problems.append("The log has not been followed yet: nothing can be verified.")
            return
        with self._about(f"The log of {followed.size} entries"):
            signed = checkpoints.open_checkpoint(followed.note, self._log)
            if (signed.size, signed.root) != (followed.size, followed.root):
                raise ProofError("The hub signed another size or root than was followed.")
            if self._root_anew(signed.size, advance) != signed.root:
                raise ProofError("The entries do not give the root that the hub signed.")
            self.checked["log entries"] = signed.size
        for kept in self._reader.log_entries(0, followed.size):
            with self._about(f"Entry {kept.index}"):
                if self._leaf(kept.index) != merkle.leaf_hash(kept.raw):
                    raise ProofError("It is not the entry that the log has there.")

    def _root_anew(self, size: int, advance: Advance) -> bytes:
        """The root over the hashes of all entries, a tile at a time: memory stays bounded."""
        edge: dict[Tile, bytes] = {}
        for start in range(0, size, TILE_WIDTH):
            end = min(start + TILE_WIDTH, size)
            changed = merkle.append(start, edge, [self._leaf(index) for index in range(start, end)])
            known = edge | changed
            edge = {tile: known[tile] for tile in merkle.edge_tiles(end)}
            advance(end, size)
        return merkle.tree_root(size, edge)

    def _leaf(self, index: int) -> bytes:
        n, offset = divmod(index, TILE_WIDTH)
        if n != self._tile[0]:
            self._tile = (n, self._reader.tiles([(0, n)]).get((0, n), b""))
        leaf = self._tile[1][offset * HASH_SIZE : (offset + 1) * HASH_SIZE]
        if len(leaf) < HASH_SIZE:
            raise ProofError(f"The hash of entry {index} is missing from the store.")
        return leaf

    def _fold(self) -> None:
        for kept in self._reader.log_entries(0, self._reader.size()):
            if kept.type not in entries.DIRECTORY_TYPES:
                continue
            with self._about(f"Entry {kept.index}"):
                changed = self.directory.apply(kept.index, entries.decode(kept.raw))
                self._indices.append(kept.index)
                self._directories.append(changed)
                self.checked["directory changes"] += 1

    # --- Messages ---

    def check_sent(self, sent: Sent) -> None:
        """A message of ours: the hub's answer, our signature, and who must have received it."""
        if sent.acceptance is None:
            self.checked[f"sent, {sent.state}, nothing to verify"] += 1
            return
        with self._about(f"Sent {sent.id}"):
            backed = self._backed(sent.acceptance)
            _check_row(sent, backed)
            if sent.state is SentState.REFUSED:
                verification.check_own_refusal(backed, self._code, sent.id, sent.envelope)
            else:
                entry = verification.entered(backed)
                read = self._message(entry, sent.envelope)
                verification.check_own_acceptance(entry, self._code, read, sent.envelope)
                self._check_expected(entry, self._reader.expected(sent.id))
            self.checked[f"sent, {sent.state}"] += 1

    def check_received(self, received: Received) -> None:
        """What stands at a position: the log backs it and, where it is shown, its sender signed."""
        with self._about(f"Position {received.position}"):
            if received.state is InboxState.ERASED:
                self._check_erased(received)
                return
            entry = verification.entered(self._backed(received.acceptance))
            _check_row(received, entry.backed)
            if verification.own_position(entry, self._code) != received.position:
                raise Broken("the log has it at another position")
            if received.state is InboxState.INVALID:
                raise Broken(f"it is kept as not valid: {received.reason}")
            if received.state is InboxState.VALID:
                self._message(entry, received.envelope)
            self.checked[f"received, {received.state}"] += 1

    def _check_erased(self, received: Received) -> None:
        """What an erased message leaves: its entry, and the decision, both in the log."""
        backed = verification.back_erased(received.acceptance, self._log)
        self._in_history(backed)
        _check_row(received, backed)
        if self._reader.erased(received.id or "") is None:
            raise Broken("the log does not say that it was erased")
        self.checked[f"received, {received.state}"] += 1

    def _message(self, entry: Entered, envelope: bytes) -> Message:
        """Check a message whole: the bytes, the signatures, the rules, and the recipients."""
        verification.check_envelope(entry, envelope)
        directory = self.directory_before(entry.backed.opened.index)
        read = verification.check_message(entry, envelope, directory)
        differing = monitor.recipients(read.id, verification.expand(read, directory), entry.private)
        if differing:
            raise Broken(" ".join(finding.sentence for finding in differing))
        signatures = signature.parse(envelope, signature.MESSAGE_TYPE).signatures
        self.checked["message signatures"] += len(signatures)
        return read

    def _check_expected(self, entry: Entered, expected: Iterable[Expected]) -> None:
        awaited = {one.recipient: one.position for one in expected}
        logged = {code: there.position for code, there in entry.private.recipients.items()}
        if awaited != logged:
            raise Broken("receipts are awaited from others than the log's recipients")

    def _backed(self, acceptance: Acceptance) -> Backed:
        """An acceptance that holds under the log's key and in the history that was followed."""
        backed = verification.back(acceptance, self._log)
        self._in_history(backed)
        return backed

    def _in_history(self, backed: Backed) -> None:
        signed = backed.opened.checkpoint
        if signed.size not in self._roots:
            self._roots[signed.size] = self._reader.root_at(signed.size)
        if self._roots[signed.size] != signed.root:
            raise Broken("its checkpoint is of another history than the one followed here")
        self.checked["proofs of inclusion"] += 1

    # --- Receipts ---

    def check_receipt(self, recorded: RecordedReceipt) -> None:
        """Another's receipt: in the log, signed by its receiver, and about what we sent."""
        with self._about(f"The receipt of {recorded.receiver} in entry {recorded.index}"):
            acceptance = jsontext.decode(recorded.raw, Acceptance)
            read = verification.check_receipt(self._backed(acceptance), self.directory)
            if read.receiver != recorded.receiver:
                raise Broken(f"it is that of {read.receiver}")
            for item in read.items:
                message_id = item[0]
                finding = monitor.receipt_item(
                    item,
                    read.receiver,
                    self._reader.sent(message_id),
                    self._reader.expected_of(message_id, read.receiver),
                    self._reader.erased(message_id),
                    acceptance,
                )
                if finding is not None and finding.kind != "receipt-refused":
                    raise Broken(finding.sentence)
                self._given.add((message_id, read.receiver))
            self.checked["receipts"] += 1
            self.checked["receipt items"] += len(read.items)

    def check_given(self, sent: Sent) -> None:
        """Whether every receipt that counts as given is one of those that were checked."""
        for expected in self._reader.expected(sent.id):
            if expected.state == "waiting":
                self.checked["receipts still owed"] += 1
            elif (sent.id, expected.recipient) not in self._given:
                self.problems.append(
                    f"Sent {sent.id}: {expected.recipient} counts as having received it, but its "
                    "receipt is missing from the store."
                )

    # --- Joint actions ---

    def check_action(self, notice_id: str) -> Assembled | None:
        """One envelope with every signature under a joint action; None where that fails."""
        try:
            checked = self._assemble(notice_id)
        except _BROKEN as error:
            self.problems.append(f"Joint action {notice_id}: {error}")
            return None
        self.checked["joint actions"] += 1
        self.checked["signatures of joint actions"] += len(checked.signers)
        return checked

    def _assemble(self, notice_id: str) -> Assembled:
        joint = actions.joint_action_of(self._reader, notice_id)
        envelope = actions.assemble(joint)
        jws = signature.parse(envelope, signature.MESSAGE_TYPE)
        signature.verify(jws, lambda kid: self.directory.key(kid).public)
        signers = {self.directory.key(s.kid).member for s in jws.signatures}
        accepting = {c for c, a in joint.action.answers.items() if a.answer == "accept"}
        if signers != accepting | {joint.notice.sender}:
            raise Broken(f"it is signed by {', '.join(sorted(signers))}")
        return Assembled(envelope, tuple(sorted(signers)), joint.action.state)

    @contextmanager
    def _about(self, what: str) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            self.problems.append(f"{what}: {error}")


def _check_row(row: Sent | Received, backed: Backed) -> None:
    """Whether what is shown beside a message is what the log has."""
    opened = backed.opened
    logged = (opened.entry.subject, opened.index, opened.entry_hash, opened.entry.time)
    if (row.id, row.index, row.entry_hash, row.accepted) != logged:
        raise Broken("the store has it under another id, index, hash or time than the log")
    if isinstance(row, Received) and row.sender != opened.entry.actor:
        raise Broken(f"the store has it as from {row.sender}, the log from {opened.entry.actor}")
