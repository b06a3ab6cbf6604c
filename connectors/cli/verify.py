"""``nhri-connector verify``: is what the store or a file holds so, and what was checked?"""

from collections.abc import Iterator
from pathlib import Path

import click

from connectors import files
from connectors.cli.audit import Assembled, Auditor
from connectors.cli.evidence import verify_file
from connectors.cli.inbox import at
from connectors.cli.options import common_options, examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import print_json, progress, say
from connectors.cli.reading import is_notice
from connectors.cli.site import Site, on_site
from connectors.store import Reader
from connectors.tables import InboxState, Received, RecordedReceipt, SentState
from schemas.jsontext import Json

_PAGE = 200
"""Rows at a time: a message can have 256 KiB."""


@click.command(
    epilog=examples(
        "nhri-connector verify --all --config kz.toml",
        "nhri-connector verify 019f270c-11ca-7000-8000-000000000000 --config kz.toml",
        "nhri-connector verify 12 --output agreement.jose --config kz.toml",
        "nhri-connector verify visit.zip --policy policy.txt",
    )
)
@click.argument("message", metavar="[ID|POSITION|FILE.zip]", required=False)
@click.option("--all", "everything", is_flag=True, help="Verify everything in the store.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the joint action's notice with all signatures there, as one envelope.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="For an evidence file: whose log to believe, and how many witnesses (C2SP tlog-policy).",
)
@common_options
def verify(
    message: str | None, policy: Path | None, config: Path | None, as_json: bool, **of_store: object
) -> None:
    """Verify again, offline: signatures, proofs of inclusion, the log, receipts, joint actions.

    Nothing that was found before is believed. The one thing that is trusted is the key of the log,
    which was compared when the institution joined. Ends with 1 when anything is not so.

    An evidence file (FILE.zip) needs no connector: it is checked against the keys of a --policy.
    Without one they are unanchored, and it ends with 1.
    """
    if message is not None and message.endswith(".zip"):
        verify_file(Path(message), policy, as_json=as_json)
    elif policy is not None:
        raise click.UsageError("--policy goes with an evidence file, FILE.zip.")
    else:
        _verify_store(config=config, as_json=as_json, message=message, **of_store)


@on_site
def _verify_store(site: Site, message: str | None, everything: bool, output: Path | None) -> None:
    if (message is None) == (not everything):
        raise click.UsageError("Give the id or position of a message, or --all.")
    if output and not message:
        raise click.UsageError("--output goes with the id of a joint action's notice.")
    with site.reader() as reader, reader.snapshot():
        auditor = Auditor(reader, site.code, site.config.log_key)
        with progress("Verifying the log") as advance:
            auditor.check_log(advance)
        action = None
        if message is None:
            _all(auditor, reader)
        else:
            action = _one(auditor, reader, message)
    if output is not None:
        if action is None:
            raise NotSo(f"{message} is no joint action that holds; nothing was written.")
        _write(output, action)
    _report(site, auditor, action)


def _all(auditor: Auditor, reader: Reader) -> None:
    status = reader.status()
    total = sum(status.sent.values()) + sum(status.inbox.values())
    done = 0
    with progress("Verifying messages and receipts") as advance:
        for recorded in _receipts(reader):
            auditor.check_receipt(recorded)
        for sent in reader.sent_list(total):
            auditor.check_sent(sent)
            auditor.check_given(sent)
            if sent.state is SentState.ACCEPTED and is_notice(sent.kind):
                auditor.check_action(sent.id)
            advance(done := done + 1, total)
        for received in _received(reader):
            auditor.check_received(received)
            if received.state is InboxState.VALID and is_notice(received.kind):
                auditor.check_action(received.id or "")
            advance(done := done + 1, total)


def _receipts(reader: Reader) -> Iterator[RecordedReceipt]:
    after = -1
    while page := reader.receipts(after, _PAGE):
        yield from page
        after = page[-1].index


def _received(reader: Reader) -> Iterator[Received]:
    after = 0
    while page := reader.inbox(after, _PAGE):
        yield from page
        after = page[-1].position


def _one(auditor: Auditor, reader: Reader, message: str) -> Assembled | None:
    """Verify one message, and the joint action where it is the notice of one."""
    sent = None if message.isdecimal() else reader.sent(message)
    received = at(reader, message) if sent is None else None
    if sent is not None:
        for index in sorted({e.index for e in reader.expected(sent.id) if e.index is not None}):
            for recorded in reader.receipts(index - 1, 1):
                auditor.check_receipt(recorded)
        auditor.check_sent(sent)
        auditor.check_given(sent)
    elif received is not None:
        auditor.check_received(received)
    row = sent or received
    if row is None:
        raise NotSo(f"There is no message {message} in the store.")
    return auditor.check_action(row.id or "") if is_notice(row.kind) else None


def _write(output: Path, action: Assembled) -> None:
    try:
        files.write(output, action.envelope)
    except OSError as error:
        raise NotSo(f"{output} cannot be written: {error.strerror}.") from None


def _report(site: Site, auditor: Auditor, action: Assembled | None) -> None:
    problems = auditor.problems
    if site.as_json:
        answer: dict[str, Json] = {
            "ok": not problems,
            "checked": dict(auditor.checked),
            "problems": [*problems],
        }
        if action is not None:
            answer |= {"state": action.state.value, "signed_by": [*action.signers]}
        print_json(answer)
    else:
        for what, count in auditor.checked.items():
            say(f"{count:>9,}  {what}")
        if action is not None:
            say(f"The joint action is {action.state}, signed by {', '.join(action.signers)}.")
        for problem in problems:
            say(f"NOT SO: {problem}")
        if not problems:
            say("All of it holds.")
    if problems:
        raise NotSo(f"{len(problems)} of the things checked are not so.")
