"""A rehearsal compiles what a worker runs, touches nothing that lasts, and ends before the worker joins."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from export.random_bundle import random_bundle
from stream import assembly, rehearsal
from stream.bundle import Bundle
from stream.config import Config
from stream.config_load import parse_config, preset_names
from stream.errors import StateError
from stream.http import HttpServer
from stream.rehearsal import play, rehearse
from stream.testing import MemoryBroker, MemoryClient
from stream.topics import plan, topic_names
from stream.worker import Worker

#: Where silence leads.
STAGES = ("at_risk", "dormant", "churned", "forgotten")

#: What a fresh process has not loaded when the rehearsal is over, if a part of the demo still loads it.
LOADED_LATER = """
import gc, sys
from pathlib import Path
from numba.core.dispatcher import Dispatcher
from stream import rehearsal
from stream.demo import journey, run

def loaded():
    ours = (d for d in gc.get_objects() if isinstance(d, Dispatcher) and d.__module__.startswith("stream"))
    return {f"{d.__module__}.{d.__name__}": len(d.signatures) for d in ours}

if REHEARSED:
    rehearsal.main()
before = loaded()
lines = journey.lines()[:3000]
journey.lines = lambda: lines
run.run_demo(out=Path(sys.argv[1]), kafka=None, kafka_home=None, speed=None)
print("LATER", sorted(name for name, count in loaded().items() if count > before.get(name, 0)))
print("BEFORE", sorted(name for name, count in before.items() if count))
"""


def loads(folder: Path, *, rehearsed: bool) -> dict[str, str]:
    program = LOADED_LATER.replace("REHEARSED", str(rehearsed))
    ran = subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return {when: names for when, _, names in (line.partition(" ") for line in ran.stdout.splitlines())}


def test_a_worker_loads_nothing_that_the_rehearsal_has_not_loaded(tmp_path: Path) -> None:
    rehearsed = loads(tmp_path, rehearsed=True)
    assert rehearsed["LATER"] == "[]"
    # The demo's bundle has no neighbours: what others' have is loaded all the same.
    names = ("scorer.raise_best", "co_occurrence.raise_neighbours", "repeats.raise_repeats")
    for name in (f"stream.{name}" for name in names):
        assert name in rehearsed["BEFORE"]
    unrehearsed = loads(tmp_path, rehearsed=False)
    assert all(name in unrehearsed["LATER"] for name in ("stream.core.fold.fold", "stream.scorer.keep_best"))


@pytest.mark.parametrize(
    "worker",
    [
        {"users_max": 100},
        {"batch_records_max": 1},
        {"timers_max": 1},
        {"stall_after": "1ms"},
        {"dead_letters_share_max": 0.0001, "alerts_share_per_hour_max": 0.0001},
        {"emit_from": "2099-01-01T00:00:00Z"},
    ],
    ids=str,
)
def test_no_limit_of_a_worker_stops_a_rehearsal(
    worker: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[MemoryBroker] = []

    class Kept(MemoryBroker):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            made.append(self)

    monkeypatch.setattr(rehearsal, "MemoryBroker", Kept)
    config = parse_config({"worker": worker})
    play(config, None)
    (broker,) = made

    def values(role: str) -> list[bytes | None]:
        return broker.log(topic_names(config)[role], 0).read(0, 10 * rehearsal.USERS)[0].values

    assert len(values("dead_letters")) == 2
    lives = Counter(msgspec.json.decode(value)["to"] for value in values("lifecycle") if value)
    # Everyone came and was forgotten; the first came once more.
    assert lives == {"new": rehearsal.USERS + 1} | dict.fromkeys(STAGES, rehearsal.USERS)


def test_a_rehearsal_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "TURNS_MAX", 1)
    with pytest.raises(TimeoutError, match="not folded after 1 turns"):
        play(parse_config({"worker": {"batch_records_max": 1}}), None)


def test_a_rehearsal_that_fails_says_so_and_the_start_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rehearsal, "TURNS_MAX", 0)
    rehearse(parse_config({}), None)
    warned = [record for record in caplog.records if record.name == "ebbtide"]
    assert [record.levelname for record in warned] == ["WARNING"]
    assert "the rehearsal failed" in warned[0].getMessage()
    assert not rehearsal.log.disabled


@pytest.mark.parametrize("preset", preset_names())
def test_any_config_can_be_rehearsed_and_nothing_is_logged_or_kept(
    preset: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = {
        "preset": preset,
        "events": {"fields": {"event_time": "timestamp", "item_id": "sku"}},
        "worker": {
            "guarantee": "at-least-once",
            "batch_records_max": 100,
            "checkpoint_dir": str(tmp_path / "checkpoints"),
        },
    }
    config = parse_config(tree)
    caplog.set_level(logging.INFO, logger="ebbtide")
    rehearse(config, None)
    if preset == "video":
        rehearse(config, random_bundle(tmp_path / "b", list(config.events.kinds), items=20, neighbours=3))
    assert not [record for record in caplog.records if record.name == "ebbtide"]
    assert not (tmp_path / "checkpoints").exists()
    assert not rehearsal.log.disabled


def test_nothing_of_a_rehearsal_stays_in_memory() -> None:
    before = {id(broker) for broker in brokers()}
    gc.disable()  # nothing is collected by chance
    try:
        rehearse(parse_config({}), None)
        assert not [broker for broker in brokers() if id(broker) not in before]
    finally:
        gc.enable()


def brokers() -> list[MemoryBroker]:
    return [one for one in gc.get_objects() if type(one) is MemoryBroker]


def test_a_worker_rehearses_with_its_bundle_before_it_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()
    came: list[str] = []

    def note(config: Config, bundle: Bundle | None) -> None:
        assert not any(group.members for group in broker.groups())
        came.append(f"rehearsed {bundle.version if bundle else ''}")

    bundle = random_bundle(tmp_path / "b", ["view"], items=20)
    config = parse_config(
        {
            "events": {"kinds": {"view": "engagement"}},
            "bundle": {"path": str(bundle.path)},
            "http": {"port": 0},
        }
    )
    client = MemoryClient(broker, assembly.identify(config))
    client.admin().create(plan(config, dict.fromkeys(topic_names(config).values()), partitions=1))
    monkeypatch.setattr(assembly, "connect", lambda config: client)
    monkeypatch.setattr(assembly, "log_to_stderr", lambda: None)
    monkeypatch.setattr(assembly, "rehearse", note)
    monkeypatch.setattr(Worker, "run", lambda worker: came.append("ran"))
    before = signal.getsignal(signal.SIGTERM)
    assembly.run(config)
    assert came == [f"rehearsed {bundle.version}", "ran"]
    assert signal.getsignal(signal.SIGTERM) is before

    def fail(worker: Worker) -> None:
        raise StateError("the state is cut")

    def gone(code: int) -> None:
        raise AssertionError(f"ended with {code}, as if all were well")

    def close(server: HttpServer, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # while a worker that failed is being taken down

    monkeypatch.setattr(Worker, "run", fail)
    monkeypatch.setattr(HttpServer, "__exit__", close)
    monkeypatch.setattr(os, "_exit", gone)
    with pytest.raises(StateError, match="the state is cut"):
        assembly.run(config)
