"""``nhri-hub subscription``: webhook subscriptions, for operators."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.outcome import NotSo
from hub.cli.output import new_private_file, note, print_json, print_table, progress, say
from schemas import jsontext
from schemas.jsontext import Json

if TYPE_CHECKING:
    from hub.cli.client import Hub

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
_PATH = "/v1/subscriptions"


class Wish(msgspec.Struct, frozen=True):
    """A subscription, as far as it is shown."""

    id: str
    owner: str
    url: str
    state: str
    ordered: bool
    created: str
    key: str
    filter: dict[str, list[str | int]] = {}
    failing_since: str | None = None


class Created(msgspec.Struct, frozen=True):
    """A new subscription with its secret."""

    id: str
    state: str
    secret: str
    key: str


class Wishes(msgspec.Struct, frozen=True):
    """The answer to ``GET /v1/subscriptions``."""

    subscriptions: list[Wish]


class Tested(msgspec.Struct, frozen=True):
    """What an endpoint made of a challenge."""

    proven: bool
    state: str
    status: int | None = None
    error: str | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One attempt."""

    message: str
    attempt: int
    time: str
    status: int | None = None
    error: str | None = None


class Attempts(msgspec.Struct, frozen=True):
    """The last attempts."""

    attempts: list[Attempt]


class Dead(msgspec.Struct, frozen=True):
    """A message that was set aside."""

    message: str
    index: int
    attempts: int


class DeadLetters(msgspec.Struct, frozen=True):
    """What was set aside."""

    dead: list[Dead]


class Counted(msgspec.Struct, frozen=True):
    """How many messages are sent again, and where to go on."""

    messages: int
    next: int | None = None


@click.group()
def subscription() -> None:
    """Look after webhook subscriptions; `listen` is a receiver to try them on."""


def _at(subscription_id: str, what: str = "") -> str:
    return f"{_PATH}/{quote(subscription_id, safe='')}{what}"


_id = click.argument("subscription_id", metavar="ID")


@subscription.command("list", epilog=examples("nhri-hub subscription list --owner undp"))
@click.option("--owner", metavar="CODE", help="Only this participant's.")
@asks_hub
async def list_subscriptions(hub: "Hub", owner: str | None) -> None:
    """List the subscriptions, and how their endpoints stand."""
    answer = await hub.get(_PATH, {"owner": owner})
    if hub.as_json:
        print_json(answer)
        return
    found = jsontext.convert(answer, Wishes).subscriptions
    if not found:
        say("There are no subscriptions.")
        return
    print_table(
        ("subscription", "owner", "state", "failing since", "url"),
        ((each.id, each.owner, each.state, each.failing_since, each.url) for each in found),
    )


def _filter_options(command: click.decorators.FC) -> click.decorators.FC:
    for name, text in {
        "language": "A language of the texts; the first one asked for comes first.",
        "thread": "A thread, by the id of its first message.",
        "marking": "A marking, such as TLP:CLEAR.",
        "sdg": "A goal or target.",
        "theme": "A theme.",
        "kind": "A kind of message, such as activity_bulletin.",
        "sender": "Whose messages.",
    }.items():
        command = click.option(f"--{name}", f"{name}s", multiple=True, help=f"{text}")(command)
    return command


def _filter(wanted: dict[str, tuple[str, ...]]) -> dict[str, Json]:
    """The fields that are given; a goal is a number, a target is not."""
    return {
        name: [int(value) if name == "sdgs" and value.isdigit() else value for value in values]
        for name, values in wanted.items()
        if values
    }


@subscription.command(
    epilog=examples(
        "nhri-hub subscription create https://hooks.undp.org/nhri --owner undp -o undp.secret",
        "nhri-hub subscription create https://hooks.undp.org/ --owner undp --sender kz --ordered",
    )
)
@click.argument("url")
@click.option("--owner", required=True, metavar="CODE", help="For which participant.")
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
    body: Json = {"url": url, "owner": owner, "ordered": ordered, "filter": _filter(wanted)}
    if output is None:
        answer = await hub.post(_PATH, body)
        made = jsontext.convert(answer, Created)
        if not hub.as_json:
            say(made.secret)
    else:
        with new_private_file(output) as file:
            answer = await hub.post(_PATH, body)
            made = jsontext.convert(answer, Created)
            file.write(f"{made.secret}\n")
    if hub.as_json:
        print_json(answer if output is None else {"id": made.id, "file": str(output)})
        return
    note(f"The subscription is {made.id}, {made.state}; its public key is {made.key}.")
    if made.state == "unproven":
        note(f"Its endpoint did not answer the challenge: nhri-hub subscription test {made.id}")


@subscription.command(epilog=examples(f"nhri-hub subscription show {_ID}"))
@_id
@asks_hub
async def show(hub: "Hub", subscription_id: str) -> None:
    """Show a subscription; its secret is not shown."""
    answer = await hub.get(_at(subscription_id))
    if hub.as_json:
        print_json(answer)
        return
    found = jsontext.convert(answer, Wish)
    wishes = [
        f"{name}: {', '.join(map(str, values))}" for name, values in found.filter.items() if values
    ]
    print_table(
        ("", ""),
        {
            "owner": found.owner,
            "url": found.url,
            "state": found.state,
            "failing since": found.failing_since,
            "wants": "; ".join(wishes) or "everything that its owner may have",
            "order": "by thread" if found.ordered else "none",
            "created": found.created,
            "public key": found.key,
        }.items(),
    )


@subscription.command(epilog=examples(f"nhri-hub subscription end {_ID}"))
@_id
@asks_hub
async def end(hub: "Hub", subscription_id: str) -> None:
    """End a subscription: nothing more is sent."""
    answer = await hub.post(_at(subscription_id, "/end"), {})
    if hub.as_json:
        print_json(answer)
    else:
        say(f"The subscription {subscription_id} has ended.")


@subscription.command(epilog=examples(f"nhri-hub subscription test {_ID}"))
@_id
@asks_hub
async def test(hub: "Hub", subscription_id: str) -> None:
    """Send a challenge. An endpoint that was not proven or is disabled is sent to when it answers.

    Exit code 1: it did not answer.
    """
    with progress("Asking the endpoint"):
        answer = await hub.post(_at(subscription_id, "/test"), {})
    tested = jsontext.convert(answer, Tested)
    if hub.as_json:
        print_json(answer)
    elif tested.proven:
        say(f"The endpoint answered the challenge; the subscription is {tested.state}.")
    if not tested.proven:
        raise NotSo(f"{tested.error} The subscription is {tested.state}.")


@subscription.command(epilog=examples(f"nhri-hub subscription attempts {_ID} --json"))
@_id
@asks_hub
async def attempts(hub: "Hub", subscription_id: str) -> None:
    """List the last attempts. What the endpoint answered is for the owner alone."""
    answer = await hub.get(_at(subscription_id, "/attempts"))
    if hub.as_json:
        print_json(answer)
        return
    made = jsontext.convert(answer, Attempts).attempts
    if not made:
        say("Nothing was sent yet.")
        return
    print_table(
        ("time", "message", "attempt", "status", "error"),
        ((each.time, each.message, each.attempt, each.status, each.error) for each in made),
    )


@subscription.command(epilog=examples(f"nhri-hub subscription dead {_ID}"))
@_id
@asks_hub
async def dead(hub: "Hub", subscription_id: str) -> None:
    """List the messages that were set aside after their last attempt."""
    answer = await hub.get(_at(subscription_id, "/dead"))
    if hub.as_json:
        print_json(answer)
        return
    letters = jsontext.convert(answer, DeadLetters).dead
    if not letters:
        say("No message was set aside.")
        return
    print_table(
        ("message", "entry", "attempts"),
        ((each.message, each.index, each.attempts) for each in letters),
    )


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
    answer = await hub.post(_at(subscription_id, "/redrive"), {"messages": [*messages]})
    if hub.as_json:
        print_json(answer)
    else:
        say(f"{jsontext.convert(answer, Counted).messages} messages are tried anew.")


@subscription.command(
    epilog=examples(f"nhri-hub subscription replay {_ID} --since 2026-07-01T00:00:00.000Z")
)
@_id
@click.option("--since", required=True, metavar="TIME", help="From this time on.")
@click.option("--until", metavar="TIME", help="Before this time.")
@click.option("--message", "messages", multiple=True, metavar="ID", help="Only this one.")
@asks_hub
async def replay(
    hub: "Hub", subscription_id: str, since: str, until: str | None, messages: tuple[str, ...]
) -> None:
    """Send the messages of a time that match once more, each under its own id."""
    body: dict[str, Json] = {"since": since, "until": until, "messages": [*messages]}
    count = 0
    following: int | None = -1
    with progress("Looking for the messages") as advance:
        while following is not None:
            answer = await hub.post(_at(subscription_id, "/replay"), body | {"after": following})
            part = jsontext.convert(answer, Counted)
            count, following = count + part.messages, part.next
            advance(count, count)
    if hub.as_json:
        print_json({"messages": count})
    else:
        say(f"{count} messages are sent again.")
