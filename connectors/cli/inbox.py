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
    InboxState.INVALID.value: "(not valid; see doctor)",
    InboxState.EXPIRED.value: "(expired)",
    InboxState.ERASED.value: "(erased)",
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
    """List what was received: position, time, from whom, kind, title, marking.

    Without --after: the newest ones. `show` takes a position or an id.
    """
    languages = (*([language] if language else []), *site.profile.languages)
    with site.reader() as reader:
        last = reader.last_position()
        start = max(last - limit, 0) if after is None else after
        rows = [_row(reader, one, languages) for one in reader.inbox(start, limit)]
    if site.as_json:
        print_json({"last": last, "messages": [*rows]})
        return
    print_table(
        ("position", "time", "from", "kind", "title", "marking"),
        [
            (
                row["position"],
                site.local(str(row["time"])) if row["time"] else None,
                row["sender"],
                str(row["kind"] or "").partition(".")[0].replace("_", " "),
                _title(row),
                row["marking"],
            )
            for row in rows
        ],
    )
    if not rows:
        say("Nothing was received." if last == 0 else f"Nothing after position {start}.")


def _title(row: dict[str, Json]) -> str | None:
    if row["title"] is None:
        return _NOTHING_TO_SHOW.get(str(row["state"]))
    return f"{row['title']} (erased by the hub)" if row["erased"] else str(row["title"])


def _row(reader: Reader, received: Received, languages: tuple[str, ...]) -> dict[str, Json]:
    valid = received.state is InboxState.VALID
    read = reading.opened(received.envelope) if valid else None
    return {
        "position": received.position,
        "id": received.id,
        "state": received.state.value,
        "time": received.accepted,
        "sender": received.sender,
        "kind": received.kind,
        "title": reading.title(reader, read, languages) if read else None,
        "marking": read.marking if read else None,
        "erased": reader.erased(received.id or "") is not None,
    }


def at(reader: Reader, position_or_id: str) -> Received | None:
    """What was received under a position of the inbox or a message id."""
    if position_or_id.isdecimal():
        return reader.at(int(position_or_id))
    return reader.received(position_or_id)
