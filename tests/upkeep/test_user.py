"""`ebbtide user`: the row is the committed one, and a rebuilt one is what was committed then."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from export.random_bundle import random_bundle
from stream import cli
from stream.bundle import Bundle
from stream.commands import options
from stream.errors import UsageError
from stream.rows import read_rows
from stream.upkeep.user import Look, Looker
from stream.wire import UserRow
from tests.upkeep.rig import SETTINGS, USERS, Rig
from tests.upkeep.test_verify import rested


def look(rig: Rig, user: str, at: int | None = None, **how: Any) -> Look:
    return Looker(rig.config, rig.client(), user, rig.clock).look(at, **how)


def rows(rig: Rig) -> dict[str, UserRow]:
    """Return all users as a worker holds them."""
    worker = rig.work(leave=False)
    found = {}
    for share in worker.shares.values():
        table = share.engine.table
        slots = table.slots()
        ids = [table.row_id(slot) for slot in slots.tolist()]
        found.update(
            {r.user_id: r for r in read_rows(share.engine, rig.config, share.engine.items, slots, ids)}
        )
    worker.stop()
    worker.close()
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    kinds = tuple(SETTINGS["events"]["kinds"])
    return random_bundle(
        tmp_path_factory.mktemp("bundle") / "b", kinds, items=[f"item-{i}" for i in range(40)]
    )


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.publish(240)
    rig.work()
    return rig


def test_every_user_is_shown_as_committed_and_as_the_log_says(rig: Rig) -> None:
    users = rows(rig)
    assert len(users) > 3
    for user, row in users.items():
        shown = look(rig, user)
        assert shown.committed
        assert shown.explanation.user == row
        assert shown.notes == []  # the fold of the log gives the same row
        told = [t for batch in rig.read_all("lifecycle") for t in own(batch, user)]
        assert [msgspec.to_builtins(t) for t in shown.explanation.transitions] == told


def own(batch: Any, user: str) -> list[Any]:
    pairs = zip(batch.keys, batch.values, strict=True)
    return [msgspec.json.decode(value) for key, value in pairs if key == user.encode()]


def test_an_idle_night_counts() -> None:
    rig = rested()
    silent = [user for user, row in rows(rig).items() if row.alert is not None]
    assert silent
    for user in silent:
        shown = look(rig, user)
        assert shown.notes == []
        assert shown.explanation.alerts[-1].alert_id == shown.explanation.user.alert  # type: ignore[union-attr]


def test_a_rebuilt_user_is_what_was_committed_then(rig: Rig) -> None:
    then = rows(rig)
    ends = [log.end for log in rig.broker.topic("events").logs]
    rig.publish(200)
    rig.work()
    now = rows(rig)
    for user, row in then.items():
        shown = look(rig, user, at=ends[rig.partition(user)])
        assert not shown.committed
        assert shown.explanation.user == row
    assert any(now.get(user) != row for user, row in then.items())


def test_the_last_list_and_why(bundle: Bundle) -> None:
    rig = Rig(bundle=bundle)
    rig.publish(200)
    rig.work()
    moved = 0
    for user in USERS:
        shown = look(rig, user, left_out_max=5)
        published = [made for batch in rig.read_all("recommendations") for made in own(batch, user)]
        last = shown.explanation.last_list
        assert (last and last.rec_id) == (published[-1]["rec_id"] if published else None)
        moved += len(shown.explanation.moved_by)
    assert moved > 5


def test_where_the_log_was_cut_the_outputs_tell(rig: Rig) -> None:
    user, row = next(iter(rows(rig).items()))
    log = rig.broker.log("events", rig.partition(user))
    log.truncate(log.end)
    shown = look(rig, user)
    assert shown.explanation.user == row
    assert "output topics" in shown.notes[0]
    assert shown.explanation.transitions[-1].to == row.lifecycle
    with pytest.raises(UsageError, match="no earlier state"):
        look(rig, user, at=5)


def test_a_row_that_is_not_what_the_log_says_is_told(rig: Rig) -> None:
    from tests.upkeep.test_verify import tamper

    user = next(iter(rows(rig)))
    tamper(rig, user)
    assert "another row" in look(rig, user).notes[0]


def test_who_is_not_there_is_said_to_be_unknown(rig: Rig) -> None:
    with pytest.raises(UsageError, match="no such user"):
        look(rig, "nobody")
    with pytest.raises(UsageError, match="can be named"):
        look(rig, USERS[0], at=10_000)
    with pytest.raises(UsageError, match="nothing was committed"):
        look(Rig(), USERS[0])


def test_the_command_shows_a_page_or_json(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "read_config", lambda path: rig.config)
    monkeypatch.setattr(options, "open_broker", lambda config: rig.client())
    user, row = next(iter(rows(rig).items()))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, ["user", "--config", "c.toml", *arguments], prog_name="ebbtide")

    shown = run(user)
    assert shown.exit_code == 0, shown.output
    assert "as committed" in shown.output
    assert f"{user}: {row.lifecycle}" in shown.output
    assert json.loads(run(user, "--json").output)["explanation"]["user"]["events"] == row.events
    assert "rebuilt from the log" in run(user, "--at", "15").output
    assert run("nobody").exit_code == 2
