"""The model at serving time: one bundle, its sessions, and the lists they make under the policies.

Owns how a user's state and the event's features become a ranked list: head, context, similarity,
co-occurrence, repeats, popularity, exclusion, thresholds, reranking, diversity. Knows neither users nor
partitions.
B reads, S state, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream.bundle import Bundle
from stream.candidates import Candidates
from stream.co_occurrence import Raises
from stream.config import Config
from stream.core.risk import risk_of_silence, silence_at_risk
from stream.core.scoring import DIVERSITY_POOL, Policy, diversify, excluded_items, group_by_policy
from stream.encoder import Encoder
from stream.errors import BundleError
from stream.item_encoder import open_item_encoder
from stream.items import ItemTable
from stream.rerank import RERANK, Reranker
from stream.semantics import make_policies, name_features

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

CONTEXT_PREFIX = "context."


class RankedList(NamedTuple):
    """A list for one user, best first: indices into the item table, and their scores."""

    policy: str
    items: list[int]
    scores: list[float]


class Asked(NamedTuple):
    """What the lists of one policy are searched by."""

    policy: Policy
    user: Floats  # [B, D]
    offset: Floats | None  # [B, D] the context's
    excluded: Ints | None  # [B, n] rows, −1 for none
    raises: Raises | None


class Reads(NamedTuple):
    """What lists are made from, one row a list."""

    state: Floats  # [B, S]
    features: Floats  # [B, F]
    lifecycle: Ints  # [B]
    recent: Ints  # [B, 20]
    converted: npt.NDArray[np.bool_]  # [B, 20]


def bundle_contexts(bundle: Bundle) -> list[str]:
    """Name the context entries that the bundle reads, in the order of the columns."""
    names = (*bundle.manifest.step_features, *bundle.manifest.context_features)
    return sorted({name.removeprefix(CONTEXT_PREFIX) for name in names if name.startswith(CONTEXT_PREFIX)})


class Model:
    """One bundle under one config. `catalogue` is the items topic's offset in force, None without one."""

    def __init__(self, bundle: Bundle, config: Config, items: ItemTable) -> None:
        self.bundle = bundle
        self.version = bundle.version
        self.contexts = bundle_contexts(bundle)
        self.feature_names = name_features(config, self.contexts)
        self.encoder = Encoder(bundle, self.feature_names, items.names)
        self.candidates = Candidates(bundle)
        self.item_encoder = open_item_encoder(bundle)
        self._reranker = Reranker(bundle) if RERANK in bundle.manifest.files else None
        self.policies: Sequence[Policy] = make_policies(config)
        self.catalogue: int | None = None
        self.horizon_ms = config.lifecycle.horizon_ms
        self._bins_ms = np.array(bundle.manifest.hazard.bins_ms if bundle.manifest.hazard else [], np.int64)
        self._risk_threshold = config.lifecycle.risk_threshold
        self._at_risk_max_ms = config.lifecycle.at_risk_max_ms
        if config.lifecycle.risk == "model" and bundle.manifest.hazard is None:
            raise BundleError(
                "the bundle has no hazard head",
                place=str(bundle.path),
                remedy='train one with a churn head, or set lifecycle.risk = "rhythm"',
            )

    @property
    def state_size(self) -> int:
        return self.encoder.state_size

    def step(self, state: Floats, item: Ints, features: Floats) -> Floats:
        return self.encoder.step(state, item, features)

    def renumber_items(self, moved: Ints) -> None:
        """Take the items' new indices, i32[items before]."""
        self.encoder.renumber_items()
        self.candidates.renumber_items(moved)

    @property
    def reranks(self) -> bool:
        """Whether the bundle has a network for the best candidates."""
        return self._reranker is not None

    @property
    def tells_risk(self) -> bool:
        """Whether the bundle has a hazard head."""
        return len(self._bins_ms) > 0

    def risk(self, state: Floats, silent_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return P(no event within `horizon_ms` | silent for silent_ms [B]) of each state [B, S]."""
        hazard = self.encoder.head(state)[1]
        assert hazard is not None
        return risk_of_silence(hazard, self._bins_ms, silent_ms, self.horizon_ms)

    def silence_allowed_ms(self, state: Floats) -> npt.NDArray[np.int64]:
        """Return for each state [B, S] how long its user may stay silent before being at risk."""
        _, hazard = self.encoder.head(state)
        assert hazard is not None  # `__init__` made sure
        return silence_at_risk(
            hazard, self._bins_ms, self.horizon_ms, self._risk_threshold, self._at_risk_max_ms
        )

    def rank(self, reads: Reads) -> list[RankedList]:
        """Make one list a read."""
        user, _ = self.encoder.head(reads.state)
        offset = self.encoder.context(reads.features)
        ranked: list[RankedList] = [RankedList("", [], [])] * len(user)
        for policy, rows in group_by_policy(reads.lifecycle, self.policies):
            excluded = excluded_items(policy, reads.recent[rows], reads.converted[rows])
            excluded = None if excluded is None else self.candidates.rows(excluded)
            part = None if offset is None else offset[rows]
            raises = self.raises(reads.recent[rows], reads.state[rows])
            scores, best = self._best(Asked(policy, user[rows], part, excluded, raises))
            for i, row in enumerate(rows.tolist()):
                ranked[row] = self._list(policy, scores[i], best[i])
        return ranked

    def raises(self, recent: Ints, state: Floats) -> Raises | None:
        """Return what co-occurrence with the `recent` items [B, 20], or repeats in the state [B, S], add."""
        if self.bundle.near is not None:
            return self.bundle.near.raises(recent)
        return None if self.bundle.repeats is None else self.bundle.repeats.raises(state)

    def _best(self, asked: Asked) -> tuple[Floats, Ints]:
        """Return the candidates of each list, best first, −∞ and −1 where there are too few."""
        policy = asked.policy
        k = pool = policy.k * (DIVERSITY_POOL if policy.diversity > 0 else 1)
        if self._reranker is not None:
            pool = max(k, self._reranker.candidates)
        bias = self.candidates.withdrawn
        if policy.popularity:
            bias = bias + np.float32(policy.popularity) * self.candidates.prior
        query = asked.user if asked.offset is None else asked.user + asked.offset
        if policy.min_similarity is None and policy.min_context is None:
            scorer = self.candidates.scorer
            scores, rows = scorer.top(
                query, pool, extra_bias=bias, exclude=asked.excluded, raises=asked.raises
            )
        else:
            scores, rows = self._best_above(asked, bias, pool)
        if self._reranker is not None:
            scores, rows = self._reranker.rank(query, scores, rows, self.candidates.vectors)
        return scores[:, :k], rows[:, :k]

    def _best_above(self, asked: Asked, bias: Floats, k: int) -> tuple[Floats, Ints]:
        """The same with thresholds on similarity and context, which need the two products apart.

        Co-occurrence, repeats and popularity do not count for the thresholds.
        """
        policy, _, offset, excluded, raises = asked
        similarity = self.candidates.scorer.scores(asked.user)
        if offset is None:
            context = np.zeros_like(similarity)
        else:
            context = self.candidates.scorer.scores(offset, -self.candidates.scorer.bias)
        total = similarity + context + bias
        if raises is not None:
            raises.add_to(total)
        if policy.min_similarity is not None:
            total[similarity <= policy.min_similarity] = -np.inf
        if policy.min_context is not None:
            total[context <= policy.min_context] = -np.inf
        if excluded is not None:
            row, column = np.nonzero(excluded >= 0)
            total[row, excluded[row, column]] = -np.inf
        k = min(k, total.shape[1])
        best = np.argsort(-total, axis=1, kind="stable")[:, :k].astype(np.int32)
        scores = np.take_along_axis(total, best, axis=1)
        return scores, np.where(np.isfinite(scores), best, np.int32(-1))

    def _list(self, policy: Policy, scores: Floats, rows: Ints) -> RankedList:
        n = int(np.isfinite(scores).sum())
        chosen, values = rows[:n], scores[:n].tolist()
        if policy.diversity > 0:
            picked, values = diversify(policy, scores[:n], rows[:n], self.candidates.vectors)
            chosen = np.array(picked, np.int32)
        return RankedList(policy.name, self.candidates.items(chosen).tolist(), values)
