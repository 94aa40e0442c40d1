"""What it costs to bring a record in from Kafka and to bring an output out, in µs of one core.

Events of 180 bytes come in and lists of 700 bytes with their three headers go out, one for one, in
transactions of a second, against one node of Apache Kafka from KAFKA_HOME on this machine. `thread` is the
worker's own thread, which is what competes with the fold; `process` adds librdkafka's threads; `wall` says
what the neighbours and the broker leave of it. The yardstick is confluent-kafka alone: a bulk `consume` that
looks at values only, and a bare `produce` with and without the headers. The in-memory broker, which the demo
and the simulator run on, stands beside. Then: how long a commit takes, from `send_offsets` to its end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

from confluent_kafka import Consumer, Producer, TopicPartition

from stream.broker import Broker, CommittedOffset, Identity, Source, Topic
from stream.errors import RetriableError
from stream.kafka_broker import KafkaBroker
from stream.records import Output
from stream.testing import MemoryBroker, MemoryClient
from stream.testing_kafka import KafkaCluster

RECORDS = 200_000
PARTITIONS = 4
BATCH = 4096
COMMIT_INTERVAL_S = 1.0
COMMITS = 100
#: Between two commits, as long as a worker folds: a transaction that begins at once waits for the markers of
#: the one before, and librdkafka asks again only after 100 ms.
FOLD_S = 0.15
EVENT = b'{"user_id":"household-1234","event_type":"purchase","item_id":"1012345"}'.ljust(180)
LIST = b'{"rec_id":"events-1-123456","items":[{"item_id":"1012345","score":0.123456789}]}'.ljust(700)
HEADERS = [
    ("schema", b"recommendations/1"),
    ("source", b"events-1-123456"),
    ("id", b"events-1-123456"),
]


def run() -> None:
    identity = Identity(
        f"group-{uuid4().hex[:8]}", f"id-{uuid4().hex[:8]}", {"events": "events", "recommendations": "lists"}
    )
    print(f"{'µs a record':<38}{'thread':>8}{'process':>9}{'wall':>8}")
    memory = MemoryBroker()
    measure("in memory", MemoryClient(memory, identity))
    home = os.environ.get("KAFKA_HOME")
    if not home:
        print("  KAFKA_HOME is not set: Apache Kafka was not measured")
        return
    with KafkaCluster(Path(home)) as cluster:
        broker = KafkaBroker(cluster.bootstrap_servers, identity)
        measure("Apache Kafka", broker)
        measure_alone(cluster.bootstrap_servers)
        measure_commits(broker)


def measure(name: str, broker: Broker) -> None:
    admin = broker.admin()
    admin.create([Topic("events", PARTITIONS), Topic("lists", PARTITIONS)])
    publisher = broker.publisher()
    partitions = [i % PARTITIONS for i in range(RECORDS)]
    keys = [b"household-1234"] * RECORDS
    timed(f"{name}: published", lambda: publish(publisher.publish, publisher.flush, keys, partitions))
    source = join(broker)
    drain(source)  # a Java broker is slow at whatever it does for the first time
    rewind(source)
    timed(f"{name}: in", lambda: drain(source))
    for title in ("", f"{name}: in, and out in transactions"):
        rewind(source)
        timed(title, lambda: pipe(broker, source))
    source.close()
    publisher.close()


def measure_alone(servers: str) -> None:
    """What confluent-kafka takes without anything around it."""
    consumer = Consumer({
        "bootstrap.servers": servers, "group.id": "alone", "fetch.queue.backoff.ms": 5,
        "isolation.level": "read_committed",
    })  # fmt: skip
    consumer.assign([TopicPartition("events", partition, 0) for partition in range(PARTITIONS)])
    timed("confluent-kafka alone: in", lambda: consume_alone(consumer))
    consumer.close()
    producer = Producer({
        "bootstrap.servers": servers, "compression.type": "lz4", "delivery.report.only.error": True,
        "queue.buffering.max.messages": 2 * RECORDS, "queue.buffering.max.kbytes": 2**20,
    })  # fmt: skip
    timed("confluent-kafka alone: out", lambda: produce_alone(producer, None))
    timed("confluent-kafka alone: out, headers", lambda: produce_alone(producer, HEADERS))


def consume_alone(consumer: Consumer) -> None:
    seen = 0
    while seen < RECORDS:
        seen += len([message.value() for message in consumer.consume(BATCH, 0.01)])


def produce_alone(producer: Producer, headers: list[tuple[str, bytes]] | None) -> None:
    for i in range(RECORDS):
        producer.produce("lists", LIST, b"household-1234", i % PARTITIONS, headers=headers)
    producer.flush()


def publish(
    send: Callable[..., None], flush: Callable[[], None], keys: Sequence[bytes], partitions: Sequence[int]
) -> None:
    send("events", keys, [EVENT] * RECORDS, partitions=partitions)
    flush()


class Everything:
    """Takes every partition from its beginning."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def on_assign(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._source.seek(partition, 0)

    def on_revoke(self, partitions: Sequence[int]) -> None:
        pass

    def on_lost(self, partitions: Sequence[int]) -> None:
        raise RuntimeError("the benchmark lost its partitions")


def join(broker: Broker) -> Source:
    source = broker.source()
    source.subscribe(Everything(source))
    while len(source.assignment()) < PARTITIONS:
        source.poll(1, 0.1)
    source.resume(range(PARTITIONS))
    return source


def rewind(source: Source) -> None:
    for partition in range(PARTITIONS):
        source.seek(partition, 0)


def drain(source: Source) -> None:
    seen = 0
    while seen < RECORDS:
        seen += sum(len(batch.offsets) for batch in source.poll(BATCH, 0.1))


def pipe(broker: Broker, source: Source) -> None:
    sink = broker.sink()
    sink.open()
    sink.begin()
    due_s = time.monotonic() + COMMIT_INTERVAL_S
    seen = 0
    while seen < RECORDS:
        for batch in source.poll(BATCH, 0.1):
            seen += len(batch.offsets)
            partition = batch.partition
            sink.produce([Output("recommendations", partition, key, LIST, HEADERS) for key in batch.keys])
        if time.monotonic() >= due_s or seen >= RECORDS:
            offsets = {p: CommittedOffset(source.position(p)) for p in range(PARTITIONS)}
            sink.send_offsets("events", offsets, source.group())
            sink.commit()
            if seen < RECORDS:
                sink.begin()
            due_s = time.monotonic() + COMMIT_INTERVAL_S
    sink.destroy()


def timed(name: str, call: Callable[[], None]) -> None:
    """Print what a call costs a record; without a name it is a warm-up."""
    wall_s, process_s, thread_s = time.perf_counter(), time.process_time(), time.thread_time()
    call()
    if not name:
        return
    spent = time.thread_time() - thread_s, time.process_time() - process_s, time.perf_counter() - wall_s
    thread_us, process_us, wall_us = (each / RECORDS * 1e6 for each in spent)
    print(f"  {name:<36}{thread_us:8.2f}{process_us:9.2f}{wall_us:8.2f}", flush=True)


def measure_commits(broker: Broker) -> None:
    """Commit a few outputs and four offsets at a time; print the quantiles in ms."""
    source = join(broker)
    sink = broker.sink()
    sink.open()
    took_ms = []
    for i in range(COMMITS):
        sink.begin()
        sink.produce([Output("recommendations", p, b"k", LIST, HEADERS) for p in range(PARTITIONS)])
        source.poll(1, 0.0)
        time.sleep(FOLD_S)
        began = time.perf_counter()
        sink.send_offsets("events", {p: CommittedOffset(i) for p in range(PARTITIONS)}, source.group())
        sink.commit()
        took_ms.append((time.perf_counter() - began) * 1000.0)
    cuts = quantiles(took_ms, n=100)
    print(f"\na commit, ms (one node): p50 {cuts[49]:.1f}  p90 {cuts[89]:.1f}  p99 {cuts[98]:.1f}")
    began = time.perf_counter()
    while not committed(source):
        pass
    print(f"what is committed, asked and answered, ms: {(time.perf_counter() - began) * 1000.0:.1f}")
    sink.destroy()
    source.close()


def committed(source: Source) -> bool:
    try:
        return source.committed(range(PARTITIONS))[0] is not None
    except RetriableError:
        return False


if __name__ == "__main__":
    run()
