"""Finds the fields of a catalogue: which attributes there are, what they hold, and what is worth knowing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream.item_features import Category, ItemFeatures, Number, Text, Vector, is_number, words

#: A word that fewer items have than this tells nothing of the next one.
WORD_ITEMS_MIN = 2
#: Words of a category: an embedding each.
WORDS_MAX = 20_000
#: Words of one item that count.
WORDS_OF_ITEM_MAX = 8
#: With fewer different values per item than this an attribute is a category, else it is text.
DISTINCT_SHARE_MAX = 0.5
#: A number whose largest value is this many medians is taken as its logarithm.
SKEW_MIN = 10.0


def fit_features(
    catalogue: Sequence[Mapping[str, Any]], *, text: Sequence[str] = (), leave_out: Sequence[str] = ()
) -> ItemFeatures:
    """Return the fields of a catalogue, sorted by name.

    An attribute is read as what most of its values are. text: attributes to be read as text whatever they
    look like. Raises ValueError if no attribute can be read.
    """
    names = sorted({name for given in catalogue for name in given} - set(leave_out))
    fields = []
    for name in names:
        values = [given[name] for given in catalogue if given.get(name) is not None]
        if field := fit_field(name, values, text=name in text):
            fields.append(field)
    if not fields:
        raise ValueError("no attribute of the items can be read")
    return ItemFeatures(fields)


def fit_field(
    name: str, values: Sequence[Any], *, text: bool = False
) -> Category | Number | Text | Vector | None:
    """Return the field of one attribute, None if its values tell nothing."""
    if not values:
        return None
    kind = Counter(_kind(value) for value in values).most_common(1)[0][0]
    if kind == "vector":
        sizes = Counter(len(value) for value in values if _kind(value) == kind)
        return Vector(name, sizes.most_common(1)[0][0])
    if kind == "number" and not text:
        return _fit_number(name, [float(value) for value in values if is_number(value)])
    count = Counter(word for value in values for word in set(words(value)))
    several = sum(len(words(value)) for value in values) > len(values)
    if text or (not several and len(count) > DISTINCT_SHARE_MAX * len(values)):
        return Text(name)
    kept = [word for word, items in count.most_common(WORDS_MAX) if items >= WORD_ITEMS_MIN]
    most = min(WORDS_OF_ITEM_MAX, max((len(words(value)) for value in values), default=1))
    return Category(name, sorted(kept), most) if kept else None


def _kind(value: Any) -> str:
    if is_number(value):
        return "number"
    if isinstance(value, list) and value and all(map(is_number, value)):
        return "vector"
    return "words"


def _fit_number(name: str, values: list[float]) -> Number | None:
    array = np.array(values, np.float64)
    log = bool(array.min() >= 0 and array.max() > SKEW_MIN * max(float(np.median(array)), 1e-9))
    array = np.log1p(array) if log else array
    # Measured in a power of two, which changes no digit: the squares of 1e200 are beyond all numbers.
    exponent = int(np.frexp(np.abs(array).max())[1])
    array = np.ldexp(array, -exponent)
    mean, deviation = (float(np.ldexp(value, exponent)) for value in (array.mean(), array.std()))
    return Number(name, mean, deviation, log) if deviation > 0 else None
