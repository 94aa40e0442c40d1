"""What the oracle is told: section 4's defaults, under the names that the text gives them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: 2024-01-01T00:00:00Z, a Monday; as an index of days 19,723. Streams and scenarios begin there.
T0 = 1_704_067_200_000


def defaults(**overrides: Any) -> Json:
    """The defaults that section 4 names, with a small shop's vocabulary; `overrides` replace entries."""
    config: Json = {
        "kinds": {"view": "engagement", "purchase": "conversion", "impression": "contact"},
        "fields": {},
        "future_max": 5 * MINUTE,
        "out_of_order_max": 60 * SECOND,
        "lateness_max": 7 * DAY,
        "session_gap": 30 * MINUTE,
        "visit_gap": 12 * HOUR,
        "day_offset": 0,
        "rings": [(5 * MINUTE, 12), (HOUR, 24), (DAY, 30)],  # (bucket, buckets)
        "windows": {"1h": (5 * MINUTE, 12), "24h": (HOUR, 24), "7d": (DAY, 7), "30d": (DAY, 30)},
        "active_days_min": 3,
        "cadence": 4,
        "at_risk_min": 7 * DAY,
        "at_risk_max": 45 * DAY,
        "at_risk_default": 30 * DAY,
        "dormant_after": 60 * DAY,
        "churned_after": 120 * DAY,
        "forget_after": 400 * DAY,
    }
    unknown = set(overrides) - set(config)
    if unknown:
        raise KeyError(f"no such setting: {sorted(unknown)}")
    return config | overrides
