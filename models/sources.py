"""Where events for training come from: a file of JSON lines, or a Kafka topic as it is now."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from models.dataset import Sequences, fold_records, look_into
from stream.broker import Broker, Identity
from stream.clock import SystemClock
from stream.config import Config
from stream.errors import BrokerError, InputError
from stream.records import RecordBatch
from stream.upkeep.logs import ask

#: How long one read may wait for records; a topic that goes quiet is asked again.
_READ_S = 1.0
#: After so many reads in a row that bring nothing, the broker will not answer.
_EMPTY_READS_MAX = 60
#: How long a broker is asked about the topic that does not answer; a wrong address shows soon.
_PATIENCE_S = 10.0


def fold_topic(
    broker: Broker,
    topic: str,
    config: Config,
    item_ids: Sequence[str] = (),
    vocabularies: Mapping[str, Sequence[str]] | None = None,
) -> Sequences:
    """Fold the topic from its beginning to its end as it is now. Raises InputError if it is not there."""
    admin, clock = broker.admin(), SystemClock()
    found = ask(lambda: admin.describe([topic])[topic], clock, patience_s=_PATIENCE_S)
    if found is None:
        raise InputError("there is no such topic", place=topic, remedy="see [topics] of the config")
    count = found.partitions
    ranges = ask(lambda: admin.ranges(topic, range(count)), clock, patience_s=_PATIENCE_S)
    partitions = [
        read_partition(broker, topic, number, span.start, span.end, config.worker.batch_records_max)
        for number, span in sorted(ranges.items())
    ]
    return fold_records(partitions, config, item_ids, vocabularies, place=topic, look=look_into())


def read_partition(
    broker: Broker, topic: str, partition: int, start: int, end: int, records_max: int
) -> Iterator[RecordBatch]:
    """Yield the records of a partition from `start` to `end`. Raises BrokerError if they do not come.

    A broker that goes away is waited for, a minute at most: what was folded so far would have to be again.
    """
    reader, clock = broker.reader(topic, partition, start, end), SystemClock()
    empty = 0
    try:
        while not reader.done():
            batch = ask(lambda: reader.read(records_max, _READ_S), clock)
            empty = 0 if batch.offsets else empty + 1
            if batch.offsets:
                yield batch
            elif empty > _EMPTY_READS_MAX:
                raise BrokerError(
                    f"no record for {math.ceil(empty * _READ_S)} s, at offset {reader.position()} of {end}",
                    place=f"{topic}-{partition}",
                    remedy="see that the broker is up",
                )
    finally:
        reader.close()


def connect(servers: str, config: Config, topic: str) -> Broker:
    from stream.kafka_broker import KafkaBroker

    identity = Identity(config.kafka.group_id, "ebbtide-train", {"events": topic})
    return KafkaBroker(servers, identity, config.kafka.client)
