"""Ratings of MovieLens 100k in five folds: MAE and RMSE beside Surprise's SVD on the same folds.

Ours is a ridge of simple parts, each fitted on four folds: the biases of user and item, neighbours of the
item and of the user in what biases leave over, and factors by alternating least squares. What each part
counts is learnt on a tenth of the four folds that the parts had not seen. U users, I items, N ratings.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.quality.table import Result, Row, Stopwatch
from models import metrics
from models.sequences import read_atomic, read_from_wheel
from models.targets import read_values

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FOLDS: Final = 5
SEED: Final = 0
COLUMNS: Final = ["MAE", "RMSE"]
LOWEST, HIGHEST = 1.0, 5.0
#: Ratings that count as much as a user's or an item's own when a bias is drawn to the mean.
SHRINK_ITEM: Final = 5.0
SHRINK_USER: Final = 8.0
#: Common ratings at which a similarity counts half (Koren, 2008).
SHRINK_SIMILARITY: Final = 100.0
NEIGHBOURS: Final = 50
#: Ranks and ridges of the factors.
FACTORS: Final = ((6, 12.0), (12, 16.0), (24, 22.0))


class Ratings(NamedTuple):
    user: Ints  # [N]
    item: Ints
    value: Floats

    def take(self, chosen: Any) -> Ratings:
        return Ratings(self.user[chosen], self.item[chosen], self.value[chosen])


class Biases(NamedTuple):
    mean: float
    user: Floats
    item: Floats

    def of(self, user: Any, item: Any) -> Any:
        return self.mean + self.user[user] + self.item[item]


def fit_biases(known: Ratings, users: int, items: int) -> Biases:
    """Fit b_u and b_i in turns, drawn to 0."""
    mean = float(known.value.mean())
    own, of_item = np.zeros(users), np.zeros(items)
    for _ in range(10):
        left = known.value - mean - own[known.user]
        of_item = np.bincount(known.item, left, items) / (
            SHRINK_ITEM + np.bincount(known.item, minlength=items)
        )
        left = known.value - mean - of_item[known.item]
        own = np.bincount(known.user, left, users) / (SHRINK_USER + np.bincount(known.user, minlength=users))
    return Biases(mean, own, of_item)


def near(left: Floats, there: Floats) -> Floats:
    """Return what the neighbours of each row say of each column: left [R, C], there [R, C] of 0 and 1."""
    dot = left @ left.T
    size = np.sqrt((left**2) @ there.T)
    together = there @ there.T
    alike = dot / np.maximum(size * size.T, 1e-9) * together / (together + SHRINK_SIMILARITY)
    np.fill_diagonal(alike, 0.0)
    alike = np.maximum(alike, 0.0) ** 1.5
    cut = np.partition(alike, -NEIGHBOURS * 3, 1)[:, -NEIGHBOURS * 3, None]
    alike = np.where(alike >= cut, alike, 0.0)
    said: Floats = (alike @ left) / (alike @ there + 0.02)
    return said


def factorise(left: Floats, there: Floats, rank: int, ridge: float, seed: int) -> Floats:
    """Return the product of factors [U, I] that explains what is left, by alternating least squares."""
    chance = np.random.default_rng(seed)
    items = chance.normal(0, 0.1, (left.shape[1], rank))
    users = np.zeros((left.shape[0], rank))
    eye = ridge * np.eye(rank)
    for _ in range(12):
        for own, other, L, T in ((users, items, left, there), (items, users, left.T, there.T)):
            for row in range(len(own)):
                rated = np.flatnonzero(T[row])
                seen = other[rated]
                own[row] = np.linalg.solve(
                    seen.T @ seen + eye * 0.1 * (1 + len(rated) ** 0.5), seen.T @ L[row, rated]
                )
    product: Floats = users @ items.T
    return product


def parts(known: Ratings, asked: Ratings, users: int, items: int, seed: int) -> Floats:
    """Return what each part says of the ratings asked for, [N, parts]: the biases first, then residuals."""
    biases = fit_biases(known, users, items)
    left, there = np.zeros((users, items)), np.zeros((users, items))
    left[known.user, known.item] = known.value - biases.of(known.user, known.item)
    there[known.user, known.item] = 1.0
    said = [near(left.T, there.T).T, near(left, there)]
    for rank, ridge in FACTORS:
        product = factorise(left, there, rank, ridge, seed)
        said.append(product)
    rest = np.where(there > 0, left - said[-2], 0.0)
    said.append(said[-2] + near(rest.T, there.T).T)
    columns = [biases.of(asked.user, asked.item)] + [part[asked.user, asked.item] for part in said]
    return np.stack(columns, 1)


def predict(known: Ratings, asked: Ratings, users: int, items: int, seed: int) -> Floats:
    """Return ratings [N]: parts on all that is known, weighed as on a tenth that the parts did not see."""
    chance = np.random.default_rng([seed, 4])
    held = chance.random(len(known.value)) < 0.1
    inner, outer = known.take(~held), known.take(held)
    X = with_one(parts(inner, outer, users, items, seed))
    weight = np.linalg.solve(X.T @ X + 3.0 * np.eye(X.shape[1]), X.T @ outer.value)
    said = with_one(parts(known, asked, users, items, seed)) @ weight
    return np.clip(said, LOWEST, HIGHEST)


def with_one(columns: Floats) -> Floats:
    return np.concatenate([np.ones((len(columns), 1)), columns], 1)


def by_surprise(known: Ratings, asked: Ratings, seed: int) -> Floats | None:
    """Return what Surprise's SVD says, None if the package is not there."""
    try:
        from surprise import SVD, Dataset, Reader
    except ImportError:
        return None
    columns = (known.user.tolist(), known.item.tolist(), known.value.tolist())
    rows = [(user, item, value, None) for user, item, value in zip(*columns, strict=True)]
    train = Dataset(Reader(rating_scale=(LOWEST, HIGHEST))).construct_trainset(rows)
    model = SVD(random_state=seed).fit(train)
    pairs = zip(asked.user.tolist(), asked.item.tolist(), strict=True)
    return np.array([model.predict(user, item).est for user, item in pairs])


def run(command: str) -> Result:
    from benchmarks.quality.sources import ML100K_TABLE, RECBOLE, wheel

    watch = Stopwatch()
    data = read_atomic(read_from_wheel(wheel(RECBOLE), ML100K_TABLE))
    ratings = Ratings(
        data.per_event(np.arange(data.users)),
        data.item.astype(np.int64),
        np.round(read_values(data)).astype(np.float64),
    )
    fold = np.random.default_rng(SEED).permutation(np.arange(len(ratings.value)) % FOLDS)
    errors: dict[str, list[tuple[float, float]]] = {}
    for number in range(FOLDS):
        known, asked = ratings.take(fold != number), ratings.take(fold == number)
        biases = fit_biases(known, data.users, len(data.item_ids))
        said = {
            "biases": biases.of(asked.user, asked.item),
            "Surprise SVD, measured": by_surprise(known, asked, SEED),
            "ridge of neighbours and factors": predict(known, asked, data.users, len(data.item_ids), SEED),
        }
        for name, values in said.items():
            if values is not None:
                pair = metrics.mae(values, asked.value), metrics.rmse(values, asked.value)
                errors.setdefault(name, []).append(pair)
        print(
            f"fold {number + 1}: " + ", ".join(f"{k} {v[-1][1]:.4f}" for k, v in errors.items()), flush=True
        )
    rows = [Row("Surprise SVD", "published", {"MAE": 0.737, "RMSE": 0.934})]
    for name, pairs in errors.items():
        source = "ours" if name.startswith("ridge") else "baseline"
        rows.append(Row(name, source, dict(zip(COLUMNS, np.mean(pairs, 0).tolist(), strict=True))))
    protocol = f"{len(ratings.value):,} ratings in {FOLDS} folds of chance, the mean of the folds."
    return Result("ratings", "MovieLens 100k, ratings", protocol, COLUMNS, rows, command, SEED, watch.minutes)
