"""The one place that knows what time it is.

A clock tells two times. `now_ms` is the wall's: it is what records are stamped with, and it may jump.
`monotonic_s` only measures how long something took. The shell takes a clock as an argument, so that a test
or the simulator can hold it in its hand; the core takes times and knows no clock.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time and lets it pass."""

    def now_ms(self) -> int:
        """Return the wall clock in epoch milliseconds. It may jump, in both directions."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds since some moment of the past. It never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        """Let time pass until the condition is notified, at most so long. The caller holds the condition."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        condition.wait(seconds)


class VirtualClock:
    """A clock that stands still unless told to go on: sleeping moves it, and takes no time.

    The wall clock can be set apart from the elapsed time with `jump`, as an operator or NTP would do.
    """

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._elapsed_ms = 0.0
        self._wall_offset_ms = start_ms

    def now_ms(self) -> int:
        return self._wall_offset_ms + int(self._elapsed_ms)

    def monotonic_s(self) -> float:
        return self._elapsed_ms / 1000.0

    def sleep(self, seconds: float) -> None:
        self.advance(seconds * 1000.0)

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.advance(seconds * 1000.0)

    def advance(self, elapsed_ms: float) -> None:
        """Let so many milliseconds pass, on both clocks."""
        if elapsed_ms < 0:
            raise ValueError(f"time does not go back: {elapsed_ms} ms")
        self._elapsed_ms += elapsed_ms

    def jump(self, wall_ms: int) -> None:
        """Set the wall clock so much forward, or back if negative; nothing elapses."""
        self._wall_offset_ms += wall_ms
