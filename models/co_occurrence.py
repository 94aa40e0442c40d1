"""What was taken near each other, counted: the neighbours that raise scores (stream/co_occurrence.py).

    c_ij = (Σ fade^(distance − 1) + back · the same with j before i) · n_i^−½ · n_j^−power

The first sum is over pairs of i and a later j in one sequence, at most `reach` events apart; n is how often
an item was taken. Each item keeps its `kept` best neighbours. How much they count beside the encoder is
chosen by NDCG@10 on what is held out, when the encoder is done. It does not learn with them: the counts hold
the very pairs that it is asked about in training.

I items, N events, P positions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dataset import Sequences
from models.ensemble import Model
from models.judge import gains_of, walk
from models.neighbours import count_ahead
from models.objective import Objective, learnt_items
from models.recent import near_raises, recent_items
from models.recipe import CoOccurrence, Recipe
from models.validate import Split
from stream.co_occurrence import Near
from stream.errors import UsageError

#: What is tried, beside leaving the neighbours out.
STRENGTHS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.4, 2.0)


def fit_near(model: Model, split: Split, recipe: Recipe) -> dict[float, float]:
    """Give the model the neighbours of the recipe, if they help; return NDCG@10 by strength tried.

    0 is without them. A strength that the recipe names is taken as it is.
    """
    check_choice(split, recipe)
    asked = recipe.co_occurrence
    assert asked is not None, "the recipe counts no neighbours"
    near = count_near(split.learn, asked)
    if asked.strength is not None:
        model.near = near._replace(strength=asked.strength) if asked.strength else None
        return {}
    assert split.judged is not None  # `check_choice` made sure
    learnt = learnt_items(split.learn, recipe.sold_min)
    found = try_strengths(
        model, near, Objective(split.judged, recipe, learnt, split.wanted, split.judge_until_ms)
    )
    best = max(found, key=lambda strength: found[strength])
    model.near = near._replace(strength=best) if best else None
    return found


def check_choice(split: Split, recipe: Recipe) -> None:
    """Raise UsageError if the strength is to be chosen and there is nothing to choose it by."""
    if recipe.co_occurrence and recipe.co_occurrence.strength is None and split.judged is None:
        raise UsageError(
            "nothing is held out to choose the strength of co-occurrence by",
            place="co_occurrence.strength",
            remedy="name it, or hold something out (validation.by)",
        )


def count_near(data: Sequences, recipe: CoOccurrence) -> Near:
    """Return each item's best neighbours, with strength 1; of equal ones the lower index goes first."""
    pairs = count_ahead(data, recipe.reach, recipe.fade)
    pairs = (pairs + recipe.back * pairs.t()).coalesce()
    (row, column), weight = (part.numpy() for part in (pairs.indices(), pairs.values()))
    I = len(data.item_ids)  # noqa: E741
    taken = np.maximum(np.bincount(data.item[data.item >= 0], minlength=I), 1).astype(np.float64)
    weight = (weight * taken[row] ** -0.5 * taken[column] ** -recipe.power).astype(np.float32)
    kept = _best_of_rows(row, column, weight, recipe.kept)
    row, column, weight = row[kept], column[kept], weight[kept]
    start = np.zeros(I + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=I), out=start[1:])
    return Near(start, column.astype(np.int32), weight, recipe.decay, 1.0)


def _best_of_rows(
    row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], weight: npt.NDArray[np.float32], count: int
) -> npt.NDArray[np.int64]:
    """Return which of the pairs, sorted by row and column, are among the `count` of most weight in theirs."""
    there = np.flatnonzero(weight > 0)
    best = there[np.lexsort((column[there], -weight[there], row[there]))]
    begins = np.flatnonzero(np.append(True, row[best][1:] != row[best][:-1])) if len(best) else best
    place = np.arange(len(best)) - np.repeat(begins, np.diff(np.append(begins, len(best))))
    return np.sort(best[place < count])


@torch.no_grad()
def try_strengths(model: Model, near: Near, held: Objective) -> dict[float, float]:
    """Return NDCG@10 on what is held out, by strength; 0 is the model without neighbours."""
    had = held.data if held.recipe.validation.unseen else None
    gains: dict[float, list[Tensor]] = {strength: [] for strength in (0.0, *STRENGTHS)}
    for seen in walk(model, held):
        targets = held.targets(seen.batch)
        if not len(targets.item):
            continue
        query = held.query(model, seen, targets)
        unit = near_raises(near._replace(strength=1.0), recent_items(held.data, targets.events(seen.batch)))
        for strength, found in gains.items():
            found.append(gains_of(query, seen, targets, had, strength * unit))
    if not gains[0.0]:  # nobody was asked about an item that is known: nothing speaks for neighbours
        return {0.0: 0.0}
    return {strength: float(torch.cat(found).mean()) for strength, found in gains.items()}
