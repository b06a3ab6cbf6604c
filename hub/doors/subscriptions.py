"""Webhook subscriptions: participants make them for themselves, operators look and end.

What an endpoint answered is shown to nobody but the subscription's owner.
"""

import msgspec
from aiohttp import web
from msgspec.structs import replace

from hub.delivery import subscription as subscribing
from hub.delivery.addresses import check_url
from hub.delivery.schedule import decided
from hub.delivery.subscription import Filter, Subscription
from hub.doors import webhooks
from hub.doors.service import Asked, Service, answer, body, query
from hub.doors.webhooks import SHOWN, Code, Redriving, Replaying, Subscribing
from hub.intake import subscription as jobs
from hub.intake.batch import Batch
from schemas.encoding import format_time
from schemas.refusal import Refused


class Changing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be another; what is left out stays. A new ``url`` answers a challenge first."""

    url: str | None = None
    filter: Filter | None = None
    ordered: bool | None = None


class Trying(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A filter to try on the messages of the last 30 days."""

    filter: Filter = Filter()
    owner: Code | None = None


class Whose(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose subscriptions; for operators, everybody's where it is left out."""

    owner: Code | None = None


def _shown(hub: Service, each: Subscription, *, secret: bool = False) -> dict[str, object]:
    endpoint = each.endpoint
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
        "key": webhooks.worker(hub).keyring.key.public.text,
    }
    if secret:
        shown["secret"] = webhooks.secret(hub, each)
    return shown


async def every(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions``: one's own; for operators and auditors everybody's."""
    found = await webhooks.every(hub, asked, query(asked, Whose).owner)
    return answer({"subscriptions": [_shown(hub, each) for each in found]})


async def create(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions``: a new one, and its secret, which is not shown again.

    Its endpoint is sent a challenge at once, and nothing else until it has answered one: a receiver
    that needs the secret to check it is asked again by ``…/test``.
    """
    made = await webhooks.create(hub, asked, await body(asked, Subscribing))
    return answer(_shown(hub, made.subscription, secret=True), 201)


async def dry_run(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/dry-run``: what of the last 30 days a filter would have let in.

    The newest first, of the newest 5,000 messages at most; ``whole`` tells whether these were all.
    """
    wanted = await body(asked, Trying)
    tried = await webhooks.try_out(hub, asked, wanted.owner, wanted.filter)
    return answer(
        {
            "since": tried.since,
            "looked_at": tried.looked_at,
            "whole": tried.whole,
            "matched": len(tried.matches),
            "messages": tried.matches[:SHOWN],
        }
    )


async def show(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions/{id}``: one, without its secret."""
    return answer(_shown(hub, await webhooks.found(hub, asked)))


async def change(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}``: another address, filter or order.

    A new address answers a challenge before anything changes.
    """
    wanted = await body(asked, Changing)
    found = await webhooks.found(hub, asked)
    if wanted.filter is not None:
        subscribing.check(wanted.filter)
    url = None
    if wanted.url is not None:
        url = check_url(wanted.url, hub.settings.webhooks.allowed).url
        proven, said = await webhooks.worker(hub).challenge(replace(found, url=url))
        if not proven:
            raise Refused("conflict", f"{webhooks.why(said)} Nothing was changed.", "$.url")

    def apply(before: Subscription, batch: Batch) -> Subscription:
        # What was not asked to change is as it is now, not as it was before the challenge: else
        # an address of then would be taken for proven by the answer of another.
        changed = replace(
            before,
            filter=before.filter if wanted.filter is None else wanted.filter,
            ordered=before.ordered if wanted.ordered is None else wanted.ordered,
        )
        if url is None:
            return changed
        endpoint = decided(decided(before.endpoint, "reset"), "proven")
        start = before.start if before.sent_to else batch.index
        return replace(changed, url=url, endpoint=endpoint, start=start)

    altered = await webhooks.alter(hub, asked, jobs.CHANGED, found, apply)
    return answer(_shown(hub, altered.subscription))


async def end(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/end``: nothing more is sent."""
    return answer(_shown(hub, (await webhooks.end(hub, asked)).subscription))


async def rotate(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/secret``: a new secret; the old one signs for one more day."""
    changed = await webhooks.rotate(hub, asked)
    return answer(_shown(hub, changed.subscription, secret=True))


async def test(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/test``: a challenge, and what the endpoint made of it.

    An endpoint that was not proven, or was disabled, is sent to again when it answers.
    """
    return answer(await webhooks.test(hub, asked))


async def attempts(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions/{id}/attempts``: the last ones, the newest first."""
    return answer({"attempts": await webhooks.attempts(hub, asked)})


async def dead(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/subscriptions/{id}/dead``: messages that were set aside, the oldest first."""
    return answer({"dead": await webhooks.dead(hub, asked)})


async def redrive(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/redrive``: messages that were set aside begin anew."""
    again = await webhooks.redrive(hub, asked, await body(asked, Redriving))
    return answer({"messages": again.messages})


async def replay(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/subscriptions/{id}/replay``: messages once more, each by its own id.

    Those since a time, of at most 5,000 messages in one request, with ``next`` as the ``after`` to
    go on with; or those that are named.
    """
    again = await webhooks.replay(hub, asked, await body(asked, Replaying))
    return answer({"messages": again.messages, "next": again.next})
