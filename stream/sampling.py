"""A sample of the events' keys: whether each user is in the one partition where the state will be.

Producers must key by user_id and partition as murmur2 does. What they did so far shows at the end of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from stream.broker import Broker
from stream.clock import Clock
from stream.partitioner import misplaced
from stream.topics import Finding
from stream.upkeep.logs import ranges, read_log

#: Records looked at in each partition, the last ones.
SAMPLE_RECORDS: Final = 500


class Sample(NamedTuple):
    """What the keys of a topic's last records are like."""

    topic: str
    records: int
    without_key: int
    misplaced: int  # in another partition than murmur2 says; none without a key
    split: int  # keys that are in more than one partition


def sample_keys(broker: Broker, topic: str, partitions: int, clock: Clock) -> Sample:
    """Look at the last records of each partition."""
    records = without_key = wrong = 0
    homes: dict[bytes, set[int]] = {}
    for partition, kept in ranges(broker, topic, range(partitions), clock).items():
        start = max(kept.start, kept.end - SAMPLE_RECORDS)
        for batch in read_log(broker, topic, partition, start, kept.end, clock):
            keys = [key for key in batch.keys if key is not None]
            records += len(batch.keys)
            without_key += len(batch.keys) - len(keys)
            wrong += misplaced(keys, partition, partitions)
            for key in keys:
                homes.setdefault(key, set()).add(partition)
    return Sample(topic, records, without_key, wrong, sum(len(found) > 1 for found in homes.values()))


def judge_keys(sample: Sample) -> Iterator[Finding]:
    """Yield what is wrong with the keys; the first two make users of no partition, or of several."""
    topic, of = sample.topic, f"of the last {sample.records:,} records"
    mend = f"mend the producers, then `ebbtide rekey --from {topic} --to NEW` mends what they sent"
    if sample.without_key:
        what = f"{sample.without_key:,} {of} have no key, and become dead letters"
        yield Finding(topic, what, f"key by user_id: {mend}")
    if sample.split:
        what = f"{sample.split:,} keys are in more than one partition: these users' states would be in pieces"
        yield Finding(topic, what, f"use one partitioner in all producers, murmur2: {mend}")
    elif sample.misplaced:
        what = f"{sample.misplaced:,} {of} are not in the partition that murmur2 gives their key"
        yield Finding(topic, what, f'librdkafka needs "partitioner": "murmur2_random": {mend}')
