"""Training: one loop, from sequences to a model. Nothing here knows where the data come from or go to.

Everything that chance decides in an epoch follows from the seed and the epoch's number, so a run that was
killed goes on from its checkpoint (models/checkpoint.py) to the same model, bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.augment import count_stretches, cut, into_stretches, vary_items
from models.batches import count_batches, cut_batches, whole
from models.batches import pad as pad
from models.checkpoint import Epoch, Progress
from models.co_occurrence import check_choice, fit_near
from models.dataset import Sequences
from models.judge import judge, read_silences
from models.neighbours import neighbour_codes
from models.objective import Objective, duration_ms, learnt_items
from models.recipe import Recipe, Stage, put
from models.recommender import Recommender, RecommenderConfig
from models.repurchase import repurchase_codes
from models.targets import coming_values, find_silences, group_events, next_values, shuffle_groups
from models.validate import Split, end_of, hold_out
from stream.errors import UsageError
from stream.item_features import ItemFeatures

#: Counted onto the sales of each item: an item that was never sold is rare, not impossible.
PRIOR_SALES = 0.5
#: A standard deviation that is no larger a share of the mean is the rounding of float32.
_ROUNDING = 1e-6


class Described(NamedTuple):
    """The catalogue as the item encoder takes it."""

    features: ItemFeatures
    codes: npt.NDArray[np.int64]  # [I, C]
    floats: npt.NDArray[np.float32]  # [I, F]


def fit(
    model: Recommender,
    data: Sequences,
    recipe: Recipe,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    *,
    split: Split | None = None,
    checkpoint: Path | None = None,
) -> list[Epoch]:
    """Train the model in place, stage by stage, and return how it went, epoch by epoch.

    split: what to learn from and what to judge by, if not as the recipe says. checkpoint: a file to write
    after each epoch, and to go on from if it is there; each further stage has one of its own beside it.
    """
    split = split or hold_out(data, recipe.validation, recipe.seed)
    check_choice(split, recipe)
    history: list[Epoch] = []
    for number, stage in enumerate(recipe.stages or [Stage()]):
        chosen = put(msgspec.structs.replace(recipe, stages=[]), stage.set, f"stages.{number}")
        beside = checkpoint and checkpoint.with_suffix(f".{number}.pt") if number else checkpoint
        before = len(history)

        def note(epoch: Epoch, before: int = before) -> None:
            on_epoch(msgspec.structs.replace(epoch, number=before + epoch.number))

        epochs = fit_stage(model, split, chosen, stage.freeze, note, beside)
        history += [msgspec.structs.replace(e, number=before + e.number) for e in epochs]
    if recipe.co_occurrence:
        fit_near(model, split, recipe)
    return history


def count_epochs(recipe: Recipe) -> int:
    """Return how many epochs the stages have together, at most."""
    return sum(stage.set.get("epochs", recipe.epochs) for stage in recipe.stages or [Stage()])


def fit_stage(
    model: Recommender,
    split: Split,
    recipe: Recipe,
    freeze: list[str],
    on_epoch: Callable[[Epoch], None],
    checkpoint: Path | None,
) -> list[Epoch]:
    """Train all but the frozen parts of the model."""
    learn, everything = split.learn, np.ones(len(split.learn.item), np.bool_)
    learnt = learnt_items(learn, recipe.sold_min)
    asked = Objective(learn, recipe, learnt, everything, split.learn_until_ms)
    held = None
    if split.judged is not None:
        held = Objective(split.judged, recipe, learnt, split.wanted, split.judge_until_ms)
    groups, histories = group_events(learn), whole(learn, np.arange(learn.users))
    in_stretches = recipe.augment.stretches == "all" and recipe.length_max > 0
    length = histories.stop - histories.start
    rows_count = int(count_stretches(length, recipe.length_max).sum()) if in_stretches else len(length)
    steps = recipe.epochs * count_batches(rows_count, recipe.users_per_batch)
    optimizer, schedule = make_optimizer(model, recipe, steps, freeze)
    progress = Progress(model, optimizer, schedule, recipe.validation, checkpoint)
    while progress.epoch < recipe.epochs and not progress.stale:
        number, started, losses = progress.epoch + 1, time.monotonic(), []
        chance = np.random.default_rng([recipe.seed, number])
        asked.begin(number)
        model.train()
        items = vary_items(learn, shuffle_groups(learn, groups, chance), recipe.augment, chance)
        rows = into_stretches(histories, recipe.length_max, chance) if in_stretches else histories
        for chosen in cut_batches(rows.stop - rows.start, recipe.users_per_batch, chance):
            batch = cut(rows.take(chosen), recipe.augment, recipe.length_max, chance)
            parts = asked.losses(model, asked.look(model, batch, items))
            if parts:
                loss = finite(asked.total(parts), number)
                optimizer.zero_grad()
                (loss + recipe.l1 * sum_of_sizes(model) if recipe.l1 else loss).backward()  # type: ignore[no-untyped-call]
                clip_gradients(model, recipe.gradient_norm_max)
                optimizer.step()
                losses.append(loss.item())
            schedule.step()
        said = judge(model, held, ndcg=recipe.validation.measure == "ndcg") if held else {}
        mean = float(np.mean(losses)) if losses else float("nan")
        on_epoch(progress.note(Epoch(number, mean, time.monotonic() - started, said)))
    progress.restore_best()
    if model.hazard is not None and held and recipe.hazard and recipe.hazard.calibrate:
        silent = read_silences(model, held)
        model.hazard.calibrate(silent.y, silent.silence_ms, silent.censored)
    model.eval()
    return progress.history


def make_model(data: Sequences, recipe: Recipe, described: Described | None) -> Recommender:
    """Return the model of the recipe as training begins."""
    if recipe.validation.by == "last":
        refuse_without_last(recipe, "validation.by")
    torch.manual_seed(recipe.seed)
    try:
        model = Recommender(make_config(data, recipe, described))
    except (TypeError, ValueError) as error:
        raise UsageError(
            str(error), place="encoder_config", remedy=f"models/encoders/{recipe.encoder}.py has its keys"
        ) from error
    sold = count_sales(data)
    with torch.no_grad():
        shares = torch.from_numpy(log_share(sold))
        model.items.own_bias.copy_(shares)
        model.items.own.weight[-1] = 0.0
        if model.repeats is not None and recipe.repeats:
            model.repeats.log_weight.copy_(np.log(recipe.repeats.share) - shares)
        if recipe.repurchase:
            codes = repurchase_codes(torch.from_numpy(sold), recipe.embedding_size, recipe.repurchase)
            model.items.own.weight[:-1] = codes
        if recipe.neighbours:
            model.items.own.weight[:-1] = neighbour_codes(data, recipe.embedding_size, recipe.neighbours)
    if described and model.items.encoder:
        model.items.describe(described.codes, described.floats)
        with torch.no_grad():
            for parameter in model.items.encoder.parameters():
                parameter.mul_(recipe.attributes_scale)
            # An item that must do with its attributes is a usual one: bias 0 would be all of the sales.
            model.items.encoder.bias.bias.add_(shares.mean())
            model.items.own_bias.sub_(shares.mean())
    return model


def refuse_without_last(recipe: Recipe, place: str) -> None:
    """Raise UsageError if the recipe learns how long silences are, or what comes in a span of time.

    Without everyone's last event each user would seem to stay away from the one before it until the end.
    """
    if recipe.hazard or (recipe.value and recipe.value.of == "user"):
        head = "hazard" if recipe.hazard else "value"
        raise UsageError(
            f"without everyone's last event the {head} head learns silences that were none",
            place=place,
            remedy="hold out users or time",
        )


def make_config(data: Sequences, recipe: Recipe, described: Described | None) -> RecommenderConfig:
    bins: list[str | int] = recipe.hazard.bins if recipe.hazard else []
    mean, scale = measure_values(data, recipe)
    return RecommenderConfig(
        items=len(data.item_ids),
        embedding_size=recipe.embedding_size,
        step_features=tuple(recipe.step_features),
        context_features=tuple(recipe.context_features),
        words={f"context.{name}": len(words) for name, words in recipe.contexts.items() if words},
        encoder=recipe.encoder,
        encoder_config=recipe.encoder_config,
        memory_half_lives=tuple(recipe.memory_half_lives),
        repeats=recipe.repeats.length if recipe.repeats else 0,
        repeats_decay=recipe.repeats.decay if recipe.repeats else 1.0,
        item_features=msgspec.to_builtins(described.features.fields) if described else None,
        id_dropout=recipe.id_dropout,
        gap_buckets=recipe.gap_buckets,
        similarity=recipe.similarity,
        untied=recipe.untied,
        entrance=recipe.entrance,
        hazard_bins_ms=tuple(duration_ms(edge, "hazard.bins") for edge in bins),
        rerank_hidden=recipe.rerank.hidden if recipe.rerank else 0,
        value=recipe.value.of if recipe.value else "",
        value_mean=mean,
        value_scale=scale,
        dropout=recipe.dropout,
    )


def measure_values(data: Sequences, recipe: Recipe) -> tuple[float, float]:
    """Return mean and standard deviation of what the value head learns; equal values have 1."""
    if recipe.value is None:
        return 0.0, 1.0
    if unknown := set(recipe.target_kinds) - set(data.kinds):
        raise UsageError(f"no such kind: {', '.join(sorted(unknown))}", place="target_kinds")
    counted = np.isin(data.kind, [data.kinds.index(kind) for kind in recipe.target_kinds or data.kinds])
    if recipe.value.of == "item":
        values = next_values(data, counted)
    else:
        horizon_ms, until_ms = duration_ms(recipe.value.horizon, "value.horizon"), end_of(data)
        values = coming_values(data, counted, horizon_ms, until_ms)
        values[~find_silences(data, until_ms).known] = np.nan
    there = values[~np.isnan(values)].astype(np.float64)
    if not len(there):
        raise UsageError("no event has a value", place="value", remedy="leave the value head out")
    mean, scale = float(there.mean()), float(there.std())
    return mean, scale if scale > _ROUNDING * abs(mean) else 1.0


def make_optimizer(
    model: Recommender, recipe: Recipe, steps: int, freeze: Sequence[str] = ()
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW with rates of their own for items, biases and repeats, and the schedule of all."""
    parts = dict(model.named_children())
    if unknown := sorted(set(freeze) - set(parts)):
        raise UsageError(f"no such part of the model: {', '.join(unknown)}", place="stages.freeze")
    kept = {id(p) for name in freeze for p in parts[name].parameters()}
    own = {id(model.items.own_bias): "bias"} | {
        id(p): "items" for p in model.items.parameters() if p is not model.items.own_bias
    }
    if model.repeats is not None:
        own[id(model.repeats.log_weight)] = "repeats"
    rates = {
        "bias": recipe.bias_learning_rate,
        "items": recipe.items_learning_rate,
        "repeats": recipe.repeats.learning_rate if recipe.repeats else 0.0,
        "rest": recipe.learning_rate,
    }
    groups: list[dict[str, Any]] = []
    for name, rate in rates.items():
        chosen = [p for p in model.parameters() if own.get(id(p), "rest") == name]
        for parameter in chosen:
            parameter.requires_grad_(rate > 0 and id(parameter) not in kept)
        for decay, group in ((recipe.weight_decay, True), (0.0, False)):
            parameters = [p for p in chosen if (p.dim() > 1) == group]
            if rate > 0 and parameters:
                groups.append({"params": parameters, "lr": rate, "weight_decay": decay})
    optimizer = torch.optim.AdamW(groups)
    steps = max(1, steps)
    if recipe.schedule == "one-cycle":  # up and down once (Smith, 2018)
        most = [group["lr"] for group in groups]
        # The way up takes a step at least: torch divides by its length.
        up = max(recipe.warm_up, min(1.0, 2.0 / (steps + 1))) if recipe.warm_up else 0.0
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, most, total_steps=steps + 1, pct_start=up)
        return optimizer, cycle
    warm = max(1, int(recipe.warm_up * steps))

    def share(step: int) -> float:
        if step < warm or recipe.schedule == "constant":
            return min(1.0, (step + 1) / warm)
        return 0.5 + 0.5 * float(np.cos(np.pi * (step - warm) / max(1, steps - warm)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def finite(loss: Tensor, epoch: int) -> Tensor:
    """Return the loss. Raises UsageError if it is no number, as nothing could be learnt from it."""
    if not loss.isfinite():
        raise UsageError(f"the loss is {loss.item()}", place=f"epoch {epoch}", remedy="lower learning_rate")
    return loss


def clip_gradients(model: Recommender, norm_max: float) -> None:
    """Shorten the gradients of what is learnt: what a stage leaves alone may have some of the last one."""
    torch.nn.utils.clip_grad_norm_((p for p in model.parameters() if p.requires_grad), norm_max)


def sum_of_sizes(model: Recommender) -> Tensor:
    """Return Σ |w| over the weights; biases and norms are left out."""
    return torch.stack([p.abs().sum() for p in model.parameters() if p.requires_grad and p.dim() > 1]).sum()


def count_sales(data: Sequences) -> npt.NDArray[np.float32]:
    """Return how often each item occurs, [I]."""
    return np.bincount(data.item[data.item >= 0], minlength=len(data.item_ids)).astype(np.float32)


def log_share(sold: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    share = (sold + PRIOR_SALES) / (sold + PRIOR_SALES).sum()
    logs: npt.NDArray[np.float32] = np.log(share).astype(np.float32)
    return logs
