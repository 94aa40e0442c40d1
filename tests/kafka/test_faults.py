"""What only real processes can show: nodes that die and come back, clients that are killed or stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from stream.broker import CommittedOffset, Identity, Sink, Source
from stream.errors import BrokerError, FencedError, RetriableError
from stream.kafka_broker import KafkaBroker
from tests.contract.rigs import (
    POLL_S,
    POLLS_MAX,
    KafkaRig,
    Member,
    committed_of,
    identity,
    outputs,
    read_all,
    wait_until,
)
from tests.kafka.broker import own_kafka

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rig() -> KafkaRig:
    return KafkaRig("kafka", {})


@contextmanager
def zombie(rig: KafkaRig, me: Identity) -> Iterator[subprocess.Popen[str]]:
    """A process with an open transaction on a topic of its group; see `zombie.py`."""
    topics = me.topics["events"], me.topics["recommendations"]
    arguments = [rig.servers, *topics, me.group_id, me.transactional_id]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kafka.zombie", *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def decided(source: Source) -> bool:
    try:
        source.committed([0])
    except RetriableError:
        return False
    return True


def test_what_a_killed_process_left_open_is_aborted_when_its_timeout_has_passed(rig: KafkaRig) -> None:
    me = identity(rig.topic(), recommendations=rig.topic())
    with zombie(rig, me) as process:
        process.kill()
        source = rig.connect(me).source()
        started_s = time.monotonic()
        assert not decided(source)
        wait_until(lambda: decided(source), lambda: time.sleep(POLL_S))
        assert time.monotonic() - started_s > 5.0  # and not at once
        assert committed_of(source) == {0: None}
        assert read_all(rig.connect(me), me.topics["recommendations"]).values == []
        source.close()


def test_a_successor_with_the_same_id_need_not_wait_for_the_timeout(rig: KafkaRig) -> None:
    me = identity(rig.topic(), recommendations=rig.topic())
    with zombie(rig, me) as process:
        process.kill()
        sink = rig.connect(me).sink()
        sink.open()
        source = rig.connect(me).source()
        assert committed_of(source) == {0: None}
        sink.destroy()
        source.close()


def test_a_stopped_process_that_wakes_after_its_partition_moved_commits_nothing(rig: KafkaRig) -> None:
    me = identity(rig.topic(), recommendations=rig.topic())
    heir_me = me._replace(transactional_id=me.transactional_id + "-heir")
    with zombie(rig, me) as process:
        process.send_signal(signal.SIGSTOP)
        broker = rig.connect(heir_me)
        source = broker.source()
        heir = Heir(source)
        wait_until(lambda: source.assignment() == {0}, heir.poll)
        wait_until(lambda: decided(source), heir.poll)
        sink = broker.sink()
        sink.open()
        commit_one(sink, source, me, b"heir")

        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate("go on\n", timeout=60.0)
        assert said.split() == ["FencedError", "lost"]
        assert read_all(broker, me.topics["recommendations"], expected=1).values == [b"heir"]
        wait_until(lambda: decided(source), heir.poll)
        assert committed_of(source) == {0: CommittedOffset(5, "heir")}
        sink.destroy()
        source.close()


class Heir(Member):
    """Starts nothing: what is committed is not decided yet."""

    def on_assign(self, partitions: object) -> None:
        pass


def commit_one(sink: Sink, source: Source, me: Identity, value: bytes) -> None:
    sink.begin()
    sink.produce(outputs("recommendations", value))
    sink.send_offsets(me.topics["events"], {0: CommittedOffset(5, value.decode())}, source.group())
    sink.commit()


def test_a_transaction_that_stays_open_too_long_fences_its_own_producer(rig: KafkaRig) -> None:
    me = identity(rig.topic(), recommendations=rig.topic())
    sink = rig.connect(me).sink()
    sink.open()
    sink.begin()
    sink.produce(outputs("recommendations", b"a"))
    sink.flush()
    admin = rig.connect(me).admin()
    lists = me.topics["recommendations"]
    wait_until(lambda: admin.ranges(lists, [0])[0].end == 2, lambda: time.sleep(POLL_S))
    with pytest.raises(FencedError):
        sink.commit()
    sink.destroy()
    sink.destroy()
    assert read_all(rig.connect(me), lists).values == []


def test_clients_outlive_a_node_that_is_killed_and_started_again() -> None:
    with own_kafka() as cluster:
        rig = KafkaRig("kafka", {}, cluster)
        me = identity(rig.topic(), recommendations=rig.topic())
        broker = rig.connect(me)
        member = Member(broker.source())
        wait_until(lambda: member.source.assignment() == {0}, member.poll)
        publisher = broker.publisher()
        publisher.publish(me.topics["events"], [None] * 10, [b"x"] * 10)
        publisher.flush()
        wait_until(lambda: member.records() == 10, member.poll)

        (node,) = cluster.nodes
        node.kill()
        assert node.pid is None
        errors: list[BrokerError] = []
        wait_until(lambda: bool(errors), lambda: poll_into(member, errors))
        assert isinstance(errors[0], RetriableError)
        with pytest.raises(RetriableError):
            member.source.end_offsets([0])

        node.start()
        cluster.wait()
        publisher.publish(me.topics["events"], [None] * 10, [b"y"] * 10)
        publisher.flush()
        wait_until(lambda: member.records() == 20, lambda: poll_into(member, errors))
        assert member.offsets(0) == list(range(20))
        sink = broker.sink()
        sink.open()
        wait_until(lambda: member.source.assignment() == {0}, lambda: poll_into(member, errors))
        commit_one(sink, member.source, me, b"after")
        assert all(isinstance(error, RetriableError) for error in errors)
        sink.destroy()
        publisher.close()
        member.source.close()


def poll_into(member: Member, errors: list[BrokerError]) -> None:
    try:
        member.poll()
    except BrokerError as error:
        errors.append(error)


def test_three_nodes_go_on_while_one_hangs_that_leads_and_coordinates() -> None:
    with own_kafka(nodes=3) as cluster:
        rig = KafkaRig("kafka", {}, cluster)
        me = identity(rig.topic(3, replication=3), recommendations=rig.topic(3, replication=3))
        broker = rig.connect(me)
        source, sink = broker.source(), broker.sink()
        member = Heir(source)
        wait_until(lambda: len(source.assignment()) == 3, member.poll)
        sink.open()
        commit_one(sink, source, me, b"0")
        node = cluster.nodes[coordinator_of(me.group_id, rig.servers) - 1]
        node.freeze()
        sink = commit_somehow(broker, sink, member, me, b"1")
        node.thaw()
        # The node that wakes believes for a moment that it leads, and knows nothing of the second commit.
        found = read_all(broker, me.topics["recommendations"], expected=2)
        assert found.values == [b"0", b"1"]
        assert committed_of(source) == {0: CommittedOffset(5, "1")}
        sink.destroy()
        source.close()


def coordinator_of(group_id: str, servers: str) -> int:
    """Return the number of the node that keeps the group's offsets."""
    client = AdminClient({"bootstrap.servers": servers})
    return int(client.describe_consumer_groups([group_id])[group_id].result(10.0).coordinator.id)


def commit_somehow(broker: KafkaBroker, sink: Sink, member: Member, me: Identity, value: bytes) -> Sink:
    """Commit as a worker would: undo, or a new sink, until the group says that it is done."""
    note = CommittedOffset(5, value.decode())
    for _ in range(POLLS_MAX):
        try:
            member.poll()
            if member.source.committed([0])[0] == note:
                return sink
            commit_one(sink, member.source, me, value)
        except RetriableError:
            time.sleep(POLL_S)
        except BrokerError:
            sink.destroy()
            sink = broker.sink()
            open_somehow(sink)
    raise AssertionError("no commit went through")


def open_somehow(sink: Sink) -> None:
    for _ in range(20):
        try:
            sink.open()
        except RetriableError:
            continue
        return
    raise AssertionError("the sink did not open")


def test_a_cluster_that_cannot_start_says_why() -> None:
    with pytest.raises(BrokerError, match="no-such"):
        own_kafka(settings={"log.dirs": "/proc/no-such/folder"})
