"""MovieLens 1M as gSASRec publishes it: 512 validation users, NDCG@10 among all films not rated yet.

That is what its `filter_rated` does, which is on in the run whose .1974 stands in the name of the checkpoint
(github.com/asash/gSASRec-pytorch, config.py). Trained is on train_input, which has the judged users without
the last item of val_input and the answer. The epoch and how much co-occurrence counts are chosen by the last
items of others, which are not learnt from; so were the settings.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch

from benchmarks.quality.leave_one_out import Trial, add_near, tell_strength, train
from benchmarks.quality.members import join, train_all
from benchmarks.quality.table import Result, Row, Stopwatch
from models import metrics
from models.baselines import ItemNeighbours, Popularity, choose_neighbours
from models.dataset import Sequences
from models.ranking import Asked, ModelScorer, Scorer, ask_last, rank
from models.recipe import Recipe, read_recipe
from models.sequences import choose_users, from_lists, read_lines

#: Chosen on: users that are judged do not choose.
CHOOSERS: Final = 2048
#: Of the ensemble: its recipe, with what differs from it.
MEMBERS: Final = {
    "attention over a gru": (Path("models/recipes/attention_over_a_gru.toml"), ["seed=2"]),
    "gru": (Path("models/recipes/ordered_sequences.toml"), ["epochs=12", "seed=2"]),
}
#: Events of a history that are read for a list.
LENGTH: Final = 200
COLUMNS: Final = ["HR@10", "NDCG@10", "low", "high", "choosers"]
PUBLISHED: Final = {"gSASRec": 0.1974, "GRU, throw-away": 0.2005, "windowed attention, throw-away": 0.2073}


def read(folder: Path) -> tuple[Sequences, Asked, list[bool]]:
    """Return train_input, the question, and which users of train_input are those that are asked about."""
    lines = [line.split() for line in read_lines(folder / "train_input.txt.gz")]
    known = [line.split() for line in read_lines(folder / "val_input.txt.gz")]
    answer = [line.split()[0] for line in read_lines(folder / "val_output.txt.gz")]
    data = from_lists([str(number) for number in range(len(lines))], lines)
    theirs = {tuple(line[:-1]) for line in known}
    asked = from_lists([f"v{number}" for number in range(len(known))], known, data.item_ids)
    kept = np.array([item in set(data.item_ids) for item in answer])
    place = {item: number for number, item in enumerate(data.item_ids)}
    asked = asked.keep(asked.per_event(kept))
    answers = np.array([place[item] for item, keep in zip(answer, kept.tolist(), strict=True) if keep])
    asked = asked._replace(item=np.where(asked.item < len(place), asked.item, -1), item_ids=data.item_ids)
    judged = [tuple(line) in theirs for line in lines]
    return data, Asked(asked, answers.astype(np.int32)), judged


def make_trial(folder: Path) -> tuple[Trial, list[str]]:
    """Return what is learnt, who chooses and who is asked, and the items' ids; the same whatever the seed."""
    data, asked, judged = read(folder)
    others = data.keep(~data.per_event(np.array(judged)))
    choosers = choose_users(others, CHOOSERS, 0)
    last = np.zeros(len(data.item), np.bool_)
    last[data.start[1:] - 1] = True
    learn = data.keep(~(last & data.per_event(np.isin(data.user, choosers.user))))
    return Trial(learn, learn, ask_last(choosers), choosers, asked, True), data.item_ids


def share_in_order(data: Sequences, least: int = 20, seed: int = 0) -> tuple[float, float]:
    """Return how much of the time two items that stood next to each other stood in their usual order.

    Of pairs that did so `least` times or more; and what it would be if the order were chance.
    """
    beside = np.diff(data.per_event(np.arange(data.users))) == 0
    before, after = data.item[:-1][beside].astype(np.int64), data.item[1:][beside].astype(np.int64)
    forward = np.bincount(before * len(data.item_ids) + after, minlength=len(data.item_ids) ** 2)
    counts = forward.reshape(len(data.item_ids), -1)
    upper = np.triu_indices(len(counts), 1)
    one, both = counts[upper], (counts + counts.T)[upper]
    one, both = one[both >= least], both[both >= least]
    chance = np.random.default_rng(seed).binomial(both, 0.5)
    return tuple(float((np.maximum(n, both - n) / both).mean()) for n in (one, chance))  # type: ignore[return-value]


def read_member(name: str, settings: list[str]) -> Recipe:
    """Return the member's recipe. Co-occurrence comes later, so that it can be told apart."""
    file, own = MEMBERS[name]
    recipe = read_recipe(file, [*own, *settings])
    return msgspec.structs.replace(recipe, co_occurrence=None)


class Comparison:
    """The rows of the table, as they are found."""

    def __init__(self, trial: Trial, seed: int) -> None:
        self.trial, self.seed = trial, seed
        self.rows = [Row(name, "published", {"NDCG@10": gain}) for name, gain in PUBLISHED.items()]

    def choosers(self, scorer: Scorer) -> float:
        """Return NDCG@10 of those who choose."""
        return float(metrics.ndcg(rank(scorer, self.trial.choose, unseen=True).chosen).mean())

    def add(self, name: str, source: str, scorer: Scorer) -> None:
        found = rank(scorer, self.trial.test, unseen=True).chosen
        sure = metrics.bootstrap((metrics.ndcg(found),), seed=self.seed)
        hit = float(metrics.hit_rate(found).mean())
        figures: dict[str, float | str] = {"HR@10": hit, "NDCG@10": sure.value, "low": sure.low}
        self.rows.append(Row(name, source, figures | {"high": sure.high, "choosers": self.choosers(scorer)}))


def run(folder: Path, settings: list[str], command: str, *, resume: bool = False) -> Result:
    """Return the table. resume: let trainings go on from where an earlier call was killed."""
    watch = Stopwatch()
    torch.set_num_threads(1)
    recipes = [read_member(name, settings) for name in MEMBERS]
    trial, item_ids = make_trial(folder)
    table = Comparison(trial, recipes[0].seed)
    table.add("popularity", "baseline", Popularity(trial.train))
    how = choose_neighbours(trial.train, table.choosers)
    table.add("co-occurrence", "baseline", ItemNeighbours(trial.train, how))
    before = watch.minutes
    training = partial(train, trial, {}, item_ids)
    trained = train_all(training, recipes, resume=trial.train if resume else None)
    spent = watch.minutes - before
    usual, chance = share_in_order(trial.train)
    notes = [
        f"Two films that stand next to each other 20 times or more do so {usual:.0%} of the time in one"
        f" order; by chance it would be {chance:.0%}."
    ]
    for name, one in zip(MEMBERS, trained, strict=True):
        table.add(name, "ours", ModelScorer(one.model, LENGTH))
        notes.append(f"{name}: {one.minutes:.1f} CPU minutes of training, epoch {one.epochs} was the best.")
    if resume:
        notes.append(
            "Taken over from earlier calls were epochs whose minutes are of the clock, not of the CPU."
        )
    together = join(trained)
    table.add("all together", "ours", ModelScorer(together, LENGTH))
    notes.append("`all together`: one model, their scores added, as `ebbtide-train join` makes it.")
    strength = add_near(together, trial, recipes[0], how, trial.train)
    if strength:
        table.add("all together + co-occurrence", "ours", ModelScorer(together, LENGTH))
    notes.append(tell_strength(strength, f"{CHOOSERS:,} other users"))
    protocol = (
        f"{len(trial.test.answer)} validation users, all {len(item_ids):,} items ranked, those that a user"
        f" had taken out. `choosers`: NDCG@10 of {CHOOSERS:,} other users, by whom the epochs were chosen."
    )
    minutes = watch.minutes - spent + sum(one.minutes for one in trained)
    return Result(
        "ml1m", "MovieLens 1M", protocol, COLUMNS, table.rows, command, recipes[0].seed, minutes, notes
    )
