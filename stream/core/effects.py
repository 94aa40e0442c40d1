"""Effects: what the fold asks the shell to emit, as rows of one table in the order of application.

A transition and an alert carry the evidence of the moment they happened in, because the user's row goes on.
A list (recommendation) names the read of the encoder's state that it is to be scored with.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stream.core.rules import RECENT_ITEMS

TRANSITION: Final = 0
ALERT: Final = 1
LIST: Final = 2

#: `Effect.event` of what no event of the batch did by itself: everyone's timers.
BY_TIMER: Final = -1

#: Columns of the table. All are int64, so that one view shows it as a matrix.
EFFECT_NAMES: Final = (
    "what",  # TRANSITION, ALERT, LIST
    "offset",  # of the record (or journal entry) that caused it
    "nth",  # outputs of the same `what` at the same offset before this one
    "event",  # index in the batch, or BY_TIMER
    "slot",
    "id_start",  # the user, in `Users.ids`
    "id_length",
    "at",  # event time of the event, or the deadline
    "last_event_time",  # transition, list: before it, NEVER for the first; alert: the one it was opened with
    "silent_ms",  # transition: at − last_event_time, NEVER for the first; alert: at − the user's last event
    "before",  # transition: state before
    "to",  # transition: state after; alert: its stage; list: the user's state
    "trigger",  # transition, list: TRIGGERS
    "status",  # alert: STATUSES
    "read",  # list: index into the reads; alert: into the looks, with a hazard head
    "first_event_time",
    "events",
    "sessions",
    "orders",
    "active_days",
)
EFFECT: Final = np.dtype([(name, "i8") for name in EFFECT_NAMES])

FOLDED: Final = np.dtype(
    [
        (name, "i8")
        for name in ("effects", "features", "steps", "reads", "looks", "timers", "late", "throttled")
    ]
)


class Folded(NamedTuple):
    """What one fold call found, B events and E effects at most; `n[0]` says how much of it is filled.

    A step advances the encoder of `step_slot` by event `step_event`; steps of one user have waves 0, 1, 2 …
    A read takes the user's state after `read_after` of this call's steps; a look does so for an alert.
    """

    status: npt.NDArray[np.uint8]  # [B]
    effects: Any  # EFFECT[E]
    features: npt.NDArray[np.float32]  # [B + E, F]
    step_event: npt.NDArray[np.int32]  # [B]
    step_slot: npt.NDArray[np.int32]  # [B]
    step_item: npt.NDArray[np.int32]  # [B]
    step_wave: npt.NDArray[np.int32]  # [B]
    step_features: npt.NDArray[np.int32]  # [B] row of features
    read_slot: npt.NDArray[np.int32]  # [E]
    read_after: npt.NDArray[np.int32]  # [E]
    read_features: npt.NDArray[np.int32]  # [E]
    read_recent: npt.NDArray[np.int32]  # [E, 20] oldest first, −1 where there is none
    read_converted: npt.NDArray[np.bool_]  # [E, 20] the item was converted
    look_slot: npt.NDArray[np.int32]  # [E]
    look_after: npt.NDArray[np.int32]  # [E]
    n: Any  # FOLDED[1]


def allocate(events: int, effects: int, features: int) -> Folded:
    """Return buffers for `events` events, `effects` effects and rows of `features` features."""
    return Folded(
        status=np.zeros(events, np.uint8),
        effects=np.zeros(effects, EFFECT).view(np.recarray),
        features=np.zeros((events + effects if features else 0, features), np.float32),
        step_event=np.zeros(events, np.int32),
        step_slot=np.zeros(events, np.int32),
        step_item=np.zeros(events, np.int32),
        step_wave=np.zeros(events, np.int32),
        step_features=np.zeros(events, np.int32),
        read_slot=np.zeros(effects, np.int32),
        read_after=np.zeros(effects, np.int32),
        read_features=np.zeros(effects, np.int32),
        read_recent=np.full((effects, RECENT_ITEMS), -1, np.int32),
        read_converted=np.zeros((effects, RECENT_ITEMS), np.bool_),
        look_slot=np.zeros(effects, np.int32),
        look_after=np.zeros(effects, np.int32),
        n=np.zeros(1, FOLDED).view(np.recarray),
    )
