"""Rules: what the config decides about the fold, as plain numbers that compiled code can read.

All times are int64 milliseconds. K kinds, R rings, N windows, L lifecycle states.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

#: A span of the throttle's own counter: "in one 5-minute span of event time".
THROTTLE_SPAN_MS: Final = 300_000

DEDUP_IDS: Final = 32
RECENT_ITEMS: Final = 20
ACTIVE_DAYS_SPAN: Final = 7
#: The mean of the visit gaps forgets: from the eighth on, a new gap weighs one eighth.
RHYTHM_GAPS_MAX: Final = 8
RHYTHM_GAPS_MIN: Final = 2


class Rules(NamedTuple):
    """The meaning of the fold. Two folds of one log under equal rules give equal users and effects."""

    roles: npt.NDArray[np.uint8]  # [K] ENGAGEMENT, CONVERSION or CONTACT
    recommend: npt.NDArray[np.bool_]  # [K] the kind triggers a recommendation
    future_max_ms: int
    out_of_order_max_ms: int
    lateness_max_ms: int
    session_gap_ms: int
    visit_gap_ms: int
    ring_bucket_ms: npt.NDArray[np.int64]  # [R]
    ring_buckets: npt.NDArray[np.int64]  # [R]
    ring_offset_ms: npt.NDArray[np.int64]  # [R]
    ring_start: npt.NDArray[np.int64]  # [R] where the ring's buckets begin in a row of cells
    day_ring: int  # the ring of one-day buckets
    window_ring: npt.NDArray[np.int64]  # [N]
    window_buckets: npt.NDArray[np.int64]  # [N]
    active_days_min: int
    cadence: float
    at_risk_min_ms: int
    at_risk_max_ms: int
    at_risk_default_ms: int
    dormant_after_ms: int
    churned_after_ms: int
    forget_after_ms: int
    events_per_5min_max: int
    min_gap_ms: npt.NDArray[np.int64]  # [L] between two recommendations, by lifecycle state
    scratch: npt.NDArray[np.int64]  # [K] for counts on their way
    unknown_context: npt.NDArray[np.float32]  # [contexts] zeros
    model: bool  # there is an encoder to step and to recommend with
    model_risk: bool  # the bundle's hazard head sets at_risk_after
    hazard: bool  # the bundle has a hazard head: alerts say how large the risk is
    win_back: bool  # reaching at_risk recommends

    @property
    def cells(self) -> int:
        """Buckets of all rings together."""
        return int(self.ring_buckets.sum())
