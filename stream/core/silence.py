"""Silence: deadlines, and what rings when event time passes them.

A user has one deadline. It rings for everyone when the watermark comes to it (step 5 of the fold), smallest
(deadline, user) first, with alerts and win-backs; and for a user who is just about to act (step 1) without
them. While a partition is restored a row may be ahead of the replay: its timer is held until the replay has
caught up.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from stream.core import windows
from stream.core.compiled import kernel, leaf
from stream.core.effects import BY_TIMER, Folded
from stream.core.emission import emit_alert, emit_list, emit_transition
from stream.core.events import NEVER
from stream.core.features import Moment, write_features
from stream.core.lifecycle import (
    AT_RISK,
    BY_SILENCE,
    DORMANT,
    ESCALATED,
    EXPIRED,
    FORGOTTEN,
    NEXT,
    OPENED,
    SILENCE,
)  # fmt: skip
from stream.core.rules import Rules
from stream.core.timers import next_due, schedule
from stream.core.users import NO_SLOT, Undo, Users, remove, touch

#: The most effects that a timer causes: a transition, an alert, a list.
EFFECTS_PER_TIMER: Final = 3


@kernel
def own_silence(
    rules: Rules, users: Users, undo: Undo, clock: Any, out: Folded, i: int, slot: int, t: int
) -> int:
    """Ring the user's own deadlines ≤ t; return the slot, or NO_SLOT if that was the end of the row."""
    while users.rows[slot].deadline <= t:
        touch(users, undo, slot, clock.applied)
        if fall_silent(rules, users, clock, out, i, slot) == FORGOTTEN:
            return NO_SLOT
    return slot


@leaf
def rings(rules: Rules, users: Users, clock: Any) -> bool:
    """Whether `ring_timers` would have anything to do; if not, the last event is done with."""
    counts = users.counts[0]
    if rules.model_risk and clock.watermark >= clock.fresh:
        return True
    if counts.held > 0 or (counts.heap > 0 and users.heap_time[0] <= clock.watermark):
        return True
    clock.ringing = 0
    return False


@kernel
def ring_timers(rules: Rules, users: Users, undo: Undo, clock: Any, out: Folded, timers_max: int) -> bool:
    """Ring every deadline ≤ watermark, smallest (deadline, user) first; return whether all have rung."""
    if users.counts[0].held > 0:
        release_held(users, clock.applied)
    if rules.model_risk and clock.watermark >= clock.fresh:
        return False
    n = out.n[0]
    while users.counts[0].heap > 0 and users.heap_time[0] <= clock.watermark:
        if n.timers >= timers_max or n.effects + EFFECTS_PER_TIMER > len(out.effects):
            return False
        slot = next_due(users, clock.watermark)
        if slot == NO_SLOT:
            break
        if users.marks[slot].through > clock.applied:  # restore: the row is ahead of the replay
            hold(users, slot)
        else:
            ring(rules, users, undo, clock, out, slot)
    clock.ringing = 0
    return True


@kernel
def ring(rules: Rules, users: Users, undo: Undo, clock: Any, out: Folded, slot: int) -> None:
    """Ring the timer of one user whose deadline is due."""
    out.n[0].timers += 1
    touch(users, undo, slot, clock.applied)
    state = fall_silent(rules, users, clock, out, BY_TIMER, slot)
    if state == FORGOTTEN:
        return
    raise_alert(rules, users, clock, out, slot, state)
    if state == AT_RISK and rules.win_back and rules.model:
        win_back(rules, users, clock, out, slot)


@kernel
def fall_silent(rules: Rules, users: Users, clock: Any, out: Folded, event: int, slot: int) -> int:
    """Move the user on at the time of its deadline; return the state reached."""
    row = users.rows[slot]
    before, at = row.lifecycle, row.deadline
    after = NEXT[before, SILENCE]
    days = windows.count_active_days(rules, users.heads[slot], users.cells[slot], at)
    emit_transition(users, clock, out, event, slot, before, after, BY_SILENCE, at, row.last_event_time, days)
    row.lifecycle = after
    if after == FORGOTTEN:
        if row.alert_open:
            emit_alert(rules, users, clock, out, event, slot, EXPIRED, after, at, days, 0)
        remove(users, slot)
    else:
        set_deadline(rules, users, slot)
    return after


@kernel
def raise_alert(rules: Rules, users: Users, clock: Any, out: Folded, slot: int, state: int) -> None:
    """Open an alert for a user whom a timer found silent, or escalate the one that is open."""
    row = users.rows[slot]
    status = ESCALATED if row.alert_open else OPENED
    if not row.alert_open:
        row.alert_open = 1
        row.alert_event_time = row.last_event_time
    last = out.effects[out.n[0].effects - 1]  # the transition that this alert goes with
    emit_alert(rules, users, clock, out, BY_TIMER, slot, status, state, last.at, last.active_days, 0)


@kernel
def win_back(rules: Rules, users: Users, clock: Any, out: Folded, slot: int) -> None:
    """Ask for a list for a user who just became at risk, at the time of the deadline, context unknown."""
    row = users.rows[slot]
    at = out.effects[out.n[0].effects - 1].at
    if not may_list(rules, row, at):
        return
    gap = at - row.last_event_time
    moment = Moment(at, at, -1, np.nan, gap, False, False, False)
    place = out.n[0].features
    out.n[0].features += 1
    unknown = rules.unknown_context
    write_features(rules, users, slot, moment, unknown, out.features[place])
    mark = users.marks[slot]
    after = mark.steps if mark.stamp == users.counts[0].stamp else 0
    emit_list(users, clock, out, BY_TIMER, slot, at, row.last_event_time, place, after)


@leaf
def may_list(rules: Rules, row: Any, at: int) -> bool:
    gap = rules.min_gap_ms[row.lifecycle]
    return gap == 0 or row.last_list_time == NEVER or at - row.last_list_time >= gap


@leaf
def set_deadline(rules: Rules, users: Users, slot: int) -> None:
    users.rows[slot].deadline = find_deadline(rules, users.rows[slot], users.rows[slot].at_risk_after)
    schedule(users, slot)


@leaf
def find_deadline(rules: Rules, row: Any, at_risk_after_ms: int) -> int:
    """The one deadline that the user's state and last event give."""
    if row.lifecycle < AT_RISK:
        after = at_risk_after_ms
    elif row.lifecycle == AT_RISK:
        after = rules.dormant_after_ms
    elif row.lifecycle == DORMANT:
        after = rules.churned_after_ms
    else:
        after = rules.forget_after_ms
    return row.last_event_time + after


@leaf
def hold(users: Users, slot: int) -> None:
    """Keep the slot's timer until the replay has caught up with its row."""
    users.held[users.counts[0].held] = slot
    users.counts[0].held += 1


@kernel
def release_held(users: Users, applied: int) -> None:
    """Put the timers back of the rows that the replay has caught up with."""
    counts = users.counts[0]
    kept = 0
    for j in range(counts.held):
        slot = users.held[j]
        if users.marks[slot].through > applied:
            users.held[kept] = slot
            kept += 1
        elif users.rows[slot].live:
            schedule(users, slot)
    counts.held = kept
