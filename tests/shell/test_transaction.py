"""The size of a transaction: a storm of timers is many of them."""

from __future__ import annotations

import pytest

from stream import transaction
from stream.commits import read_commit
from stream.snapshot import COMMIT_KEY
from tests.upkeep.rig import Rig

SLOW = {"emit_from": "earliest", "commit_interval_ms": 60_000, "batch_records_max": 50}


def commits(outputs_max: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the offsets of the commits of one partition, when time alone asks for none."""
    monkeypatch.setattr(transaction, "OUTPUTS_MAX", outputs_max)
    rig = Rig(partitions=1, worker=SLOW)
    rig.publish(400)
    worker = rig.start()
    for _ in range(100):
        worker.turn()
        rig.clock.advance(20.0)
    batch = rig.read(rig.config.topics.user_state, 0)
    return [
        read_commit(value, place="user_state").at.offset
        for key, value in zip(batch.keys, batch.values, strict=True)
        if key == COMMIT_KEY and value is not None
    ]


def test_a_full_transaction_is_committed_ahead_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calm = commits(1_000_000, monkeypatch)
    full = commits(30, monkeypatch)
    assert len(calm) == 1  # the moment of the first start
    assert len(full) > 4
    assert full == sorted(full)
