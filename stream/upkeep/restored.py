"""One partition as it was last committed, for commands: restored by the worker's own restore, in one go."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from stream.broker import Broker, Source
from stream.clock import Clock
from stream.commits import Commit
from stream.config import Config
from stream.engine import Partition
from stream.errors import RetriableError
from stream.reading import Progress
from stream.restore import Restore
from stream.upkeep.logs import PATIENCE_S, PAUSE_S, RECORDS_MAX
from stream.workshop import Workshop


class Restored(NamedTuple):
    """A partition's users at their last commit; no commit if there never was one."""

    engine: Partition
    commit: Commit | None


def restore(
    config: Config,
    workshop: Workshop,
    broker: Broker,
    source: Source,
    partition: int,
    partitions: int,
    clock: Clock,
    told: Callable[[Progress], None] = lambda progress: None,
) -> Restored:
    """Restore a partition; a storm that the commit cut short is worked off.

    source: of the workers' group, which it need not join. partitions: of the events topic. told: hears how
    far it is. Raises StateError as a worker would, RetriableError if the broker stays away.
    """
    engine = workshop.partition(source.topic, partition, undo=True, snapshots=False)
    work = Restore(engine, workshop.format, config, broker, source, clock, partitions=partitions)
    try:
        waited_s = clock.monotonic_s()
        while not work.step(RECORDS_MAX):
            told(work.progress)
            if not work.waiting:
                waited_s = clock.monotonic_s()
            elif clock.monotonic_s() > waited_s + PATIENCE_S:
                raise RetriableError(f"the broker does not answer: {work.progress}", place=source.topic)
            else:
                clock.sleep(PAUSE_S)
    finally:
        work.close()
    if work.standing is not None:
        for _ in engine.ring_on(work.standing.offset):
            engine.table.commit()
    engine.table.commit()
    return Restored(engine, work.commit)
