"""`ebbtide check` and `ebbtide topics`: what they ask, what they say, and what they leave alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from stream import cli, kafka_settings
from stream.broker import LogRange, Topic
from stream.commands import options
from stream.config_load import parse_config
from stream.config_tables import CLIENT_RESERVED
from stream.errors import RetriableError
from stream.topics import plan


class FakeBroker:
    """A broker of which only the topics are known; `down` answers nothing."""

    def __init__(self, topics: Sequence[Topic] = (), *, down: bool = False) -> None:
        self.topics = {topic.name: topic for topic in topics}
        self.down = down
        self.open = 0

    def admin(self) -> FakeBroker:
        self.open += 1
        return self

    def describe(self, names: Collection[str]) -> dict[str, Topic | None]:
        if self.down:
            raise RetriableError("no broker answers", remedy="see kafka.bootstrap_servers")
        return {name: self.topics.get(name) for name in names}

    def create(self, topics: Sequence[Topic]) -> None:
        self.topics |= {topic.name: topic for topic in topics}

    def ranges(self, topic: str, partitions: Collection[int]) -> dict[int, LogRange]:
        return {partition: LogRange(0, 0) for partition in partitions}

    def source(self) -> FakeBroker:
        self.open += 1
        return self

    def committed(self, partitions: Collection[int]) -> dict[int, None]:
        return dict.fromkeys(partitions)

    def close(self) -> None:
        self.open -= 1


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text("[kafka]\nbootstrap_servers = 'k:9092'\n")
    return path


def run(monkeypatch: pytest.MonkeyPatch, broker: FakeBroker, *arguments: Any) -> Any:
    monkeypatch.setattr(options, "open_broker", lambda config: broker)
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), prog_name="ebbtide")
    assert broker.open == 0, "what was opened is closed"
    return result


def test_topics_shows_and_creates(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    broker = FakeBroker([Topic("events", 5)])
    shown = run(monkeypatch, broker, "topics", "--config", config)
    assert shown.exit_code == 0
    assert "8 missing" in shown.output
    assert set(broker.topics) == {"events"}
    created = run(monkeypatch, broker, "topics", "--config", config, "--create", "--partitions", 2)
    assert created.exit_code == 0
    assert created.output.count("created") == 8
    assert "missing" not in created.output
    assert broker.topics["events"] == Topic("events", 5)
    assert broker.topics["journal"].partitions == 5
    assert "created" not in run(monkeypatch, broker, "topics", "--config", config, "--create").output


def test_check_is_content_with_what_topics_made(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    broker = FakeBroker()
    assert run(monkeypatch, broker, "topics", "--config", config, "--create").exit_code == 0
    result = run(monkeypatch, broker, "check", "--config", config)
    assert result.exit_code == 0, result.output
    assert "WRONG" not in result.output
    assert "note: bundle.path" in result.output


def test_check_says_everything_that_is_wrong_at_once(
    monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path
) -> None:
    config.write_text('[bundle]\npath = "nowhere"\n')
    topics = [
        topic._replace(configs={**topic.configs, "cleanup.policy": "delete", "retention.ms": "1000"})
        for topic in plan(parse_config(), {})
        if topic.name != "lifecycle"
    ]
    result = run(monkeypatch, FakeBroker(topics), "check", "--config", config)
    assert result.exit_code == 1
    assert "bundle   WRONG" in result.output
    assert "topics   WRONG" in result.output
    for place in (
        str(tmp_path / "nowhere"),
        "lifecycle: there is no such topic",
        "user-state: cleanup.policy",
    ):
        assert place in result.output
    assert result.output.count("→") >= 3
    assert "to mend before a worker can start" in result.stderr


def test_check_names_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    result = run(monkeypatch, FakeBroker(down=True), "check", "--config", config)
    assert result.exit_code == 1
    assert "k:9092: no broker answers" in result.output


def test_a_model_of_risk_needs_a_bundle(monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    config.write_text('[lifecycle]\nrisk = "model"\n')
    result = run(monkeypatch, FakeBroker(plan(parse_config(), {})), "check", "--config", config)
    assert result.exit_code == 1
    assert "lifecycle.risk" in result.output


def test_settings_that_librdkafka_refuses_are_all_named(config: Path) -> None:
    settings = '"sasl.mechansim" = "PLAIN"\n"fetch.mn.bytes" = 5\n"acks.more" = "x"\n"fetch.min.bytes" = 1\n'
    config.write_text(f"[kafka.client]\n{settings}")
    for command in ("topics", "run", "check"):
        result = CliRunner().invoke(cli.app, [command, "--config", str(config)])
        assert result.exit_code == (1 if command == "check" else 2)
        for name in ("sasl.mechansim", "fetch.mn.bytes", "acks.more"):
            assert f'kafka.client."{name}"' in result.output
        assert "fetch.min.bytes" not in result.output


def test_what_the_clients_rest_on_cannot_be_set_in_the_config() -> None:
    fixed = {*kafka_settings._CONSUMER_FIXED, *kafka_settings._PRODUCER_FIXED}
    fixed |= (
        kafka_settings.sink_settings("", "t", {}).keys() - kafka_settings.publisher_settings("", {}).keys()
    )
    assert fixed <= set(CLIENT_RESERVED)
