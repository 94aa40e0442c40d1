"""Values of a config: one reader for each sort of key.

A reader knows what it expects, in words, and turns what the TOML file holds into what the program uses. It
raises `RefusedError` with everything that is wrong with the value. Readers see one value at a time; what
several keys must agree on is checked in `stream/config_load.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from stream.errors import Fault

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION: Final = re.compile(r"(-?[0-9]{1,15})(ms|s|m|h|d)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: A century: far beyond any use, and its multiples stay far inside int64.
DURATION_MAX_MS: Final = 36_525 * 86_400_000

DURATION_WORDS: Final = 'a duration such as "5m" or integer milliseconds'

#: Before every record's timestamp: `emit_from = "earliest"`.
EARLIEST_MS: Final = -(2**63)


class RefusedError(Exception):
    """A value does not fit. The keys of `faults` continue the key that was read ("" is the key itself)."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults


class FromEnvironment(str):
    """A string into which variables of the environment were put; `source` is how the file spells it.

    Errors quote the source, so that no secret reaches a terminal or a log.
    """

    source: str

    def __new__(cls, text: str, source: str) -> FromEnvironment:
        value = super().__new__(cls, text)
        value.source = source
        return value


class Reader(Protocol):
    """Reads one sort of value. `expected` completes the sentence "expected …"."""

    @property
    def expected(self) -> str: ...

    def read(self, value: object) -> object: ...


def show(value: object) -> str:
    """Write a value as its file spells it, without secrets and without length."""
    if isinstance(value, FromEnvironment):
        return f'"{value.source}"'
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = (
        f'"{value}"'
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    return text if len(text) <= 60 else f"{text[:56]}…"


def refuse(expected: str, value: object, remedy: str = "") -> RefusedError:
    return RefusedError(Fault("", f"expected {expected}, not {show(value)}", remedy))


def plain(value: object) -> object:
    """A number that came from the environment is a string; read it as the number that it spells."""
    if isinstance(value, FromEnvironment):
        for number in (int, float):
            try:
                return number(value)
            except ValueError:
                continue
    return value


def parse_duration(value: object) -> int | None:
    """Return the milliseconds of "5m", "7d", "30s", "12h", "250ms" or an integer; None if it is neither."""
    value = plain(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return int(match[1]) * _UNITS_MS[match[2]]
    return None


def format_duration(ms: int) -> str:
    """Write milliseconds in the largest unit that needs no fraction: 604_800_000 → "7d"."""
    for unit, size in _UNITS_MS.items():
        if ms % size == 0 and (ms != 0 or unit == "s"):
            return f"{ms // size}{unit}"
    raise AssertionError("every integer is a number of milliseconds")


@dataclass(frozen=True)
class Duration:
    """A span of time, as milliseconds."""

    min_ms: int = 0
    max_ms: int = DURATION_MAX_MS

    @property
    def expected(self) -> str:
        text = DURATION_WORDS
        if self.min_ms < 0:
            return f"{text}, from {format_duration(self.min_ms)} to {format_duration(self.max_ms)}"
        if self.max_ms < DURATION_MAX_MS:
            text = f"{text}, at most {format_duration(self.max_ms)}"
        return f"{text}, more than 0" if self.min_ms else text

    def read(self, value: object) -> int:
        ms = parse_duration(value)
        if ms is None or not self.min_ms <= ms <= self.max_ms:
            raise refuse(self.expected, value, "" if ms is not None else "units: ms, s, m, h, d")
        return ms


@dataclass(frozen=True)
class Whole:
    """A whole number in [least, most]."""

    least: int
    most: int

    @property
    def expected(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def read(self, value: object) -> int:
        number = plain(value)
        if not isinstance(number, int) or isinstance(number, bool) or not self.least <= number <= self.most:
            raise refuse(self.expected, value)
        return number


@dataclass(frozen=True)
class Number:
    """A finite number in [least, most]; without the ends where `inner`."""

    least: float = -1e9
    most: float = 1e9
    inner: bool = False

    @property
    def expected(self) -> str:
        if self.least == -1e9 and self.most == 1e9:
            return "a number"
        if self.inner:
            return f"a number between {self.least:g} and {self.most:g}, neither included"
        return f"a number from {self.least:g} to {self.most:g}"

    def read(self, value: object) -> float:
        number = plain(value)
        fits = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        if not fits or not isinstance(number, int | float) or not self.least <= number <= self.most:
            raise refuse(self.expected, value)
        if self.inner and number in (self.least, self.most):
            raise refuse(self.expected, value)
        return float(number)


@dataclass(frozen=True)
class Choice:
    """One word of a closed list."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        quoted = [f'"{word}"' for word in self.words]
        return f"{', '.join(quoted[:-1])} or {quoted[-1]}"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise refuse(self.expected, value, suggest(value, self.words))
        return str(value)


@dataclass(frozen=True)
class Text:
    """A string of a stated form."""

    expected: str
    form: re.Pattern[str] = re.compile(r"[^\x00-\x1f\x7f]+")

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not self.form.fullmatch(value):
            raise refuse(self.expected, value)
        return str(value)


@dataclass(frozen=True)
class Instant:
    """A point in time, as epoch milliseconds; "earliest" is before them all."""

    expected: str = '"earliest" or an RFC 3339 time with its zone, such as "2026-01-31T00:00:00Z"'

    def read(self, value: object) -> int:
        if value == "earliest":
            return EARLIEST_MS
        moment = value
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                raise refuse(self.expected, value) from None
        if not isinstance(moment, datetime) or moment.tzinfo is None:
            raise refuse(self.expected, value)
        return (moment - _EPOCH) // timedelta(milliseconds=1)


def suggest(word: object, words: Sequence[str]) -> str:
    """Return 'did you mean "…"?' for the nearest of the words, or nothing if none is near."""
    # Only a fault needs it, and a command that works should not wait for the import.
    from difflib import get_close_matches

    near = get_close_matches(str(word), words, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""
