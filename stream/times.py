"""Times as producers write them: RFC 3339 text to epoch milliseconds, a whole batch in one compiled call.

    YYYY-MM-DD T hh:mm:ss [. digits] (Z | ±hh:mm)

The date must exist in the (proleptic Gregorian) calendar, hours go to 23, minutes and seconds to 59: a leap
second is refused, because epoch time has no place for it. `T` and `Z` may be written small; the zone is never
optional. Digits below the millisecond are cut off. The instant, not its writing, must lie in the range
TIME_MS_MIN .. TIME_MS_MAX.

The JSON of an event is not this module's business: it is given the bytes of the text alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]

TIME_MS_MIN: Final = 946_684_800_000  # 2000-01-01T00:00:00Z
TIME_MS_MAX: Final = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

#: What the compiled parsers return for text that is no such time.
UNREADABLE: Final = np.iinfo(np.int64).min

# "YYYY-MM-DDThh:mm:ss" and the shortest zone, "Z".
_CLOCK_END: Final = 19
_LENGTH_MIN: Final = 20
_OFFSET_LENGTH: Final = 6  # "+hh:mm"


@njit(cache=True)
def _number(data: Bytes, at: int, digits: int) -> int:
    """Return the number of exactly `digits` ASCII digits at `at`, or −1."""
    number = 0
    for i in range(at, at + digits):
        digit = int(data[i]) - 48
        if digit < 0 or digit > 9:
            return -1
        number = number * 10 + digit
    return number


@njit(cache=True)
def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@njit(cache=True)
def _days_since_epoch(year: int, month: int, day: int) -> int:
    """Count days from 1970-01-01, with years that begin in March.

    Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    """
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * 146_097 + day_of_era - 719_468


@njit(cache=True)
def _clock_ms(data: Bytes, start: int) -> int:
    """Read "YYYY-MM-DDThh:mm:ss" as if in UTC; the 19 bytes must be there. UNREADABLE if it is none."""
    year, month, day = _number(data, start, 4), _number(data, start + 5, 2), _number(data, start + 8, 2)
    hour, minute = _number(data, start + 11, 2), _number(data, start + 14, 2)
    second = _number(data, start + 17, 2)
    if data[start + 4] != 45 or data[start + 7] != 45:  # -
        return UNREADABLE
    if data[start + 10] | 32 != 116:  # T t
        return UNREADABLE
    if data[start + 13] != 58 or data[start + 16] != 58:  # :
        return UNREADABLE
    if year < 0 or month < 1 or month > 12 or day < 1 or day > _days_in_month(year, month):
        return UNREADABLE
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return UNREADABLE
    days = _days_since_epoch(year, month, day)
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000


@njit(cache=True)
def _offset_ms(data: Bytes, at: int, stop: int) -> int:
    """Read the zone that must fill data[at:stop]. UNREADABLE if it is none."""
    if at + 1 == stop and data[at] | 32 == 122:  # Z z
        return 0
    if at + _OFFSET_LENGTH != stop or data[at + 3] != 58:  # :
        return UNREADABLE
    if data[at] != 43 and data[at] != 45:  # + -
        return UNREADABLE
    hour, minute = _number(data, at + 1, 2), _number(data, at + 4, 2)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59:
        return UNREADABLE
    offset = (hour * 60 + minute) * 60_000
    return offset if data[at] == 43 else -offset


@njit(cache=True)
def _parse(data: Bytes, start: int, stop: int) -> int:
    if stop - start < _LENGTH_MIN:
        return UNREADABLE
    clock = _clock_ms(data, start)
    if clock == UNREADABLE:
        return UNREADABLE
    at = start + _CLOCK_END
    millis = 0
    if data[at] == 46:  # .
        at += 1
        first = at
        weight = 100
        while at < stop and data[at] >= 48 and data[at] <= 57:
            millis += weight * (int(data[at]) - 48)
            weight //= 10
            at += 1
        if at == first:
            return UNREADABLE
    offset = _offset_ms(data, at, stop)
    if offset == UNREADABLE:
        return UNREADABLE
    time_ms = clock + millis - offset
    return time_ms if TIME_MS_MIN <= time_ms <= TIME_MS_MAX else UNREADABLE


@njit(cache=True)
def parse_times(data: Bytes, start: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the epoch milliseconds of the texts data[start[i]:start[i + 1]]; UNREADABLE for what is none.

    data u8[sum of lengths], start i64[B + 1] → i64[B].
    """
    times_ms = np.empty(len(start) - 1, np.int64)
    for i in range(len(times_ms)):
        times_ms[i] = _parse(data, start[i], start[i + 1])
    return times_ms


def parse_time(text: str) -> int | None:
    """Return the epoch milliseconds of one RFC 3339 text, or None if it is none or out of range."""
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    time_ms = int(_parse(data, 0, len(data)))
    return None if time_ms == UNREADABLE else time_ms
