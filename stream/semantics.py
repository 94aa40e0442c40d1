"""From the config to the numbers of the core: the only place that knows both."""

from __future__ import annotations

import numpy as np

from stream.config import Config
from stream.core import scoring
from stream.core.events import ROLES
from stream.core.features import feature_names
from stream.core.lifecycle import STATES
from stream.core.rules import Rules

#: The state before the first event has no policy of its own; no list is ever made in it.
_UNLISTED = ("none", "forgotten")


def make_rules(config: Config, *, model: bool, contexts: int = 0, hazard: bool = False) -> Rules:
    """Return the rules of the fold; contexts: entries of the context that the bundle names."""
    rings = config.windows.rings
    buckets = np.array([ring.buckets for ring in rings], np.int64)
    day = config.windows.day_ring
    offsets = [config.time.day_offset_ms if i == day else 0 for i in range(len(rings))]
    windows = config.windows.windows.values()
    lifecycle = config.lifecycle
    return Rules(
        roles=np.array([ROLES.index(role) for role in config.events.kinds.values()], np.uint8),
        recommend=np.array([kind in config.events.recommend for kind in config.events.kinds], np.bool_),
        future_max_ms=config.time.future_max_ms,
        out_of_order_max_ms=config.time.out_of_order_max_ms,
        lateness_max_ms=config.time.lateness_max_ms,
        session_gap_ms=config.time.session_gap_ms,
        visit_gap_ms=config.time.visit_gap_ms,
        ring_bucket_ms=np.array([ring.bucket_ms for ring in rings], np.int64),
        ring_buckets=buckets,
        ring_offset_ms=np.array(offsets, np.int64),
        ring_start=np.cumsum(buckets) - buckets,
        day_ring=day,
        window_ring=np.array([window.ring for window in windows], np.int64),
        window_buckets=np.array([window.buckets for window in windows], np.int64),
        active_days_min=lifecycle.active_days_min,
        cadence=float(lifecycle.cadence),
        at_risk_min_ms=lifecycle.at_risk_min_ms,
        at_risk_max_ms=lifecycle.at_risk_max_ms,
        at_risk_default_ms=lifecycle.at_risk_default_ms,
        dormant_after_ms=lifecycle.dormant_after_ms,
        churned_after_ms=lifecycle.churned_after_ms,
        forget_after_ms=lifecycle.forget_after_ms,
        events_per_5min_max=config.worker.events_per_5min_max,
        min_gap_ms=np.array(
            [0 if state in _UNLISTED else config.policies[state].min_gap_ms for state in STATES], np.int64
        ),
        scratch=np.zeros(len(config.events.kinds), np.int64),
        unknown_context=np.zeros(contexts, np.float32),
        model=model,
        model_risk=model and lifecycle.risk == "model",
        hazard=model and hazard,
        win_back="at_risk" in config.policies_given,
    )


def make_policies(config: Config) -> list[scoring.Policy]:
    """Return the policy of each lifecycle state, by the state's number."""
    policies = []
    for state in STATES:
        given = config.policies["new" if state in _UNLISTED else state]
        policies.append(
            scoring.Policy(
                name=state if state in config.policies_given else "default",
                k=given.k,
                exclude=given.exclude,
                popularity=given.popularity,
                diversity=given.diversity,
                min_similarity=given.min_similarity,
                min_context=given.min_context,
            )
        )
    return policies


def name_features(config: Config, contexts: list[str]) -> list[str]:
    """Name the columns of the core's features under this config."""
    windows = config.windows.windows
    day_windows = [name for name, window in windows.items() if window.ring == config.windows.day_ring]
    return feature_names(list(config.events.kinds), list(windows), day_windows, contexts)
