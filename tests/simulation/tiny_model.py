"""A model small enough for thousands of runs, with the interface of `stream.model.Model`.

Its arithmetic is elementwise in float32, so that a row's result does not depend on the batch it is in: scores
can be compared bit by bit. One item is poison: the state that its step gives is not finite.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Final

import numpy as np
import numpy.typing as npt

from stream.config import Config
from stream.core.rules import HOUR_MS
from stream.model import RankedList, Reads
from stream.semantics import make_policies, name_features

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

ITEMS: Final = ("apple", "bread", "candle", "drum", "egg", "feather", "glass", "honey")
POISON_ITEM: Final = "poison"
#: The bundle's items, in the order of their indices.
KNOWN: Final = (*ITEMS, POISON_ITEM)

STATE: Final = 4


class TinyModel:
    """State [n, 4]: a fading memory of the items seen, and of three features."""

    version = "tiny-1"
    contexts: tuple[str, ...] = ()
    catalogue: int | None = None
    state_size = STATE

    #: Metrics ask for the number of candidates, and whoever drops items for those that may be listed.
    candidates = SimpleNamespace(scorer=SimpleNamespace(items=len(KNOWN)), listed=np.arange(len(KNOWN)))
    tells_risk = True

    def __init__(self, config: Config) -> None:
        self.feature_names = name_features(config, [])
        self._policies = make_policies(config)
        self._at_risk_max_ms = config.lifecycle.at_risk_max_ms
        self.horizon_ms = config.lifecycle.horizon_ms
        self._item = np.linspace(-1.0, 1.0, len(KNOWN), dtype=np.float32)
        self._item[KNOWN.index(POISON_ITEM)] = np.nan

    def renumber_items(self, moved: Ints) -> None:
        """It knows the bundle's items only, and those stay where they are."""

    def step(self, state: Floats, item: Ints, features: Floats) -> Floats:
        known = np.where(item < len(KNOWN), self._item[item % len(KNOWN)], np.float32(0.25))
        known[item < 0] = 0.0
        after = state * np.float32(0.75)
        after[:, 0] += known
        after[:, 1:] += features[:, :3] * np.float32(0.125)
        return after

    def rank(self, reads: Reads) -> list[RankedList]:
        weights = reads.state[:, :1] + np.float32(0.01) * reads.features[:, 3:4]
        scores = weights * self._item[None, : len(ITEMS)] + reads.state[:, 1:2]
        best = np.argsort(-scores, axis=1, kind="stable")
        lists = []
        for row, lifecycle in enumerate(reads.lifecycle.tolist()):
            policy = self._policies[lifecycle]
            excluded = set(reads.recent[row].tolist()) if policy.exclude == "seen" else set()
            items = [item for item in best[row].tolist() if item not in excluded][: policy.k]
            lists.append(RankedList(policy.name, items, scores[row, items].tolist()))
        return lists

    def risk(self, state: Floats, silent_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        liked = np.abs(state[:, 0]).astype(np.float64)
        return silent_ms / (silent_ms + (1.0 + liked) * HOUR_MS)

    def silence_allowed_ms(self, state: Floats) -> npt.NDArray[np.int64]:
        hours = 1 + np.abs(state[:, 0] * np.float32(4.0)).astype(np.int64)
        return np.minimum(hours * HOUR_MS, self._at_risk_max_ms)
