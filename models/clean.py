"""Cleaning: what is not learnt from. Serving sees it all the same, so features stay what serving computes.

Silences and the spend to come are counted over what is left, so a recipe that learns them may drop whole
sequences, and repeats that end no silence, but no other event (models/recipe.py refuses it).

Each rule says how many events it dropped; the run's record keeps that. Repeats go first, then events without
an item, then bots, then what lacks support, items and sequences in turns until both have it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.dataset import Sequences
from models.recipe import Cleaning
from stream.core.rules import DAY_MS
from stream.errors import InputError


def clean(data: Sequences, rules: Cleaning) -> tuple[Sequences, dict[str, int]]:
    """Return what is left of the sequences, and the number of events dropped by each rule.

    Raises InputError if there is no event, no item, or nothing left.
    """
    if not len(data.item):
        raise InputError("there is no event to learn from", remedy="give other events")
    if not data.item_ids:
        raise InputError(
            "no event has an item",
            remedy="see which field events.fields of the config reads as item_id, or give --items",
        )
    dropped: dict[str, int] = {}

    def drop(rule: str, bad: npt.NDArray[np.bool_]) -> None:
        nonlocal data
        if bad.any():
            dropped[rule] = dropped.get(rule, 0) + int(bad.sum())
            data = data.keep(~bad)

    if rules.duplicates:
        drop("duplicates", _repeats(data))
    if rules.missing:
        drop("missing", data.item < 0)
    if rules.events_per_day_max:
        drop("bots", _bots(data, rules.events_per_day_max))
    while True:
        before = len(data.item)
        drop("rare_items", _rare_items(data, rules.item_events_min))
        drop("short_sequences", data.per_event(data.start[1:] - data.start[:-1]) < rules.user_events_min)
        if len(data.item) == before:
            break
    if not len(data.item):
        raise InputError(
            f"cleaning left no event ({', '.join(f'{rule} {n:,}' for rule, n in dropped.items())})",
            place="cleaning",
            remedy="ask for less support",
        )
    return data, dropped


def _repeats(data: Sequences) -> npt.NDArray[np.bool_]:
    same = np.zeros(len(data.item), np.bool_)
    columns = data.item, data.kind, data.time_ms
    same[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    same[data.start[:-1]] = False
    return same


def _bots(data: Sequences, events_max: int) -> npt.NDArray[np.bool_]:
    """Say which events are of sequences that on some day have more than `events_max`."""
    owner = data.per_event(np.arange(data.users))
    day = data.time_ms // DAY_MS
    order = np.lexsort((day, owner))
    begins = np.ones(len(owner), np.bool_)
    begins[1:] = (np.diff(owner[order]) != 0) | (np.diff(day[order]) != 0)
    first = np.flatnonzero(begins)
    size = np.diff(np.append(first, len(owner)))
    busy = np.zeros(data.users, np.bool_)
    busy[owner[order][first[size > events_max]]] = True
    return data.per_event(busy)


def _rare_items(data: Sequences, events_min: int) -> npt.NDArray[np.bool_]:
    count = np.bincount(data.item[data.item >= 0], minlength=len(data.item_ids))
    rare: npt.NDArray[np.bool_] = (data.item >= 0) & (count[data.item] < events_min)
    return rare
