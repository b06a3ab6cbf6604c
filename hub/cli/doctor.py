"""``nhri-hub doctor``: is everything as it should be, and what waits for somebody?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
import msgspec

from hub.cli import log_client
from hub.cli.command import asks_hub, examples
from hub.cli.member import JoinRequest, Members, member_path
from hub.cli.outcome import NotSo, RefusedByHub, Unreachable
from hub.cli.output import print_json, print_table
from schemas import jsontext
from schemas.directory import State

if TYPE_CHECKING:
    from hub.cli.client import Hub

MIN_FREE = 256 * 1024 * 1024
"""Bytes of free disk below which it is time to act: some weeks of messages."""

MIN_DAYS = 14
"""Days left of one of the hub's own certificates from which on it is time to act."""


class Witness(msgspec.Struct, frozen=True):
    """How far a witness is."""

    code: str
    size: int


class Status(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/status``, as far as it is judged or shown.

    ``store_failing`` is why the last commit failed, None where it did not; ``signing_stopped`` why
    nothing is signed.
    """

    version: str
    log_size: int
    participants: dict[str, int]
    waiting_deliveries: dict[str, int]
    waiting_jobs: int
    store_failing: str | None
    signing_stopped: str | None
    quorum_wanted: bool
    quorum_size: int | None
    witnesses: list[Witness]
    free_disk_bytes: int
    certificate_days: dict[str, int]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. ``ok`` is None where there is nothing to judge."""

    name: str
    ok: bool | None
    detail: str


@click.command(epilog=examples("nhri-hub doctor"))
@asks_hub
async def doctor(hub: "Hub") -> None:
    """Look at everything and say what waits for whom. Ends with 1 on a problem."""
    local = hub.access.hub is None
    findings = [Finding("settings", True, str(hub.access.config))] if local else []
    try:
        status = jsontext.convert(await hub.get("/v1/status"), Status)
        findings.append(Finding("hub", True, f"version {status.version} at {hub.place}"))
        findings += [*_of_status(status), await _log_head(hub), await _joins(hub)]
    except Unreachable as error:
        findings.append(Finding("hub", False, error.message))
    problems = [finding for finding in findings if finding.ok is False]
    if hub.as_json:
        print_json({"ok": not problems, "findings": msgspec.to_builtins(findings)})
    else:
        words = {True: "ok", False: "PROBLEM", None: ""}
        print_table(("", "", ""), ((words[f.ok], f.name, f.detail) for f in findings))
    if problems:
        raise NotSo(f"Needs attention: {', '.join(finding.name for finding in problems)}.")


def _of_status(status: Status) -> Iterator[Finding]:
    failing = status.store_failing
    waiting = f"it stores; {status.waiting_jobs} requests wait to be recorded"
    yield Finding("database", failing is None, failing or waiting)
    stopped = status.signing_stopped
    yield Finding("signing", stopped is None, stopped or "the log is signed")
    yield Finding("witnesses", None, _of_witnesses(status))
    free = status.free_disk_bytes
    yield Finding("disk", free >= MIN_FREE, f"{free // 1024**2} MiB free")
    if days := status.certificate_days:
        yield Finding("certificates", min(days.values()) > MIN_DAYS, f"days left: {_counts(days)}")
    yield Finding("participants", None, _counts(status.participants))
    yield Finding("without receipt", None, _counts(status.waiting_deliveries))


def _of_witnesses(status: Status) -> str:
    if not status.quorum_wanted:
        return "too few for a quorum: the newest checkpoint is served without one"
    behind = {w.code: status.log_size - w.size for w in status.witnesses if w.size}
    quorum = "none yet" if status.quorum_size is None else f"at {status.quorum_size}"
    return f"quorum {quorum} of {status.log_size} entries; behind by: {_counts(behind)}"


def _counts(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items()) or "none"


async def _log_head(hub: "Hub") -> Finding:
    if not hub.access.config.exists():
        return Finding("log", None, "not verified: its key is on the hub's machine")
    try:
        _, head = await log_client.head(hub.fetch, hub.access.log_vkey(None))
    except (NotSo, log_client.LogError) as error:
        return Finding("log", False, str(error))
    return Finding("log", True, f"{head.origin} has {head.size} entries, signed by its key")


async def _joins(hub: "Hub") -> Finding:
    """Who asked to join and waits for an operator's call."""
    listed = jsontext.convert(await hub.get("/v1/members"), Members)
    waiting = []
    for member in listed.members:
        if member.state in {State.INVITED, State.HELD}:
            try:
                answer = await hub.get(member_path(member.code, "join"))
            except RefusedByHub:
                continue  # no request yet; or an auditor asks, to whom requests are not shown
            waiting.append(jsontext.convert(answer, JoinRequest).code)
    commands = "; ".join(f"nhri-hub member approve {code}" for code in waiting)
    return Finding("to approve", None, commands or "nobody")
