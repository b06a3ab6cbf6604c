"""``nhri-hub demo``: the whole exchange on this machine, on real public records."""

import asyncio
import contextlib
import signal
import socket
import tempfile
from collections.abc import Coroutine
from pathlib import Path

import click

from hub.cli.command import examples
from hub.cli.outcome import NotSo
from hub.demo import corpus
from hub.demo.broker import RABBITMQ
from hub.demo.corpus import CorpusError, Record
from hub.demo.folder import Folder, FolderError
from hub.demo.processes import ProcessError
from hub.demo.run import Demo

RECORDS = Path(__file__).parents[2] / "deploy" / "demo" / "records.ndjson"
PORT = 8080
INTERRUPTED = 130
"""The exit status after Ctrl-C before all was verified, as shells have it."""


@click.command(
    epilog=examples("nhri-hub demo", "nhri-hub demo --once --dir /tmp/exchange --port 8081")
)
@click.option("--once", is_flag=True, help="End after the traffic and its verification.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep everything there; a demo that is there already goes on.  [default: a temporary one]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port of the hub on 127.0.0.1.  [default: 8080, or that of the demo in DIR]",
)
@click.option(
    "--broker",
    type=click.Choice([RABBITMQ]),
    help="Run over RabbitMQ and PostgreSQL, started for the demo alone, instead of HTTP and SQLite."
    "  [default: as the demo in DIR]",
)
@click.option(
    "--records",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    default=RECORDS,
    metavar="FILE",
    help="Records to send, one JSON object a line.  [default: those of deploy/demo]",
)
@click.pass_context
def demo(
    context: click.Context,
    once: bool,
    folder: Path | None,
    port: int | None,
    broker: str | None,
    records: Path,
) -> None:
    """Run a hub and the connectors of six members and five partners, and let them exchange.

    Every public record becomes a signed message; joint actions are answered; two partners have
    webhooks sent to receivers on this machine; everybody verifies everything. Then all stays up
    until Ctrl-C. The last line of --once is
    "demo: accepted=A refused=F deliveries=D/D receipts=R/R log=N verified webhooks=W/W"; with any
    shortfall the word verified is missing, the exit code is 1, and a sentence says what fell short.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="nhri-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
        try:
            home = Folder(folder.resolve())
            work = _prepared(home, port, broker, _read(records), once=once)
            context.exit(asyncio.run(_until_signal(work)))
        except (CorpusError, FolderError, ProcessError) as error:
            raise NotSo(str(error)) from None


def _read(path: Path) -> tuple[Record, ...]:
    try:
        return corpus.parse(path.read_text("utf-8"))
    except CorpusError as error:
        raise CorpusError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} cannot be read: {error}.") from None


def _prepared(
    folder: Folder,
    port: int | None,
    broker: str | None,
    records: tuple[Record, ...],
    *,
    once: bool,
) -> Coroutine[None, None, int]:
    """The demo, ready to run: the port is free, and the folder empty or a demo's.

    Raises:
        FolderError: it is neither; or the demo in it has another port than the one asked for, or no
            broker.
        NotSo: the port is in use.
    """
    settled = folder.port() if folder.hub.exists() else None
    if port and settled and port != settled:
        raise FolderError(
            f"The hub in {folder.path} has port {settled}, which its connectors know; leave the "
            "port out, or choose another folder."
        )
    chosen = port or settled or PORT
    _check_free(chosen)
    go_on = folder.prepare(broker=broker is not None)
    return Demo(folder, chosen, records).run(go_on=go_on, once=once)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the hub will do
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise NotSo(
                f"Port {port} on 127.0.0.1 cannot be used ({error.strerror}); choose another: "
                f"PORT={port + 1 if port < 65535 else port - 1} make demo, or --port."
            ) from None


async def _until_signal(work: Coroutine[None, None, int]) -> int:
    """Run until done or told to stop; then too every process is stopped in order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    # Once only: a second Ctrl-C must not leave processes behind.
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        stopped.cancel()
