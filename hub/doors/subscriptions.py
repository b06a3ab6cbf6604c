"""Webhook subscriptions: participants make them for themselves, operators look and end.

What an endpoint answered is shown to nobody but the subscription's owner.
"""

from datetime import timedelta
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from hub.delivery import subscription as subscribing
from hub.delivery.addresses import check_url
from hub.delivery.guard import Answer
from hub.delivery.schedule import Endpoint, decided
from hub.delivery.subscription import Filter, Subscription
from hub.delivery.webhooks import EXCERPT, Match, Webhooks
from hub.doors.access import PARTICIPANTS
from hub.doors.service import Asked, Service, answer, body, query
from hub.intake import membership
from hub.intake import subscription as jobs
from hub.intake.batch import Batch, Outcome
from hub.intake.subscription import Alter, Create, Terms
from hub.ledger.sequence import Draft
from schemas import jsontext
from schemas.encoding import CODE_PATTERN, TIME_PATTERN, format_time, uuid7
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


class Changing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be another; what is left out stays. A new ``url`` answers a challenge first."""

    url: str | None = None
    filter: Filter | None = None
    ordered: bool | None = None


class Trying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter to try on the messages of the last 30 days."""

    filter: Filter = Filter()
    owner: Code | None = None


class Redriving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages that were set aside; all of them, where none are named."""

    messages: Annotated[tuple[MessageId, ...], Meta(max_length=SHOWN)] = ()


class Replaying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The messages of a time that match, sent again; with ``messages`` only these of them."""

    since: Time
    until: Time | None = None
    messages: Annotated[tuple[MessageId, ...], Meta(max_length=SHOWN)] = ()
    after: Annotated[int, Meta(ge=-1)] = -1


class Whose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose subscriptions; for operators, everybody's where it is left out."""

    owner: Code | None = None


def _webhooks(hub: Service) -> Webhooks:
    if hub.webhooks is None:
        raise Refused("not-found", "This hub sends no webhooks; its operators have them off.")
    return hub.webhooks


def _is_owner(asked: Asked) -> bool:
    return bool(asked.principal.roles & PARTICIPANTS)


def _owner(asked: Asked, named: str | None) -> str:
    """For whom somebody asks.

    Raises:
        Refused: ``forbidden``: for another; ``schema``: an operator has to say for whom.
    """
    if _is_owner(asked):
        if named not in {None, asked.principal.name}:
            raise Refused("forbidden", "Subscriptions are made for oneself; leave out the owner.")
        return asked.principal.name
    if named is None:
        raise Refused("schema", "Say for whom: the code of a participant.", "$.owner")
    return named


async def _found(hub: Service, asked: Asked) -> Subscription:
    found = await _webhooks(hub).store.subscription(asked.request.match_info["id"])
    if found is None or (_is_owner(asked) and found.owner != asked.principal.name):
        raise Refused("not-found", "There is no subscription with this id.")
    return found


async def _use(hub: Service, asked: Asked) -> None:
    """Use up the token of a request that records nothing."""
    await hub.change(membership.Change(lambda _: Outcome(), token=asked.token))


def _shown(hub: Service, each: Subscription, *, secret: bool = False) -> dict[str, object]:
    keyring, endpoint = _webhooks(hub).keyring, each.endpoint
    since, warned = endpoint.failing_since, endpoint.warned
    shown: dict[str, object] = {
        "id": each.id,
        "owner": each.owner,
        "url": each.url,
        "filter": each.filter,
        "ordered": each.ordered,
        "state": endpoint.state,
        "failing_since": since and format_time(since),
        "warned": warned and format_time(warned),
        "created": each.created,
        "key": keyring.key.public.text,
    }
    if secret:
        shown["secret"] = keyring.secret(each.id, each.secrets[0].number).text
    return shown


async def every(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions``: one's own; for operators and auditors everybody's."""
    owner = query(asked, Whose).owner
    if _is_owner(asked):
        owner = _owner(asked, owner)
    found = await _webhooks(hub).store.subscriptions()
    return answer(
        {"subscriptions": [_shown(hub, each) for each in found if owner in {None, each.owner}]}
    )


async def create(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions``: a new one, and its secret, which is not shown again.

    Its endpoint is sent a challenge at once, and nothing else until it has answered one: a receiver
    that needs the secret to check it is asked again by ``…/test``.
    """
    wanted = await body(asked, Subscribing)
    webhooks, owner = _webhooks(hub), _owner(asked, wanted.owner)
    subscribing.check(wanted.filter)
    url = check_url(wanted.url, hub.settings.webhooks.allowed).url
    agreed = Terms(owner, url, wanted.filter, wanted.ordered)
    new = uuid7(hub.clock(), hub.random_bytes(10))
    limit = hub.settings.webhooks.subscriptions
    outcome = await hub.change(Create(new, agreed, asked.principal.name, limit, asked.token))
    made = _of(outcome)
    proven, _ = await webhooks.challenge(made)
    if proven:
        made = await _proven(hub, made)
    return answer(_shown(hub, made, secret=True), 201)


async def dry_run(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/dry-run``: what of the last 30 days a filter would have let in."""
    wanted = await body(asked, Trying)
    subscribing.check(wanted.filter)
    owner, now = _owner(asked, wanted.owner), hub.clock()
    await _use(hub, asked)
    tried = Subscription("", owner, "", wanted.filter, False, (), Endpoint(), 0, "")
    since = format_time(now - DRY_RUN)
    matches, looked_at, after = await _look(hub, tried, since, format_time(now), -1)
    return answer(
        {
            "since": since,
            "looked_at": looked_at,
            "whole": after is None,
            "matched": len(matches),
            "messages": matches[:SHOWN],
        }
    )


async def _look(
    hub: Service, subscription: Subscription, since: str, until: str, after: int | None
) -> tuple[list[Match], int, int | None]:
    matches: list[Match] = []
    looked_at = 0
    while after is not None and looked_at < LOOKED_AT:
        part = await _webhooks(hub).store.look(
            subscription, hub.recorder.state.directory, since, until, after
        )
        matches += part.matches
        looked_at += part.looked_at
        after = part.next
    return matches, looked_at, after


async def show(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions/{id}``: one, without its secret."""
    return answer(_shown(hub, await _found(hub, asked)))


async def change(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}``: another address, filter or order.

    A new address answers a challenge before anything changes.
    """
    wanted = await body(asked, Changing)
    found, webhooks = await _found(hub, asked), _webhooks(hub)
    if wanted.filter is not None:
        subscribing.check(wanted.filter)
    changed = replace(
        found,
        filter=found.filter if wanted.filter is None else wanted.filter,
        ordered=found.ordered if wanted.ordered is None else wanted.ordered,
    )
    if wanted.url is not None:
        changed = replace(changed, url=check_url(wanted.url, hub.settings.webhooks.allowed).url)
        proven, said = await webhooks.challenge(changed)
        if not proven:
            raise Refused("conflict", f"{_why(said)} Nothing was changed.", "$.url")
        endpoint = decided(decided(found.endpoint, "reset"), "proven")
        changed = replace(changed, endpoint=endpoint)

    def apply(before: Subscription, batch: Batch) -> Subscription:
        start = before.start if before.sent_to or wanted.url is None else batch.index
        return replace(
            changed,
            secrets=before.secrets,
            start=start,
            endpoint=before.endpoint if wanted.url is None else changed.endpoint,
        )

    return answer(_shown(hub, await _alter(hub, asked, jobs.CHANGED, changed, apply)))


async def end(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/end``: nothing more is sent."""
    found = await _found(hub, asked)

    def apply(before: Subscription, batch: Batch) -> Subscription:
        return replace(before, ended=batch.time)

    return answer(_shown(hub, await _alter(hub, asked, jobs.ENDED, found, apply)))


async def rotate(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/secret``: a new secret; the old one signs for one more day."""
    found = await _found(hub, asked)

    def apply(before: Subscription, batch: Batch) -> Subscription:
        return replace(before, secrets=subscribing.rotate(before.secrets, batch.now))

    changed = await _alter(hub, asked, jobs.SECRET_ROTATED, found, apply)
    return answer(_shown(hub, changed, secret=True))


async def test(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/test``: a challenge, and what the endpoint made of it.

    An endpoint that was not proven, or was disabled, is sent to again when it answers.
    """
    found = await _found(hub, asked)
    await _use(hub, asked)
    proven, said = await _webhooks(hub).challenge(found)
    if proven:
        found = await _proven(hub, found)
    excerpt = said.excerpt[:EXCERPT].decode("utf-8", "replace") if _is_owner(asked) else None
    return answer(
        {
            "proven": proven,
            "state": found.endpoint.state,
            "status": said.status,
            "error": None if proven else _why(said),
            "excerpt": excerpt,
        }
    )


async def attempts(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions/{id}/attempts``: the last ones, the newest first."""
    found = await _found(hub, asked)
    made = await _webhooks(hub).store.attempts(found.id, SHOWN)
    if not _is_owner(asked):
        made = [replace(each, excerpt=None) for each in made]
    return answer({"attempts": made})


async def dead(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions/{id}/dead``: messages that were set aside, the oldest first."""
    found = await _found(hub, asked)
    return answer({"dead": await _webhooks(hub).store.dead(found.id, SHOWN)})


async def redrive(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/redrive``: messages that were set aside begin anew."""
    wanted = await body(asked, Redriving)
    found, webhooks = await _found(hub, asked), _webhooks(hub)
    await _record(hub, asked, jobs.REDRIVEN, found, wanted)
    # A crash before this: the entry says what was asked for, and it can be asked for again.
    now = format_time(hub.clock())
    count = await webhooks.store.redrive(found.id, wanted.messages, now)
    webhooks.wake((found.id,))
    return answer({"messages": count})


async def replay(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/replay``: messages of a time once more, each by its own id.

    Of at most 5,000 messages in one request; ``next`` is the ``after`` to go on with.
    """
    wanted = await body(asked, Replaying)
    found, webhooks = await _found(hub, asked), _webhooks(hub)
    now = format_time(hub.clock())
    await _record(hub, asked, jobs.REPLAYED, found, wanted)
    matches, _, after = await _look(hub, found, wanted.since, wanted.until or now, wanted.after)
    if wanted.messages:
        matches = [each for each in matches if each.id in wanted.messages]
    await webhooks.store.replay(found.id, matches, now)
    webhooks.wake((found.id,))
    return answer({"messages": len(matches), "next": after})


async def _record(
    hub: Service, asked: Asked, kind: str, found: Subscription, wanted: object
) -> None:
    draft = Draft(kind, asked.principal.name, found.id, private=jsontext.encode(wanted))
    await hub.change(membership.Change(lambda b: Outcome(b.append(draft)), token=asked.token))


async def _alter(
    hub: Service, asked: Asked, kind: str, about: Subscription, apply: jobs.Change
) -> Subscription:
    draft = Draft(kind, asked.principal.name, about.id, private=jobs.terms(about))
    return await _done(hub, Alter(about.id, draft, apply, asked.token))


async def _proven(hub: Service, subscription: Subscription) -> Subscription:
    return await _done(hub, jobs.prove(subscription))


async def _done(hub: Service, job: Alter) -> Subscription:
    changed = _of(await hub.change(job))
    _webhooks(hub).refresh()
    return changed


def _of(outcome: Outcome) -> Subscription:
    subscription = outcome.value["subscription"]
    assert isinstance(subscription, Subscription)
    return subscription


def _why(said: Answer) -> str:
    """Why a challenge does not count as answered."""
    if said.error is not None:
        return said.error
    if said.status is not None and not 200 <= said.status <= 299:
        return f"The endpoint answered {said.status} where it should 200."
    return "The endpoint did not answer with the text of data.challenge as the whole body."
