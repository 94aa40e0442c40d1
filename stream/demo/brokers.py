"""Where the demo plays: the broker in memory, a Kafka that is there, or one started for it from jars."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from stream.broker import Broker, Identity
from stream.config import Config
from stream.topics import plan, topic_names

CONFIG: Final = Path(__file__).parent / "demo.toml"
#: As many as two cores can use; each has users, watermark and timers of its own.
PARTITIONS: Final = 2
GROUP: Final = "ebbtide-demo"


class Place(NamedTuple):
    """Brokers for the worker and for who watches it, the config that names the topics, and words for both."""

    config: Config
    worker: Broker
    watcher: Broker
    words: str


def open_place(stack: ExitStack, config: Config, kafka: str | None, kafka_home: Path | None) -> Place:
    """Return a place with its topics made; what was started for it ends with the stack."""
    if kafka_home is not None:
        kafka = start_kafka(stack, kafka_home)
    place = in_memory(config) if kafka is None else on_kafka(config, kafka)
    names = topic_names(place.config).values()
    place.watcher.admin().create(plan(place.config, dict.fromkeys(names), partitions=PARTITIONS))
    return place


def in_memory(config: Config) -> Place:
    from stream.testing import MemoryBroker, MemoryClient

    broker = MemoryBroker()
    identity = Identity(GROUP, f"{GROUP}-0", topic_names(config))
    words = "broker: in memory, with strict transactions (--kafka HOST:PORT takes a real one)"
    return Place(config, MemoryClient(broker, identity), MemoryClient(broker, identity, "watcher"), words)


def on_kafka(config: Config, servers: str) -> Place:
    """Return a place on a real Kafka; topics and group are of this run alone, so that it can be repeated."""
    from stream.kafka_broker import KafkaBroker

    run = f"{GROUP}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = {role: f"{run}-{name}" for role, name in topic_names(config).items()}
    config = msgspec.structs.replace(config, topics=msgspec.structs.replace(config.topics, **names))
    identity = Identity(run, f"{run}-0", names)
    worker, watcher = (KafkaBroker(servers, identity) for _ in range(2))
    return Place(config, worker, watcher, f"broker: {servers}, topics {run}-*")


def start_kafka(stack: ExitStack, home: Path) -> str:
    """Start an Apache Kafka of one node and return its address."""
    from stream.testing_kafka import KafkaCluster

    return stack.enter_context(KafkaCluster(home)).bootstrap_servers
