"""What a connector measures, as a text file for Prometheus's node exporter (textfile collector).

A connector opens no door: the machine's own exporter reads the file. Pure but for ``write``.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from connectors import acknowledged
from connectors.acknowledged import Acknowledgements
from connectors.alarms import KINDS
from connectors.tables import Alarm, Figures, InboxState, SentState
from schemas.encoding import parse_time

GAUGES: Mapping[str, str] = MappingProxyType(
    {
        "nhri_connector_sent_messages": "Messages of ours by state",
        "nhri_connector_outbox_oldest_seconds": "Age of the oldest message of ours without answer",
        "nhri_connector_receipts_waiting": "Receipts that recipients owe us",
        "nhri_connector_inbox_position": "Highest position of the inbox that is taken",
        "nhri_connector_inbox_gap": "1 when a position below it is missing",
        "nhri_connector_inbox_messages": "Positions of the inbox by what stands there",
        "nhri_connector_answers_waiting": "Messages whose receipt by us is not recorded yet",
        "nhri_connector_alarms": "Alarms that are not over by kind and acknowledgement",
        "nhri_connector_alarms_unmailed": "Alarms that no mail server took yet, where one is set",
        "nhri_connector_log_entries": "Entries of the hub's log that were followed and verified",
        "nhri_connector_log_behind_entries": "Entries that the hub served and we did not follow",
        "nhri_connector_witness_entries": "Entries of the log that we cosigned as witness",
        "nhri_connector_witness_lag_entries": "Entries that we followed and did not cosign",
        "nhri_connector_hub_seen_timestamp_seconds": "When the hub last answered about its log",
        "nhri_connector_written_timestamp_seconds": "When these figures were written",
    }
)
"""Every name with its sentence; each has the label ``member``, some one more."""

Sample = tuple[str, Mapping[str, str], float]

STATES = ("open", "acknowledged")
"""Of an alarm that is not over."""


def text(
    figures: Figures,
    oldest: str | None,
    alarms: Iterable[Alarm],
    known: Acknowledgements,
    unmailed: int,
    now: datetime,
) -> str:
    """The figures of a store in Prometheus's text format.

    Args:
        figures: of ``Reader.status``.
        oldest: when the oldest message of ours without an answer was queued.
        alarms: those that are not over.
        known: what was acknowledged.
        unmailed: how many alarms wait for the mail server.
        now: the time on this machine.
    """
    lines: list[str] = []
    samples = (
        *_samples(figures, oldest, now),
        *_alarms(alarms, known),
        ("nhri_connector_alarms_unmailed", {}, unmailed),
    )
    for name, labels, value in samples:
        if f"# TYPE {name} gauge" not in lines:
            lines += [f"# HELP {name} {GAUGES[name]}", f"# TYPE {name} gauge"]
        all_labels = {"member": figures.identity.code, **labels}
        # Codes, kinds, states and severities: nothing in them has to be escaped.
        inner = ",".join(f'{label}="{text}"' for label, text in all_labels.items())
        lines.append(f"{name}{{{inner}}} {value:.15g}")
    return "\n".join(lines) + "\n"


def _samples(figures: Figures, oldest: str | None, now: datetime) -> Iterator[Sample]:
    for state in SentState:
        yield "nhri_connector_sent_messages", {"state": state}, figures.sent.get(state, 0)
    age = 0.0 if oldest is None else (now - parse_time(oldest)).total_seconds()
    yield "nhri_connector_outbox_oldest_seconds", {}, age
    yield "nhri_connector_receipts_waiting", {}, figures.waiting_receipts
    yield "nhri_connector_inbox_position", {}, figures.last_position
    yield "nhri_connector_inbox_gap", {}, figures.first_gap is not None
    for place in InboxState:
        yield "nhri_connector_inbox_messages", {"state": place}, figures.inbox.get(place, 0)
    yield "nhri_connector_answers_waiting", {}, figures.unanswered
    if (followed := figures.followed) is not None:
        yield "nhri_connector_log_entries", {}, followed.size
        yield "nhri_connector_log_behind_entries", {}, max(0, followed.served - followed.size)
        cosigned = figures.cosigned.size if figures.cosigned else 0
        yield "nhri_connector_witness_entries", {}, cosigned
        yield "nhri_connector_witness_lag_entries", {}, max(0, followed.size - cosigned)
        seen = parse_time(followed.seen).timestamp()
        yield "nhri_connector_hub_seen_timestamp_seconds", {}, seen
    yield "nhri_connector_written_timestamp_seconds", {}, now.timestamp()


def _alarms(alarms: Iterable[Alarm], known: Acknowledgements) -> Iterator[Sample]:
    """Every kind in every state, also with none: an alert that looks for one finds it at 0."""
    counts = Counter(
        (alarm.kind, STATES[acknowledged.of(alarm, known) is not None]) for alarm in alarms
    )
    for kind, row in KINDS.items():
        for state in STATES:
            labels = {"kind": kind, "severity": row.severity, "state": state}
            yield "nhri_connector_alarms", labels, counts[kind, state]


def write(path: Path, content: str) -> None:
    """Put the text in its place at once, readable by the exporter's account.

    It may be lost in a power cut: the next one comes soon.

    Raises:
        OSError: the folder is missing or not ours to write, or the disk is full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")  # the exporter reads only *.prom
    try:
        draft.write_text(content, encoding="ascii")
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
