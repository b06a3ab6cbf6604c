"""One webhook subscription: how it stands, what was tried, and what can be done about it.

Who may do what is the same as under ``/v1/subscriptions``. A new secret goes into a cookie of the
browser that asked for it; the page that follows shows it once and takes the cookie back.
"""

import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.delivery.deliveries import Attempt, Dead
from hub.delivery.subscription import Subscription
from hub.doors import webhooks
from hub.doors.answers import Tested
from hub.doors.console import sessions
from hub.doors.console.done import Done, done, just_done
from hub.doors.console.overview import names
from hub.doors.console.search import moment
from hub.doors.console.visit import Visit
from hub.doors.console.webhooks import PATH, Row, row
from hub.doors.webhooks import SHOWN, Redriving, Replaying
from schemas import jsontext
from schemas.encoding import format_time
from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.refusal import Refused

_COOKIE: Final = "nhri-webhook-secret"
_KEPT_SECONDS: Final = 60

_TICKED = "message-"
"""Before the id of a message, the name of its box."""


class Page(msgspec.Struct, frozen=True):
    """A subscription's page; ``owns`` says that the visitor is its owner.

    ``secret`` is there once after it was made, ``tested`` after a test.
    """

    row: Row
    url: str
    ordered: bool
    created: str
    failing_since: str | None
    warned: str | None
    key: str
    owns: bool
    attempts: Sequence[Attempt]
    dead: Sequence[Dead]
    done: Done | None
    most: int = SHOWN
    secret: str | None = None
    tested: Tested | None = None
    refused: str | None = None


class Replay(msgspec.Struct, frozen=True):
    """The form: days, both of them too, or one message. ``after`` is where to go on."""

    since: str = ""
    until: str = ""
    message: str = ""
    after: Annotated[int, Meta(ge=-1, le=MAX_SAFE_INTEGER)] = -1


class View(msgspec.Struct, frozen=True):
    """The page of an action. ``given`` is what the form said before it was refused.

    A replay that came to no end says how many messages it ``sent`` and goes on ``after`` an entry.
    """

    name: str
    code: str
    given: Mapping[str, str]
    refused: str | None
    back: str
    sent: int | None = None
    after: int | None = None


async def show(visit: Visit) -> web.Response:
    """``GET /console/webhooks/{id}``."""
    about = await webhooks.found(visit.hub, visit.asked)
    secret = _kept(visit, about)
    response = await _page(visit, about, secret=secret)
    if secret is not None:
        response.del_cookie(_COOKIE, path=_path(about))
    return response


async def test(visit: Visit) -> web.Response:
    """``POST /console/webhooks/{id}/test``: a challenge, and the page with what came of it."""
    tested = await webhooks.test(visit.hub, visit.asked)
    return await _page(visit, await webhooks.found(visit.hub, visit.asked), tested=tested)


async def redrive(visit: Visit) -> web.Response:
    """``POST /console/webhooks/{id}/redrive``: all that was set aside, or what is ticked."""
    about = await webhooks.found(visit.hub, visit.asked)
    ticked = [name.removeprefix(_TICKED) for name in visit.fields if name.startswith(_TICKED)]
    try:
        if not ticked and "all" not in visit.fields:
            raise Refused("bad-request", "Tick the messages that are to be tried anew.")
        messages = () if "all" in visit.fields else ticked
        wanted = jsontext.convert({"messages": messages}, Redriving)
        again = await webhooks.redrive(visit.hub, visit.asked, wanted)
    except Refused as refusal:
        if refusal.row.status >= 500:
            raise
        return await _page(visit, about, refused=refusal)
    return done(_path(about), again.index)


async def _page(
    visit: Visit,
    about: Subscription,
    *,
    secret: str | None = None,
    tested: Tested | None = None,
    refused: Refused | None = None,
) -> web.Response:
    hub, endpoint = visit.hub, about.endpoint
    since, warned = endpoint.failing_since, endpoint.warned
    worker = webhooks.worker(hub)
    called = names(hub.recorder.state.directory, visit.language)
    page = Page(
        row=row(about, await worker.store.standing([about.id]), called, visit.language),
        url=about.url,
        ordered=about.ordered,
        created=about.created,
        failing_since=format_time(since) if since else None,
        warned=format_time(warned) if warned else None,
        key=worker.keyring.key.public.text,
        owns=webhooks.is_owner(visit.asked),
        attempts=await webhooks.attempts(hub, visit.asked),
        dead=await webhooks.dead(hub, visit.asked),
        done=await just_done(visit),
        secret=secret,
        tested=tested,
        refused=refused.detail if refused else None,
    )
    return visit.page("webhook.html", page, refused.row.status if refused else 200)


# --- The secret ---


def keep(visit: Visit, about: Subscription, response: web.Response) -> web.Response:
    """Have the page that follows show the present secret, in this browser and once."""
    response.set_cookie(
        _COOKIE,
        webhooks.secret(visit.hub, about),
        path=_path(about),
        max_age=_KEPT_SECONDS,
        secure=sessions.secure(visit.hub.settings),
        httponly=True,
        samesite="Strict",
    )
    return response


def _kept(visit: Visit, about: Subscription) -> str | None:
    given = visit.request.cookies.get(_COOKIE, "").encode("utf-8", "replace")
    present = webhooks.secret(visit.hub, about)
    return present if hmac.compare_digest(given, present.encode()) else None


def _path(about: Subscription) -> str:
    return f"{PATH}/{about.id}"


# --- What has a page of its own ---

Doing: TypeAlias = Callable[[Visit, Subscription], Awaitable[web.Response]]


async def ask(name: str, visit: Visit) -> web.Response:
    """``GET /console/webhooks/{id}/…``: what will happen, and the form."""
    about = await webhooks.found(visit.hub, visit.asked)
    return visit.page(f"webhook-{name}.html", _view(visit, about))


async def act(name: str, visit: Visit) -> web.Response:
    """``POST /console/webhooks/{id}/…``: it is done, or the page says why not."""
    about = await webhooks.found(visit.hub, visit.asked)
    try:
        return await ACTIONS[name](visit, about)
    except Refused as refusal:
        if refusal.row.status >= 500:
            raise
        view = msgspec.structs.replace(_view(visit, about), refused=refusal.detail)
        return visit.page(f"webhook-{name}.html", view, refusal.row.status)


def _view(visit: Visit, about: Subscription) -> View:
    return View(about.url, about.owner, visit.fields, None, _path(about))


async def _end(visit: Visit, _: Subscription) -> web.Response:
    return done(PATH, (await webhooks.end(visit.hub, visit.asked)).index)


async def _rotate(visit: Visit, about: Subscription) -> web.Response:
    changed = await webhooks.rotate(visit.hub, visit.asked)
    return keep(visit, changed.subscription, done(_path(about), changed.index))


async def _replay(visit: Visit, about: Subscription) -> web.Response:
    again = await webhooks.replay(visit.hub, visit.asked, replaying(visit.form(Replay)))
    if again.messages and again.next is None:
        return done(_path(about), again.index)
    view = msgspec.structs.replace(_view(visit, about), sent=again.messages, after=again.next)
    return visit.page("webhook-replay.html", view)


def replaying(form: Replay) -> Replaying:
    """What the form asks for.

    Raises:
        Refused: ``bad-request``: a day is none; ``schema``: the message's id is none.
    """
    message = form.message.strip()
    try:
        since = moment(form.since, over=False) if form.since or not message else None
        until = moment(form.until, over=True) if form.until else None
    except ValueError:
        raise Refused("bad-request", "Give a day as YYYY-MM-DD.") from None
    messages = [message] if message else []
    wanted = {"since": since, "until": until, "messages": messages, "after": form.after}
    return jsontext.convert(wanted, Replaying)


ACTIONS: Mapping[str, Doing] = MappingProxyType({"end": _end, "secret": _rotate, "replay": _replay})
"""By the last part of the address."""
