from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.broker import Identity
from stream.errors import AbortableError, BrokerError, FencedError, RetriableError, UsageError
from stream.kafka_broker import KafkaBroker
from stream.kafka_errors import classify, kafka_error
from stream.kafka_settings import (
    admin_settings,
    publisher_settings,
    reader_settings,
    sink_settings,
    source_settings,
)

#: One of each kind: for all clients, for consumers, for producers.
CLIENT = {
    "security.protocol": "PLAINTEXT",
    "session.timeout.ms": 30_000,
    "group.instance.id": "worker-1",
    "group.protocol": "classic",
    "fetch.min.bytes": 2,
    "linger.ms": 7,
    "compression.type": "zstd",
}
ME = Identity("group", "id", {"events": "events"})
NOBODY = "127.0.0.1:9"


def test_a_users_setting_reaches_the_clients_that_know_it_and_no_other() -> None:
    source = source_settings(NOBODY, "group", CLIENT)
    reader = reader_settings(NOBODY, CLIENT)
    sink = sink_settings(NOBODY, "id", CLIENT)
    admin = admin_settings(NOBODY, CLIENT)
    assert all(each["security.protocol"] == "PLAINTEXT" for each in (source, reader, sink, admin))
    assert source["fetch.min.bytes"] == reader["fetch.min.bytes"] == 2
    assert sink["linger.ms"] == 7
    assert sink["compression.type"] == "zstd"
    assert not {"linger.ms", "compression.type"} & (source.keys() | reader.keys() | admin.keys())
    assert not {"fetch.min.bytes", "session.timeout.ms", "group.id"} & (sink.keys() | admin.keys())
    assert source["group.instance.id"] == "worker-1"
    assert "group.instance.id" not in reader  # two clients with one instance id fence each other
    assert publisher_settings(NOBODY, CLIENT).keys() < sink.keys()


def test_what_the_guarantees_rest_on_is_not_to_be_overridden() -> None:
    hostile = {
        "enable.auto.commit": True, "isolation.level": "read_uncommitted", "auto.offset.reset": "latest",
        "group.id": "other", "bootstrap.servers": "elsewhere:1", "enable.idempotence": False,
        "partitioner": "random", "transactional.id": "other",
    }  # fmt: skip
    source = source_settings(NOBODY, "group", hostile)
    assert source["enable.auto.commit"] is False
    assert source["isolation.level"] == "read_committed"
    assert source["auto.offset.reset"] == "error"
    assert (source["group.id"], source["bootstrap.servers"]) == ("group", NOBODY)
    sink = sink_settings(NOBODY, "id", hostile)
    assert sink["enable.idempotence"] is True
    assert (sink["partitioner"], sink["transactional.id"]) == ("murmur2_random", "id")


def test_both_protocols_of_groups_move_partitions_one_by_one() -> None:
    assert "partition.assignment.strategy" not in source_settings(NOBODY, "group", {})
    assert source_settings(NOBODY, "group", {})["group.protocol"] == "consumer"
    classic = source_settings(NOBODY, "group", {"group.protocol": "classic"})
    assert classic["partition.assignment.strategy"] == "cooperative-sticky"


def test_librdkafka_takes_every_setting_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for client in ({}, CLIENT):
        broker = KafkaBroker(NOBODY, ME, client)
        source, sink, publisher = broker.source(), broker.sink(), broker.publisher()
        reader = broker.reader("events", 0, 5, 6)
        with suppress(RetriableError):
            source.poll(1, 0.2)
        with suppress(RetriableError):
            reader.read(1, 0.2)
        source.close()
        reader.close()
        sink.destroy()
        publisher.close()
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "CONF" in line] == []
    assert lines  # its log does arrive here: nobody listens at that address


def test_a_setting_that_librdkafka_refuses_is_named() -> None:
    with pytest.raises(UsageError, match=r"\[kafka.client\].*no\.such\.setting"):
        KafkaBroker(NOBODY, ME, {"no.such.setting": 1}).source().close()
    with pytest.raises(UsageError, match=r"\[kafka.client\].*no\.such\.setting"):
        KafkaBroker(NOBODY, ME, {"no.such.setting": 1}).sink().destroy()


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (KafkaError(KafkaError._FENCED, fatal=True), FencedError),
        (KafkaError(KafkaError.PRODUCER_FENCED), FencedError),
        (KafkaError(KafkaError.INVALID_PRODUCER_EPOCH), FencedError),
        (KafkaError(KafkaError.INVALID_TXN_STATE, fatal=True), FencedError),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, txn_requires_abort=True), AbortableError),
        (KafkaError(KafkaError.UNKNOWN_MEMBER_ID), AbortableError),
        (KafkaError(KafkaError.STALE_MEMBER_EPOCH), AbortableError),
        (KafkaError(KafkaError.ILLEGAL_GENERATION), AbortableError),
        (KafkaError(KafkaError._TIMED_OUT, retriable=True), RetriableError),
        (KafkaError(KafkaError._ALL_BROKERS_DOWN), RetriableError),
        (KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS), RetriableError),
        (KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT), RetriableError),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), BrokerError),
        (KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), BrokerError),
    ],
    ids=lambda value: value.name() if isinstance(value, KafkaError) else value.__name__,
)
def test_each_error_means_one_thing(error: KafkaError, meaning: type[BrokerError]) -> None:
    meant = classify(error, place="here")
    assert type(meant) is meaning
    assert error.name() in meant.what
    assert meant.place == "here"


def test_a_refusal_names_its_remedy() -> None:
    assert "ebbtide topics" in classify(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), place="").remedy


def test_a_fatal_error_is_found_behind_the_system_error_that_hides_it() -> None:
    fatal = KafkaError(KafkaError._FENCED, "fenced", fatal=True)
    hiding = SystemError("a result with an exception set")
    hiding.__cause__ = KafkaException(fatal)
    assert kafka_error(hiding).code() == KafkaError._FENCED
    assert kafka_error(KafkaException(fatal)).fatal()
    lost = kafka_error(SystemError("returned NULL without setting an exception"))
    assert "returned NULL" in lost.str()
    assert isinstance(classify(lost, place="id"), FencedError)
