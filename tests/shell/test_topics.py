"""What topics should be like: what is planned passes judgement, and every way to be wrong is named."""

from __future__ import annotations

import pytest

from stream.broker import Topic
from stream.config_load import parse_config
from stream.topics import AFTER_MAX_MS, PARTITIONS_DEFAULT, SHAPES, Finding, judge, plan, topic_names

CONFIG = parse_config({"topics": {"events": "clicks"}})


def planned(partitions: int | None = 3) -> dict[str, Topic | None]:
    return {topic.name: topic for topic in plan(CONFIG, {}, partitions=partitions)}


def judged(name: str, **changes: object) -> list[Finding]:
    """Judge the planned topics with one of them changed; its configs are merged."""
    found = planned()
    topic = found[name]
    assert topic is not None
    configs = {**topic.configs, **changes.pop("configs", {})}  # type: ignore[dict-item]
    found[name] = topic._replace(configs=configs, **changes)  # type: ignore[arg-type]
    return list(judge(CONFIG, found))


def test_every_topic_of_the_config_has_a_shape() -> None:
    assert set(topic_names(CONFIG).values()) == {"clicks", *(getattr(CONFIG.topics, s.role) for s in SHAPES)}
    assert [shape.role for shape in SHAPES] == list(type(CONFIG.topics).__struct_fields__)


def test_what_is_planned_passes_judgement() -> None:
    assert list(judge(CONFIG, planned())) == []


def test_outputs_have_as_many_partitions_as_the_events_and_items_one() -> None:
    counts = {name: topic.partitions for name, topic in planned().items() if topic}
    assert counts.pop("items") == counts.pop("control") == 1
    assert set(counts.values()) == {3}
    assert planned(None)["clicks"] == planned(PARTITIONS_DEFAULT)["clicks"]


def test_only_what_is_missing_is_planned_and_the_events_that_are_there_decide() -> None:
    events = Topic("clicks", 5, configs={"max.message.bytes": "3000000"})
    missing = plan(
        CONFIG, {"clicks": events, "lifecycle": Topic("lifecycle", 5)}, partitions=2, replication=3
    )
    by_name = {topic.name: topic for topic in missing}
    assert "clicks" not in by_name
    assert "lifecycle" not in by_name
    assert (by_name["journal"].partitions, by_name["journal"].replication) == (5, 3)
    assert int(by_name["dead-letters"].configs["max.message.bytes"]) > 3_000_000


def test_a_missing_topic_is_a_fault_and_one_that_a_worker_can_do_without_a_note() -> None:
    findings = {finding.place: finding for finding in judge(CONFIG, {})}
    assert set(findings) == set(topic_names(CONFIG).values())
    assert {name for name, finding in findings.items() if finding.note} == {"items", "control"}
    assert "--create" in findings["clicks"].remedy


@pytest.mark.parametrize("name", ["recommendations", "user-state", "journal", "items"])
def test_a_wrong_number_of_partitions(name: str) -> None:
    (finding,) = judged(name, partitions=4)
    assert finding.place == name
    assert "4 partitions" in finding.what
    assert ("repartition" in finding.remedy) is (name in ("user-state", "journal"))


@pytest.mark.parametrize("name", list(topic_names(CONFIG).values()))
def test_a_wrong_cleanup_policy(name: str) -> None:
    right = planned()[name]
    assert right is not None
    wrong = "compact" if right.configs["cleanup.policy"] == "delete" else "compact,delete"
    (finding,) = judged(name, configs={"cleanup.policy": wrong})
    assert (finding.place, wrong in finding.what) == (name, True)
    assert finding.remedy == f"set cleanup.policy={right.configs['cleanup.policy']}"


def test_timestamps_from_the_future_need_a_guard() -> None:
    name = "message.timestamp.after.max.ms"
    assert judged("clicks", configs={name: str(AFTER_MAX_MS)}) == []
    (finding,) = judged("clicks", configs={name: str(AFTER_MAX_MS + 1)})
    assert "LogAppendTime" in finding.remedy
    assert judged("clicks", configs={name: str(2**63 - 1), "message.timestamp.type": "LogAppendTime"}) == []
    topic = Topic("clicks", 3)
    assert [f.place for f in judge(CONFIG, planned() | {"clicks": topic})] == ["clicks"]


def test_dead_letters_have_room_for_the_largest_record() -> None:
    (finding,) = judged("clicks", configs={"max.message.bytes": "5000000"})
    assert finding.place == "dead-letters"
    assert "5000000" in finding.what


@pytest.mark.parametrize(
    ("events", "journal", "wrong"),
    [
        ("604800000", "604800000", False),
        ("604800000", "604799999", True),
        ("-1", "604800000", True),
        ("-1", "-1", False),
    ],
)
def test_the_journal_is_kept_as_long_as_the_events(events: str, journal: str, wrong: bool) -> None:
    found = planned()
    for name, retention in (("clicks", events), ("journal", journal)):
        topic = found[name]
        assert topic is not None
        found[name] = topic._replace(configs={**topic.configs, "retention.ms": retention})
    assert [finding.place for finding in judge(CONFIG, found)] == ["journal"] * wrong


def test_the_journal_has_no_limit_in_bytes() -> None:
    (finding,) = judged("journal", configs={"retention.bytes": "1000"})
    assert finding.place == "journal"
