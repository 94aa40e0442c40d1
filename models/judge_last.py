"""Leave-one-out: where everyone's last item stands, for a finished run and the baselines beside it.

All items compete, none is sampled; or all that the user had not had, and then those users are asked about
whose last item was new to them: were an item that they had let in because it is right, whoever scores own
items high would be praised for it. All but the last events are known, to the model and to the baselines
alike. With one right item recall@K is HR@K.
Intervals are 95 % percentile bootstraps over users; diversity is that of the model's own item vectors, in
every row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from models import metrics
from models.baselines import Popularity
from models.clean import clean
from models.dataset import Sequences
from models.evaluate import states_of
from models.ranking import Asked, ModelScorer, Ranked, ask_last, rank, summarise
from models.rivals import POPULARITY, Maker, everyone
from models.run import Run
from models.sequences import without_last
from models.validate import number_users
from stream.core.lifecycle import STATES
from stream.errors import UsageError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: What the lists are made of, and the words for it.
FILTERS: Final = {"all items": False, "unseen only": True}
_BEFORE: Final = ("hr5", "ndcg5", "hr10", "ndcg10")
_AFTER: Final = ("mrr", "precision10", "recall10", "coverage", "gini", "novelty")


class LastQuality(NamedTuple):
    rows: dict[str, dict[str, Any]]
    states: dict[str, dict[str, Any]]  # the model's, by lifecycle state; none without such features
    notes: list[str]  # what is left out


def judge_last(
    run: Run, data: Sequences, *, baselines: bool = True, tell: Callable[[str], None] = lambda name: None
) -> LastQuality:
    """Rank everyone's last item by the model and the baselines, or by popularity alone beside it.

    Raises UsageError if the run learnt from these events, or the data are not those of the run. tell: is
    called with the name of what is judged next.
    """
    learnt, asked = ask_run(run, data)
    candidates = run.recipe.rerank.candidates if run.recipe.rerank else 0
    rivals, notes = everyone(run.recipe.seed) if baselines else ({POPULARITY: Popularity}, [])
    ours = name_of(run)
    makers: dict[str, Maker] = {ours: lambda known: ModelScorer(run.model, candidates=candidates), **rivals}
    with torch.no_grad():
        vectors = run.model.items()[0][:-1].numpy()
    rows: dict[str, dict[str, Any]] = {}
    states: dict[str, dict[str, Any]] = {}
    questions = {words: of_new(asked) if unseen else asked for words, unseen in FILTERS.items()}
    for name, make in makers.items():
        tell(name)
        scorer = make(learnt)
        for words, some in questions.items():
            if not len(some.answer):
                continue
            ranked = rank(scorer, some, unseen=FILTERS[words])
            rows[f"{name}, {words}"] = figures_of(ranked, some.known, vectors, np.array(run.sold))
            if name == ours:
                for state, row in by_state(ranked, some.known).items():
                    states[f"{state}, {words}"] = row
    return LastQuality(rows, states, notes)


def ask_run(run: Run, data: Sequences) -> tuple[Sequences, Asked]:
    """Return what the run learnt from, and the questions: what was known of each user, and what came last."""
    if not run.record.last_left_out:
        raise UsageError("the model was trained on everyone's last event", remedy="fit with --last")
    if run.record.until_ms is not None:
        data = data.before(run.record.until_ms)
    data = clean(data, run.recipe.cleaning)[0]
    learnt, asked = without_last(data), ask_last(data)
    if data.item_ids != run.item_ids or learnt.fingerprint() != run.record.fingerprint:
        raise UsageError("these are not the data of the run", remedy="give the file that it was trained on")
    if not len(asked.answer):
        raise UsageError("nobody's last event has an item", remedy="judge with --from")
    return learnt, asked


def of_new(asked: Asked) -> Asked:
    """Return the questions of the users who had not had their last item before."""
    known, users = asked.known, np.arange(asked.known.users)
    had = np.bincount(known.per_event(users), known.item == known.per_event(asked.answer), len(users)) > 0
    return Asked(known.keep(known.per_event(~had)), asked.answer[~had])


def name_of(run: Run) -> str:
    name: str = run.model.config.encoder + (" + co-occurrence" if run.model.near else "")
    return name + (" + repeats" if run.model.repeats else "")


def figures_of(
    ranked: Ranked, known: Sequences, vectors: metrics.Array, sold: metrics.Array
) -> dict[str, Any]:
    """Return the figures of a row: as many users, all measures of their lists, and how sure NDCG@10 is."""
    found = summarise(ranked, len(known.item_ids), sold)
    sure = over_users(metrics.ndcg(ranked.chosen), number_users(known))
    figures = {key: found[key] for key in _BEFORE} | {"ndcg10_low": sure.low, "ndcg10_high": sure.high}
    figures |= {key: found[key] for key in _AFTER}
    figures["diversity"] = metrics.diversity(ranked.lists, vectors)
    return {"users": len(ranked.rank)} | {key: round(float(value), 5) for key, value in figures.items()}


def by_state(ranked: Ranked, known: Sequences) -> dict[str, dict[str, Any]]:
    """Return figures by the lifecycle state after the last known event; none if no feature says it."""
    if not any(name.startswith("lifecycle=") for name in known.feature_names):
        return {}
    last = np.zeros(len(known.item), np.bool_)
    last[known.start[1:] - 1] = True
    found = states_of(known.keep(last))
    state = np.array([found[user] for user in range(known.users)])
    whose, rows = number_users(known), {}
    for name in STATES:
        if not (there := state == name).any():
            continue
        ranks = ranked.chosen[there]
        sure = over_users(metrics.ndcg(ranks), whose[there])
        figures = {
            "hr10": float(metrics.hit_rate(ranks).mean()),
            "ndcg10": sure.value,
            "ndcg10_low": sure.low,
            "ndcg10_high": sure.high,
            "mrr": float(metrics.reciprocal_rank(ranks).mean()),
        }
        rows[name] = {"users": len(ranks)} | {key: round(value, 5) for key, value in figures.items()}
    return rows


def over_users(values: Floats, whose: Ints) -> metrics.Estimate:
    """Return the mean with its interval, resampled by user: one who came back has several values."""
    whose = np.unique(whose, return_inverse=True)[1]
    sums, counts = np.bincount(whose, values), np.bincount(whose).astype(np.float64)
    return metrics.bootstrap((sums, counts), lambda some, of: float(some.sum() / of.sum()))
