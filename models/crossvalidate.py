"""Cross-validation: a recipe is trained once for each split, and each model judged on what it did not see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from models.checkpoint import Epoch
from models.dataset import Sequences
from models.judge import judge
from models.objective import Objective, learnt_items
from models.recipe import Recipe
from models.train import Described, fit, make_model
from models.validate import Split
from stream.errors import UsageError


class Fold(msgspec.Struct, frozen=True):
    learnt_events: int
    judged_events: int
    epochs: int  # of the best model
    figures: dict[str, float]


def cross_validate(
    data: Sequences,
    splits: Iterable[Split],
    recipe: Recipe,
    described: Described | None,
    on_epoch: Callable[[int, Epoch], None] = lambda fold, epoch: None,
) -> list[Fold]:
    """Return how the recipe does on each split. Early stopping watches what the split holds out.

    Raises UsageError if a fold cannot be judged.
    """
    folds = []
    for number, split in enumerate(splits, 1):
        assert split.judged is not None
        model = make_model(split.learn, recipe, described)
        history = fit(model, data, recipe, lambda epoch, n=number: on_epoch(n, epoch), split=split)  # type: ignore[misc]
        learnt = learnt_items(split.learn, recipe.sold_min)
        held = Objective(split.judged, recipe, learnt, split.wanted, split.judge_until_ms)
        figures = judge(model, held, ndcg=recipe.next_item.weight > 0)
        measure = recipe.validation.measure
        if not any(measure in epoch.held for epoch in history):
            raise UsageError(
                f"its {int(split.wanted.sum()):,} events ask about nothing known, and give no {measure}",
                place=f"fold {number}",
                remedy="take fewer folds, a lower sold_min, or more target_kinds",
            )
        watched = [epoch.held.get("loss", np.inf) for epoch in history]
        if measure == "ndcg":
            watched = [-epoch.held.get("ndcg", 0.0) for epoch in history]
        best = int(np.argmin(watched)) + 1
        folds.append(Fold(len(split.learn.item), int(split.wanted.sum()), best, figures))
    return folds


def summarize(folds: list[Fold]) -> dict[str, Any]:
    """Return each figure's mean and standard deviation over the folds, and the epochs' median."""
    names = sorted({name for fold in folds for name in fold.figures})
    figures = {}
    for name in names:
        values = [fold.figures[name] for fold in folds if name in fold.figures]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        figures[name] = {"mean": round(float(np.mean(values)), 5), "sd": round(spread, 5)}
    epochs = int(np.median([fold.epochs for fold in folds]))
    return {"folds": len(folds), "epochs": epochs, "figures": figures}
