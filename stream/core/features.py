"""Features: what the encoder and the context see of an event and of its user, as one row of float32.

All are read after the event was applied; `gap_log`, `first` and `late` compare it with the row before it. A
bundle's manifest picks columns by name, so that training and serving run the same code. Counts, gaps and
amounts enter as log1p; hour and weekday as points on a circle, in UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, log1p, pi, sin
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stream.core import windows
from stream.core.compiled import copy, kernel
from stream.core.lifecycle import CHURNED, NEW, STATES
from stream.core.rules import DAY_MS, Rules
from stream.core.users import Users

#: 1970-01-01 was a Thursday; weekday 0 is Monday.
EPOCH_WEEKDAY: Final = 3


class Moment(NamedTuple):
    """When and how a row of features is read. For a timer there is no event: kind −1 and value NaN."""

    t_ms: int
    as_of_ms: int
    kind: int
    value: float
    gap_ms: int
    first: bool
    late: bool
    new_session: bool


class Feature(NamedTuple):
    """A column or several, with what they say; KIND, WINDOW, STATE and NAME stand for the config's words."""

    name: str
    meaning: str


#: Every name that `feature_names` gives, in its order; docs/recipes.md is made from these.
FEATURES: Final = (
    Feature("kind=KIND", "1 if the event is of this kind (`events.kinds`): `kind=view`."),
    Feature("first", "1 for a user's first event, and for the first after the user was forgotten."),
    Feature("late", "1 if the event is older than one of the user's that came before it."),
    Feature("new_session", "1 if the event begins a session (`time.session_gap`)."),
    Feature("gap_log", "Seconds since the user's last event, as ln(1 + x)."),
    Feature("hour_sin", "The hour of the day in UTC, as a point on a circle; with `hour_cos`."),
    Feature("hour_cos", "Its other coordinate."),
    Feature("weekday_sin", "The day of the week in UTC, as a point on a circle; with `weekday_cos`."),
    Feature("weekday_cos", "Its other coordinate."),
    Feature("value_log", "The event's value as ln(1 + x), negative for one below 0; 0 without one."),
    Feature("has_value", "1 if the event has a value."),
    Feature("window=WINDOW/KIND", "The user's events of a kind in a window, as ln(1 + n): `window=7d/view`."),
    Feature("spend=WINDOW", "The user's spend in a window of whole days, as ln(1 + x): `spend=30d`."),
    Feature("lifecycle=STATE", "1 if the user is in this state: `lifecycle=new`."),
    Feature("events_log", "The user's engagements and conversions so far, as ln(1 + n)."),
    Feature("orders_log", "The user's orders so far, sessions with a conversion, as ln(1 + n)."),
    Feature("sessions_log", "The user's sessions so far, as ln(1 + n)."),
    Feature("active_days", "Of the last 7 days, those with an engagement or conversion: 0 to 7."),
    Feature("gap_mean_log", "The mean gap between visits (`time.visit_gap`) in seconds, as ln(1 + x)."),
    Feature("context.NAME", "An entry of the event's context that the recipe's `contexts` names."),
)


def feature_names(
    kinds: Sequence[str], windows_: Sequence[str], spend: Sequence[str], contexts: Sequence[str]
) -> list[str]:
    """Name the columns in order; `spend` are the windows over the day ring."""
    return [
        *(f"kind={kind}" for kind in kinds),
        "first", "late", "new_session", "gap_log",
        "hour_sin", "hour_cos", "weekday_sin", "weekday_cos",
        "value_log", "has_value",
        *(f"window={window}/{kind}" for window in windows_ for kind in kinds),
        *(f"spend={window}" for window in spend),
        *(f"lifecycle={state}" for state in STATES[NEW : CHURNED + 1]),
        "events_log", "orders_log", "sessions_log", "active_days", "gap_mean_log",
        *(f"context.{name}" for name in contexts),
    ]  # fmt: skip


@kernel
def write_features(
    rules: Rules,
    users: Users,
    slot: int,
    moment: Moment,
    context: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Write the row of the user in `slot` at `moment` into out[F]."""
    row = users.rows[slot]
    heads, cells, spend = users.heads[slot], users.cells[slot], users.spend[slot]
    kinds = cells.shape[1]
    out[:] = 0.0
    if moment.kind >= 0:
        out[moment.kind] = 1.0
    at = kinds
    out[at] = 1.0 if moment.first else 0.0
    out[at + 1] = 1.0 if moment.late else 0.0
    out[at + 2] = 1.0 if moment.new_session else 0.0
    out[at + 3] = log1p(max(0, moment.gap_ms) / 1000.0)
    hour = 2.0 * pi * (moment.t_ms % DAY_MS) / DAY_MS
    weekday = 2.0 * pi * ((moment.t_ms // DAY_MS + EPOCH_WEEKDAY) % 7) / 7.0
    out[at + 4], out[at + 5] = sin(hour), cos(hour)
    out[at + 6], out[at + 7] = sin(weekday), cos(weekday)
    if not np.isnan(moment.value):
        out[at + 8] = log1p(moment.value) if moment.value >= 0 else -log1p(-moment.value)
        out[at + 9] = 1.0
    at += 10
    counts = rules.scratch
    for window in range(len(rules.window_ring)):
        windows.count_window(rules, heads, cells, window, moment.as_of_ms, counts)
        for kind in range(kinds):
            out[at + kind] = log1p(counts[kind])
        at += kinds
    for window in range(len(rules.window_ring)):
        if rules.window_ring[window] == rules.day_ring:
            out[at] = log1p(max(0.0, windows.sum_spend(rules, heads, spend, window, moment.as_of_ms)))
            at += 1
    if NEW <= row.lifecycle <= CHURNED:
        out[at + row.lifecycle - NEW] = 1.0
    at += CHURNED - NEW + 1
    out[at] = log1p(row.events)
    out[at + 1] = log1p(row.orders)
    out[at + 2] = log1p(row.sessions)
    out[at + 3] = windows.count_active_days(rules, heads, cells, moment.as_of_ms)
    out[at + 4] = log1p(row.gap_mean / 1000.0)
    copy(out[at + 5 :], context)
