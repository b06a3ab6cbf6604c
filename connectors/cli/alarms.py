"""``nhri-connector alarms``: what is wrong and not over; ``ack`` notes what came of it."""

from collections.abc import Iterable, Sequence

import click

from connectors import acknowledged
from connectors.acknowledged import Acknowledgement
from connectors.alarms import KINDS
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import print_json, say
from connectors.cli.site import Site, now, on_site
from connectors.shown import MAX_SHOWN, shown
from connectors.tables import Alarm
from schemas.encoding import format_time
from schemas.jsontext import Json

_INDENT = " " * 6


@click.command(
    epilog=examples(
        "nhri-connector alarms --config kz.toml",
        "nhri-connector alarms --all --json --config kz.toml",
        'nhri-connector alarms ack 12 --note "Called kg: the message is there" --config kz.toml',
        'nhri-connector alarms ack --kind directory-changed --note "Known" --config kz.toml',
    ),
)
@click.argument("action", metavar="[ack]", required=False, type=click.Choice(["ack"]))
@click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=click.IntRange(min=1))
@click.option("--all", "also_over", is_flag=True, help="List also those that are over.")
@click.option(
    "--kind", type=click.Choice(sorted(KINDS)), metavar="KIND", help="Acknowledge all of a kind."
)
@click.option("--note", help="What was found out or done, in a few words.")
@on_site
def alarms(
    site: Site,
    action: str | None,
    numbers: tuple[int, ...],
    also_over: bool,
    kind: str | None,
    note: str | None,
) -> None:
    """List the alarms that are not over: number, how bad, since when, what it is, what to do.

    With `ack`: note that somebody has dealt with some, by their numbers or all of a kind. `doctor`
    and the metrics count those apart from then on. An alarm that is over needs no note, and one
    that comes back is open again.
    """
    if action is None and (kind or note):
        raise click.UsageError("--kind and --note are for `alarms ack`.")
    if action is None:
        _list(site, also_over=also_over)
        return
    if bool(numbers) is bool(kind):
        raise click.UsageError("Name the alarms by NUMBER, or all of one --kind.")
    words = shown((note or "").strip())
    if not words or len(words) > MAX_SHOWN:
        raise click.UsageError(f"Say with --note what came of it, in 1 to {MAX_SHOWN} characters.")
    _acknowledge(site, numbers, kind, words)


def _list(site: Site, *, also_over: bool) -> None:
    known = acknowledged.read(site.config.acknowledged)
    with site.reader() as reader:
        found = [(one, acknowledged.of(one, known)) for one in reader.alarms(ended=also_over)]
    found.sort(key=lambda pair: pair[1] is not None)  # the open ones first, each the newest first
    if site.as_json:
        print_json([_row(alarm, noted) for alarm, noted in found])
        return
    for alarm, noted in found:
        _say(site, alarm, noted)
    if not found:
        say("There are no alarms.")


def _row(alarm: Alarm, noted: Acknowledgement | None) -> dict[str, Json]:
    kind = KINDS[alarm.kind]
    return {
        "number": alarm.number,
        "kind": alarm.kind,
        "subject": alarm.subject,
        "severity": alarm.severity.value,
        "time": alarm.time,
        "ended": alarm.ended,
        "title": kind.title,
        "sentence": alarm.sentence,
        "advice": kind.advice,
        "runbook": runbook(alarm),
        "acknowledged": noted.time if noted else None,
        "note": noted.note if noted else None,
    }


def _say(site: Site, alarm: Alarm, noted: Acknowledgement | None) -> None:
    kind = KINDS[alarm.kind]
    when = site.local(alarm.time)
    say(f"{alarm.number:>4}  {alarm.severity:<9}{when}  {kind.title}. {alarm.sentence}")
    if alarm.ended is not None:
        say(f"{_INDENT}over since {site.local(alarm.ended)}")
    elif noted is None:
        say(f"{_INDENT}→ {kind.advice}")
        say(f"{_INDENT}  {runbook(alarm)}")
    if noted is not None:
        say(f"{_INDENT}acknowledged {site.local(noted.time)}: {noted.note}")


def runbook(alarm: Alarm) -> str:
    """Where the kind of an alarm is described at length."""
    return f"deploy/runbooks/{KINDS[alarm.kind].runbook}.md"


def _acknowledge(site: Site, numbers: Sequence[int], kind: str | None, note: str) -> None:
    with site.reader() as reader:
        chosen = _chosen(reader.alarms(), numbers, kind)
    time = format_time(now())
    try:
        for alarm in chosen:
            noted = Acknowledgement(alarm.number, alarm.time, note, time)
            acknowledged.add(site.config.acknowledged, noted)
    except OSError as error:
        raise NotSo(f"The note cannot be kept in {site.config.acknowledged}: {error}.") from None
    if site.as_json:
        print_json({"acknowledged": [alarm.number for alarm in chosen]})
        return
    for alarm in chosen:
        say(f"Alarm {alarm.number} is acknowledged: {KINDS[alarm.kind].title}.")


def _chosen(standing: Iterable[Alarm], numbers: Sequence[int], kind: str | None) -> Sequence[Alarm]:
    """The alarms that were meant; all of them are there, or nothing is noted."""
    if kind is not None:
        chosen = [alarm for alarm in standing if alarm.kind == kind]
        if not chosen:
            raise NotSo(f"There is no alarm of the kind {kind}.")
        return chosen
    by_number = {alarm.number: alarm for alarm in standing}
    missing = [number for number in numbers if number not in by_number]
    if missing:
        named = ", ".join(map(str, missing))
        raise NotSo(
            f"There is no alarm {named}, or it is over; `nhri-connector alarms` lists those there "
            "are. Nothing was noted."
        )
    return [by_number[number] for number in dict.fromkeys(numbers)]
