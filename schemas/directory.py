"""The directory: participants, their keys and the groups, folded from log entries alone.

The hub and every connector run this same fold over the same entries, so that a connector believes
no answer of the hub about who somebody is: only the log, whose every change everybody can see.
A key's validity is judged by the index of the entry that records its use (``Key.valid_at``).
"""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from schemas import entry as entries
from schemas import signature, statement, text
from schemas.encoding import CODE_PATTERN, unb64url
from schemas.entry import Entry
from schemas.refusal import Refused
from schemas.statement import Join, Keys, Revoke, Rotate

REGION = "region"
PARTNERS = "partners"

Role = Literal["member", "partner", "observer"]
Code = Annotated[str, Meta(pattern=CODE_PATTERN)]

_ROLE_GROUPS: Mapping[str, Role] = MappingProxyType({REGION: "member", PARTNERS: "partner"})

RESERVED_CODES = frozenset({REGION, PARTNERS, entries.HUB})
"""Codes that no participant can have."""


class State(StrEnum):
    """Where a participant stands; the table of moves is ``_MOVES``."""

    INVITED = "invited"
    ACTIVE = "active"
    HELD = "held"
    SUSPENDED = "suspended"


# entry type -> (states it may come in; None stands for "not yet known"), state after
_MOVES: Mapping[str, tuple[frozenset[State | None], State]] = MappingProxyType(
    {
        entries.MEMBER_INVITED: (frozenset({None, State.INVITED}), State.INVITED),
        entries.MEMBER_JOINED: (frozenset({State.INVITED}), State.ACTIVE),
        entries.MEMBER_HELD: (frozenset({State.ACTIVE, State.HELD}), State.HELD),
        entries.KEY_REPLACED: (frozenset({State.HELD}), State.ACTIVE),
        entries.KEY_ROTATED: (frozenset({State.ACTIVE}), State.ACTIVE),
        entries.MEMBER_SUSPENDED: (frozenset({State.ACTIVE, State.HELD}), State.SUSPENDED),
        entries.MEMBER_RESUMED: (frozenset({State.SUSPENDED}), State.ACTIVE),
    }
)


class DirectoryError(ValueError):
    """An entry that cannot be: the hub recorded a change that nobody was entitled to."""


class Key(msgspec.Struct, frozen=True):
    """A signing key and the log indices at which it holds: ``since <= index < until``."""

    kid: str
    member: str
    public: bytes
    since: int
    until: int | None = None
    expires: str | None = None

    def valid_at(self, index: int, time: str) -> bool:
        """Whether a use recorded at ``index`` and ``time`` counts."""
        return (
            self.since <= index
            and (self.until is None or index < self.until)
            and (self.expires is None or time < self.expires)
        )


class Participant(msgspec.Struct, frozen=True):
    """An institution or organisation with a code, as the log says it is."""

    code: str
    role: Role
    state: State
    names: Mapping[str, str]
    country: str | None = None
    keys: Keys | None = None
    kid: str | None = None


class Invited(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public part of ``member.invited``. The invitation itself is known by its digest."""

    role: Role
    names: dict[str, str]
    country: str | None
    invitation: str


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public part of ``member.held``: the keys ended, new ones are expected."""

    invitation: str


class Stated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public part of ``member.joined``, ``key.rotated`` and ``key.replaced``."""

    statement: str


class Revoked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public part of ``key.revoked``; an operator's revocation has no statement."""

    kid: str
    reason: str
    statement: str | None


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public part of ``group.changed``."""

    members: Annotated[list[Code], Meta(max_length=300)]


class Directory(msgspec.Struct, frozen=True):
    """Everybody at one point of the log. ``apply`` gives the directory after one more entry."""

    participants: Mapping[str, Participant] = {}
    keys: Mapping[str, Key] = {}
    groups: Mapping[str, tuple[str, ...]] = {}
    invitations: Mapping[str, str] = {}

    def apply(self, index: int, entry: Entry) -> "Directory":
        """Fold one entry.

        Raises:
            DirectoryError: the entry is not a change that its actor was entitled to.
        """
        if entry.type not in entries.DIRECTORY_TYPES:
            return self
        try:
            return _APPLY[entry.type](self, index, entry)
        except Refused as refusal:
            raise DirectoryError(f"{entry.type} at {index}: {refusal}") from None
        except (ValueError, msgspec.ValidationError) as error:
            raise DirectoryError(f"{entry.type} at {index}: {error}") from None

    def members_of(self, code: str) -> tuple[str, ...] | None:
        """The codes a group stands for, in order; None where ``code`` is no group.

        Whoever has not joined yet is in no group: nobody could have told them anything.
        """
        if code in _ROLE_GROUPS:
            role = _ROLE_GROUPS[code]
            found = [p for p in self.participants.values() if p.role == role]
        elif code in self.groups:
            found = [self.participants[member] for member in self.groups[code]]
        else:
            return None
        return tuple(sorted(p.code for p in found if p.state is not State.INVITED))

    def key(self, kid: str) -> Key:
        """The signing key of a ``kid``, whether it still holds or not.

        Raises:
            Refused: ``unknown-key``.
        """
        try:
            return self.keys[kid]
        except KeyError:
            raise Refused("unknown-key", f"No participant ever registered the key {kid}.") from None

    def valid_key(self, kid: str, index: int, time: str) -> Key:
        """A signing key that holds for a use recorded at ``index`` and ``time``.

        Raises:
            Refused: ``unknown-key``, ``revoked-key`` or ``expired-key``.
        """
        key = self.key(kid)
        if key.expires is not None and time >= key.expires:
            raise Refused("expired-key", f"The key {kid} expired at {key.expires}; rotate it.")
        if not key.valid_at(index, time):
            raise Refused("revoked-key", f"The key {kid} was revoked or replaced.")
        return key


T = TypeVar("T")


def _public(entry: Entry, into: type[T]) -> T:
    return msgspec.convert(entry.public, into)


def _move(directory: Directory, entry: Entry) -> Participant | None:
    """The participant that an entry is about, if the entry may come in its present state."""
    code = entry.subject or ""
    known = directory.participants.get(code)
    before, _ = _MOVES[entry.type]
    state = known.state if known else None
    if state not in before:
        raise DirectoryError(f"it may not come while {code} is {state or 'unknown'}")
    return known


def _new_code(entry: Entry, taken: Mapping[str, object]) -> str:
    """The code that an entry gives to somebody: participants and groups share one namespace."""
    code = entry.subject or ""
    if not re.fullmatch(CODE_PATTERN, code):
        raise DirectoryError(f"{code!r} is not a code")
    if code in RESERVED_CODES or code in taken:
        raise DirectoryError(f"{code} is reserved")
    return code


def _with(directory: Directory, participant: Participant, *keys: Key) -> Directory:
    return replace(
        directory,
        participants={**directory.participants, participant.code: participant},
        keys={**directory.keys, **{key.kid: key for key in keys}},
    )


def _end_keys(directory: Directory, code: str, index: int) -> list[Key]:
    return [
        replace(key, until=index)
        for key in directory.keys.values()
        if key.member == code and key.until is None
    ]


def _new_key(directory: Directory, code: str, keys: Keys, index: int) -> Key:
    public = signature.public_from_jwk(keys.sign)
    kid = signature.thumbprint(public)
    if kid in directory.keys:
        raise DirectoryError("a signing key is registered only once")
    # Otherwise one witness would count as two, or two as one.
    if any(p.keys and p.keys.witness == keys.witness for p in _others(directory, code)):
        raise DirectoryError("the witness key is another participant's")
    return Key(kid, code, public, index, expires=keys.expires)


def _others(directory: Directory, code: str) -> Iterable[Participant]:
    return (p for p in directory.participants.values() if p.code != code)


def _invited(directory: Directory, index: int, entry: Entry) -> Directory:
    _move(directory, entry)
    public = _public(entry, Invited)
    for tag, name in public.names.items():
        text.check(name, f"$.public.names.{tag}")
    code = _new_code(entry, directory.groups)
    participant = Participant(code, public.role, State.INVITED, public.names, public.country)
    return replace(
        _with(directory, participant),
        invitations={**directory.invitations, code: public.invitation},
    )


def _held(directory: Directory, index: int, entry: Entry) -> Directory:
    participant = _move(directory, entry)
    assert participant is not None
    ended = _end_keys(directory, participant.code, index)
    return replace(
        _with(directory, replace(participant, state=State.HELD, kid=None), *ended),
        invitations={
            **directory.invitations,
            participant.code: _public(entry, Held).invitation,
        },
    )


def _joined(directory: Directory, index: int, entry: Entry) -> Directory:
    """``member.joined`` and ``key.replaced``: keys under the one open invitation."""
    participant = _move(directory, entry)
    assert participant is not None
    jws, stated = statement.parse(unb64url(_public(entry, Stated).statement))
    if not isinstance(stated, Join) or stated.code != participant.code:
        raise DirectoryError("the statement is not this participant's join")
    if entries.digest(stated.invitation.encode()) != directory.invitations.get(stated.code):
        raise DirectoryError("the statement names another invitation")
    key = _new_key(directory, stated.code, stated.keys, index)
    statement.verify_signed_by(jws, key.public)
    joined = replace(participant, state=State.ACTIVE, keys=stated.keys, kid=key.kid)
    invitations = {c: i for c, i in directory.invitations.items() if c != stated.code}
    return replace(_with(directory, joined, key), invitations=invitations)


def _rotated(directory: Directory, index: int, entry: Entry) -> Directory:
    participant = _move(directory, entry)
    assert participant is not None
    jws, stated = statement.parse(unb64url(_public(entry, Stated).statement))
    if not isinstance(stated, Rotate) or stated.code != participant.code:
        raise DirectoryError("the statement is not this participant's rotation")
    if participant.kid is None:
        raise DirectoryError("there is no key to rotate from")
    previous = directory.valid_key(participant.kid, index, entry.time)
    key = _new_key(directory, stated.code, stated.keys, index)
    statement.verify_signed_by(jws, previous.public, key.public)
    ended = _end_keys(directory, participant.code, index)
    return _with(directory, replace(participant, keys=stated.keys, kid=key.kid), *ended, key)


def _revoked(directory: Directory, index: int, entry: Entry) -> Directory:
    public = _public(entry, Revoked)
    key = directory.key(public.kid)
    if key.member != entry.subject or key.until is not None:
        raise DirectoryError("the key is another's, or has ended already")
    if public.statement is not None:
        jws, stated = statement.parse(unb64url(public.statement))
        said = (public.kid, public.reason, key.member)
        if not isinstance(stated, Revoke) or (stated.kid, stated.reason, stated.code) != said:
            raise DirectoryError("the statement is not this revocation")
        signers = [directory.valid_key(s.kid, index, entry.time) for s in jws.signatures]
        if any(signer.member != key.member for signer in signers):
            raise DirectoryError("only the institution itself states a revocation")
        signature.verify(jws, lambda kid: directory.key(kid).public)
    participant = directory.participants[key.member]
    if participant.kid == key.kid:
        participant = replace(participant, kid=None)
    return _with(directory, participant, replace(key, until=index))


def _state_only(directory: Directory, index: int, entry: Entry) -> Directory:
    participant = _move(directory, entry)
    assert participant is not None
    state = _MOVES[entry.type][1]
    if state is State.ACTIVE and participant.kid is None:
        state = State.HELD  # resumed without a key: it still has to replace it
    return _with(directory, replace(participant, state=state))


def _group(directory: Directory, index: int, entry: Entry) -> Directory:
    code = _new_code(entry, directory.participants)
    members = tuple(sorted(set(_public(entry, Group).members)))
    unknown = [member for member in members if member not in directory.participants]
    if unknown:
        raise DirectoryError(f"{', '.join(unknown)}: not a participant")
    return replace(directory, groups={**directory.groups, code: members})


_APPLY = MappingProxyType(
    {
        entries.MEMBER_INVITED: _invited,
        entries.MEMBER_JOINED: _joined,
        entries.MEMBER_HELD: _held,
        entries.KEY_REPLACED: _joined,
        entries.KEY_ROTATED: _rotated,
        entries.KEY_REVOKED: _revoked,
        entries.MEMBER_SUSPENDED: _state_only,
        entries.MEMBER_RESUMED: _state_only,
        entries.GROUP_CHANGED: _group,
    }
)
