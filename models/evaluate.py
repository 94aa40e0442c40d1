"""How good the lists are: each basket of a span against the list that stood before it.

The lists are those that the engine would emit, one after each event of a kind that recommends, from the model
in torch, reranker included. models/list_quality.py judges them, as `stream.demo.quality` judges the demo's
own: nothing is excluded. The same baskets are judged once more by the user's lifecycle state when the list
was made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from models.batches import pad_batch, whole
from models.dataset import Sequences
from models.ensemble import Model
from models.recent import raises_at
from models.targets import group_events, latest_times
from stream.core.lifecycle import STATES
from stream.demo.quality import BUY_AGAIN, LISTED, PLACES, Lists, answers, baskets_of, judge

#: Users whose sequences are padded together.
_USERS = 128

Purchases = list[tuple[str, int, str]]


class Listed(NamedTuple):
    """All lists of the data, and the user's state when each was made."""

    purchases: Purchases
    lists: dict[str, Lists]
    states: dict[str, list[str]]  # by user, beside the lists
    events: dict[str, list[int]]  # by user, after which each list was made


class StateQuality(NamedTuple):
    """(HR@10, NDCG@10) of the baskets whose list was made in one lifecycle state."""

    baskets: int
    listed: tuple[float, float]
    buy_again: tuple[float, float]


def by_state(made: Listed, from_ms: int) -> dict[str, StateQuality]:
    """Return the quality in each lifecycle state that has baskets."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for basket, given in answers(baskets_of(made.purchases), made.lists, from_ms):
        if given is not None:
            at = bisect_left(made.lists[basket.user].at_ms, basket.at_ms) - 1
            figures = judge(given[LISTED], basket.items) + judge(given[BUY_AGAIN], basket.items)
            found.setdefault(made.states[basket.user][at], []).append(figures)
    quality: dict[str, StateQuality] = {}
    for state in STATES:
        if state in found:
            hit, ndcg, again_hit, again_ndcg = np.mean(found[state], axis=0).tolist()
            quality[state] = StateQuality(len(found[state]), (hit, ndcg), (again_hit, again_ndcg))
    return quality


def make_lists(model: Model, data: Sequences, kinds: Sequence[str], candidates: int) -> Listed:
    """Make the list after each group of events of `kinds`; `candidates` of the best are what a reranker sees.

    Its time is that of the user's latest event, so that a basket is judged by no list that had seen it: after
    an event that came late, a list of an older time would know what was bought since.
    """
    numbers = [data.kinds.index(kind) for kind in kinds]
    made = Listed([], {}, {}, {})
    order = np.argsort(data.time_ms, kind="stable")
    owner = data.per_event(np.arange(data.users))
    for event in order[np.isin(data.kind[order], numbers) & (data.item[order] >= 0)].tolist():
        item = data.item_ids[data.item[event]]
        made.purchases.append((data.user[owner[event]], int(data.time_ms[event]), item))
    groups = group_events(data)
    last = groups.start[1:] - 1
    last = last[np.isin(data.kind[last], numbers)]
    state, latest = states_of(data), latest_times(data)
    model.eval()
    for first in range(0, data.users, _USERS):
        users = np.arange(first, min(first + _USERS, data.users))
        events = last[(owner[last] >= users[0]) & (owner[last] <= users[-1])]
        best = _best(model, data, users, owner, events, candidates)
        for event, items in zip(events.tolist(), best, strict=True):
            user = data.user[owner[event]]
            given = made.lists.setdefault(user, Lists([], []))
            given.at_ms.append(int(latest[event]))
            given.items.append([data.item_ids[item] for item in items])
            made.states.setdefault(user, []).append(state[event])
            made.events.setdefault(user, []).append(event)
    return made


def states_of(data: Sequences) -> Mapping[int, str]:
    """Return the user's lifecycle state after each event, as the features say it."""
    names = [name for name in data.feature_names if name.startswith("lifecycle=")]
    which = data.features[:, data.column(names)].argmax(1)
    return dict(enumerate(names[i].removeprefix("lifecycle=") for i in which.tolist()))


@torch.no_grad()
def _best(
    model: Model,
    data: Sequences,
    users: np.ndarray,
    owner: np.ndarray,
    events: np.ndarray,
    candidates: int,
) -> list[list[int]]:
    """Return the ten best items, or all there are, after each of the events, which are those of the users."""
    vectors, bias, taken = model.items()
    item, features = pad_batch(data, whole(data, users), data.column(model.config.step_features))
    user = model(taken[item], features)  # [B, T, D]
    query = user[owner[events] - users[0], events - data.start[owner[events]]]  # [E, D]
    if model.config.context_features:
        columns = data.column(model.config.context_features)
        query = query + model.context(torch.from_numpy(data.features[events][:, columns]))
    scores = query @ vectors[:-1].T + bias
    if (raises := raises_at(model, data, events)) is not None:
        scores += raises
    if model.reranker is None:
        best: list[list[int]] = scores.topk(min(PLACES, len(bias)), 1).indices.tolist()
        return best
    values, found = scores.topk(min(max(candidates, PLACES), len(bias)), 1)
    pairs = query[:, None].expand(-1, found.shape[1], -1), vectors[found]
    again = model.reranker(*pairs, values[..., None])[..., 0]
    best = found.gather(1, again.topk(min(PLACES, again.shape[1]), 1).indices).tolist()
    return best
