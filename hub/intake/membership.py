"""The jobs that change the directory: invitations, joins, keys, groups. Pure.

What may follow what is said once, in ``schemas.directory``; these jobs write the entries and keep
the invitations, whose secrets are not for the log.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

from hub.intake.batch import Batch, JoinRequest, Needs, Outcome, Token
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext, signature, statement
from schemas.directory import State
from schemas.encoding import b64url, format_time
from schemas.refusal import Refused
from schemas.signature import Jws
from schemas.statement import Join, Revoke, Rotate, Statement

INVITATION_LIFE = timedelta(days=14)

MAX_STATEMENT = 32_768
"""Bytes: in base64url a statement must fit into a log entry."""


class Change:
    """A change of the directory: ``decide`` is given as a function over the batch."""

    def __init__(
        self,
        decide: Callable[[Batch], Outcome],
        joins: tuple[str, ...] = (),
        token: Token | None = None,
    ) -> None:
        """Keep the decision and the codes whose invitations it has to know."""
        self.token = token
        self._decide = decide
        self._joins = joins

    def needs(self, needs: Needs) -> None:
        """The invitations concerned."""
        needs.joins.update(self._joins)

    def decide(self, batch: Batch) -> Outcome:
        """Use the token, then decide."""
        batch.use(self.token)
        return self._decide(batch)


CATCH_UP: Final = Change(lambda _: Outcome())
"""Changes nothing: with any job the recorder takes over what another hub has written, and finds out
where the database went back."""


def append(draft: Draft) -> Change:
    """An entry that needs no decision beyond the directory's own."""
    return Change(lambda batch: Outcome(batch.append(draft)))


def invite(draft: Draft, code: str, invitation: str) -> Change:
    """``member.invited`` or ``member.held``, with a new invitation (its id in base64url)."""

    def decide(batch: Batch) -> Outcome:
        index = batch.append(draft)
        expires = format_time(batch.now + INVITATION_LIFE)
        batch.write(
            "invitation",
            code=code,
            invitation=entries.digest(invitation.encode()),
            expires=expires,
        )
        batch.touched.add(code)
        return Outcome(index, value={"expires": expires})

    return Change(decide)


def _parse(raw: bytes) -> tuple[Jws, Statement]:
    if len(raw) > MAX_STATEMENT:
        raise Refused("bad-statement", f"A key statement has at most {MAX_STATEMENT} bytes.")
    return statement.parse(raw)


def request_join(raw: bytes, vkey: str) -> Change:
    """A join request with an invitation: kept until an operator approves its fingerprint.

    Raises:
        Refused: it is no join statement, or does not hold.
    """
    jws, stated = _parse(raw)
    if not isinstance(stated, Join):
        raise Refused("bad-statement", "Send a join statement.")
    public = signature.public_from_jwk(stated.keys.sign)
    statement.verify_signed_by(jws, public)
    kid = signature.thumbprint(public)
    digits = statement.fingerprint(kid, vkey, stated.invitation)

    def decide(batch: Batch) -> Outcome:
        request = batch.facts.joins.get(stated.code)
        known = request and request.invitation == entries.digest(stated.invitation.encode())
        if request is None or not known or request.expires <= batch.time:
            raise Refused("unknown-invitation", "Ask the hub's operators for a new bundle.")
        if request.kid is not None and request.kid != kid:
            # The first keys stay: a stolen bundle must not replace them unseen.
            raise Refused("unknown-invitation", "Somebody joined with this bundle already.")
        if kid in batch.directory.keys:
            raise Refused("conflict", "This key is registered already.")
        batch.write(
            "join_request",
            request_code=stated.code,
            under=request.invitation,
            kid=kid,
            fingerprint=digits,
            statement=raw,
            received=batch.time,
        )
        batch.facts.joins[stated.code] = JoinRequest(
            request.invitation, request.expires, kid, digits, raw, batch.time
        )
        return Outcome(value={"code": stated.code, "state": "pending", "fingerprint": digits})

    return Change(decide, (stated.code,))


def approve(code: str, fingerprint: str, account: str) -> Change:
    """An operator compared the fingerprint aloud with the technician."""

    def decide(batch: Batch) -> Outcome:
        request = batch.facts.joins.get(code)
        if request is None or request.statement is None:
            raise Refused("conflict", f"No request to join as {code} is waiting.")
        if request.fingerprint != "".join(fingerprint.split()):
            raise Refused(
                "conflict", "The fingerprint is another. Do not approve: compare again, aloud."
            )
        participant = batch.directory.participants.get(code)
        held = participant is not None and participant.state is State.HELD
        kind = entries.KEY_REPLACED if held else entries.MEMBER_JOINED
        index = batch.append(Draft(kind, account, code, {"statement": b64url(request.statement)}))
        batch.write("end_invitation", ended_code=code)
        del batch.facts.joins[code]
        batch.touched.add(code)
        return Outcome(index)

    return Change(decide, (code,))


def state_keys(raw: bytes, identity: str, token: Token | None) -> Change:
    """An institution's own statement about its keys: rotate or revoke.

    Raises:
        Refused: it is no such statement, or another institution's.
    """
    _, stated = _parse(raw)
    if stated.code != identity:
        raise Refused("sender-mismatch", f"The statement is {stated.code}'s.")
    public: dict[str, object] = {"statement": b64url(raw)}
    match stated:
        case Rotate():
            draft = Draft(entries.KEY_ROTATED, identity, identity, public)
        case Revoke():
            public |= {"kid": stated.kid, "reason": stated.reason}
            draft = Draft(entries.KEY_REVOKED, identity, identity, public)
        case _:
            raise Refused("bad-statement", "Send a rotate or revoke statement.")

    def decide(batch: Batch) -> Outcome:
        index = batch.append(draft)
        batch.touched.add(identity)
        return Outcome(index, value={"index": index})

    return Change(decide, token=token)


def change_state(kind: str, code: str, account: str, reason: str) -> Change:
    """Suspend or resume a participant; the reason is for the private part."""
    private = jsontext.encode({"reason": reason})

    def decide(batch: Batch) -> Outcome:
        index = batch.append(Draft(kind, account, code, private=private))
        batch.touched.add(code)
        return Outcome(index, value={"index": index})

    return Change(decide)


def revoke_key(kid: str, reason: str, account: str) -> Change:
    """An operator ends a key, after a call for help."""

    def decide(batch: Batch) -> Outcome:
        code = batch.directory.key(kid).member
        public: dict[str, object] = {"kid": kid, "reason": reason, "statement": None}
        index = batch.append(Draft(entries.KEY_REVOKED, account, code, public))
        batch.touched.add(code)
        return Outcome(index, value={"index": index})

    return Change(decide)


def change_group(code: str, members: Iterable[str], account: str) -> Change:
    """Say who is in a thematic network from now on."""
    public: dict[str, object] = {"members": sorted(set(members))}
    return append(Draft(entries.GROUP_CHANGED, account, code, public))
