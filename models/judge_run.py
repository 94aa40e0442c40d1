"""A finished run judged on events that came after it: its lists, its risks and its values, as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.baselines import Popularity
from models.clean import clean
from models.dataset import Sequences
from models.evaluate import StateQuality, evaluate_baskets
from models.judge import read_silences, read_values
from models.objective import Objective, duration_ms, learnt_items
from models.ranking import ModelScorer, Scorer, ask_last, rank, summarise
from models.risk_quality import (
    LeadTime,
    RiskQuality,
    allowed_by_model,
    allowed_by_rhythm,
    judge_risk,
    lead_time,
)
from models.run import Run
from models.targets import latest_times
from models.validate import end_of
from stream.config_load import load_config
from stream.core.rules import DAY_MS
from stream.demo.quality import RIVALS, Quality
from stream.errors import UsageError

#: Instants at which risks are asked for lie a week apart.
_ORIGINS_APART_MS = 7 * DAY_MS


def judge_lists(
    run: Run, data: Sequences, config: Path, from_ms: int
) -> tuple[Quality, dict[str, StateQuality], dict[str, Any]]:
    kinds = sorted(load_config(config).events.recommend)
    candidates = run.recipe.rerank.candidates if run.recipe.rerank else 0
    quality, states = evaluate_baskets(run.model, data, kinds, from_ms, candidates)
    figures: dict[str, Any] = {"baskets": quality.baskets, "users": quality.users}
    for name, estimates in (("hit_rate_at_10", quality.hit_rate), ("ndcg_at_10", quality.ndcg)):
        figures[name] = {rival: np.round(estimates[rival], 5).tolist() for rival in RIVALS}
    figures["by_lifecycle"] = {
        state: {"baskets": found.baskets, "hit_rate_at_10": round(found.listed[0], 5),
                "ndcg_at_10": round(found.listed[1], 5)}
        for state, found in states.items()
    }  # fmt: skip
    return quality, states, figures


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
    in_span = asked.silences.known & (latest_times(data) >= from_ms - loaded.lifecycle.dormant_after_ms)
    leads = {
        name: lead_time(asked.silences, in_span, after, loaded.lifecycle.dormant_after_ms)
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
        "lead_time": {name: {"found": round(lead.found, 4), "wrong": round(lead.wrong, 4),
                             "days": None if np.isnan(lead.lead_days) else round(lead.lead_days, 2)}
                      for name, lead in leads.items()},
    }  # fmt: skip
    return risk, leads, figures


def judge_values(run: Run, data: Sequences, from_ms: int) -> dict[str, dict[str, Any]]:
    """Return MAE and RMSE of the values from `from_ms` on, beside those of the mean in training."""
    asked = ask_everything(run, data)
    event, said, true = read_values(run.model, asked)
    assert run.recipe.value is not None
    shift = 1 if run.recipe.value.of == "item" else 0
    later = data.time_ms[event + shift] >= from_ms
    if not later.any():
        raise UsageError("no value is known in the span", place="--from", remedy="judge from earlier on")
    true, said = true[later], said[later]
    mean = np.full(len(true), run.model.config.value_mean)
    return {name: _errors(guess, true) for name, guess in (("value head", said), ("mean in training", mean))}


def judge_last(run: Run, data: Sequences) -> dict[str, dict[str, Any]]:
    """Rank everyone's last item among all, and among those that the user had not had, beside popularity.

    Raises UsageError if the run learnt from these events, or the data are not those of the run.
    """
    if not run.record.last_left_out:
        raise UsageError("the model was trained on everyone's last event", remedy="fit with --last")
    data = clean(data, run.recipe.cleaning)[0]
    asked = ask_last(data)
    if data.item_ids != run.item_ids or asked.known.fingerprint() != run.record.fingerprint:
        raise UsageError("these are not the data of the run", remedy="give the file that it was trained on")
    rows: dict[str, dict[str, Any]] = {}
    name = run.model.config.encoder + (" + co-occurrence" if run.model.near else "")
    name += " + repeats" if run.model.repeats else ""
    scorers: dict[str, Scorer] = {
        name: ModelScorer(run.model, run.recipe.length_max),
        "popularity": Popularity(asked.known),
    }
    for name, scorer in scorers.items():
        for unseen, words in ((False, "all items"), (True, "unseen only")):
            ranked = rank(scorer, asked, unseen=unseen)
            found = summarise(ranked, len(data.item_ids), np.array(run.sold))
            chosen = ("hr5", "ndcg5", "hr10", "ndcg10", "mrr", "coverage", "gini", "novelty")
            rows[f"{name}, {words}"] = {"users": len(asked.answer)} | {
                key: round(float(found[key]), 5) for key in chosen
            }
    return rows


def ask_everything(run: Run, data: Sequences) -> Objective:
    """Return the questions of the run's recipe about all of the data."""
    everything = np.ones(len(data.item), np.bool_)
    return Objective(data, run.recipe, learnt_items(data, 0), everything, end_of(data))


def _errors(said: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    error = said.astype(np.float64) - true
    return {
        "values": len(true),
        "MAE": float(np.abs(error).mean()),
        "RMSE": float(np.sqrt((error**2).mean())),
    }
