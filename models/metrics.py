"""Measures, in numpy: of lists, of numbers, of probabilities, and how sure one is of them.

A rank counts the items that stand before the right one, 0 for the best; of equal scores half count, as if
chance had ordered them, so that a scorer that says nothing is not praised. N positions, K places, I items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

RESAMPLES: Final = 1000
PLACES: Final = 10

# --------------------------------------------------------------------------------- of the right item's rank


def hit_rate(rank: Array, places: int = PLACES) -> Floats:
    """Return for each position [N] whether the right item is in the list: with one right item, its recall."""
    return (rank < places).astype(np.float64)


def ndcg(rank: Array, places: int = PLACES) -> Floats:
    """Return the discounted gain of one right item (Järvelin and Kekäläinen, 2002): the best is 1."""
    return np.where(rank < places, 1.0 / np.log2(rank + 2.0), 0.0)


def reciprocal_rank(rank: Array, places: int | None = None) -> Floats:
    """Return 1 / (1 + rank), whose mean is MRR; 0 outside of the list."""
    gain = 1.0 / (rank + 1.0)
    return gain if places is None else np.where(rank < places, gain, 0.0)


def precision(rank: Array, places: int = PLACES) -> Floats:
    """Return the share of the list that is right."""
    return hit_rate(rank, places) / places


# ---------------------------------------------------------------------- of whole lists [N, K], −1 for no item


def coverage(lists: Array, items: int) -> float:
    """Return the share of the catalogue that is in some list."""
    return len(np.unique(lists[lists >= 0])) / items


def gini(lists: Array, items: int) -> float:
    """Return how unequally the places go to the items: 0 all alike, towards 1 a few have them all."""
    shown = np.sort(np.bincount(lists[lists >= 0].ravel(), minlength=items)).astype(np.float64)
    weight = 2.0 * np.arange(1, items + 1) - items - 1.0
    return float((weight * shown).sum() / (items * shown.sum()))


def novelty(lists: Array, sold: Array) -> float:
    """Return the mean of −log₂ of the items' shares of all events (Zhou et al., 2010): bits of surprise."""
    share = np.maximum(sold, 0.5) / np.maximum(sold, 0.5).sum()
    return float(-np.log2(share[lists[lists >= 0]]).mean())


def diversity(lists: Array, vectors: Array) -> float:
    """Return the mean of 1 − cosine over the pairs of a list (Ziegler et al., 2005): vectors [I, D].

    Lists of fewer than two items have no pair and are left out; if all are, nothing is diverse: 0.
    """
    length, there = np.linalg.norm(vectors, axis=1, keepdims=True), lists >= 0
    unit = (vectors / np.maximum(length, 1e-12))[lists] * there[..., None]  # [N, K, D]
    together = (unit.sum(1) ** 2).sum(-1) - (unit**2).sum((1, 2))
    items = there.sum(1)
    pairs = items * (items - 1)
    return float(1.0 - (together[pairs > 0] / pairs[pairs > 0]).mean()) if pairs.any() else 0.0


# ------------------------------------------------------------------------------------------------ of numbers


def mae(said: Array, true: Array) -> float:
    return float(np.abs(said - true).mean())


def rmse(said: Array, true: Array) -> float:
    return float(np.sqrt(((said - true) ** 2).mean()))


# ------------------------------------------------------------------------------------------ of probabilities


def auc(score: Array, true: Array) -> float:
    """Return P(a positive scores higher than a negative), ties half (Mann and Whitney, 1947), or NaN."""
    true = true.astype(bool)
    positive, negative = int(true.sum()), int((~true).sum())
    if not positive or not negative:
        return float("nan")
    _, inverse, count = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    middle = last - (count - 1) / 2.0  # mean place, from 1, of equal scores
    return float((middle[inverse][true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def pr_auc(score: Array, true: Array) -> float:
    """Return average precision: Σ precision · gain of recall, equal scores taken together."""
    true = true.astype(bool)
    if not true.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    found = np.cumsum(true[order])[ends]
    gain = np.diff(found, prepend=0)
    return float((found / (ends + 1) * gain).sum() / true.sum())


def brier(probability: Array, true: Array) -> float:
    """Return the mean squared error of probabilities (Brier, 1950)."""
    return float(((probability - true) ** 2).mean())


class Bin(NamedTuple):
    said: float  # mean probability
    true: float  # share that came true
    events: int


def reliability(probability: Array, true: Array, bins: int = 10) -> list[Bin]:
    """Return what was said and what came true in bins of equally many, but for equals: they share a bin."""
    _, place, count = np.unique(probability, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2.0  # mean place, from 0, of equal ones
    which = (middle * bins // len(probability))[place]
    parts = [np.flatnonzero(which == number) for number in np.unique(which)]
    return [Bin(float(probability[p].mean()), float(true[p].mean()), len(p)) for p in parts]


# ----------------------------------------------------------------------------------------------- how sure


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


def bootstrap(
    columns: tuple[Array, ...],
    measure: Callable[..., float] = lambda values: float(values.mean()),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return measure(*columns) with its 95 % percentile interval; rows of all columns are drawn together.

    Rows must be what is independent: users, not their events (Efron, 1979).
    """
    chance = np.random.default_rng(seed)
    N = len(columns[0])
    drawn = []
    for _ in range(resamples):
        chosen = chance.integers(0, N, N)
        drawn.append(measure(*(column[chosen] for column in columns)))
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return Estimate(measure(*columns), float(low), float(high))


def difference(ours: Array, theirs: Array, *, seed: int = 0) -> Estimate:
    """Return the mean of paired differences [N] with its 95 % interval."""
    return bootstrap((ours - theirs,), seed=seed)
