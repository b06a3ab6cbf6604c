"""``nhri-connector subscription``: the institution's own webhook subscriptions."""

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path

import click

from connectors.cli.options import examples
from connectors.cli.outcome import NotSo, RefusedByHub, Unreached
from connectors.cli.output import new_private_file, note, print_json, print_table, progress, say
from connectors.cli.site import Command, Site, on_site
from connectors.link import HubRefused, LinkError
from connectors.link.http import HttpLink, Identity
from schemas import jsontext
from schemas import subscription as webhooks
from schemas.jsontext import Json
from schemas.refusal import Refused
from schemas.subscription import Counted, Shown, Tested, Tried, WithSecret, filter_of, path

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@click.group(
    epilog=examples(
        "nhri-connector subscription dry-run --sender kz",
        "nhri-connector subscription create https://hooks.undp.org/nhri --sender kz",
        "nhri-connector subscription list --json",
    )
)
def subscription() -> None:
    """Look after the institution's webhook subscriptions; docs/webhooks.md says what they are."""


# --- Asking the hub ---


def _asks_hub(command: Callable[..., None]) -> Command:
    """Run a command on its site; what the hub makes of it is told in sentences."""

    @functools.wraps(command)
    def run(site: Site, **arguments: object) -> None:
        try:
            command(site, **arguments)
        except HubRefused as refused:
            raise RefusedByHub(_why(refused)) from None
        except LinkError as error:
            raise Unreached(str(error)) from None
        except Refused as misread:
            raise Unreached(
                f"The hub's answer is not understood ({misread}): is it of another version?"
            ) from None

    return on_site(run)


def _why(refused: HubRefused) -> str:
    about = f" It is about {refused.path}." if refused.path else ""
    if not refused.retryable or "again" in refused.detail:
        return f"The hub refused: {refused.detail}{about}"
    when = "later" if refused.retry_after is None else f"in {refused.retry_after:.0f} seconds"
    return f"The hub refused: {refused.detail}{about} Try again {when}."


def _ask(site: Site, address: str, body: Json = None) -> Json:
    """One request, with a body where something is to be done, and its answer.

    Raises:
        LinkError: the hub refuses, or does not answer.
        Refused: what it answers is no JSON.
    """

    async def ask() -> bytes:
        who = Identity(site.code, site.keys().sign, site.config.log_key.name)
        link = HttpLink(site.config.hub.url, who)
        try:
            return await link.ask_webhooks(address, None if body is None else jsontext.encode(body))
        finally:
            await link.close()

    return jsontext.parse(asyncio.run(ask()))


def _tell(site: Site, answer: Json, shown: Callable[[Json], Shown]) -> None:
    told = None if site.as_json else shown(answer)
    if told is None:
        print_json(answer)
    elif isinstance(told, str):
        say(told)
    else:
        print_table(told.headings, told.rows)


# --- What several commands take ---


_id = click.argument("subscription_id", metavar="ID")

_messages = click.option(
    "--message", "messages", multiple=True, metavar="ID", help="Only this one."
)

_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the secret there instead of printing it; the file must not exist.",
)


def _filter_options(command: click.decorators.FC) -> click.decorators.FC:
    for name, text in reversed([*webhooks.FIELDS.items()]):
        command = click.option(f"--{name}", multiple=True, help=text)(command)
    return command


def _keep_secret(site: Site, address: str, body: Json, output: Path | None) -> WithSecret:
    """Ask for a new secret, and print it this once or write it to a file."""
    if output is None:
        answer = _ask(site, address, body)
        made = jsontext.convert(answer, WithSecret)
        if site.as_json:
            print_json(answer)
        else:
            say(made.secret)
        return made
    with new_private_file(output) as file:
        made = jsontext.convert(_ask(site, address, body), WithSecret)
        file.write(f"{made.secret}\n")
    if site.as_json:
        print_json({"id": made.id, "file": str(output)})
    return made


# --- The commands ---


@subscription.command("list", epilog=examples("nhri-connector subscription list"))
@_asks_hub
def list_subscriptions(site: Site) -> None:
    """List the subscriptions, and how their endpoints stand."""
    _tell(site, _ask(site, webhooks.PATH), webhooks.listed)


@subscription.command(
    epilog=examples(
        "nhri-connector subscription dry-run",
        "nhri-connector subscription dry-run --sender kz --theme places_of_detention --json",
    )
)
@_filter_options
@_asks_hub
def dry_run(site: Site, **wanted: tuple[str, ...]) -> None:
    """Show what of the last 30 days would have been sent. Nothing is."""
    answer = _ask(site, f"{webhooks.PATH}/dry-run", {"filter": filter_of(wanted)})
    _tell(site, answer, webhooks.matching)
    if not site.as_json:
        note(jsontext.convert(answer, Tried).sentence)


@subscription.command(
    epilog=examples(
        "nhri-connector subscription create https://hooks.undp.org/nhri -o undp.secret",
        "nhri-connector subscription create https://hooks.undp.org/ --sender kz --ordered",
    )
)
@click.argument("url")
@click.option("--ordered", is_flag=True, help="Messages of a thread one after the other.")
@_output
@_filter_options
@_asks_hub
def create(
    site: Site, url: str, ordered: bool, output: Path | None, **wanted: tuple[str, ...]
) -> None:
    """Subscribe: have messages sent to an address. The secret is shown this once."""
    body: Json = {"url": url, "ordered": ordered, "filter": filter_of(wanted)}
    with progress("Asking the endpoint"):
        made = _keep_secret(site, webhooks.PATH, body, output)
    if site.as_json:
        return
    note(made.sentence)
    if made.state == "unproven":
        note(
            f"Its endpoint did not answer the challenge: nhri-connector subscription test {made.id}"
        )


@subscription.command(epilog=examples(f"nhri-connector subscription show {_ID}"))
@_id
@_asks_hub
def show(site: Site, subscription_id: str) -> None:
    """Show a subscription; its secret is not shown."""
    _tell(site, _ask(site, path(subscription_id)), webhooks.one)


@subscription.command(
    epilog=examples(
        f"nhri-connector subscription change {_ID} --url https://hooks.undp.org/new",
        f"nhri-connector subscription change {_ID} --sender kz --sender kg --unordered",
    )
)
@_id
@click.option("--url", help="Another address. It answers a challenge first, or nothing changes.")
@click.option(
    "--ordered/--unordered", default=None, help="Messages of a thread one after the other, or not."
)
@click.option("--everything", is_flag=True, help="No filter any more.")
@_filter_options
@_asks_hub
def change(
    site: Site,
    subscription_id: str,
    url: str | None,
    ordered: bool | None,
    everything: bool,
    **wanted: tuple[str, ...],
) -> None:
    """Change the address, the order or the filter; a new filter takes the place of the whole one.

    What is not given stays as it is.
    """
    wished = filter_of(wanted)
    if everything and wished:
        raise click.UsageError("--everything takes the filter away: give one of the two.")
    changes: dict[str, Json] = {
        "url": url,
        "ordered": ordered,
        "filter": wished if wished or everything else None,
    }
    body: Json = {name: value for name, value in changes.items() if value is not None}
    if not body:
        raise click.UsageError("Say what is to be another: --url, --ordered, or the filter.")
    with progress("Asking the endpoint"):
        answer = _ask(site, path(subscription_id), body)
    _tell(site, answer, webhooks.one)


@subscription.command(epilog=examples(f"nhri-connector subscription test {_ID}"))
@_id
@_asks_hub
def test(site: Site, subscription_id: str) -> None:
    """Send a challenge. An endpoint that was not proven or is disabled is sent to when it answers.

    Exit code 1: it did not answer.
    """
    with progress("Asking the endpoint"):
        answer = _ask(site, path(subscription_id, "/test"), {})
    tested = jsontext.convert(answer, Tested)
    if site.as_json:
        print_json(answer)
    elif tested.proven:
        say(tested.sentence)
    if not tested.proven:
        raise NotSo(tested.sentence)


@subscription.command(
    epilog=examples(f"nhri-connector subscription rotate {_ID} -o undp.new-secret")
)
@_id
@_output
@_asks_hub
def rotate(site: Site, subscription_id: str, output: Path | None) -> None:
    """Make a new secret, which is shown this once. The old one signs for one more day."""
    made = _keep_secret(site, path(subscription_id, "/secret"), {}, output)
    if not site.as_json:
        note(made.sentence)


@subscription.command(epilog=examples(f"nhri-connector subscription attempts {_ID} --json"))
@_id
@_asks_hub
def attempts(site: Site, subscription_id: str) -> None:
    """List the last attempts, with the first bytes of what the endpoint answered."""
    _tell(site, _ask(site, path(subscription_id, "/attempts")), webhooks.attempted)


@subscription.command(epilog=examples(f"nhri-connector subscription dead {_ID}"))
@_id
@_asks_hub
def dead(site: Site, subscription_id: str) -> None:
    """List the messages that were set aside after their last attempt."""
    _tell(site, _ask(site, path(subscription_id, "/dead")), webhooks.set_aside)


@subscription.command(
    epilog=examples(
        f"nhri-connector subscription redrive {_ID}",
        f"nhri-connector subscription redrive {_ID} --message 01890a5d-ac96-774b-bcce-b302099a8058",
    )
)
@_id
@_messages
@_asks_hub
def redrive(site: Site, subscription_id: str, messages: tuple[str, ...]) -> None:
    """Begin anew with messages that were set aside."""
    answer = _ask(site, path(subscription_id, "/redrive"), {"messages": [*messages]})
    _tell(site, answer, webhooks.redriven)


@subscription.command(
    epilog=examples(
        f"nhri-connector subscription replay {_ID} --since 2026-07-01T00:00:00.000Z",
        f"nhri-connector subscription replay {_ID} --message 01890a5d-ac96-774b-bcce-b302099a8058",
    )
)
@_id
@click.option("--since", metavar="TIME", help="From this time on.")
@click.option("--until", metavar="TIME", help="Before this time.")
@_messages
@_asks_hub
def replay(
    site: Site,
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
            answer = _ask(site, path(subscription_id, "/replay"), body | {"after": following})
            part = jsontext.convert(answer, Counted)
            count, following = count + part.messages, part.next
            advance(count, count)
    if site.as_json:
        print_json({"messages": count})
    else:
        say(f"{count} messages are sent again.")


@subscription.command(epilog=examples(f"nhri-connector subscription end {_ID}"))
@_id
@_asks_hub
def end(site: Site, subscription_id: str) -> None:
    """End a subscription: nothing more is sent."""
    answer = _ask(site, path(subscription_id, "/end"), {})
    _tell(site, answer, lambda _: f"The subscription {subscription_id} has ended.")
