"""A connector's measures: every name is written, in Prometheus's format, and the file is whole."""

import stat
from datetime import timedelta

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from connectors import metrics
from connectors.acknowledged import Acknowledgement
from connectors.alarms import KINDS
from connectors.tables import Alarm, Cosigned, Figures, Followed, Identity
from schemas.encoding import format_time
from tests import builders

NOW = builders.NOW
FIGURES = Figures(
    identity=Identity("uz-nhrc", "log"),
    followed=Followed(120, b"", b"", 125, format_time(NOW - timedelta(minutes=1))),
    cosigned=Cosigned(110, b"", b""),
    sent={"accepted": 7, "pending": 2},
    waiting_receipts=4,
    inbox={"valid": 30, "expired": 1},
    last_position=32,
    first_gap=31,
    unanswered=3,
)


def alarm(number, kind):
    return Alarm(number, kind, str(number), format_time(NOW), "It is so.", b"{}", None)


ALARMS = [alarm(1, "log-forked"), alarm(2, "receipt-overdue"), alarm(3, "receipt-overdue")]
KNOWN = {3: Acknowledgement(3, format_time(NOW), "They know.", format_time(NOW))}


def text_of(figures=FIGURES, oldest=None):
    return metrics.text(figures, oldest, ALARMS, KNOWN, 5, NOW)


def families(text):
    return list(text_string_to_metric_families(text))


def samples(text):
    found = {}
    for family in families(text):
        for sample in family.samples:
            assert sample.labels.pop("member") == "uz-nhrc"
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_every_name_is_written_with_its_sentence():
    written = families(text_of())
    assert {family.name: family.documentation for family in written} == metrics.GAUGES
    assert {family.type for family in written} == {"gauge"}


def test_the_figures_are_those_of_the_store():
    oldest = format_time(NOW - timedelta(hours=2))
    shown = samples(text_of(oldest=oldest))
    assert {key: value for key, value in shown.items() if key[0] != "nhri_connector_alarms"} == {
        ("nhri_connector_sent_messages", "pending"): 2,
        ("nhri_connector_sent_messages", "accepted"): 7,
        ("nhri_connector_sent_messages", "refused"): 0,
        ("nhri_connector_outbox_oldest_seconds",): 7200,
        ("nhri_connector_receipts_waiting",): 4,
        ("nhri_connector_inbox_position",): 32,
        ("nhri_connector_inbox_gap",): 1,
        ("nhri_connector_witness_entries",): 110,
        ("nhri_connector_witness_lag_entries",): 10,
        ("nhri_connector_inbox_messages", "valid"): 30,
        ("nhri_connector_inbox_messages", "invalid"): 0,
        ("nhri_connector_inbox_messages", "expired"): 1,
        ("nhri_connector_inbox_messages", "erased"): 0,
        ("nhri_connector_answers_waiting",): 3,
        ("nhri_connector_alarms_unmailed",): 5,
        ("nhri_connector_log_entries",): 120,
        ("nhri_connector_log_behind_entries",): 5,
        ("nhri_connector_hub_seen_timestamp_seconds",): (NOW - timedelta(minutes=1)).timestamp(),
        ("nhri_connector_written_timestamp_seconds",): NOW.timestamp(),
    }


def test_alarms_are_counted_by_kind_and_apart_once_they_are_acknowledged():
    shown = samples(text_of())
    counts = {key[1:]: value for key, value in shown.items() if key[0] == "nhri_connector_alarms"}
    assert {key: value for key, value in counts.items() if value} == {
        ("log-forked", "critical", "open"): 1,
        ("receipt-overdue", "warning", "open"): 1,
        ("receipt-overdue", "warning", "acknowledged"): 1,
    }
    assert len(counts) == 2 * len(KINDS)


def test_before_the_log_was_ever_followed_nothing_is_said_of_it():
    shown = samples(text_of(replace(FIGURES, followed=None)))
    assert not {name for name, *_ in shown} & {
        "nhri_connector_log_entries",
        "nhri_connector_hub_seen_timestamp_seconds",
    }
    assert shown["nhri_connector_outbox_oldest_seconds",] == 0


def test_the_file_is_replaced_whole_and_readable_by_the_exporter(tmp_path):
    path = tmp_path / "nhri-kz.prom"
    metrics.write(path, "first\n")
    before = path.stat().st_ino
    metrics.write(path, "second\n")
    assert path.read_text() == "second\n"
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["nhri-kz.prom"]


def test_a_folder_that_is_missing_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        metrics.write(tmp_path / "missing" / "nhri-kz.prom", "text\n")
