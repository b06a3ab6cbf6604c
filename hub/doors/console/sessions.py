"""Sessions: a token opens one, a cookie carries its secret, the store keeps the hash.

A session ends after 30 minutes in which nobody did anything, after 8 hours, by signing out, and
with what it was opened with. That is an account's access token, until it is revoked, or a
participant's signing key: while that does not hold, or the participant is suspended, the session
opens nothing. While the hub cannot write its log nobody can sign in, because there is no session
without an entry; the Unix socket stays open.
"""

import contextlib
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from hub.doors import authentication
from hub.doors.access import PARTICIPANTS, Principal, Role
from hub.doors.service import Service
from hub.intake import access
from hub.ledger.queries import Session as Stored
from hub.settings import Settings
from schemas import entry as entries
from schemas.encoding import b64url, parse_time
from schemas.refusal import Refused

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=8)

_SEEN_EVERY = timedelta(minutes=1)
"""A session's time is written down no more often than this."""

_CONSOLE_ROLES = frozenset({Role.OPERATOR, Role.AUDITOR})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Session(msgspec.Struct, frozen=True):
    """An open session. ``secret`` is what the cookie carries."""

    secret: str
    principal: Principal
    seen: datetime

    @property
    def csrf(self) -> str:
        """What a form of this session carries; nobody can make the secret of it."""
        return entries.digest(f"csrf {self.secret}".encode())


def _digest(secret: str) -> str:
    return entries.digest(secret.encode("utf-8", "replace"))


def holds(stored: Stored, now: datetime) -> bool:
    """Whether a stored session has not run out."""
    age, idle = now - parse_time(stored.created), now - parse_time(stored.seen)
    return age < LONGEST and idle < IDLE


# --- The cookie ---


def secure(settings: Settings) -> bool:
    """Whether the console is reached over TLS; without it only on the hub's own machine.

    Raises:
        Refused: ``forbidden``: on the way to it anybody could read the token.
    """
    url = urlsplit(settings.url)
    if url.scheme == "https":
        return True
    if url.hostname not in _LOOPBACK:
        detail = "The console is only served over https; set http.url or a certificate."
        raise Refused("forbidden", detail)
    return False


def cookie_name(settings: Settings) -> str:
    """With ``__Host-`` no other host and no plain http can set the cookie (RFC 6265bis §4.1.3)."""
    return "__Host-nhri-session" if secure(settings) else "nhri-session"


def set_cookie(response: web.StreamResponse, settings: Settings, secret: str) -> None:
    """Give the browser the secret, for as long as it is open."""
    safe = secure(settings)
    response.set_cookie(
        cookie_name(settings),
        secret,
        path="/" if safe else "/console",  # __Host- demands the former
        secure=safe,
        httponly=True,
        samesite="Strict",
    )


def del_cookie(response: web.StreamResponse, settings: Settings) -> None:
    """Take it back."""
    safe = secure(settings)
    response.del_cookie(
        cookie_name(settings),
        path="/" if safe else "/console",
        secure=safe,
        httponly=True,
        samesite="Strict",
    )


# --- Opening, finding, ending ---


async def start(hub: Service, token: str, path: str) -> Session:
    """Open a session with an access token, or with one that a participant signed for ``path``.

    Raises:
        Refused: ``unauthenticated``, or a reason about the key: the token is wrong; ``forbidden``:
            it opens other things; ``storage``: the entry could not be written.
    """
    secret = b64url(hub.random_bytes(32))
    if "." in token:
        principal, job = await _of_participant(hub, token, path, _digest(secret))
    else:
        principal, job = await _of_account(hub, token, _digest(secret))
    await hub.change(job)
    return Session(secret, principal, hub.clock())


async def _of_account(
    hub: Service, token: str, digest: str
) -> tuple[Principal, access.OpenSession]:
    principal = await authentication.account(hub.queries, token)
    if not principal.roles & _CONSOLE_ROLES:
        detail = "This token does not open the console: it needs the scope operator or auditor."
        raise Refused("forbidden", detail)
    shown = entries.digest(token.encode())
    return principal, access.OpenSession(digest, principal.name, token_digest=shown)


async def _of_participant(
    hub: Service, token: str, path: str, digest: str
) -> tuple[Principal, access.OpenSession]:
    proven = await authentication.participant(hub, token, "POST", path)
    principal = proven.principal
    if not principal.roles & PARTICIPANTS:
        detail = f"{principal.name} is suspended; ask the hub's operators."
        raise Refused("forbidden", detail)
    opened = access.OpenSession(digest, principal.name, kid=proven.kid, token=proven.token)
    return principal, opened


async def find(hub: Service, secret: str | None) -> Session | None:
    """The session of a cookie; None where there is none or it has ended."""
    if not secret:
        return None
    stored = await hub.queries.session(_digest(secret))
    if stored is None or not holds(stored, hub.clock()):
        return None
    principal = _holder(hub, stored)
    return None if principal is None else Session(secret, principal, parse_time(stored.seen))


def _holder(hub: Service, stored: Stored) -> Principal | None:
    """Whose session it is at present; nobody's once their key has ended or they are suspended."""
    if stored.kid is None:
        roles = frozenset(Role(scope) for scope in stored.scopes)
        return Principal(f"account:{stored.account}", roles)
    state = hub.recorder.state
    try:
        found = authentication.holder(stored.kid, state.directory, state.tree.size, hub.clock())
    except Refused:
        return None
    return found if found.roles & PARTICIPANTS else None


async def see(hub: Service, session: Session) -> None:
    """Somebody did something. That it cannot be written down keeps nobody from looking."""
    if hub.clock() - session.seen >= _SEEN_EVERY:
        with contextlib.suppress(Refused):
            await hub.change(access.SeeSession(_digest(session.secret)))


async def end(hub: Service, session: Session) -> None:
    """Sign out.

    Raises:
        Refused: ``storage``: it could not be written; the session is still open.
    """
    await hub.change(access.EndSession(_digest(session.secret)))
