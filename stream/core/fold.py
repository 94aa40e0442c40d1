"""The fold: users, windows, lifecycle and timers advanced by the events of one partition, in offset order.

An event is applied thus: (1) its user's own silence; (2) windows, session, totals; (3) the lifecycle table;
(4) the watermark; (5) everyone's timers. `fold` is that loop, compiled; with NUMBA_DISABLE_JIT=1 the same
code is its own slow reference. It does nothing itself: what should happen is written into a `Folded`.

A call ends early, between events or between timers, when its buffers are full, when `timers_max` timers have
rung, or (with a model's risk) before a deadline that only the encoder knows could matter. The caller comes
back with the next event; `clock.ringing` says that timers of the last event are still due. How a log is cut
into calls changes nothing in what comes out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stream.core import windows
from stream.core.compiled import kernel, leaf
from stream.core.effects import Folded
from stream.core.emission import emit_alert, emit_list, emit_transition
from stream.core.events import (
    ACCEPTED,
    CONTACT,
    CONVERSION,
    DUPLICATE,
    FROM_FUTURE,
    NEVER,
    NO_GUARD,
    NO_ITEM,
    TOO_LATE,
    EventBatch,
)  # fmt: skip
from stream.core.features import Moment, write_features
from stream.core.lifecycle import (
    BY_ENGAGEMENT,
    BY_ORDER,
    CHURNED,
    NEXT,
    RESOLVED,
    is_silent,
    signal_of_event,
)
from stream.core.read_ahead import WARM_EVENTS, find_user, hash_user, read_ahead
from stream.core.rules import (
    HOUR_MS,
    RHYTHM_GAPS_MAX,
    RHYTHM_GAPS_MIN,
    THROTTLE_SPAN_MS,
    Rules,
)  # fmt: skip
from stream.core.silence import (
    EFFECTS_PER_TIMER,
    may_list,
    own_silence,
    ring_timers,
    rings,
    set_deadline,
)
from stream.core.users import (
    NO_DEADLINE,
    NO_SLOT,
    Undo,
    Users,
    create,
    is_duplicate,
    remember_event,
    remember_item,
    touch,
)

#: Event time of one partition, and how far it has come. `applied` counts the records and journal entries that
#: were applied: log and journal decide it, so it tells exactly which of them a row holds. `offset` is that of
#: the last; the counters say how many outputs of each kind that offset has had, for the outputs' ids. `fresh`
#: is the earliest time from which a deadline set by a step of this call could be due (model risk only).
CLOCK: Final = np.dtype(
    [(name, "i8") for name in (
        "watermark", "event_time_max", "applied", "offset", "ringing", "transitions", "alerts", "lists",
        "fresh",
    )]
)  # fmt: skip

#: The most effects that one event causes before everyone's timers: four silences, an expired alert, its own
#: transition, a resolved alert, a list.
EFFECTS_PER_EVENT: Final = 8


def new_clock() -> Any:
    """Return the clock of a partition that has seen nothing."""
    clock = np.zeros(1, CLOCK).view(np.recarray)
    clock.watermark = clock.event_time_max = clock.offset = NEVER
    return clock


@kernel
def fold(
    rules: Rules,
    batch: EventBatch,
    users: Users,
    undo: Undo,
    clocks: Any,
    out: Folded,
    start: int,
    timers_max: int,
) -> int:
    """Apply the events from `start` on and return the index of the first that was not applied."""
    clock, n = clocks[0], out.n[0]
    users.counts[0].stamp += 1
    clock.fresh = NO_DEADLINE
    if clock.ringing and not ring_timers(rules, users, undo, clock, out, timers_max):
        return start
    warm = start
    for i in range(start, len(batch.offset)):
        if i == warm:
            warm = min(i + WARM_EVENTS, len(batch.offset))
            users.counts[0].warmed = read_ahead(batch, users, i, warm)
        if n.effects + EFFECTS_PER_EVENT + EFFECTS_PER_TIMER > len(out.effects):
            return i
        t = batch.event_time_ms[i]
        status = admit(rules, clock, t, batch.record_time_ms[i])
        if status == ACCEPTED:
            slot = find_user(batch, users, i)
            if needs_encoder(rules, users, clock, slot, t):
                return i
            begin(clock, batch.offset[i])
            event_time_max = max(clock.event_time_max, t)
            watermark = max(clock.watermark, event_time_max - rules.out_of_order_max_ms)
            status = apply(rules, batch, users, undo, clock, out, i, slot, watermark)
            clock.event_time_max = event_time_max
            clock.watermark = watermark
            clock.ringing = 1
        out.status[i] = status
        if not clock.ringing or not rings(rules, users, clock):
            continue
        if not ring_timers(rules, users, undo, clock, out, timers_max):
            return i + 1
    return len(batch.offset)


@kernel
def advance(
    rules: Rules,
    users: Users,
    undo: Undo,
    clocks: Any,
    out: Folded,
    offset: int,
    watermark: int,
    timers_max: int,
) -> bool:
    """Move the watermark without an event (an idle step); return whether all timers have rung.

    `offset` is that of the next record: the step takes effect before it. Go on with `fold` of an empty batch.
    """
    clock = clocks[0]
    users.counts[0].stamp += 1
    clock.fresh = NO_DEADLINE
    begin(clock, offset)
    clock.watermark = max(clock.watermark, watermark)
    clock.ringing = 1
    return ring_timers(rules, users, undo, clock, out, timers_max)


@leaf
def begin(clock: Any, offset: int) -> None:
    """Start on the next record or journal entry. An entry has the offset of the record that comes after it:
    the two share it, and the numbering of its outputs.
    """
    clock.applied += 1
    if clock.offset != offset:
        clock.offset = offset
        clock.transitions = 0
        clock.alerts = 0
        clock.lists = 0


@leaf
def admit(rules: Rules, clock: Any, t: int, record_time: int) -> int:
    """Guard and lateness, against the watermark as it was before this event."""
    if record_time != NO_GUARD and t - rules.future_max_ms > record_time:
        return FROM_FUTURE
    if clock.watermark != NEVER and t < clock.watermark - rules.lateness_max_ms:
        return TOO_LATE
    return ACCEPTED


@leaf
def needs_encoder(rules: Rules, users: Users, clock: Any, slot: int, t: int) -> bool:
    """With a model's risk: could its own silence reach a deadline that the encoder has yet to set?"""
    if not rules.model_risk or slot == NO_SLOT:
        return False
    mark = users.marks[slot]
    stepped = mark.stamp == users.counts[0].stamp and mark.steps > 0
    return stepped and t >= users.rows[slot].last_event_time + HOUR_MS


@leaf
def apply(
    rules: Rules,
    batch: EventBatch,
    users: Users,
    undo: Undo,
    clock: Any,
    out: Folded,
    i: int,
    slot: int,
    watermark: int,
) -> int:
    """Apply event i to its user (steps 1 to 3) and return its status."""
    if slot != NO_SLOT and users.marks[slot].through >= clock.applied:
        return ACCEPTED  # restore: the row holds this event already
    role = rules.roles[batch.kind[i]]
    if role == CONTACT:
        if slot != NO_SLOT:
            touch(users, undo, slot, clock.applied)
            windows.count_event(
                rules,
                users.heads[slot],
                users.cells[slot],
                users.spend[slot],
                batch.event_time_ms[i],
                batch.kind[i],
                0.0,
            )
        return ACCEPTED
    event_id = batch.event_id[i]
    if slot != NO_SLOT and event_id != np.uint64(0) and is_duplicate(users, slot, event_id):
        return DUPLICATE
    if slot != NO_SLOT and batch.event_time_ms[i] >= users.rows[slot].last_event_time:
        slot = own_silence(rules, users, undo, clock, out, i, slot, batch.event_time_ms[i])
    if slot == NO_SLOT:
        start, stop = batch.user_start[i], batch.user_start[i + 1]
        slot = create(users, undo, rules, batch.user_bytes, start, stop, hash_user(batch, i), clock.applied)
    else:
        touch(users, undo, slot, clock.applied)
    if event_id != np.uint64(0):
        remember_event(users, slot, event_id)
    engage(rules, batch, users, clock, out, i, slot, watermark)
    return ACCEPTED


@leaf
def engage(
    rules: Rules, batch: EventBatch, users: Users, clock: Any, out: Folded, i: int, slot: int, watermark: int
) -> None:
    """Windows, session, totals (2), lifecycle (3) and the encoder's step for an engagement or conversion."""
    t, kind = batch.event_time_ms[i], batch.kind[i]
    row = users.rows[slot]
    converts = rules.roles[kind] == CONVERSION
    first = row.events == 0
    late = not first and t < row.last_event_time
    last_event_time = row.last_event_time
    gap = 0 if first else t - last_event_time

    throttled = count_throttle(rules, row, t)
    amount = batch.value[i] if converts and not np.isnan(batch.value[i]) else 0.0
    windows.count_event(rules, users.heads[slot], users.cells[slot], users.spend[slot], t, kind, amount)
    session_started = not late and keep_rhythm(rules, row, t, gap, first)
    order_raised = count_totals(row, t, first, late, converts)
    if batch.item[i] != NO_ITEM:
        remember_item(users, slot, batch.item[i], converts)

    before = row.lifecycle
    returns = t + row.at_risk_after > watermark
    if before == CHURNED and not late and returns:  # orders start again
        row.orders = 1 if converts else 0
        row.session_has_order = row.orders
        order_raised = converts
    days = windows.count_active_days(rules, users.heads[slot], users.cells[slot], row.last_event_time)
    often = days >= rules.active_days_min
    signal = signal_of_event(before, late, session_started, often, order_raised, row.orders, returns)
    after = NEXT[before, signal]
    row.lifecycle = after
    if after != before:
        trigger = BY_ORDER if order_raised else BY_ENGAGEMENT
        emit_transition(users, clock, out, i, slot, before, after, trigger, t, last_event_time, days)
        if is_silent(before) and row.alert_open:
            steps = 0 if throttled else 1
            emit_alert(rules, users, clock, out, i, slot, RESOLVED, before, t, days, steps)
            row.alert_open = 0
    set_deadline(rules, users, slot)

    if late:
        out.n[0].late += 1
    if throttled:
        out.n[0].throttled += 1
    elif rules.model:
        moment = Moment(t, row.last_event_time, kind, batch.value[i], gap, first, late, session_started)
        encode(rules, batch, users, clock, out, i, slot, moment, last_event_time)


@leaf
def keep_rhythm(rules: Rules, row: Any, t: int, gap: int, first: bool) -> bool:
    """Session and rhythm of an event that is not late; return whether it started a session."""
    started = first or gap >= rules.session_gap_ms
    if started:
        row.sessions += 1
        row.session_has_order = 0
    if not first and gap >= rules.visit_gap_ms:
        row.gaps += 1
        row.gap_mean += (gap - row.gap_mean) / min(row.gaps, RHYTHM_GAPS_MAX)
        row.at_risk_after = find_rhythm(rules, row)
    row.last_event_time = t
    return started


@leaf
def find_rhythm(rules: Rules, row: Any) -> Any:
    """How long the user may stay silent by the own rhythm; a model's word stands."""
    if rules.model_risk:
        return row.at_risk_after
    if row.gaps < RHYTHM_GAPS_MIN:
        return rules.at_risk_default_ms
    after = np.int64(rules.cadence * row.gap_mean)
    return min(max(after, rules.at_risk_min_ms), rules.at_risk_max_ms)


@leaf
def count_totals(row: Any, t: int, first: bool, late: bool, converts: bool) -> bool:
    """Count the event; return whether it raised `orders`: sessions with a conversion."""
    if first:
        row.first_event_time = t
    row.events += 1
    if not converts:
        return False
    row.conversions += 1
    if late:
        raised = row.orders == 0  # it belongs to no session
    else:
        raised = not row.session_has_order
        row.session_has_order = 1
    if raised:
        row.orders += 1
    return raised


@leaf
def count_throttle(rules: Rules, row: Any, t: int) -> bool:
    """Count the event in its 5-minute span; an event of an earlier span counts in the one that runs."""
    span = t // THROTTLE_SPAN_MS
    if span > row.throttle_span:
        row.throttle_span = span
        row.throttle_events = 0
    row.throttle_events += 1
    return row.throttle_events > rules.events_per_5min_max


@kernel
def encode(
    rules: Rules, batch: EventBatch, users: Users, clock: Any, out: Folded, i: int, slot: int, moment: Moment,
    last_event_time: int,
) -> None:  # fmt: skip
    """Ask for the encoder's step of event i, and for a list if its kind recommends."""
    n, mark, row = out.n[0], users.marks[slot], users.rows[slot]
    place = n.features
    n.features += 1
    write_features(rules, users, slot, moment, batch.context[i], out.features[place])
    at = n.steps
    n.steps += 1
    out.step_event[at] = i
    out.step_slot[at] = slot
    out.step_item[at] = batch.item[i]
    out.step_wave[at] = mark.steps
    out.step_features[at] = place
    mark.steps += 1
    if rules.model_risk:
        clock.fresh = min(clock.fresh, row.last_event_time + HOUR_MS)
    if rules.recommend[batch.kind[i]] and may_list(rules, row, moment.t_ms):
        emit_list(users, clock, out, i, slot, moment.t_ms, last_event_time, place, mark.steps)


@kernel
def set_risk(
    rules: Rules, users: Users, slots: npt.NDArray[np.int32], at_risk_after_ms: npt.NDArray[np.int64]
) -> None:
    """Take the hazard head's word for how long each of the stepped users may stay silent."""
    for j in range(len(slots)):
        row = users.rows[slots[j]]
        if row.live:
            row.at_risk_after = at_risk_after_ms[j]
            set_deadline(rules, users, slots[j])
