"""Messages on their way out: into the outbox, all or none, and on request until they are settled.

Nothing here writes the store. Once a message is in the outbox it leaves by itself, whenever the
daemon next reaches the hub.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import click
import msgspec

from connectors.cli.outcome import NotSo, RefusedByHub, Unreached
from connectors.cli.output import print_json, progress, say
from connectors.cli.site import Site
from connectors.outbox import Outbox
from connectors.store import Reader
from connectors.tables import Sent, SentState
from schemas import routing
from schemas.message import Message
from schemas.refusal import Refused

_LOOK_EVERY = 0.2
"""Seconds between two looks at the store."""

_LASTING = frozenset({"marking-conflict", "role-may-not-send"})
"""Refusals that stay true however far the log goes on: a role never changes."""

F = TypeVar("F", bound=Callable[..., None])


def wait_options(command: F) -> F:
    """``--wait`` and ``--timeout``, which reach the command as one ``patience``: None for no."""

    @functools.wraps(command)
    def run(*, wait: bool, timeout: float, **arguments: object) -> None:
        command(patience=timeout if wait else None, **arguments)

    timed = click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait at most.",
    )
    waited = click.option("--wait", is_flag=True, help="Wait for the hub's answer.")
    return cast(F, waited(timed(run)))


class Outgoing(msgspec.Struct, frozen=True):
    """A signed message, and what it came from: a file, or the notice that it answers."""

    source: str
    message: Message
    envelope: bytes


def check_rules(site: Site, messages: Sequence[Message]) -> None:
    """Refuse at once what the hub would have to refuse, by the directory that is known here.

    Raises:
        RefusedByHub: a marking does not allow a receiver, or this sender.
    """
    reader = site.glance()
    if reader is None:
        return
    with reader:
        directory = reader.directory()
    if site.code not in directory.participants:
        return
    for one in messages:
        try:
            routing.check_may_send(one.sender, one.marking, directory)
            routing.route(one.audience, one.marking, one.sender, directory)
        except Refused as refusal:
            # Whoever is unknown here, or suspended, may not be any more when the message leaves.
            if refusal.code in _LASTING:
                raise RefusedByHub(f"{refusal.detail} Nothing was sent.") from None


def put(site: Site, outgoing: Sequence[Outgoing], patience: float | None) -> None:
    """Put signed messages into the outbox, tell their ids, and wait for answers if asked to.

    A crash between two of them leaves the earlier ones in the outbox: they will be sent.

    Raises:
        NotSo: an id stands for another message, and nothing is sent; or the disk does not take one
            of them, and those before it will be sent.
        RefusedByHub, Unreached: while waiting.
    """
    _check_ids(site, outgoing)
    outbox = Outbox(site.config.outbox)
    done: list[Outgoing] = []
    for one in outgoing:
        try:
            outbox.put(one.envelope, one.message.id)
        except OSError as error:
            kept = f"; in the outbox are: {_list(done)}" if done else "; nothing was sent"
            raise NotSo(f"{one.source} could not be put in the outbox: {error}{kept}.") from None
        done.append(one)
        if not site.as_json and patience is None:
            say(f"{one.message.id}  {one.source}")
    if patience is None:
        if site.as_json:
            print_json([{"id": one.message.id, "source": one.source} for one in outgoing])
        return
    _report(site, outgoing, _wait(site, outgoing, patience))


def _check_ids(site: Site, outgoing: Sequence[Outgoing]) -> None:
    """An id stands for one message; only where the hub refused it, another may take its place."""
    reader = site.glance()
    if reader is None:
        return
    with reader:
        for one in outgoing:
            sent = reader.sent(one.message.id)
            if sent and sent.state is not SentState.REFUSED and sent.envelope != one.envelope:
                raise NotSo(
                    f"{one.source}: Another message was sent as {one.message.id} before; give this "
                    "one an id of its own. Nothing was sent."
                )


def _list(outgoing: Sequence[Outgoing]) -> str:
    return ", ".join(f"{one.source} ({one.message.id})" for one in outgoing)


def _wait(site: Site, outgoing: Sequence[Outgoing], patience: float) -> Mapping[str, Sent]:
    """The settled rows of those messages that were answered in time."""
    settled: dict[str, Sent] = {}
    deadline = time.monotonic() + patience
    with progress("Waiting for the hub") as advance:
        while True:
            reader = site.glance()
            if reader is not None:
                with reader:
                    left = [one for one in outgoing if one.message.id not in settled]
                    settled.update(_settled(reader, left))
            advance(len(settled), len(outgoing))
            if len(settled) == len(outgoing) or time.monotonic() >= deadline:
                return settled
            time.sleep(_LOOK_EVERY)


def _settled(reader: Reader, outgoing: Sequence[Outgoing]) -> dict[str, Sent]:
    """The answers to these; what another was told under the same id before is none."""
    rows = [(one, reader.sent(one.message.id)) for one in outgoing]
    return {
        row.id: row
        for one, row in rows
        if row and row.state is not SentState.PENDING and row.envelope == one.envelope
    }


def _report(site: Site, outgoing: Sequence[Outgoing], settled: Mapping[str, Sent]) -> None:
    results = [(one, settled.get(one.message.id)) for one in outgoing]
    if site.as_json:
        print_json(
            [
                {
                    "id": one.message.id,
                    "source": one.source,
                    "state": row.state if row else "pending",
                    "index": row.index if row else None,
                    "code": row.code if row else None,
                    "detail": row.detail if row else None,
                }
                for one, row in results
            ]
        )
    else:
        for one, row in results:
            say(f"{one.message.id}  {one.source}  {_words(site, row)}")
    refused = sum(row is not None and row.state is SentState.REFUSED for _, row in results)
    if refused:
        raise RefusedByHub(f"{refused} of {len(results)} were refused.")
    if len(settled) < len(results):
        raise Unreached(
            f"{len(results) - len(settled)} of {len(results)} have no answer yet. They stay in the "
            "outbox; `nhri-connector doctor` says whether the daemon runs and reaches the hub."
        )


def _words(site: Site, row: Sent | None) -> str:
    if row is None:
        return "waits in the outbox"
    if row.state is SentState.REFUSED:
        return f"REFUSED ({row.code}): {row.detail}"
    return f"accepted {site.local(row.accepted)} as entry {row.index}"
