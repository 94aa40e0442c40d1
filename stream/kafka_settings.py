"""What librdkafka is told, for each of its clients, and why.

A user's `[kafka.client]` goes over the defaults and under what the guarantees rest on. librdkafka has one
list of settings for consumers and producers and warns about those of the other kind; they are left out here,
so that one table in the config serves all clients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Setting = str | int | float | bool
Settings = dict[str, Setting]

#: After this long without an end the broker aborts a transaction. A worker that died holds up everyone who
#: reads its partitions for so long, plus the broker's sweep (14 s measured).
TRANSACTION_TIMEOUT_MS: Final = 10_000

#: No call on a transaction may take longer: what it then still does at the broker would be out of hand.
#: librdkafka bounds its requests to 100 ms less by itself, so none is sent twice within the call.
TRANSACTION_CALL_TIMEOUT_S: Final = TRANSACTION_TIMEOUT_MS / 1000.0

#: Requests about groups, offsets and topics: long enough for a coordinator that moves.
REQUEST_TIMEOUT_S: Final = 10.0

#: The largest record that a producer accepts: a dead letter is as large as the event that it was.
RECORD_BYTES_MAX: Final = 64 * 2**20

_FOR_ALL: Final[Settings] = {
    "client.id": "ebbtide",
    "message.max.bytes": RECORD_BYTES_MAX,
    # A broker that is restarted closes connections; that is no news. librdkafka logs what is.
    "log.connection.close": False,
}

_CONSUMER: Final[Settings] = {
    # With its default of 1000 a consumer that is faster than the network waits a second whenever its queue
    # is full: 180,000 records/s measured, 820,000 with 5.
    "fetch.queue.backoff.ms": 5,
    # Back-pressure: what is fetched and not yet polled.
    "queued.max.messages.kbytes": 64 * 2**10,
    # A coordinator on a machine that hangs answers nothing and closes nothing. With the defaults (60 s, and
    # 10 min) the group would have given this member up before it asks who the coordinator is now.
    "socket.timeout.ms": int(REQUEST_TIMEOUT_S * 1000),
    "coordinator.query.interval.ms": 5_000,
    # How long the broker may hold a fetch that finds nothing; the end of the log is known only after it.
    "fetch.wait.max.ms": 100,
}

_CONSUMER_FIXED: Final[Settings] = {
    # Offsets are committed with the outputs, or not at all.
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A position outside of the log is an error: skipping to either end would lose or repeat events.
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    # The end is the only way to learn that nothing but markers is left.
    "enable.partition.eof": True,
}

_GROUP: Final[Settings] = {"group.protocol": "consumer"}

#: A reader stands at the end of a log only to see that it is there.
_READER: Final[Settings] = {"fetch.wait.max.ms": 10, "fetch.message.max.bytes": 4 * 2**20}

#: A topic that is not known may have just been created; after this long it is not there.
_TOPIC_WAIT_MS: Final = 5_000

_PRODUCER: Final[Settings] = {
    "compression.type": "lz4",
    "topic.metadata.propagation.max.ms": _TOPIC_WAIT_MS,
    # Back-pressure: beyond this `produce` waits.
    "queue.buffering.max.kbytes": 128 * 2**10,
    "queue.buffering.max.messages": 200_000,
}

_PRODUCER_FIXED: Final[Settings] = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    # A report a record would cost as much as producing it. Failures are reported, successes are silent.
    "delivery.report.only.error": True,
}

#: Settings of one kind only, as librdkafka's CONFIGURATION.md marks them (C and P).
_CONSUMERS_ONLY: Final = (
    "allow.auto.create.topics", "auto.offset.reset", "check.crcs", "coordinator.query.interval.ms",
    "enable.auto", "enable.partition.eof", "fetch.", "group.", "heartbeat.interval.ms", "isolation.level",
    "max.partition.fetch.bytes", "max.poll.interval.ms", "partition.assignment.strategy", "queued.",
    "session.timeout.ms",
)  # fmt: skip
_PRODUCERS_ONLY: Final = (
    "acks", "batch.", "compression.", "delivery.", "enable.gapless.guarantee", "enable.idempotence",
    "linger.ms", "message.send.max.retries", "message.timeout.ms", "partitioner", "queue.buffering.",
    "queuing.strategy", "request.required.acks", "request.timeout.ms", "retries", "sticky.", "transaction",
)  # fmt: skip


def source_settings(bootstrap_servers: str, group_id: str, client: Mapping[str, Setting]) -> Settings:
    """Return the settings of a consumer that is a member of a group."""
    settings = _consumer(bootstrap_servers, group_id, {**_GROUP, **client})
    if settings["group.protocol"] == "classic":
        # The only strategy that moves partitions without taking all of them away first.
        settings["partition.assignment.strategy"] = "cooperative-sticky"
    return settings


def reader_settings(
    bootstrap_servers: str, client: Mapping[str, Setting], group_id: str = "ebbtide-reader"
) -> Settings:
    """Return the settings of a consumer that joins no group; group_id: whose offsets it may look up."""
    alone = {key: value for key, value in client.items() if not key.startswith(("group.", "session."))}
    return _consumer(bootstrap_servers, group_id, {**alone, **_READER})


def _consumer(bootstrap_servers: str, group_id: str, client: Mapping[str, Setting]) -> Settings:
    own = {key: value for key, value in client.items() if not key.startswith(_PRODUCERS_ONLY)}
    return {
        **_FOR_ALL,
        **_CONSUMER,
        **own,
        **_CONSUMER_FIXED,
        "bootstrap.servers": bootstrap_servers,
        "group.id": group_id,
    }


def sink_settings(bootstrap_servers: str, transactional_id: str, client: Mapping[str, Setting]) -> Settings:
    """Return the settings of a transactional producer."""
    return {
        **publisher_settings(bootstrap_servers, client),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
    }


def publisher_settings(bootstrap_servers: str, client: Mapping[str, Setting]) -> Settings:
    """Return the settings of an idempotent producer."""
    own = {key: value for key, value in client.items() if not key.startswith(_CONSUMERS_ONLY)}
    return {**_FOR_ALL, **_PRODUCER, **own, **_PRODUCER_FIXED, "bootstrap.servers": bootstrap_servers}


def admin_settings(bootstrap_servers: str, client: Mapping[str, Setting]) -> Settings:
    """Return the settings of an admin client."""
    neither = (*_CONSUMERS_ONLY, *_PRODUCERS_ONLY)
    own = {key: value for key, value in client.items() if not key.startswith(neither)}
    return {**_FOR_ALL, **own, "bootstrap.servers": bootstrap_servers}
