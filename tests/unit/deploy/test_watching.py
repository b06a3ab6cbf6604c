"""Alerts, dashboard and runbooks: every name exists, every alert says what to do."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from connectors import certificate, daemon
from connectors import metrics as connector_metrics
from connectors.alarms import KINDS
from connectors.config import ReceiptsConfig
from hub import authority, upkeep
from hub import metrics as hub_metrics
from hub.delivery import broker, publisher, schedule
from hub.intake import recorder
from schemas import amqp
from schemas.refusal import REFUSALS

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "deploy/runbooks"
ALERTS_FILE = ROOT / "deploy/prometheus/alerts.yaml"
GROUPS = yaml.safe_load(ALERTS_FILE.read_text(encoding="utf-8"))["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"]]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
SERIES = hub_metrics.series() | set(connector_metrics.GAUGES)
SECTIONS = ["What it means", "What to look at", "What to do"]
PROMETHEUS_OWN = {"up", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}

# What may stand in a query beside names of series.
WORDS = {
    *(
        "by",
        "and",
        "or",
        "le",
        "sum",
        "max",
        "min",
        "rate",
        "increase",
        "time",
        "histogram_quantile",
    ),
    *("predict_linear", "max_over_time"),
}


def names(query: str) -> set[str]:
    """The names of series in a query."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\bby\s*\([^)]*\)", " ", query)
    return set(re.findall(r"\b[a-z_][a-z0-9_]*\b", bare)) - WORDS


@pytest.mark.parametrize("query", [*(alert["expr"] for alert in ALERTS), *QUERIES])
def test_a_query_asks_for_what_is_measured(query):
    assert names(query)
    assert names(query) <= SERIES | PROMETHEUS_OWN


def test_a_name_that_is_not_measured_is_noticed():
    assert names('sum by (x) (rate(nhri_hub_gone_total{a="b"}[5m])) > 0') == {"nhri_hub_gone_total"}
    assert "nhri_hub_gone_total" not in SERIES


def test_labels_in_queries_are_labels_of_what_is_measured():
    known = {
        label
        for table in (hub_metrics.COUNTERS, hub_metrics.HISTOGRAMS, hub_metrics.GAUGES)
        for row in table.values()
        for label in row.labels
    }
    known |= {"member", "state", "severity", "kind", "job", "instance", "le"}
    queries = [*QUERIES, *(alert["expr"] for alert in ALERTS)]
    used = {label for query in queries for label in re.findall(r'(\w+)=~?"', query)}
    used |= {
        label.strip()
        for query in queries
        for inner in re.findall(r"\bby \(([^)]*)\)", query)
        for label in inner.split(",")
    }
    assert used <= known


def test_reasons_that_alerts_look_for_exist():
    reasons = {
        reason
        for alert in ALERTS
        for found in re.findall(r'reason=~?"([^"]*)"', alert["expr"])
        for reason in found.split("|")
    }
    assert {"busy", "storage", "quota"} <= reasons <= REFUSALS.keys()


def test_kinds_of_alarm_that_alerts_look_for_exist():
    kinds = {
        kind
        for alert in ALERTS
        for found in re.findall(r'nhri_connector_alarms\{kind=~?"([^"]*)"', alert["expr"])
        for kind in found.split("|")
    }
    assert {"receipt-overdue", "recipient-missing", "own-keys"} <= kinds <= KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_alarm_is_in_the_runbook_that_it_names(kind):
    text = (RUNBOOKS / f"{KINDS[kind].runbook}.md").read_text(encoding="utf-8")
    assert f"`{kind}`" in text


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_it_is_in_one_sentence_and_names_its_runbook(alert):
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"]
    runbook = ROOT / alert["annotations"]["runbook"]
    assert runbook.parent == RUNBOOKS
    title = runbook.read_text(encoding="utf-8").splitlines()[0]
    assert alert["alert"] in re.split(r"[# ,]+", title)


def test_alerts_have_names_of_their_own():
    named = [alert["alert"] for alert in ALERTS]
    assert len(set(named)) == len(named)


def test_every_runbook_belongs_to_an_alert_a_start_that_fails_or_a_restore():
    of_alerts = {Path(alert["annotations"]["runbook"]).name for alert in ALERTS}
    of_starts = {"hub-does-not-start.md", "connector-does-not-start.md"}
    assert {path.name for path in RUNBOOKS.iterdir()} == of_alerts | of_starts | {"restore.md"}


@pytest.mark.parametrize("runbook", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_what_to_look_at_and_what_to_do_with_commands(runbook):
    text = runbook.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    # Whether nhri-hub and nhri-connector know them, tests/architecture/test_documents.py looks.
    assert re.search(r"^```sh\n\S", text, re.MULTILINE)


FIGURES = (
    ("broker-away", "five seconds", 5, broker.LONGEST_PAUSE),
    ("certificate-ends", "fewer than 30 days", timedelta(days=30), certificate.RENEW),
    ("certificate-ends", "in its last 397 days", timedelta(days=397), authority.CERTIFICATE_LIFE),
    ("certificate-ends", "for ten years", timedelta(days=3650), authority.AUTHORITY_LIFE),
    ("certificate-ends", "within half a minute", True, upkeep.ROUND_SECONDS <= 30),
    ("certificate-ends", "within a day", timedelta(days=1), certificate.AGAIN),
    ("connector-hub-away", "after a day", timedelta(days=1), daemon.AWAY),
    ("connector-mail-waiting", "every five minutes", 300, daemon.Pace().longest),
    ("connector-webhook-failing", "for three days", timedelta(days=3), schedule.WARN_AFTER),
    ("connector-webhook-failing", "after five", timedelta(days=5), schedule.DISABLE_AFTER),
    ("connector-webhook-failing", "a quarter of an hour", 900, daemon.Pace().webhooks),
    ("hub-busy", "2,048 requests", 2_048, recorder.MAX_WAITING),
    ("hub-upkeep-stale", "every 20 seconds", 20, upkeep.ROUND_SECONDS),
    ("inbox-full", "a minute of silence", 60, publisher.SILENT_SECONDS),
    ("inbox-unread", "72 hours", 72, ReceiptsConfig().overdue_hours),
    ("webhooks-failing", "three days", timedelta(days=3), schedule.WARN_AFTER),
    ("webhooks-failing", "five days", timedelta(days=5), schedule.DISABLE_AFTER),
    ("webhooks-failing", "ten attempts", 10, len(schedule.RETRIES) + 1),
)
"""A runbook, how it says a figure, which one that is, and where the code has it."""


@pytest.mark.parametrize(("runbook", "said", "figure", "so"), FIGURES)
def test_a_figure_in_a_runbook_is_the_code_s(runbook, said, figure, so):
    text = (RUNBOOKS / f"{runbook}.md").read_text(encoding="utf-8")
    assert said in " ".join(text.split())
    assert so == figure


def start_errors() -> Iterator[str]:
    """Every sentence with which the hub refuses to start; ``X`` stands for what differs."""
    for path in sorted((ROOT / "hub").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "StartError":
                [said] = node.args
                if isinstance(said, ast.Constant):
                    yield str(said.value)
                elif isinstance(said, ast.JoinedStr):
                    yield "".join(
                        str(part.value) if isinstance(part, ast.Constant) else "X"
                        for part in said.values
                    )


def test_every_sentence_of_a_start_that_fails_is_in_the_runbook():
    text = (RUNBOOKS / "hub-does-not-start.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?!sentence|-)(.+?) \| .+ \|$", text, re.MULTILINE)
    patterns = [re.compile(".+".join(map(re.escape, row.split("…")))) for row in rows]
    sentences = list(start_errors())
    assert len(sentences) > 20
    assert [s for s in sentences if not any(p.match(s) for p in patterns)] == []


def test_the_dashboard_fits_its_grid():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)


def test_every_step_of_the_path_is_on_the_dashboard_or_has_an_alert():
    shown = set().union(*(names(query) for query in QUERIES))
    alarmed = set().union(*(names(alert["expr"]) for alert in ALERTS))
    unused = {
        name
        for name in {
            *hub_metrics.GAUGES,
            *(f"{n}_total" for n in hub_metrics.COUNTERS),
            *(f"{n}_bucket" for n in hub_metrics.HISTOGRAMS),
        }
        if name not in shown | alarmed
    }
    # Which version runs, and when the last checkpoint was, are asked for by hand; of entries in a
    # commit the mean is shown.
    assert unused == {
        "nhri_hub_build_info",
        "nhri_hub_checkpoint_timestamp_seconds",
        "nhri_hub_commit_entries_bucket",
    }


def test_queues_that_alerts_look_at_are_the_broker_s():
    named = [re.search(r'queue="([^"]*)"', alert["expr"]) for alert in ALERTS]
    asked = {found[1] for found in named if found}
    assert asked == {amqp.QUARANTINE, amqp.SUBMISSIONS_QUEUE}


def test_an_alert_for_the_quarantine_lasts_as_long_as_something_is_in_it():
    [alert] = [alert for alert in ALERTS if alert["alert"] == "SubmissionQuarantined"]
    assert alert["expr"] == 'max(nhri_hub_queue_messages{queue="quarantine"}) > 0'


def test_a_certificate_s_end_alerts_on_the_days_on_which_the_hub_warns():
    queries = [alert["expr"] for alert in ALERTS if "certificate" in alert["expr"]]
    assert queries == [f"nhri_hub_certificate_days_left <= {days}" for days in authority.WARN_DAYS]


def test_prometheus_reads_the_alerts_and_the_hub():
    path = ROOT / "deploy/prometheus/prometheus.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert settings["rule_files"] == [ALERTS_FILE.name]
    jobs = {job["job_name"] for job in settings["scrape_configs"]}
    asked = set(re.findall(r'job="([^"]*)"', " ".join([*QUERIES, *(a["expr"] for a in ALERTS)])))
    assert asked == jobs == {"nhri-hub"}


@pytest.mark.parametrize("path", sorted((ROOT / "deploy/grafana").rglob("*.yaml")), ids=str)
def test_grafana_s_provisioning_is_of_the_version_it_knows(path):
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["apiVersion"] == 1


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not on this machine, `make test` installs it: queries are not parsed",
)
def test_prometheus_understands_every_query(tmp_path):
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(QUERIES)]
    dashboard = tmp_path / "dashboard.yaml"
    dashboard.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    for path in (ALERTS_FILE, dashboard):
        checked = subprocess.run(
            ["promtool", "check", "rules", path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
