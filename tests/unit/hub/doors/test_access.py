"""The authorisation table: who may use what. What it allows to each role is written out here."""

import re
from typing import cast

import pytest

from hub.doors import http
from hub.doors.access import ANONYMOUS, CONSOLE, TABLE, Role
from hub.doors.service import Service

OPEN = {
    "GET /livez",
    "GET /readyz",
    "GET /openapi.json",
    "GET /schemas/{name}",
    "POST /v1/join",
    "GET /log/checkpoint",
    "GET /feed",
    "GET /feed/member/{code}",
    "GET /feed/theme/{theme}",
    "GET /feed/{id}/evidence",
}
LOG = {"GET /log/{tile:tile/.+}"}
MEASURES = {"GET /metrics"}
RECEIVING = {
    "GET /v1/messages/{id}",
    "GET /v1/inbox",
    "POST /v1/receipts",
    "POST /v1/keys",
    "GET /v1/witness/request",
    "POST /v1/witness/response",
    "GET /v1/witness/tail",
    "POST /v1/witness/tail",
    "POST /v1/witness/parts",
    "GET /v1/certificate",
    "POST /v1/certificate",
    "GET /v1/keys",
    "GET /v1/members",
    "GET /v1/audit/messages/{id}/evidence",
}
SUBSCRIBING = {
    "POST /v1/subscriptions",
    "POST /v1/subscriptions/dry-run",
    "POST /v1/subscriptions/{id:[0-9a-f-]+}/end",
    "POST /v1/subscriptions/{id:[0-9a-f-]+}/test",
    "POST /v1/subscriptions/{id:[0-9a-f-]+}/redrive",
    "POST /v1/subscriptions/{id:[0-9a-f-]+}/replay",
}
OWNING = {"POST /v1/subscriptions/{id:[0-9a-f-]+}", "POST /v1/subscriptions/{id:[0-9a-f-]+}/secret"}
SUBSCRIBED = {
    "GET /v1/subscriptions",
    "GET /v1/subscriptions/{id:[0-9a-f-]+}",
    "GET /v1/subscriptions/{id:[0-9a-f-]+}/attempts",
    "GET /v1/subscriptions/{id:[0-9a-f-]+}/dead",
}
SENDING = {"POST /v1/messages", "GET /v1/receipts"}
AUDITING = {
    "GET /v1/keys",
    "GET /v1/members",
    "GET /v1/certificates",
    "GET /v1/audit/events",
    "GET /v1/audit/export",
    "GET /v1/audit/counts",
    "GET /v1/audit/report",
    "GET /v1/audit/messages/{id}",
    "GET /v1/audit/messages/{id}/why",
    "GET /v1/audit/messages/{id}/evidence",
    "GET /v1/audit/verify",
    "GET /v1/status",
    "GET /v1/quarantine",
    "GET /v1/retention",
}
OPERATING = {
    "POST /v1/members",
    "GET /v1/members/{code}/join",
    "POST /v1/members/{code}/approve",
    "POST /v1/members/{code}/suspend",
    "POST /v1/members/{code}/resume",
    "POST /v1/members/{code}/hold",
    "POST /v1/keys/{kid}/revoke",
    "POST /v1/groups/{code}",
    "POST /v1/certificates/{code}",
    "GET /v1/tokens",
    "POST /v1/tokens",
    "POST /v1/tokens/{account}/revoke",
    "POST /v1/audit/messages/{id}/body",
    "POST /v1/messages/{id}/erase",
    "POST /v1/messages/{id}/hold",
    "GET /v1/quarantine/{digest}",
    "POST /v1/quarantine/{digest}/release",
    "POST /v1/quarantine/{digest}/discard",
}

OWN_SUBSCRIPTIONS = SUBSCRIBING | OWNING | SUBSCRIBED

ALLOWED = {
    Role.ANONYMOUS: OPEN,
    Role.MEMBER: OPEN | LOG | RECEIVING | SENDING | OWN_SUBSCRIPTIONS,
    Role.PARTNER: OPEN | LOG | RECEIVING | SENDING | OWN_SUBSCRIPTIONS,
    Role.OBSERVER: OPEN | LOG | RECEIVING | OWN_SUBSCRIPTIONS,
    Role.SUSPENDED: OPEN | LOG,
    Role.OPERATOR: OPEN | LOG | MEASURES | AUDITING | OPERATING | SUBSCRIBING | SUBSCRIBED,
    Role.AUDITOR: OPEN | LOG | AUDITING | SUBSCRIBED,
    Role.LOG: OPEN | LOG,
    Role.METRICS: OPEN | MEASURES,
}

CONSOLE_OPEN = {
    "GET /console",
    "GET /console/static/{name}",
    "GET /console/login",
    "POST /console/login",
}
CONSOLE_SUBSCRIBED = {
    "POST /console/logout",
    "GET /console/webhooks",
    "GET /console/webhooks/{id}",
}
CONSOLE_SUBSCRIBING = {
    "POST /console/webhooks",
    "GET /console/webhooks/new",
    "POST /console/webhooks/new",
    "POST /console/webhooks/try",
    "POST /console/webhooks/{id}/test",
    "POST /console/webhooks/{id}/redrive",
    "GET /console/webhooks/{id}/replay",
    "POST /console/webhooks/{id}/replay",
    "GET /console/webhooks/{id}/end",
    "POST /console/webhooks/{id}/end",
}
CONSOLE_OWN = CONSOLE_SUBSCRIBED | CONSOLE_SUBSCRIBING
CONSOLE_OWN |= {"GET /console/webhooks/{id}/secret", "POST /console/webhooks/{id}/secret"}
CONSOLE_AUDITING = {
    "GET /console/",
    "GET /console/live",
    "GET /console/search",
    "GET /console/search/export",
    "GET /console/messages/{id}",
    "GET /console/messages/{id}/acceptance",
    "GET /console/messages/{id}/evidence",
    "GET /console/entries/{index}",
    "GET /console/entries/{index}/proof",
    "GET /console/checkpoints",
    "GET /console/settings",
    "GET /console/members",
    "GET /console/members/{code}",
    "GET /console/quarantine",
    "GET /console/quarantine/{digest}",
}
CONSOLE_OPERATING = {
    "POST /console/messages/{id}/evidence",
    "POST /console/messages/{id}/envelope",
    "POST /console/messages/{id}/text",
    "GET /console/members/{code}/bundle",
    "GET /console/members/{code}/approve",
    "POST /console/members/{code}/approve",
    "GET /console/members/{code}/hold",
    "POST /console/members/{code}/hold",
    "GET /console/members/{code}/suspend",
    "POST /console/members/{code}/suspend",
    "GET /console/members/{code}/resume",
    "POST /console/members/{code}/resume",
    "GET /console/members/{code}/certificate",
    "POST /console/members/{code}/certificate",
    "GET /console/invite",
    "POST /console/invite",
    "GET /console/group",
    "POST /console/group",
    "GET /console/keys/{kid}/revoke",
    "POST /console/keys/{kid}/revoke",
    "POST /console/quarantine/{digest}",
    "GET /console/quarantine/{digest}/release",
    "POST /console/quarantine/{digest}/release",
    "GET /console/quarantine/{digest}/discard",
    "POST /console/quarantine/{digest}/discard",
}


CONSOLE_OPERATOR = CONSOLE_SUBSCRIBED | CONSOLE_SUBSCRIBING | CONSOLE_AUDITING | CONSOLE_OPERATING


@pytest.mark.parametrize("role", Role)
def test_a_role_may_use_these_routes_and_no_others(role):
    allowed = {f"{method} {path}" for (method, path), roles in TABLE.items() if role in roles}
    assert allowed == ALLOWED[role]


@pytest.mark.parametrize("role", Role)
def test_a_role_may_see_these_pages_and_no_others(role):
    allowed = {f"{method} {path}" for (method, path), roles in CONSOLE.items() if role in roles}
    pages = {
        Role.OPERATOR: CONSOLE_OPEN | CONSOLE_OPERATOR,
        Role.AUDITOR: CONSOLE_OPEN | CONSOLE_SUBSCRIBED | CONSOLE_AUDITING,
        Role.MEMBER: CONSOLE_OPEN | CONSOLE_OWN,
        Role.PARTNER: CONSOLE_OPEN | CONSOLE_OWN,
        Role.OBSERVER: CONSOLE_OPEN | CONSOLE_OWN,
    }
    assert allowed == pages.get(role, CONSOLE_OPEN)


def test_whatever_a_page_changes_comes_by_post_and_is_for_operators_and_owners():
    posts = {path: roles for (method, path), roles in CONSOLE.items() if method == "POST"}
    session = {"/console/login", "/console/logout"}
    owners = {Role.MEMBER, Role.PARTNER, Role.OBSERVER}
    for path, roles in posts.items():
        if path.startswith("/console/webhooks"):
            assert roles - {Role.OPERATOR} == owners
        elif path not in session:
            assert roles == {Role.OPERATOR}


def test_every_row_has_a_handler_and_every_handler_a_row():
    assert set(http.HANDLERS) == set(TABLE)


def test_the_door_has_exactly_the_routes_of_the_table():
    routes = http.build(cast(Service, None)).router.routes()
    built = {(route.method, route.resource.canonical) for route in routes if route.resource}
    rows = {**TABLE, **CONSOLE}
    assert built == {(method, re.sub(r"{(\w+):[^}]+}", r"{\1}", path)) for method, path in rows}


def test_nobody_known_has_the_role_of_nobody_known():
    assert ANONYMOUS.roles == {Role.ANONYMOUS}
