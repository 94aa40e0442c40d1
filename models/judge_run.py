"""A finished run judged on events that came after it: its lists, its risks and its values, as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.dataset import Sequences
from models.evaluate import StateQuality, by_state, make_lists
from models.judge import read_silences, read_values
from models.list_quality import ListQuality, add_baselines, hold, judge_held
from models.objective import Objective, duration_ms, learnt_items
from models.risk_quality import (
    LeadTime,
    RiskQuality,
    allowed_by_model,
    allowed_by_rhythm,
    begun_in_span,
    judge_risk,
    lead_time,
)
from models.run import Run
from models.targets import latest_times
from models.validate import end_of
from models.value_quality import guess_values
from stream.config_load import load_config
from stream.core.rules import DAY_MS
from stream.errors import UsageError

#: Instants at which risks are asked for lie a week apart.
_ORIGINS_APART_MS = 7 * DAY_MS
#: Figures of lists in the record, and what they are called in `RivalQuality`.
LIST_FIGURES: Final = {
    "hit_rate_at_10": "hit_rate",
    "ndcg_at_10": "ndcg",
    "mrr_at_10": "mrr",
    "precision_at_10": "precision",
    "recall_at_10": "recall",
    **{name: name for name in ("coverage", "gini", "novelty", "diversity")},
}


def judge_lists(
    run: Run, data: Sequences, config: Path, from_ms: int
) -> tuple[ListQuality, dict[str, StateQuality], dict[str, Any], list[str]]:
    """Judge the lists and the baselines' from `from_ms` on; also returned are notes on what is left out."""
    kinds = sorted(load_config(config).events.recommend)
    candidates = run.recipe.rerank.candidates if run.recipe.rerank else 0
    made = make_lists(run.model, data, kinds, candidates)
    held = hold(made, data, from_ms)
    notes = add_baselines(held, data, kinds, from_ms)
    with torch.no_grad():
        vectors = run.model.items()[0][:-1].numpy()
    quality, states = (
        judge_held(held, len(data.item_ids), np.array(run.sold), vectors),
        by_state(made, from_ms),
    )
    figures: dict[str, Any] = {"baskets": quality.baskets, "users": quality.users}
    for name, part in LIST_FIGURES.items():
        figures[name] = {
            rival: np.round(getattr(found, part), 5).tolist() for rival, found in quality.rivals.items()
        }
    figures["by_lifecycle"] = {
        state: {"baskets": found.baskets, "hit_rate_at_10": round(found.listed[0], 5),
                "ndcg_at_10": round(found.listed[1], 5)}
        for state, found in states.items()
    }  # fmt: skip
    return quality, states, figures, notes


def judge_risks(
    run: Run, data: Sequences, config: Path, from_ms: int
) -> tuple[RiskQuality, dict[str, LeadTime], dict[str, Any]]:
    """Judge the hazard head. Raises UsageError if the span is shorter than the horizon."""
    loaded, end_ms = load_config(config), end_of(data)
    assert run.recipe.hazard is not None
    horizon_ms = duration_ms(run.recipe.hazard.horizon, "hazard.horizon")
    origins = list(range(from_ms, end_ms - horizon_ms + 1, _ORIGINS_APART_MS))
    if not origins:
        raise UsageError(
            "the span is shorter than the hazard's horizon",
            place="--from",
            remedy="judge from earlier on, or train with a shorter hazard.horizon",
        )
    asked = ask_everything(run, data)
    silent = read_silences(run.model, asked)
    with torch.no_grad():
        said = run.model.hazard(silent.y).numpy()
    hazard = np.zeros((len(data.item), said.shape[1]), np.float32)
    hazard[silent.event] = said
    bins_ms = np.array(run.model.config.hazard_bins_ms, np.int64)
    risk = judge_risk(data, asked.silences, hazard, bins_ms, horizon_ms, origins)
    dormant_after_ms = loaded.lifecycle.dormant_after_ms
    in_span = begun_in_span(asked.silences, latest_times(data), from_ms, end_ms, dormant_after_ms)
    leads = {
        name: lead_time(asked.silences, in_span, after, dormant_after_ms)
        for name, after in (
            ("hazard head", allowed_by_model(hazard, bins_ms, loaded)),
            ("own rhythm", allowed_by_rhythm(data, loaded)),
        )
    }
    figures = {
        "horizon_ms": horizon_ms,
        "questions": sum(count for _, _, count in risk.reliability),
        "base_rate": round(risk.base_rate, 5),
        "auc": np.round(risk.auc, 5).tolist(),
        "auc_recency": np.round(risk.auc_recency, 5).tolist(),
        "pr_auc": round(risk.pr_auc, 5),
        "brier": round(risk.brier, 5),
        "brier_base_rate": round(risk.brier_base_rate, 5),
        "lead_time": {name: {"silences": lead.silences, "found": _known(lead.found, 4),
                             "wrong": _known(lead.wrong, 4), "days": _known(lead.lead_days, 2)}
                      for name, lead in leads.items()},
    }  # fmt: skip
    return risk, leads, figures


def judge_values(run: Run, data: Sequences, from_ms: int) -> dict[str, dict[str, Any]]:
    """Return MAE and RMSE of the values from `from_ms` on, beside those of what needs no model."""
    asked = ask_everything(run, data)
    event, said, true = read_values(run.model, asked)
    assert run.recipe.value is not None
    shift = 1 if run.recipe.value.of == "item" else 0
    later = data.time_ms[event + shift] >= from_ms
    if not later.any():
        raise UsageError("no value is known in the span", place="--from", remedy="judge from earlier on")
    until_ms = from_ms if run.record.until_ms is None else run.record.until_ms
    guesses = guess_values(asked, run.recipe.value, event[later], run.model.config.value_mean, until_ms)
    return {
        name: _errors(guess, true[later]) for name, guess in {"value head": said[later], **guesses}.items()
    }


def ask_everything(run: Run, data: Sequences) -> Objective:
    """Return the questions of the run's recipe about all of the data."""
    everything = np.ones(len(data.item), np.bool_)
    return Objective(data, run.recipe, learnt_items(data, 0), everything, end_of(data))


def _known(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(value, digits)


def _errors(said: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    error = said.astype(np.float64) - true
    return {
        "values": len(true),
        "MAE": float(np.abs(error).mean()),
        "RMSE": float(np.sqrt((error**2).mean())),
    }
