"""Settings that the streams are run under: a few by name, and any number by chance."""

from __future__ import annotations

import random

from tests.oracle_settings import DAY, HOUR, MINUTE, SECOND, Json, defaults

#: The largest vocabulary: 16 kinds, roles mixed, names that need escapes.
SIXTEEN_KINDS = {
    name: ("engagement", "conversion", "contact", "engagement")[place % 4]
    for place, name in enumerate(["é", 'q"', "b\\s", " ", *(f"kind {number}" for number in range(12))])
}

#: Days become hours: what takes a year by default happens within a walk many times.
HASTY = defaults(
    lateness_max=12 * HOUR,
    visit_gap=HOUR,
    cadence=1.5,
    at_risk_min=2 * HOUR,
    at_risk_max=8 * HOUR,
    at_risk_default=6 * HOUR,
    dormant_after=30 * HOUR,
    churned_after=2 * DAY,
    forget_after=3 * DAY,
)

#: Records may come later than any silence lasts, so that returns are judged by W; other rings, other days.
PATIENT = defaults(
    out_of_order_max=0,
    lateness_max=90 * DAY,
    session_gap=HOUR,
    visit_gap=HOUR,
    day_offset=5 * HOUR + 30 * MINUTE,
    rings=[(DAY, 40), (10 * MINUTE, 6), (30 * MINUTE, 48)],
    windows={
        "20m": (10 * MINUTE, 2), "1h": (10 * MINUTE, 6), "24h": (30 * MINUTE, 48), "1d": (DAY, 1),
        "40d": (DAY, 40), "7d": (DAY, 7),
    },
    cadence=2,
    at_risk_min=DAY,
    at_risk_max=20 * DAY,
    at_risk_default=5 * DAY,
    active_days_min=2,
    dormant_after=21 * DAY,
    churned_after=40 * DAY,
    forget_after=41 * DAY,
)  # fmt: skip

#: W lies days behind the events, so that most silences are the user's own to end; 16 kinds; other names.
TRAILING = defaults(
    kinds=SIXTEEN_KINDS,
    fields={"event_time": "ts", "user_id": "user.id", "event_id": "é", "value": "event_time"},
    out_of_order_max=3 * DAY,
    lateness_max=SECOND,
    day_offset=-11 * HOUR,
    rings=[(DAY, 30), (7 * SECOND, 5)],
    windows={"7s": (7 * SECOND, 1), "35s": (7 * SECOND, 5), "30d": (DAY, 30)},
    active_days_min=7,
    cadence=0.7,
    at_risk_min=12 * HOUR,
    at_risk_max=12 * HOUR,
    at_risk_default=HOUR,
    dormant_after=DAY,
    churned_after=DAY + 1,
    forget_after=4 * DAY,
)

#: The demo's: a year of groceries.
GROCER = defaults(
    kinds={"purchase": "conversion", "coupon": "engagement", "campaign": "contact"},
    session_gap=12 * HOUR,
    active_days_min=2,
)

NAMED = {"defaults": defaults(), "hasty": HASTY, "patient": PATIENT, "trailing": TRAILING}


def by_chance(rng: random.Random) -> Json:
    """Any settings that keep the text's inequalities, mostly short ones."""
    unit = rng.choice([MINUTE, HOUR, DAY])
    steps = sorted(rng.sample(range(1, 400), 6))
    at_risk_min, at_risk_default, at_risk_max, dormant, churned, forget = (
        unit * step + rng.randrange(2) for step in steps
    )
    session_gap = rng.choice([1, MINUTE, 30 * MINUTE, unit])
    rings = [
        (DAY, rng.choice([30, 31, 45])),
        *rng.sample([(bucket, rng.randrange(1, 30)) for bucket in BUCKETS], 2),
    ]
    rng.shuffle(rings)
    return defaults(
        kinds=rng.choice(
            [
                defaults()["kinds"],
                SIXTEEN_KINDS,
                {"buy": "conversion"},
                {"see": "engagement", "ad": "contact"},
            ]
        ),
        fields=rng.choice([{}, {}, {"event_time": "ts"}]),
        future_max=rng.choice([0, 5 * MINUTE]),
        out_of_order_max=rng.choice([0, 1, 60 * SECOND, unit, 40 * unit]),
        lateness_max=rng.choice([0, 1, unit, 30 * unit, 500 * unit]),
        session_gap=session_gap,
        visit_gap=session_gap + rng.choice([0, 1, HOUR, unit]),
        day_offset=rng.choice([0, HOUR, -HOUR, DAY, -DAY, 1, -1]),
        rings=rings,
        windows=dict(_a_window(rng, *ring) for ring in rings + rings),
        active_days_min=rng.randrange(1, 8),
        cadence=rng.choice([0.001, 0.5, 1, 4, 1.7, 999]),
        at_risk_min=at_risk_min,
        at_risk_max=at_risk_max,
        at_risk_default=rng.choice([at_risk_default, 1, at_risk_max]),
        dormant_after=dormant,
        churned_after=churned,
        forget_after=forget,
    )


BUCKETS = (1, SECOND, 7 * SECOND, MINUTE, 5 * MINUTE, HOUR, 6 * HOUR, 7 * DAY)


def _a_window(rng: random.Random, bucket: int, buckets: int) -> tuple[str, tuple[int, int]]:
    length = rng.randrange(1, buckets + 1)
    return f"{length * bucket}ms", (bucket, length)
