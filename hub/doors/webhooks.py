"""What participants and operators do about webhook subscriptions, for the API and the console.

Participants have their own; operators make them for others, look at all, and end them. What an
endpoint answered is shown to nobody but the subscription's owner.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from hub.delivery import subscription as subscribing
from hub.delivery.addresses import check_url
from hub.delivery.deliveries import EXCERPT, Attempt, Dead, Looked, Match
from hub.delivery.guard import Answer
from hub.delivery.schedule import Endpoint
from hub.delivery.subscription import Filter, Subscription
from hub.delivery.webhooks import Webhooks
from hub.doors.access import PARTICIPANTS
from hub.doors.answers import Tested
from hub.doors.service import Asked, Service
from hub.intake import membership
from hub.intake import subscription as jobs
from hub.intake.batch import Batch, Outcome
from hub.intake.subscription import Alter, Create, Terms
from hub.ledger.sequence import Draft
from schemas import jsontext
from schemas.encoding import CODE_PATTERN, TIME_PATTERN, format_time, uuid7
from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.message import MessageId
from schemas.refusal import Refused

DRY_RUN = timedelta(days=30)
"""How far back a dry run looks."""

LOOKED_AT = 5_000
"""Messages that a dry run or a replay looks at, at most."""

SHOWN = 100
"""Of attempts, dead letters and matches, at most."""

Code = Annotated[str, Meta(pattern=CODE_PATTERN)]
Time = Annotated[str, Meta(pattern=TIME_PATTERN)]


class Subscribing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is wanted, and where it is to be sent. Only an operator names another ``owner``."""

    url: str
    filter: Filter = Filter()
    ordered: bool = False
    owner: Code | None = None


class Redriving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages that were set aside; all of them, where none are named."""

    messages: Annotated[tuple[MessageId, ...], Meta(max_length=SHOWN)] = ()


class Replaying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The messages that match, sent again: those since a time, or ``messages``.

    With both it is these of that time. ``after`` is the ``next`` of the answer before this one.
    """

    since: Time | None = None
    until: Time | None = None
    messages: Annotated[tuple[MessageId, ...], Meta(max_length=SHOWN)] = ()
    after: Annotated[int, Meta(ge=-1, le=MAX_SAFE_INTEGER)] = -1


class Changed(msgspec.Struct, frozen=True):
    """A subscription as it is now, and the entry that says so; None where nothing had to change."""

    subscription: Subscription
    index: int | None


class Tried(msgspec.Struct, frozen=True):
    """What of the last days a filter lets in, the newest first.

    ``whole`` is false where there were more messages than the newest that were looked at.
    """

    since: str
    looked_at: int
    whole: bool
    matches: Sequence[Match]


class SentAgain(msgspec.Struct, frozen=True):
    """How many messages are sent again, by which entry; ``next`` is where a replay goes on."""

    messages: int
    index: int | None
    next: int | None = None


# --- Whose ---


def worker(hub: Service) -> Webhooks:
    """The worker that sends.

    Raises:
        Refused: ``not-found``: operators have webhooks off.
    """
    if hub.webhooks is None:
        raise Refused("not-found", "This hub sends no webhooks; its operators have them off.")
    return hub.webhooks


def is_owner(asked: Asked) -> bool:
    """Whether somebody asks about their own subscriptions, and not as an operator or auditor."""
    return bool(asked.principal.roles & PARTICIPANTS)


def owner_of(asked: Asked, named: str | None) -> str:
    """For whom somebody asks.

    Raises:
        Refused: ``forbidden``: for another; ``schema``: an operator has to say for whom.
    """
    if is_owner(asked):
        if named not in {None, asked.principal.name}:
            raise Refused("forbidden", "Subscriptions are made for oneself; leave out the owner.")
        return asked.principal.name
    if named is None:
        raise Refused("schema", "Say for whom: the code of a participant.", "$.owner")
    return named


async def every(hub: Service, asked: Asked, owner: str | None = None) -> Sequence[Subscription]:
    """One's own subscriptions; for operators and auditors those of ``owner``, or everybody's."""
    if is_owner(asked):
        owner = owner_of(asked, owner)
    found = await worker(hub).store.subscriptions()
    return [each for each in found if owner in {None, each.owner}]


async def found(hub: Service, asked: Asked) -> Subscription:
    """The subscription that a request's address names.

    Raises:
        Refused: ``not-found``, also where it is another's.
    """
    there = await worker(hub).store.subscription(asked.request.match_info["id"])
    if there is None or (is_owner(asked) and there.owner != asked.principal.name):
        raise Refused("not-found", "There is no subscription with this id.")
    return there


# --- Making one ---


def check(hub: Service, asked: Asked, wanted: Subscribing) -> Terms:
    """What would be agreed.

    Raises:
        Refused: the address or the filter cannot be taken, or it is for another.
    """
    worker(hub)
    owner = owner_of(asked, wanted.owner)
    subscribing.check(wanted.filter)
    url = check_url(wanted.url, hub.settings.webhooks.allowed).url
    return Terms(owner, url, wanted.filter, wanted.ordered)


async def create(hub: Service, asked: Asked, wanted: Subscribing) -> Changed:
    """A new subscription. Its endpoint is sent a challenge at once."""
    agreed = check(hub, asked, wanted)
    worker(hub).admit_challenge(agreed.owner)
    new = uuid7(hub.clock(), hub.random_bytes(10))
    limit = hub.settings.webhooks.subscriptions
    made = await hub.change(Create(new, agreed, asked.principal.name, limit, asked.token))
    subscription = _of(made)
    proven, _ = await worker(hub).challenge(subscription)
    return Changed(await _proven(hub, subscription) if proven else subscription, made.index)


def secret(hub: Service, subscription: Subscription) -> str:
    """The present secret; it is shown when it is made, and not again."""
    return worker(hub).keyring.secret(subscription.id, subscription.secrets[0].number).text


async def try_out(hub: Service, asked: Asked, owner: str | None, wished: Filter) -> Tried:
    """What of the last 30 days a filter would have let in."""
    subscribing.check(wished)
    owner, now = owner_of(asked, owner), hub.clock()
    await _use(hub, asked)
    tried = Subscription("", owner, "", wished, False, (), Endpoint(), 0, "")
    since, until = format_time(now - DRY_RUN), format_time(now)
    store, directory = worker(hub).store, hub.recorder.state.directory
    looked = await _look(
        lambda before: store.look_back(tried, directory, since, until, before), MAX_SAFE_INTEGER
    )
    return Tried(since, looked.looked_at, looked.next is None, looked.matches)


async def _look(part: Callable[[int], Awaitable[Looked]], start: int) -> Looked:
    """One part after the other, from an index on, of ``LOOKED_AT`` messages and a part at most."""
    matches: list[Match] = []
    looked_at = 0
    following: int | None = start
    while following is not None and looked_at < LOOKED_AT:
        found = await part(following)
        matches += found.matches
        looked_at += found.looked_at
        following = found.next
    return Looked(matches, looked_at, following)


# --- The one that the address names ---


async def end(hub: Service, asked: Asked) -> Changed:
    """Nothing more is sent."""
    about = await found(hub, asked)

    def apply(before: Subscription, batch: Batch) -> Subscription:
        return replace(before, ended=batch.time)

    return await alter(hub, asked, jobs.ENDED, about, apply)


async def rotate(hub: Service, asked: Asked) -> Changed:
    """A new secret; the old one signs for one more day."""
    about = await found(hub, asked)

    def apply(before: Subscription, batch: Batch) -> Subscription:
        return replace(before, secrets=subscribing.rotate(before.secrets, batch.now))

    return await alter(hub, asked, jobs.SECRET_ROTATED, about, apply)


async def test(hub: Service, asked: Asked) -> Tested:
    """A challenge. An endpoint that was not proven, or was disabled, is sent to when it answers."""
    about = await found(hub, asked)
    await _use(hub, asked)
    proven, said = await worker(hub).challenge(about)
    if proven:
        about = await _proven(hub, about)
    excerpt = said.excerpt[:EXCERPT].decode("utf-8", "replace") if is_owner(asked) else None
    error = None if proven else why(said)
    return Tested(proven, about.endpoint.state, said.status, error, excerpt)


async def attempts(hub: Service, asked: Asked) -> Sequence[Attempt]:
    """The last ones, the newest first."""
    made = await worker(hub).store.attempts((await found(hub, asked)).id, SHOWN)
    return made if is_owner(asked) else [replace(each, excerpt=None) for each in made]


async def dead(hub: Service, asked: Asked) -> Sequence[Dead]:
    """Messages that were set aside, the oldest first."""
    return await worker(hub).store.dead((await found(hub, asked)).id, SHOWN)


async def redrive(hub: Service, asked: Asked, wanted: Redriving) -> SentAgain:
    """Messages that were set aside begin anew."""
    about = await found(hub, asked)
    index = await _record(hub, asked, jobs.REDRIVEN, about, wanted)
    # A crash before this: the entry says what was asked for, and it can be asked for again.
    now = format_time(hub.clock())
    count = await worker(hub).store.redrive(about.id, wanted.messages, now)
    worker(hub).wake((about.id,))
    return SentAgain(count, index)


async def replay(hub: Service, asked: Asked, wanted: Replaying) -> SentAgain:
    """Messages of a time once more, of at most ``LOOKED_AT``, or those that are named.

    Raises:
        Refused: ``schema``: neither is given.
    """
    about = await found(hub, asked)
    if wanted.since is None and not wanted.messages:
        raise Refused("schema", "Say since when, or which messages.", "$.since")
    index = await _record(hub, asked, jobs.REPLAYED, about, wanted)
    looked = await _wanted_again(hub, about, wanted)
    await worker(hub).store.replay(about.id, looked.matches, format_time(hub.clock()))
    worker(hub).wake((about.id,))
    return SentAgain(len(looked.matches), index, looked.next)


async def _wanted_again(hub: Service, about: Subscription, wanted: Replaying) -> Looked:
    store, directory = worker(hub).store, hub.recorder.state.directory
    since, until = wanted.since or "", wanted.until
    if wanted.messages:
        named = await store.named(about, directory, wanted.messages)
        of_the_time = [
            each
            for each in named
            if since <= each.accepted and (until is None or each.accepted < until)
        ]
        return Looked(of_the_time, len(named), None)
    over = until or format_time(hub.clock())
    return await _look(lambda after: store.look(about, directory, since, over, after), wanted.after)


async def alter(
    hub: Service, asked: Asked, kind: str, about: Subscription, apply: jobs.Change
) -> Changed:
    """Record what becomes of a subscription, and have the worker know of it."""
    draft = Draft(kind, asked.principal.name, about.id)
    return await _done(hub, Alter(about.id, draft, apply, asked.token))


def why(said: Answer) -> str:
    """Why a challenge does not count as answered."""
    if said.error is not None:
        return said.error
    if said.status is not None and not 200 <= said.status <= 299:
        return f"The endpoint answered {said.status} where it should 200."
    return "The endpoint did not answer with the text of data.challenge as the whole body."


async def _use(hub: Service, asked: Asked) -> None:
    """Use up the token of a request that records nothing."""
    await hub.change(membership.Change(lambda _: Outcome(), token=asked.token))


async def _record(
    hub: Service, asked: Asked, kind: str, about: Subscription, wanted: object
) -> int | None:
    draft = Draft(kind, asked.principal.name, about.id, private=jsontext.encode(wanted))
    job = membership.Change(lambda b: Outcome(b.append(draft)), token=asked.token)
    return (await hub.change(job)).index


async def _proven(hub: Service, subscription: Subscription) -> Subscription:
    return (await _done(hub, jobs.prove(subscription))).subscription


async def _done(hub: Service, job: Alter) -> Changed:
    outcome = await hub.change(job)
    worker(hub).refresh()
    return Changed(_of(outcome), outcome.index)


def _of(outcome: Outcome) -> Subscription:
    subscription = outcome.value["subscription"]
    assert isinstance(subscription, Subscription)
    return subscription
