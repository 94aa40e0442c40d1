"""What lies behind the commit that the group knows of is not read, however the records are cut into steps."""

from __future__ import annotations

from typing import Any

import pytest

from stream.broker import CommittedOffset
from stream.restore import Restore
from stream.upkeep.rows_differ import encode_users
from stream.workshop import Workshop
from tests.upkeep.rig import Rig


class Earlier:
    """A consumer that was told of an earlier commit of the group."""

    def __init__(self, source: Any, committed: dict[int, CommittedOffset | None]) -> None:
        self._source, self._committed = source, committed

    def committed(self, partitions: Any) -> dict[int, CommittedOffset | None]:
        return self._committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


@pytest.mark.parametrize("records_max", [1, 2, 7, 10_000])
def test_a_restore_ends_at_the_groups_commit(records_max: int) -> None:
    rig = Rig(partitions=1)
    rig.publish(60)
    worker = rig.work(leave=False)
    committed = worker.source.committed([0])
    then = encode_users(worker.shares[0].engine, rig.config)
    rig.publish(60)
    rig.settle(worker)
    assert encode_users(worker.shares[0].engine, rig.config) != then

    workshop = Workshop(rig.config, None)
    engine = workshop.partition(rig.config.topics.events, 0, undo=True, snapshots=True)
    restore = Restore(
        engine,
        workshop.format,
        rig.config,
        worker.broker,
        Earlier(worker.source, committed),
        rig.clock,
        partitions=1,
    )
    while not restore.step(records_max):
        rig.clock.advance(20.0)
    assert committed[0] is not None
    assert restore.standing is not None
    assert restore.standing.offset == committed[0].offset
    assert encode_users(engine, rig.config) == then
    worker.stop()
    worker.close()
