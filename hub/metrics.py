"""What the hub measures for Prometheus: every name, and who tells it what.

``COUNTERS``, ``HISTOGRAMS`` and ``GAUGES`` name everything; dashboard and alerts are tested against
them. A label is a participant's code, a reason, a state or a route: never anything that a stranger
chooses, so that nobody can fill the memory with new series.
"""

import shutil
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from hub.delivery.schedule import DeliveryState, EndpointState, Heard
from hub.delivery.subscription import Subscription
from hub.intake.batch import Committed
from hub.intake.recorder import Journal, Recorded, Recorder, Transaction
from hub.ledger.verify import Verdict
from hub.ledger.witnesses import Standing, Witnesses
from schemas import amqp
from schemas.directory import Directory
from schemas.encoding import parse_time
from schemas.refusal import Refused

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

T = TypeVar("T")
Connection = TypeVar("Connection")


class Measure(msgspec.Struct, frozen=True):
    """A row: what it says, its labels, and for a histogram its upper bounds."""

    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_RECEIPT_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 1_800, 3_600, 6 * 3_600, 86_400, 3 * 86_400)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

COUNTERS: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "nhri_hub_submissions": Measure(
            "Submitted messages by outcome (accepted, duplicate, refused) and refusal's code",
            ("outcome", "reason"),
        ),
        "nhri_hub_receipts": Measure(
            "Submitted receipts by outcome (accepted, duplicate, refused) and refusal's code",
            ("outcome", "reason"),
        ),
        "nhri_hub_copies": Measure("Copies of accepted messages by recipient", ("member",)),
        "nhri_hub_receipted_copies": Measure(
            "Copies for which the recipient's first receipt came in", ("member",)
        ),
        "nhri_hub_commits_failed": Measure("Group commits that the store did not take"),
        "nhri_hub_http_requests": Measure(
            "Requests at the HTTP door by route and status", ("route", "status")
        ),
        "nhri_hub_publishes": Measure(
            "Messages published to the broker by outcome (confirmed, failed)", ("outcome",)
        ),
        "nhri_hub_quarantined": Measure("Submissions from the broker put into quarantine"),
        "nhri_hub_webhooks_done": Measure(
            "Messages for webhooks by outcome (delivered, dead, withheld), once it is in the log",
            ("outcome",),
        ),
        "nhri_hub_broker_connections": Measure("Connections made to the broker", ("link",)),
    }
)

HISTOGRAMS: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "nhri_hub_open_seconds": Measure(
            "Parsing an envelope and verifying its signatures", buckets=_SECONDS
        ),
        "nhri_hub_commit_seconds": Measure(
            "One group commit: facts, decisions, tree, write and sync", buckets=_SECONDS
        ),
        "nhri_hub_commit_entries": Measure(
            "Log entries in one group commit",
            buckets=(0, 1, 2, 4, 8, 16, 32, 64, 128, 256),
        ),
        "nhri_hub_submission_seconds": Measure(
            "From the whole envelope at the door to its acceptance or refusal", buckets=_SECONDS
        ),
        "nhri_hub_publish_seconds": Measure(
            "From what is to be published to the broker's confirm", buckets=_SECONDS
        ),
        "nhri_hub_receipt_seconds": Measure(
            "From the acceptance of a copy to its recipient's first receipt",
            buckets=_RECEIPT_SECONDS,
        ),
        "nhri_hub_webhook_attempt_seconds": Measure(
            "One post to a webhook by what it came to (taken, failed, gone)",
            ("outcome",),
            _SECONDS,
        ),
    }
)

GAUGES: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "nhri_hub_build_info": Measure("Always 1; which version runs", ("version", "origin")),
        "nhri_hub_requests_waiting": Measure("Requests that wait for the recorder"),
        "nhri_hub_requests_oldest_seconds": Measure(
            "How long the oldest request without an answer has waited for the recorder"
        ),
        "nhri_hub_store_failing": Measure("1 when the last group commit failed"),
        "nhri_hub_log_entries": Measure("Size of the log"),
        "nhri_hub_checkpoint_timestamp_seconds": Measure("When the last checkpoint was signed"),
        "nhri_hub_verified_entries": Measure("Entries that the last check of the log hashed again"),
        "nhri_hub_verified_timestamp_seconds": Measure("When the log was last checked as a whole"),
        "nhri_hub_verified_problems": Measure("What the last check of the log found wrong"),
        "nhri_hub_inbox_copies": Measure("Copies without a receipt by recipient", ("member",)),
        "nhri_hub_inbox_oldest_seconds": Measure(
            "Age of the oldest copy without a receipt by recipient", ("member",)
        ),
        "nhri_hub_broker_outstanding": Measure(
            "Copies on the broker without a receipt by recipient", ("member",)
        ),
        "nhri_hub_queue_messages": Measure(
            "Messages that wait in a queue of the broker, at the hub that fills the inboxes",
            ("queue",),
        ),
        "nhri_hub_broker_connected": Measure("1 while the broker is reached", ("link",)),
        "nhri_hub_broker_blocked": Measure(
            "1 while an alarm for memory or disk keeps the broker from taking messages"
        ),
        "nhri_hub_inboxes_stuck": Measure(
            "Inboxes on the broker for which it may confirm nothing while others work"
        ),
        "nhri_hub_webhooks": Measure(
            "Messages for webhooks that are waiting, or were set aside (dead)", ("state",)
        ),
        "nhri_hub_webhook_endpoints": Measure(
            "Webhook subscriptions by the state of their endpoint", ("state",)
        ),
        "nhri_hub_participants": Measure("Participants by state", ("state",)),
        "nhri_hub_certificate_days_left": Measure(
            "Whole days until a certificate ends: a participant's, or one of `nhri-hub ca list`",
            ("member",),
        ),
        "nhri_hub_upkeep_timestamp_seconds": Measure(
            "When the upkeep last came round without anything that failed"
        ),
        "nhri_hub_signing_stopped": Measure("1 while nothing is signed, for the log's sake"),
        "nhri_hub_quorum_entries": Measure("Size of the last checkpoint with a quorum"),
        "nhri_hub_quorum_lag_entries": Measure("Entries that no quorum has cosigned yet"),
        "nhri_hub_quorum_timestamp_seconds": Measure("When the last checkpoint had its quorum"),
        "nhri_hub_witness_lag_entries": Measure(
            "Entries that a witness has not cosigned yet", ("member",)
        ),
        "nhri_hub_witness_seen_timestamp_seconds": Measure(
            "When a witness last asked what to cosign", ("member",)
        ),
        "nhri_hub_disk_free_bytes": Measure("Free space where the hub keeps its files"),
    }
)


class Metrics:
    """The measures of one hub, in a registry of their own."""

    def __init__(self, version: str, origin: str) -> None:
        """Everything is zero."""
        self._registry = CollectorRegistry()
        self._counters = {
            name: Counter(name, row.text, row.labels, registry=self._registry)
            for name, row in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(
                name, row.text, row.labels, registry=self._registry, buckets=row.buckets
            )
            for name, row in HISTOGRAMS.items()
        }
        self._gauges = {
            name: Gauge(name, row.text, row.labels, registry=self._registry)
            for name, row in GAUGES.items()
        }
        self._outstanding: Callable[[], Mapping[str, int]] = dict
        ProcessCollector(registry=self._registry)
        self._gauges["nhri_hub_build_info"].labels(version, origin).set(1)

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)

    # --- What is read when it is asked for ---

    def watch(self, recorder: Recorder, folder: Path) -> None:
        """Read these whenever somebody asks."""
        read: Mapping[str, Callable[[], float]] = {
            "nhri_hub_requests_waiting": lambda: recorder.waiting,
            "nhri_hub_requests_oldest_seconds": recorder.waited,
            "nhri_hub_store_failing": lambda: recorder.failing is not None,
            "nhri_hub_log_entries": lambda: recorder.state.tree.size,
            "nhri_hub_disk_free_bytes": lambda: shutil.disk_usage(folder).free,
        }
        for name, function in read.items():
            self._gauges[name].set_function(function)

    def watch_signing(self, witnesses: Witnesses) -> None:
        """Ask this whether it has stopped, whenever somebody asks us."""
        stopped = self._gauges["nhri_hub_signing_stopped"]
        stopped.set_function(lambda: witnesses.stopped is not None)

    def watch_broker(
        self,
        outstanding: Callable[[], Mapping[str, int]],
        blocked: Callable[[], bool],
        stuck: Callable[[], int],
    ) -> None:
        """Ask for the copies on the broker in every survey, for what is wrong whenever asked."""
        self._outstanding = outstanding
        self._gauges["nhri_hub_broker_blocked"].set_function(blocked)
        self._gauges["nhri_hub_inboxes_stuck"].set_function(stuck)

    # --- What the doors tell ---

    def opening(self) -> AbstractContextManager[object]:
        """Time the opening of one envelope; from whichever thread."""
        return self._histograms["nhri_hub_open_seconds"].time()

    def submitted(self, what: str, result: Recorded | Refused, seconds: float) -> None:
        """A message or a receipt that was handed in is dealt with."""
        if isinstance(result, Refused):
            labels = "refused", result.code
        else:
            refused = result.outcome.refused
            labels = result.outcome.name, "" if refused is None else refused.code
        if what == amqp.MESSAGE:
            self._counters["nhri_hub_submissions"].labels(*labels).inc()
            self._histograms["nhri_hub_submission_seconds"].observe(seconds)
        else:
            self._counters["nhri_hub_receipts"].labels(*labels).inc()

    def answered(self, route: str, status: int) -> None:
        """A request at the HTTP door was answered."""
        self._counters["nhri_hub_http_requests"].labels(route, str(status)).inc()

    def quarantined(self) -> None:
        """A submission from the broker cannot be dealt with."""
        self._counters["nhri_hub_quarantined"].inc()

    def verified(self, verdict: Verdict, whole: bool) -> None:
        """The log was hashed again: the whole of it, or what came since."""
        self._gauges["nhri_hub_verified_entries"].set(verdict.entries)
        self._gauges["nhri_hub_verified_problems"].set(len(verdict.problems))
        if whole:
            self._gauges["nhri_hub_verified_timestamp_seconds"].set_to_current_time()

    # --- What the parts behind the doors tell ---

    def committed(self, committed: Committed) -> None:
        """A group commit is on the disk."""
        self._histograms["nhri_hub_commit_entries"].observe(committed.entries)
        if committed.entries:
            self._gauges["nhri_hub_checkpoint_timestamp_seconds"].set_to_current_time()
        copies = Tally(code for message in committed.fresh for code in message.positions)
        for code, count in copies.items():
            self._counters["nhri_hub_copies"].labels(code).inc(count)
        for code, count in committed.receipts.items():
            self._counters["nhri_hub_receipted_copies"].labels(code).inc(count)
        for seconds in committed.waited:
            self._histograms["nhri_hub_receipt_seconds"].observe(seconds)

    def journal(self, journal: Journal) -> Journal:
        """The same journal, its transactions timed and its failures counted."""
        return _TimedJournal(
            journal,
            self._histograms["nhri_hub_commit_seconds"],
            self._counters["nhri_hub_commits_failed"],
        )

    def published(self, seconds: Sequence[float], failed: int) -> None:
        """The broker confirmed publishes, each after so long, and others it did not."""
        self._counters["nhri_hub_publishes"].labels("confirmed").inc(len(seconds))
        self._counters["nhri_hub_publishes"].labels("failed").inc(failed)
        for each in seconds:
            self._histograms["nhri_hub_publish_seconds"].observe(each)

    def queues(self, depths: Mapping[str, int]) -> None:
        """Set how many messages wait in each queue of the broker."""
        self._replace("nhri_hub_queue_messages", depths)

    def webhook_attempted(self, heard: Heard, seconds: float) -> None:
        """An endpoint answered a post, or did not."""
        attempts = self._histograms["nhri_hub_webhook_attempt_seconds"]
        attempts.labels(str(heard)).observe(seconds)

    def link(
        self, name: str, use: Callable[[Connection], Awaitable[None]]
    ) -> Callable[[Connection], Awaitable[None]]:
        """The same use of a connection to the broker, watched."""
        connected = self._gauges["nhri_hub_broker_connected"].labels(name)
        connections = self._counters["nhri_hub_broker_connections"].labels(name)

        async def watched(connection: Connection) -> None:
            connections.inc()
            connected.set(1)
            try:
                await use(connection)
            finally:
                connected.set(0)

        return watched

    def surveyed(
        self,
        directory: Directory,
        waiting: Mapping[str, int],
        oldest: Mapping[str, str],
        now: datetime,
    ) -> None:
        """Set what takes a query of the store.

        Args:
            directory: the participants; who has no figure has a zero.
            waiting: copies without a receipt, by recipient.
            oldest: when the oldest of them was accepted.
            now: their ages are counted to this moment.
        """
        ages = {code: (now - parse_time(at)).total_seconds() for code, at in oldest.items()}
        states = Tally(str(participant.state) for participant in directory.participants.values())
        zero = dict.fromkeys(directory.participants, 0)
        self._replace("nhri_hub_inbox_copies", {**zero, **waiting})
        self._replace("nhri_hub_inbox_oldest_seconds", {**zero, **ages})
        self._replace("nhri_hub_broker_outstanding", {**zero, **self._outstanding()})
        self._replace("nhri_hub_participants", states)

    def kept_up(self) -> None:
        """A round of the upkeep is over, and nothing in it failed."""
        self._gauges["nhri_hub_upkeep_timestamp_seconds"].set_to_current_time()

    def webhooks(
        self, owing: Mapping[DeliveryState, int], subscriptions: Iterable[Subscription]
    ) -> None:
        """Set how many messages are owed to webhooks, and how the endpoints stand."""
        self._replace("nhri_hub_webhooks", {str(state): owing[state] for state in owing})
        states = Tally(str(subscription.endpoint.state) for subscription in subscriptions)
        zero = dict.fromkeys(map(str, EndpointState), 0)
        self._replace("nhri_hub_webhook_endpoints", {**zero, **states})

    def webhooks_done(self, outcomes: Iterable[str]) -> None:
        """What became of messages for webhooks is in the log."""
        for outcome in outcomes:
            self._counters["nhri_hub_webhooks_done"].labels(outcome).inc()

    def witnessed(
        self,
        standing: Standing,
        lags: Mapping[str, int],
        seen: Mapping[str, datetime],
        size: int,
    ) -> None:
        """Set how far the witnesses and their quorum are behind a log of ``size`` entries."""
        self._replace("nhri_hub_witness_lag_entries", lags)
        times = {code: seen[code].timestamp() for code in lags if code in seen}
        self._replace("nhri_hub_witness_seen_timestamp_seconds", times)
        last = standing.last
        if last is not None and last.quorum is not None:
            self._gauges["nhri_hub_quorum_entries"].set(last.size)
            self._gauges["nhri_hub_quorum_lag_entries"].set(size - last.size)
            time = parse_time(last.quorum).timestamp()
            self._gauges["nhri_hub_quorum_timestamp_seconds"].set(time)

    def certificates(self, days_left: Mapping[str, int]) -> None:
        """Set how long the participants' client certificates and our own still hold."""
        self._replace("nhri_hub_certificate_days_left", days_left)

    def _replace(self, name: str, values: Mapping[str, float]) -> None:
        """Set a gauge with one label anew; a label that is not there any more goes."""
        gauge = self._gauges[name]
        gauge.clear()
        for label, value in values.items():
            gauge.labels(label).set(value)


class _TimedJournal:
    """A journal that measures another one."""

    def __init__(self, journal: Journal, seconds: Histogram, failed: Counter) -> None:
        self._journal = journal
        self._seconds = seconds
        self._failed = failed

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Do something in one transaction of the other journal.

        Raises:
            StorageError: it failed, and left no trace.
        """
        with self._failed.count_exceptions(), self._seconds.time():
            return await self._journal.transact(work)


def series() -> frozenset[str]:
    """The names of all series that a hub shows, as queries use them."""
    counters = {f"{name}_total" for name in COUNTERS}
    parts = ("bucket", "sum", "count")
    histograms = {f"{name}_{part}" for name in HISTOGRAMS for part in parts}
    return frozenset(counters | histograms | set(GAUGES))
