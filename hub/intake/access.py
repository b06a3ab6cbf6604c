"""The jobs about accounts, and about what the hub notes by itself. Pure."""

from hub.intake.batch import Batch, Needs, Outcome, Token
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext

LOGIN = "operator.login"
PARTICIPANT_LOGIN = "participant.login"
ACCESS_REVOKED = "operator.token_revoked"


class CreateToken:
    """A new access token for an operator, auditor or reader; only its hash is kept."""

    token = None

    def __init__(self, digest: str, account: str, scopes: tuple[str, ...], by: str) -> None:
        """Keep the hash of the token, whose it is, and who made it."""
        self._digest = digest
        self._account = account
        self._scopes = scopes
        self._by = by

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Record the token."""
        private = jsontext.encode({"scopes": self._scopes})
        index = batch.append(
            Draft("operator.token_created", self._by, self._account, private=private)
        )
        batch.write(
            "access_token",
            hash=self._digest,
            account=self._account,
            scopes=" ".join(self._scopes),
            created=batch.time,
        )
        return Outcome(index)


class RevokeTokens:
    """All access tokens of an account end."""

    token = None

    def __init__(self, account: str, by: str) -> None:
        """Whose tokens, and who ends them."""
        self._account = account
        self._by = by

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Record the end of the tokens."""
        index = batch.append(Draft(ACCESS_REVOKED, self._by, self._account))
        batch.write("revoke_tokens", revoked_account=self._account, time=batch.time)
        return Outcome(index)


class OpenSession:
    """Somebody signs in at the console. Of secrets only hashes are kept.

    A session lasts no longer than what it was opened with: an operator's or auditor's access token,
    or the key that signed a participant's own token, which counts once.
    """

    def __init__(
        self,
        digest: str,
        by: str,
        *,
        token_digest: str | None = None,
        kid: str | None = None,
        token: Token | None = None,
    ) -> None:
        """Keep the hash of the session's secret, who it is, and what they showed."""
        self.token = token
        self._digest = digest
        self._by = by
        self._token_digest = token_digest
        self._kid = kid

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Record that they came in: there is no session without its entry.

        Raises:
            Refused: ``unauthenticated``: the participant's token was used before.
        """
        batch.use(self.token)
        index = batch.append(Draft(PARTICIPANT_LOGIN if self._kid else LOGIN, self._by))
        batch.write(
            "session",
            hash=self._digest,
            token=self._token_digest,
            kid=self._kid,
            created=batch.time,
            seen=batch.time,
        )
        return Outcome(index)


class SeeSession:
    """Somebody did something at the console. No entry: what they did has one of its own."""

    token = None

    def __init__(self, digest: str) -> None:
        """The hash of the session's secret."""
        self._digest = digest

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Note the time."""
        batch.write("seen_session", seen_hash=self._digest, at=batch.time)
        return Outcome()


class EndSession:
    """Somebody signs out of the console."""

    token = None

    def __init__(self, digest: str) -> None:
        """The hash of the session's secret."""
        self._digest = digest

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Forget the session."""
        batch.write("end_session", ended_hash=self._digest)
        return Outcome()


class ExpireDeliveries:
    """A message's time is over before some recipients fetched it."""

    token = None

    def __init__(self, message_id: str, recipients: tuple[str, ...]) -> None:
        """The message and the recipients that did not have it yet."""
        self._message_id = message_id
        self._recipients = recipients

    def needs(self, needs: Needs) -> None:
        """What became of the copies."""
        needs.copies.add(self._message_id)

    def decide(self, batch: Batch) -> Outcome:
        """Record whom it did not reach; nothing where all have it by now, or another hub did."""
        copies = batch.facts.copies.get(self._message_id, {})
        late = tuple(code for code in self._recipients if copies.get(code) == "waiting")
        if not late:
            return Outcome(new=False)
        index = batch.append(
            Draft(
                entries.DELIVERY_EXPIRED,
                entries.HUB,
                self._message_id,
                private=jsontext.encode({"recipients": late}),
            )
        )
        for recipient in late:
            batch.write("expired", receiver=recipient, expired_id=self._message_id)
        return Outcome(index)
