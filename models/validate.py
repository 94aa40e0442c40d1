"""What is held out: to stop early, to calibrate, and to say how good a recipe is before it is used.

    users     a share of the users, all of their events
    time      the events from an instant on
    last      the last group of events (basket) of each user: leave-one-out
    folds     users in k parts, each held out once
    rolling   spans of time, each judged by a model of all that came before it (rolling origin)

Training gets a `Sequences` that lacks what is held out, so it cannot look. Judging goes through whole
sequences, and asks only about the events that were held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.dataset import Sequences
from models.recipe import Validation
from models.targets import group_events
from stream.errors import UsageError

Bools = npt.NDArray[np.bool_]


class Split(NamedTuple):
    learn: Sequences
    judged: Sequences | None  # None: nothing is held out
    wanted: Bools  # [N of judged] the events that are asked about
    learn_until_ms: int  # when observation ended, for what is censored
    judge_until_ms: int


def hold_out(data: Sequences, validation: Validation, seed: int) -> Split:
    """Split the sequences as the recipe says. Raises UsageError if nothing would be left on one side."""
    end_ms = end_of(data)
    if validation.by == "none":
        return Split(data, None, np.empty(0, np.bool_), end_ms, end_ms)
    if validation.by == "users":
        owner = number_users(data)
        held = np.random.default_rng([seed, 1]).random(owner.max(initial=-1) + 1) < validation.share
        return by_users(data, held[owner])
    if validation.by == "time":
        return by_time(data, int(np.quantile(data.time_ms, 1.0 - validation.share)), end_ms)
    groups = group_events(data)
    last = groups.of_event >= data.per_event(groups.first[1:] - 1)
    return _checked(Split(data.keep(~last), data, last, end_ms, end_ms))


def make_folds(data: Sequences, count: int, seed: int) -> Iterator[Split]:
    """Yield `count` splits, in which each user is held out once."""
    owner = number_users(data)
    fold = np.random.default_rng([seed, 2]).permutation(np.arange(owner.max(initial=-1) + 1) % count)
    for number in range(count):
        yield by_users(data, fold[owner] == number)


def roll_origin(data: Sequences, count: int) -> Iterator[Split]:
    """Yield `count` splits by time: each judges the next of count + 1 spans with equally many events."""
    cuts = np.quantile(data.time_ms, np.arange(1, count + 2) / (count + 1)).astype(np.int64)
    cuts[-1] = end_of(data)
    for origin, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        yield by_time(data, origin, end)


def number_users(data: Sequences) -> npt.NDArray[np.int64]:
    """Return whose each sequence is [U], as a number: one who was forgotten and came back has several."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(user, len(numbers)) for user in data.user], np.int64)


def by_users(data: Sequences, held: Bools) -> Split:
    events = data.per_event(held)
    judged = data.keep(events)
    end_ms = end_of(data)
    return _checked(Split(data.keep(~events), judged, np.ones(len(judged.item), np.bool_), end_ms, end_ms))


def by_time(data: Sequences, origin_ms: int, end_ms: int) -> Split:
    """Learn from what came before `origin_ms`, judge what came until `end_ms`."""
    seen = data.keep(data.time_ms < end_ms)
    return _checked(Split(data.before(origin_ms), seen, seen.time_ms >= origin_ms, origin_ms, end_ms))


def end_of(data: Sequences) -> int:
    """Return the instant after the last event."""
    return int(data.time_ms.max(initial=0)) + 1


def _checked(split: Split) -> Split:
    if not len(split.learn.item) or not split.wanted.any():
        raise UsageError(
            f"{len(split.learn.item):,} events are to learn from, {int(split.wanted.sum()):,} to judge by",
            place="validation",
            remedy="hold out another share",
        )
    return split
