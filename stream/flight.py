"""The end of a transaction on its way: the broker is asked, the worker goes on folding.

To commit takes tens of milliseconds, in which librdkafka waits and holds no lock of Python's. So a thread
waits for it, and the worker polls, decodes and folds meanwhile. It produces nothing, as the next transaction
begins only when this one is known to have ended: what is folded ahead waits in the flight. If the commit
fails, it is undone with the rest.

Only one flight is in the air. Whoever must know how it ends lands it: a revocation, a loss, the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Final, Protocol

from stream.clock import SystemClock
from stream.errors import FencedError
from stream.records import Output
from stream.share import Share

#: Outputs that wait for a flight to land, at most; then the worker waits for it, too. Some 50 MB.
AHEAD_OUTPUTS_MAX: Final = 50_000

#: A commit takes milliseconds, and seconds while a coordinator moves; the broker has long aborted it by then.
COMMIT_MAX_S: Final = 60.0


class Call(Protocol):
    """A call that is on its way."""

    def done(self) -> bool: ...

    def result(self) -> None:
        """Wait for its end; raise what it raised."""
        ...


#: Sets a call going.
Launch = Callable[[Callable[[], None]], Call]


class Done:
    """A call that was over as soon as it was made; what it raised is raised when it is asked for."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._error: Exception | None = None
        try:
            call()
        except Exception as error:
            self._error = error

    def done(self) -> bool:
        return True

    def result(self) -> None:
        if self._error is not None:
            raise self._error


class InAThread:
    """A call in a thread of its own, given up if it has not ended after limit_s.

    librdkafka was seen to wait for a coordinator without end (decision 0093). A producer that is given up is
    fenced by its successor, so whatever its call still does is undone or refused.
    """

    def __init__(self, call: Callable[[], None], limit_s: float = COMMIT_MAX_S) -> None:
        self._clock = SystemClock()
        self._limit_s = limit_s
        self._until_s = self._clock.monotonic_s() + limit_s
        self._ended = Event()
        self._error: BaseException | None = None
        # A daemon: one that hangs must not keep the process from ending.
        Thread(target=self._run, args=(call,), name="commit", daemon=True).start()

    def _run(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def done(self) -> bool:
        return self._ended.is_set() or self._clock.monotonic_s() >= self._until_s

    def result(self) -> None:
        if not self._ended.wait(max(0.0, self._until_s - self._clock.monotonic_s())):
            raise FencedError(
                f"the commit has not ended after {self._limit_s:.0f} s",
                remedy="a new producer takes over; look at the brokers if this repeats",
            )
        if self._error is not None:
            raise self._error


class Flight:
    """A commit of some shares, and what was folded since."""

    def __init__(self, shares: Sequence[Share], call: Call) -> None:
        self.shares = shares
        self.ahead: list[list[Output]] = []
        self._call = call
        self.waiting = 0  # outputs ahead

    def add(self, outputs: list[Output]) -> None:
        """Keep outputs for the next transaction."""
        if outputs:
            self.ahead.append(outputs)
            self.waiting += len(outputs)

    @property
    def over(self) -> bool:
        """Whether it is time to land: nothing is left to wait for, or too much waits for it."""
        return self._call.done() or self.waiting >= AHEAD_OUTPUTS_MAX

    def land(self) -> None:
        """Wait for the end. Raises AbortableError, FencedError."""
        self._call.result()
