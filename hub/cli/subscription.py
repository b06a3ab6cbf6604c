"""``nhri-hub subscription``: webhook subscriptions, for operators."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.command import asks_hub, examples
from hub.cli.outcome import NotSo
from hub.cli.output import new_private_file, note, print_json, print_table, progress, say
from schemas import jsontext
from schemas import subscription as webhooks
from schemas.jsontext import Json
from schemas.subscription import Counted, Shown, Tested, Tried, WithSecret, filter_of, path

if TYPE_CHECKING:
    from hub.cli.client import Hub

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@click.group()
def subscription() -> None:
    """Look after webhook subscriptions; `listen` is a receiver to try them on."""


def _tell(hub: "Hub", answer: Json, shown: Callable[[Json], Shown]) -> None:
    told = None if hub.as_json else shown(answer)
    if told is None:
        print_json(answer)
    elif isinstance(told, str):
        say(told)
    else:
        print_table(told.headings, told.rows)


_id = click.argument("subscription_id", metavar="ID")

_owner = click.option("--owner", required=True, metavar="CODE", help="For which participant.")


@subscription.command("list", epilog=examples("nhri-hub subscription list --owner undp"))
@click.option("--owner", metavar="CODE", help="Only this participant's.")
@asks_hub
async def list_subscriptions(hub: "Hub", owner: str | None) -> None:
    """List the subscriptions, and how their endpoints stand."""
    _tell(hub, await hub.get(webhooks.PATH, {"owner": owner}), webhooks.listed)


def _filter_options(command: click.decorators.FC) -> click.decorators.FC:
    for name, text in reversed([*webhooks.FIELDS.items()]):
        command = click.option(f"--{name}", multiple=True, help=text)(command)
    return command


@subscription.command(
    epilog=examples(
        "nhri-hub subscription dry-run --owner undp",
        "nhri-hub subscription dry-run --owner undp --sender kz --theme places_of_detention",
    )
)
@_owner
@_filter_options
@asks_hub
async def dry_run(hub: "Hub", owner: str, **wanted: tuple[str, ...]) -> None:
    """Show what of the last 30 days a participant would have been sent. Nothing is."""
    body: Json = {"owner": owner, "filter": filter_of(wanted)}
    answer = await hub.post(f"{webhooks.PATH}/dry-run", body)
    _tell(hub, answer, webhooks.matching)
    if not hub.as_json:
        note(jsontext.convert(answer, Tried).sentence)


@subscription.command(
    epilog=examples(
        "nhri-hub subscription create https://hooks.undp.org/nhri --owner undp -o undp.secret",
        "nhri-hub subscription create https://hooks.undp.org/ --owner undp --sender kz --ordered",
    )
)
@click.argument("url")
@_owner
@click.option("--ordered", is_flag=True, help="Messages of a thread one after the other.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the secret there instead of printing it; the file must not exist.",
)
@_filter_options
@asks_hub
async def create(
    hub: "Hub",
    url: str,
    owner: str,
    ordered: bool,
    output: Path | None,
    **wanted: tuple[str, ...],
) -> None:
    """Subscribe for a participant. The secret is shown this once, and is for its owner."""
    body: Json = {"url": url, "owner": owner, "ordered": ordered, "filter": filter_of(wanted)}
    if output is None:
        answer = await hub.post(webhooks.PATH, body)
        made = jsontext.convert(answer, WithSecret)
        if not hub.as_json:
            say(made.secret)
    else:
        with new_private_file(output) as file:
            answer = await hub.post(webhooks.PATH, body)
            made = jsontext.convert(answer, WithSecret)
            file.write(f"{made.secret}\n")
    if hub.as_json:
        print_json(answer if output is None else {"id": made.id, "file": str(output)})
        return
    note(made.sentence)
    if made.state == "unproven":
        note(f"Its endpoint did not answer the challenge: nhri-hub subscription test {made.id}")


@subscription.command(epilog=examples(f"nhri-hub subscription show {_ID}"))
@_id
@asks_hub
async def show(hub: "Hub", subscription_id: str) -> None:
    """Show a subscription; its secret is not shown."""
    _tell(hub, await hub.get(path(subscription_id)), webhooks.one)


@subscription.command(epilog=examples(f"nhri-hub subscription end {_ID}"))
@_id
@asks_hub
async def end(hub: "Hub", subscription_id: str) -> None:
    """End a subscription: nothing more is sent."""
    answer = await hub.post(path(subscription_id, "/end"), {})
    _tell(hub, answer, lambda _: f"The subscription {subscription_id} has ended.")


@subscription.command(epilog=examples(f"nhri-hub subscription test {_ID}"))
@_id
@asks_hub
async def test(hub: "Hub", subscription_id: str) -> None:
    """Send a challenge. An endpoint that was not proven or is disabled is sent to when it answers.

    Exit code 1: it did not answer.
    """
    with progress("Asking the endpoint"):
        answer = await hub.post(path(subscription_id, "/test"), {})
    tested = jsontext.convert(answer, Tested)
    if hub.as_json:
        print_json(answer)
    elif tested.proven:
        say(tested.sentence)
    if not tested.proven:
        raise NotSo(tested.sentence)


@subscription.command(epilog=examples(f"nhri-hub subscription attempts {_ID} --json"))
@_id
@asks_hub
async def attempts(hub: "Hub", subscription_id: str) -> None:
    """List the last attempts. What the endpoint answered is for the owner alone."""
    _tell(hub, await hub.get(path(subscription_id, "/attempts")), webhooks.attempted)


@subscription.command(epilog=examples(f"nhri-hub subscription dead {_ID}"))
@_id
@asks_hub
async def dead(hub: "Hub", subscription_id: str) -> None:
    """List the messages that were set aside after their last attempt."""
    _tell(hub, await hub.get(path(subscription_id, "/dead")), webhooks.set_aside)


@subscription.command(
    epilog=examples(
        f"nhri-hub subscription redrive {_ID}",
        f"nhri-hub subscription redrive {_ID} --message 01890a5d-ac96-774b-bcce-b302099a8058",
    )
)
@_id
@click.option("--message", "messages", multiple=True, metavar="ID", help="Only this one.")
@asks_hub
async def redrive(hub: "Hub", subscription_id: str, messages: tuple[str, ...]) -> None:
    """Begin anew with messages that were set aside."""
    answer = await hub.post(path(subscription_id, "/redrive"), {"messages": [*messages]})
    _tell(hub, answer, webhooks.redriven)


@subscription.command(
    epilog=examples(
        f"nhri-hub subscription replay {_ID} --since 2026-07-01T00:00:00.000Z",
        f"nhri-hub subscription replay {_ID} --message 01890a5d-ac96-774b-bcce-b302099a8058",
    )
)
@_id
@click.option("--since", metavar="TIME", help="From this time on.")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--message", "messages", multiple=True, metavar="ID", help="Only this one.")
@asks_hub
async def replay(
    hub: "Hub",
    subscription_id: str,
    since: str | None,
    until: str | None,
    messages: tuple[str, ...],
) -> None:
    """Send the messages since a time, or those named, that match once more under their own ids."""
    if since is None and not messages:
        raise click.UsageError("Say since when (--since), or which messages (--message).")
    body: dict[str, Json] = {"since": since, "until": until, "messages": [*messages]}
    count = 0
    following: int | None = -1
    with progress("Looking for the messages") as advance:
        while following is not None:
            answer = await hub.post(path(subscription_id, "/replay"), body | {"after": following})
            part = jsontext.convert(answer, Counted)
            count, following = count + part.messages, part.next
            advance(count, count)
    if hub.as_json:
        print_json({"messages": count})
    else:
        say(f"{count} messages are sent again.")
