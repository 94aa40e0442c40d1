"""Full ranking: where the right item stands among all items, for whatever can score them.

Each user is one position: what is known of him, and the item that came next. Every item of the catalogue
competes (sampled negatives order models wrongly: Krichene and Rendle, 2020). Items that the user had before
compete too, or are taken out: data sets without repeats are published with them taken out, so both are told.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from models import metrics
from models.batches import pad_batch, whole
from models.dataset import Sequences
from models.ensemble import Model
from models.recent import raises_at
from models.sequences import without_last

Ints = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

#: Users that are scored together.
_USERS: Final = 128


class Scorer(Protocol):
    def scores(self, known: Sequences, users: Ints) -> Scores:
        """Return scores [B, I] of all items after what is known of the users."""
        ...


class Asked(NamedTuple):
    """U users of whom something is known, and the item [U] that came next."""

    known: Sequences
    answer: npt.NDArray[np.int32]


class Ranked(NamedTuple):
    """Where the right items stood [U], and the lists [U, K] that were made."""

    rank: npt.NDArray[np.float64]
    rank_unseen: npt.NDArray[np.float64]  # among items that the user had not had
    lists: Ints  # of unseen items if `unseen`, else of all
    unseen: bool

    @property
    def chosen(self) -> npt.NDArray[np.float64]:
        return self.rank_unseen if self.unseen else self.rank


def ask_last(data: Sequences, back: int = 0) -> Asked:
    """Ask for each sequence's last item, or for one that lies `back` events before it: leave-one-out.

    Left out are sequences that are too short, and those whose event there has no item.
    """
    shown = without_last(data, back) if back else data
    last = shown.start[1:] - 1
    asked = (np.diff(shown.start) > 1) & (shown.item[last] >= 0)
    return Asked(without_last(shown.keep(shown.per_event(asked))), shown.item[last[asked]])


def rank(scorer: Scorer, asked: Asked, *, unseen: bool, places: int = metrics.PLACES) -> Ranked:
    """Rank all items for each user. unseen: what the lists are made of."""
    ranks, ranks_unseen, lists = [], [], []
    for first in range(0, asked.known.users, _USERS):
        users = np.arange(first, min(first + _USERS, asked.known.users))
        scores = torch.from_numpy(scorer.scores(asked.known, users))
        answer = torch.from_numpy(asked.answer[users].astype(np.int64))
        ranks.append(_places(scores, answer))
        if not unseen:
            lists.append(scores.topk(min(places, scores.shape[1]), 1).indices)
        own = scores.gather(1, answer[:, None])
        row, item = _had(asked.known, users)
        scores[row, item] = -torch.inf
        hidden = scores.scatter(1, answer[:, None], own)  # a repeat that is right was asked for all the same
        ranks_unseen.append(_places(hidden, answer))
        if unseen:
            lists.append(scores.topk(min(places, scores.shape[1]), 1).indices)
    return Ranked(torch.cat(ranks).numpy(), torch.cat(ranks_unseen).numpy(), torch.cat(lists).numpy(), unseen)


def _places(scores: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """Return how many items stand before the answer [B]; of its equals half do, and whatever is no number."""
    own = scores.gather(1, answer[:, None])
    above, equal = (~(scores <= own)).sum(1), (scores == own).sum(1) - 1
    return above.double() + 0.5 * equal.clamp(min=0).double()


def _had(known: Sequences, users: Ints) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and item of all that the users had, but for events without an item."""
    batch = whole(known, users)
    length = batch.stop - batch.start
    row = np.repeat(np.arange(len(users)), length)
    item = known.item[batch.start[0] : batch.stop[-1]].astype(np.int64)
    return torch.from_numpy(row[item >= 0]), torch.from_numpy(item[item >= 0])


class ModelScorer:
    """A trained recommender: the logarithms of its probabilities, the context of the last event included.

    candidates: how many of the best the reranker puts in its own order before all others, of a model that
    has one.
    """

    def __init__(self, model: Model, length_max: int = 0, candidates: int = 0) -> None:
        self._model, self._length_max, self._candidates = model.eval(), length_max, candidates
        with torch.no_grad():
            self._vectors, self._bias, self._taken = model.items()

    @torch.no_grad()
    def scores(self, known: Sequences, users: Ints) -> Scores:
        batch = whole(known, users, self._length_max)
        columns = known.column(self._model.config.step_features)
        item, features = pad_batch(known, batch, columns)
        user = self._model(self._taken[item], features)
        last = torch.from_numpy(batch.stop - batch.start - 1)
        query = user[torch.arange(len(users)), last]
        if context := self._model.config.context_features:
            columns = known.column(context)
            query = query + self._model.context(torch.from_numpy(known.features[batch.stop - 1][:, columns]))
        logits = query @ self._vectors[:-1].T + self._bias
        if (raises := raises_at(self._model, known, batch.stop - 1)) is not None:
            logits += raises
        if self._model.reranker is not None and self._candidates:
            logits = self._rerank(query, logits)
        scores: Scores = logits.log_softmax(1).numpy()
        return scores

    def _rerank(self, query: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the scores [B, I] with the best of each row above all others, in the reranker's order."""
        assert self._model.reranker is not None
        values, found = logits.topk(min(self._candidates, logits.shape[1]), 1)
        pairs = query[:, None].expand(-1, found.shape[1], -1), self._vectors[found]
        again = self._model.reranker(*pairs, values[..., None])[..., 0]
        above = again - again.min(1, keepdim=True).values
        return logits.scatter(1, found, values.max(1, keepdim=True).values + 1.0 + above)


def summarise(ranked: Ranked, items: int, sold: npt.NDArray[Any]) -> dict[str, float]:
    """Return all measures of the lists: K = 5 and 10 of the unseen or of all items, as was ranked."""
    rank_, lists = ranked.chosen, ranked.lists
    return {
        "hr5": float(metrics.hit_rate(rank_, 5).mean()),
        "ndcg5": float(metrics.ndcg(rank_, 5).mean()),
        "hr10": float(metrics.hit_rate(rank_).mean()),
        "ndcg10": float(metrics.ndcg(rank_).mean()),
        "mrr": float(metrics.reciprocal_rank(rank_).mean()),
        "precision10": float(metrics.precision(rank_).mean()),
        "recall10": float(metrics.hit_rate(rank_).mean()),  # there is one right item
        "hr10_all": float(metrics.hit_rate(ranked.rank).mean()),
        "ndcg10_all": float(metrics.ndcg(ranked.rank).mean()),
        "hr10_unseen": float(metrics.hit_rate(ranked.rank_unseen).mean()),
        "ndcg10_unseen": float(metrics.ndcg(ranked.rank_unseen).mean()),
        "coverage": metrics.coverage(lists, items),
        "gini": metrics.gini(lists, items),
        "novelty": metrics.novelty(lists, sold),
    }
