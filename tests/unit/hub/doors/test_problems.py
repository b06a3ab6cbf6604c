"""Every error leaves the hub as one problem document (RFC 9457) with a code of the table."""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from hub.doors import problems
from schemas.refusal import REFUSALS, TRY_AGAIN, Refused
from tests import builders


def document(response):
    """The document, after what holds for each was checked."""
    assert response.content_type == "application/problem+json"
    value = json.loads(response.body)
    assert value["status"] == response.status
    assert value["type"] == f"urn:nhri-exchange:refusal:{value['code']}"
    return value


async def answer(error):
    """What the middleware makes of an error."""

    async def handler(request):
        raise error

    return await problems.middleware(make_mocked_request("GET", "/v1/x"), handler)


class TestARefusal:
    @pytest.mark.parametrize("code", REFUSALS)
    def test_tells_code_title_status_and_whether_to_try_again(self, code):
        response = problems.problem(Refused(code, "Do this."))
        row = REFUSALS[code]
        assert response.status == row.status
        assert document(response) == {
            "type": f"urn:nhri-exchange:refusal:{code}",
            "title": row.title,
            "status": row.status,
            "detail": "Do this.",
            "code": code,
            "retryable": row.retryable,
        }

    def test_names_the_path_where_there_is_one(self):
        response = problems.problem(Refused("schema", "No.", "$.content"))
        assert document(response)["path"] == "$.content"

    def test_brings_the_entry_that_records_it(self):
        acceptance = builders.acceptance()
        response = problems.problem(Refused("schema", "No."), acceptance)
        assert document(response)["refusal"]["entry"] == acceptance.entry

    @pytest.mark.parametrize("code", ["quota", "busy", "storage"])
    def test_that_passes_says_after_how_many_seconds(self, code):
        assert int(problems.problem(Refused(code, "Later.")).headers["Retry-After"]) > 0

    def test_that_passes_has_the_figure_of_its_details(self):
        after = problems.problem(Refused("storage", "Later.")).headers["Retry-After"]
        assert f"again in {after} seconds" in TRY_AGAIN

    def test_for_want_of_a_token_says_which_kind(self):
        response = problems.problem(Refused("unauthenticated", "Who?"))
        assert response.headers["WWW-Authenticate"] == "Bearer"


class TestTheMiddleware:
    async def test_lets_answers_pass(self):
        fine = web.Response(text="fine")

        async def handler(request):
            return fine

        assert await problems.middleware(make_mocked_request("GET", "/"), handler) is fine

    async def test_turns_a_refusal_into_its_document(self):
        assert document(await answer(Refused("quota", "Later.")))["code"] == "quota"

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (web.HTTPNotFound(), 404, "not-found"),
            (web.HTTPMethodNotAllowed("PUT", ["GET"]), 405, "not-found"),
            (web.HTTPRequestEntityTooLarge(1, 2), 413, "too-large"),
            (web.HTTPBadRequest(), 400, "bad-request"),
            (web.HTTPExpectationFailed(), 417, "bad-request"),
            (web.RequestPayloadError("not gzip"), 400, "bad-request"),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_turns_errors_of_http_into_documents(self, error, status, code):
        response = await answer(error)
        assert (response.status, document(response)["code"]) == (status, code)

    async def test_says_which_methods_are_allowed(self):
        response = await answer(web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]))
        assert response.headers["Allow"] == "GET,POST"

    async def test_turns_a_fault_of_ours_into_a_refusal_for_now_that_tells_nothing(self):
        response = await answer(ZeroDivisionError("a secret"))
        told = document(response)
        assert (told["code"], told["retryable"]) == ("storage", True)
        assert "secret" not in response.text
