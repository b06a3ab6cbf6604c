"""The Grafana dashboard of ``deploy/grafana``: one row of panels for each step of the path."""

import json

import msgspec

WIDTH = 24
"""Columns of Grafana's grid."""

HEIGHT = 8

Json = dict[str, object]


class Panel(msgspec.Struct, frozen=True):
    """A graph: its title, the unit of its axis, and queries by legend."""

    title: str
    unit: str
    queries: dict[str, str]


def _quantiles(name: str, range_: str = "5m") -> dict[str, str]:
    rate = f"sum by (le) (rate({name}_bucket[{range_}]))"
    return {f"p{p}": f"histogram_quantile({p / 100}, {rate})" for p in (50, 99)}


ROWS: dict[str, tuple[Panel, ...]] = {
    "Is all well?": (
        Panel("Hubs that answer", "short", {"up": 'sum(up{job="nhri-hub"})'}),
        Panel(
            "Store failing, broker away",
            "short",
            {
                "store failing": "max(nhri_hub_store_failing)",
                "{{link}} away": "1 - min by (link) (nhri_hub_broker_connected)",
                "broker's alarm": "max(nhri_hub_broker_blocked)",
            },
        ),
        Panel("Free disk", "bytes", {"{{instance}}": "nhri_hub_disk_free_bytes"}),
        Panel(
            "Memory",
            "bytes",
            {"{{instance}}": 'process_resident_memory_bytes{job="nhri-hub"}'},
        ),
    ),
    "Witnesses": (
        Panel(
            "Entries that wait for a quorum",
            "short",
            {
                "waiting": "max(nhri_hub_quorum_lag_entries)",
                "signing stopped": "max(nhri_hub_signing_stopped)",
            },
        ),
        Panel(
            "The log and its quorum",
            "short",
            {"entries": "max(nhri_hub_log_entries)", "quorum": "max(nhri_hub_quorum_entries)"},
        ),
        Panel(
            "Entries that a witness is behind by",
            "short",
            {"{{member}}": "max by (member) (nhri_hub_witness_lag_entries)"},
        ),
    ),
    "Submissions": (
        Panel(
            "Messages a second",
            "reqps",
            {"{{outcome}}": "sum by (outcome) (rate(nhri_hub_submissions_total[5m]))"},
        ),
        Panel(
            "Refusals in an hour, by reason",
            "short",
            {
                "{{reason}}": "sum by (reason) "
                '(increase(nhri_hub_submissions_total{outcome="refused"}[1h]))'
            },
        ),
        Panel("From the door to the answer", "s", _quantiles("nhri_hub_submission_seconds")),
        Panel("Opening an envelope", "s", _quantiles("nhri_hub_open_seconds")),
    ),
    "Recording": (
        Panel("One commit", "s", _quantiles("nhri_hub_commit_seconds")),
        Panel(
            "Commits a second, and entries in one",
            "short",
            {
                "commits": "sum(rate(nhri_hub_commit_seconds_count[5m]))",
                "failed": "sum(rate(nhri_hub_commits_failed_total[5m]))",
                "entries": "sum(rate(nhri_hub_commit_entries_sum[5m]))"
                " / sum(rate(nhri_hub_commit_entries_count[5m]))",
            },
        ),
        Panel(
            "Waiting for the recorder",
            "short",
            {
                "requests": "sum(nhri_hub_requests_waiting)",
                "oldest, seconds": "max(nhri_hub_requests_oldest_seconds)",
            },
        ),
        Panel(
            "The log",
            "short",
            {
                "entries": "max(nhri_hub_log_entries)",
                "checked": "max(nhri_hub_verified_entries)",
            },
        ),
    ),
    "Delivery": (
        Panel("Copies without a receipt", "short", {"{{member}}": "nhri_hub_inbox_copies"}),
        Panel("Age of the oldest of them", "s", {"{{member}}": "nhri_hub_inbox_oldest_seconds"}),
        Panel("Of them on the broker", "short", {"{{member}}": "nhri_hub_broker_outstanding"}),
        Panel(
            "Copies and receipts a second",
            "short",
            {
                "copies": "sum(rate(nhri_hub_copies_total[5m]))",
                "receipted": "sum(rate(nhri_hub_receipted_copies_total[5m]))",
                "receipts": 'sum(rate(nhri_hub_receipts_total{outcome="accepted"}[5m]))',
            },
        ),
    ),
    "On the broker": (
        Panel("From a copy to the broker's confirm", "s", _quantiles("nhri_hub_publish_seconds")),
        Panel(
            "Publishes a second, by outcome",
            "short",
            {"{{outcome}}": "sum by (outcome) (rate(nhri_hub_publishes_total[5m]))"},
        ),
        Panel("In its queues", "short", {"{{queue}}": "max by (queue) (nhri_hub_queue_messages)"}),
        Panel(
            "From an acceptance to its receipt",
            "s",
            _quantiles("nhri_hub_receipt_seconds", "1h"),
        ),
    ),
    "Webhooks": (
        Panel(
            "Messages that wait or were set aside",
            "short",
            {"{{state}}": "max by (state) (nhri_hub_webhooks)"},
        ),
        Panel(
            "Messages a second, by outcome",
            "short",
            {"{{outcome}}": "sum by (outcome) (rate(nhri_hub_webhooks_done_total[5m]))"},
        ),
        Panel(
            "Posts a second, by what they came to",
            "short",
            {"{{outcome}}": "sum by (outcome) (rate(nhri_hub_webhook_attempt_seconds_count[5m]))"},
        ),
        Panel("One post", "s", _quantiles("nhri_hub_webhook_attempt_seconds")),
        Panel(
            "Subscriptions by state of their endpoint",
            "short",
            {"{{state}}": "max by (state) (nhri_hub_webhook_endpoints)"},
        ),
    ),
    "Doors and members": (
        Panel(
            "HTTP answers a second, by status",
            "reqps",
            {"{{status}}": "sum by (status) (rate(nhri_hub_http_requests_total[5m]))"},
        ),
        Panel(
            "Quarantined, and connections to the broker",
            "short",
            {
                "quarantined": "sum(nhri_hub_quarantined_total)",
                "{{link}}": "sum by (link) (nhri_hub_broker_connections_total)",
            },
        ),
        Panel(
            "Participants by state",
            "short",
            {"{{state}}": "max by (state) (nhri_hub_participants)"},
        ),
        Panel(
            "Days left of certificates",
            "short",
            {"{{member}}": "min by (member) (nhri_hub_certificate_days_left)"},
        ),
    ),
}


def render() -> bytes:
    """The document for Grafana."""
    panels: list[Json] = []
    top = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "panels": []}
        )
        width = WIDTH // len(row)
        for column, panel in enumerate(row):
            place = {"h": HEIGHT, "w": width, "x": column * width, "y": top + 1}
            panels.append(_panel(len(panels) + 1, panel, place))
        top += 1 + HEIGHT
    document = {
        "uid": "nhri-exchange",
        "title": "NHRI exchange",
        "description": "The path of a message through the hub, step by step.",
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "tags": ["nhri-exchange"],
        "panels": panels,
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _panel(number: int, panel: Panel, place: dict[str, int]) -> Json:
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": source,
                "expr": query,
                "legendFormat": legend,
            }
            for n, (legend, query) in enumerate(panel.queries.items())
        ],
    }
