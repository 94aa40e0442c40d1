"""Records go through a broker unchanged, into the partition that they belong to."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from stream.broker import Publisher, Sink
from stream.errors import AbortableError, BrokerError
from stream.partitioner import partition_of
from stream.records import Output
from tests.contract.rigs import Member, MockRig, Rig, identity, outputs, read_all, wait_until

T0 = 1_600_000_000_000


def test_keys_values_headers_and_times_arrive_as_they_were(any_rig: Rig) -> None:
    topic = any_rig.topic(MockRig.PARTITIONS)
    broker = any_rig.connect(identity(topic))
    keys = [b"a", b"", None, "ü€".encode(), bytes(range(256))]
    values = [b"{}", b"", None, b"\x00\xff", b"x" * 10_000]
    headers = [[("id", b"1"), ("id", b"2"), ("empty", b"")], None, [("k", b"\xff")], None, None]
    times = [T0 + i for i in range(5)]
    publisher = broker.publisher()
    publisher.publish(topic, keys, values, partitions=[2] * 5, timestamps_ms=times, headers=headers)
    publisher.flush()

    member = Member(broker.source())
    wait_until(lambda: member.records() >= 5, member.poll)

    (batch,) = member.batches
    assert batch.topic == topic
    assert batch.partition == 2
    assert batch.offsets == [0, 1, 2, 3, 4]
    assert batch.keys == keys
    assert batch.values == values
    assert batch.timestamps_ms == times
    assert batch.headers == headers
    member.source.close()
    publisher.close()


def test_a_key_goes_to_the_partition_that_the_partitioner_names(any_rig: Rig) -> None:
    topic = any_rig.topic(MockRig.PARTITIONS)
    broker = any_rig.connect(identity(topic))
    keys = [f"user-{i}".encode() for i in range(200)] + [b"", "ünïcode".encode()]
    publisher = broker.publisher()
    publisher.publish(topic, keys, keys)
    publisher.flush()

    for partition in range(MockRig.PARTITIONS):
        found = read_all(broker, topic, partition).keys
        assert found == [key for key in keys if partition_of(key, MockRig.PARTITIONS) == partition]
        assert len(found) > 20
    publisher.close()


def test_a_poll_keeps_the_order_of_each_partition_and_its_limit(any_rig: Rig) -> None:
    topic = any_rig.topic(MockRig.PARTITIONS)
    broker = any_rig.connect(identity(topic))
    publisher = broker.publisher()
    values = [f"{i}".encode() for i in range(1_000)]
    publisher.publish(topic, [None] * 1_000, values, partitions=[i % 4 for i in range(1_000)])
    publisher.flush()

    member = Member(broker.source())
    while member.records() < 1_000:
        seen = member.records()
        wait_until(lambda: member.records() > seen, lambda: member.poll(70))  # noqa: B023
        assert member.records() - seen <= 70

    for partition in range(4):
        assert member.values(partition) == values[partition::4]
        assert member.offsets(partition) == list(range(250))
    member.source.close()
    publisher.close()


def test_outputs_go_to_the_partition_given_and_to_the_topic_of_their_role(rig: Rig) -> None:
    events, lists, letters = rig.topic(2), rig.topic(2), rig.topic(2)
    me = identity(events, recommendations=lists, dead_letters=letters)
    broker = rig.connect(me)
    sink = broker.sink()
    sink.open()
    sink.begin()
    headers = [("schema", b"recommendations/1"), ("id", b"events-1-7")]
    sink.produce([
        Output("recommendations", 1, b"u", b"list", headers),
        Output("dead_letters", 0, None, None, []),
        Output("recommendations", 1, b"v", b"other", []),
    ])  # fmt: skip
    sink.commit()
    sink.destroy()

    found = read_all(broker, lists, 1, expected=2)
    assert found.keys == [b"u", b"v"]
    assert found.values == [b"list", b"other"]
    assert found.headers == [headers, None]
    assert read_all(broker, lists, 0).values == []
    assert read_all(broker, letters, 0, expected=1).values == [None]


def test_a_record_larger_than_its_topic_allows_spoils_the_transaction_and_nothing_else(rig: Rig) -> None:
    small = rig.topic(1, {"max.message.bytes": "2000"})
    broker = rig.connect(identity(rig.topic(), dead_letters=small))
    sink = broker.sink()
    sink.open()
    sink.begin()
    with pytest.raises(AbortableError, match=small):
        produce_and_flush(sink, outputs("dead_letters", b"before", random.Random(1).randbytes(25_000)))
    sink.abort()
    try:
        commit_one(sink, b"after")
    except AbortableError:  # librdkafka numbers records in advance, and finds the gap only now
        sink.abort()
        commit_one(sink, b"after")
    sink.destroy()
    assert read_all(broker, small, expected=1).values == [b"after"]


def commit_one(sink: Sink, value: bytes) -> None:
    sink.begin()
    sink.produce([Output("dead_letters", 0, None, value, [])])
    sink.commit()


def test_a_letter_may_be_as_large_as_its_topic_allows(rig: Rig) -> None:
    large = rig.topic(1, {"max.message.bytes": str(8 * 2**20)})
    broker = rig.connect(identity(rig.topic(), dead_letters=large))
    value = random.Random(2).randbytes(3 * 2**20)
    sink = broker.sink()
    sink.open()
    sink.begin()
    sink.produce([Output("dead_letters", 0, None, value, [])])
    sink.commit()
    sink.destroy()
    assert read_all(broker, large, expected=1).values == [value]


def test_publishing_to_a_topic_that_is_not_there_says_so(rig: Rig) -> None:
    publisher = rig.connect(identity("nowhere")).publisher()
    with pytest.raises(BrokerError, match="nowhere"):
        publish_and_flush(publisher, "nowhere")
    publisher.close()


def produce_and_flush(sink: Sink, records: Sequence[Output]) -> None:
    """A failure shows in either call."""
    sink.produce(records)
    sink.flush()


def publish_and_flush(publisher: Publisher, topic: str) -> None:
    """A failure shows in either call."""
    publisher.publish(topic, [b"k"], [b"v"])
    publisher.flush()
