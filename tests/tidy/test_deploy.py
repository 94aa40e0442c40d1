"""What is deployed must speak of what is there: metrics by name, alerts with an entry in the runbook."""

from __future__ import annotations

import json
import re

from stream.metrics import METRICS
from tests.tidy.tree import ROOT

SUFFIXES = ("_bucket", "_sum", "_count")


def _known(name: str) -> bool:
    base = name
    for suffix in SUFFIXES:
        base = base.removesuffix(suffix)
    names = {metric.name for metric in METRICS}
    return name in names or base in names


def _metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bebbtide_[a-z_]+\b", text))


def test_alerts_and_dashboard_name_metrics_that_exist() -> None:
    texts = [
        (ROOT / "deploy/prometheus/alerts.yml").read_text(),
        (ROOT / "deploy/grafana/ebbtide.json").read_text(),
    ]
    named = set().union(*map(_metrics_in, texts))
    assert len(named) > 10
    assert [name for name in sorted(named) if not _known(name)] == []


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text())
    runbook = (ROOT / "docs/runbook.md").read_text()
    assert alerts
    assert [alert for alert in alerts if f"## {alert}\n" not in runbook] == []


def test_the_dashboard_is_one_that_grafana_can_read() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/ebbtide.json").read_text())
    assert {panel["type"] for panel in dashboard["panels"]} == {"timeseries"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
