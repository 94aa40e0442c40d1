"""What a worker must not start on: each is refused, in words that name the remedy."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream import assembly, cli
from stream.check import find_faults, refuse_start
from stream.errors import FencedError, StateError, UsageError
from stream.fencing import LOSSES_MAX, Losses
from stream.group_check import check_group
from stream.sampling import judge_keys, sample_keys
from stream.topics import Finding
from stream.worker import Worker
from tests.upkeep.rig import SETTINGS, Rig
from tests.upkeep.test_repartition import grow, worker_of


@pytest.fixture
def rig() -> Rig:
    return Rig()


def refusal(rig: Rig) -> str:
    with pytest.raises(UsageError) as refused:
        refuse_start(rig.config, rig.client(), rig.clock)
    return str(refused.value)


def found(rig: Rig, subject: str) -> list[Finding]:
    """Return what `ebbtide check` finds about one subject."""
    return dict(find_faults(rig.config, lambda config: rig.client()))[subject]


# Topics.


def test_topics_as_ebbtide_makes_them_will_do(rig: Rig) -> None:
    rig.publish(50)
    refuse_start(rig.config, rig.client(), rig.clock)
    rig.work()
    refuse_start(rig.config, rig.client(), rig.clock)
    assert found(rig, "topics") == found(rig, "keys") == found(rig, "group") == []


@pytest.mark.parametrize(
    ("topic", "setting", "value", "remedy"),
    [
        ("user-state", "cleanup.policy", "delete", "set cleanup.policy=compact"),
        ("user-state", "cleanup.policy", "compact,delete", "set cleanup.policy=compact"),
        ("journal", "cleanup.policy", "compact", "set cleanup.policy=delete"),
        (
            "events",
            "message.timestamp.after.max.ms",
            str(2**63 - 1),
            "message.timestamp.after.max.ms=3600000",
        ),
    ],
)
def test_a_setting_that_loses_state_is_refused(
    rig: Rig, topic: str, setting: str, value: str, remedy: str
) -> None:
    rig.client().admin().configure(topic, {setting: value})
    said = refusal(rig)
    assert topic in said
    assert remedy in said
    assert [finding.place for finding in found(rig, "topics")] == [topic]


def test_what_is_only_unwise_is_warned_of(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    admin = rig.client().admin()
    admin.configure("recommendations", {"cleanup.policy": "compact"})
    admin.configure("journal", {"retention.ms": "1000"})
    with caplog.at_level(logging.WARNING):
        refuse_start(rig.config, rig.client(), rig.clock)
    assert "recommendations: cleanup.policy" in caplog.text
    assert "retention.ms=-1" in caplog.text


def test_a_missing_topic_is_refused() -> None:
    rig = Rig(topics={"events": "clicks"})
    del rig.broker._topics["journal"], rig.broker._topics["control"]
    said = refusal(rig)
    assert "journal" in said
    assert "ebbtide topics --create" in said
    assert "control" not in said  # a worker can do without


def test_partitions_that_were_added_are_refused_before_anything_is_read(rig: Rig) -> None:
    rig.publish(100)
    rig.work()
    grow(rig, 5)
    assert "ebbtide repartition" in refusal(rig)
    (finding, *_) = found(rig, "group")
    assert "`ebbtide repartition`" in finding.remedy
    with pytest.raises(StateError, match="ebbtide repartition"):
        worker_of(rig).run()


def test_a_broker_that_is_away_does_not_keep_a_worker_from_waiting(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    class Away:
        def admin(self) -> Any:
            from stream.errors import RetriableError

            raise RetriableError("nobody answers")

    refuse_start(rig.config, Away(), rig.clock)  # type: ignore[arg-type]
    assert "not checked: nobody answers" in caplog.text


def test_run_refuses_before_it_joins(rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rig.client().admin().configure("user-state", {"cleanup.policy": "delete"})
    config = tmp_path / "c.toml"
    config.write_text("")
    monkeypatch.setattr(assembly, "connect", lambda config: rig.client())
    monkeypatch.setattr(assembly, "log_to_stderr", lambda: None)
    result = CliRunner().invoke(cli.app, ["run", "--config", str(config)], prog_name="ebbtide")
    assert result.exit_code == 2, result.output
    assert "set cleanup.policy=compact" in result.output
    assert not any(group.members for group in rig.broker.groups())


# Keys.


def keys_of(rig: Rig) -> list[str]:
    return [finding.remedy for finding in judge_keys(sample_keys(rig.client(), "events", 3, rig.clock))]


def test_keys_by_murmur2_will_do(rig: Rig) -> None:
    rig.publish(100)
    assert keys_of(rig) == []


def test_records_without_keys_are_found(rig: Rig) -> None:
    rig.send(list(rig.events(10)), keys=[None] * 10)
    (finding,) = found(rig, "keys")
    assert "10 of the last 10 records have no key" in finding.what
    assert "ebbtide rekey --from events" in finding.remedy


def test_another_partitioner_is_found_and_warned_of(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    events = list(rig.events(60))
    rig.send(events, partitions=[sum(user.encode()) % 3 for user, _, _ in events])
    (finding,) = found(rig, "keys")
    assert "murmur2_random" in finding.remedy
    refuse_start(rig.config, rig.client(), rig.clock)
    assert "murmur2" in caplog.text


def test_users_in_several_partitions_are_refused_at_the_first_start(rig: Rig) -> None:
    events = list(rig.events(60))
    rig.send(events, partitions=[i % 3 for i in range(60)])
    assert "states would be in pieces" in refusal(rig)
    assert "ebbtide rekey --from events" in refusal(rig)
    rig.work()
    refuse_start(rig.config, rig.client(), rig.clock)  # it has begun with them
    assert found(rig, "keys")


# What was committed.


def group_findings(rig: Rig) -> list[Finding]:
    return list(check_group(rig.config, rig.client(), 3, 3, rig.clock))


def test_another_group_on_the_same_state_is_refused(rig: Rig) -> None:
    rig.publish(60)
    rig.work()
    other = Rig(kafka={"group_id": "other"})
    other.broker = rig.broker
    assert {finding.place for finding in group_findings(other)} == {f"user-state-{p}" for p in range(3)}
    with pytest.raises(StateError, match="each group its own user_state and journal"):
        worker_of(other).run()


def test_a_log_that_was_cut_beyond_the_floor_is_refused(rig: Rig) -> None:
    rig = Rig(worker={**SETTINGS["worker"], "snapshot_rows_max": 1})
    rig.publish(100)
    worker = rig.start()
    while not all(share.committed_offset for share in worker.shares.values()) or not worker.shares:
        worker.turn()
        rig.clock.advance(200.0)
    worker._broken = True  # it is killed, with rows that no snapshot holds
    worker.close()
    assert group_findings(rig) == []
    log = rig.broker.log("events", 1)
    log.truncate(log._offsets[-1])
    (finding,) = group_findings(rig)
    assert finding.place == "events-1"
    assert "raise the topic's retention" in finding.remedy
    with pytest.raises(StateError, match="raise the retention"):
        worker_of(rig).run()


def test_an_offset_that_somebody_else_set_is_found(rig: Rig) -> None:
    rig.publish(60)
    rig.work()
    group = rig.broker.group(rig.config.kafka.group_id, "events")
    group._committed["events", 1] = group._committed["events", 1]._replace(metadata="by hand")
    (finding,) = group_findings(rig)
    assert "not committed by ebbtide" in finding.what


def test_two_workers_with_one_transactional_id_do_not_fence_each_other_for_ever(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EBBTIDE_INSTANCE", "the-same")
    workers = [rig.start(), rig.start()]
    with pytest.raises(StateError, match="EBBTIDE_INSTANCE of its own"):
        quarrel(rig, workers)


def quarrel(rig: Rig, workers: list[Worker]) -> None:
    for _ in range(2_000):
        rig.publish(3)
        for worker in workers:
            worker.turn()
            rig.clock.advance(50.0)


def test_producers_that_are_lost_now_and_then_stop_nobody() -> None:
    losses = Losses("group g")
    for minute in range(100):
        for _ in range(LOSSES_MAX - 1):
            losses.note(FencedError("timed out"), 60.0 * minute)
    with pytest.raises(StateError):
        losses.note(FencedError("timed out"), 60.0 * 99 + 1.0)
