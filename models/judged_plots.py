"""The plots of `evaluate`: one for each table that it prints, in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluate import StateQuality
from models.judge_last import FILTERS, LastQuality
from models.list_quality import ListQuality
from models.plots import Bar, plot_bars, plot_reliability
from models.risk_quality import LeadTime, RiskQuality
from models.run import RELIABILITY

LISTS, LISTS_BY_STATE = "lists.svg", "lists-by-state.svg"
LAST, LAST_BY_STATE = "leave-one-out.svg", "leave-one-out-by-state.svg"
RISK, LEAD_TIME = "risk.svg", "lead-time.svg"
VALUES = "values.svg"


def plot_last(folder: Path, found: LastQuality) -> list[Path]:
    """Draw NDCG@10 of the model and the baselines, and the model's by lifecycle state."""
    paths = [folder / LAST]
    plot_bars(paths[0], _by_filter(found.rows), "NDCG@10", "everyone's last item")
    if found.states:
        paths.append(folder / LAST_BY_STATE)
        plot_bars(paths[1], _by_filter(found.states), "NDCG@10", "everyone's last item, by state")
    return paths


def plot_lists(folder: Path, quality: ListQuality, states: Mapping[str, StateQuality]) -> list[Path]:
    """Draw NDCG@10 of every rival, and of the model and "buy again" by lifecycle state."""
    paths = [folder / LISTS, folder / LISTS_BY_STATE]
    rows: dict[str, Bar] = {name: found.ndcg for name, found in quality.rivals.items()}
    plot_bars(paths[0], {"": rows}, "NDCG@10", "lists")
    series: dict[str, dict[str, Bar]] = {
        "the model": {state: found.listed[1] for state, found in states.items()},
        "buy again": {state: found.buy_again[1] for state, found in states.items()},
    }
    plot_bars(paths[1], series, "NDCG@10", "lists, by the user's state")
    return paths


def plot_risk(folder: Path, risk: RiskQuality, leads: Mapping[str, LeadTime]) -> list[Path]:
    """Draw the AUC, the reliability, and how long before `dormant` users were called at risk."""
    paths = [folder / RISK, folder / RELIABILITY, folder / LEAD_TIME]
    rows: dict[str, Bar] = {"hazard head": risk.auc, "recency alone": risk.auc_recency, "base rate": 0.5}
    plot_bars(paths[0], {"": rows}, "AUC", "risk")
    plot_reliability(paths[1], risk.reliability, "reliability of the risk")
    days: dict[str, Bar] = {name: lead.lead_days for name, lead in leads.items()}
    plot_bars(paths[2], {"": days}, "days before dormant", "lead time")
    return paths


def plot_values(folder: Path, rows: Mapping[str, Mapping[str, Any]]) -> list[Path]:
    """Draw MAE and RMSE of every row."""
    series: dict[str, dict[str, Bar]] = {
        measure: {name: row[measure] for name, row in rows.items()} for measure in ("MAE", "RMSE")
    }
    plot_bars(folder / VALUES, series, "error", "values")
    return [folder / VALUES]


def _by_filter(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Bar]]:
    """Return NDCG@10 with its interval by what was ranked and by name; rows are called "name, what"."""
    names = dict.fromkeys(row.rpartition(", ")[0] for row in rows)
    return {words: {name: _ndcg(rows.get(f"{name}, {words}")) for name in names} for words in FILTERS}


def _ndcg(row: Mapping[str, Any] | None) -> Bar:
    return np.nan if row is None else (row["ndcg10"], row["ndcg10_low"], row["ndcg10_high"])
