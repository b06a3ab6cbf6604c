"""One group commit in the making: a working copy of the state that jobs decide upon. Pure.

The recorder reads the facts that the jobs need, lets each job decide on the batch, and writes the
outcome in one transaction. Until that has committed, the batch is a wish: if the commit fails, it
is dropped whole and the state it started from still holds.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from hub.delivery.subscription import Subscription
from hub.intake.admission import Known, Notice
from hub.ledger import sequence
from hub.ledger.sequence import Draft, Sequenced, Tree
from schemas.acceptance import Acceptance
from schemas.directory import Directory
from schemas.encoding import format_time, parse_time
from schemas.joint_action import Answer
from schemas.refusal import Refused

MAX_ENTRIES = 2
"""Entries that one job appends at most."""


class State(msgspec.Struct, frozen=True):
    """What the last commit left: the tree, the directory, and each inbox's last position."""

    tree: Tree = Tree()
    directory: Directory = Directory()
    positions: Mapping[str, int] = {}


NOTHING = State()
"""Before the first commit."""


class Token(msgspec.Struct, frozen=True):
    """The one-time id of an authentication token, and when it expires (seconds since 1970)."""

    jti: str
    expires: int


class Delivery(msgspec.Struct, frozen=True):
    """A delivery row as a receipt has to match it."""

    message_id: str
    sender: str
    accepted: str
    entry_hash: bytes
    state: str
    receipt_index: int | None


class Receipted(msgspec.Struct, frozen=True):
    """What one receipt changes in deliveries of a receiver; ``index`` is the receipt's entry."""

    receiver: str
    state: str
    index: int
    time: str
    reason: str


class JoinRequest(msgspec.Struct, frozen=True):
    """An open invitation, and the request made with it, if any."""

    invitation: str
    expires: str
    kid: str | None = None
    fingerprint: str | None = None
    statement: bytes | None = None
    received: str | None = None


class Needs:
    """What the jobs of a batch have to know; each adds to it, and it is read in a few queries.

    Who is who is known already: ``directory`` is that of the batch.
    """

    def __init__(self, directory: Directory) -> None:
        """Nothing is needed yet."""
        self.directory = directory
        self.messages: set[str] = set()
        self.copies: set[str] = set()
        self.holds: set[str] = set()
        self.notices: set[str] = set()
        self.tokens: set[str] = set()
        self.senders: set[str] = set()
        self.deliveries: dict[str, set[int]] = {}
        self.joins: set[str] = set()
        self.subscriptions: set[str] = set()
        self.owners: set[str] = set()


class Loaded(msgspec.Struct):
    """The facts that were read, kept up to date while the batch is decided.

    ``copies`` has each recipient's state of delivery, by message; ``holds`` the entry that holds a
    message; ``owned`` how many webhook subscriptions a participant has.
    """

    messages: dict[str, Known]
    notices: dict[str, Notice]
    tokens: set[str]
    sent: dict[str, int]
    deliveries: dict[tuple[str, int], Delivery]
    joins: dict[str, JoinRequest]
    copies: dict[str, dict[str, str]] = {}
    holds: dict[str, int] = {}
    subscriptions: dict[str, Subscription] = {}
    owned: dict[str, int] = {}


class Outcome(msgspec.Struct, frozen=True):
    """What became of a job.

    ``index`` is the entry that answers it (an earlier one when ``new`` is false). ``refused`` is
    set when the answer is no; then ``index`` is the recorded refusal, if it was recorded.
    """

    index: int | None = None
    new: bool = True
    value: Mapping[str, object] = {}
    refused: Refused | None = None

    @property
    def name(self) -> str:
        """What became of a submission in one word: accepted, duplicate or refused."""
        if self.refused is not None:
            return "refused"
        return "accepted" if self.new else "duplicate"


class Fresh(msgspec.Struct, frozen=True):
    """A message that was just recorded: its log index, bytes, acceptance, and who gets it where."""

    index: int
    envelope: bytes
    acceptance: Acceptance
    positions: Mapping[str, int]


class Committed(msgspec.Struct, frozen=True):
    """What a commit brought: who has something new, new messages, receipts by receiver.

    ``waited``: seconds from the acceptance of each copy to its first receipt; ``entries`` is how
    many it appended to the log; ``erased`` are messages by their ids.
    """

    touched: frozenset[str]
    fresh: Sequence[Fresh]
    receipts: Mapping[str, int]
    entries: int
    erased: frozenset[str] = frozenset()
    waited: Sequence[float] = ()


class Job(Protocol):
    """Something that changes the log."""

    @property
    def token(self) -> Token | None:
        """The authentication token that this job uses up."""
        ...

    def needs(self, needs: Needs) -> None:
        """Say what must be known to decide."""
        ...

    def decide(self, batch: "Batch") -> Outcome:
        """Decide, adding entries and rows to the batch, or raise ``Refused`` and add none."""
        ...


class Batch:
    """The working copy."""

    def __init__(self, state: State, loaded: Loaded, now: datetime, salts: bytes) -> None:
        """Start from a committed state.

        Args:
            state: what the last commit left.
            loaded: the facts the jobs asked for.
            now: the one time of everything in this batch.
            salts: random bytes, at least 32 for each entry to come.
        """
        self.now = now
        self.time = format_time(now)
        self.directory = state.directory
        self.positions = dict(state.positions)
        self.facts = loaded
        self.entries: list[Sequenced] = []
        self.rows: dict[str, list[dict[str, object]]] = {}
        self.receipted: dict[Receipted, list[int]] = {}
        self.sent: dict[str, int] = {}
        self.touched: set[str] = set()
        self.receipts: dict[str, int] = {}
        self.waited: list[float] = []
        self._messages: list[tuple[int, bytes, Mapping[str, int]]] = []
        self._state = state
        self._salts = salts

    @property
    def index(self) -> int:
        """The index that the next entry gets."""
        return self._state.tree.size + len(self.entries)

    def append(self, draft: Draft) -> int:
        """Add an entry and give its index.

        Raises:
            Refused: ``conflict``: the directory does not allow this change in its present state, or
                the entry is too large for the log.
        """
        at = len(self.entries) * 32
        try:
            written = sequence.write(draft, self.index, self.time, self._salts[at : at + 32])
            self.directory = self.directory.apply(written.index, written.entry)
        except ValueError as error:
            raise Refused("conflict", f"That cannot be recorded: {error}.") from None
        self.entries.append(written)
        return written.index

    def write(self, what: str, /, **values: object) -> None:
        """Add a row for one of the statements of the store (``hub.store.journal``)."""
        self.rows.setdefault(what, []).append(values)

    def use(self, token: Token | None) -> None:
        """Use up an authentication token.

        Raises:
            Refused: ``unauthenticated``: it was used before.
        """
        if token is None:
            return
        if token.jti in self.facts.tokens:
            raise Refused("unauthenticated", "This token was used already; sign a new one.")
        self.facts.tokens.add(token.jti)
        self.write("use_token", jti=token.jti, expires=token.expires)

    def deliver(self, recipient: str) -> int:
        """The next position in a recipient's inbox."""
        position = self.positions.get(recipient, 0) + 1
        self.positions[recipient] = position
        self.touched.add(recipient)
        return position

    def count_sent(self, sender: str) -> None:
        """A sender has sent one more message in this minute."""
        self.sent[sender] = self.sent.get(sender, 0) + 1
        self.facts.sent[sender] = self.facts.sent.get(sender, 0) + 1

    def add_message(self, index: int, envelope: bytes, positions: Mapping[str, int]) -> None:
        """A message is among this batch's entries."""
        self._messages.append((index, envelope, positions))

    def note_receipt(self, receiver: str, position: int) -> None:
        """A receipt came in for a delivery; only the first one for it counts."""
        delivery = self.facts.deliveries[receiver, position]
        if delivery.state == "waiting":
            self.receipts[receiver] = self.receipts.get(receiver, 0) + 1
            self.waited.append((self.now - parse_time(delivery.accepted)).total_seconds())

    def add_answer(self, notice_id: str, answer: Answer) -> None:
        """Let later jobs of this batch see an answer."""
        notice = self.facts.notices[notice_id]
        self.facts.notices[notice_id] = msgspec.structs.replace(
            notice, answers=[*notice.answers, answer]
        )

    def committed(self, acceptances: Mapping[int, Acceptance]) -> Committed:
        """What the commit of this batch brought."""
        fresh = [
            Fresh(index, envelope, acceptances[index], positions)
            for index, envelope, positions in self._messages
        ]
        erased = frozenset(str(row["erased_id"]) for row in self.rows.get("erase", ()))
        touched = frozenset(self.touched)
        return Committed(touched, fresh, self.receipts, len(self.entries), erased, self.waited)

    def state(self, tree: Tree) -> State:
        """The state after this batch, once it is committed with its tree."""
        return State(tree, self.directory, self.positions)
