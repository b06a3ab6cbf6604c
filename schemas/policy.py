"""C2SP tlog-policy: which logs and witnesses somebody believes, and how many must have cosigned."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from schemas import checkpoint, cosignature, note, signature
from schemas.checkpoint import Checkpoint
from schemas.directory import Directory, State
from schemas.note import NoteError, Vkey

NONE: Final = "none"
"""The quorum that needs no cosignature."""

MAX_SIZE: Final = 256 * 1024
"""Bytes of a policy; 32 ML-DSA-44 witnesses take about 60 KiB."""

_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_SPACE: Final = re.compile(r"[ \t]+")
_COUNT: Final = re.compile(r"[1-9][0-9]{0,5}")
_LOG_KINDS: Final = (note.ED25519,)
_WITNESS_KINDS: Final = (cosignature.ED25519, cosignature.ML_DSA_44)

_COUNTRIES: Final = ("kz", "kg", "tj", "tm")
_UZBEK: Final = ("uz", "uz-nhrc")
_THRESHOLD: Final = 4


class PolicyError(ValueError):
    """The text is no policy: the line (from 1) and why."""


class Group(Struct, frozen=True):
    """At least ``threshold`` of ``members``, each the name of a witness or of a group before it."""

    threshold: int
    members: tuple[str, ...]


class Policy(Struct, frozen=True):
    """A policy as read. ``groups`` are in the order of their lines; names mean nothing outside."""

    logs: tuple[Vkey, ...] = ()
    witnesses: Mapping[str, Vkey] = {}
    groups: Mapping[str, Group] = {}
    quorum: str = NONE

    def holds(self, cosigners: Collection[Vkey]) -> bool:
        """Whether these witnesses together are a quorum."""
        public = {(vkey.kind, vkey.public) for vkey in cosigners}
        witnessed = {n for n, vkey in self.witnesses.items() if (vkey.kind, vkey.public) in public}
        for name, group in self.groups.items():
            if sum(member in witnessed for member in group.members) >= group.threshold:
                witnessed.add(name)
        return self.quorum == NONE or self.quorum in witnessed


def open_witnessed(raw: bytes, policy: Policy) -> Checkpoint:
    """The checkpoint in a signed note, of a log and with a quorum as the policy wants them.

    Raises:
        NoteError: the note is malformed, or not signed by a log of the policy under its own
            origin, or cosigned by too few.
    """
    signed = note.parse_note(raw)
    logs = note.verify(signed, policy.logs)
    head = checkpoint.parse(signed.text)
    if head.origin not in {log.name for log in logs}:
        raise NoteError(f"The checkpoint is of {head.origin}, which did not sign it.")
    if not policy.holds(cosignature.cosigners(signed, policy.witnesses.values())):
        raise NoteError("Too few witnesses cosigned the checkpoint.")
    return head


def witnesses(origin: str, directory: Directory) -> dict[str, Vkey]:
    """The witness keys that stand in the directory of a log, by code.

    Only those of participants whose keys hold: what was lost or stolen was lost or stolen whole.
    """
    return {
        participant.code: cosignature.vkey(
            cosignature.witness_name(origin, participant.code),
            signature.public_from_jwk(participant.keys.witness),
        )
        for participant in directory.participants.values()
        if participant.state is State.ACTIVE
        and participant.keys is not None
        and participant.kid is not None
    }


def regional(log: Vkey, witnesses: Mapping[str, Vkey]) -> str | None:
    """The policy of the region: 4 of kz, kg, tj, tm and either institution of Uzbekistan.

    Args:
        log: the log's verifier key.
        witnesses: those there are, by code.

    Returns:
        The text of the policy; None while there are witnesses in fewer than four countries.
    """
    uzbek = [code for code in _UZBEK if code in witnesses]
    members = [code for code in _COUNTRIES if code in witnesses]
    lines = [f"log {log}"]
    lines += [f"witness {code} {witnesses[code]}" for code in (*members, *uzbek)]
    if uzbek:
        lines.append(f"group uzbekistan any {' '.join(uzbek)}")
        members.append("uzbekistan")
    if len(members) < _THRESHOLD:
        return None
    lines += [f"group region {_THRESHOLD} {' '.join(members)}", "quorum region"]
    return "\n".join(lines) + "\n"


def parse(raw: bytes) -> Policy:
    """Read a policy. The URLs that may stand behind keys are passed over.

    Raises:
        PolicyError: it is not of the format, or larger than ``MAX_SIZE``.
    """
    if len(raw) > MAX_SIZE:
        raise PolicyError(f"A policy has at most {MAX_SIZE} bytes, not {len(raw)}.")
    if _FORBIDDEN.search(raw):
        raise PolicyError("A policy has no control characters other than tab and newline.")
    if raw and not raw.endswith(b"\n"):
        raise PolicyError("The last line of a policy ends in a newline.")
    reader = _Reader()
    # Octets beyond ASCII are opaque: as surrogates they stay what they are, valid UTF-8 or not.
    for number, line in enumerate(raw.decode("utf-8", "surrogateescape").split("\n"), 1):
        words = [word for word in _SPACE.split(line) if word]
        try:
            if words and not words[0].startswith("#"):
                reader.take(words[0], words[1:])
        except (NoteError, PolicyError) as error:
            raise PolicyError(f"Line {number}: {error}") from None
    return reader.policy()


class _Reader:
    """The policy as far as it was read."""

    def __init__(self) -> None:
        self._logs: list[Vkey] = []
        self._witnesses: dict[str, Vkey] = {}
        self._groups: dict[str, Group] = {}
        self._quorum: str | None = None
        self._in_a_group: set[str] = set()

    def take(self, keyword: str, words: Sequence[str]) -> None:
        """Take one line."""
        lines: Mapping[str, tuple[range, Callable[[Sequence[str]], None]]] = {
            "log": (range(1, 3), self._log),
            "witness": (range(2, 4), self._witness),
            "group": (range(3, MAX_SIZE), self._group),
            "quorum": (range(1, 2), self._take_quorum),
        }
        if keyword not in lines:
            raise PolicyError(f"A line begins with {', '.join(lines)} or #.")
        counts, take = lines[keyword]
        if len(words) not in counts:
            raise PolicyError(f"A line {keyword} has another number of words.")
        take(words)

    def policy(self) -> Policy:
        """All of it."""
        if self._quorum is None:
            raise PolicyError("A policy has one line quorum.")
        return Policy(tuple(self._logs), self._witnesses, self._groups, self._quorum)

    def _log(self, words: Sequence[str]) -> None:
        self._logs.append(_key(words[0], _LOG_KINDS, self._logs))

    def _witness(self, words: Sequence[str]) -> None:
        self._check_new(words[0])
        key = _key(words[1], _WITNESS_KINDS, self._witnesses.values())
        self._witnesses[words[0]] = key

    def _group(self, words: Sequence[str]) -> None:
        name, count, *members = words
        self._check_new(name)
        for member in members:
            self._check_known(member)
            if member in self._in_a_group:
                raise PolicyError(f"{member!a} is in a group already; it would count twice.")
            self._in_a_group.add(member)
        self._groups[name] = Group(_threshold(count, len(members)), tuple(members))

    def _take_quorum(self, words: Sequence[str]) -> None:
        if self._quorum is not None:
            raise PolicyError("A policy has one line quorum.")
        if words[0] != NONE:
            self._check_known(words[0])
        self._quorum = words[0]

    def _check_new(self, name: str) -> None:
        if name == NONE or name in self._witnesses or name in self._groups:
            raise PolicyError(f"The name {name!a} is taken.")

    def _check_known(self, name: str) -> None:
        if name not in self._witnesses and name not in self._groups:
            raise PolicyError(f"No witness or group {name!a} stands on a line before.")


def _key(text: str, kinds: Sequence[int], known: Collection[Vkey]) -> Vkey:
    vkey = Vkey.parse(text)
    if vkey.kind not in kinds:
        raise PolicyError(f"The key of {vkey.name} is of a type that is not for this.")
    if vkey.public in {other.public for other in known}:
        raise PolicyError(f"The key of {vkey.name} stands on a line before, under whatever name.")
    return vkey


def _threshold(text: str, members: int) -> int:
    threshold = {"any": 1, "all": members}.get(text)
    if threshold is None:
        if not _COUNT.fullmatch(text):
            raise PolicyError("A group says any, all, or how many of it are needed.")
        threshold = int(text)
    if threshold > members:
        raise PolicyError(f"A group of {members} cannot need {threshold} of them.")
    return threshold
