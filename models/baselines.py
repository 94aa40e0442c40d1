"""What a model must beat: popularity, the user's own last items, neighbours of items, matrix factorisation.

Each is fitted on sequences and scores all items for users (models/ranking.py). Neighbours and factors need
scipy and implicit: the extra `quality`.

B users, I items, N events.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.batches import whole
from models.dataset import Sequences

Ints = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

#: What every item has beside what it earned: no logarithm of nothing, and popularity decides among the rest.
_FLOOR: Final = 1e-3


class Popularity:
    """How often each item was taken, the same for everybody."""

    def __init__(self, data: Sequences) -> None:
        sold = np.bincount(data.item[data.item >= 0], minlength=len(data.item_ids)) + 0.5
        self.share: Scores = (sold / sold.sum()).astype(np.float32)

    def scores(self, known: Sequences, users: Ints) -> Scores:
        return np.repeat(np.log(self.share)[None], len(users), 0)


class Recency:
    """The user's own items, the latest first, each event counting `decay` times the next one's; 1: counts."""

    def __init__(self, data: Sequences, decay: float = 0.8) -> None:
        self._popularity, self._decay = Popularity(data), decay

    def scores(self, known: Sequences, users: Ints) -> Scores:
        taken = recent(known, users, self._decay, 0).toarray()
        return as_logs(taken, self._popularity.share)


class Neighbours(NamedTuple):
    """How items count as neighbours.

    reach: events apart at most; fade: an event further apart counts so much less; back: what an item that
    came before counts beside one that came after; power: shares are divided by the neighbour's count to it,
    0 prefers the popular, ½ is about cosine; decay: of the user's own events, from the latest on.
    """

    reach: int = 10
    fade: float = 0.7
    back: float = 0.7
    power: float = 0.3
    decay: float = 0.7
    recent: int = 20


class ItemNeighbours:
    """Co-occurrence: items that stood near the user's last ones in others' sequences.

    c_ij = Σ fade ** (distance − 1) over pairs of i and j, · count_i^−½ · count_j^−power
    score_j = Σ_n decay ** n · c_{item n events ago, j}
    """

    def __init__(self, data: Sequences, how: Neighbours = Neighbours()) -> None:  # noqa: B008
        self.how = how
        self._popularity = Popularity(data)
        self.near = near_counts(data, how)

    def scores(self, known: Sequences, users: Ints) -> Scores:
        taken = recent(known, users, self.how.decay, self.how.recent)
        return as_logs((taken @ self.near).toarray(), self._popularity.share)


def near_counts(data: Sequences, how: Neighbours) -> Any:
    """Return c [I, I], sparse."""
    from scipy import sparse

    I = len(data.item_ids)  # noqa: E741
    owner = data.per_event(np.arange(data.users))
    total = sparse.csr_array((I, I), dtype=np.float32)
    for distance in range(1, how.reach + 1):
        together = (owner[distance:] == owner[:-distance]) & (data.item[distance:] >= 0)
        together &= data.item[:-distance] >= 0
        before, after = data.item[:-distance][together], data.item[distance:][together]
        weight = np.full(len(before), how.fade ** (distance - 1), np.float32)
        ahead = sparse.coo_array((weight, (before, after)), shape=(I, I)).tocsr()
        total = total + ahead + how.back * ahead.T.tocsr()
    count = np.maximum(np.bincount(data.item[data.item >= 0], minlength=I), 1.0)
    return (sparse.diags_array(count**-0.5) @ total @ sparse.diags_array(count**-how.power)).tocsr()


def recent(known: Sequences, users: Ints, decay: float, length_max: int) -> Any:
    """Return the users' items, sparse [B, I]: decay ** n for the item n events ago, repeats added up."""
    from scipy import sparse

    batch = whole(known, users, length_max)
    length = batch.stop - batch.start
    row = np.repeat(np.arange(len(users)), length)
    first = np.cumsum(length) - length
    place = np.arange(len(row)) - first[row]
    item = known.item[batch.start[row] + place]
    weight = (decay ** (length[row] - 1 - place)).astype(np.float32)
    there = item >= 0
    shape = (len(users), len(known.item_ids))
    return sparse.coo_array((weight[there], (row[there], item[there])), shape=shape).tocsr()


def as_logs(earned: Scores, share: Scores) -> Scores:
    """Return logarithms of shares [B, I]: what was earned, over a floor of popularity."""
    total = np.maximum(earned.sum(1, keepdims=True), 1e-12)
    logs: Scores = np.log((1.0 - _FLOOR) * earned / total + _FLOOR * share).astype(np.float32)
    return logs


def choose_neighbours(data: Sequences, judge: Any, tried: Iterable[Neighbours] = ()) -> Neighbours:
    """Return the best of the settings, one choice after the other; judge: ItemNeighbours → a figure."""
    best, figure = Neighbours(), judge(ItemNeighbours(data))
    choices = tried or [
        *(Neighbours(power=power) for power in (0.0, 0.5)),
        *(Neighbours(decay=decay) for decay in (0.4, 0.9)),
        *(Neighbours(back=back) for back in (0.2, 1.0)),
        *(Neighbours(reach=reach, fade=fade) for reach, fade in ((3, 0.5), (30, 0.9))),
    ]
    plain = Neighbours()
    for choice in choices:
        changed = {name: value for name, value in choice._asdict().items() if value != getattr(plain, name)}
        candidate = best._replace(**changed)
        got = judge(ItemNeighbours(data, candidate))
        if got > figure:
            best, figure = candidate, got
    return best


class Factors:
    """Users and items as vectors: weighted least squares (Hu et al., 2008) or BPR (Rendle et al., 2009).

    A user is the fold-in of his items (least squares), or the mean of their vectors (BPR has no fold-in), so
    that users of whom only now something is known are scored too.
    """

    def __init__(self, data: Sequences, kind: str = "als", *, size: int = 64, seed: int = 0) -> None:
        import logging

        from implicit.als import AlternatingLeastSquares
        from implicit.bpr import BayesianPersonalizedRanking

        logging.getLogger("implicit").setLevel(logging.ERROR)
        self._kind = kind
        taken = recent(data, np.arange(data.users), 1.0, 0)
        if kind == "als":
            self._model = AlternatingLeastSquares(
                factors=size, regularization=0.05, alpha=2.0, iterations=15, random_state=seed, num_threads=1
            )
        else:
            self._model = BayesianPersonalizedRanking(
                factors=size, iterations=100, learning_rate=0.05, random_state=seed, num_threads=1
            )
        from scipy import sparse

        self._model.fit(sparse.csr_matrix(taken), show_progress=False)

    def scores(self, known: Sequences, users: Ints) -> Scores:
        from scipy import sparse

        taken = sparse.csr_matrix(recent(known, users, 1.0, 0))
        items = np.asarray(self._model.item_factors)
        if self._kind == "als":
            own = self._model.recalculate_user(np.arange(len(users)), taken)
        else:
            count = np.maximum(taken.sum(1), 1.0)
            own = np.asarray(taken @ items / count)
            own[:, -1] = 1.0  # implicit keeps the items' biases in the last column
        scores: Scores = np.asarray(own @ items.T, np.float32)
        return scores
