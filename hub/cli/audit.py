"""``nhri-hub audit``: who said what to whom, when, who received it, and proof of the answers."""

import asyncio
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

import click
import msgspec

from hub.cli import log_client
from hub.cli.access import Access
from hub.cli.command import F, access_options, asks_hub, config_path, examples
from hub.cli.outcome import NotSo, Unreachable
from hub.cli.output import note, print_json, print_json_line, print_table, progress, say
from hub.cli.timeline import Event, Timeline, print_timeline, what
from hub.ledger.queries import Counted, Period
from schemas import jsontext
from schemas.checkpoint import Checkpoint
from schemas.encoding import b64url, format_time, parse_time
from schemas.jsontext import MAX_SAFE_INTEGER, Json
from schemas.note import Vkey, b64

if TYPE_CHECKING:
    from hub.cli.client import Hub

PAGE = 500
"""Events asked for at a time; the hub gives no more."""

LONG_PATIENCE = 3600
"""Seconds that the hub may take for what goes through its whole log."""

FOLLOW_SECONDS = 5.0
"""How often ``verify --follow`` looks whether the log has grown."""

ROUND_SECONDS = 24 * 3600.0
"""How often it checks the whole log again."""

vkey_option = click.option(
    "--vkey",
    metavar="KEY",
    help="The log's key, as `nhri-hub audit key` or a bundle has it.  [default: from the settings]",
)


class Events(msgspec.Struct, frozen=True):
    """A page of ``GET /v1/audit/events``; ``next`` is where the following one begins."""

    events: list[Event]
    next: int | None = None


class Count(msgspec.Struct, frozen=True):
    """A row of ``GET /v1/audit/counts``."""

    period: str
    value: str
    count: int


class Counts(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/audit/counts``."""

    counts: list[Count]
    indexed: int
    size: int


class Why(msgspec.Struct, frozen=True):
    """The answer to ``…/why``."""

    sentence: str


class OwnCheck(msgspec.Struct, frozen=True):
    """The hub's check of its own log."""

    ok: bool
    problems: list[str] = []
    erased: int = 0
    lost: int = 0


@click.group()
def audit() -> None:
    """Search the log, follow a message, and check that the hub is honest."""


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A time of the exchange; a mere date is the day's beginning, for --until its end."""
    if value is None:
        return None
    days = timedelta()
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        value += "T00:00:00.000Z"
        days = timedelta(days=parameter.name == "until")
    try:
        return format_time(parse_time(value) + days)
    except ValueError as error:
        raise click.BadParameter(f"{error}, or YYYY-MM-DD.") from None


_FILTERS = (
    click.option("--type", help="Type of entry, such as message.accepted."),
    click.option("--actor", metavar="CODE", help="Who did it."),
    click.option("--subject", metavar="ID", help="Whom or what it is about."),
    click.option("--member", metavar="CODE", help="Who takes part in it in whatever way."),
    click.option("--sender", metavar="CODE", help="Who sent the message."),
    click.option("--recipient", metavar="CODE", help="Who was to receive the message."),
    click.option("--kind", help="Kind of message, such as activity_bulletin.v1."),
    click.option("--marking", help="Marking of a message, such as TLP:GREEN."),
    click.option("--theme", help="Theme of a message, such as children."),
    click.option("--sdg", metavar="GOAL", help="Goal or target of a message, such as 16 or 16.3."),
    click.option("--thread", metavar="ID", help="Messages of one thread."),
    click.option("--message", metavar="ID", help="All that became of a message, with receipts."),
    click.option(
        "--text",
        metavar="WORDS",
        help="Words of a message, in any language; `right*` is the beginning of a word. "
        "Only messages marked TLP:CLEAR or TLP:GREEN are searched for words.",
    ),
    click.option(
        "--since", metavar="TIME", callback=_moment, help="Not before this time or day (UTC)."
    ),
    click.option(
        "--until",
        metavar="TIME",
        callback=_moment,
        help="Before this time, or up to the end of this day (UTC).",
    ),
)


def filter_options(command: F) -> F:
    """The options that say which events are meant; each is a parameter of the hub's."""
    for add in reversed(_FILTERS):
        command = add(command)
    return command


@audit.command(
    epilog=examples(
        "nhri-hub audit search --type message.accepted --actor kz --since 2026-01-01",
        "nhri-hub audit search --text 'права ребён*' --theme children --newest",
        "nhri-hub audit search --member tm --json --limit 5000",
    )
)
@filter_options
@click.option("--after", type=int, metavar="N", help="Only entries with a greater number.")
@click.option("--before", type=int, metavar="N", help="Only entries with a smaller number.")
@click.option("--newest", is_flag=True, help="The newest first, as always with --before.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most."
)
@asks_hub
async def search(
    hub: "Hub",
    after: int | None,
    before: int | None,
    newest: bool,
    limit: int,
    **wanted: str | None,
) -> None:
    """Search the log; everything given must hold. Each search is itself recorded."""
    if newest and before is None:
        before = MAX_SAFE_INTEGER
    place = "after" if before is None else "before"
    events: list[Json] = []
    following: int | None = None
    query = {**wanted, "after": after, "before": before}
    with progress("Searching") as advance:
        while len(events) < limit:
            query["limit"] = min(PAGE, limit - len(events))
            answer = await hub.get("/v1/audit/events", query)
            following = query[place] = jsontext.convert(answer, Events).next
            events += _member(answer, "events")
            advance(len(events), limit)
            if following is None:
                break
    if hub.as_json:
        print_json({"events": events, "next": following})
        return
    print_table(
        ("entry", "time", "type", "actor", "subject", "what"),
        (
            (e.index, e.entry.time, e.entry.type, e.entry.actor, e.entry.subject, what(e))
            for e in (jsontext.convert(event, Event) for event in events)
        ),
    )
    if not events:
        note("Nothing matches.")
    if following is not None:
        note(f"There may be more: --{place} {following}")


@audit.command(
    epilog=examples(
        "nhri-hub audit counts --of sender --by year --type message.accepted",
        "nhri-hub audit counts --of theme --by month --since 2026-01-01 --json",
    )
)
@click.option("--of", type=click.Choice(get_args(Counted)), required=True, help="What to count.")
@click.option(
    "--by",
    type=click.Choice(get_args(Period)),
    default="month",
    show_default=True,
    help="In periods of what length.",
)
@filter_options
@asks_hub
async def counts(hub: "Hub", **wanted: str | None) -> None:
    """Count entries over time; those that are looked at are those that `search` would find."""
    with progress("Counting"):
        answer = await hub.get("/v1/audit/counts", wanted, patience=LONG_PATIENCE)
    if hub.as_json:
        print_json(answer)
        return
    found = jsontext.convert(answer, Counts)
    print_table(
        ("period", wanted["of"] or "", "count"),
        ((row.period, row.value, row.count) for row in found.counts),
    )
    if found.indexed < found.size:
        note(
            f"Counted are the first {found.indexed} entries of {found.size}; the last ones follow."
        )


def _member(answer: Json, name: str) -> list[Json]:
    value = answer.get(name) if isinstance(answer, dict) else None
    return value if isinstance(value, list) else []


@audit.command(epilog=examples("nhri-hub audit show 01890a5d-ac96-774b-bcce-b302099a8057"))
@click.argument("message_id", metavar="ID")
@vkey_option
@asks_hub
async def show(hub: "Hub", message_id: str, vkey: str | None) -> None:
    """Tell what became of a message, from its acceptance to the last receipt."""
    answer = await hub.get(message_path(message_id))
    if hub.as_json:
        print_json(answer)
        return
    known = vkey is not None or hub.access.config.exists()
    log = hub.access.log_vkey(vkey) if known else None
    print_timeline(message_id, jsontext.convert(answer, Timeline), log)


@audit.command(
    epilog=examples("nhri-hub audit why 01890a5d-ac96-774b-bcce-b302099a8057 --member tm")
)
@click.argument("message_id", metavar="ID")
@click.option("--member", required=True, metavar="CODE", help="Whom the question is about.")
@asks_hub
async def why(hub: "Hub", message_id: str, member: str) -> None:
    """Say in one sentence why a participant received a message, or why not."""
    answer = await hub.get(f"{message_path(message_id)}/why", {"member": member})
    if hub.as_json:
        print_json(answer)
    else:
        say(jsontext.convert(answer, Why).sentence)


def message_path(message_id: str) -> str:
    """The route of a message's timeline, under which the others about it stand."""
    return f"/v1/audit/messages/{quote(message_id, safe='')}"


@audit.command(
    epilog=examples(
        "nhri-hub audit verify",
        "nhri-hub audit verify --hub https://hub.example.org --token-file me.token --vkey KEY",
        "nhri-hub audit verify --follow",
    )
)
@click.option(
    "--follow",
    is_flag=True,
    help="Go on as the log grows, and check the whole again every day, until it is stopped.",
)
@vkey_option
@asks_hub
async def verify(hub: "Hub", vkey: str | None, follow: bool) -> None:
    """Check the whole log twice: the hub checks itself, and this program hashes it all again.

    Ends with 1 when the log is not what the hub signed, and says where. What the hub finds itself
    also stops its signing, until it finds the log whole again.
    """
    key = hub.access.log_vkey(vkey)
    if follow:
        await _follow(hub, key)
        return
    answer, problems = await _own_check(hub)
    found: Checkpoint | None = None
    try:
        with progress("Hashing the log here") as advance:
            found = (await log_client.verify(hub.fetch, key, advance)).head
    except log_client.LogError as error:
        problems.append(str(error))
    _report(hub, answer, found, problems)


async def _own_check(hub: "Hub") -> tuple[Json, list[str]]:
    """What the hub finds in its log, whole, and which problems that is."""
    with progress("The hub hashes its log again"):
        answer = await hub.get("/v1/audit/verify", patience=LONG_PATIENCE)
    own = jsontext.convert(answer, OwnCheck)
    problems = [*own.problems]
    if not own.ok and not problems:
        problems.append("The hub's own check failed.")
    return answer, problems


async def _follow(hub: "Hub", key: Vkey) -> None:
    """Check the whole log, then whatever is new; every day the whole again, gently.

    A hub that cannot be reached for a while is waited for; one that never was is an error.
    """
    fetch: log_client.Fetch = hub.fetch
    verified: log_client.Verified | None = None
    due = 0.0
    while True:
        try:
            if time.monotonic() >= due:
                await _judge_itself(hub)
                verified, fetch = await _whole(hub, key, fetch), log_client.gently(hub.fetch)
                due = time.monotonic() + ROUND_SECONDS
            else:
                verified = await _new(hub, key, verified)
        except log_client.LogError as error:
            raise NotSo(str(error)) from None
        except Unreachable as error:
            if verified is None:
                raise
            note(error.message)
        await asyncio.sleep(FOLLOW_SECONDS)


async def _judge_itself(hub: "Hub") -> None:
    _, problems = await _own_check(hub)
    if problems:
        raise NotSo(" ".join(problems))


async def _whole(hub: "Hub", key: Vkey, fetch: log_client.Fetch) -> log_client.Verified:
    with progress("Hashing the log here") as advance:
        verified = await log_client.verify(fetch, key, advance)
    _say_head(hub, verified.head, "every one was hashed again here")
    return verified


async def _new(hub: "Hub", key: Vkey, before: log_client.Verified | None) -> log_client.Verified:
    with progress("Hashing what is new here") as advance:
        verified = await log_client.verify(hub.fetch, key, advance, before)
    if before is None or verified.head != before.head:
        _say_head(hub, verified.head, "the new ones were hashed here")
    return verified


def _say_head(hub: "Hub", head: Checkpoint, what: str) -> None:
    if hub.as_json:
        print_json_line(_head(head))
    else:
        say(f"The log {head.origin} has {head.size} entries; {what}. Root {b64(head.root)}.")


def _head(head: Checkpoint) -> Json:
    return {"origin": head.origin, "size": head.size, "root": b64url(head.root)}


def _report(hub: "Hub", own: Json, found: Checkpoint | None, problems: list[str]) -> None:
    if hub.as_json:
        head = None if found is None else _head(found)
        print_json({"ok": not problems, "problems": [*problems], "hub": own, "verified": head})
    elif found is not None:
        say(f"The log {found.origin} has {found.size} entries; every one was hashed again here.")
        say(f"They lead to the signed root {b64(found.root)}.")
        checked = jsontext.convert(own, OwnCheck)
        if checked.erased:
            say(f"{checked.erased} private parts were erased by recorded decisions.")
        if checked.lost:
            say(f"{checked.lost} private parts were lost with a database and are with nobody.")
    if problems:
        raise NotSo(" ".join(problems))


@audit.command(epilog=examples("nhri-hub audit key --config /etc/nhri/hub.toml"))
@access_options
def key(config: Path | None, hub: str | None, as_json: bool, **_: object) -> None:
    """Print the log's verifier key (vkey), read from the settings and not asked of the hub."""
    if hub is not None:
        raise click.UsageError("Have the key told to you by a better source than the hub itself.")
    vkey = str(Access(config_path(config)).log_vkey(None))
    if as_json:
        print_json({"vkey": vkey})
    else:
        say(vkey)


@audit.command(epilog=examples("nhri-hub audit mirror /srv/log"))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@vkey_option
@asks_hub
async def mirror(hub: "Hub", folder: Path, vkey: str | None) -> None:
    """Write the log into DIR as static files, each one verified, the checkpoint last.

    Any web server can serve DIR as a tlog-tiles log. Run it again to go on, or to catch up: a log
    that does not extend the one in DIR is refused, and the evidence is kept.
    """
    try:
        with progress(f"Mirroring to {folder}") as advance:
            head = await log_client.mirror(hub.fetch, hub.access.log_vkey(vkey), folder, advance)
    except log_client.LogError as error:
        raise NotSo(str(error)) from None
    except OSError as error:
        raise NotSo(f"{error.filename}: {error.strerror}.") from None
    if hub.as_json:
        print_json({"origin": head.origin, "size": head.size, "folder": str(folder)})
    else:
        say(f"{folder} holds the {head.size} entries of {head.origin}, all of them verified.")
