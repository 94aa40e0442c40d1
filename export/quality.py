"""What it costs to store items in fewer bits: the same model judged with its rows as the bundle has them.

Everyone's last basket or event is asked for, every item competes: NDCG@10 before and after, and how many
of the ten items of each list stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from export.write import Floats, Precision, compress, expand
from models.dataset import Sequences
from models.items.table import ItemRows
from models.judge import PLACES, gains_of, raises_after, walk
from models.objective import Objective, learnt_items
from models.recipe import Validation
from models.run import Run
from models.validate import end_of, hold_out


class Loss(NamedTuple):
    positions: int
    ndcg_before: float
    ndcg_after: float
    items_kept: float  # share of the lists' items


def measure_loss(run: Run, data: Sequences, precision: Precision) -> Loss:
    """Judge the run's model with its items as float32, and as they are stored."""
    known = data.keep(data.item < len(run.item_ids))._replace(item_ids=run.item_ids)
    split = hold_out(known, Validation(by="last"), 0)
    asked = Objective(known, run.recipe, learnt_items(known, 0), split.wanted, end_of(known))
    gains, lists = _judge(run, asked)
    with torch.no_grad():
        rows = run.model.items()
    stored = ItemRows(_as_stored(rows.scored, precision), rows.bias, _as_stored(rows.taken, precision))
    with items_replaced(run, stored):
        gains_after, lists_after = _judge(run, asked)
    kept = [len(set(a) & set(b)) for a, b in zip(lists.tolist(), lists_after.tolist(), strict=True)]
    share = float(np.mean(kept)) / min(PLACES, lists.shape[1])
    return Loss(len(gains), float(gains.mean()), float(gains_after.mean()), share)


@contextmanager
def items_replaced(run: Run, rows: ItemRows) -> Iterator[None]:
    """Let the model see other rows of its items."""
    own = run.model.items.forward
    run.model.items.forward = lambda: rows
    try:
        yield
    finally:
        run.model.items.forward = own


@torch.no_grad()
def _judge(run: Run, asked: Objective) -> tuple[Floats, np.ndarray]:
    """Return NDCG@10 of each position, and the items of its list."""
    gains, lists = [], []
    for seen in walk(run.model, asked):
        targets = asked.targets(seen.batch)
        if len(targets.item):
            query = asked.query(run.model, seen, targets)
            scores = query @ seen.vectors[:-1].T + seen.bias
            if (raises := raises_after(run.model, asked, seen, targets)) is not None:
                scores += raises
            gains.append(_numpy(gains_of(query, seen, targets, raises=raises)))
            lists.append(scores.topk(min(PLACES, scores.shape[1]), 1).indices.numpy())
    return np.concatenate(gains), np.concatenate(lists)


def _as_stored(rows: Tensor, precision: Precision) -> Tensor:
    stored = torch.from_numpy(expand("items", compress("items", _numpy(rows), precision)))
    stored[-1] = rows[-1]  # no item: never compressed
    return stored


def _numpy(tensor: Tensor) -> Floats:
    found: Floats = tensor.detach().numpy()
    return found
