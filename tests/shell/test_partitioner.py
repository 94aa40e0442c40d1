from __future__ import annotations

import pytest

from stream.partitioner import misplaced, partition_of

#: Hashes that Kafka's own UtilsTest expects of its murmur2, signed 32-bit integers.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("partitions", [1, 4, 7, 2**31 - 1])
@pytest.mark.parametrize("key", JAVA)
def test_a_key_goes_where_javas_producer_sends_it(key: bytes, partitions: int) -> None:
    positive = JAVA[key] & 0x7FFFFFFF  # Kafka's toPositive
    assert partition_of(key, partitions) == positive % partitions


def test_keys_in_the_wrong_partition_and_null_keys_are_counted() -> None:
    keys = [f"user-{i}".encode() for i in range(100)]
    own = [key for key in keys if partition_of(key, 4) == 2]
    assert 0 < len(own) < 100
    assert misplaced(own, 2, 4) == 0
    assert misplaced(keys, 2, 4) == 100 - len(own)
    assert misplaced([*own, None], 2, 4) == 1
    assert misplaced(own, 3, 4) == len(own)
