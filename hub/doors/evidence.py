"""The evidence of a message, as a file for somebody who trusts nobody."""

import re
from importlib import resources
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from hub.doors.access import Role
from hub.doors.service import Asked, Service, query
from hub.intake import membership
from hub.intake.quarantine import BODY_READ
from hub.ledger import evidence as gathering
from hub.ledger.evidence import Log, Reader
from hub.ledger.queries import MessageRow
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext
from schemas.encoding import UUID7_PATTERN
from schemas.evidence import archive
from schemas.refusal import Refused

ZIP = "application/zip"

_OPEN = ("TLP:CLEAR", "TLP:GREEN")
"""Markings under which an operator needs no reason to read a message."""


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator has to read a message above TLP:GREEN; it is recorded."""

    reason: Annotated[str, Meta(max_length=2000)] = ""


async def evidence(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/messages/{id}/evidence``: a zip that proves what became of a message.

    For its sender, its recipients and the hub's own people. Auditors get it without the message;
    an operator who gets one above TLP:GREEN says why.
    """
    message_id = asked.request.match_info["id"]
    if not re.fullmatch(UUID7_PATTERN, message_id):
        raise Refused("not-found", "The id of a message is a UUIDv7, in small letters.")
    wanted = query(asked, Reading)
    reader = await _reader(hub, asked, message_id, wanted.reason)
    directory = hub.recorder.state.directory
    log = Log(hub.vkey, await hub.witnesses.served(), hub.witnesses.known(directory))
    made = await gathering.gather(hub.queries, directory, log, message_id, reader)
    cover = resources.files("schemas.evidence").joinpath("cover.html").read_text("utf-8")
    raw = await hub.offload.run(lambda: archive.write(made, cover))
    headers = {"Content-Disposition": f'attachment; filename="evidence-{message_id}.zip"'}
    return web.Response(body=raw, content_type=ZIP, headers=headers)


async def _reader(hub: Service, asked: Asked, message_id: str, reason: str) -> Reader:
    """Who reads, and how much of it; that the hub's own people do is recorded first."""
    roles = asked.principal.roles
    if not roles & {Role.OPERATOR, Role.AUDITOR}:
        return Reader(asked.principal.name, body=True)
    row = await hub.queries.message(message_id)
    body = row is not None and Role.OPERATOR in roles
    if row is not None and body and row.marking not in _OPEN and not reason:
        raise Refused("bad-request", f"It is {row.marking}: say with reason= why you read it.")
    await hub.change(membership.append(_record(asked, message_id, row if body else None, reason)))
    return Reader(None, body)


def _record(asked: Asked, message_id: str, read: MessageRow | None, reason: str) -> Draft:
    said = {"path": asked.request.path, "query": message_id, "reason": reason}
    kind = entries.OPERATOR_QUERY if read is None else BODY_READ
    subject = None if read is None else message_id
    return Draft(kind, asked.principal.name, subject, private=jsontext.encode(said))
