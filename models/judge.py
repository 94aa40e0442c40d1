"""What a model says of what was held out: each head's loss, NDCG, and what a head is calibrated on.

P positions, K bins, Y outputs of the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.batches import whole
from models.dataset import Sequences
from models.ensemble import Model
from models.objective import Objective, Seen
from models.recent import raises_at
from models.targets import Targets, had_before

#: Sequences that go through the model together.
_USERS: Final = 64
PLACES: Final = 10


@torch.no_grad()
def judge(model: Model, objective: Objective, *, ndcg: bool = False) -> dict[str, float]:
    """Return the loss of each part and of all (`loss`), and NDCG@10 among all items if it is asked for."""
    sums: dict[str, float] = {}
    weights: dict[str, int] = {}

    def add(name: str, value: float, weight: int) -> None:
        sums[name] = sums.get(name, 0.0) + weight * value
        weights[name] = weights.get(name, 0) + weight

    objective.begin(0)
    for seen in walk(model, objective):
        parts = objective.losses(model, seen)
        for name, part in parts.items():
            add(name, part.item(), len(seen.batch.users))
        if parts:
            add("loss", objective.total(parts).item(), len(seen.batch.users))
        if ndcg:
            targets = objective.targets(seen.batch)
            if len(targets.item):
                had = objective.data if objective.recipe.validation.unseen else None
                raises = raises_after(model, objective, seen, targets)
                gains = gains_of(objective.query(model, seen, targets), seen, targets, had, raises)
                add("ndcg", float(gains.mean()), len(gains))
    return {name: total / weights[name] for name, total in sums.items()}


def raises_after(model: Model, objective: Objective, seen: Seen, targets: Targets) -> Tensor | None:
    """Return what the last items add to the scores at the targets' positions, [P, I]; None if nothing."""
    return raises_at(model, objective.data, targets.events(seen.batch))


def gains_of(
    query: Tensor,
    seen: Seen,
    targets: Targets,
    had: Sequences | None = None,
    raises: Tensor | None = None,
) -> Tensor:
    """Return NDCG@10 of each position [P]; every item competes, and of a score's equals half stand before it.

    had: the sequences; items that users had up to a position are taken out there, but for what is right.
    raises [P, I]: what the last items add to the scores.
    """
    scores = query @ seen.vectors[:-1].T + seen.bias  # [P, I]
    if raises is not None:
        scores = scores + raises
    once = np.unique(targets.position * len(seen.bias) + targets.item)  # a basket may hold an item twice
    position, item = map(torch.from_numpy, np.divmod(once, len(seen.bias)))
    own = scores[position, item][:, None]
    if had is not None:
        scores[tuple(map(torch.from_numpy, had_before(had, seen.batch, targets)))] = -torch.inf
    rank = (~(scores[position] <= own)).sum(1) + 0.5 * ((scores[position] == own).sum(1) - 1).clamp(min=0)
    gain = torch.where(rank < PLACES, 1.0 / torch.log2(rank + 2.0), 0.0)
    found = torch.zeros(len(query)).index_add_(0, position, gain)
    count = torch.bincount(position, minlength=len(query)).clamp(max=PLACES)
    best = torch.cumsum(1.0 / torch.log2(torch.arange(PLACES) + 2.0), 0)
    return (found / best[count - 1]).clamp(max=1.0)


class Silent(NamedTuple):
    """Moments after which users fell silent."""

    event: np.ndarray  # [P]
    y: Tensor  # [P, Y]
    silence_ms: Tensor  # i64 [P]
    censored: Tensor  # bool [P]


@torch.no_grad()
def read_silences(model: Model, objective: Objective) -> Silent:
    """Return what the encoder says at each moment, and how long the silence after it was."""
    events, said = [], []
    for seen in walk(model, objective):
        row, event = objective.moments(seen.batch, objective.silent)
        events.append(event)
        said.append(seen.y[seen.batch.at(event, row)])
    event = np.concatenate(events)
    silence, censored, _ = objective.silences
    return Silent(event, torch.cat(said), torch.from_numpy(silence[event]), torch.from_numpy(censored[event]))


@torch.no_grad()
def read_values(model: Model, objective: Objective) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the events after which a value is known, what the model expects, and what it was."""
    events, said = [], []
    for seen in walk(model, objective):
        row, event = objective.moments(seen.batch, ~np.isnan(objective.values))
        if len(event):
            events.append(event)
            said.append(objective.value(model, seen, row, event).numpy())
    event = np.concatenate(events)
    return event, np.concatenate(said), objective.values[event]


@torch.no_grad()
def walk(model: Model, objective: Objective) -> Iterator[Seen]:
    """Yield what the model says of all sequences, batch by batch, the long ones among themselves."""
    data = objective.data
    model.eval()
    by_length = np.argsort(data.start[:-1] - data.start[1:], kind="stable")
    for first in range(0, data.users, _USERS):
        yield objective.look(model, whole(data, by_length[first : first + _USERS]), data.item)
