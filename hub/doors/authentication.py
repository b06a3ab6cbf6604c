"""Who is asking: a participant's self-signed token, an account's opaque token, or the local socket.

A participant's token is a compact JWS (``nhri-auth+jwt``) of its own key, so that the hub keeps no
secret of anyone and two countries share none. It is bound to one method and path and lives for at
most 60 seconds; on writes its ``jti`` counts once.
"""

from datetime import datetime
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hub.doors.access import Principal, Role
from hub.doors.service import Service
from hub.intake.batch import Token
from hub.ledger.queries import Queries
from schemas import entry as entries
from schemas import jsontext, signature
from schemas.directory import Directory, State
from schemas.encoding import format_time, unb64url
from schemas.refusal import Refused

MAX_LIFE = 60
"""Seconds between ``iat`` and ``exp``."""

LEEWAY = 30
"""Seconds that a participant's clock may be ahead; it learns ours from ``Date``."""

MAX_TOKEN = 4_096


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The claims of a participant's token; all must be there."""

    iss: str
    aud: str
    iat: int
    exp: int
    jti: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}$(?!\n)")]
    htm: str
    htu: str


class Proven(msgspec.Struct, frozen=True):
    """What a participant's token proves: who asks, its one-time id, and the key that signed it."""

    principal: Principal
    token: Token
    kid: str


def _refuse(detail: str) -> Refused:
    return Refused("unauthenticated", detail)


def authenticate(
    compact: str,
    method: str,
    path: str,
    audiences: frozenset[str],
    directory: Directory,
    index: int,
    now: datetime,
) -> Proven:
    """Check a participant's token.

    Args:
        compact: the compact JWS.
        method: the request's method.
        path: the request's path, without query.
        audiences: the names that this hub goes by.
        directory: who is who.
        index: the log's size; the key has to hold there.
        now: the hub's time.

    Raises:
        Refused: ``unauthenticated``, or a reason about the key.
    """
    claims, kid = _verified(compact, directory)
    principal = holder(kid, directory, index, now)
    if principal.name != claims.iss:
        raise _refuse("The token is signed with another's key.")
    seconds = now.timestamp()
    if not claims.iat - LEEWAY <= seconds <= claims.exp:
        raise _refuse("The token's time is over or not yet come; set the clock by our Date header.")
    if not 0 < claims.exp - claims.iat <= MAX_LIFE:
        raise _refuse(f"A token lives for at most {MAX_LIFE} seconds.")
    if claims.aud.rstrip("/") not in audiences:
        raise _refuse("The token is meant for another hub.")
    # A proxy may change scheme and host, which aud binds already; method and path it leaves alone.
    if claims.htm != method or _path(claims.htu) != path:
        raise _refuse("The token is meant for another request.")
    return Proven(principal, Token(f"{claims.iss}:{claims.jti}", claims.exp), kid)


def holder(kid: str, directory: Directory, index: int, now: datetime) -> Principal:
    """Whose key it is that holds at this index and time, and what they may be at a door.

    Raises:
        Refused: a reason about the key.
    """
    key = directory.valid_key(kid, index, format_time(now))
    participant = directory.participants[key.member]
    role = Role(participant.role)
    if participant.state is State.SUSPENDED:
        role = Role.SUSPENDED
    return Principal(key.member, frozenset({role}))


async def participant(hub: Service, compact: str, method: str, path: str) -> Proven:
    """Check a participant's token against the directory of now.

    Raises:
        Refused: as ``authenticate``.
    """
    state = hub.recorder.state
    try:
        return await hub.offload.run(
            lambda: authenticate(
                *(compact, method, path, hub.audiences),
                *(state.directory, state.tree.size, hub.clock()),
            )
        )
    except Refused as refusal:
        if refusal.code == "unknown-key":
            detail = "The key is not registered here; has an operator approved the fingerprint?"
            raise Refused("unauthenticated", detail) from None
        raise


async def account(queries: Queries, token: str) -> Principal:
    """Whose access token it is.

    Raises:
        Refused: ``unauthenticated``.
    """
    # Looked up by hash: the time it takes tells nothing about any stored token.
    found = await queries.access_token(entries.digest(token.encode("utf-8", "replace")))
    if found is None or found.revoked is not None:
        raise Refused("unauthenticated", "This token is not known or was revoked.")
    return Principal(f"account:{found.account}", frozenset(Role(s) for s in found.scopes))


def _path(url: str) -> str | None:
    try:
        return urlsplit(url).path
    except ValueError:
        return None


def _verified(compact: str, directory: Directory) -> tuple[Claims, str]:
    if len(compact) > MAX_TOKEN or compact.count(".") != 2:
        raise _refuse("Send a token of type nhri-auth+jwt, signed with your key.")
    protected, payload, signed = compact.split(".")
    try:
        header = signature.parse_header(unb64url(protected), signature.AUTH_TYPE)
        claims = jsontext.decode(unb64url(payload), Claims)
        value = unb64url(signed)
    except ValueError:
        raise _refuse("The token is not a compact JWS.") from None
    except Refused as refusal:
        raise _refuse(f"The token cannot be read: {refusal.detail}") from None
    public = directory.key(header.kid).public
    if not signature.holds(public, value, f"{protected}.{payload}".encode("ascii")):
        raise _refuse("The token's signature does not hold.")
    return claims, header.kid
