"""Emission: effects written into a `Folded` with the evidence of the moment they happened in.

`clock` counts the effects of each kind at the offset that causes them: the outputs' ids come from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.core.compiled import kernel
from stream.core.effects import ALERT, BY_TIMER, LIST, TRANSITION, Folded
from stream.core.events import NEVER, NO_ITEM
from stream.core.lifecycle import BY_ENGAGEMENT, BY_SILENCE
from stream.core.rules import RECENT_ITEMS, Rules
from stream.core.users import Users


@kernel
def emit_effect(users: Users, clock: Any, out: Folded, what: int, event: int, slot: int, at: int) -> Any:
    """Add an effect with the evidence of the row as it is now, and return it."""
    row = users.rows[slot]
    effect = out.effects[out.n[0].effects]
    out.n[0].effects += 1
    effect.what = what
    effect.offset = clock.offset
    effect.event = event
    effect.at = at
    effect.first_event_time = row.first_event_time
    effect.id_start = row.id_start
    effect.id_length = row.id_length
    effect.events = row.events
    effect.sessions = row.sessions
    effect.orders = row.orders
    effect.slot = slot
    return effect


@kernel
def emit_transition(
    users: Users, clock: Any, out: Folded, event: int, slot: int, before: int, after: int, trigger: int,
    at: int, last_event_time: int, active_days: int,
) -> None:  # fmt: skip
    effect = emit_effect(users, clock, out, TRANSITION, event, slot, at)
    effect.before = before
    effect.to = after
    effect.trigger = trigger
    effect.last_event_time = last_event_time
    effect.silent_ms = NEVER if last_event_time == NEVER else at - last_event_time
    effect.active_days = active_days
    effect.nth = clock.transitions
    clock.transitions += 1


@kernel
def emit_alert(
    rules: Rules, users: Users, clock: Any, out: Folded, event: int, slot: int, status: int, stage: int,
    at: int, active_days: int, steps_to_come: int,
) -> None:  # fmt: skip
    """Add an alert and, for the hazard head, look at the user's state when `steps_to_come` are done too."""
    effect = emit_effect(users, clock, out, ALERT, event, slot, at)
    effect.status = status
    effect.to = stage
    effect.last_event_time = users.rows[slot].alert_event_time
    effect.silent_ms = at - users.rows[slot].last_event_time
    effect.active_days = active_days
    effect.nth = clock.alerts
    clock.alerts += 1
    if rules.hazard:
        look = out.n[0].looks
        out.n[0].looks += 1
        effect.read = look
        out.look_slot[look] = slot
        out.look_after[look] = users.marks[slot].steps + steps_to_come


@kernel
def emit_list(
    users: Users,
    clock: Any,
    out: Folded,
    event: int,
    slot: int,
    at: int,
    last_event_time: int,
    features: int,
    after: int,
) -> None:
    """Ask for a list from the user's state after `after` steps, and keep what a policy may exclude."""
    row = users.rows[slot]
    row.last_list_time = max(row.last_list_time, at)
    effect = emit_effect(users, clock, out, LIST, event, slot, at)
    effect.to = row.lifecycle
    effect.trigger = BY_SILENCE if event == BY_TIMER else BY_ENGAGEMENT
    effect.last_event_time = last_event_time if event != BY_TIMER else row.alert_event_time
    effect.nth = clock.lists
    clock.lists += 1
    read = out.n[0].reads
    out.n[0].reads += 1
    effect.read = read
    out.read_slot[read] = slot
    out.read_after[read] = after
    out.read_features[read] = features
    held = min(row.recent_count, RECENT_ITEMS)
    for j in range(RECENT_ITEMS):
        out.read_recent[read, j] = NO_ITEM
    for j in range(held):
        place = (row.recent_count - held + j) % RECENT_ITEMS
        out.read_recent[read, j] = users.recent[slot, place]
        out.read_converted[read, j] = (row.recent_converted >> np.uint32(place)) & np.uint32(1) != 0
