"""Lists of items as JSON, written by one compiled call for all lists of a batch.

Ten items with their scores are most of what a recommendation says, and building them as objects for a JSON
library was a third of its cost. The format is small enough to be written here:

    [{"item_id":"…","score":1.25},{"item_id":"…","score":0.5}]

The item ids come as JSON already (`ItemTable.texts`), so that no escaping happens here. Scores are float32
and are written with six to nine digits, the fewest that a reader of float32 reads back to the same number.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Edges = npt.NDArray[np.int64]

_BEFORE_ID: Final = np.frombuffer(b'{"item_id":', np.uint8)
_BEFORE_SCORE: Final = np.frombuffer(b',"score":', np.uint8)

#: "-1.23456789e-38" has 15 bytes, as positional text "-0.0000123456789" 16; the digits of a whole number, 18.
_SCORE_BYTES_MAX: Final = 24
_ITEM_BYTES: Final = len(_BEFORE_ID) + len(_BEFORE_SCORE) + _SCORE_BYTES_MAX + 2

#: A float32 needs nine significant digits at most to be read back (IEEE 754-2019, 5.12.2), six at least.
_DIGITS_MIN: Final = 6
_DIGITS_MAX: Final = 9
_POWERS_OF_TEN: Final = np.array([10.0**k for k in range(64)])

# Beyond these powers of ten of the first digit, text with an exponent is shorter to read.
_POSITIONAL_MIN: Final = -5
_POSITIONAL_MAX: Final = 15

_MINUS: Final = 45
_POINT: Final = 46
_ZERO: Final = 48


@njit(cache=True)
def write_lists(
    texts: Bytes,
    text_start: Edges,
    items: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    first: Edges,
) -> tuple[Bytes, Edges]:
    """Write the lists items[first[i]:first[i + 1]] with their scores, which must be finite.

    texts and text_start: the JSON of the id of item j is texts[text_start[j]:text_start[j + 1]].
    Returns the bytes of all lists and their edges i64[n + 1] in them.
    """
    size = 2 * len(first)
    for item in items:
        size += text_start[item + 1] - text_start[item] + _ITEM_BYTES
    out = np.empty(size, np.uint8)
    edges = np.zeros(len(first), np.int64)
    at = 0
    for i in range(len(first) - 1):
        out[at] = 91  # [
        at += 1
        for j in range(first[i], first[i + 1]):
            if j > first[i]:
                out[at] = 44  # ,
                at += 1
            at = _copy(out, at, _BEFORE_ID, 0, len(_BEFORE_ID))
            at = _copy(out, at, texts, text_start[items[j]], text_start[items[j] + 1])
            at = _copy(out, at, _BEFORE_SCORE, 0, len(_BEFORE_SCORE))
            at = _write_score(out, at, scores[j])
            out[at] = 125  # }
            at += 1
        out[at] = 93  # ]
        at += 1
        edges[i + 1] = at
    return out[:at], edges


@njit(cache=True)
def _copy(out: Bytes, at: int, source: Bytes, start: int, stop: int) -> int:
    for i in range(start, stop):
        out[at] = source[i]
        at += 1
    return at


@njit(cache=True)
def _write_score(out: Bytes, at: int, score: np.float32) -> int:
    """Write the shortest decimal that is read back as this float32."""
    if score < 0:
        out[at] = _MINUS
        at += 1
    if score == 0:
        return _write_decimal(out, at, 0, 0)
    exact = abs(np.float64(score))
    exponent = _exponent_of_ten(exact)
    whole, shift = 0, 0
    # If some digits suffice then more of them do: from all nine downwards, as most scores need eight or nine.
    for digits in range(_DIGITS_MAX, _DIGITS_MIN - 1, -1):
        fewer = digits - 1 - exponent
        power = _POWERS_OF_TEN[abs(fewer)]
        rounded = np.rint(exact * power if fewer >= 0 else exact / power)
        if digits < _DIGITS_MAX and np.float32(rounded / power if fewer >= 0 else rounded * power) != exact:
            break
        whole, shift = int(rounded), fewer
    return _write_decimal(out, at, whole, shift)


@njit(cache=True)
def _exponent_of_ten(exact: float) -> int:
    """Return the power of ten of the first digit of a positive number, within the range of float32."""
    _, binary = math.frexp(exact)
    # log10(2) from below; one too small at most, as the mantissa adds less than one power of two.
    exponent = math.floor((binary - 1) * 0.30102999)
    above = exponent + 1
    reached = exact >= _POWERS_OF_TEN[above] if above >= 0 else exact * _POWERS_OF_TEN[-above] >= 1.0
    return above if reached else exponent


@njit(cache=True)
def _write_decimal(out: Bytes, at: int, whole: int, shift: int) -> int:
    """Write whole × 10^−shift; whole is not negative."""
    while whole > 0 and whole % 10 == 0:
        whole //= 10
        shift -= 1
    count = 1
    beyond = 10
    while beyond <= whole:
        beyond *= 10
        count += 1
    leading = count - 1 - shift  # the power of ten of the first digit
    if leading < _POSITIONAL_MIN or leading >= _POSITIONAL_MAX:
        at = _write_digits(out, at, whole, count, 1)
        out[at] = 101  # e
        at += 1
        if leading < 0:
            out[at] = _MINUS
            at += 1
            leading = -leading
        return _write_digits(out, at, leading, 2 if leading > 9 else 1, 2)
    if leading < 0:
        out[at], out[at + 1] = _ZERO, _POINT
        at += 2
        for _ in range(-leading - 1):
            out[at] = _ZERO
            at += 1
        return _write_digits(out, at, whole, count, count)
    if shift <= 0:
        at = _write_digits(out, at, whole, count, count)
        for _ in range(-shift):
            out[at] = _ZERO
            at += 1
        out[at], out[at + 1] = _POINT, _ZERO
        return at + 2
    return _write_digits(out, at, whole, count, leading + 1)


@njit(cache=True)
def _write_digits(out: Bytes, at: int, number: int, count: int, before_point: int) -> int:
    """Write `count` digits with a point after the first `before_point`, none if that is all of them."""
    stop = at + count + (1 if before_point < count else 0)
    place = stop
    for i in range(count, 0, -1):
        place -= 1
        out[place] = _ZERO + number % 10
        number //= 10
        if i - 1 == before_point and before_point < count:
            place -= 1
            out[place] = _POINT
    return stop
