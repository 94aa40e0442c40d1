"""Which partition a key belongs to: murmur2, as Java's producer and librdkafka's `murmur2_random` have it.

Ebbtide's state of a user lives in one partition, so every producer must agree on it. Tools, tests and the
sampling of a topic's records ask here; the producers of Kafka ask librdkafka, whose function this is.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, in [0, partitions). An empty key is a key like any other."""
    return int(murmur2(key, partitions))


def misplaced(keys: Sequence[bytes | None], partition: int, partitions: int) -> int:
    """Return how many of these keys, found in one partition, belong to another; null keys count."""
    return sum(key is None or murmur2(key, partitions) != partition for key in keys)
