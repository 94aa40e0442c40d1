"""What a worker says of itself while its broker is away, and how often it counts its users."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

from stream.clock import VirtualClock
from stream.config_load import parse_config
from stream.errors import RetriableError
from stream.observe import AWAY, Observer
from tests.upkeep.rig import Rig

GONE = RetriableError("all brokers are down")


def reasons(observer: Observer) -> list[str]:
    return [reason.reason for reason in observer.readiness()]


def test_a_broker_that_is_away_is_said_at_once_and_until_it_answers() -> None:
    observer = Observer(parse_config({}), clock=VirtualClock())
    observer.broker_away(GONE)
    observer.broker_away(GONE)
    assert reasons(observer) == [AWAY, "starting"]
    observer.turn({})
    assert reasons(observer) == [AWAY, "unassigned"]
    assert "all brokers are down" in observer.readiness()[0].detail
    observer.measured({}, {})
    observer.turn({})
    assert reasons(observer) == ["unassigned"]


def test_users_are_counted_once_a_second_whatever_the_commits() -> None:
    rig = Rig(partitions=1)
    rig.publish(20)
    shares = rig.work(leave=False).shares
    observer = Observer(rig.config, clock=rig.clock)
    counted: list[int] = []

    def count(users: Counter[str], *, users_bytes: int) -> None:
        counted.append(users.total())

    with patch.object(observer.metrics, "population", count):
        for _ in range(10):
            observer.committed(shares)
        assert counted == [len(shares[0].engine.table)]
        rig.clock.advance(1_000)
        observer.committed(shares)
        observer.committed(shares)
        assert len(counted) == 2
