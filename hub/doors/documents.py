"""What anyone may fetch: health, the OpenAPI document and the JSON Schemas."""

from importlib import resources

from aiohttp import web

from hub.doors.service import Asked, Service, answer
from schemas.refusal import Refused


async def livez(hub: Service, asked: Asked) -> web.Response:
    """``GET /livez``: the process answers."""
    return answer({"ok": True})


async def readyz(hub: Service, asked: Asked) -> web.Response:
    """``GET /readyz``: messages are taken: the last commit did not fail, and the log is whole."""
    failing = hub.recorder.failing or hub.witnesses.damage
    return answer({"ok": failing is None, "reason": failing}, 200 if failing is None else 503)


async def openapi(hub: Service, asked: Asked) -> web.Response:
    """``GET /openapi.json``."""
    return _published("openapi.json")


async def schema(hub: Service, asked: Asked) -> web.Response:
    """``GET /schemas/{name}``: one published JSON Schema."""
    return _published(asked.request.match_info["name"])


def _published(name: str) -> web.Response:
    folder = resources.files("schemas").joinpath("published")
    names = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
    if name not in names or not name.endswith(".json"):
        raise Refused("not-found", "No schema is published under that name.")
    return web.Response(body=folder.joinpath(name).read_bytes(), content_type="application/json")
