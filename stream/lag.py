"""Lag: how far the log reaches beyond what was read, asked for now and then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from stream.broker import Source
from stream.clock import Clock
from stream.errors import RetriableError
from stream.observe import Observer
from stream.share import Share

#: How often the ends of the logs are asked for.
LAG_EVERY_S: Final = 5.0


class LagMeter:
    """Tells the observer how far the log reaches, for the metrics and the watchdog."""

    def __init__(self, source: Source, observer: Observer, clock: Clock) -> None:
        self._source, self._observer, self._clock = source, observer, clock
        self._asked_s = clock.monotonic_s()

    def measure(self, shares: Mapping[int, Share], live: Sequence[int]) -> None:
        """Ask for the ends of the live partitions, if it is time; a broker that is away is asked later."""
        now_s = self._clock.monotonic_s()
        if live and now_s >= self._asked_s + LAG_EVERY_S:
            self._asked_s = now_s
            try:
                self._observer.measured(shares, self._source.end_offsets(live))
            except RetriableError as error:
                self._observer.broker_away(error)
