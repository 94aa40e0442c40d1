"""The transactions of a command: all of what is handed over becomes visible together, or nothing does.

A job has a transactional id of its own. Opening it fences the same job elsewhere and waits until nothing of
it is undecided: what is read after that is what the other one achieved, and it achieves nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Protocol, TypeVar

from stream.broker import Broker, CommittedOffset, GroupToken
from stream.clock import Clock
from stream.errors import AbortableError, BrokerError, FencedError
from stream.records import Output
from stream.upkeep.logs import ask


class HasValue(Protocol):
    @property
    def value(self) -> bytes | None: ...


R = TypeVar("R", bound=HasValue)


def cut(records: Iterable[R], records_max: int, bytes_max: int) -> Iterator[list[R]]:
    """Cut records into what one transaction takes: so many of them, or of the bytes of their values."""
    part: list[R] = []
    size = 0
    for record in records:
        more = len(record.value or b"")
        if part and (len(part) >= records_max or size + more > bytes_max):
            yield part
            part, size = [], 0
        part.append(record)
        size += more
    if part:
        yield part


class Progress(NamedTuple):
    """How far a group has come in a topic, to be committed with what it did."""

    topic: str
    offsets: Mapping[int, CommittedOffset]
    group: GroupToken


class Job:
    """A transactional producer for one command; a context manager."""

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._sink, self._clock = broker.sink(), clock
        ask(self._sink.open, clock)

    def commit(
        self,
        outputs: Sequence[Output],
        *,
        timestamps_ms: Sequence[int] | None = None,
        progress: Sequence[Progress] = (),
    ) -> None:
        """Write the outputs and the progress in one transaction.

        Raises BrokerError; then nothing of it is visible, or, after a time-out, all of it may be: the same
        command, run again, finds out.
        """
        try:
            self._sink.begin()
            self._sink.produce(outputs, timestamps_ms)
            for topic, offsets, group in progress:
                self._send(topic, offsets, group)
            ask(self._sink.commit, self._clock)
        except AbortableError:
            with suppress(BrokerError):
                self._sink.abort()
            raise
        except FencedError as error:
            remedy = "run it again: it goes on where it stopped; one process at a time"
            raise FencedError(error.what, place=error.place, remedy=remedy) from error

    def _send(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        ask(lambda: self._sink.send_offsets(topic, offsets, group), self._clock)

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.destroy()
