"""The border between the worker and a broker: what the worker asks for, in Kafka's words, and no more.

    Broker ─┬─ source()     this worker's share of the events topic, as a member of the group
            ├─ sink()       outputs and offsets: both in one transaction, or neither
            ├─ reader()     one partition of any topic from an offset on, alone and without a group
            ├─ publisher()  records of one's own, outside any transaction
            └─ admin()      topics, their settings, and where their logs begin and end

Three brokers stand behind it: Apache Kafka (`kafka_*.py`), the strict in-memory one that the demo and the
tests use (`testing.py`), and the same one under the simulator's faults and clock. A contract suite
(`tests/contract`) runs against all of them.

What every implementation holds to:

- An offset is always the next one to read.
- Control markers and aborted records take offsets too: offsets rise, but not by one. Positions move over
  them; nobody ever sees them.
- Reading is `read_committed`: nothing past the first open transaction is seen.
- An error is one of `stream.errors`, by what to do next: `RetriableError` the same call again,
  `AbortableError` undo and abort, `FencedError` a new sink and restore (a call that timed out is one of
  these: its outcome is unknown), `StateError` the log no longer reaches back to where it was asked to start,
  any other `BrokerError` stop.
- A source belongs to one thread. A sink may be used by several, one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, NewType, Protocol

from stream.records import Headers, Output, RecordBatch

#: Proof of membership at one moment, for `Sink.send_offsets`; opaque.
GroupToken = NewType("GroupToken", object)


#: The role of the topic that a source reads.
EVENTS = "events"


class Identity(NamedTuple):
    """Who a worker is to its broker, and which topics it means.

    topics: role → name, as in the config's `[topics]`: `events`, and the roles of outputs.
    transactional_id: stable for a worker, and of no other: a second one fences the first.
    """

    group_id: str
    transactional_id: str
    topics: Mapping[str, str]
    exactly_once: bool = True


class CommittedOffset(NamedTuple):
    """How far a group has come in one partition, with a note of its own."""

    offset: int
    metadata: str = ""


class LogRange(NamedTuple):
    """The part of a partition that can be read: offsets in [start, end).

    `end` is the last stable offset: the end of the log, or the beginning of its first open transaction.
    """

    start: int
    end: int


class Topic(NamedTuple):
    """A topic as it is, or as it should be created. An empty `configs` means the broker's defaults."""

    name: str
    partitions: int
    replication: int = -1  # -1: the broker's default
    configs: Mapping[str, str] = {}


class Listener(Protocol):
    """Hears what the group decides. Called inside `Source.poll` and `Source.close`, in their thread."""

    def on_assign(self, partitions: Sequence[int]) -> None:
        """These partitions are added. Each is paused and has no position yet: `seek`, then `resume`."""
        ...

    def on_revoke(self, partitions: Sequence[int]) -> None:
        """These go when this call returns; until then their offsets may still be committed."""
        ...

    def on_lost(self, partitions: Sequence[int]) -> None:
        """These are gone already and may be someone else's: commit nothing."""
        ...


class Source(Protocol):
    """One member of the consumer group of one topic."""

    @property
    def topic(self) -> str: ...

    def subscribe(self, listener: Listener) -> None:
        """Join the group. Partitions arrive during the polls that follow."""
        ...

    def poll(self, records_max: int, timeout_s: float) -> list[RecordBatch]:
        """Return at most so many records, one batch a partition; wait at most so long for the first.

        Serves the group: without a call every few minutes the member is expelled. Raises RetriableError
        while the broker cannot be reached, StateError if a position lies outside the log.
        """
        ...

    def pause(self, partitions: Collection[int]) -> None:
        """Deliver nothing of these until resumed. Their positions stay."""
        ...

    def resume(self, partitions: Collection[int]) -> None: ...

    def seek(self, partition: int, offset: int) -> None:
        """Go on from this offset. Records before the call, fetched but not yet polled, are dropped."""
        ...

    def position(self, partition: int) -> int:
        """Return the next offset to be polled; -1 before the first seek.

        It has moved over markers and aborted records at the end of the log once that end was polled, so
        that `position >= end` means "read to the end".
        """
        ...

    def end_offsets(self, partitions: Collection[int]) -> dict[int, int]:
        """Return the last stable offset of each, asked of the broker now. Raises RetriableError."""
        ...

    def committed(self, partitions: Collection[int]) -> dict[int, CommittedOffset | None]:
        """Return what the group has committed; None for a partition where it never has.

        Raises RetriableError while a transaction that holds offsets of one of them is pending: what will
        be committed is not known yet. It does not wait for that; ask again. May be called from any thread.
        """
        ...

    def commit(self, offsets: Mapping[int, CommittedOffset]) -> None:
        """Commit outside of any transaction (at-least-once). Raises RetriableError, AbortableError."""
        ...

    def group(self) -> GroupToken:
        """Return the proof of membership as of now."""
        ...

    def assignment(self) -> frozenset[int]: ...

    def member_id(self) -> str:
        """Return the member's id; empty while it is no member."""
        ...

    def close(self) -> None:
        """Leave the group; `on_revoke` is called for what is still assigned. Closing twice is allowed."""
        ...


class Sink(Protocol):
    """Produces outputs and commits them together with the offsets that they come from.

    `open`, then any number of rounds: `begin`, `produce`…, `send_offsets`, `commit` or `abort`.
    """

    def open(self) -> None:
        """Fence every older sink with the same transactional id; its open transaction is aborted.

        Returns when nothing of it is left undecided. Raises RetriableError, FencedError.
        """
        ...

    def begin(self) -> None: ...

    def produce(self, outputs: Sequence[Output], timestamps_ms: Sequence[int] | None = None) -> None:
        """Queue outputs for their partitions, in order; blocks while the queue is full.

        timestamps_ms: of the records, one each, where they are not made now but copied.
        A delivery that fails surfaces here or in any later call of the transaction, never not at all.
        Raises AbortableError, FencedError.
        """
        ...

    @property
    def waiting(self) -> int:
        """How many outputs are produced and not delivered yet."""
        ...

    def flush(self) -> None:
        """Wait until everything is delivered. Raises AbortableError, FencedError."""
        ...

    def send_offsets(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        """Put the group's offsets into the transaction. The broker checks that the member is one still
        (not that the partitions are its own). Raises RetriableError, AbortableError, FencedError.
        """
        ...

    def commit(self) -> None:
        """Deliver everything and commit. Readers may see some partitions before others.

        Raises RetriableError (same call again), AbortableError (nothing of it is seen), or FencedError: if
        the call timed out, it may have been committed or not; `Source.committed` of a successor tells.
        """
        ...

    def abort(self) -> None:
        """Abort: nothing of the transaction is ever seen. Raises RetriableError, FencedError."""
        ...

    def destroy(self) -> None:
        """Drop the producer and what it has queued. The broker times its open transaction out, or `open` of
        a successor aborts it. Destroying twice is allowed.
        """
        ...


class Reader(Protocol):
    """Reads one partition in offset order, up to a given end; outside of any group."""

    def read(self, records_max: int, timeout_s: float) -> RecordBatch:
        """Return the next records, possibly none; wait at most so long for the first.

        Raises RetriableError, and StateError if the log no longer reaches back to the position.
        """
        ...

    def position(self) -> int:
        """Return the next offset to be read, past markers and aborted records already known."""
        ...

    def done(self) -> bool:
        """Whether the end that the reader was opened with has been reached."""
        ...

    def close(self) -> None: ...


class Publisher(Protocol):
    """Appends records to a topic, idempotently, outside of any transaction."""

    def publish(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        *,
        partitions: Sequence[int] | None = None,
        timestamps_ms: Sequence[int] | None = None,
        headers: Sequence[Headers | None] | None = None,
    ) -> None:
        """Queue records; without `partitions` the key's murmur2 hash decides (see `partitioner.py`)."""
        ...

    def flush(self) -> None:
        """Wait until every record is stored. Raises BrokerError naming the first that was not."""
        ...

    def close(self) -> None: ...


class Admin(Protocol):
    """Looks at topics and changes them. Every call may raise RetriableError or BrokerError."""

    def describe(self, names: Collection[str]) -> dict[str, Topic | None]:
        """Return each topic with its settings in force; None if there is none of that name."""
        ...

    def topic_id(self, name: str) -> str:
        """Return the id of a topic, which one that is made anew does not share; empty if there is none."""
        ...

    def create(self, topics: Sequence[Topic]) -> None:
        """Create topics; one that exists already is left as it is."""
        ...

    def configure(self, name: str, configs: Mapping[str, str]) -> None:
        """Set some of a topic's settings; the others stay."""
        ...

    def ranges(self, topic: str, partitions: Collection[int]) -> dict[int, LogRange]:
        """Return what can be read of each partition, asked now."""
        ...

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Drop what lies before an offset of each partition."""
        ...

    def close(self) -> None: ...


class Broker(Protocol):
    """Makes the parts above, each with the connection and the settings that its job needs."""

    def source(self) -> Source: ...

    def sink(self) -> Sink: ...

    def reader(self, topic: str, partition: int, start: int, end: int | None = None) -> Reader:
        """Open a reader of offsets in [start, end); without an end, up to the last stable offset of now."""
        ...

    def publisher(self) -> Publisher: ...

    def admin(self) -> Admin: ...
