"""Reading in small steps: what a restore asks of the broker, without ever waiting for it.

Everything here is a generator that yields where a step ends, so that a restore reads top to bottom and other
partitions go on in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final, NamedTuple, TypeVar

from stream.broker import Broker, LogRange
from stream.clock import Clock
from stream.errors import RetriableError
from stream.records import RecordBatch

T = TypeVar("T")

#: Kafka's default for delete.retention.ms.
DELETE_RETENTION_MS: Final = 86_400_000

#: A piece of work that yields between its steps and returns a T in the end.
Steps = Generator[None, None, T]


class Progress(NamedTuple):
    """How far a piece of work is, in offsets of what it reads."""

    what: str
    done: int = 0
    total: int = 0
    seconds_left: float | None = None

    def __str__(self) -> str:
        if not self.total:
            return self.what
        left = "" if self.seconds_left is None else f", about {self.seconds_left:.0f} s left"
        return f"{self.what}: {self.done:,} of {self.total:,}{left}"


class Home(NamedTuple):
    """A compacted topic as it is now: its id, what can be read of the partition, how long nulls stay."""

    topic_id: str
    kept: LogRange
    delete_retention_ms: int


class Reading:
    """Reads logs of one partition number, each step at most `records_max` records."""

    def __init__(self, broker: Broker, clock: Clock, partition: int) -> None:
        self._broker, self._clock, self._partition = broker, clock, partition
        self.records_max = 1
        self.progress = Progress("asking for the last commit")
        #: The last step found nothing, and the next one will not before some time has passed.
        self.waiting = False

    def ask(self, call: Callable[[], T]) -> Steps[T]:
        """Make the call, step after step, until the broker answers it."""
        while True:
            try:
                answer = call()
            except RetriableError as error:
                self.progress = self.progress._replace(what=f"waiting: {error.what}")
                yield from self.wait()
            else:
                return answer

    def wait(self) -> Steps[None]:
        """End the step without having got on."""
        self.waiting = True
        yield
        self.waiting = False

    def range(self, topic: str) -> Steps[LogRange]:
        """Return what can be read of the topic's partition now."""
        with_admin = self._broker.admin()
        try:
            ranges = yield from self.ask(lambda: with_admin.ranges(topic, [self._partition]))
        finally:
            with_admin.close()
        return ranges[self._partition]

    def home(self, topic: str) -> Steps[Home]:
        """Return what a copy of the topic's records must fit."""
        admin = self._broker.admin()
        try:
            topic_id = yield from self.ask(lambda: admin.topic_id(topic))
            found = yield from self.ask(lambda: admin.describe([topic])[topic])
        finally:
            admin.close()
        kept = yield from self.range(topic)
        configs = found.configs if found is not None else {}
        return Home(topic_id, kept, int(configs.get("delete.retention.ms", DELETE_RETENTION_MS)))

    def records(
        self,
        what: str,
        topic: str,
        start: int,
        end: int | None,
        take: Callable[[RecordBatch], bool],
    ) -> Steps[int]:
        """Hand the records from `start` to `end`, or to the end as it is now, to `take`, batch by batch.

        Returns the position reached: the end, or earlier if `take` returned True, which is "enough".
        """
        began_s = self._clock.monotonic_s()
        last = end
        if last is None:
            last = (yield from self.range(topic)).end
        reader = self._broker.reader(topic, self._partition, start, last)
        try:
            while not reader.done():
                batch = yield from self.ask(lambda: reader.read(self.records_max, 0.0))
                self._show(what, reader.position() - start, last - start, began_s)
                if batch.offsets:
                    if take(batch):
                        break
                    yield
                elif not reader.done():
                    yield from self.wait()
            return reader.position()
        finally:
            reader.close()

    def _show(self, what: str, done: int, total: int, began_s: float) -> None:
        elapsed_s = self._clock.monotonic_s() - began_s
        left_s = elapsed_s * (total - done) / done if done > 0 else None
        self.progress = Progress(what, done, total, left_s)
