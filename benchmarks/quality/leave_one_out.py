"""Leave-one-out on item sequences: everyone's last item is asked for, the one before it chooses.

Trained is on all but the last two items of each user; settings, the epoch and the blend's weight are chosen
by the second last; the test shows the model all but the last. Every item of the catalogue is ranked. Where
users do not take an item twice, those they had are taken out, as published figures have it; the other figure
stands beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import torch

from benchmarks.quality.table import Result, Row, Stopwatch
from models import metrics
from models.baselines import Factors, ItemNeighbours, Popularity, Recency, choose_neighbours
from models.checkpoint import Epoch
from models.dataset import Sequences
from models.ranking import Asked, Blend, ModelScorer, Ranked, Scorer, ask_last, choose_weight, rank, summarise
from models.recipe import Recipe, read_recipe
from models.recommender import Recommender
from models.run import describe
from models.sequences import choose_users, share_of_repeats, without_last
from models.train import fit, make_model
from models.validate import Split

RECIPE: Final = Path("models/recipes/sequences.toml")
#: Users by whose second last item is chosen: enough for a standard error of half a point of NDCG.
JUDGES: Final = 3000
#: With fewer events than this being repeats, items that a user had are taken out of the lists.
REPEATS_MAX: Final = 0.01
WEIGHTS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COLUMNS: Final = ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR", "NDCG@10 all items", "coverage", "novelty"]
#: Optimizer steps that a training should have, within the epochs below.
STEPS: Final = 1400
EPOCHS: Final = (8, 12)


class Data(NamedTuple):
    name: str
    title: str
    sequences: Sequences
    words: dict[str, dict[str, list[str]]]  # attributes of the items, none: {}
    published: dict[str, dict[str, float]]


class Trial(NamedTuple):
    """What training, choosing and testing see of the data."""

    train: Sequences
    choose: Asked
    judged: Sequences  # of the same users, with the items that are asked for
    test: Asked
    unseen: bool


def make_trial(data: Sequences, seed: int) -> Trial:
    judged = choose_users(without_last(data), JUDGES, seed)
    return Trial(
        without_last(data, 2),
        ask_last(judged),
        judged,
        ask_last(data),
        share_of_repeats(data) < REPEATS_MAX,
    )


def fit_size(recipe: Recipe, data: Sequences) -> Recipe:
    """Return the recipe with a batch and enough epochs for the data's size."""
    size = max(4, min(recipe.users_per_batch, data.users // 64))
    epochs = int(np.clip(STEPS * size / data.users, *EPOCHS))
    return msgspec.structs.replace(recipe, users_per_batch=size, epochs=epochs)


def train(trial: Trial, recipe: Recipe, words: dict[str, Any], item_ids: list[str]) -> Recommender:
    """Train with the second last items as what is watched, ranked as the test ranks."""
    watched = msgspec.structs.replace(recipe.validation, unseen=trial.unseen)
    recipe = msgspec.structs.replace(recipe, validation=watched)
    described = describe(item_ids, words, recipe) if words else None
    model = make_model(trial.train, recipe, described)
    wanted = np.zeros(len(trial.judged.item), np.bool_)
    wanted[trial.judged.start[1:] - 1] = True
    end_ms = int(trial.judged.time_ms.max()) + 1

    def tell(epoch: Epoch) -> None:
        print(f"epoch {epoch.number}: loss {epoch.loss:.4f}, NDCG@10 {epoch.held['ndcg']:.4f}", flush=True)

    fit(model, trial.train, recipe, tell, split=Split(trial.train, trial.judged, wanted, end_ms, end_ms))
    return model


def load_recipe(settings: list[str], words: bool) -> Recipe:
    return read_recipe(RECIPE, [*(['attributes=["*"]'] if words else []), *settings])


def compare(data: Data, settings: list[str], command: str, *, factors: bool = True) -> Result:
    """Return the table of all baselines, the encoder, and the encoder with its neighbours."""
    watch = Stopwatch()
    torch.set_num_threads(1)
    sequences, recipe = data.sequences, load_recipe(settings, bool(data.words))
    trial = make_trial(sequences, recipe.seed)
    recipe = fit_size(recipe, trial.train)
    sold = np.bincount(trial.train.item, minlength=len(sequences.item_ids))
    rows = [Row(name, "published", dict(figures)) for name, figures in data.published.items()]

    def figure(scorer: Scorer) -> float:
        return float(metrics.ndcg(rank(scorer, trial.choose, unseen=trial.unseen).chosen).mean())

    def add(name: str, source: str, scorer: Scorer) -> Ranked:
        ranked = rank(scorer, trial.test, unseen=trial.unseen)
        rows.append(Row(name, source, figures_of(ranked, len(sequences.item_ids), sold)))
        return ranked

    add("popularity", "baseline", Popularity(trial.train))
    if not trial.unseen:
        add("own items, latest first", "baseline", Recency(trial.train))
    near = ItemNeighbours(trial.train, choose_neighbours(trial.train, figure))
    by_neighbours = add("co-occurrence", "baseline", near)
    for kind in ("als", "bpr") if factors else ():
        add(kind.upper(), "baseline", Factors(trial.train, kind, seed=recipe.seed))
    before = watch.minutes
    model = train(trial, recipe, data.words, sequences.item_ids)
    notes = [f"Training took {watch.minutes - before:.1f} CPU minutes."]
    scorer = ModelScorer(model, recipe.length_max)
    add(recipe.encoder, "ours", scorer)
    weight, _ = choose_weight(scorer, near, trial.choose, unseen=trial.unseen, weights=WEIGHTS)
    both = add(f"{recipe.encoder} + co-occurrence", "ours", Blend([scorer, near], [1.0 - weight, weight]))
    gains = metrics.ndcg(both.chosen)
    sure = metrics.bootstrap((gains,), seed=recipe.seed)
    more = metrics.difference(gains, metrics.ndcg(by_neighbours.chosen), seed=recipe.seed)
    notes.append(
        f"The blend's weight, chosen on the second last items: {weight:.1f}. Its NDCG@10 lies within"
        f" {sure.low:.4f} … {sure.high:.4f} (95 %), {more.low:+.4f} … {more.high:+.4f} beside co-occurrence."
    )
    protocol = (
        f"Leave-one-out, {trial.test.known.users:,} users, all {len(sequences.item_ids):,} items ranked, "
        + ("items that a user had taken out" if trial.unseen else "nothing taken out")
        + "; `NDCG@10 all items` with nothing taken out."
    )
    return Result(data.name, data.title, protocol, COLUMNS, rows, command, recipe.seed, watch.minutes, notes)


def figures_of(ranked: Ranked, items: int, sold: np.ndarray) -> dict[str, float | str]:
    found = summarise(ranked, items, sold)
    names = ("hr5", "ndcg5", "hr10", "ndcg10", "mrr", "ndcg10_all", "coverage", "novelty")
    return dict(zip(COLUMNS, (found[name] for name in names), strict=True))
