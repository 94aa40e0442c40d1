"""The user's lifecycle as a table: states, what an event can mean for them, and where they go.

The first five states are the stages of user lifecycle management (acquisition, retention, activity,
conversion, repurchase), the next three are what silence does, `forgotten` is the end of the row, and `none`
is before its beginning. `TABLE` below is the only place that decides; `NEXT` is the same table as an integer
matrix for the compiled fold, and the diagram in the docs is drawn from it.

An event means exactly one `signal` to a user; `signal_of_event` decides which. A state and a signal that no
line of the table names leave the state as it is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from stream.core.compiled import leaf

NONE: Final = 0
NEW: Final = 1
RETAINED: Final = 2
ACTIVE: Final = 3
CONVERTED: Final = 4
LOYAL: Final = 5
AT_RISK: Final = 6
DORMANT: Final = 7
CHURNED: Final = 8
FORGOTTEN: Final = 9

STATES: Final = (
    "none", "new", "retained", "active", "converted", "loyal", "at_risk", "dormant", "churned", "forgotten",
)  # fmt: skip

# What an event means: signals.
NOTHING: Final = 0  # a contact, a late engagement, or an event that returns nobody
FIRST_ORDER: Final = 1  # orders became 1
REPEAT_ORDER: Final = 2  # orders became 2 or more
VISIT_RARE: Final = 3  # starts a session, active days below the minimum
VISIT_OFTEN: Final = 4  # starts a session, active days at or above the minimum
STAY_RARE: Final = 5  # within a session, active days below the minimum
STAY_OFTEN: Final = 6  # within a session, active days at or above the minimum
RETURN: Final = 7  # comes back from silence, no order (counted from churned: since then)
RETURN_CONVERTED: Final = 8  # comes back from silence with one order
RETURN_LOYAL: Final = 9  # comes back from silence with two or more
SILENCE: Final = 10  # the deadline of the state passed

SIGNALS: Final = (
    "nothing", "first order", "repeat order", "visit, few active days", "visit, many active days",
    "stay, few active days", "stay, many active days", "return", "return, converted", "return, loyal",
    "silence",
)  # fmt: skip

# What a transition was triggered by.
BY_ENGAGEMENT: Final = 0
BY_ORDER: Final = 1
BY_SILENCE: Final = 2
TRIGGERS: Final = ("engagement", "order", "silence")

# What happens to an alert.
OPENED: Final = 0
ESCALATED: Final = 1
RESOLVED: Final = 2
EXPIRED: Final = 3
STATUSES: Final = ("opened", "escalated", "resolved", "expired")

STAGES: Final = (NEW, RETAINED, ACTIVE, CONVERTED, LOYAL)
SILENT: Final = (AT_RISK, DORMANT, CHURNED)


class Line(NamedTuple):
    """One line of the table: in any of these states, any of these signals leads to `to`."""

    states: tuple[int, ...]
    when: str
    signals: tuple[int, ...]
    to: int


_VISIT = (VISIT_RARE, VISIT_OFTEN)
_STAY = (STAY_RARE, STAY_OFTEN)

TABLE: Final = (
    Line((NONE, *STAGES), "orders became 1", (FIRST_ORDER,), CONVERTED),
    Line((NONE, *STAGES), "orders became 2 or more", (REPEAT_ORDER,), LOYAL),
    Line((NONE,), "engagement", (*_VISIT, *_STAY), NEW),
    Line((NEW,), "engagement that started a session", _VISIT, RETAINED),
    Line((RETAINED,), "engagement, active days ≥ min", (VISIT_OFTEN, STAY_OFTEN), ACTIVE),
    Line((ACTIVE,), "engagement, active days < min", (VISIT_RARE, STAY_RARE), RETAINED),
    Line(SILENT, "returns, no order", (RETURN,), RETAINED),
    Line(SILENT, "returns, one order", (RETURN_CONVERTED,), CONVERTED),
    Line(SILENT, "returns, two orders or more", (RETURN_LOYAL,), LOYAL),
    Line(STAGES, "silent beyond the own rhythm", (SILENCE,), AT_RISK),
    Line((AT_RISK,), "silent for dormant_after", (SILENCE,), DORMANT),
    Line((DORMANT,), "silent for churned_after", (SILENCE,), CHURNED),
    Line((CHURNED,), "silent for forget_after", (SILENCE,), FORGOTTEN),
)


def compile_table(table: tuple[Line, ...] = TABLE) -> np.ndarray:
    """Return the table as a matrix: next state by [state, signal], u8[10, 11].

    Raises ValueError if two lines decide the same state and signal differently.
    """
    matrix = np.repeat(np.arange(len(STATES), dtype=np.uint8)[:, None], len(SIGNALS), axis=1)
    decided: dict[tuple[int, int], int] = {}
    for line in table:
        for state in line.states:
            for signal in line.signals:
                if decided.setdefault((state, signal), line.to) != line.to:
                    raise ValueError(f"{STATES[state]} × {SIGNALS[signal]} is decided twice")
                matrix[state, signal] = line.to
    return matrix


NEXT: Final = compile_table()


@leaf
def is_silent(state: int) -> bool:
    """At risk, dormant or churned: an alert may be open, and only a return leads out."""
    return AT_RISK <= state <= CHURNED


@leaf
def signal_of_event(
    state: int, late: bool, session_started: bool, often: bool, order_raised: bool, orders: int, returns: bool
) -> int:
    """Decide what an engagement or conversion means; `orders` counts this event already."""
    if is_silent(state):
        if late or not returns:
            return NOTHING
        return RETURN if orders == 0 else RETURN_CONVERTED if orders == 1 else RETURN_LOYAL
    if order_raised:
        return FIRST_ORDER if orders == 1 else REPEAT_ORDER
    if late:
        return NOTHING
    if session_started:
        return VISIT_OFTEN if often else VISIT_RARE
    return STAY_OFTEN if often else STAY_RARE
