"""Topics that some nodes know and others do not yet, as in the moments after they are created."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream.errors import BrokerError, RetriableError
from stream.kafka_admin import KafkaAdmin


class Client:
    """One node knows both topics; the node that is asked for configs answers for "new" with an error."""

    def __init__(self, code: int) -> None:
        self._code = code

    def list_topics(self, timeout: float) -> Any:
        partition = SimpleNamespace(replicas=[1])
        topic = SimpleNamespace(partitions={0: partition})
        return SimpleNamespace(topics={"old": topic, "new": topic})

    def describe_configs(self, resources: Any, request_timeout: float) -> dict[Any, Future[Any]]:
        futures = {}
        for resource in resources:
            futures[resource] = future = Future[Any]()
            if resource.name == "new":
                future.set_exception(KafkaException(KafkaError(self._code)))
            else:
                future.set_result({"cleanup.policy": SimpleNamespace(value="compact")})
        return futures


def make_admin(code: int) -> KafkaAdmin:
    admin = KafkaAdmin({"bootstrap.servers": "127.0.0.1:1"})
    admin._client = Client(code)  # type: ignore[assignment]
    return admin


def test_a_node_that_does_not_know_a_topic_yet_is_asked_again() -> None:
    with pytest.raises(RetriableError, match="does not know the topic yet"):
        make_admin(KafkaError.UNKNOWN_TOPIC_OR_PART).describe(["old", "new"])


def test_a_topic_that_nobody_knows_is_not_there() -> None:
    found = make_admin(KafkaError.UNKNOWN_TOPIC_OR_PART).describe(["old", "none"])
    assert found["none"] is None
    assert found["old"] is not None
    assert found["old"].configs == {"cleanup.policy": "compact"}


def test_any_other_answer_is_an_error() -> None:
    with pytest.raises(BrokerError, match="TOPIC_AUTHORIZATION_FAILED") as raised:
        make_admin(KafkaError.TOPIC_AUTHORIZATION_FAILED).describe(["old", "new"])
    assert not isinstance(raised.value, RetriableError)
