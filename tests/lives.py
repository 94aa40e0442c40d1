"""A partition that lives, dies and is restored, as often as a test wants, on the in-memory broker.

`World` is what outlasts a process: the broker with its topics. `Life` is one process that owns the one
partition: it restores, folds slice by slice, commits, aborts, and ends by being killed. `fold_whole` is what
all of it must amount to: the committed log and journal, folded at once by a partition that never died.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from stream.broker import Identity
from stream.bundle import Bundle
from stream.codec import Decoder
from stream.commits import Commits, Standing, read_clock
from stream.config import Config
from stream.core.dirty import LIVE
from stream.core.events import NEVER
from stream.engine import Partition, Slice
from stream.items import ItemTable
from stream.journal import Entry, Idle, apply_entry, read_entry
from stream.model import Model, bundle_contexts
from stream.records import Output, RecordBatch
from stream.restore import Restore
from stream.snapshot_format import SnapshotFormat
from stream.testing import MemoryBroker, MemoryClient, VirtualClock

EVENTS: Final = "events"
OUTPUTS: Final = ("lifecycle", "churn_alerts", "recommendations", "dead_letters")

#: A row as bytes without what only one process understands, and the clock.
Photo = tuple[dict[bytes, bytes | None], dict[str, int]]


class World:
    """A broker with one partition of everything, and a config to live by."""

    def __init__(self, config: Config, bundle: Bundle | None = None) -> None:
        self.config, self.bundle = config, bundle
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock)
        for role in topics(config).values():
            self.broker.create_topic(role, 1, {"message.timestamp.after.max.ms": str(2**62)})
        self.identity = Identity(config.kafka.group_id, "worker-1", topics(config))
        self.publisher = MemoryClient(self.broker, self.identity, "producer").publisher()

    def publish(self, keys: Sequence[bytes], values: Sequence[bytes], timestamps_ms: Sequence[int]) -> None:
        self.publisher.publish(EVENTS, keys, values, timestamps_ms=timestamps_ms)

    def read(self, topic: str) -> RecordBatch:
        """Return everything that a reader of committed records sees."""
        log = self.broker.log(topic, 0)
        return log.read(log.start, 1 << 40)[0]

    def compact(self, topic: str, before: int) -> None:
        """Keep only the last record of each key, of those below offset `before`, as the log cleaner does."""
        log = self.broker.log(topic, 0)
        before = min(before, log.stable_end())
        offsets, keys, *_ = log._columns()
        last = {key: offset for offset, key in zip(offsets, keys, strict=True) if offset < before}
        kept = [i for i, offset in enumerate(offsets) if offset >= before or last[keys[i]] == offset]
        for column in log._columns():
            column[:] = [column[i] for i in kept]

    def make_partition(self, *, snapshots: bool) -> Partition:
        bundle, config = self.bundle, self.config
        items = ItemTable(bundle.item_ids if bundle else ())
        model = Model(bundle, config, items) if bundle else None
        decoder = Decoder(
            config.events.kinds,
            items,
            fields=config.events.fields,
            context=bundle_contexts(bundle) if bundle else (),
            vocabularies=bundle.manifest.vocabularies if bundle else {},
        )
        return Partition(
            config, decoder, items, model, topic=EVENTS, partition=0, undo=True, snapshots=snapshots
        )


def topics(config: Config) -> dict[str, str]:
    return {name: getattr(config.topics, name) for name in config.topics.__struct_fields__}


class Life:
    """One process that owns the partition, from its restore on. `photo` is its state at the last commit."""

    def __init__(self, world: World, records_max: int = 7) -> None:
        self.world, config = world, world.config
        self.client = MemoryClient(world.broker, world.identity)
        self.sink = self.client.sink()
        self.sink.open()
        self.source = self.client.source()
        self.source.subscribe(self)
        while not self.source.assignment():
            self.source.poll(1, 10.0)
        self.partition = world.make_partition(snapshots=True)
        self.format = SnapshotFormat(config, self.partition.items)
        self.restore = Restore(
            self.partition, self.format, config, self.client, self.source, world.clock, partitions=1
        )
        while not self.restore.step(records_max):
            if self.restore.waiting:
                self.source.poll(1, 0.1)
        assert self.restore.standing is not None
        self._go_live(self.restore.standing)

    def _go_live(self, standing: Standing) -> None:
        self.commits = Commits(self.partition, self.format, standing)
        self.next_offset = self.committed_offset = standing.offset
        self.savepoint = self.partition.table.savepoint()
        self.open = False
        self.slices: Iterator[Slice] = self.commits.begin()
        self.source.seek(0, standing.offset)
        self.source.resume([0])
        self.photo = self.take_photo()

    def on_assign(self, partitions: Sequence[int]) -> None: ...

    def on_revoke(self, partitions: Sequence[int]) -> None: ...

    def on_lost(self, partitions: Sequence[int]) -> None: ...

    # What a life is made of

    def work(self, slices_max: int, records_max: int = 5) -> bool:
        """Fold at most so many slices; return whether there was anything to do."""
        for _ in range(slices_max):
            part = next(self.slices, None)
            if part is None:
                batches = self.source.poll(records_max, 0.0)
                if not batches:
                    return False
                self.slices = self.partition.apply(batches[0])
                continue
            self._produce(part)
        return True

    def idle(self, ms: int) -> None:
        """Let event time go on without an event, if nothing else is under way."""
        if self.work(1) or self.partition.watermark == NEVER:
            return
        self.slices = self.commits.apply(Idle(self.next_offset, self.partition.watermark + ms))

    def commit(self, rows_max: int) -> None:
        outputs, offset = self.commits.prepare(self.next_offset, rows_max)
        self._produce(Slice(outputs, self.next_offset, None))  # type: ignore[arg-type]
        self.sink.send_offsets(EVENTS, {0: offset}, self.source.group())
        self.sink.commit()
        self.open = False
        self.commits.confirm()
        self.partition.table.commit()
        self.savepoint = self.partition.table.savepoint()
        self.committed_offset = self.next_offset
        self.photo = self.take_photo()

    def abort(self) -> None:
        """The transaction is lost: everything since the last commit is undone and done again."""
        if self.open:
            self.sink.abort()
            self.open = False
        self.commits.cancel()
        self.partition.table.rollback(self.savepoint)
        self.next_offset = self.committed_offset
        self.source.seek(0, self.next_offset)
        self.slices = self.commits.begin()

    def kill(self) -> None:
        self.client.kill()

    def _produce(self, part: Slice) -> None:
        if not self.open:
            self.sink.begin()
            self.open = True
        self.sink.produce(part.outputs)
        self.next_offset = part.next_offset

    def take_photo(self) -> Photo:
        return take_photo(self.partition, self.format)


def take_photo(partition: Partition, format: SnapshotFormat) -> Photo:
    table = partition.table
    slots = table.slots().astype(np.int32)
    rows = format.encode(table, slots, np.full(len(slots), LIVE, np.uint8), 0)
    ids = [table.row_id(slot) for slot in slots.tolist()]
    return dict(zip(ids, rows, strict=True)), read_clock(table.clock)


def fold_whole(world: World) -> tuple[Partition, list[Output]]:
    """Fold the committed log and journal in one life; return the partition and its outputs."""
    partition = world.make_partition(snapshots=False)
    records = world.read(EVENTS)
    entries: list[Entry] = [
        read_entry(value, place="journal") for value in world.read(world.config.topics.journal).values
    ]
    outputs: list[Output] = []

    def take(slices: Iterator[Slice]) -> None:
        for part in slices:
            outputs.extend(part.outputs)
            partition.table.commit()

    first = 0
    for entry in entries:
        stop = sum(offset < entry.offset for offset in records.offsets)
        take(partition.apply(records.slice(first, stop)))
        take(apply_entry(partition, entry))
        first = stop
    take(partition.apply(records.slice(first, len(records.offsets))))
    return partition, outputs


def check_table(partition: Partition) -> None:
    """Assert the invariants of a table that nothing outside of it shows."""
    users = partition.table.users
    counts = users.counts[0]
    live = partition.table.slots().tolist()
    heap = {}
    for i in range(counts.heap):
        heap.setdefault(int(users.heap_slot[i]), []).append(int(users.heap_time[i]))
        parent = (i - 1) // 2
        assert i == 0 or users.heap_time[parent] <= users.heap_time[i]
    for slot in live:
        assert users.marks[slot].scheduled in heap[slot], "every user has a timer"
        assert users.marks[slot].scheduled <= users.rows[slot].deadline, "and it is not late"
    queue = [int(users.dirty[(counts.dirty_first + j) % len(users.dirty)]) for j in range(counts.dirty)]
    since = [int(users.marks[slot].dirty_since) for slot in queue]
    assert since == sorted(since), "the queue is in order"
    assert len(set(queue)) == len(queue), "nobody waits twice"
    assert NEVER not in since
    dirty = np.flatnonzero(users.marks.dirty_since[: counts.slots] != NEVER)
    assert set(dirty.tolist()) == set(queue), "and everyone who is dirty waits"
