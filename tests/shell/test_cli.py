"""The command line: help that teaches, errors in sentences, and the exit codes that it promises."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from stream import cli
from stream.errors import BrokerError, EbbtideError, InvariantError, UsageError

COMMANDS = (
    "demo", "init", "replay", "check", "topics", "run", "explain", "user", "verify", "schema",
    "dlq", "control", "rekey", "repartition",
)  # fmt: skip

#: What serving needs and `--help` does not. Importing these takes seconds on a busy machine.
HEAVY = ("numba", "onnxruntime", "numpy", "confluent_kafka", "torch", "faust")

EVENT = b'{"user_id": "u", "event_type": "view", "event_time": 1700000000000}\n'


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], prog_name="ebbtide")


def run_process(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would, warnings being errors."""
    program = "from stream.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
        check=False,
    )


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for the engine: note what `replay` is asked to do."""
    calls: list[dict[str, Any]] = []

    def replay(*arguments: Any) -> SimpleNamespace:
        names = ("input", "out", "config", "bundle", "model", "now_ms", "items", "progress")
        calls.append(dict(zip(names, arguments, strict=True)))
        return SimpleNamespace(
            records_in=1_003, accepted=1_000, duplicates=1, dead_letters={"empty": 2, "not_json": 0}, users=7,
            transitions={"none>new": 7, "new>retained": 3}, alerts={"opened": 4}, watermark=0, seconds=0.5,
            events_per_second=2_006.0,
        )  # fmt: skip

    fake = ModuleType("stream.replay")
    fake.replay = replay  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stream.replay", fake)
    return calls


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(EVENT)
    return path


# Help.


def test_help_teaches_the_tool_its_first_commands_and_its_exit_codes() -> None:
    text = " ".join(run("--help").output.replace("│", " ").split())
    for word in ("Kafka", "ebbtide demo", "ebbtide init", "ebbtide replay", "Exit codes: 0", *COMMANDS):
        assert word in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_its_own(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"ebbtide {command}" in result.output
    assert len(result.output.splitlines()) > 8


def test_without_a_command_help_is_shown_and_the_usage_was_wrong() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Usage: ebbtide" in result.output


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("ebbtide 0.")


def test_help_imports_nothing_that_only_serving_needs() -> None:
    program = (
        "import sys, atexit; from stream.cli import main\n"
        f"atexit.register(lambda: print([*set({HEAVY}) & set(sys.modules)], file=sys.stderr))\n"
        "main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, "replay", "--help"], capture_output=True, text=True, check=True
    )
    assert result.stderr.strip() == "[]"


# Exit codes and errors, with a command that fails as it is told.


def fail_with(error: BaseException, *options: str) -> Any:
    app = typer.Typer(cls=cli.Commands, pretty_exceptions_enable=False)
    app.callback()(cli.ebbtide)

    @app.command()
    def fails() -> None:
        raise error

    return CliRunner().invoke(app, [*options, "fails"], prog_name="ebbtide")


def test_an_error_of_the_domain_is_a_sentence_and_its_exit_code() -> None:
    result = fail_with(BrokerError("no broker answers", place="localhost:9092", remedy="start it"))
    assert result.exit_code == 1
    assert result.stderr == "error: localhost:9092: no broker answers\n  → start it\n"
    assert result.stdout == ""


def test_wrong_usage_points_to_the_help() -> None:
    result = fail_with(UsageError("it cannot be"))
    assert result.exit_code == 2
    assert result.stderr == "error: it cannot be\nhelp: ebbtide fails --help\n"


def test_debug_shows_the_traceback_too() -> None:
    result = fail_with(InvariantError("two and two are five"), "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: two and two are five\n")


def test_a_full_disk_is_a_fault_and_no_defect() -> None:
    result = fail_with(OSError(28, "No space left on device", "out/users.jsonl"))
    assert result.exit_code == 1
    assert result.stderr == "error: out/users.jsonl: No space left on device\n"


def test_a_defect_shows_itself() -> None:
    result = fail_with(ZeroDivisionError("defect"))
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("kind", [EbbtideError, *EbbtideError.__subclasses__()])
def test_every_error_ends_with_one_of_the_exit_codes_of_the_help(kind: type[EbbtideError]) -> None:
    assert kind.exit_code in (1, 2)
    assert f"exit {kind.exit_code}" in str(cli.__doc__)


# Replay.


def test_replay_hands_on_what_it_was_asked(
    replayed: list[dict[str, Any]], events: Path, tmp_path: Path
) -> None:
    config, items, out, bundle = (
        tmp_path / "c.toml",
        tmp_path / "items.jsonl",
        tmp_path / "out",
        tmp_path / "b",
    )
    config.write_text('preset = "news"')
    items.touch()
    bundle.mkdir()
    paths = ("--input", events, "--out", out, "--config", config, "--items", items, "--bundle", bundle)
    result = run("replay", *paths, "--now", 5, "--progress")
    assert result.exit_code == 0, result.output
    (call,) = replayed
    assert call["config"].preset == "news"
    del call["config"]
    assert call == {
        "input": str(events), "out": out, "bundle": bundle, "model": True, "now_ms": 5, "items": items,
        "progress": True,
    }  # fmt: skip


def test_replay_says_what_adds_up(replayed: list[dict[str, Any]], events: Path, tmp_path: Path) -> None:
    result = run("replay", "-i", events, "-o", tmp_path / "out", "--no-model")
    assert result.output.splitlines()[:2] == [
        "records in 1,003 = accepted 1,000 + duplicates 1 + dead letters 2 (empty 2)",
        "users 7; transitions 10; alerts opened 4",
    ]
    assert (replayed[0]["bundle"], replayed[0]["model"]) == (None, False)
    assert replayed[0]["progress"] is False


def test_replay_takes_the_bundle_of_the_config(
    replayed: list[dict[str, Any]], events: Path, tmp_path: Path
) -> None:
    config, bundle = tmp_path / "c.toml", tmp_path / "model"
    config.write_text('[bundle]\npath = "model"')
    assert run("replay", "-i", events, "-o", tmp_path / "out", "-c", config).exit_code == 2
    bundle.mkdir()
    assert run("replay", "-i", events, "-o", tmp_path / "out", "-c", config).exit_code == 0
    assert run("replay", "-i", events, "-o", tmp_path / "out", "-c", config, "--no-model").exit_code == 0
    assert [call["bundle"] for call in replayed] == [bundle, None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("--bundle", "--no-model")),
        (("--no-model", "--bundle", "."), ("--bundle", "--no-model", "exclude")),
        (("--bundle", "nowhere"), ("--bundle", "nowhere")),
        (("--no-model", "--config", "nowhere"), ("nowhere", "no such file", "ebbtide init")),
        (("--no-model", "--input", "nowhere"), ("--input", "nowhere")),
        (("--no-model", "--input", "."), ("--input", "folder")),
        (("--no-model", "--items", "nowhere"), ("--items", "nowhere")),
        (("--no-model", "--now", "today"), ("--now", "replay --help")),
        (("--no-model", "--nonsense"), ("--nonsense",)),
    ],
)
def test_wrong_usage_names_the_options_and_begins_nothing(
    replayed: list[dict[str, Any]],
    events: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    result = run("replay", "--input", events, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr
    assert not replayed
    assert not (tmp_path / "out").exists()


# The others' borders.


def test_demo_takes_one_kafka(tmp_path: Path) -> None:
    result = run("demo", "--kafka", "localhost:1", "--kafka-home", tmp_path)
    assert (result.exit_code, "exclude each other" in result.stderr) == (2, True)
    assert "has no libs folder" in run("demo", "--kafka-home", tmp_path).stderr


def test_schema_prints_one_or_all_and_with_a_config_its_kinds(tmp_path: Path) -> None:
    everything = json.loads(run("schema").output)
    assert {"events", "recommendations", "lifecycle", "churn-alerts", "users.jsonl"} <= set(everything)
    assert json.loads(run("schema", "lifecycle").output) == everything["lifecycle"]
    wrong = run("schema", "lifecycel")
    assert (wrong.exit_code, 'did you mean "lifecycle"?' in wrong.stderr) == (2, True)
    config = tmp_path / "c.toml"
    config.write_text('[events]\nkinds = { glimpse = "engagement" }\nfields = { user_id = "uid" }\n')
    events = run("schema", "events", "--config", config).output
    assert "glimpse" in events
    assert '"uid"' in events


@pytest.mark.parametrize("command", ["run", "check", "topics"])
def test_what_runs_on_kafka_needs_a_config(command: str, tmp_path: Path) -> None:
    assert run(command).exit_code == 2
    broken = tmp_path / "c.toml"
    broken.write_text("[time]\nsesion_gap = 5\n[http]\nport = -1\n")
    result = run(command, "--config", broken)
    assert result.exit_code == 2
    assert "time.sesion_gap" in result.stderr
    assert "http.port" in result.stderr


def test_init_writes_once_and_never_over_a_file(tmp_path: Path) -> None:
    out = tmp_path / "shop.toml"
    first = run("init", "--preset", "video", "--out", out)
    assert first.exit_code == 0
    assert f"ebbtide replay --config {out}" in first.output
    text = out.read_text(encoding="utf-8")
    assert 'preset = "video"' in text
    again = run("init", "--out", out)
    assert (again.exit_code, out.read_text(encoding="utf-8")) == (2, text)
    assert "--force" in again.stderr
    assert run("init", "--out", out, "--force").exit_code == 0
    assert 'preset = "e-commerce"' in out.read_text(encoding="utf-8")
    assert 'did you mean "news"?' in run("init", "--preset", "nws", "--out", out).stderr
    assert run("init", "--out", "-", "--preset", "video").stdout == text


def test_what_init_writes_runs(replayed: list[dict[str, Any]], events: Path, tmp_path: Path) -> None:
    assert run("init", "--out", tmp_path / "c.toml").exit_code == 0
    result = run("replay", "-c", tmp_path / "c.toml", "-i", events, "-o", tmp_path / "out", "--no-model")
    assert result.exit_code == 0, result.output


# Real processes.


def test_exit_codes_of_a_process(tmp_path: Path, events: Path) -> None:
    events.write_bytes(EVENT + b"not json\n")
    done = run_process("replay", "-i", events, "-o", "out", "--no-model", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "summary.json").read_bytes())["dead_letters"] == {"not_json": 1}

    wrong = run_process("replay", "-i", events, "-o", "out", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--no-model" in wrong.stderr
    assert "Traceback" not in wrong.stderr

    (tmp_path / "broken.jsonl.gz").write_bytes(b"\x1f\x8b\x08 no more than a beginning")
    fault = run_process("replay", "-i", "broken.jsonl.gz", "-o", "out", "--no-model", cwd=tmp_path)
    assert fault.returncode == 1
    assert fault.stderr.startswith("error: broken.jsonl.gz")
    assert "Traceback" not in fault.stderr
