"""The end of a transaction on its way: the broker is asked, the worker goes on folding.

To commit takes tens of milliseconds, in which librdkafka waits and holds no lock of Python's. So a thread
waits for it, and the worker polls, decodes and folds meanwhile. It produces nothing, as the next transaction
begins only when this one is known to have ended: what is folded ahead waits in the flight. If the commit
fails, it is undone with the rest.

Only one flight is in the air. Whoever must know how it ends lands it: a revocation, a loss, the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from stream.records import Output
from stream.share import Share

#: Outputs that wait for a flight to land, at most; then the worker waits for it, too. Some 50 MB.
AHEAD_OUTPUTS_MAX: Final = 50_000


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


def launch_in_a_thread() -> Launch:
    """Return a launch whose calls are made one after the other in one other thread."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
    return pool.submit


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
