"""The HTTP door: routes, authentication and the limits of a request."""

import contextlib
import ipaddress
import os
import pwd
import socket
import struct
from collections.abc import Mapping
from types import MappingProxyType

from aiohttp import web
from aiohttp.typedefs import Handler as RequestHandler

from hub.doors import (
    audit,
    authentication,
    certificates,
    documents,
    erasure,
    evidence,
    exchange,
    exports,
    feed,
    metrics,
    operators,
    problems,
    quarantine,
    readings,
    subscriptions,
    tlog,
    tracing,
    unreadable,
    witness,
)
from hub.doors.access import ANONYMOUS, LOOPBACK, TABLE, Principal, Role
from hub.doors.console import routes as console
from hub.doors.report import route as report
from hub.doors.service import Asked, Handler, Service, check_address
from hub.intake.batch import Token
from schemas.refusal import Refused
from schemas.signature import MAX_ENVELOPE

UNREAD_SECONDS = 60.0
"""Until a connection ends on which nothing of an answer is taken."""

HANDLERS: Mapping[tuple[str, str], Handler] = MappingProxyType(
    {
        ("GET", "/livez"): documents.livez,
        ("GET", "/readyz"): documents.readyz,
        ("GET", "/metrics"): metrics.scrape,
        ("GET", "/openapi.json"): documents.openapi,
        ("GET", "/schemas/{name}"): documents.schema,
        ("POST", "/v1/join"): exchange.join,
        ("GET", "/log/checkpoint"): tlog.checkpoint,
        ("GET", "/log/{tile:tile/.+}"): tlog.tile,
        ("GET", "/feed"): feed.everybody,
        ("GET", "/feed/member/{code}"): feed.member,
        ("GET", "/feed/theme/{theme}"): feed.theme,
        ("GET", "/feed/{id}/evidence"): feed.proof,
        ("POST", "/v1/messages"): exchange.submit,
        ("GET", "/v1/messages/{id}"): exchange.read_message,
        ("POST", "/v1/messages/{id}/erase"): erasure.erase,
        ("POST", "/v1/messages/{id}/hold"): erasure.hold,
        ("GET", "/v1/retention"): erasure.due,
        ("GET", "/v1/inbox"): exchange.inbox,
        ("POST", "/v1/receipts"): exchange.send_receipt,
        ("GET", "/v1/receipts"): exchange.read_receipts,
        ("GET", "/v1/witness/request"): witness.request,
        ("POST", "/v1/witness/response"): witness.response,
        ("GET", "/v1/witness/tail"): witness.wanted,
        ("POST", "/v1/witness/tail"): witness.extend,
        ("POST", "/v1/witness/parts"): witness.fill,
        ("POST", "/v1/keys"): exchange.state_keys,
        ("GET", "/v1/keys"): exchange.keys,
        ("GET", "/v1/certificate"): certificates.own,
        ("POST", "/v1/certificate"): certificates.renew,
        ("GET", "/v1/certificates"): certificates.every,
        ("POST", "/v1/certificates/{code}"): certificates.issue_again,
        ("GET", "/v1/members"): exchange.members,
        ("POST", "/v1/members"): operators.invite,
        ("GET", "/v1/members/{code}/join"): operators.join_request,
        ("POST", "/v1/members/{code}/approve"): operators.approve,
        ("POST", "/v1/members/{code}/suspend"): operators.suspend,
        ("POST", "/v1/members/{code}/resume"): operators.resume,
        ("POST", "/v1/members/{code}/hold"): operators.hold,
        ("POST", "/v1/keys/{kid}/revoke"): operators.revoke_key,
        ("POST", "/v1/groups/{code}"): operators.change_group,
        ("GET", "/v1/tokens"): operators.tokens,
        ("POST", "/v1/tokens"): operators.create_token,
        ("POST", "/v1/tokens/{account}/revoke"): operators.revoke_tokens,
        ("GET", "/v1/audit/events"): audit.events,
        ("GET", "/v1/audit/export"): exports.export,
        ("GET", "/v1/audit/counts"): audit.counts,
        ("GET", "/v1/audit/report"): report.report,
        ("GET", "/v1/audit/messages/{id}"): audit.message,
        ("GET", "/v1/audit/messages/{id}/why"): audit.why,
        ("GET", "/v1/audit/messages/{id}/evidence"): evidence.evidence,
        ("POST", "/v1/audit/messages/{id}/body"): readings.body,
        ("GET", "/v1/audit/verify"): audit.check,
        ("GET", "/v1/quarantine"): quarantine.held,
        ("GET", "/v1/quarantine/{digest}"): quarantine.show,
        ("POST", "/v1/quarantine/{digest}/release"): quarantine.release,
        ("POST", "/v1/quarantine/{digest}/discard"): quarantine.discard,
        ("GET", "/v1/subscriptions"): subscriptions.every,
        ("POST", "/v1/subscriptions"): subscriptions.create,
        ("POST", "/v1/subscriptions/dry-run"): subscriptions.dry_run,
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}"): subscriptions.show,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}"): subscriptions.change,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/end"): subscriptions.end,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/secret"): subscriptions.rotate,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/test"): subscriptions.test,
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}/attempts"): subscriptions.attempts,
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}/dead"): subscriptions.dead,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/redrive"): subscriptions.redrive,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/replay"): subscriptions.replay,
        ("GET", "/v1/status"): audit.status,
    }
)


def build(hub: Service) -> web.Application:
    """The application of the door; only routes of the authorisation tables exist."""
    unreadable.hide_versions()
    application = web.Application(
        middlewares=[_traced, problems.middleware],
        client_max_size=MAX_ENVELOPE + 1,
        handler_args={"logger": unreadable.Unreadable(hub)},
    )
    application.on_response_prepare.append(_headers)
    application.on_response_prepare.append(_counting(hub))
    application.on_response_prepare.append(_impatient)
    for method, path in TABLE:
        handler = HANDLERS[method, path]
        application.router.add_route(method, path, _guarded(hub, handler, (method, path)))
    for (method, path), page in console.build(hub).items():
        application.router.add_route(method, path, page)
    return application


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    # Who may read is asked anew each time, and a tile that is not there may be there tomorrow. An
    # event stream says no-cache by itself, under which it may still be stored.
    if request.path.startswith("/v1/"):
        response.headers["Cache-Control"] = "no-store"
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"


async def _impatient(request: web.Request, response: web.StreamResponse) -> None:
    # Our own wait for a reader has no end, and holds the answer. Linux's has one, also where the
    # reader is alive and takes nothing.
    peer = request.get_extra_info("socket")
    if peer is not None and peer.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        patience = round(UNREAD_SECONDS * 1000)
        with contextlib.suppress(OSError):  # it is closed
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)


def _counting(hub: Service):  # type: ignore[no-untyped-def]
    async def count(request: web.Request, response: web.StreamResponse) -> None:
        # The method and path of what has no route are the asker's own; nothing is named after them.
        resource = request.match_info.route.resource
        route = "none" if resource is None else f"{request.method} {resource.canonical}"
        hub.metrics.answered(route, response.status)

    return count


@web.middleware
async def _traced(request: web.Request, handler: RequestHandler) -> web.StreamResponse:
    with tracing.request(request.headers.get("traceparent")):
        return await handler(request)


def _guarded(hub: Service, handler: Handler, row: tuple[str, str]):  # type: ignore[no-untyped-def]
    allowed = TABLE[row]

    async def guarded(request: web.Request) -> web.StreamResponse:
        principal, token = ANONYMOUS, None
        try:
            if allowed != frozenset(Role):
                principal, token = await _who(hub, request, allowed)
            if not principal.roles & allowed:
                raise Refused("forbidden", _forbidden(principal, row))
            check_address(request)
            return await handler(hub, Asked(request, principal, token))
        except Refused as refusal:
            if principal is ANONYMOUS:
                hub.strangers.refused(refusal, " ".join(row), hub.clock())
            raise

    return guarded


def _forbidden(principal: Principal, row: tuple[str, str]) -> str:
    if Role.SUSPENDED in principal.roles:
        return f"{principal.name} is suspended; ask the hub's operators."
    return f"{principal.name} may not use {row[0]} {row[1]}."


async def _who(
    hub: Service, request: web.Request, allowed: frozenset[Role]
) -> tuple[Principal, Token | None]:
    authorization, *others = request.headers.getall("Authorization", [""])
    if others:
        # A proxy before us may have judged by one of the others.
        raise Refused("unauthenticated", "Send one Authorization header, not several.")
    scheme, _, credentials = authorization.partition(" ")
    if not scheme and _is_local(request):
        return Principal(_local_account(request), frozenset({Role.OPERATOR})), None
    if not scheme and LOOPBACK.roles & allowed and _is_loopback(hub, request):
        return LOOPBACK, None
    if scheme.lower() != "bearer" or not credentials:
        raise Refused("unauthenticated", "Send an Authorization header with a Bearer token.")
    if "." in credentials:
        signed = credentials.strip()
        proven = await authentication.participant(hub, signed, request.method, request.path)
        # Reading twice does no harm; only a write uses the token up.
        return proven.principal, proven.token if request.method != "GET" else None
    return await authentication.account(hub.queries, credentials.strip()), None


def _is_local(request: web.Request) -> bool:
    transport = request.transport
    peer = transport.get_extra_info("socket") if transport else None
    return peer is not None and peer.family == socket.AF_UNIX


def _is_loopback(hub: Service, request: web.Request) -> bool:
    """Whether the peer is a program on this machine; behind a proxy that says nothing."""
    if hub.settings.http.url:
        return False
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def _local_account(request: web.Request) -> str:
    """The user at the other end of the Unix socket; the file's mode let only the hub's own in."""
    assert request.transport is not None
    peer = request.transport.get_extra_info("socket")
    uid = os.getuid()
    if hasattr(socket, "SO_PEERCRED"):
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack(
            "3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
    try:
        return f"account:{pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"account:uid-{uid}"
