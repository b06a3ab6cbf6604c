"""The authorisation tables: which role may use which route. What has no row does not exist."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec


class Role(StrEnum):
    """What somebody can be at a door. A participant has its role in the directory, or SUSPENDED."""

    ANONYMOUS = "anonymous"
    MEMBER = "member"
    PARTNER = "partner"
    OBSERVER = "observer"
    SUSPENDED = "suspended"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    LOG = "log"
    METRICS = "metrics"


class Principal(msgspec.Struct, frozen=True):
    """Who is asking: their roles, and the code of a participant or the account of a token."""

    name: str
    roles: frozenset[Role]


ANONYMOUS = Principal("", frozenset({Role.ANONYMOUS}))
LOOPBACK = Principal("loopback", frozenset({Role.METRICS}))

_ANYONE = frozenset(Role)
_SENDERS = frozenset({Role.MEMBER, Role.PARTNER})
PARTICIPANTS = frozenset({Role.MEMBER, Role.PARTNER, Role.OBSERVER})
"""Those in the directory that are active."""

_OPERATORS = frozenset({Role.OPERATOR})
_AUDIT = frozenset({Role.OPERATOR, Role.AUDITOR})
_LOG = PARTICIPANTS | {Role.SUSPENDED, Role.OPERATOR, Role.AUDITOR, Role.LOG}
_SUBSCRIBERS = PARTICIPANTS | _OPERATORS
_DIRECTORY = PARTICIPANTS | _AUDIT
_METRICS = frozenset({Role.OPERATOR, Role.METRICS})

TABLE: Mapping[tuple[str, str], frozenset[Role]] = MappingProxyType(
    {
        ("GET", "/livez"): _ANYONE,
        ("GET", "/readyz"): _ANYONE,
        ("GET", "/metrics"): _METRICS,
        ("GET", "/openapi.json"): _ANYONE,
        ("GET", "/schemas/{name}"): _ANYONE,
        ("POST", "/v1/join"): _ANYONE,
        ("GET", "/log/checkpoint"): _ANYONE,
        ("GET", "/log/{tile:tile/.+}"): _LOG,
        ("GET", "/feed"): _ANYONE,
        ("GET", "/feed/member/{code}"): _ANYONE,
        ("GET", "/feed/theme/{theme}"): _ANYONE,
        ("GET", "/feed/{id}/evidence"): _ANYONE,
        ("POST", "/v1/messages"): _SENDERS,
        ("GET", "/v1/messages/{id}"): PARTICIPANTS,
        ("POST", "/v1/messages/{id}/erase"): _OPERATORS,
        ("POST", "/v1/messages/{id}/hold"): _OPERATORS,
        ("GET", "/v1/retention"): _AUDIT,
        ("GET", "/v1/inbox"): PARTICIPANTS,
        ("POST", "/v1/receipts"): PARTICIPANTS,
        ("GET", "/v1/receipts"): _SENDERS,
        ("GET", "/v1/witness/request"): PARTICIPANTS,
        ("POST", "/v1/witness/response"): PARTICIPANTS,
        ("GET", "/v1/witness/tail"): PARTICIPANTS,
        ("POST", "/v1/witness/tail"): PARTICIPANTS,
        ("POST", "/v1/witness/parts"): PARTICIPANTS,
        ("POST", "/v1/keys"): PARTICIPANTS,
        ("GET", "/v1/keys"): _DIRECTORY,
        ("GET", "/v1/certificate"): PARTICIPANTS,
        ("POST", "/v1/certificate"): PARTICIPANTS,
        ("GET", "/v1/certificates"): _AUDIT,
        ("POST", "/v1/certificates/{code}"): _OPERATORS,
        ("GET", "/v1/members"): _DIRECTORY,
        ("POST", "/v1/members"): _OPERATORS,
        ("GET", "/v1/members/{code}/join"): _OPERATORS,
        ("POST", "/v1/members/{code}/approve"): _OPERATORS,
        ("POST", "/v1/members/{code}/suspend"): _OPERATORS,
        ("POST", "/v1/members/{code}/resume"): _OPERATORS,
        ("POST", "/v1/members/{code}/hold"): _OPERATORS,
        ("POST", "/v1/keys/{kid}/revoke"): _OPERATORS,
        ("POST", "/v1/groups/{code}"): _OPERATORS,
        ("GET", "/v1/tokens"): _OPERATORS,
        ("POST", "/v1/tokens"): _OPERATORS,
        ("POST", "/v1/tokens/{account}/revoke"): _OPERATORS,
        ("GET", "/v1/audit/events"): _AUDIT,
        ("GET", "/v1/audit/export"): _AUDIT,
        ("GET", "/v1/audit/counts"): _AUDIT,
        ("GET", "/v1/audit/report"): _AUDIT,
        ("GET", "/v1/audit/messages/{id}"): _AUDIT,
        ("GET", "/v1/audit/messages/{id}/why"): _AUDIT,
        ("GET", "/v1/audit/messages/{id}/evidence"): _DIRECTORY,
        ("POST", "/v1/audit/messages/{id}/body"): _OPERATORS,
        ("GET", "/v1/audit/verify"): _AUDIT,
        ("GET", "/v1/quarantine"): _AUDIT,
        ("GET", "/v1/quarantine/{digest}"): _OPERATORS,
        ("POST", "/v1/quarantine/{digest}/release"): _OPERATORS,
        ("POST", "/v1/quarantine/{digest}/discard"): _OPERATORS,
        ("GET", "/v1/subscriptions"): PARTICIPANTS | _AUDIT,
        ("POST", "/v1/subscriptions"): _SUBSCRIBERS,
        ("POST", "/v1/subscriptions/dry-run"): _SUBSCRIBERS,
        # The pattern keeps dry-run from being an id.
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}"): PARTICIPANTS | _AUDIT,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}"): PARTICIPANTS,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/end"): _SUBSCRIBERS,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/secret"): PARTICIPANTS,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/test"): _SUBSCRIBERS,
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}/attempts"): PARTICIPANTS | _AUDIT,
        ("GET", "/v1/subscriptions/{id:[0-9a-f-]+}/dead"): PARTICIPANTS | _AUDIT,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/redrive"): _SUBSCRIBERS,
        ("POST", "/v1/subscriptions/{id:[0-9a-f-]+}/replay"): _SUBSCRIBERS,
        ("GET", "/v1/status"): _AUDIT,
    }
)

CONSOLE: Mapping[tuple[str, str], frozenset[Role]] = MappingProxyType(
    {
        ("GET", "/console"): _ANYONE,
        ("GET", "/console/"): _AUDIT,
        ("GET", "/console/static/{name}"): _ANYONE,
        ("GET", "/console/login"): _ANYONE,
        ("POST", "/console/login"): _ANYONE,
        ("POST", "/console/logout"): PARTICIPANTS | _AUDIT,
        ("GET", "/console/live"): _AUDIT,
        ("GET", "/console/search"): _AUDIT,
        ("GET", "/console/search/export"): _AUDIT,
        ("GET", "/console/messages/{id}"): _AUDIT,
        ("GET", "/console/messages/{id}/acceptance"): _AUDIT,
        ("GET", "/console/messages/{id}/evidence"): _AUDIT,
        ("POST", "/console/messages/{id}/evidence"): _OPERATORS,
        ("POST", "/console/messages/{id}/envelope"): _OPERATORS,
        ("POST", "/console/messages/{id}/text"): _OPERATORS,
        ("GET", "/console/entries/{index}"): _AUDIT,
        ("GET", "/console/entries/{index}/proof"): _AUDIT,
        ("GET", "/console/checkpoints"): _AUDIT,
        ("GET", "/console/settings"): _AUDIT,
        ("GET", "/console/members"): _AUDIT,
        ("GET", "/console/members/{code}"): _AUDIT,
        ("GET", "/console/members/{code}/bundle"): _OPERATORS,
        ("GET", "/console/members/{code}/approve"): _OPERATORS,
        ("POST", "/console/members/{code}/approve"): _OPERATORS,
        ("GET", "/console/members/{code}/hold"): _OPERATORS,
        ("POST", "/console/members/{code}/hold"): _OPERATORS,
        ("GET", "/console/members/{code}/suspend"): _OPERATORS,
        ("POST", "/console/members/{code}/suspend"): _OPERATORS,
        ("GET", "/console/members/{code}/resume"): _OPERATORS,
        ("POST", "/console/members/{code}/resume"): _OPERATORS,
        ("GET", "/console/members/{code}/certificate"): _OPERATORS,
        ("POST", "/console/members/{code}/certificate"): _OPERATORS,
        ("GET", "/console/invite"): _OPERATORS,
        ("POST", "/console/invite"): _OPERATORS,
        ("GET", "/console/group"): _OPERATORS,
        ("POST", "/console/group"): _OPERATORS,
        ("GET", "/console/keys/{kid}/revoke"): _OPERATORS,
        ("POST", "/console/keys/{kid}/revoke"): _OPERATORS,
        ("GET", "/console/webhooks"): PARTICIPANTS | _AUDIT,
        ("POST", "/console/webhooks"): _SUBSCRIBERS,
        ("GET", "/console/webhooks/new"): _SUBSCRIBERS,
        ("POST", "/console/webhooks/new"): _SUBSCRIBERS,
        ("POST", "/console/webhooks/try"): _SUBSCRIBERS,
        ("GET", "/console/webhooks/{id}"): PARTICIPANTS | _AUDIT,
        ("POST", "/console/webhooks/{id}/test"): _SUBSCRIBERS,
        ("POST", "/console/webhooks/{id}/redrive"): _SUBSCRIBERS,
        ("GET", "/console/webhooks/{id}/replay"): _SUBSCRIBERS,
        ("POST", "/console/webhooks/{id}/replay"): _SUBSCRIBERS,
        ("GET", "/console/webhooks/{id}/secret"): PARTICIPANTS,
        ("POST", "/console/webhooks/{id}/secret"): PARTICIPANTS,
        ("GET", "/console/webhooks/{id}/end"): _SUBSCRIBERS,
        ("POST", "/console/webhooks/{id}/end"): _SUBSCRIBERS,
        ("GET", "/console/quarantine"): _AUDIT,
        ("GET", "/console/quarantine/{digest}"): _AUDIT,
        ("POST", "/console/quarantine/{digest}"): _OPERATORS,
        ("GET", "/console/quarantine/{digest}/release"): _OPERATORS,
        ("POST", "/console/quarantine/{digest}/release"): _OPERATORS,
        ("GET", "/console/quarantine/{digest}/discard"): _OPERATORS,
        ("POST", "/console/quarantine/{digest}/discard"): _OPERATORS,
    }
)
"""The pages for people. They come with a session and not with a token; ``TABLE`` is the API."""
