"""`ebbtide run` on Apache Kafka: the real year in, and out comes what `replay` makes of each partition."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.demo import journey
from stream.records import Output
from tests.kafka.broker import shared_kafka
from tests.kafka.running import (
    OUTPUTS,
    connect,
    create_topics,
    fold_partition,
    load,
    read_partition,
    running,
    wait_for_offset,
    write_config,
)

pytestmark = pytest.mark.kafka

PARTITIONS = 2


def test_the_year_through_kafka_equals_its_replay_with_a_stop_and_a_start_in_the_middle(
    tmp_path: Path,
) -> None:
    path = write_config(tmp_path, shared_kafka().bootstrap_servers, "year")
    config = load(path)
    broker = connect(config)
    create_topics(config, broker, PARTITIONS)
    records = list(journey.records(journey.lines()))
    publisher = broker.publisher()
    half = len(records) // 2
    for first, last in ((0, half), (half, len(records))):
        part = records[first:last]
        publisher.publish(
            config.topics.events,
            [record.key for record in part],
            [record.value for record in part],
        )
        publisher.flush()
        found = broker.admin().ranges(config.topics.events, range(PARTITIONS))
        ends = {p: part_range.end for p, part_range in found.items()}
        with running(path, tmp_path / "worker.log") as worker:
            wait_for_offset(broker, config, ends, worker)

    for partition in range(PARTITIONS):
        events = read_partition(broker, config.topics.events, partition)
        expected, _ = fold_partition(config, events)
        for role in OUTPUTS:
            came = read_partition(broker, getattr(config.topics, role), partition)
            wanted = [output for output in expected if output.topic == role]
            assert came.values == [output.value for output in wanted]
            assert came.keys == [output.key for output in wanted]
            assert came.headers == [_headers(output) for output in wanted]


def _headers(output: Output) -> list[tuple[str, bytes]]:
    return list(output.headers)
