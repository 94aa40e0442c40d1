"""`ebbtide control roll-out`: workers go over to another bundle, and nothing is lost or doubled."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from export.random_bundle import random_bundle
from stream import cli
from stream.bundle import Bundle, open_bundle
from stream.commands import options
from stream.errors import AbortableError
from stream.journal import ModelChange, read_entry
from stream.upkeep.command import roll_out
from stream.upkeep.verify import verify_group
from stream.worker import Worker
from tests.upkeep.rig import SETTINGS, Rig

ITEMS = [f"item-{i}" for i in range(40)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two bundles of different encoders."""
    folder, kinds = tmp_path_factory.mktemp("bundles"), tuple(SETTINGS["events"]["kinds"])
    random_bundle(folder / "old", kinds, items=ITEMS)
    random_bundle(folder / "new", kinds, items=ITEMS[::-1], encoder="cnn", seed=9)
    return folder / "old", folder / "new"


class World:
    """A group whose config names a link to a bundle, and which has worked."""

    def __init__(self, bundles: tuple[Path, Path], link: Path, began_ms: int | None = None) -> None:
        self.old, self.new = bundles
        self.link = link
        self.point(self.old)
        self.versions = [open_bundle(path).version for path in bundles]
        self.rig = Rig(bundle=Bundle(link, *open_bundle(link)[1:]))
        self.rig._now_ms = began_ms or self.rig._now_ms
        self.rig.publish(100)

    def point(self, path: Path) -> None:
        """Turn the link, as who rolls out does."""
        turned = self.link.with_suffix(".turned")
        turned.symlink_to(path)
        turned.rename(self.link)

    def command(self, version: str | None = None) -> None:
        version = version or open_bundle(self.link).version
        roll_out(self.rig.client(), self.rig.config, version, self.rig.clock)

    def turn(self, *workers: Worker, turns: int = 60) -> None:
        for _ in range(turns):
            for worker in workers:
                worker.turn()
            self.rig.clock.advance(100.0)

    def restart(self) -> Worker:
        self.rig.bundle = open_bundle(self.link)
        return self.rig.start()

    def end(self, worker: Worker) -> None:
        """Let a worker fold what comes next and leave, and check."""
        self.rig.publish(60)
        self.rig.settle(worker)
        leave(worker)
        self.check()

    def check(self) -> None:
        """Hold everything against the log: each list once, the old bundle's before the new one's."""
        assert [
            report.wrong for report in verify_group(self.rig.config, self.rig.client(), clock=self.rig.clock)
        ] == [0] * self.rig.partitions
        seen = set()
        for batch in self.rig.read_all("recommendations"):
            made = [json.loads(value or b"") for value in batch.values]
            assert max(Counter(one["rec_id"] for one in made).values(), default=1) == 1
            order = [self.versions.index(one["bundle"]) for one in made]
            assert order == sorted(order)
            seen |= set(order)
        assert seen == {0, 1}

    def changes(self) -> list[tuple[str | None, str | None]]:
        values = [value for batch in self.rig.read_all("journal") for value in batch.values]
        entries = [read_entry(value, place="") for value in values]
        return [(one.before, one.after) for one in entries if isinstance(one, ModelChange)]


@pytest.fixture
def world(bundles: tuple[Path, Path], tmp_path: Path) -> World:
    return World(bundles, tmp_path / "bundle")


def leave(worker: Worker) -> None:
    worker.stop()
    worker.close()


def running(worker: Worker) -> str:
    assert worker.workshop.model is not None
    return worker.workshop.model.version


def test_a_worker_goes_over_while_it_stays_in_the_group(world: World) -> None:
    worker = world.rig.work(leave=False)
    held = dict(worker.shares)
    world.point(world.new)
    world.command()
    world.turn(worker)
    assert running(worker) == world.versions[1]
    assert worker.shares.keys() == held.keys()
    over = dict(worker.shares)
    world.turn(worker)
    assert worker.shares == over  # once
    world.rig.publish(100)
    world.rig.settle(worker)
    leave(worker)
    assert world.changes() == [tuple(world.versions)] * world.rig.partitions
    world.check()


def test_states_and_lists_are_those_of_a_restart(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """The same events, once with a roll-out and once with a restart."""
    made: list[Any] = []
    began_ms = Rig()._now_ms
    for way in ("command", "restart"):
        world = World(bundles, tmp_path / way, began_ms)
        worker = world.rig.work(leave=False)
        world.point(world.new)
        if way == "command":
            world.command()
            world.turn(worker)
        else:
            leave(worker)
            worker = world.restart()
        world.rig.publish(100)
        world.rig.settle(worker)
        leave(worker)
        world.check()
        lists = [
            json.loads(value or b"")
            for batch in world.rig.read_all("recommendations")
            for value in batch.values
        ]
        made.append([(one["user_id"], one["bundle"], one["items"]) for one in lists])
    assert made[0] == made[1]


def test_both_workers_of_a_group_go_over(world: World) -> None:
    world.rig.work()
    one, two = world.rig.start(), world.rig.start()
    world.turn(one, two)
    assert one.shares
    assert two.shares
    world.point(world.new)
    world.command()
    world.rig.publish(60)
    world.turn(one, two)
    assert running(one) == running(two) == world.versions[1]
    world.rig.publish(60)
    world.turn(one, two, turns=100)
    leave(one)
    world.turn(two)
    leave(two)
    world.check()


def test_a_commit_that_fails_on_the_way_puts_the_roll_out_off(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = world.rig.work(leave=False)
    world.point(world.new)
    world.command()
    world.rig.clock.advance(2_000.0)
    with monkeypatch.context() as patched:
        patched.setattr(Worker, "commit", strike)
        world.rig.publish(20)
        worker.turn()
        worker.turn()
        assert running(worker) == world.versions[0]
    world.turn(worker)
    assert running(worker) == world.versions[1]
    world.end(worker)


def strike(worker: Worker) -> None:
    raise AbortableError("struck")


@pytest.mark.parametrize("turns", range(1, 9))
def test_a_worker_killed_on_the_way_loses_and_doubles_nothing(world: World, turns: int) -> None:
    worker = world.rig.work(leave=False)
    world.point(world.new)
    world.command()
    world.rig.publish(40)
    world.rig.clock.advance(2_000.0)
    world.turn(worker, turns=turns)
    worker._broken = True  # whatever it had not committed is lost
    worker.close()
    world.rig.clock.advance(30_000.0)
    was = worker.workshop.model.version if worker.workshop.model else ""
    world.point(world.new if was == world.versions[1] else world.old)  # what it left rows to replay with
    worker = world.restart()
    world.turn(worker)
    world.point(world.new)
    world.command()
    world.turn(worker)
    assert running(worker) == world.versions[1]
    world.end(worker)


def test_what_is_not_there_or_will_not_do_is_refused(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = world.rig.work(leave=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    with caplog.at_level(logging.WARNING):
        world.command("another-version")
        world.turn(worker)
        assert "it is of another-version" in caplog.text
        world.point(empty)
        world.command("another-version")
        world.turn(worker)
        assert "manifest.json: cannot be read" in caplog.text
    assert running(worker) == world.versions[0]
    world.point(world.old)
    world.command()  # what runs already
    world.turn(worker)
    world.rig.publish(40)
    world.rig.settle(worker)
    leave(worker)
    assert world.changes() == []


def test_a_group_without_a_model_keeps_it_so(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.publish(40)
    worker = rig.work(leave=False)
    roll_out(rig.client(), rig.config, "1", rig.clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            worker.turn()
            rig.clock.advance(100.0)
    assert "the config names no bundle" in caplog.text
    leave(worker)


def test_the_command_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "read_config", lambda path: world.rig.config)
    monkeypatch.setattr(options, "open_broker", lambda config: world.rig.client())
    done = CliRunner().invoke(cli.app, ["control", "roll-out", "--config", "c.toml"], prog_name="ebbtide")
    assert done.exit_code == 0, done.output
    (batch,) = world.rig.read_all("control")
    assert json.loads(batch.values[0] or b"") == {"command": "bundle", "version": world.versions[0]}
