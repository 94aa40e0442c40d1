"""Topics can be looked at, created and changed."""

from __future__ import annotations

import pytest

from stream.broker import Topic
from stream.errors import BrokerError
from tests.contract.rigs import Rig, identity, wait_until


def test_a_topic_is_created_once_and_described_with_its_settings(rig: Rig) -> None:
    admin = rig.connect(identity("")).admin()
    name = rig.topic(3, {"cleanup.policy": "compact", "retention.ms": "1234567"})
    admin.create([Topic(name, 8, 1, {"cleanup.policy": "delete"})])
    found = admin.describe([name, "no-such-topic"])
    assert found["no-such-topic"] is None
    topic = found[name]
    assert topic is not None
    assert (topic.name, topic.partitions, topic.replication) == (name, 3, 1)
    assert topic.configs["cleanup.policy"] == "compact"
    assert topic.configs["retention.ms"] == "1234567"
    assert topic.configs["message.timestamp.type"] == "CreateTime"
    assert "max.message.bytes" in topic.configs


def test_a_setting_is_changed_and_the_others_stay(rig: Rig) -> None:
    admin = rig.connect(identity("")).admin()
    name = rig.topic(1, {"cleanup.policy": "compact"})
    admin.configure(name, {"message.timestamp.type": "LogAppendTime"})

    def settled() -> bool:
        topic = admin.describe([name])[name]
        return topic is not None and topic.configs["message.timestamp.type"] == "LogAppendTime"

    wait_until(settled, lambda: None)
    topic = admin.describe([name])[name]
    assert topic is not None
    assert topic.configs["cleanup.policy"] == "compact"

    publisher = rig.connect(identity(name)).publisher()
    publisher.publish(name, [b"k"], [b"v"], timestamps_ms=[1_500_000_000_000])
    publisher.flush()
    publisher.close()
    reader = rig.connect(identity(name)).reader(name, 0, 0)
    batch = reader.read(1, 10.0)
    assert batch.timestamps_ms[0] > 1_600_000_000_000  # the broker's own clock
    reader.close()


def test_what_is_not_there_or_not_possible_is_refused(rig: Rig) -> None:
    admin = rig.connect(identity("")).admin()
    with pytest.raises(BrokerError):
        admin.configure("no-such-topic", {"cleanup.policy": "compact"})
    with pytest.raises(BrokerError, match="there is no partition 7"):
        admin.ranges(rig.topic(2), [7])
    assert admin.describe([]) == {}


def test_a_topic_has_an_id_of_its_own(rig: Rig) -> None:
    admin = rig.connect(identity("")).admin()
    first, second = rig.topic(1), rig.topic(1)
    assert admin.topic_id(first) == admin.topic_id(first)
    assert len({admin.topic_id(first), admin.topic_id(second), ""}) == 3
    assert admin.topic_id("no-such-topic") == ""
