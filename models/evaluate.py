"""How good the lists are: each basket of a span against the list that stood before it.

The lists are those that the engine would emit, one after each event of a kind that recommends, from the model
in torch. `stream.demo.quality` judges them, as it judges the demo's own: nothing is excluded, popularity and
"buy again" know all that was known at that moment, intervals are bootstraps over households.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.batches import pad
from models.dataset import Sequences
from models.recommender import Recommender
from models.targets import group_events
from stream.demo.quality import PLACES, Lists, Quality, measure

#: Users whose sequences are padded together.
_USERS = 128


def evaluate_baskets(model: Recommender, data: Sequences, kinds: Sequence[str], from_ms: int) -> Quality:
    """Judge the model's lists after events of `kinds` on the baskets from `from_ms` on."""
    numbers = [data.kinds.index(kind) for kind in kinds]
    purchases: list[tuple[str, int, str]] = []
    lists: dict[str, Lists] = {}
    order = np.argsort(data.time_ms, kind="stable")
    owner = np.repeat(np.arange(data.users), data.start[1:] - data.start[:-1])
    for event in order[np.isin(data.kind[order], numbers) & (data.item[order] >= 0)].tolist():
        item = data.item_ids[data.item[event]]
        purchases.append((data.user[owner[event]], int(data.time_ms[event]), item))
    groups = group_events(data)
    last = groups.start[1:] - 1
    last = last[np.isin(data.kind[last], numbers)]
    model.eval()
    for first in range(0, data.users, _USERS):
        users = np.arange(first, min(first + _USERS, data.users))
        events = last[(owner[last] >= users[0]) & (owner[last] <= users[-1])]
        for event, items in zip(events.tolist(), _best(model, data, users, owner, events), strict=True):
            given = lists.setdefault(data.user[owner[event]], Lists([], []))
            given.at_ms.append(int(data.time_ms[event]))
            given.items.append([data.item_ids[item] for item in items])
    return measure(purchases, lists, from_ms)


@torch.no_grad()
def _best(
    model: Recommender, data: Sequences, users: np.ndarray, owner: np.ndarray, events: np.ndarray
) -> list[list[int]]:
    """Return the ten best items after each of the events, which are those of the users."""
    vectors, bias = model.items()
    item, features = pad(data, users, model.config.step_features)
    user = model(vectors[item], features)  # [B, T, D]
    query = user[owner[events] - users[0], events - data.start[owner[events]]]  # [E, D]
    if model.config.context_features:
        columns = data.column(model.config.context_features)
        query = query + model.context(torch.from_numpy(data.features[events][:, columns]))
    best: list[list[int]] = (query @ vectors[:-1].T + bias).topk(PLACES, 1).indices.tolist()
    return best
