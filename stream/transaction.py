"""One transaction a worker: outputs and offsets go out together, or not at all.

It begins with the first output and ends with the commit that the interval asks for. Every error of the sink
is handled by its kind: the same call again within a budget, or the caller undoes (`AbortableError`) or starts
over with a new sink (`FencedError`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from stream.broker import CommittedOffset, GroupToken, Sink
from stream.clock import Clock
from stream.errors import FencedError, RetriableError
from stream.records import Output

T = TypeVar("T")

#: How long a call is repeated before the transaction is given up; an election takes seconds.
RETRY_BUDGET_S: Final = 60.0
RETRY_PAUSE_S: Final = 0.1
#: Outputs of one transaction that make its commit come ahead of the interval, as in a storm of timers.
OUTPUTS_MAX: Final = 100_000


class Transaction:
    """The open transaction of one sink, begun when it is first needed."""

    def __init__(self, sink: Sink, clock: Clock, *, budget_s: float = RETRY_BUDGET_S) -> None:
        self._sink, self._clock, self._budget_s = sink, clock, budget_s
        self.open = False
        self._outputs = 0

    @property
    def full(self) -> bool:
        """Whether it holds as much as one transaction should."""
        return self._outputs >= OUTPUTS_MAX

    def produce(self, outputs: Sequence[Output]) -> None:
        """Put outputs into the transaction. Raises AbortableError, FencedError."""
        if outputs:
            self._begin()
            self._outputs += len(outputs)
            self._sink.produce(outputs)

    def commit(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        """Commit what was produced with the offsets it came from. Raises AbortableError, FencedError."""
        self._begin()
        self._again(lambda: self._sink.send_offsets(topic, offsets, group))
        self._again(self._sink.commit)
        self.open = False

    def abort(self) -> None:
        """Take everything back that was produced since the last commit. Raises FencedError."""
        if self.open:
            self._again(self._sink.abort)
            self.open = False

    def _begin(self) -> None:
        if not self.open:
            self._sink.begin()
            self.open, self._outputs = True, 0

    def _again(self, call: Callable[[], T]) -> T:
        """Make the same call again as long as the broker asks for it and the budget lasts."""
        until = self._clock.monotonic_s() + self._budget_s
        while True:
            try:
                return call()
            except RetriableError as error:
                if self._clock.monotonic_s() >= until:
                    raise FencedError(
                        f"no answer within {self._budget_s:.0f} s: {error.what}",
                        place=error.place,
                        remedy="a new producer takes over; look at the brokers if this repeats",
                    ) from error
                self._clock.sleep(RETRY_PAUSE_S)
