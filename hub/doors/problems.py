"""Errors as problem documents (RFC 9457)."""

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from schemas import jsontext
from schemas.acceptance import Acceptance
from schemas.refusal import REFUSALS, RETRY_AFTER, TRY_AGAIN, Refused

log = structlog.get_logger("hub.door")


def problem(
    refusal: Refused, recorded: Acceptance | None = None, status: int | None = None
) -> web.Response:
    """The answer to a refused request.

    ``recorded`` is the refusal's own place in the log; ``status`` is given where HTTP has a more
    exact one than the refusal's.
    """
    status = status or refusal.row.status
    document: dict[str, object] = {
        "type": f"urn:nhri-exchange:refusal:{refusal.code}",
        "title": refusal.row.title,
        "status": status,
        "detail": refusal.detail,
        "code": refusal.code,
        "retryable": refusal.row.retryable,
    }
    if refusal.path is not None:
        document["path"] = refusal.path
    if recorded is not None:
        document["refusal"] = recorded
    # A 404 without it may be kept by a cache: a tile that is not there yet will be.
    headers = {"Cache-Control": "no-store"}
    if status in RETRY_AFTER:
        headers["Retry-After"] = str(RETRY_AFTER[status])
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    response = web.Response(
        body=jsontext.encode(document),
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )
    if status == 408:
        response.force_close()  # the rest of the body is no next request
    return response


_BY_STATUS = {404: "not-found", 405: "not-found", 413: "too-large"}


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn refusals and aiohttp's own errors into problem documents; nothing else gets out."""
    try:
        return await handler(request)
    except Refused as refusal:
        return problem(refusal)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = _BY_STATUS.get(error.status, "bad-request")
        detail = f"{error.reason}." if code == "bad-request" else REFUSALS[code].title + "."
        answer = problem(Refused(code, detail), status=error.status)
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except web.RequestPayloadError:
        return problem(Refused("bad-request", "The body is not encoded as its headers say."))
    except Exception:
        # A fault of ours: the sender keeps its message and tries again.
        log.exception("door.fault", method=request.method, path=request.path)
        return problem(Refused("storage", f"Something went wrong here; it was noted; {TRY_AGAIN}."))
