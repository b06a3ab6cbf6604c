"""The jobs that change webhook subscriptions: each change and its entry are one commit. Pure."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from hub.delivery.schedule import Endpoint, Notice, decided
from hub.delivery.subscription import Filter, Generation, Subscription
from hub.intake.batch import Batch, Needs, Outcome, Token
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext
from schemas.directory import State
from schemas.encoding import format_time
from schemas.refusal import Refused

CREATED = "subscription.created"
CHANGED = "subscription.changed"
SECRET_ROTATED = "subscription.secret_rotated"  # noqa: S105 - the name of an entry
ENDED = "subscription.ended"
REDRIVEN = "subscription.redriven"
REPLAYED = "subscription.replayed"
PROVEN = "webhook.proven"
DELIVERED = "webhook.delivered"

NOTICES = {
    Notice.WILL_BE_DISABLED: "webhook.warned",
    Notice.DISABLED: "webhook.disabled",
    Notice.GONE: "webhook.gone",
    Notice.RECOVERED: "webhook.recovered",
}


Change: TypeAlias = Callable[[Subscription, Batch], Subscription]
"""What a subscription becomes, decided within the batch; the same again is no change."""


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private part of an entry about a subscription: what was agreed."""

    owner: str
    url: str
    filter: Filter
    ordered: bool


def terms(subscription: Subscription) -> bytes:
    """What the log keeps of a subscription, in private."""
    return jsontext.encode(
        Terms(subscription.owner, subscription.url, subscription.filter, subscription.ordered)
    )


class Create:
    """A new subscription, whose endpoint has proven nothing yet."""

    def __init__(
        self, subscription_id: str, agreed: Terms, by: str, limit: int, token: Token | None
    ) -> None:
        """Its new id, what is agreed, who asks, and how many an owner may have."""
        self.token = token
        self._id = subscription_id
        self._terms = agreed
        self._by = by
        self._limit = limit

    def needs(self, needs: Needs) -> None:
        """How many the owner has."""
        needs.owners.add(self._terms.owner)

    def decide(self, batch: Batch) -> Outcome:
        """Record it.

        Raises:
            Refused: ``conflict``: the owner has as many as it may; ``unknown-recipient``: there is
                no such participant, or it is not active.
        """
        batch.use(self.token)
        owner = self._terms.owner
        participant = batch.directory.participants.get(owner)
        if participant is None or participant.state is not State.ACTIVE:
            raise Refused("unknown-recipient", f"{owner} is no active participant.", "$.owner")
        if batch.facts.owned.get(owner, 0) >= self._limit:
            raise Refused(
                "conflict", f"{owner} has {self._limit} subscriptions, the limit; end one first."
            )
        index = batch.append(
            Draft(CREATED, self._by, self._id, private=jsontext.encode(self._terms))
        )
        made = Subscription(
            self._id,
            owner,
            self._terms.url,
            self._terms.filter,
            self._terms.ordered,
            (Generation(1),),
            Endpoint(),
            index,
            batch.time,
        )
        batch.write("subscription", created=batch.time, **_columns(made))
        batch.facts.owned[owner] = batch.facts.owned.get(owner, 0) + 1
        return Outcome(index, value={"subscription": made})


def stand(before: Subscription, after: Subscription, notice: Notice) -> "Alter":
    """An endpoint stands otherwise, and its owner is told. Where it changed since, nothing is."""

    def change(found: Subscription, _: Batch) -> Subscription:
        return replace(found, endpoint=after.endpoint) if _same(found, before) else found

    public: dict[str, object] = {"outcome": notice.value}
    draft = Draft(NOTICES[notice], entries.HUB, after.id, public)
    return Alter(after.id, draft, change)


def prove(subscription: Subscription) -> "Alter":
    """An endpoint answered its challenge: from here on messages go there."""

    def change(found: Subscription, batch: Batch) -> Subscription:
        if found.url != subscription.url or found.sent_to:
            return found
        endpoint = decided(decided(found.endpoint, "reset"), "proven")
        return replace(found, endpoint=endpoint, start=batch.index)

    draft = Draft(PROVEN, entries.HUB, subscription.id)
    return Alter(subscription.id, draft, change)


def _same(found: Subscription, before: Subscription) -> bool:
    return (found.endpoint, found.url) == (before.endpoint, before.url)


class Alter:
    """A subscription changes, or its endpoint's standing does."""

    def __init__(
        self,
        subscription_id: str,
        draft: Draft,
        change: Change,
        token: Token | None = None,
    ) -> None:
        """Which one, the entry about it, and what it becomes; the same again is no change.

        What is agreed then is the private part of the entry.
        """
        self.token = token
        self._id = subscription_id
        self._draft = draft
        self._change = change

    def needs(self, needs: Needs) -> None:
        """The subscription as it stands."""
        needs.subscriptions.add(self._id)

    def decide(self, batch: Batch) -> Outcome:
        """Record the change; where there is none, nothing.

        Raises:
            Refused: ``not-found``: there is none, or it has ended.
        """
        batch.use(self.token)
        found = batch.facts.subscriptions.get(self._id)
        if found is None or found.ended is not None:
            raise Refused("not-found", "There is no subscription with this id.")
        changed = self._change(found, batch)
        if changed == found:
            return Outcome(value={"subscription": found})
        index = batch.append(replace(self._draft, private=terms(changed)))
        values = _columns(changed)
        values["changed_id"] = values.pop("id")
        batch.write("subscription_changed", ended=changed.ended, **values)
        batch.facts.subscriptions[self._id] = changed
        return Outcome(index, value={"subscription": changed})


def _columns(subscription: Subscription) -> dict[str, object]:
    """What a subscription's row has, as far as it can change; and its id."""
    endpoint = subscription.endpoint
    since, warned = endpoint.failing_since, endpoint.warned
    return {
        "id": subscription.id,
        "owner": subscription.owner,
        "url": subscription.url,
        "filter": jsontext.encode(subscription.filter).decode(),
        "ordered": subscription.ordered,
        "secrets": jsontext.encode(subscription.secrets).decode(),
        "state": endpoint.state.value,
        "failing_since": since and format_time(since),
        "warned": warned and format_time(warned),
        "start": subscription.start,
    }


class Reported(msgspec.Struct, frozen=True):
    """What became of one message: its log index, the state, and the attempts that it took."""

    message: str
    index: int
    state: str
    attempts: int


class Report:
    """What became of one subscription's messages since the last report, as one entry."""

    token = None

    def __init__(self, subscription_id: str, outcomes: tuple[Reported, ...]) -> None:
        """Whose, and what."""
        self._id = subscription_id
        self._outcomes = outcomes

    def needs(self, needs: Needs) -> None:
        """Nothing has to be known."""

    def decide(self, batch: Batch) -> Outcome:
        """Record it; the outcomes are in the private part: they say who is sent what."""
        public: dict[str, object] = {"messages": len(self._outcomes)}
        private = jsontext.encode({"outcomes": self._outcomes})
        index = batch.append(Draft(DELIVERED, entries.HUB, self._id, public, private))
        for each in self._outcomes:
            batch.write(
                "webhook_reported",
                of=self._id,
                at=each.index,
                was=each.state,
                report=index,
            )
        return Outcome(index)
