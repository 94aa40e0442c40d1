"""Apache Kafka for tests: one node, shared by a whole run, or a cluster of one's own to break.

cluster = shared_kafka()                       # skips the test, loudly, without KAFKA_HOME
with own_kafka(nodes=3) as cluster: …          # to kill, freeze and restart its nodes
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from stream.testing_kafka import KafkaCluster

REASON = "KAFKA_HOME is not set: nothing here was tried on Apache Kafka"


def kafka_home() -> Path | None:
    """Return the folder of Apache Kafka, if there is one."""
    home = os.environ.get("KAFKA_HOME")
    return Path(home) if home else None


def own_kafka(nodes: int = 1, settings: Mapping[str, str] | None = None) -> KafkaCluster:
    """Start a cluster that nobody else uses. The caller closes it."""
    home = kafka_home()
    if home is None:
        pytest.skip(REASON)
    return KafkaCluster(home, nodes=nodes, settings=settings, heap_mb_max=512 if nodes == 1 else 384)


@cache
def _shared() -> KafkaCluster:
    # Five seconds without a heartbeat instead of 45: tests of members that vanish have to wait for it.
    return own_kafka(
        settings={
            "group.consumer.heartbeat.interval.ms": "1000",
            "group.consumer.session.timeout.ms": "5000",
        }
    )


def shared_kafka() -> KafkaCluster:
    """Return the run's one node; it ends with the process."""
    if kafka_home() is None:
        pytest.skip(REASON)
    return _shared()
