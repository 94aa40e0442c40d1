"""Scoring: from user embeddings to the lists that the policies allow.

The similarity and the top k are a model's graph; here is what surrounds them: which policy holds, what it
excludes, and how a diverse list is chosen among candidates. B reads, D embedding, k list length, I items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stream.core.events import NO_ITEM

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

EXCLUDE_NONE: Final = "none"
EXCLUDE_SEEN: Final = "seen"
EXCLUDE_CONVERTED: Final = "converted"

#: Candidates that diversity chooses from, as a multiple of k.
DIVERSITY_POOL: Final = 5


class Policy(NamedTuple):
    """How the users of one lifecycle state are recommended to."""

    name: str
    k: int
    exclude: str = EXCLUDE_NONE
    popularity: float = 0.0
    diversity: float = 0.0
    min_similarity: float | None = None
    min_context: float | None = None


def excluded_items(policy: Policy, recent: Ints, converted: npt.NDArray[np.bool_]) -> Ints | None:
    """Return the recent items [B, 20] that the policy excludes, −1 elsewhere; None if it excludes nothing."""
    if policy.exclude == EXCLUDE_SEEN:
        return recent
    if policy.exclude == EXCLUDE_CONVERTED:
        return np.where(converted, recent, np.int32(NO_ITEM))
    return None


def diversify(
    policy: Policy, scores: Floats, items: Ints, embeddings: Floats
) -> tuple[list[int], list[float]]:
    """Choose k items one by one: the best score less `diversity` times the closest cosine to those chosen.

    Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), on scores brought to [0, 1].
    """
    if len(items) == 0:
        return [], []
    vectors = embeddings[items]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    span = max(float(scores[0] - scores[-1]), 1e-12)
    relevance = (scores - scores[-1]) / span
    closest = np.full(len(items), -np.inf, np.float32)
    left = np.ones(len(items), bool)
    chosen: list[int] = []
    for _ in range(min(policy.k, len(items))):
        penalty = np.where(np.isfinite(closest), closest, 0.0) * policy.diversity
        best = int(np.argmax(np.where(left, (1 - policy.diversity) * relevance - penalty, -np.inf)))
        chosen.append(best)
        left[best] = False
        closest = np.maximum(closest, vectors @ vectors[best])
    return items[chosen].tolist(), scores[chosen].tolist()


def group_by_policy(states: Ints, policies: Sequence[Policy]) -> list[tuple[Policy, npt.NDArray[np.int64]]]:
    """Return each policy in use with the reads it holds for; policies[state] is the one of a state."""
    groups: dict[Policy, list[int]] = {}
    for i, state in enumerate(states.tolist()):
        groups.setdefault(policies[state], []).append(i)
    return [(policy, np.array(rows)) for policy, rows in groups.items()]
