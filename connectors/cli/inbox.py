"""``nhri-connector inbox``: what was received, one line each."""

import click

from connectors.cli import reading
from connectors.cli.options import examples
from connectors.cli.output import print_json, print_table, say
from connectors.cli.site import Site, on_site
from connectors.store import Reader
from connectors.tables import InboxState, Received
from schemas.jsontext import Json

_NOTHING_TO_SHOW = {
    InboxState.INVALID: "(not valid; see doctor)",
    InboxState.EXPIRED: "(expired)",
    InboxState.ERASED: "(erased)",
}

language_option = click.option(
    "--language", metavar="TAG", help="Show texts in this language, where there is one (kk, ru, …)."
)


@click.command(
    epilog=examples(
        "nhri-connector inbox --config kz.toml",
        "nhri-connector inbox --after 40 --limit 20 --language ru --config kz.toml",
    )
)
@click.option("--after", type=click.IntRange(min=0), help="Begin after this position.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@language_option
@on_site
def inbox(site: Site, after: int | None, limit: int, language: str | None) -> None:
    """List what was received: position, time, sender, kind, title, marking.

    Without --after: the newest ones. `show` takes a position or an id.
    """
    languages = (*([language] if language else []), *site.profile.languages)
    with site.reader() as reader:
        last = reader.last_position()
        start = max(last - limit, 0) if after is None else after
        rows = [_row(site, received, languages) for received in reader.inbox(start, limit)]
    if site.as_json:
        print_json({"last": last, "messages": [*rows]})
        return
    columns = ("position", "time", "sender", "kind", "title", "marking")
    shown = [{**row, "time": row["local"]} for row in rows]
    print_table(columns, [[row[name] for name in columns] for row in shown])
    if not rows:
        say("Nothing was received." if last == 0 else f"Nothing after position {start}.")


def _row(site: Site, received: Received, languages: tuple[str, ...]) -> dict[str, Json]:
    read = reading.opened(received.envelope) if received.state is InboxState.VALID else None
    return {
        "position": received.position,
        "id": received.id,
        "state": received.state.value,
        "time": received.accepted,
        "local_time": site.local(received.accepted),
        "sender": received.sender,
        "kind": (received.kind or "").partition(".")[0].replace("_", " "),
        "title": reading.title(read, languages) or _NOTHING_TO_SHOW.get(received.state),
        "marking": read.marking if read else None,
    }


def at(reader: Reader, position_or_id: str) -> Received | None:
    """What was received under a position of the inbox or a message id."""
    if position_or_id.isdecimal():
        return reader.at(int(position_or_id))
    return reader.received(position_or_id)
