"""A partition that stands although its log goes on is sought anew, then the group is joined anew."""

from __future__ import annotations

from typing import Any

import pytest

from stream.observe import Observer
from stream.testing import MemoryClient
from stream.upkeep.verify import verify_group
from stream.worker import Worker
from stream.workshop import Workshop
from tests.upkeep.rig import SETTINGS, Rig


class Stuck:
    """A consumer that stops delivering one partition, and does not know it."""

    def __init__(self, source: Any, cured_by_seek: bool) -> None:
        self._source, self._cured_by_seek = source, cured_by_seek
        self.stuck = False
        self.seeks = 0

    def poll(self, records_max: int, timeout_s: float) -> Any:
        if self.stuck:
            self._source.pause([0])
        return self._source.poll(records_max, timeout_s)

    def seek(self, partition: int, offset: int) -> None:
        self._source.seek(partition, offset)
        if self.stuck and partition == 0:
            self.seeks += 1
            self.stuck = not self._cured_by_seek

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class StuckClient(MemoryClient):
    """A connection whose first consumer gets stuck."""

    cured_by_seek = True
    first: Stuck | None = None

    def source(self) -> Any:
        source = super().source()
        if self.first is not None:
            return source
        self.first = Stuck(source, self.cured_by_seek)
        return self.first


def start(rig: Rig, *, cured_by_seek: bool) -> tuple[Worker, Stuck]:
    client = StuckClient(rig.broker, rig.client()._identity)
    client.cured_by_seek = cured_by_seek
    observer = Observer(rig.config, clock=rig.clock)
    worker = Worker(rig.config, client, Workshop(rig.config, None), clock=rig.clock, observer=observer)
    assert client.first is not None
    worker.start()
    return worker, client.first


def take_turns(rig: Rig, worker: Worker, count: int) -> None:
    """Let so many seconds pass, a turn each."""
    for _ in range(count):
        worker.turn()
        rig.clock.advance(1_000.0)


def healed(worker: Worker, remedy: str) -> float:
    return float(worker.observer.metrics._counters["healed"].labels(remedy)._value.get())


@pytest.mark.parametrize("cured_by_seek", [True, False], ids=["by a seek", "by joining anew"])
def test_a_consumer_that_is_stuck_is_healed_and_nothing_is_lost(cured_by_seek: bool) -> None:
    rig = Rig()
    rig.publish(60)
    worker, source = start(rig, cured_by_seek=cured_by_seek)
    rig.settle(worker)
    source.stuck = True
    rig.publish(120)
    before = worker.shares[0].next_offset
    take_turns(rig, worker, 55)
    assert worker.shares[0].next_offset == before
    assert source.seeks == 0
    take_turns(rig, worker, 20)
    assert source.seeks == 1
    if not cured_by_seek:
        assert "stalled" in {reason.reason for reason in worker.observer.readiness()}
        take_turns(rig, worker, 80)
    rig.settle(worker)
    assert (healed(worker, "seek"), healed(worker, "rejoin")) == (1.0, float(not cured_by_seek))
    assert not worker.observer.readiness()
    worker.stop()
    worker.close()
    assert [report.wrong for report in verify_group(rig.config, rig.client(), clock=rig.clock)] == [0, 0, 0]


def test_what_does_not_stand_or_is_held_back_is_left_alone() -> None:
    rig = Rig(worker={**SETTINGS["worker"], "users_max": 5, "batch_records_max": 10})
    rig.publish(30, [f"user-{i}" for i in range(30)])
    worker, source = start(rig, cured_by_seek=True)
    take_turns(rig, worker, 200)
    assert {reason.reason for reason in worker.observer.readiness()} >= {"full", "stalled"}
    assert (healed(worker, "seek"), healed(worker, "rejoin")) == (0.0, 0.0)
    assert source.seeks == 0
    worker.stop()
    worker.close()


def test_a_worker_that_was_held_up_itself_blames_no_partition() -> None:
    rig = Rig()
    rig.publish(60)
    worker, source = start(rig, cured_by_seek=True)
    rig.settle(worker)
    source.stuck = True
    rig.publish(120)
    take_turns(rig, worker, 25)
    rig.clock.advance(40_000.0)  # the machine slept, or one call took so long
    take_turns(rig, worker, 55)
    assert source.seeks == 0
    take_turns(rig, worker, 20)
    assert source.seeks == 1, "what stands all the same is sought"
    worker.stop()
    worker.close()
