"""What a value head must beat: the mean in training, the user's own mean so far, the item's mean in training.

The user's mean is of what was known when the value was asked for: the values of the events up to then, or of
spends to come those whose horizon had passed. Where there is nothing yet, the mean in training stands in.

N events, Q questions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.dataset import Sequences
from models.objective import Objective, duration_ms
from models.recipe import ValueHead
from models.targets import latest_times, read_values, winsorise

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def guess_values(
    asked: Objective, value: ValueHead, event: Ints, mean: float, until_ms: int
) -> dict[str, Floats]:
    """Return what each rival says [Q] after the events. mean: in training, which ended at `until_ms`."""
    data, target_kinds = asked.data, asked.recipe.target_kinds
    guesses = {"mean in training": np.full(len(event), mean)}
    if value.of == "item":
        counted = np.isin(data.kind, [data.kinds.index(kind) for kind in target_kinds or data.kinds])
        values = winsorise(np.where(counted, read_values(data), np.nan))
        known = np.arange(1, len(data.item) + 1) - data.per_event(data.start[:-1])
        guesses["user's own mean so far"] = own_means(data, values, known, mean)[event]
        learnt = np.where(data.time_ms < until_ms, values, np.nan)
        guesses["item's mean in training"] = item_means(data, learnt, mean)[data.item[event + 1]]
    else:
        known = passed(data, duration_ms(value.horizon, "value.horizon"))
        values = asked.values.astype(np.float64)
        guesses["user's own mean so far"] = own_means(data, values, known, mean)[event]
    return guesses


def own_means(data: Sequences, values: Floats, known: Ints, otherwise: float) -> Floats:
    """Return for each event [N] the mean of its sequence's first `known` [N] values, NaN for none there."""
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    count = np.concatenate([[0], np.cumsum(~np.isnan(values))])
    first = data.per_event(data.start[:-1])
    total, number = sums[first + known] - sums[first], count[first + known] - count[first]
    return np.where(number > 0, total / np.maximum(number, 1), otherwise)


def item_means(data: Sequences, values: Floats, otherwise: float) -> Floats:
    """Return the items' mean values [I + 1]; the last is for no item."""
    there = ~np.isnan(values) & (data.item >= 0)
    item, items = data.item[there], len(data.item_ids)
    count = np.bincount(item, minlength=items)
    means = np.bincount(item, values[there], items) / np.maximum(count, 1)
    return np.append(np.where(count > 0, means, otherwise), otherwise)


def passed(data: Sequences, horizon_ms: int) -> Ints:
    """Return for each event [N] how many of its sequence lie a whole horizon back."""
    latest = latest_times(data)
    found = np.zeros(len(latest), np.int64)
    for start, stop in zip(data.start[:-1].tolist(), data.start[1:].tolist(), strict=True):
        times = latest[start:stop]
        found[start:stop] = np.searchsorted(times + horizon_ms, times, side="left")
    return found
