"""One forecast of a count for two errors, the squared and the absolute one, and how much each of them weighs.

U customers, N numbers of purchases, W weights.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.quality.buy_till_you_die import MOST, Floats, Known, Law, buy_till_you_die, fit_law

#: What absolute errors may weigh beside squared ones, each as a share of what the model expects of its mean.
WEIGHTS: Final = np.arange(41) / 200.0
DRAWS: Final = 300  # bootstraps


def between(chances: Floats, weight: float) -> Floats:
    """Return [U] what minimises E[(n − f)²] / S + weight · E[|n − f|] / A, for chances [U, N].

    S and A are the errors that the mean has, as the model expects it, over all customers: without a weight f
    is the mean, with a large one the median. Halving finds where the slope, 2 (f − mean) / S + weight ·
    (P(n < f) − P(n > f)) / A, changes its sign.
    """
    n = np.arange(MOST)
    mean = chances @ n
    off = n - mean[:, None]
    price = weight * (chances * off**2).sum() / (chances * np.abs(off)).sum()
    until = chances.cumsum(1)
    low, high = np.zeros(len(mean)), np.full(len(mean), MOST - 1.0)
    for _ in range(50):
        f = 0.5 * (low + high)
        fewer = np.take_along_axis(until, f.astype(np.int64)[:, None], 1)[:, 0]
        rising = 2.0 * (f - mean) + price * (2.0 * fewer - 1.0) >= 0.0
        low, high = np.where(rising, low, f), np.where(rising, f, high)
    return 0.5 * (low + high)


class Asked(NamedTuple):
    """A sample of customers: what our law and Pareto/NBD say of them, and what came."""

    law: Floats  # P(n purchases to come), [U, N]
    pareto: Floats  # [U]
    after: npt.NDArray[np.int64]  # [U]


def ask(known: Known, after: npt.NDArray[np.int64], law: Law, weeks: float) -> Asked:
    """law: ours, of whatever customers; Pareto/NBD is fitted on the sample itself, as published."""
    pareto = buy_till_you_die(known, fit_law(known, 0), weeks) @ np.arange(MOST)
    return Asked(buy_till_you_die(known, law, weeks), pareto, after)


class Losses(NamedTuple):
    """Absolute and squared errors of each customer: of ours by weight [W, U], and of Pareto/NBD [U]."""

    absolute: Floats
    squared: Floats
    rival_absolute: Floats
    rival_squared: Floats

    def gains(self, chosen: Any = slice(None)) -> Floats:
        """Return by which part ours is better than Pareto/NBD in MAE and RMSE, [2, W]."""
        mae = self.absolute[:, chosen].mean(1) / self.rival_absolute[chosen].mean()
        rmse = np.sqrt(self.squared[:, chosen].mean(1) / self.rival_squared[chosen].mean())
        return 1.0 - np.stack([mae, rmse])

    def best(self, chosen: Any = slice(None)) -> int:
        """Return which weight has the largest smaller gain."""
        return int(self.gains(chosen).min(0).argmax())


def measure(asked: Asked) -> Losses:
    """Return the losses in what came."""
    ours = np.stack([between(asked.law, weight) for weight in WEIGHTS.tolist()]) - asked.after
    rival = asked.pareto - asked.after
    return Losses(np.abs(ours), ours**2, np.abs(rival), rival**2)


def expect(asked: Asked) -> Losses:
    """Return the losses that our law expects: of what came it knows nothing."""
    n = np.arange(MOST)

    def lose(forecast: Floats) -> tuple[Floats, Floats]:
        off = n - forecast[:, None]
        return (asked.law * np.abs(off)).sum(1), (asked.law * off**2).sum(1)

    ours = [lose(between(asked.law, weight)) for weight in WEIGHTS.tolist()]
    absolute, squared = (np.stack(parts) for parts in zip(*ours, strict=True))
    return Losses(absolute, squared, *lose(asked.pareto))


class Chosen(NamedTuple):
    """The weight that other customers choose, and how well they know it."""

    weight: float
    low: float  # 90 % of bootstraps of the customers choose from here
    high: float  # to here
    mae: float  # by which part the MAE is better than Pareto/NBD's, over all others
    rmse: float
    both: int  # in how many of their samples both errors are smaller
    expected: int  # the same, if each sample takes the weight that the law expects to be best


def choose_weight(others: list[Asked], seed: int = 0) -> Chosen:
    """Choose the weight whose smaller gain over Pareto/NBD is the largest, over all other customers."""
    parts = [measure(asked) for asked in others]
    losses = Losses(*(np.concatenate(part, -1) for part in zip(*parts, strict=True)))
    chance, U = np.random.default_rng(seed), len(losses.rival_absolute)
    drawn = [WEIGHTS[losses.best(chance.integers(0, U, U))] for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.05, 0.95]).tolist()
    at = losses.best()
    mae, rmse = losses.gains()[:, at].tolist()
    wins = np.array([(part.gains() > 0).all(0) for part in parts])  # [samples, W]
    expected = [expect(asked).best() for asked in others]
    both, theirs = int(wins[:, at].sum()), int(wins[np.arange(len(parts)), expected].sum())
    return Chosen(float(WEIGHTS[at]), low, high, mae, rmse, both, theirs)
