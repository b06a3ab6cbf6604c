"""Checking evidence: what holds, what does not and why, and what nobody can tell from it.

Nothing in the zip is believed because it stands there. The keys that are trusted come from outside,
as a C2SP tlog-policy; the log vouches for the entries, these for the keys of the institutions, and
those for the message and its receipts. ``cover.html`` makes the same checks under the same names.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import Self

import msgspec
from msgspec.structs import replace

from schemas import cosignature, jsontext, merkle, message, note, receipt, signature
from schemas import entry as entries
from schemas.acceptance import Broken
from schemas.checkpoint import Checkpoint, open_checkpoint
from schemas.directory import Directory, DirectoryError
from schemas.encoding import b64url, format_time, unb64url
from schemas.entry import AcceptedPrivate, Entry, RefusedPrivate
from schemas.evidence import archive
from schemas.evidence.archive import ArchiveError
from schemas.evidence.bundle import ABOUT_MESSAGE, Evidence, Proven
from schemas.merkle import ProofError
from schemas.note import NoteError, SignatureLine, Vkey
from schemas.policy import Policy
from schemas.refusal import Refused
from schemas.signature import Jws

LIMITS = (
    "Whether the log has more about these keys, such as a revocation: a copy of it shows that.",
    "Whether others should have received it, too: the directory of that day is not here whole.",
)
"""What evidence cannot show, whatever is in it."""

_MESSAGE_TYPES = (entries.MESSAGE_ACCEPTED, entries.MESSAGE_REFUSED)
_LAST_SECOND = 253_402_300_799  # of the year 9999

_BROKEN = (ArchiveError, Broken, DirectoryError, NoteError, ProofError, Refused, ValueError)
"""How what is not so shows itself."""


class Result(StrEnum):
    """How a check ended; ``OPEN``: it needs something from outside that was not given."""

    HOLDS = "holds"
    FAILS = "fails"
    OPEN = "open"


class Finding(msgspec.Struct, frozen=True):
    """One check by its name, what it was about, and a sentence for people."""

    check: str
    about: str
    result: Result
    sentence: str


class Report(msgspec.Struct, frozen=True):
    """Everything that was checked. ``limits`` says what could not be."""

    findings: tuple[Finding, ...]
    limits: tuple[str, ...] = LIMITS
    evidence: Evidence | None = None

    @property
    def holds(self) -> bool:
        """Whether all of it holds, and under keys that are trusted."""
        return all(finding.result is Result.HOLDS for finding in self.findings)


class Opened(msgspec.Struct, frozen=True):
    """An entry that is in the log, with the private part that it commits to."""

    index: int
    raw: bytes
    entry: Entry
    private: bytes | None


def check(raw: bytes, cover: str, policy: Policy | None) -> Report:
    """Check an evidence zip, whatever the bytes are.

    Args:
        raw: the zip.
        cover: the text of ``cover.html``.
        policy: whom to trust; without one the keys stay unanchored.
    """
    try:
        evidence = archive.read(raw)
    except ArchiveError as error:
        return Report((Finding("archive", "", Result.FAILS, str(error)),))
    checking = _Checking(evidence)
    checking.archive(raw, cover)
    checking.checkpoint()
    checking.trust(policy)
    checking.entries()
    checking.directory()
    checking.message()
    checking.receipts()
    return Report(tuple(checking.findings), tuple(checking.limits()), evidence)


class _Attempt:
    """One check: what raises within does not hold. The finding stands where the check began."""

    def __init__(self, findings: list[Finding], finding: Finding) -> None:
        self._findings = findings
        self._place = len(findings)
        findings.append(finding)

    def says(self, sentence: str) -> None:
        """Say more precisely what was found."""
        found = self._findings[self._place]
        self._findings[self._place] = replace(found, sentence=f"{sentence}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, _BROKEN):
            return False
        found = self._findings[self._place]
        sentence = f"{found.sentence[:-1]}: NOT SO, {str(error).rstrip('.')}."
        self._findings[self._place] = replace(found, result=Result.FAILS, sentence=sentence)
        return True


class _Checking:
    """The checks of one evidence, in their order: each builds on what held before."""

    def __init__(self, evidence: Evidence) -> None:
        self.findings: list[Finding] = []
        self._evidence = evidence
        self._checkpoint: Checkpoint | None = None
        self._cosigners: list[Vkey] = []
        self._opened: list[Opened] = []
        self._directory = Directory()
        self._accepted: Opened | None = None
        self._routing: AcceptedPrivate | None = None
        self._received: set[str] = set()

    # --- The file and the log ---

    def archive(self, raw: bytes, cover: str) -> None:
        """The zip is the one that follows from ``evidence.json``, byte for byte."""
        with self._that("archive", "", "Every byte of the file is as this program writes it"):
            indices = [recorded.index for recorded in self._evidence.entries]
            if sorted(set(indices)) != indices:
                raise ArchiveError("an entry stands twice, or they are not in order")
            found = archive.differing(raw, archive.files(self._evidence, cover))
            if found is not None:
                raise ArchiveError(found)

    def checkpoint(self) -> None:
        """The log signed the checkpoint, and so did everyone whose line is under it."""
        evidence = self._evidence
        raw = evidence.checkpoint.encode()
        with self._that("checkpoint", "", "The log's key signed the checkpoint") as that:
            found = open_checkpoint(raw, Vkey.parse(evidence.log))
            self._checkpoint = found
            that.says(f"The log {found.origin} signed that it had {found.size} entries")
        if self._checkpoint is None:
            return
        signed = note.parse_note(raw)
        log = Vkey.parse(evidence.log)
        for line in signed.signatures:
            if (line.name, line.key_id) != (log.name, log.key_id):
                self._cosigned(line, signed.text)
        cosigned = {str(by) for by in self._cosigners}
        for text in sorted({*evidence.witnesses} - cosigned):
            self._fails("cosignature", text.partition("+")[0], "It is named as a witness only")

    def _cosigned(self, line: SignatureLine, text: str) -> None:
        with self._that("cosignature", line.name, f"{line.name} cosigned the checkpoint") as that:
            known = [Vkey.parse(witness) for witness in self._evidence.witnesses]
            by = next((k for k in known if (k.name, k.key_id) == (line.name, line.key_id)), None)
            if by is None:
                raise NoteError("its key is not here")
            time = cosignature.time_of(line, by, text)
            self._cosigners.append(by)
            that.says(f"{by.name} cosigned the checkpoint {_when(time)}")

    def trust(self, policy: Policy | None) -> None:
        """Somebody whom the reader trusts stands behind the log's key, and enough witnesses."""
        log = self._evidence.log
        if policy is None:
            said = (
                f"Nobody vouches for the log's key here: {log}. Compare it with one from another "
                "source than this file, and give that in a --policy"
            )
            self.findings.append(Finding("log-key", "", Result.OPEN, f"{said}."))
            return
        with self._that("log-key", "", "The log's key is one that the policy trusts"):
            if log not in {str(trusted) for trusted in policy.logs}:
                raise NoteError(f"{log} is not in the policy")
        if self._checkpoint is None:
            return
        seen = len(set(self._cosigners) & set(policy.witnesses.values()))
        said = f"The policy's quorum is reached ({policy.quorum}; {seen} of its witnesses cosigned)"
        with self._that("quorum", "", said):
            if not policy.holds(self._cosigners):
                raise NoteError("too few of the policy's witnesses cosigned")

    def entries(self) -> None:
        """Every entry is in the log, and what is private in it is what it commits to."""
        for recorded in self._evidence.entries:
            about = str(recorded.index)
            with self._that("included", about, f"Entry {about} is in the log") as that:
                opened = self._included(recorded)
                that.says(f"Entry {about}, {opened.entry.type}, is in the log")
                if recorded.private is not None or recorded.salt is not None:
                    opened = self._with_private(recorded, opened)
                self._opened.append(opened)

    def _included(self, recorded: Proven) -> Opened:
        if self._checkpoint is None:
            raise ProofError("there is no checkpoint that holds")
        raw = unb64url(recorded.entry)
        hashes = [unb64url(text) for text in recorded.proof]
        size, root = self._checkpoint.size, self._checkpoint.root
        merkle.verify_inclusion(recorded.index, size, merkle.leaf_hash(raw), hashes, root)
        entry = entries.decode(raw)
        if not self._belongs(entry):
            raise ProofError(f"it is {entry.type} about {entry.subject}, which is not in question")
        return Opened(recorded.index, raw, entry, None)

    def _belongs(self, entry: Entry) -> bool:
        if entry.type in (*_MESSAGE_TYPES, *ABOUT_MESSAGE):
            return entry.subject == self._evidence.id
        return entry.type in (*entries.DIRECTORY_TYPES, entries.RECEIPTS_RECORDED)

    def _with_private(self, recorded: Proven, opened: Opened) -> Opened:
        """The entry with its private part; without it where that is another than the log's."""
        about = str(recorded.index)
        said = f"The private part of entry {about} is the one that the entry commits to"
        with self._that("private", about, said):
            private = unb64url(recorded.private or "")
            if opened.entry.private != entries.commitment(unb64url(recorded.salt or ""), private):
                raise Broken("the hash of salt and private part is another")
            return replace(opened, private=private)
        return opened

    # --- Keys ---

    def directory(self) -> None:
        """Each change of keys and standing was one that its actor was entitled to."""
        for opened in self._opened:
            entry = opened.entry
            if entry.type not in entries.DIRECTORY_TYPES:
                continue
            about = str(opened.index)
            said = f"{entry.type} of {entry.subject} in entry {about} ({entry.time}) is in order"
            with self._that("directory", about, said):
                self._directory = self._directory.apply(opened.index, entry)

    # --- The message ---

    def message(self) -> None:
        """The log has the message, and these are its bytes, its sender and its signatures."""
        with self._that("message", self._evidence.id, "The log has the message") as that:
            found = [o for o in self._opened if o.entry.type in _MESSAGE_TYPES]
            if len(found) != 1:
                raise Broken(f"{len(found)} entries say what became of it")
            self._accepted = found[0]
            that.says(self._verdict(found[0]))
        if self._accepted is None:
            return
        committed = self._committed(self._accepted)
        if committed is None or self._evidence.envelope is None:
            if self._evidence.envelope is not None:
                self._fails("envelope", "", "Nothing shows that this is the message that was sent")
            return
        with self._that("envelope", "", "The envelope is the one that the log commits to"):
            envelope = unb64url(self._evidence.envelope)
            if entries.digest(envelope) != committed:
                raise Broken(f"its SHA-256 is {entries.digest(envelope)}, not {committed}")
            # What was refused need not even be an envelope.
            if self._accepted.entry.type == entries.MESSAGE_ACCEPTED:
                self._signed(signature.parse(envelope, signature.MESSAGE_TYPE), self._accepted)

    @staticmethod
    def _verdict(opened: Opened) -> str:
        entry = opened.entry
        if entry.type == entries.MESSAGE_ACCEPTED:
            return f"The hub accepted the message of {entry.actor} at {entry.time}"
        return f"The hub refused the message of {entry.actor} at {entry.time}"

    def _committed(self, opened: Opened) -> str | None:
        """The digest of the envelope in a private part; None where that is not here or broken."""
        if opened.private is None:
            return None
        try:
            if opened.entry.type == entries.MESSAGE_REFUSED:
                return jsontext.decode(opened.private, RefusedPrivate).envelope
            self._routing = jsontext.decode(opened.private, AcceptedPrivate)
        except Refused as refusal:
            self._fails(
                "envelope", "", f"The log's record of the message cannot be read: {refusal}"
            )
            return None
        return self._routing.envelope

    def _signed(self, jws: Jws, accepted: Opened) -> None:
        signers: set[str] = set()
        for one in jws.signatures:
            with self._that(
                "signature", one.kid, f"The signature by the key {one.kid} holds"
            ) as that:
                time = accepted.entry.time
                key = self._directory.valid_key(one.kid, accepted.index, time)
                if not signature.holds(key.public, one.value, one.signing_input):
                    raise Refused("bad-signature", "It does not verify.")
                signers.add(key.member)
                that.says(
                    f"{key.member} signed the message with the key {one.kid}, which was its key "
                    f"from entry {key.since} on and still at entry {accepted.index}"
                )
        with self._that("described", "", "The log describes the message as it is"):
            self._described(jws.payload, accepted, signers)

    def _described(self, payload: bytes, accepted: Opened, signers: set[str]) -> None:
        assert self._routing is not None
        read = jsontext.decode(payload, message.Message)
        said = (read.id, read.sender, read.kind, read.marking, read.thread)
        of = self._routing
        logged = (accepted.entry.subject, accepted.entry.actor, of.kind, of.marking, of.thread)
        if said != logged:
            raise Broken("id, sender, kind, marking or thread are others there")
        if read.sender not in signers:
            raise Broken(f"{read.sender} did not sign it")

    # --- Receipts ---

    def receipts(self) -> None:
        """Each receipt is its receiver's own, and about this message."""
        for opened in self._opened:
            if opened.entry.type == entries.RECEIPTS_RECORDED:
                about = str(opened.index)
                with self._that("receipt", about, f"Entry {about} holds a receipt") as that:
                    that.says(self._receipt(opened))

    def _receipt(self, opened: Opened) -> str:
        if opened.private is None:
            raise Broken("it is not shown")
        if self._accepted is None:
            raise Broken("there is no acceptance that it could be about")
        jws, read = receipt.parse(opened.private)
        time = opened.entry.time
        keys = {s.kid: self._directory.valid_key(s.kid, opened.index, time) for s in jws.signatures}
        signature.verify(jws, lambda kid: keys[kid].public)
        if {read.receiver, opened.entry.actor, *(key.member for key in keys.values())} != {
            read.receiver
        }:
            raise Broken(f"{read.receiver} alone must have signed it, and be its actor in the log")
        item = next((item for item in read.items if item[0] == self._evidence.id), None)
        if item is None:
            raise Broken("it is about other messages")
        _, entry_hash, position, status, reason = item
        if entry_hash != b64url(merkle.leaf_hash(self._accepted.raw)):
            raise Broken("it is about another acceptance of the message")
        there = self._routing.recipients.get(read.receiver) if self._routing else None
        if self._routing is not None and (there is None or there.position != position):
            raise Broken(f"the log has no recipient {read.receiver} at position {position}")
        self._received.add(read.receiver)
        why = f" ({reason})" if reason else ""
        return f"{read.receiver} signed at {read.time}: {status}{why}, position {position}"

    def limits(self) -> Iterator[str]:
        """What was not checked, and what is not there."""
        if self._evidence.envelope is None:
            yield f"What the message says: {self._unseen()}."
        if self._routing is not None:
            waiting = sorted(self._routing.recipients.keys() - self._received)
            if waiting:
                yield f"Whether {', '.join(waiting)} received it: there is no receipt here."
        yield from LIMITS

    def _unseen(self) -> str:
        """Why the message is not here, and what is instead."""
        if self._accepted is not None and self._accepted.private is not None:
            return "it is not in this evidence, only its hash is"
        erased = next((o for o in self._opened if o.entry.type == entries.MESSAGE_ERASED), None)
        if erased is None:
            return "neither it nor its hash is in this evidence"
        return (
            f"it was erased at the hub, and its hash with it, at {erased.entry.time} (entry "
            f"{erased.index}); whoever received it may have a copy, with evidence of its own"
        )

    # --- Keeping the record ---

    def _that(self, check: str, about: str, sentence: str) -> "_Attempt":
        return _Attempt(self.findings, Finding(check, about, Result.HOLDS, f"{sentence}."))

    def _fails(self, check: str, about: str, sentence: str) -> None:
        self.findings.append(Finding(check, about, Result.FAILS, f"{sentence}."))


def _when(seconds: int) -> str:
    if seconds > _LAST_SECOND:
        return f"{seconds} seconds after 1970"
    return f"at {format_time(datetime.fromtimestamp(seconds, UTC))}"


_SIGNS = {Result.HOLDS: "holds ", Result.FAILS: "NOT SO", Result.OPEN: "OPEN  "}


def lines(report: Report) -> Iterator[str]:
    """A report in words, a line for each thing."""
    for finding in report.findings:
        yield f"{_SIGNS[finding.result]}  {finding.sentence}"
    for limit in report.limits:
        yield f"not checked  {limit}"


def verdict(report: Report) -> str:
    """The one sentence that says whether to believe it."""
    failed = [finding for finding in report.findings if finding.result is Result.FAILS]
    if failed:
        return f"It does not hold: {failed[0].sentence}"
    if not report.holds:
        return "All of it fits together, but under a log key that nobody vouches for."
    return "All of it holds, under keys that the policy trusts."
