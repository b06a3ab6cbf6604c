"""The OpenAPI document: every route, who may use it, and nothing that the tables do not say."""

import re

import pytest
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31

from hub.doors import openapi
from hub.doors.access import TABLE, Role
from schemas.refusal import REFUSALS

DOCUMENT = openapi.document()
OPERATIONS = {
    (method.upper(), path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}
ROUTES = {(method, openapi.template(path)): allowed for (method, path), allowed in TABLE.items()}


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_it_follows_the_specification():
    Draft202012Validator(OPENAPI_31).validate(DOCUMENT)


def test_every_component_is_a_json_schema_and_is_used():
    named = DOCUMENT["components"]["schemas"]
    for schema in named.values():
        Draft202012Validator.check_schema(schema)
    used = {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)}
    assert used == named.keys()


def test_it_has_every_route_of_the_authorisation_table_and_no_other():
    assert len(ROUTES) == len(TABLE)
    assert OPERATIONS.keys() == ROUTES.keys()
    assert openapi.OPERATIONS.keys() == TABLE.keys()


def test_every_operation_has_a_name_of_its_own():
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_a_route_asks_for_the_credentials_of_those_who_may_use_it(route):
    schemes = {scheme for row in OPERATIONS[route]["security"] for scheme in row}
    roles = {role for row in OPERATIONS[route]["security"] for [role] in row.values()}
    assert schemes <= DOCUMENT["components"]["securitySchemes"].keys()
    assert roles == (set() if Role.ANONYMOUS in ROUTES[route] else ROUTES[route])
    assert ("401" in OPERATIONS[route]["responses"]) == bool(roles)


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_every_parameter_of_a_path_is_described(route):
    parameters = OPERATIONS[route]["parameters"]
    described = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
    assert described == set(re.findall(r"{(\w+)}", route[1]))


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_every_refusal_stands_under_its_status_as_a_problem(route):
    responses = OPERATIONS[route]["responses"]
    for status, response in responses.items():
        codes = re.findall(r"^`([a-z-]+)`: ", response["description"], re.MULTILINE)
        assert {str(REFUSALS[code].status) for code in codes} <= {status}
        if codes:
            assert response["content"].keys() == {"application/problem+json"}
    assert any(status.startswith("2") for status in responses)


def test_some_routes_in_detail():
    submit = OPERATIONS["POST", "/v1/messages"]
    assert submit["requestBody"]["content"].keys() == {"application/jose+json"}
    answered = "200 201 400 401 403 408 409 410 413 422 429 503"
    assert {*answered.split()} == submit["responses"].keys()
    assert submit["responses"]["429"]["headers"]["Retry-After"]["schema"] == {"const": "60"}
    inbox = OPERATIONS["GET", "/v1/inbox"]
    assert inbox["responses"]["200"]["content"].keys() == {"application/json", "text/event-stream"}
    names = {parameter["name"] for parameter in inbox["parameters"]}
    assert names == {"after", "limit", "wait", "Last-Event-ID"}
    suspend = OPERATIONS["POST", "/v1/members/{code}/suspend"]
    assert suspend["requestBody"]["required"] is False
