"""How good lists of ten are, of the model and of what stands beside it, over the same baskets.

    HR@10, NDCG@10     as stream.demo.quality has them, with 95 % bootstraps over users
    MRR@10             the mean of 1 / place of the first right item, 0 if none of the ten is right
    precision@10       the share of the ten places that are right; recall@10: the share of the basket in them
    coverage, Gini     the share of the catalogue in some list, and how unequally items share the places
    novelty            bits of surprise by what was sold in training
    diversity          mean 1 − cosine of a list's pairs, by the model's own item vectors

Popularity and "buy again" know all that was known when the basket came. Recency (the user's own items, the
latest first) knows what the model's list knew; item-kNN too, with neighbours counted before the span.

B baskets, I items, N events.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from models import metrics
from models.dataset import Sequences
from models.evaluate import Listed
from models.ranking import Scorer
from models.rivals import own_and_near
from stream.demo.quality import BEST_DCG, DISCOUNT, PLACES, RIVALS, Bootstrap, Estimate, answers, baskets_of

Ints = npt.NDArray[np.int64]

#: Baskets that are scored together, and events that recency and neighbours look back.
_BASKETS = 128
_BACK = 100


class Held(NamedTuple):
    """Baskets, and the lists that each is held against."""

    user: Ints  # [B]
    event: Ints  # [B] after which the model's list was made
    size: Ints  # [B]
    right: Ints  # basket · I + item of all that was bought
    lists: dict[str, Ints]  # by rival, [B, PLACES], −1 for no item


class RivalQuality(NamedTuple):
    """NaN if there are no baskets."""

    hit_rate: Estimate
    ndcg: Estimate
    mrr: float
    precision: float
    recall: float
    coverage: float
    gini: float
    novelty: float
    diversity: float


class ListQuality(NamedTuple):
    baskets: int
    users: int
    rivals: dict[str, RivalQuality]


def hold(made: Listed, data: Sequences, from_ms: int) -> Held:
    """Hold each basket from `from_ms` on against the lists that stood before it."""
    number = {item: n for n, item in enumerate(data.item_ids)}
    users: dict[str, int] = {}
    user: list[int] = []  # of each basket
    event, size, right = [], [], []
    lists: dict[str, list[list[int]]] = {rival: [] for rival in RIVALS}
    for basket, given in answers(baskets_of(made.purchases), made.lists, from_ms):
        if given is None:
            continue
        before = bisect_left(made.lists[basket.user].at_ms, basket.at_ms) - 1
        event.append(made.events[basket.user][before])
        right += [len(user) * len(number) + number[item] for item in sorted(basket.items)]
        user.append(users.setdefault(basket.user, len(users)))
        size.append(len(basket.items))
        for rival in RIVALS:
            items = [number[item] for item in given[rival][:PLACES]]
            lists[rival].append(items + [-1] * (PLACES - len(items)))
    of_user, of_event, of_size, rights = (np.array(column, np.int64) for column in (user, event, size, right))
    made_lists = {rival: np.array(rows, np.int64).reshape(-1, PLACES) for rival, rows in lists.items()}
    return Held(of_user, of_event, of_size, rights, made_lists)


def add_baselines(held: Held, data: Sequences, kinds: Sequence[str], from_ms: int) -> list[str]:
    """Add the lists of recency and item-kNN; return notes on what is left out.

    They are made of events of `kinds`, as baskets are, and fitted on what came before `from_ms`.
    """
    kept = np.isin(data.kind, [data.kinds.index(kind) for kind in kinds]) & (data.item >= 0)
    learnt = data.keep(kept).before(from_ms)
    makers, notes = own_and_near()
    for name, make in makers.items():
        held.lists[name] = list_best(make(learnt), data, kept, held.event)
    return notes


def list_best(scorer: Scorer, data: Sequences, kept: npt.NDArray[np.bool_], event: Ints) -> Ints:
    """Return the best items after each of the events [B], by the user's events that are `kept` [N]."""
    found = np.full((len(event), PLACES), -1)
    for first in range(0, len(event), _BASKETS):
        known = known_at(data, kept, event[first : first + _BASKETS])
        scores = torch.from_numpy(scorer.scores(known, np.arange(known.users)))
        best = scores.topk(min(PLACES, scores.shape[1]), 1).indices.numpy()
        found[first : first + _BASKETS, : best.shape[1]] = best
    return found


def known_at(data: Sequences, kept: npt.NDArray[np.bool_], event: Ints) -> Sequences:
    """Return a sequence for each of the events [B]: items of the last `kept` ones up to it, it included."""
    count = np.concatenate([[0], np.cumsum(kept)])
    owner = np.searchsorted(data.start, event, side="right") - 1
    stop = count[event + 1]
    start = np.maximum(count[data.start[owner]], stop - _BACK)
    length = stop - start
    ends = np.cumsum(length)
    place = np.arange(length.sum()) + np.repeat(start - (ends - length), length)
    return data._replace(
        start=np.concatenate([[0], ends]),
        user=[data.user[n] for n in owner.tolist()],
        item=data.item[kept][place],
        kind=data.kind[kept][place],
        time_ms=data.time_ms[kept][place],
        features=np.empty((len(place), 0), np.float32),
        feature_names=[],
    )


def judge_held(held: Held, items: int, sold: metrics.Array, vectors: metrics.Array) -> ListQuality:
    """Return the quality of every rival. items: of the catalogue; sold [I]: in training; vectors [I, D]."""
    if not len(held.user):
        unknown = Estimate(np.nan, np.nan, np.nan)
        nothing = RivalQuality(unknown, unknown, *[np.nan] * 7)
        return ListQuality(0, 0, dict.fromkeys(held.lists, nothing))
    users = int(held.user.max()) + 1
    bootstrap, best = Bootstrap(held.user, users), np.take(BEST_DCG, np.minimum(held.size, PLACES) - 1)
    rivals = {}
    for rival, lists in held.lists.items():
        key = np.arange(len(lists))[:, None] * items + lists
        hits = np.isin(key, held.right) & (lists >= 0)  # [B, PLACES]
        gain: npt.NDArray[np.float64] = np.einsum("bk,k->b", hits, DISCOUNT) / best
        first = np.where(hits.any(1), 1.0 / (hits.argmax(1) + 1.0), 0.0)
        some = bool((lists >= 0).any())
        rivals[rival] = RivalQuality(
            hit_rate=bootstrap.estimate(np.where(hits.any(1), 1.0, 0.0)),
            ndcg=bootstrap.estimate(gain),
            mrr=float(first.mean()),
            precision=float(hits.mean()),
            recall=float((hits.sum(1) / held.size).mean()),
            coverage=metrics.coverage(lists, items),
            gini=metrics.gini(lists, items) if some else np.nan,
            novelty=metrics.novelty(lists, sold) if some else np.nan,
            diversity=metrics.diversity(lists, vectors),
        )
    return ListQuality(len(held.user), users, rivals)
