"""Leave-one-out on item sequences: everyone's last item is asked for, the one before it chooses.

Trained is on all but the last two items of each user; settings, the number of epochs and the blend's weight
are chosen by the second last; the test shows the model all but the last. Then what was chosen is trained once
more, on all but the last item (`retrained`), as an operator would; published figures are without that. Every
item of the catalogue is ranked. Where users do not take an item twice, those they had are taken out, as
published figures have it; the other figure stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import torch

from benchmarks.quality.members import Trained, join, train_all, with_seeds
from benchmarks.quality.table import Result, Row, Stopwatch
from models import metrics
from models.baselines import Factors, ItemNeighbours, Neighbours, Popularity, Recency, choose_neighbours
from models.checkpoint import Epoch
from models.dataset import Sequences
from models.ranking import Asked, Blend, ModelScorer, Ranked, Scorer, ask_last, choose_weight, rank, summarise
from models.recipe import Recipe, Validation, read_recipe
from models.recommender import Recommender
from models.run import describe
from models.sequences import choose_users, share_of_repeats, without_last
from models.train import fit, make_model
from models.validate import Split

RECIPE: Final = Path("models/recipes/sequences.toml")
#: For users with hundreds of items.
LONG: Final = Path("models/recipes/long_sequences.toml")
#: Users by whose second last item is chosen: enough for a standard error of half a point of NDCG.
JUDGES: Final = 3000
#: With fewer events than this being repeats, items that a user had are taken out of the lists.
REPEATS_MAX: Final = 0.01
WEIGHTS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COLUMNS: Final = ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR", "NDCG@10 all items", "coverage", "novelty"]
#: Optimizer steps that a training should have, within the epochs below.
STEPS: Final = 1400
EPOCHS: Final = (8, 12)


#: Behind the names of rows that have learnt the second last items too.
RETRAINED: Final = ", retrained"


class Data(NamedTuple):
    name: str
    title: str
    sequences: Sequences
    words: dict[str, dict[str, list[str]]]  # attributes of the items, none: {}
    published: dict[str, dict[str, float]]
    recipe: Path = RECIPE
    settings: tuple[str, ...] = ()  # of the recipe, chosen by the second last items
    members: int = 1  # of the ensemble: the same recipe with as many seeds
    beside: tuple[tuple[str, ...], ...] = ()  # and other encoders: settings of each, chosen likewise


class Trial(NamedTuple):
    """What training, choosing and testing see of the data."""

    train: Sequences
    retrain: Sequences  # with what chose
    choose: Asked
    judged: Sequences  # of the same users, with the items that are asked for
    test: Asked
    unseen: bool


def make_trial(data: Sequences, seed: int) -> Trial:
    judged = choose_users(without_last(data), JUDGES, seed)
    return Trial(
        without_last(data, 2),
        without_last(data),
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


def train(
    trial: Trial,
    words: dict[str, Any],
    item_ids: list[str],
    recipe: Recipe,
    tell: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: Path | None = None,
) -> tuple[Recommender, list[Epoch]]:
    """Train with the second last items as what is watched, ranked as the test ranks."""
    watched = msgspec.structs.replace(recipe.validation, unseen=trial.unseen)
    recipe = msgspec.structs.replace(recipe, validation=watched)
    described = describe(item_ids, words, recipe) if words else None
    model = make_model(trial.train, recipe, described)
    wanted = np.zeros(len(trial.judged.item), np.bool_)
    wanted[trial.judged.start[1:] - 1] = True
    end_ms = int(trial.judged.time_ms.max()) + 1
    split = Split(trial.train, trial.judged, wanted, end_ms, end_ms)
    return model, fit(model, trial.train, recipe, tell, split=split, checkpoint=checkpoint)


def retrain(
    data: Sequences,
    words: dict[str, Any],
    item_ids: list[str],
    recipe: Recipe,
    tell: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: Path | None = None,
) -> tuple[Recommender, list[Epoch]]:
    """Train for all epochs of the recipe, on more data; nothing is watched."""
    recipe = msgspec.structs.replace(recipe, validation=Validation(by="none"))
    model = make_model(data, recipe, describe(item_ids, words, recipe) if words else None)
    return model, fit(model, data, recipe, tell, checkpoint=checkpoint)


def load_recipe(data: Data, settings: Sequence[str], own: Sequence[str] = ()) -> Recipe:
    """own: what an encoder has for itself."""
    words = ['attributes=["*"]'] if data.words else []
    return read_recipe(data.recipe, [*words, *data.settings, *own, *settings])


def name_ensemble(recipes: Sequence[Recipe]) -> str:
    """Return the encoders' names, with how many there are of each."""
    counts = Counter(recipe.encoder for recipe in recipes)
    return " + ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())


class Comparison:
    """The rows of one table, as they are found."""

    def __init__(self, data: Data, settings: list[str]) -> None:
        recipe = load_recipe(data, settings)
        self.data, self.items = data, len(data.sequences.item_ids)
        self.trial = make_trial(data.sequences, recipe.seed)
        self.recipe = fit_size(recipe, self.trial.train)
        others = [fit_size(load_recipe(data, settings, own), self.trial.train) for own in data.beside]
        self.recipes = [*with_seeds(self.recipe, data.members), *others]
        self.sold = np.bincount(self.trial.train.item, minlength=self.items)
        self.rows = [Row(name, "published", dict(figures)) for name, figures in data.published.items()]
        self.notes: list[str] = []

    def judge(self, scorer: Scorer) -> float:
        """Return NDCG@10 on what settings are chosen by."""
        return float(metrics.ndcg(rank(scorer, self.trial.choose, unseen=self.trial.unseen).chosen).mean())

    def add(self, name: str, source: str, scorer: Scorer) -> Ranked:
        ranked = rank(scorer, self.trial.test, unseen=self.trial.unseen)
        self.rows.append(Row(name, source, figures_of(ranked, self.items, self.sold)))
        return ranked

    def add_baselines(self, *, factors: bool) -> Neighbours:
        """Return how items are neighbours, as the second last items have it."""
        train = self.trial.train
        self.add("popularity", "baseline", Popularity(train))
        if not self.trial.unseen:
            self.add("own items, latest first", "baseline", Recency(train))
        for kind in ("als", "bpr") if factors else ():
            self.add(kind.upper(), "baseline", Factors(train, kind, seed=self.recipe.seed))
        return choose_neighbours(train, self.judge)

    def add_ours(
        self, trained: Sequence[Trained], near: Scorer, weight: float | None = None, retrained: str = ""
    ) -> float:
        """Add neighbours, the encoder, its ensemble if there are several, and the blend with the neighbours.

        weight: of the neighbours in the blend; None: it is chosen. Returns it.
        """
        length_max = self.recipe.length_max
        beside = self.add(f"co-occurrence{retrained}", "baseline", near)
        for n in [0, *range(self.data.members, len(trained))]:
            alone = ModelScorer(trained[n].model, length_max)
            self.add(f"{self.recipes[n].encoder}{retrained}", "ours", alone)
        scorer, name = ModelScorer(join(trained), length_max), name_ensemble(self.recipes)
        if len(trained) > 1:
            self.add(f"{name}{retrained}", "ours", scorer)
        if weight is None:
            asked, unseen = self.trial.choose, self.trial.unseen
            weight, _ = choose_weight(scorer, near, asked, unseen=unseen, weights=WEIGHTS)
        name = f"{name} + co-occurrence{retrained}"
        gains = metrics.ndcg(self.add(name, "ours", Blend([scorer, near], [1.0 - weight, weight])).chosen)
        sure = metrics.bootstrap((gains,), seed=self.recipe.seed)
        more = metrics.difference(gains, metrics.ndcg(beside.chosen), seed=self.recipe.seed)
        self.notes.append(
            f"{name}: NDCG@10 lies within {sure.low:.4f} … {sure.high:.4f} (95 %),"
            f" {more.low:+.4f} … {more.high:+.4f} beside co-occurrence{retrained}."
        )
        return weight


def compare(data: Data, settings: list[str], command: str, *, factors: bool = True) -> Result:
    """Return the table of all baselines, the encoder, and the encoder with its neighbours."""
    watch = Stopwatch()
    torch.set_num_threads(1)
    table = Comparison(data, settings)
    trial, recipes, item_ids = table.trial, table.recipes, data.sequences.item_ids
    how = table.add_baselines(factors=factors)
    trained = train_all(partial(train, trial, data.words, item_ids), recipes)
    table.notes += [
        f"{one.encoder}, seed {one.seed}: {done.minutes:.1f} CPU minutes of training, epoch {done.epochs} was"
        " the best."
        for one, done in zip(recipes, trained, strict=True)
    ]
    weight = table.add_ours(trained, ItemNeighbours(trial.train, how))
    again = train_all(
        partial(retrain, trial.retrain, data.words, item_ids),
        [
            msgspec.structs.replace(one, epochs=done.epochs)
            for one, done in zip(recipes, trained, strict=True)
        ],
    )
    table.add_ours(again, ItemNeighbours(trial.retrain, how), weight, RETRAINED)
    table.notes += [
        f"The blend's weight, chosen on the second last items: {weight:.1f}.",
        "`retrained`: the same settings, learnt from all but each user's last item.",
    ]
    if len(recipes) > 1:
        table.notes.append(f"`{name_ensemble(recipes)}`: one model, their scores added, as `join` makes it.")
    protocol = (
        f"Leave-one-out, {trial.test.known.users:,} users, all {table.items:,} items ranked, "
        + ("items that a user had taken out" if trial.unseen else "nothing taken out")
        + "; `NDCG@10 all items` with nothing taken out."
    )
    return Result(
        data.name,
        data.title,
        protocol,
        COLUMNS,
        table.rows,
        command,
        table.recipe.seed,
        watch.minutes,
        table.notes,
    )


def figures_of(ranked: Ranked, items: int, sold: np.ndarray) -> dict[str, float | str]:
    found = summarise(ranked, items, sold)
    names = ("hr5", "ndcg5", "hr10", "ndcg10", "mrr", "ndcg10_all", "coverage", "novelty")
    return dict(zip(COLUMNS, (found[name] for name in names), strict=True))
