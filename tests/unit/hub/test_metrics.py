"""What the hub measures: every name is shown, every event counted once, no label a stranger's."""

import asyncio
import re
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub import metrics
from hub.delivery.schedule import DeliveryState, Endpoint, Heard
from hub.delivery.subscription import Filter, Subscription
from hub.intake.batch import Committed, Fresh, Outcome, State
from hub.intake.recorder import Recorded, Recorder, StorageError
from hub.intake.submission import CountedRefusals
from hub.ledger.sequence import LogKey, Tree
from hub.ledger.verify import Verdict
from hub.metrics import Metrics
from schemas import amqp
from schemas.acceptance import Acceptance
from schemas.directory import Directory, Participant
from schemas.encoding import format_time
from schemas.refusal import Refused
from tests import builders

LABELS = {
    *("link", "member", "origin", "outcome", "queue", "reason", "route", "state", "status"),
    "version",
}


@pytest.fixture
def measured():
    return Metrics("1.2", "hub.example/log")


def samples(measured):
    """Every sample as (name, labels), and its value."""
    families = text_string_to_metric_families(measured.text().decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_everything_that_has_a_name_is_shown_and_so_is_the_process(measured):
    types = re.findall(r"^# TYPE (\w+) ", measured.text().decode(), re.MULTILINE)
    shown = {name for name in types if not name.endswith("_created")}
    counters = {f"{name}_total" for name in metrics.COUNTERS}
    process = {name for name in shown if name.startswith("process_")}
    assert shown - process == {*counters, *metrics.HISTOGRAMS, *metrics.GAUGES}
    assert {"process_resident_memory_bytes", "process_open_fds"} <= process


def test_series_of_a_histogram_are_its_parts():
    assert {f"nhri_hub_commit_seconds_{part}" for part in ("bucket", "sum", "count")} < (
        metrics.series()
    )
    assert "nhri_hub_submissions_total" in metrics.series()
    assert "nhri_hub_log_entries" in metrics.series()


def test_no_label_is_a_stranger_s_to_choose():
    rows = [*metrics.COUNTERS.values(), *metrics.HISTOGRAMS.values(), *metrics.GAUGES.values()]
    assert {label for row in rows for label in row.labels} == LABELS


def test_it_says_what_runs(measured):
    assert samples(measured)["nhri_hub_build_info", "hub.example/log", "1.2"] == 1


def test_submissions_are_counted_by_outcome_and_timed(measured):
    for result in (
        Recorded(Outcome(1), None),
        Recorded(Outcome(1, new=False), None),
        Recorded(Outcome(2, refused=Refused("quota", "Later.")), None),
        Refused("busy", "Later."),
    ):
        measured.submitted(amqp.MESSAGE, result, 0.3)
    shown = samples(measured)
    assert shown["nhri_hub_submissions_total", "accepted", ""] == 1
    assert shown["nhri_hub_submissions_total", "duplicate", ""] == 1
    assert shown["nhri_hub_submissions_total", "refused", "quota"] == 1
    assert shown["nhri_hub_submissions_total", "refused", "busy"] == 1
    assert shown["nhri_hub_submission_seconds_count",] == 4
    assert shown["nhri_hub_submission_seconds_sum",] == pytest.approx(1.2)


def test_receipts_are_counted_by_outcome(measured):
    measured.submitted(amqp.RECEIPT, Recorded(Outcome(1), None), 0.3)
    measured.submitted(amqp.RECEIPT, Refused("bad-receipt", "No."), 0.3)
    shown = samples(measured)
    assert shown["nhri_hub_receipts_total", "accepted", ""] == 1
    assert shown["nhri_hub_receipts_total", "refused", "bad-receipt"] == 1
    assert shown["nhri_hub_submission_seconds_count",] == 0


def test_opening_is_timed_also_when_it_fails(measured):
    with measured.opening():
        pass
    with pytest.raises(ZeroDivisionError), measured.opening():
        raise ZeroDivisionError
    assert samples(measured)["nhri_hub_open_seconds_count",] == 2


def test_a_commit_tells_its_size_its_copies_and_its_receipts(measured):
    acceptance = Acceptance("", "", "", "")
    fresh = [
        Fresh(0, b"", acceptance, {"kg": 1, "tj": 1}),
        Fresh(0, b"", acceptance, {"kg": 2}),
    ]
    measured.committed(Committed(frozenset(), fresh, {"uz": 7}, 5, waited=[0.2, 90_000]))
    measured.committed(Committed(frozenset(), [], {}, 0))
    shown = samples(measured)
    assert shown["nhri_hub_copies_total", "kg"] == 2
    assert shown["nhri_hub_copies_total", "tj"] == 1
    assert shown["nhri_hub_receipted_copies_total", "uz"] == 7
    assert shown["nhri_hub_receipt_seconds_sum",] == 90_000.2
    assert shown["nhri_hub_receipt_seconds_bucket", "0.5"] == 1
    assert shown["nhri_hub_receipt_seconds_bucket", "259200.0"] == 2
    assert shown["nhri_hub_commit_entries_bucket", "0.0"] == 1
    assert shown["nhri_hub_commit_entries_bucket", "8.0"] == 2
    assert shown["nhri_hub_commit_entries_sum",] == 5
    assert shown["nhri_hub_checkpoint_timestamp_seconds",] > 1_500_000_000


def test_a_commit_without_an_entry_signs_no_checkpoint(measured):
    measured.committed(Committed(frozenset(), [], {}, 0))
    assert samples(measured)["nhri_hub_checkpoint_timestamp_seconds",] == 0


class Journal:
    def __init__(self, error=None):
        self.error = error

    async def transact(self, work):
        if self.error is not None:
            raise self.error
        return work(None)


async def test_a_timed_journal_is_the_journal_that_it_times(measured):
    assert await measured.journal(Journal()).transact(lambda _: "done") == "done"
    with pytest.raises(StorageError):
        await measured.journal(Journal(StorageError("full"))).transact(lambda _: "done")
    shown = samples(measured)
    assert shown["nhri_hub_commit_seconds_count",] == 2
    assert shown["nhri_hub_commits_failed_total",] == 1


class Stuck(Journal):
    """A store that never comes back."""

    def __init__(self):
        self.begun = asyncio.Event()

    async def transact(self, work):
        self.begun.set()
        await asyncio.Event().wait()


JOB = CountedRefusals("kz", 1)


async def test_what_waits_for_the_recorder_is_read_when_asked_for(measured, tmp_path):
    journal = Stuck()
    state = State(Tree(17))
    key = LogKey(builders.LOG, builders.LOG_KEY)
    recorder = Recorder(journal, key, state, lambda: builders.NOW, bytes, measured.committed)
    measured.watch(recorder, tmp_path)
    shown = samples(measured)
    assert shown["nhri_hub_requests_waiting",] == 0
    assert shown["nhri_hub_requests_oldest_seconds",] == 0
    assert shown["nhri_hub_store_failing",] == 0
    assert shown["nhri_hub_log_entries",] == 17
    assert shown["nhri_hub_disk_free_bytes",] > 0

    running = asyncio.create_task(recorder.run())
    first = asyncio.create_task(recorder.record(JOB))
    await journal.begun.wait()
    second = asyncio.create_task(recorder.record(JOB))
    await asyncio.sleep(0)  # it stands in the queue
    recorder.failing = "full"
    shown = samples(measured)
    assert shown["nhri_hub_requests_waiting",] == 1
    assert 0 < shown["nhri_hub_requests_oldest_seconds",] < 60
    assert shown["nhri_hub_store_failing",] == 1

    running.cancel()
    await asyncio.gather(running, first, second, return_exceptions=True)
    assert samples(measured)["nhri_hub_requests_oldest_seconds",] == 0


def directory(**states):
    people = {
        code: Participant(code=code, role="member", names={}, country=None, state=state)
        for code, state in states.items()
    }
    return Directory(participants=people)


def test_a_survey_shows_everybody_and_forgets_who_is_gone(measured):
    now = builders.NOW
    measured.watch_broker(lambda: {"kz": 3}, lambda: False, lambda: 0)
    two = directory(kz="active", kg="suspended")
    oldest = {"kz": format_time(now - timedelta(seconds=90))}
    measured.surveyed(two, {"kz": 5}, oldest, now)
    shown = samples(measured)
    assert shown["nhri_hub_inbox_copies", "kz"] == 5
    assert shown["nhri_hub_inbox_copies", "kg"] == 0
    assert shown["nhri_hub_inbox_oldest_seconds", "kz"] == 90
    assert shown["nhri_hub_inbox_oldest_seconds", "kg"] == 0
    assert shown["nhri_hub_broker_outstanding", "kz"] == 3
    assert shown["nhri_hub_broker_outstanding", "kg"] == 0
    assert shown["nhri_hub_participants", "active"] == 1
    assert shown["nhri_hub_participants", "suspended"] == 1
    assert shown["nhri_hub_upkeep_timestamp_seconds",] == 0  # the rest of the round may fail

    measured.surveyed(directory(kg="active"), {}, {}, now)
    shown = samples(measured)
    assert ("nhri_hub_inbox_copies", "kg") in shown
    assert ("nhri_hub_inbox_copies", "kz") not in shown
    assert ("nhri_hub_participants", "suspended") not in shown


def test_certificates_show_how_many_days_they_have_left(measured):
    measured.certificates({"kz": 30, "kg": -1})
    shown = samples(measured)
    assert shown["nhri_hub_certificate_days_left", "kz"] == 30
    assert shown["nhri_hub_certificate_days_left", "kg"] == -1


def test_a_check_of_the_log_is_remembered(measured):
    problems = ("Entry 4 is not the one that was recorded.",)
    measured.verified(Verdict(9, "", 4, False, problems), whole=True)
    shown = samples(measured)
    assert shown["nhri_hub_verified_entries",] == 4
    assert shown["nhri_hub_verified_problems",] == 1
    assert shown["nhri_hub_verified_timestamp_seconds",] > 1_500_000_000


async def test_a_link_to_the_broker_is_up_as_long_as_it_is_used(measured):
    seen = []

    async def use(connection):
        seen.append((connection, samples(measured)["nhri_hub_broker_connected", "hub.door"]))
        raise OSError("gone")

    watched = measured.link("hub.door", use)
    assert samples(measured)["nhri_hub_broker_connected", "hub.door"] == 0
    for connection in ("first", "second"):
        with pytest.raises(OSError, match="gone"):
            await watched(connection)
    assert seen == [("first", 1), ("second", 1)]
    shown = samples(measured)
    assert shown["nhri_hub_broker_connected", "hub.door"] == 0
    assert shown["nhri_hub_broker_connections_total", "hub.door"] == 2


def test_publishes_are_counted_by_outcome_and_timed_to_their_confirm(measured):
    measured.published([0.02, 0.03], 1)
    measured.published([], 2)
    shown = samples(measured)
    assert shown["nhri_hub_publishes_total", "confirmed"] == 2
    assert shown["nhri_hub_publishes_total", "failed"] == 3
    assert shown["nhri_hub_publish_seconds_count",] == 2
    assert shown["nhri_hub_publish_seconds_sum",] == pytest.approx(0.05)


def test_a_round_of_the_upkeep_in_which_nothing_failed_shows(measured):
    measured.kept_up()
    assert samples(measured)["nhri_hub_upkeep_timestamp_seconds",] > 1_500_000_000


def test_a_queue_that_is_not_surveyed_any_more_is_not_shown(measured):
    measured.queues({"quarantine": 2, "inbox.kz": 0})
    assert samples(measured)["nhri_hub_queue_messages", "quarantine"] == 2
    measured.queues({"inbox.kz": 7})
    shown = samples(measured)
    assert shown["nhri_hub_queue_messages", "inbox.kz"] == 7
    assert ("nhri_hub_queue_messages", "quarantine") not in shown


def test_posts_to_webhooks_are_timed_by_what_they_came_to(measured):
    measured.webhook_attempted(Heard.TAKEN, 0.2)
    measured.webhook_attempted(Heard.FAILED, 8)
    measured.webhook_attempted(Heard.FAILED, 10)
    shown = samples(measured)
    assert shown["nhri_hub_webhook_attempt_seconds_sum", "taken"] == 0.2
    assert shown["nhri_hub_webhook_attempt_seconds_count", "failed"] == 2


def test_webhooks_are_counted_by_what_became_of_them_and_endpoints_by_how_they_stand(measured):
    made = Subscription("an-id", "undp", "", Filter(), False, (), Endpoint(), 0, "")
    measured.webhooks({DeliveryState.WAITING: 3, DeliveryState.DEAD: 1}, [made, made])
    measured.webhooks_done(["delivered", "dead", "delivered"])
    shown = samples(measured)
    assert shown["nhri_hub_webhooks", "waiting"] == 3
    assert shown["nhri_hub_webhooks", "dead"] == 1
    assert shown["nhri_hub_webhook_endpoints", "unproven"] == 2
    assert shown["nhri_hub_webhook_endpoints", "disabled"] == 0
    assert shown["nhri_hub_webhooks_done_total", "delivered"] == 2
    assert shown["nhri_hub_webhooks_done_total", "dead"] == 1


def test_doors_tell_what_they_answered_and_what_they_put_aside(measured):
    measured.answered("GET /livez", 200)
    measured.quarantined()
    shown = samples(measured)
    assert shown["nhri_hub_http_requests_total", "GET /livez", "200"] == 1
    assert shown["nhri_hub_quarantined_total",] == 1
