"""The OpenAPI 3.1 document of the HTTP door, made from the tables of its routes.

``OPERATIONS`` has a row for every route of the authorisation table: what goes in, what comes out,
and which refusals there can be.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from hub.doors import answers, http
from hub.doors.access import TABLE, Role
from hub.doors.answers import REF
from hub.doors.audit import Counting, Search, Whom
from hub.doors.erasure import Erasing, Holding
from hub.doors.evidence import ZIP
from hub.doors.exchange import Page, Whose
from hub.doors.exports import Export
from hub.doors.feed import Wanted as FeedPage
from hub.doors.operators import Approval, GroupMembers, Invite, KeyReason, NewToken, Reason
from hub.doors.quarantine import Decision
from hub.doors.readings import Reading
from hub.doors.report.route import HTML, Reported
from hub.doors.subscriptions import Changing, Trying
from hub.doors.subscriptions import Whose as Owned
from hub.doors.webhooks import Redriving, Replaying, Subscribing
from hub.doors.witness import Cosigned, Followed
from hub.ledger import atom
from hub.ledger.explain import Why
from hub.ledger.export import FORMS
from hub.ledger.verify import Verdict
from schemas.acceptance import Acceptance, Delivery, Tombstone
from schemas.encoding import CODE_PATTERN, UUID7_PATTERN
from schemas.publication.formats import (
    HASH,
    LANGUAGE_TAG,
    Bundle,
    Problem,
    Schema,
    definitions,
    prose,
    tidy,
)
from schemas.refusal import REFUSALS, RETRY_AFTER
from schemas.signature import JwsEnvelope
from schemas.tail import Extended, Filled, Parts, Piece, Wanted
from schemas.vocabulary import THEMES

JSON: Final = "application/json"
JOSE: Final = "application/jose+json"
EVENTS: Final = "text/event-stream"
TEXT: Final = "text/plain"
BINARY: Final = "application/octet-stream"
PROBLEM: Final = "application/problem+json"


class Anything(msgspec.Struct, frozen=True):
    """A JSON object of its own kind."""


class Operation(msgspec.Struct, frozen=True):
    """One row.

    ``answers`` are structs, or media types of what is no JSON, by status; ``format`` names who says
    what stands in the latter, of which there may be several with commas between. ``body`` is a
    struct, or an envelope as ``application/jose+json`` that carries what ``signed`` says, or a
    signed note that ``note`` says.
    """

    answers: Mapping[int, type | str]
    refusals: tuple[str, ...] = ()
    query: type | None = None
    body: type | None = None
    signed: str | None = None
    note: str | None = None
    format: str = "C2SP tlog-tiles"
    headers: Mapping[str, str] = {}


_READ = ("too-large", "too-slow")
_PARSED = (*_READ, "malformed", "duplicate-key")
_JSON_BODY = (*_PARSED, "schema")
_SIGNED = (*_JSON_BODY, "bad-header", "bad-signature", "unknown-key")
_KEYS = ("revoked-key", "expired-key")
_WRITTEN = ("busy",)
_CHANGED = (*_JSON_BODY, *_WRITTEN, "conflict")
_STATEMENT = (*_SIGNED, *_WRITTEN, "bad-statement", "low-order-key", "conflict")
_MESSAGE = (
    *(*_SIGNED, *_WRITTEN, "sender-unsigned", "sender-mismatch"),
    *("suspended", "held", "role-may-not-send", "forbidden-character", "unknown-kind"),
    *("unsupported-version", "sealed-unsupported", "attachments-unsupported"),
    *("created-out-of-range", "expired", "id-conflict", "erased", "unknown-recipient"),
    *("marking-conflict", "no-recipient", "unknown-action", "not-invited", "not-proposer"),
    *("answer-late", "action-state", "bad-cosignature", "quota"),
)
_SUBSCRIPTION = ("bad-request", "not-found")
_RECEIPT = (*_SIGNED, *_WRITTEN, "forbidden-character", "sender-mismatch", "bad-receipt")

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = MappingProxyType(
    {
        ("GET", "/livez"): Operation({200: answers.Alive}),
        ("GET", "/readyz"): Operation({200: answers.Ready, 503: answers.Ready}),
        ("GET", "/metrics"): Operation({200: TEXT}, format="Prometheus's text format 0.0.4"),
        ("GET", "/openapi.json"): Operation({200: Anything}, ("not-found",)),
        ("GET", "/schemas/{name}"): Operation({200: Anything}, ("not-found",)),
        ("POST", "/v1/join"): Operation(
            {202: answers.Pending},
            (*_STATEMENT, "unknown-invitation"),
            signed="a `join` key statement (`nhri-key+json`), signed by the new key",
        ),
        ("GET", "/log/checkpoint"): Operation({200: TEXT}, ("not-found",)),
        ("GET", "/log/{tile:tile/.+}"): Operation({200: BINARY}, ("not-found",)),
        ("GET", "/feed"): Operation(
            {200: atom.MEDIA_TYPE}, ("busy",), query=FeedPage, format="RFC 4287"
        ),
        ("GET", "/feed/member/{code}"): Operation(
            {200: atom.MEDIA_TYPE}, ("not-found", "busy"), query=FeedPage, format="RFC 4287"
        ),
        ("GET", "/feed/theme/{theme}"): Operation(
            {200: atom.MEDIA_TYPE}, ("not-found", "busy"), query=FeedPage, format="RFC 4287"
        ),
        ("GET", "/feed/{id}/evidence"): Operation(
            {200: ZIP}, ("not-found", "busy"), format="docs/evidence.md"
        ),
        ("POST", "/v1/messages"): Operation(
            {200: Acceptance, 201: Acceptance},
            _MESSAGE,
            signed="a message (`nhri-message+json`; `/schemas/message.json`)",
        ),
        ("GET", "/v1/messages/{id}"): Operation({200: Delivery}, ("not-found", "erased")),
        ("POST", "/v1/messages/{id}/erase"): Operation(
            {200: answers.Erased}, (*_CHANGED, "not-found"), body=Erasing
        ),
        ("POST", "/v1/messages/{id}/hold"): Operation(
            {200: answers.Recorded}, (*_CHANGED, "not-found"), body=Holding
        ),
        ("GET", "/v1/retention"): Operation({200: answers.Retained}),
        ("GET", "/v1/inbox"): Operation(
            {200: answers.Inbox},
            ("bad-request",),
            query=Page,
            headers={"Last-Event-ID": "In an event stream: the position to go on after."},
        ),
        ("POST", "/v1/receipts"): Operation(
            {200: Acceptance, 201: Acceptance},
            _RECEIPT,
            signed="a delivery receipt (`nhri-delivery+json`; `/schemas/receipt.json`)",
        ),
        ("GET", "/v1/receipts"): Operation({200: answers.Receipts}, ("bad-request",), query=Page),
        ("GET", "/v1/witness/request"): Operation(
            {200: TEXT},
            ("bad-request", "conflict"),
            query=Cosigned,
            format="C2SP tlog-witness (`add-checkpoint`)",
        ),
        ("POST", "/v1/witness/response"): Operation(
            {200: answers.Quorum},
            ("bad-request", "bad-signature", "conflict", *_READ),
            note="a checkpoint (C2SP tlog-checkpoint) with the asker's cosignatures",
        ),
        ("GET", "/v1/witness/tail"): Operation({200: Wanted}, ("bad-request",), query=Followed),
        ("POST", "/v1/witness/tail"): Operation(
            {200: Extended}, (*_JSON_BODY, "bad-request", "conflict"), body=Piece
        ),
        ("POST", "/v1/witness/parts"): Operation(
            {200: Filled}, (*_JSON_BODY, "bad-request", "conflict"), body=Parts
        ),
        ("POST", "/v1/keys"): Operation(
            {201: answers.Recorded},
            (*_STATEMENT, "sender-mismatch"),
            signed="a `rotate` or `revoke` key statement (`nhri-key+json`)",
        ),
        ("GET", "/v1/keys"): Operation({200: answers.SigningKeys}, query=Whose),
        ("GET", "/v1/certificate"): Operation({200: answers.Certificate}, ("not-found",)),
        ("POST", "/v1/certificate"): Operation(
            {201: answers.Certificate},
            ("bad-statement", "not-found", *_READ, *_WRITTEN),
        ),
        ("GET", "/v1/certificates"): Operation({200: answers.Certificates}),
        ("POST", "/v1/certificates/{code}"): Operation(
            {201: answers.Certificate}, ("bad-statement", "not-found", *_WRITTEN)
        ),
        ("GET", "/v1/members"): Operation({200: answers.Members}),
        ("POST", "/v1/members"): Operation(
            {201: Bundle}, (*_CHANGED, "forbidden-character"), body=Invite
        ),
        ("GET", "/v1/members/{code}/join"): Operation({200: answers.JoinRequest}, ("not-found",)),
        ("POST", "/v1/members/{code}/approve"): Operation(
            {200: answers.Recorded}, _CHANGED, body=Approval
        ),
        ("POST", "/v1/members/{code}/suspend"): Operation(
            {200: answers.Recorded}, _CHANGED, body=Reason
        ),
        ("POST", "/v1/members/{code}/resume"): Operation(
            {200: answers.Recorded}, _CHANGED, body=Reason
        ),
        ("POST", "/v1/members/{code}/hold"): Operation(
            {201: Bundle}, (*_CHANGED, "not-found"), body=Reason
        ),
        ("POST", "/v1/keys/{kid}/revoke"): Operation(
            {200: answers.Recorded}, (*_CHANGED, "unknown-key"), body=KeyReason
        ),
        ("POST", "/v1/groups/{code}"): Operation(
            {200: answers.Recorded}, _CHANGED, body=GroupMembers
        ),
        ("GET", "/v1/tokens"): Operation({200: answers.Tokens}),
        ("POST", "/v1/tokens"): Operation(
            {201: answers.Token}, (*_JSON_BODY, *_WRITTEN), body=NewToken
        ),
        ("POST", "/v1/tokens/{account}/revoke"): Operation(
            {200: answers.Recorded}, ("not-found", *_WRITTEN)
        ),
        ("GET", "/v1/audit/events"): Operation(
            {200: answers.Events}, ("bad-request", *_WRITTEN), query=Search
        ),
        ("GET", "/v1/audit/export"): Operation(
            {200: f"{FORMS['ndjson'].media_type}, {FORMS['csv'].media_type}"},
            ("bad-request", *_WRITTEN),
            query=Export,
            format="docs/protocol.md",
        ),
        ("GET", "/v1/audit/counts"): Operation(
            {200: answers.Counts}, ("bad-request", *_WRITTEN), query=Counting
        ),
        ("GET", "/v1/audit/report"): Operation(
            {200: HTML}, ("bad-request", *_WRITTEN), query=Reported, format="docs/protocol.md"
        ),
        ("GET", "/v1/audit/messages/{id}"): Operation(
            {200: answers.Timeline}, ("not-found", *_WRITTEN)
        ),
        ("GET", "/v1/audit/messages/{id}/why"): Operation(
            {200: Why}, ("bad-request", "not-found", *_WRITTEN), query=Whom
        ),
        ("GET", "/v1/audit/messages/{id}/evidence"): Operation(
            {200: ZIP},
            ("bad-request", "not-found", "reason-needed", *_WRITTEN),
            query=Reading,
            format="docs/evidence.md",
        ),
        ("POST", "/v1/audit/messages/{id}/body"): Operation(
            {200: answers.MessageBody},
            (*_JSON_BODY, *_WRITTEN, "not-found", "expired", "reason-needed"),
            body=Reading,
        ),
        ("GET", "/v1/audit/verify"): Operation({200: Verdict}),
        ("GET", "/v1/quarantine"): Operation(
            {200: answers.QuarantinedMessages}, ("not-found", *_WRITTEN)
        ),
        ("GET", "/v1/quarantine/{digest}"): Operation(
            {200: answers.QuarantinedBody},
            ("bad-request", "not-found", "expired", "reason-needed", *_WRITTEN),
            query=Reading,
        ),
        ("POST", "/v1/quarantine/{digest}/release"): Operation(
            {200: answers.Recorded}, (*_CHANGED, "not-found"), body=Decision
        ),
        ("POST", "/v1/quarantine/{digest}/discard"): Operation(
            {200: answers.Recorded}, (*_JSON_BODY, *_WRITTEN, "not-found"), body=Decision
        ),
        ("GET", "/v1/subscriptions"): Operation(
            {200: answers.Wishes}, ("bad-request", "not-found"), query=Owned
        ),
        ("POST", "/v1/subscriptions"): Operation(
            {201: answers.WishWithSecret},
            (*_CHANGED, *_SUBSCRIPTION, "unknown-recipient"),
            body=Subscribing,
        ),
        ("POST", "/v1/subscriptions/dry-run"): Operation(
            {200: answers.Tried}, (*_JSON_BODY, *_WRITTEN, "not-found"), body=Trying
        ),
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}"): Operation(
            {200: answers.Wish}, ("not-found",)
        ),
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}"): Operation(
            {200: answers.Wish}, (*_CHANGED, *_SUBSCRIPTION), body=Changing
        ),
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/end"): Operation(
            {200: answers.Wish}, ("not-found", *_WRITTEN)
        ),
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/secret"): Operation(
            {200: answers.WishWithSecret}, ("not-found", *_WRITTEN)
        ),
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/test"): Operation(
            {200: answers.Tested}, ("not-found", *_WRITTEN)
        ),
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}/attempts"): Operation(
            {200: answers.Attempts}, ("not-found",)
        ),
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}/dead"): Operation(
            {200: answers.DeadLetters}, ("not-found",)
        ),
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/redrive"): Operation(
            {200: answers.Redriven}, (*_JSON_BODY, *_WRITTEN, "not-found"), body=Redriving
        ),
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/replay"): Operation(
            {200: answers.Replayed}, (*_JSON_BODY, *_WRITTEN, "not-found"), body=Replaying
        ),
        ("GET", "/v1/status"): Operation({200: answers.Status}),
    }
)

# What stands in a path, by the parameter's name; `tile` brings its own pattern.
_IN_PATH: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "account": {"description": "Whose access tokens."},
        "code": {"pattern": CODE_PATTERN, "description": "Code of a participant or group."},
        "digest": HASH | {"description": "SHA-256 of the message's body."},
        "id": {"pattern": UUID7_PATTERN, "description": "Id of a message or a subscription."},
        "kid": HASH | {"description": "Thumbprint of a signing key."},
        "name": {"pattern": r"^[a-z0-9_.]+\.json$", "description": "Name of the file."},
        "theme": {"enum": list(THEMES), "description": "A theme of messages."},
        "tile": {
            "description": "Path of a tile or entry bundle (C2SP tlog-tiles); its slashes stand "
            "as they are: `tile/0/000`, `tile/entries/000.p/7`."
        },
    }
)

_PARTICIPANTS = frozenset({Role.MEMBER, Role.PARTNER, Role.OBSERVER, Role.SUSPENDED})

_SECURITY: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "participant": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "nhri-auth+jwt",
            "description": "A compact JWS that the participant signs for this one request: header "
            "exactly `alg` (Ed25519), `kid` and `typ`; claims `iss` (own code), `aud` (the log's "
            "origin or the hub's address), `iat`, `exp` (at most 60 s later), `jti` (random; "
            "counts once on a write), `htm` (method), `htu` (address without query).",
        },
        "account": {
            "type": "http",
            "scheme": "bearer",
            "description": "The opaque access token of an operator, auditor or reader of the log.",
        },
    }
)

_HEADERS: Final[Mapping[str, tuple[str, Schema]]] = MappingProxyType(
    {
        "401": ("WWW-Authenticate", {"const": "Bearer"}),
        **{str(status): ("Retry-After", {"const": str(s)}) for status, s in RETRY_AFTER.items()},
    }
)


def document() -> Schema:
    """The whole document."""
    _, components = definitions(_types(), REF)
    components["Invite"]["properties"]["names"]["propertyNames"] = LANGUAGE_TAG
    paths: dict[str, Schema] = {}
    for method, path in TABLE:
        paths.setdefault(template(path), {})[method.lower()] = _operation(method, path)
    tags = {inspect.getmodule(handler) for handler in http.HANDLERS.values()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NHRI exchange hub",
            "version": "1",
            "summary": "Messages between national human rights institutions.",
            "description": "Nobody has to trust the hub: whatever it says is signed, and can be "
            "checked against its log. A write that is answered with 408, 429 or 503 wrote nothing.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": sorted(
            (
                {"name": _tag(module), "description": prose(inspect.getdoc(module) or "")}
                for module in tags
            ),
            key=lambda tag: tag["name"],
        ),
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": dict(_SECURITY)},
    }


def template(path: str) -> str:
    """A route's path as OpenAPI writes it: parameters without their patterns."""
    return re.sub(r"{(\w+):[^}]+}", r"{\1}", path)


def _tag(module: object) -> str:
    return inspect.getmodulename(inspect.getfile(module)) or ""  # type: ignore[arg-type]


def _types() -> Sequence[type]:
    """Every struct that a row names, and those that are named by reference."""
    rows = OPERATIONS.values()
    named = dict.fromkeys(kind for row in rows for kind in (row.body, *row.answers.values()))
    structs = (kind for kind in named if isinstance(kind, type))
    return [*structs, answers.Delivered, Tombstone, JwsEnvelope, Problem]


def _operation(method: str, path: str) -> Schema:
    row = OPERATIONS[method, path]
    handler = http.HANDLERS[method, path]
    tag = _tag(inspect.getmodule(handler))
    said = re.sub(r"^`[A-Z]+ [^`]+`: ", "", prose(inspect.getdoc(handler) or ""))
    made: Schema = {
        "operationId": f"{tag}_{handler.__name__}",
        "tags": [tag],
        "summary": said[:1].upper() + said[1:],
        "security": _security(TABLE[method, path]),
        "parameters": [*_path_parameters(path), *_query(row), *_header(row)],
        "responses": _responses(row, TABLE[method, path]),
    }
    if row.signed is not None:
        made["requestBody"] = {
            "required": True,
            "description": f"An envelope with {row.signed}.",
            "content": {JOSE: {"schema": _ref(JwsEnvelope)}},
        }
    if row.note is not None:
        made["requestBody"] = {
            "required": True,
            "description": f"A signed note of {row.note}.",
            "content": {TEXT: {"schema": {"type": "string"}}},
        }
    if row.body is not None:
        needed = any(field.required for field in msgspec.structs.fields(row.body))
        content = {JSON: {"schema": _ref(row.body)}}
        made["requestBody"] = {"required": needed, "content": content}
    return made


def _ref(kind: type) -> Schema:
    return {"$ref": REF.format(name=kind.__name__)}


def _security(allowed: frozenset[Role]) -> list[Schema]:
    """Each role that may use a route is an alternative; none for what is for anyone."""
    if Role.ANONYMOUS in allowed:
        return []
    alternatives: list[Schema] = [
        {"participant" if role in _PARTICIPANTS else "account": [role.value]}
        for role in Role
        if role in allowed
    ]
    # The hub's own machine comes in without a token; OpenAPI has no other word for "sometimes".
    return [*alternatives, {}] if Role.METRICS in allowed else alternatives


def _path_parameters(path: str) -> list[Schema]:
    made = []
    for name, pattern in re.findall(r"{(\w+)(?::([^}]+))?}", path):
        schema: Schema = {"type": "string"} | _IN_PATH[name]
        if pattern:
            schema["pattern"] = f"^{pattern}$"
        tidy(schema)
        said = schema.pop("description")
        made.append(
            {"name": name, "in": "path", "required": True, "description": said, "schema": schema}
        )
    return made


def _query(row: Operation) -> list[Schema]:
    if row.query is None:
        return []
    _, components = definitions([row.query], REF)
    described = components[row.query.__name__]
    return [
        {
            "name": name,
            "in": "query",
            "required": name in described["required"],
            "schema": _given(schema),
        }
        for name, schema in described["properties"].items()
    ]


def _given(schema: Schema) -> Schema:
    """What a parameter is where it is given; a query has no way to say null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    given: Schema = options[0] if options else schema
    # A search compares times as texts; one that never comes will do.
    return {keyword: value for keyword, value in given.items() if keyword != "format"}


def _header(row: Operation) -> list[Schema]:
    return [
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in row.headers.items()
    ]


def _responses(row: Operation, allowed: frozenset[Role]) -> Schema:
    made: Schema = {str(status): _answer(kind, row.format) for status, kind in row.answers.items()}
    by_status: dict[str, list[str]] = {}
    for code in _refusals(row, allowed):
        by_status.setdefault(str(REFUSALS[code].status), []).append(code)
    for status, codes in sorted(by_status.items()):
        said = "\n\n".join(f"`{code}`: {REFUSALS[code].title}." for code in codes)
        problem: Schema = {"description": said, "content": {PROBLEM: {"schema": _ref(Problem)}}}
        if status in made:
            made[status]["content"] |= problem["content"]
            continue
        if status in _HEADERS:
            name, schema = _HEADERS[status]
            problem["headers"] = {name: {"required": True, "schema": schema}}
        made[status] = problem
    return made


def _refusals(row: Operation, allowed: frozenset[Role]) -> Iterable[str]:
    """The refusals of a row, with those that come before its handler or from a fault of ours."""
    codes = [*row.refusals, "bad-request", "storage"]
    if Role.ANONYMOUS not in allowed:
        codes += ["unauthenticated", "forbidden"]
        codes += _KEYS if allowed & _PARTICIPANTS else ()
    return dict.fromkeys(codes)


def _answer(kind: type | str, specified: str) -> Schema:
    if isinstance(kind, str):
        schema: Schema = {"type": "string"} if kind == TEXT else {}
        named = {media_type: {"schema": schema} for media_type in kind.split(", ")}
        return {"description": f"As {specified} says.", "content": named}
    described = prose(inspect.getdoc(kind) or "")
    content: Schema = {JSON: {"schema": _ref(kind)}}
    if kind is answers.Inbox:
        described += (
            "\n\nWith `Accept: text/event-stream` an endless stream: `id` is the position, `event` "
            "is `delivery` or `tombstone`, `data` one item."
        )
        content[EVENTS] = {"schema": {"type": "string"}}
    return {"description": described, "content": content}
