"""Training: one loop, from sequences to a model. Nothing here knows where the data come from or go to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dataset import Sequences
from models.recipe import Recipe
from models.recommender import Recommender, RecommenderConfig
from models.repurchase import repurchase_codes
from models.targets import Targets, group_events, make_targets, shuffle_groups
from stream.item_features import ItemFeatures

Ints = npt.NDArray[np.int64]

#: Counted onto the sales of each item: an item that was never sold is rare, not impossible.
PRIOR_SALES = 0.5


class Epoch(NamedTuple):
    number: int
    loss: float
    seconds: float


class Described(NamedTuple):
    """The catalogue as the item encoder takes it."""

    features: ItemFeatures
    codes: npt.NDArray[np.int64]  # [I, C]
    floats: npt.NDArray[np.float32]  # [I, F]


def make_model(data: Sequences, recipe: Recipe, described: Described | None) -> Recommender:
    """Return the model of the recipe as training begins."""
    config = RecommenderConfig(
        items=len(data.item_ids),
        embedding_size=recipe.embedding_size,
        step_features=tuple(recipe.step_features),
        context_features=tuple(recipe.context_features),
        encoder=recipe.encoder,
        encoder_config=recipe.encoder_config,
        memory_half_lives=tuple(recipe.memory_half_lives),
        item_features=msgspec.to_builtins(described.features.fields) if described else None,
        id_dropout=recipe.id_dropout,
        dropout=recipe.dropout,
    )
    model = Recommender(config)
    sold = count_sales(data)
    with torch.no_grad():
        model.items.own_bias.copy_(torch.from_numpy(log_share(sold)))
        model.items.own.weight[-1] = 0.0
        if recipe.repurchase:
            codes = repurchase_codes(torch.from_numpy(sold), recipe.embedding_size, recipe.repurchase)
            model.items.own.weight[:-1] = codes
    if described and model.items.encoder:
        model.items.describe(described.codes, described.floats)
        with torch.no_grad():
            for parameter in model.items.encoder.parameters():
                parameter.mul_(recipe.attributes_scale)
    return model


def fit(
    model: Recommender,
    data: Sequences,
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train the model in place, and return how the loss fell."""
    random = np.random.default_rng(recipe.seed)
    groups = group_events(data)
    learnt = torch.from_numpy(
        np.flatnonzero(count_sales(data) >= recipe.sold_min)
    )  # [C] items to choose among
    place = torch.full((len(data.item_ids),), -1).scatter_(0, learnt, torch.arange(len(learnt)))
    wanted = _wanted(data, recipe) & (place.numpy()[data.item] >= 0)
    batches = math.ceil(data.users / recipe.users_per_batch)
    optimizer, schedule = make_optimizer(model, recipe, batches * recipe.epochs)
    history = []
    for number in range(1, recipe.epochs + 1):
        started, losses = time.monotonic(), []
        model.train()
        items = shuffle_groups(data, groups, random)
        for users in np.array_split(random.permutation(data.users), batches):
            targets = make_targets(data, groups, users, wanted, recipe.horizon, recipe.horizon_decay)
            if not len(targets.item):
                continue
            loss = batch_loss(model, data._replace(item=items), recipe, users, targets, learnt, place)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm_max)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        history.append(Epoch(number, float(np.mean(losses)), time.monotonic() - started))
        on_epoch(history[-1])
    model.eval()
    return history


def batch_loss(
    model: Recommender,
    data: Sequences,
    recipe: Recipe,
    users: Ints,
    targets: Targets,
    learnt: Tensor,
    place: Tensor,
) -> Tensor:
    """Return the mean over positions of −Σ weight · log P(item), P over the learnt items."""
    vectors, bias = model.items()
    item, features = pad(data, users, model.config.step_features)
    user = model(vectors[item], features)  # [B, T, D]
    query = user[torch.from_numpy(targets.row), torch.from_numpy(targets.step)]  # [P, D]
    chance = torch.log_softmax(query @ vectors[learnt].T + bias[learnt], 1)  # [P, C]
    chosen = chance[torch.from_numpy(targets.position), place[torch.from_numpy(targets.item)]]  # [T]
    return -(chosen * torch.from_numpy(targets.weight)).sum() / len(query)


def pad(data: Sequences, users: Ints, features: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return items [B, T] (−1, the last row of the table, for none) and features [B, T, F] of some users."""
    length = (data.start[1:] - data.start[:-1])[users]
    item = np.full((len(users), length.max()), -1, np.int64)
    columns = data.column(features)
    rows = np.zeros((*item.shape, len(columns)), np.float32)
    for row, (user, n) in enumerate(zip(users.tolist(), length.tolist(), strict=True)):
        start = data.start[user]
        item[row, :n] = data.item[start : start + n]
        rows[row, :n] = data.features[start : start + n][:, columns]
    return torch.from_numpy(item), torch.from_numpy(rows)


def make_optimizer(
    model: Recommender, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW with a rate of its own for the items, and one cycle up and down (Smith, 2018)."""
    own = {id(model.items.own_bias): "bias"} | {
        id(p): "items" for p in model.items.parameters() if p is not model.items.own_bias
    }
    rates = {
        "bias": recipe.bias_learning_rate,
        "items": recipe.items_learning_rate,
        "rest": recipe.learning_rate,
    }
    groups: list[dict[str, Any]] = []
    for name, rate in rates.items():
        chosen = [p for p in model.parameters() if own.get(id(p), "rest") == name]
        for parameter in chosen:
            parameter.requires_grad_(rate > 0)
        if rate > 0:
            groups.append({"params": chosen, "lr": rate})
    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in groups], total_steps=max(1, steps), pct_start=recipe.warm_up
    )
    return optimizer, schedule


def count_sales(data: Sequences) -> npt.NDArray[np.float32]:
    """Return how often each item occurs, [I]."""
    return np.bincount(data.item[data.item >= 0], minlength=len(data.item_ids)).astype(np.float32)


def log_share(sold: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    share = (sold + PRIOR_SALES) / (sold + PRIOR_SALES).sum()
    logs: npt.NDArray[np.float32] = np.log(share).astype(np.float32)
    return logs


def _wanted(data: Sequences, recipe: Recipe) -> npt.NDArray[np.bool_]:
    kinds = [data.kinds.index(kind) for kind in recipe.target_kinds or data.kinds]
    return (data.item >= 0) & np.isin(data.kind, kinds)
