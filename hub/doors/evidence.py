"""The evidence of a message, as a file for somebody who trusts nobody."""

from importlib import resources

from aiohttp import web

from hub.doors import audit, readings
from hub.doors.access import Role
from hub.doors.readings import Reading
from hub.doors.service import Asked, Service, query
from hub.ledger import evidence as gathering
from hub.ledger.evidence import Log, Reader
from schemas.evidence import archive

ZIP = "application/zip"

_PROOFS_ONLY = ("forbidden", "expired")
"""Refusals of a body that no reason lifts."""


async def evidence(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/messages/{id}/evidence``: a zip that proves what became of a message.

    For its sender, its recipients and the hub's own people. To auditors it proves all the same
    without the message; an operator who gets one above TLP:GREEN says why.
    """
    return await answer(hub, asked, query(asked, Reading).reason)


async def answer(hub: Service, asked: Asked, reason: str) -> web.Response:
    """The zip for whoever asks for the message in the path, and says why.

    Raises:
        Refused: there is nothing that they may see, or they have to say why.
    """
    message_id = audit.message_id(asked)
    reader = await _reader(hub, asked, message_id, reason)
    return file(message_id, await written(hub, message_id, reader))


async def written(hub: Service, message_id: str, reader: Reader) -> bytes:
    """The zip for one reader.

    Raises:
        Refused: ``not-found``, where there is nothing that this reader may see.
    """
    directory = hub.recorder.state.directory
    made = await gathering.gather(hub.queries, directory, await log(hub), message_id, reader)
    cover = resources.files("schemas.evidence").joinpath("cover.html").read_text("utf-8")
    return await hub.offload.run(lambda: archive.write(made, cover))


def file(message_id: str, raw: bytes) -> web.Response:
    """The answer with a zip, which a browser saves under the name of the message."""
    headers = {"Content-Disposition": f'attachment; filename="evidence-{message_id}.zip"'}
    return web.Response(body=raw, content_type=ZIP, headers=headers)


async def log(hub: Service) -> Log:
    """The log as it can be proven now."""
    known = hub.witnesses.known(hub.recorder.state.directory)
    return Log(hub.vkey, await hub.witnesses.served(), known)


async def _reader(hub: Service, asked: Asked, message_id: str, reason: str) -> Reader:
    """Who reads, and how much of it; that the hub's own people do is recorded first."""
    if not asked.principal.roles & {Role.OPERATOR, Role.AUDITOR}:
        return Reader(asked.principal.name, body=True)
    row = await hub.queries.message(message_id)
    envelope = (row and row.envelope) or b""
    refused = readings.refusal(hub, asked, envelope, reason)
    if not envelope or (refused is not None and refused.code in _PROOFS_ONLY):
        await audit.note(hub, asked, message_id)
        return Reader(None, body=False)
    await readings.record(hub, asked, message_id, envelope, reason)
    return Reader(None, body=True)
