"""Rolling windows: rings of buckets per user, one cell per bucket and kind.

An event at time t belongs to the bucket of index (t + offset) // b. A ring of n buckets with head h holds the
indices in (h − n, h], index i in cell i mod n. It moves forward only; a bucket that the head has passed is
cleared, and an event older than the ring is ignored. A window of m buckets read at time t sums the indices in
(i(t) − m, i(t)] as far as the ring holds them.

Functions take one user's cells: u16[sum of buckets, K]. A count saturates at 65,535.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stream.core.compiled import leaf
from stream.core.events import CONTACT, NEVER
from stream.core.rules import ACTIVE_DAYS_SPAN, Rules

COUNT_MAX: Final = 65_535

Cells = npt.NDArray[np.uint16]
Heads = npt.NDArray[np.int64]
Spend = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@leaf
def bucket_index(rules: Rules, ring: int, t_ms: int) -> int:
    return (t_ms + rules.ring_offset_ms[ring]) // rules.ring_bucket_ms[ring]


@leaf
def count_event(
    rules: Rules, heads: Heads, cells: Cells, spend: Spend, t_ms: int, kind: int, amount: float
) -> None:
    """Count an event of `kind` at t_ms in every ring; add `amount` to its day's spend (0 adds nothing)."""
    for ring in range(len(rules.ring_bucket_ms)):
        index = bucket_index(rules, ring, t_ms)
        turn(rules, heads, cells, spend, ring, index)
        n = rules.ring_buckets[ring]
        if index <= heads[ring] - n:
            continue
        at = rules.ring_start[ring] + index % n
        if cells[at, kind] < COUNT_MAX:
            cells[at, kind] += 1
        if ring == rules.day_ring:
            spend[index % n] += amount


@leaf
def turn(rules: Rules, heads: Heads, cells: Cells, spend: Spend, ring: int, index: int) -> None:
    """Move the ring's head forward to `index`, clearing the buckets it enters."""
    head = heads[ring]
    if head == NEVER:
        heads[ring] = index
        return
    if index <= head:
        return
    n = rules.ring_buckets[ring]
    first = max(head + 1, index - n + 1)
    for i in range(first, index + 1):
        cells[rules.ring_start[ring] + i % n, :] = 0
        if ring == rules.day_ring:
            spend[i % n] = 0.0
    heads[ring] = index


@leaf
def count_window(rules: Rules, heads: Heads, cells: Cells, window: int, t_ms: int, counts: Counts) -> None:
    """Write the window's sums by kind, read at t_ms, into counts[K]."""
    counts[:] = 0
    ring = rules.window_ring[window]
    head = heads[ring]
    if head == NEVER:
        return
    n = rules.ring_buckets[ring]
    last = bucket_index(rules, ring, t_ms)
    first = max(last - rules.window_buckets[window], head - n) + 1
    for i in range(first, min(last, head) + 1):
        at = rules.ring_start[ring] + i % n
        for kind in range(cells.shape[1]):
            counts[kind] += cells[at, kind]


@leaf
def sum_spend(rules: Rules, heads: Heads, spend: Spend, window: int, t_ms: int) -> float:
    """Sum the spend of a window over the day ring, read at t_ms, oldest bucket first."""
    total = 0.0
    head = heads[rules.day_ring]
    if head == NEVER:
        return total
    n = rules.ring_buckets[rules.day_ring]
    last = bucket_index(rules, rules.day_ring, t_ms)
    first = max(last - rules.window_buckets[window], head - n) + 1
    for i in range(first, min(last, head) + 1):
        total += spend[i % n]
    return total


@leaf
def count_active_days(rules: Rules, heads: Heads, cells: Cells, t_ms: int) -> int:
    """Of the last seven days up to the day of t_ms, count those with an engagement or conversion."""
    head = heads[rules.day_ring]
    if head == NEVER:
        return 0
    n = rules.ring_buckets[rules.day_ring]
    last = bucket_index(rules, rules.day_ring, t_ms)
    days = 0
    for i in range(max(last - ACTIVE_DAYS_SPAN, head - n) + 1, min(last, head) + 1):
        at = rules.ring_start[rules.day_ring] + i % n
        for kind in range(cells.shape[1]):
            if cells[at, kind] > 0 and rules.roles[kind] != CONTACT:
                days += 1
                break
    return days
