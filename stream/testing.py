"""The testing kit: a broker in memory as strict as Kafka, a clock to hold in hand, and faults on demand.

    clock = VirtualClock()
    plan = FaultPlan(seed=7, rates={"crash_after": 0.01, "marker_late": 0.2})
    broker = MemoryBroker(clock, plan)
    broker.create_topic("events", partitions=4)
    client = MemoryClient(broker, Identity("group", "worker-1", {"events": "events", …}))
    client.publisher().publish("events", keys, values)
    … a worker with `client` as its `stream.broker.Broker` …
    broker.log("lifecycle", 0).read(0, 1_000)

What it shares with Kafka, and the contract suite compares: offsets with gaps where markers and aborted
records lie, the last stable offset, fencing by epochs, transactions that time out, offsets that are pending,
markers that arrive late, cooperative rebalances, members given up. What it leaves out: replicas,
`read_uncommitted`, and the network; a call is done when it returns, unless a fault says otherwise. Retention
and compaction happen when a test asks for them (`PartitionLog.truncate`, `compact`).

    testing_faults.py         what can go wrong, and the plan
    testing_log.py            one partition
    testing_group.py          members, shares, offsets
    testing_transactions.py   epochs, markers, timeouts
    testing_broker.py         all of these, and time
    testing_line.py           a process, alive or not
    testing_client.py         what the process holds: source (testing_source.py), sink (testing_sink.py), …
    testing_kafka.py          Apache Kafka itself, from its jars
"""

from __future__ import annotations

from stream.clock import VirtualClock
from stream.testing_broker import TOPIC_DEFAULTS, MemoryBroker
from stream.testing_client import MemoryAdmin, MemoryClient
from stream.testing_faults import FAULTS, Crash, FaultPlan
from stream.testing_sink import MemoryPlainSink, MemoryPublisher, MemorySink
from stream.testing_source import MemoryReader, MemorySource

__all__ = [
    "FAULTS",
    "TOPIC_DEFAULTS",
    "Crash",
    "FaultPlan",
    "MemoryAdmin",
    "MemoryBroker",
    "MemoryClient",
    "MemoryPlainSink",
    "MemoryPublisher",
    "MemoryReader",
    "MemorySink",
    "MemorySource",
    "VirtualClock",
]
