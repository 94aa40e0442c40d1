"""Negative controls: six ways to break the protocol on purpose. The simulator must catch each of them.

Each is a context manager that puts a broken part in the place of a good one. They name the promise that they
break; how many seeds it takes to see it is a measure of the simulator (`make controls`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Final
from unittest.mock import patch

from stream.broker import CommittedOffset, Sink
from stream.commits import Commit
from stream.core.table import UserTable
from stream.reading import Steps
from stream.records import Output
from stream.restore import Restore
from stream.share import Share
from stream.snapshot_format import Slots, SnapshotFormat, Words
from stream.testing import MemoryClient, MemoryPlainSink
from stream.testing_group import Group
from stream.worker import Worker
from tests.simulation import processes
from tests.simulation.processes import Client, PiecewiseSink, Street
from tests.simulation.truth import OUTPUTS


class LeakingSink(PiecewiseSink):
    """Produces what others read at once and for good, and only the rest in the transaction."""

    def __init__(self, sink: Sink, plain: MemoryPlainSink, street: Street) -> None:
        super().__init__(sink, street)
        self._plain = plain

    def produce(self, outputs: Sequence[Output]) -> None:
        self._plain.produce([output for output in outputs if output.topic in OUTPUTS])
        super().produce([output for output in outputs if output.topic not in OUTPUTS])


@contextmanager
def outputs_outside_the_transaction() -> Iterator[None]:
    def sink(client: Client) -> Sink:
        plain = MemoryPlainSink(client._line, client._identity.topics)
        return LeakingSink(MemoryClient.sink(client), plain, client._street)

    with patch.object(Client, "sink", sink):
        yield


class CommitsOnLost(Worker):
    """Keeps what it lost and commits it at the next occasion, as a member that is alive and well."""

    _lost: Mapping[int, Share] = {}

    def on_lost(self, partitions: Sequence[int]) -> None:
        self._lost = {p: self.shares.pop(p) for p in partitions if p in self.shares}

    def commit(self) -> None:
        kept = {p: share for p, share in self._lost.items() if share.changed and p not in self.shares}
        self._lost = {}
        self.shares.update(kept)
        try:
            super().commit()
        finally:
            self._drop(list(kept))


@contextmanager
def commit_on_lost() -> Iterator[None]:
    with patch.object(processes, "Worker", CommitsOnLost):
        yield


@contextmanager
def skip_fencing() -> Iterator[None]:
    """Every producer has a transactional id of its own, and what is pending is not waited for."""

    numbers = count()

    def sink(client: Client) -> Sink:
        transactional_id = f"{client._identity.transactional_id}-{next(numbers)}"
        client._identity = client._identity._replace(transactional_id=transactional_id)
        return PiecewiseSink(MemoryClient.sink(client), client._street)

    def committed(group: Group, topic: str, partitions: Collection[int]) -> dict[int, CommittedOffset | None]:
        return {p: group._committed.get((topic, p)) for p in partitions}

    with patch.object(Client, "sink", sink), patch.object(Group, "committed", committed):
        yield


@contextmanager
def restore_offsets_but_not_rows() -> Iterator[None]:
    """Go on where the group says, with the clock of the commit record, and know nobody."""
    with patch.object(SnapshotFormat, "load", lambda *_, place: []):
        yield


@contextmanager
def read_user_state_to_its_end() -> Iterator[None]:
    """Take what is visible for all there is, although the markers of the last commit may be late."""

    def load(restore: Restore, _: CommittedOffset | None) -> Steps[Commit | None]:
        topic = restore._config.topics.user_state
        start = (yield from restore._reading.range(topic)).start
        yield from restore._reading.records(
            "loading rows", topic, start, None, lambda batch: restore._take_rows(batch, None)
        )
        return restore._newest

    with patch.object(Restore, "_load", load):
        yield


@contextmanager
def rows_without_through() -> Iterator[None]:
    """Rows do not say which records they hold, and a replay from the floor applies some of these twice."""
    encode = SnapshotFormat.encode

    def encode_blindly(
        format: SnapshotFormat, table: UserTable, slots: Slots, words: Words, through: int
    ) -> list[bytes | None]:
        return encode(format, table, slots, words, 0)

    with patch.object(SnapshotFormat, "encode", encode_blindly):
        yield


#: Each control is caught within so many seeds.
SEEDS_MAX: Final = 500

#: By name as in `--control`.
CONTROLS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "none": nullcontext,
    "restore-offsets-but-not-rows": restore_offsets_but_not_rows,
    "outputs-outside-the-transaction": outputs_outside_the_transaction,
    "commit-on-lost": commit_on_lost,
    "skip-fencing": skip_fencing,
    "read-user-state-to-its-end": read_user_state_to_its_end,
    "rows-without-through": rows_without_through,
}
