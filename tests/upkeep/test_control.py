"""`ebbtide control erase`: a user is forgotten once, whatever happens to the workers, and may come back."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from typer.testing import CliRunner

from stream import cli
from stream.commands import options
from stream.errors import AbortableError, UsageError
from stream.journal import Erase, read_entry
from stream.upkeep.command import erase
from stream.upkeep.verify import verify_group
from stream.worker import Worker
from tests.upkeep.rig import USERS, Rig


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.publish(100)
    return rig


def command(rig: Rig, user: str) -> None:
    erase(rig.client(), rig.config, user, rig.clock)


def users(worker: Worker) -> set[str]:
    tables = [share.engine.table for share in worker.shares.values()]
    return {table.row_id(slot).decode() for table in tables for slot in table.slots().tolist()}


def erasures(rig: Rig) -> list[str]:
    entries = [read_entry(value, place="") for batch in rig.read_all("journal") for value in batch.values]
    return [entry.user_id for entry in entries if isinstance(entry, Erase)]


def turn(rig: Rig, worker: Worker, turns: int = 60) -> None:
    for _ in range(turns):
        worker.turn()
        rig.clock.advance(100.0)


def leave(worker: Worker) -> None:
    worker.stop()
    worker.close()


def test_a_user_is_erased_once_and_may_come_back(rig: Rig) -> None:
    worker = rig.work(leave=False)
    user = sorted(users(worker))[0]
    command(rig, user)
    turn(rig, worker)
    assert user not in users(worker)
    assert erasures(rig) == [user]
    rig.publish(30, [user])
    rig.settle(worker)
    assert user in users(worker)
    leave(worker)
    worker = rig.work(leave=False)  # and the command is still in the topic
    turn(rig, worker)
    assert user in users(worker)
    assert erasures(rig) == [user]
    leave(worker)
    assert [report.wrong for report in verify_group(rig.config, rig.client(), clock=rig.clock)] == [0] * 3


def test_without_its_place_in_the_commit_a_command_would_be_obeyed_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control."""
    worker = rig.work(leave=False)
    user = sorted(users(worker))[0]
    command(rig, user)
    turn(rig, worker)
    rig.publish(30, [user])
    rig.settle(worker)
    leave(worker)
    worker = rig.start()
    while any(share.obeyed is None for share in worker.shares.values()) or not worker.shares:
        worker._poll()
        worker._restore()
    for share in worker.shares.values():
        share._live.control = 0
    turn(rig, worker)
    assert erasures(rig) == [user, user]
    leave(worker)


def test_the_state_topic_forgets_the_user_too(rig: Rig) -> None:
    worker = rig.work(leave=False)
    user = sorted(users(worker))[0]
    command(rig, user)
    turn(rig, worker)
    rig.publish(60, [other for other in USERS if other != user])  # the floor moves on
    rig.settle(worker)
    turn(rig, worker)
    leave(worker)
    state = rig.read("user-state", rig.partition(user))
    said = [value for key, value in zip(state.keys, state.values, strict=True) if key == b"u" + user.encode()]
    assert said[-1] is None


def test_a_command_for_someone_unknown_does_no_harm(rig: Rig) -> None:
    worker = rig.work(leave=False)
    before = users(worker)
    command(rig, "nobody")
    turn(rig, worker)
    assert users(worker) == before
    assert erasures(rig) == ["nobody"]  # by the partition that would have the user
    leave(worker)


def test_an_undone_erasure_is_done_again(rig: Rig) -> None:
    worker = rig.work(leave=False)
    user = sorted(users(worker))[0]
    command(rig, user)
    rig.clock.advance(2_000.0)
    worker._obey()
    assert user not in users(worker)
    worker._recover(AbortableError("struck"))
    assert user in users(worker)
    turn(rig, worker)
    assert user not in users(worker)
    assert erasures(rig) == [user]
    leave(worker)


def test_workers_that_share_the_partitions_obey_for_their_own(rig: Rig) -> None:
    rig.work()
    one, two = rig.start(), rig.start()
    for _ in range(60):
        one.turn()
        two.turn()
        rig.clock.advance(100.0)
    assert one.shares
    assert two.shares
    there = users(one) | users(two)
    for user in sorted(there):
        command(rig, user)
    for _ in range(60):
        one.turn()
        two.turn()
        rig.clock.advance(100.0)
    assert users(one) == users(two) == set()
    assert sorted(erasures(rig)) == sorted(there)
    leave(one)
    turn(rig, two)  # takes over what the other had
    assert sorted(erasures(rig)) == sorted(there)
    leave(two)


def test_a_worker_killed_anywhere_leaves_one_erasure(rig: Rig) -> None:
    worker = rig.work(leave=False)
    user = sorted(users(worker))[0]
    command(rig, user)
    for turns in range(1, 8):
        turn(rig, worker, turns)
        worker._broken = True  # whatever it had not committed is lost
        worker.close()
        rig.clock.advance(30_000.0)
        worker = rig.start()
    turn(rig, worker)
    assert user not in users(worker)
    assert erasures(rig) == [user]
    leave(worker)


def test_what_is_no_command_is_refused_and_the_rest_goes_on(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    worker = rig.work(leave=False)
    publisher = rig.client().publisher()
    publisher.publish("control", [None, None], [b"no json", b'{"command":"bundle","version":"2"}'])
    user = sorted(users(worker))[0]
    command(rig, user)
    with caplog.at_level(logging.WARNING):
        turn(rig, worker)
    assert "a command is refused" in caplog.text
    assert user not in users(worker)
    assert user not in caplog.text
    leave(worker)


def test_a_group_without_a_control_topic_works() -> None:
    rig = Rig()
    del rig.broker._topics["control"]
    rig.publish(50)
    rig.work()
    with pytest.raises(UsageError, match="no such topic"):
        command(rig, "anybody")


def test_the_command_line(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "read_config", lambda path: rig.config)
    monkeypatch.setattr(options, "open_broker", lambda config: rig.client())

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, ["control", *arguments, "--config", "c.toml"], prog_name="ebbtide")

    done = run("erase", "user-1")
    assert done.exit_code == 0, done.output
    (batch,) = rig.read_all("control")
    assert batch.values == [b'{"command":"erase","user_id":"user-1"}']
    assert run("erase", "x" * 129).exit_code == 2
