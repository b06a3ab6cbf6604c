"""``nhri-hub subscription listen``: a receiver on this machine that verifies and prints."""

import asyncio
import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.command import examples
from hub.cli.output import note, print_json_line, say
from schemas import jsontext, webhook
from schemas.cloudevent import CHALLENGE
from schemas.jsontext import Json
from schemas.refusal import Refused
from schemas.webhook import PublicKey, Secret, Verifier

if TYPE_CHECKING:
    from aiohttp import web

MAX_EVENT = 2 * 1024 * 1024
"""Bytes of a body; an event is less than four times its envelope."""


class Receiver:
    """Takes what one of its keys signed, and prints it; answers challenges."""

    def __init__(self, keys: list[Verifier], count: int | None, *, as_json: bool) -> None:
        """``count`` is after how many messages it is done."""
        self.done = asyncio.Event()
        self._keys = keys
        self._left = count
        self._as_json = as_json

    async def receive(self, request: "web.Request") -> "web.Response":
        """Verify the very bytes that came, and only then read them."""
        from aiohttp import web  # noqa: PLC0415 - slow to import, and --help does without it

        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            webhook.verify(self._keys, headers, raw, datetime.now(UTC))
            event = jsontext.parse(raw)
        except Refused as refusal:
            note(f"Refused: {refusal.detail}")
            return web.Response(status=401)
        assert isinstance(event, dict)
        self._print(event)
        data = event.get("data")
        challenged = event.get("type") == CHALLENGE and isinstance(data, dict)
        return web.Response(text=str(data.get("challenge", "")) if challenged else "")  # type: ignore[union-attr]

    def _print(self, event: dict[str, Json]) -> None:
        if self._as_json:
            print_json_line(event)
        elif event.get("type") == CHALLENGE:
            say(f"{event.get('time')}  a challenge for the subscription {event.get('subject')}")
        else:
            data = event.get("data")
            message = data.get("message") if isinstance(data, dict) else None
            about = message if isinstance(message, dict) else {}
            what = (event.get("time"), event.get("id"), about.get("sender"), about.get("kind"))
            say("  ".join(map(str, what)))
        if event.get("type") != CHALLENGE and self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.done.set()


def _key(text: str) -> Verifier:
    try:
        key = webhook.parse_key(text.strip())
    except Refused as refusal:
        raise click.UsageError(refusal.detail) from None
    if not isinstance(key, Secret | PublicKey):
        raise click.UsageError("whsk_… stays with the hub; give whsec_… or whpk_….")
    return key


@click.command(
    epilog=examples(
        "nhri-hub subscription listen --key-file undp.secret --port 8443",
        "nhri-hub subscription listen --key whpk_… --json",
    )
)
@click.option("--port", type=click.IntRange(0, 65_535), default=8443, show_default=True)
@click.option("--key", "keys", multiple=True, metavar="KEY", help="whpk_…, or whsec_… to try.")
@click.option(
    "--key-file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file that holds a key; a secret should not stand on a command line.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N messages.")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON, one a line.")
def listen(
    port: int, keys: tuple[str, ...], files: tuple[Path, ...], count: int | None, as_json: bool
) -> None:
    """Receive webhooks on this machine: verify each, print it, answer challenges.

    It speaks plain HTTP on 127.0.0.1: put it behind what ends TLS for you, or have the operator
    allow 127.0.0.1 in a hub on the same machine ([webhooks] hosts, networks and ports).
    """
    texts = [*keys, *(path.read_text("utf-8") for path in files)]
    if not texts:
        raise click.UsageError("Give the key to verify with: --key whpk_… or --key-file FILE.")
    receiver = Receiver([_key(text) for text in texts], count, as_json=as_json)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_listen(receiver, port))


async def _listen(receiver: Receiver, port: int) -> None:
    from aiohttp import web  # noqa: PLC0415 - slow to import, and --help does without it

    application = web.Application(client_max_size=MAX_EVENT)
    application.router.add_post("/{path:.*}", receiver.receive)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as error:
            raise click.UsageError(
                f"Port {port} cannot be used ({error.strerror}); choose another with --port."
            ) from None
        note(f"Listening at http://127.0.0.1:{runner.addresses[0][1]}/ until Ctrl-C.")
        await receiver.done.wait()
    finally:
        await runner.cleanup()
