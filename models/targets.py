"""What training asks for: after each moment of a user, what follows.

    targets     the items of the next moments
    silences    how long until the next event, or until observation ended: for the hazard
    values      the value of the next event, or the sum of those within a horizon, huge ones cut (`winsorise`)

Events of one user, kind and instant are a group: the lines of a basket share the second of the till, and
their order says nothing. A click stream has groups of one. A list is wanted after the last event of a group;
right are the items of the next group, and, with less weight, of the ones behind it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.batches import Batch, whole
from models.dataset import Sequences

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

#: Of the sizes of values other than 0; what lies beyond so many times the size that it is of is cut to that.
_USUAL_SHARE: Final = 0.99
_TIMES_USUAL: Final = 10.0
#: Where all are as huge: sums of millions, and what the head says of them, are still numbers in float32.
_VALUE_MAX: Final = 1e30
#: expm1 of more is no number in float64.
_VALUE_LOG_MAX: Final = 709.0


class Groups(NamedTuple):
    """G groups of all sequences in order; group g is the events start[g] .. start[g + 1] − 1."""

    start: Ints  # [G + 1]
    of_event: Ints  # [N]
    first: Ints  # [U + 1] the sequence's first group


class Targets(NamedTuple):
    """P positions of a batch, and T items that are right for them."""

    row: Ints  # [P] sequence within the batch
    step: Ints  # [P] event within the sequence
    position: Ints  # [T] index into the P positions
    item: Ints  # [T]
    weight: npt.NDArray[np.float32]  # [T] sums to 1 over a position

    def events(self, batch: Batch) -> Ints:
        """Return the event after which each position is asked about, [P]."""
        return batch.start[self.row] + self.step


def group_events(data: Sequences) -> Groups:
    begins = np.ones(len(data.item), np.bool_)
    begins[1:] = (np.diff(data.time_ms) != 0) | (np.diff(data.kind.astype(np.int64)) != 0)
    begins[data.start[:-1]] = True
    start = np.append(np.flatnonzero(begins), len(begins))
    of_event = np.cumsum(begins) - 1
    first = np.append(of_event[data.start[:-1]], len(start) - 1)
    return Groups(start, of_event, first)


def shuffle_groups(data: Sequences, groups: Groups, random: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return the items [N] with those of each group in an order of chance."""
    return data.item[np.lexsort((random.random(len(data.item)), groups.of_event))]


def make_targets(
    data: Sequences,
    groups: Groups,
    users: Ints,
    wanted: Bools,
    horizon: int,
    decay: float,
    batch: Batch | None = None,
) -> Targets:
    """Return the targets of the sequences `users`: items of the next `horizon` groups.

    wanted: [N] events whose items are targets. A group that is one further off weighs `decay` times as much.
    batch: the stretches of these sequences that are there; steps are counted from their starts.
    """
    batch = batch or whole(data, users)
    rows, steps, positions, items, weights = [], [], [], [], []
    count = 0
    for row, user in enumerate(users.tolist()):
        group = np.arange(groups.first[user], groups.first[user + 1] - 1)
        low = groups.start[group + 1]
        high = groups.start[np.minimum(group + 1 + horizon, groups.first[user + 1])]
        lengths = high - low
        position = np.repeat(np.arange(len(group)), lengths)
        event = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + low[position]
        moment = low - 1  # the event after which each group is asked for
        there = (moment >= batch.start[row]) & (moment < batch.stop[row])
        chosen = wanted[event] & there[position]
        position, event = position[chosen], event[chosen]
        away = groups.of_event[event] - group[position] - 1
        used, position = np.unique(position, return_inverse=True)
        weight = decay**away
        weight = weight / np.bincount(position, weight, len(used))[position] if len(used) else weight
        rows.append(np.full(len(used), row))
        steps.append(moment[used] - batch.start[row])
        positions.append(position + count)
        items.append(data.item[event])
        weights.append(weight)
        count += len(used)
    return Targets(
        np.concatenate(rows),
        np.concatenate(steps),
        np.concatenate(positions),
        np.concatenate(items).astype(np.int64),
        np.concatenate(weights).astype(np.float32),
    )


def had_before(data: Sequences, batch: Batch, targets: Targets) -> tuple[Ints, Ints]:
    """Return positions, rising, and the items that their users had up to them, before the stretch too.

    An item that came several times is there as often; one that is right at its position is left out.
    """
    since = data.start[batch.users][targets.row]
    length = batch.start[targets.row] + targets.step + 1 - since
    position = np.repeat(np.arange(len(length)), length)
    event = np.arange(len(position)) - np.repeat(np.cumsum(length) - length - since, length)
    item = data.item[event].astype(np.int64)
    kept = item >= 0
    count = np.bincount(targets.position, minlength=len(length))
    first = np.cumsum(count) - count
    for number in range(int(count.max(initial=0))):  # a position's targets stand together
        there = number < count
        right = np.full(len(length), -1)
        right[there] = targets.item[first[there] + number]
        kept &= item != right[position]
    return position[kept], item[kept]


class Silences(NamedTuple):
    """For each event [N]: how long until the user's next, and whether that is only how long one looked."""

    silence_ms: Ints
    censored: Bools
    known: Bools  # not where the next event brings no time: it is late, or of the same instant


def find_silences(data: Sequences, until_ms: int) -> Silences:
    """Return the silences after the events, as one knows them at `until_ms`.

    An event late for its user ends no silence. A sequence that ended because the user was forgotten, and came
    back, ends with the silence until then.
    """
    latest = latest_times(data)
    ends = np.zeros(len(latest), np.bool_)
    ends[data.start[1:] - 1] = True
    after = np.append(latest[1:], until_ms)
    followed = np.append(np.array(data.user[1:]) == np.array(data.user[:-1]), False)
    censored = ends & ~data.per_event(followed) | (after >= until_ms)
    after = np.where(censored, until_ms, after)
    return Silences(after - latest, censored, after > latest)


def latest_times(data: Sequences) -> Ints:
    """Return last_event_time as of each event [N]: late events leave it as it was."""
    times, rank = np.unique(data.time_ms, return_inverse=True)
    # One running maximum of ranks over all sequences: each lies above the one before by more than any rank.
    above = data.per_event(np.arange(data.users)) * len(times)
    latest: Ints = times[np.maximum.accumulate(rank + above) - above]
    return latest


def read_values(data: Sequences) -> Doubles:
    """Return the events' values [N], NaN for those without, from the features of the core."""
    logs = data.features[:, data.column(["value_log"])[0]].astype(np.float64)
    there = data.features[:, data.column(["has_value"])[0]] > 0
    values = np.sign(logs) * np.expm1(np.minimum(np.abs(logs), _VALUE_LOG_MAX))
    return np.where(there, values, np.nan)


def winsorise(values: Doubles) -> Doubles:
    """Return values, NaN for none, cut to ten times the size that 99 % of those other than 0 do not pass.

    One price of 1e40, which the contract allows, would else be all that mean, scale and loss consist of.
    """
    sizes = np.abs(values[~np.isnan(values) & (values != 0)])
    usual = float(np.quantile(sizes, _USUAL_SHARE, method="lower")) if len(sizes) else 0.0
    most = min(_TIMES_USUAL * usual, _VALUE_MAX)
    return np.clip(values, -most, most)


def next_values(data: Sequences, counted: Bools) -> Floats:
    """Return for each event [N] the value of the user's next one if that is `counted`, else NaN."""
    values = winsorise(np.where(counted, read_values(data), np.nan))
    after = np.append(values[1:], np.nan).astype(np.float32)
    after[data.start[1:] - 1] = np.nan
    return after


def coming_values(data: Sequences, counted: Bools, horizon_ms: int, until_ms: int) -> Floats:
    """Return for each event [N] the sum of the `counted` values within the horizon behind it.

    NaN where observation ends (`until_ms`) before the horizon does.
    """
    values = np.nan_to_num(winsorise(np.where(counted, read_values(data), np.nan)))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    coming = np.zeros(len(values), np.float32)
    for start, stop in zip(data.start[:-1].tolist(), data.start[1:].tolist(), strict=True):
        times = np.maximum.accumulate(data.time_ms[start:stop])
        last = start + np.searchsorted(times, times + horizon_ms, side="right")
        coming[start:stop] = sums[last] - sums[start + 1 : stop + 1]
    return np.where(latest_times(data) + horizon_ms <= until_ms, coming, np.float32(np.nan))
