"""Leave-one-out on item sequences: everyone's last item is asked for, the one before it chooses.

Trained is on all but the last two items of each user; settings, the number of epochs and how much
co-occurrence counts are chosen by the second last; the test shows the model all but the last. Then what was
chosen is trained once more, on all but the last item (`retrained`), as an operator would; published figures
are without that. Every item of the catalogue is ranked. Where users do not take an item twice, those they had
are taken out, as published figures have it; the other figure stands beside it.
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
from models.co_occurrence import fit_near
from models.dataset import Sequences
from models.ensemble import Model
from models.ranking import Asked, ModelScorer, Ranked, Scorer, ask_last, rank, summarise
from models.recipe import CoOccurrence, Recipe, Validation, read_recipe
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
COLUMNS: Final = ["HR@5", "NDCG@5", "HR@10", "NDCG@10", "MRR", "NDCG@10 all items", "coverage", "novelty"]
#: Optimizer steps that a training should have, within the epochs below.
STEPS: Final = 1400
EPOCHS: Final = (8, 12)

#: Neighbours of an item: twice the default, as nothing is served from a table.
KEPT: Final = 100
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


def fit_size(recipe: Recipe, data: Sequences, settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe with a batch and enough epochs for the data's size; what `settings` set stands."""
    given = {setting.partition("=")[0].strip() for setting in settings}
    size = recipe.users_per_batch
    if "users_per_batch" not in given:
        size = max(4, min(size, data.users // 64))
    epochs = recipe.epochs
    if "epochs" not in given:
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
    return model, fit(model, trial.train, recipe, tell, split=watch(trial), checkpoint=checkpoint)


def watch(trial: Trial) -> Split:
    """Return what is learnt, and that the judges' last events are asked about."""
    wanted = np.zeros(len(trial.judged.item), np.bool_)
    wanted[trial.judged.start[1:] - 1] = True
    end_ms = int(trial.judged.time_ms.max()) + 1
    return Split(trial.train, trial.judged, wanted, end_ms, end_ms)


def add_near(
    model: Model,
    trial: Trial,
    recipe: Recipe,
    how: Neighbours,
    learnt: Sequences,
    strength: float | None = None,
) -> float:
    """Give the model the neighbours in `learnt`; return their strength, given or chosen."""
    asked = CoOccurrence(how.reach, how.fade, how.back, how.power, how.decay, KEPT, strength)
    watched = msgspec.structs.replace(recipe.validation, unseen=trial.unseen)
    recipe = msgspec.structs.replace(recipe, validation=watched, co_occurrence=asked)
    fit_near(model, watch(trial)._replace(learn=learnt), recipe)
    return model.near.strength if model.near else 0.0


def tell_strength(strength: float, chosen_by: str) -> str:
    """Say how much co-occurrence counts beside the encoders."""
    if not strength:
        return f"Co-occurrence beside the encoders: none, chosen by {chosen_by}."
    return (
        f"Co-occurrence beside the encoders: strength {strength:g}, chosen by {chosen_by}; it is part of the"
        " model, and served."
    )


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
    """own: what an encoder has for itself. Co-occurrence comes later, so that it can be told apart."""
    words = ['attributes=["*"]'] if data.words else []
    recipe = read_recipe(data.recipe, [*words, *data.settings, *own, *settings])
    return msgspec.structs.replace(recipe, co_occurrence=None)


def name_ensemble(recipes: Sequence[Recipe]) -> str:
    """Return the encoders' names, with how many there are of each."""
    counts = Counter(map(name_of, recipes))
    return " + ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())


def name_of(recipe: Recipe) -> str:
    """Return the encoder's name; attention may stand over a recurrence."""
    return recipe.encoder + (" over a gru" if recipe.encoder_config.get("recurrent") else "")


class Comparison:
    """The rows of one table, as they are found."""

    def __init__(self, data: Data, settings: list[str]) -> None:
        recipe = load_recipe(data, settings)
        self.data, self.items = data, len(data.sequences.item_ids)
        self.trial = make_trial(data.sequences, recipe.seed)
        self.recipe = fit_size(recipe, self.trial.train, settings)
        others = [
            fit_size(load_recipe(data, settings, own), self.trial.train, settings) for own in data.beside
        ]
        self.recipes = [*with_seeds(self.recipe, data.members), *others]
        names = list(map(name_of, self.recipes))
        self.names = [
            name if names.index(name) == n else f"{name}, seed {one.seed}"
            for n, (name, one) in enumerate(zip(names, self.recipes, strict=True))
        ]
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
        self,
        trained: Sequence[Trained],
        how: Neighbours,
        learnt: Sequences,
        strength: float | None = None,
        retrained: str = "",
    ) -> float:
        """Add neighbours, the encoder, its ensemble if there are several, and that with co-occurrence.

        strength: of co-occurrence beside the encoder; None: it is chosen. Returns it.
        """
        length_max = self.recipe.length_max
        beside = self.add(f"co-occurrence{retrained}", "baseline", ItemNeighbours(learnt, how))
        for n in [0, *range(self.data.members, len(trained))]:
            alone = ModelScorer(trained[n].model, length_max)
            self.add(f"{self.names[n]}{retrained}", "ours", alone)
        model, name = join(trained), name_ensemble(self.recipes)
        if len(trained) > 1:
            self.add(f"{name}{retrained}", "ours", ModelScorer(model, length_max))
        strength = add_near(model, self.trial, self.recipe, how, learnt, strength)
        name = f"{name} + co-occurrence{retrained}"
        gains = metrics.ndcg(self.add(name, "ours", ModelScorer(model, length_max)).chosen)
        sure = metrics.bootstrap((gains,), seed=self.recipe.seed)
        more = metrics.difference(gains, metrics.ndcg(beside.chosen), seed=self.recipe.seed)
        self.notes.append(
            f"{name}: NDCG@10 lies within {sure.low:.4f} … {sure.high:.4f} (95 %),"
            f" {more.low:+.4f} … {more.high:+.4f} beside co-occurrence{retrained}."
        )
        return strength


def compare(data: Data, settings: list[str], command: str, *, factors: bool = True) -> Result:
    """Return the table of all baselines, the encoder, and the encoder with its neighbours."""
    watch = Stopwatch()
    torch.set_num_threads(1)
    table = Comparison(data, settings)
    trial, recipes, item_ids = table.trial, table.recipes, data.sequences.item_ids
    how = table.add_baselines(factors=factors)
    trained = train_all(partial(train, trial, data.words, item_ids), recipes)
    table.notes += [
        f"{name_of(one)}, seed {one.seed}: {done.minutes:.1f} CPU minutes of training, epoch {done.epochs}"
        " was the best."
        for one, done in zip(recipes, trained, strict=True)
    ]
    strength = table.add_ours(trained, how, trial.train)
    again = train_all(
        partial(retrain, trial.retrain, data.words, item_ids),
        [
            msgspec.structs.replace(one, epochs=done.epochs)
            for one, done in zip(recipes, trained, strict=True)
        ],
    )
    table.add_ours(again, how, trial.retrain, strength, RETRAINED)
    table.notes += [
        tell_strength(strength, "the second last items"),
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
