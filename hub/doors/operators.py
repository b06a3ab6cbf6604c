"""The operators' routes: inviting, approving, suspending, keys, groups and access tokens."""

from typing import Annotated, Literal

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta

from hub.doors import certificates
from hub.doors.service import Asked, Service, answer, body
from hub.intake import access, membership
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext, text
from schemas.directory import RESERVED_CODES, Role
from schemas.encoding import CODE_PATTERN, b64url
from schemas.refusal import Refused
from schemas.vocabulary import is_language_tag

log = structlog.get_logger("hub.door")

Scope = Literal["operator", "auditor", "log", "metrics"]


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite."""

    code: Annotated[str, Meta(pattern=CODE_PATTERN)]
    role: Role
    names: Annotated[
        dict[str, Annotated[str, Meta(min_length=1, max_length=300)]],
        Meta(min_length=1, max_length=20),
    ]
    country: Annotated[str, Meta(pattern=r"^[A-Z]{2}$(?!\n)")] | None = None
    contact: Annotated[str, Meta(max_length=2000)] = ""


class Approval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fingerprint that technician and operator compared."""

    fingerprint: Annotated[str, Meta(pattern="^[0-9 ]{30,40}$")]


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, for the private part of the record."""

    reason: Annotated[str, Meta(max_length=2000)] = ""


class KeyReason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a key ends."""

    reason: Literal["superseded", "lost", "compromised"]


class GroupMembers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is in a group from now on."""

    members: Annotated[list[Annotated[str, Meta(pattern=CODE_PATTERN)]], Meta(max_length=300)]


class Invitation(msgspec.Struct, frozen=True):
    """An invitation that was just made: its secret, and the index of its entry."""

    secret: str
    index: int | None


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For whom, and what it opens."""

    account: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,39}$(?!\n)")]
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=4)]


def _code(asked: Asked) -> str:
    return asked.request.match_info["code"]


async def invite(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/members``: gives the bundle for the technician."""
    wanted = await body(asked, Invite)
    made = await make_invitation(hub, wanted, asked.principal.name)
    return answer(await bundle(hub, wanted.code, made.secret), 201)


async def make_invitation(hub: Service, wanted: Invite, by: str) -> Invitation:
    """Invite a participant; an earlier invitation is good no more.

    Raises:
        Refused: a name or the code cannot be, or somebody has the code already.
    """
    for tag, name in wanted.names.items():
        if not is_language_tag(tag):
            raise Refused("schema", f"{tag!r} is not a language tag.", "$.names")
        text.check(name, f"$.names.{tag}")
    if wanted.code in RESERVED_CODES:
        raise Refused("schema", f"{wanted.code} is reserved; choose another code.", "$.code")
    public: dict[str, object] = {
        "role": wanted.role,
        "names": wanted.names,
        "country": wanted.country,
    }
    contact = jsontext.encode({"contact": wanted.contact})
    return await _invite(hub, Draft(entries.MEMBER_INVITED, by, wanted.code, public, contact))


async def hold(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/members/{code}/hold``: keys lost or stolen; they end, and a new bundle is made."""
    reason = await body(asked, Reason)
    made = await end_keys(hub, _code(asked), reason, asked.principal.name)
    return answer(await bundle(hub, _code(asked), made.secret), 201)


async def end_keys(hub: Service, code: str, reason: Reason, by: str) -> Invitation:
    """End a participant's keys, and invite it to make new ones.

    Raises:
        Refused: there is no such participant, or it has no keys to end.
    """
    if code not in hub.recorder.state.directory.participants:
        raise Refused("not-found", f"There is no participant {code}.")
    return await _invite(hub, Draft(entries.MEMBER_HELD, by, code, {}, jsontext.encode(reason)))


async def _invite(hub: Service, draft: Draft) -> Invitation:
    """Record an invitation: log and store have the digest of its secret, and nobody the secret."""
    secret = b64url(hub.random_bytes(16))
    public = {**draft.public, "invitation": entries.digest(secret.encode())}
    named = msgspec.structs.replace(draft, public=public)
    outcome = await hub.change(membership.invite(named, draft.subject or "", secret))
    return Invitation(secret, outcome.index)


async def bundle(hub: Service, code: str, secret: str) -> dict[str, object]:
    """What the technician needs to join with an invitation that is open.

    Raises:
        Refused: ``conflict``: the invitation was used, or another one was made.
    """
    known = await hub.queries.join_request(code)
    if known is None or known.invitation != entries.digest(secret.encode()):
        raise Refused("conflict", f"This invitation of {code} is open no more; make another one.")
    participant = hub.recorder.state.directory.participants[code]
    return {
        "v": 1,
        "hub": hub.settings.url,
        "log": str(hub.vkey),
        "code": code,
        "role": participant.role,
        "names": participant.names,
        "invitation": secret,
        "expires": known.expires,
    }


async def join_request(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/members/{code}/join``: the request that waits, with its fingerprint."""
    request = await hub.queries.join_request(_code(asked))
    if request is None or request.kid is None:
        raise Refused("not-found", f"No request to join as {_code(asked)} is waiting.")
    return answer(
        {
            "code": _code(asked),
            "fingerprint": request.fingerprint,
            "kid": request.kid,
            "received": request.received,
        }
    )


async def approve(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/members/{code}/approve``: the fingerprint was compared aloud and is the same."""
    approval = await body(asked, Approval)
    index = await let_in(hub, _code(asked), approval, asked.principal.name)
    return answer({"index": index})


async def let_in(hub: Service, code: str, approval: Approval, by: str) -> int | None:
    """Let a participant in, or its new keys; gives the index of the entry.

    Raises:
        Refused: ``conflict``: nobody waits, or the fingerprint is another.
    """
    outcome = await hub.change(membership.approve(code, approval.fingerprint, by))
    await _certify(hub, code, by)
    return outcome.index


async def _certify(hub: Service, code: str, by: str) -> None:
    """With an authority, a new participant's TLS request is answered at once.

    A crash before this leaves a participant without a certificate; it asks for one by itself.
    """
    participant = hub.recorder.state.directory.participants[code]
    request = None if participant.keys is None else participant.keys.tls_request
    if hub.authority is None or request is None:
        return
    try:
        await certificates.issue(hub, code, request, by)
    except Refused as refusal:
        log.warning("certificate.refused", code=code, reason=refusal.detail)


async def suspend(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/members/{code}/suspend``: it neither sends nor receives until resumed."""
    return await _change_state(hub, asked, entries.MEMBER_SUSPENDED)


async def resume(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/members/{code}/resume``: the suspension ends."""
    return await _change_state(hub, asked, entries.MEMBER_RESUMED)


async def _change_state(hub: Service, asked: Asked, kind: str) -> web.Response:
    wanted = await body(asked, Reason)
    job = membership.change_state(kind, _code(asked), asked.principal.name, wanted.reason)
    return answer((await hub.change(job)).value)


async def revoke_key(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/keys/{kid}/revoke``: a key is not to be believed any more."""
    wanted = await body(asked, KeyReason)
    kid = asked.request.match_info["kid"]
    job = membership.revoke_key(kid, wanted.reason, asked.principal.name)
    return answer((await hub.change(job)).value)


async def change_group(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/groups/{code}``: who is in a thematic network from now on."""
    wanted = await body(asked, GroupMembers)
    job = membership.change_group(_code(asked), wanted.members, asked.principal.name)
    return answer({"index": (await hub.change(job)).index})


async def create_token(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/tokens``: an opaque token, shown this once; only its hash is kept."""
    wanted = await body(asked, NewToken)
    token = b64url(hub.random_bytes(32))
    job = access.CreateToken(
        entries.digest(token.encode()), wanted.account, wanted.scopes, asked.principal.name
    )
    await hub.change(job)
    return answer({"account": wanted.account, "scopes": wanted.scopes, "token": token}, 201)


async def tokens(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/tokens``: whose tokens there are, without the tokens."""
    return answer({"tokens": await hub.queries.access_tokens()})


async def revoke_tokens(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/tokens/{account}/revoke``: all tokens of an account end."""
    account = asked.request.match_info["account"]
    if account not in {token.account for token in await hub.queries.access_tokens()}:
        raise Refused("not-found", "No token was ever made for this account.")
    outcome = await hub.change(access.RevokeTokens(account, asked.principal.name))
    return answer({"index": outcome.index})
