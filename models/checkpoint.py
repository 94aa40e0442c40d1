"""How far a run has come: what it needs to go on after a kill, the best model so far, and when to stop.

The file appears whole or not at all. It goes with one recipe and one set of data, which the caller names in
its path (models/run.py).
"""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import msgspec
import torch

from models.recipe import Validation
from models.recommender import Recommender


class Epoch(msgspec.Struct, frozen=True):
    number: int
    loss: float  # in training
    seconds: float
    held: dict[str, float] = {}  # what was measured on what is held out


class Progress:
    def __init__(
        self,
        model: Recommender,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        validation: Validation,
        path: Path | None,
    ) -> None:
        """Begin, or go on from the file at `path` if there is one."""
        self._model, self._optimizer, self._schedule = model, optimizer, schedule
        self._validation, self._path = validation, path
        self.history: list[Epoch] = []
        self._best: dict[str, Any] | None = None
        self._best_at = 0
        if path is not None and path.exists():
            self._load(path)

    @property
    def epoch(self) -> int:
        """The last epoch that is done."""
        return len(self.history)

    @property
    def stale(self) -> bool:
        """Whether the recipe's patience is at its end."""
        patience = self._validation.patience
        return bool(patience) and self._best_at > 0 and self.epoch - self._best_at >= patience

    def note(self, epoch: Epoch) -> Epoch:
        """Keep what an epoch brought, and write the checkpoint."""
        self.history.append(epoch)
        if epoch.held and (self._best is None or self._cost(epoch) < self._cost(self._at_best())):
            self._best_at = epoch.number
            self._best = copy.deepcopy(self._model.state_dict())
        if self._path is not None:
            self._save(self._path)
        return epoch

    def restore_best(self) -> None:
        """Put the best weights back; without anything held out they are the last."""
        if self._best is not None:
            self._model.load_state_dict(self._best)

    def _at_best(self) -> Epoch:
        return self.history[self._best_at - 1]

    def _cost(self, epoch: Epoch) -> float:
        ndcg = self._validation.measure == "ndcg"
        cost = -epoch.held.get("ndcg", 0.0) if ndcg else epoch.held["loss"]
        return math.inf if math.isnan(cost) else cost

    def _save(self, path: Path) -> None:
        kept = {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": {k: v for k, v in self._schedule.state_dict().items() if not callable(v)},
            "history": msgspec.to_builtins(self.history),
            "best": self._best,
            "best_at": self._best_at,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        torch.save(kept, beside)
        os.replace(beside, path)

    def _load(self, path: Path) -> None:
        kept = torch.load(path, weights_only=True)
        self._model.load_state_dict(kept["model"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self._schedule.load_state_dict(kept["schedule"])
        self.history = msgspec.convert(kept["history"], list[Epoch])
        self._best, self._best_at = kept["best"], kept["best_at"]
