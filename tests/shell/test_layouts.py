"""Other layouts: rows are carried over, or folded anew, and are never misread; whatever comes between."""

from __future__ import annotations

import random

import pytest

from stream.config import Config
from stream.errors import StateError
from stream.layouts import carry_over, lay_out, order_of
from stream.log import log
from stream.phases import Phase
from stream.snapshot import COMMIT_KEY, LAYOUT_KEY, ROW_KEY, VOID_KEY
from stream.workshop import Workshop
from tests.courses import (
    BASE,
    BRIEF,
    LONG,
    NARROW,
    WIDE,
    Naive,
    kill,
    last_words,
    leave,
    live,
    play,
    publish,
    rig_of,
    rows_of,
    tell,
    users_of,
)  # fmt: skip


@pytest.mark.parametrize("second", [WIDE, NARROW], ids=["a kind more", "a kind less"])
def test_rows_are_carried_over_to_other_kinds(second: Config) -> None:
    course = play([BASE, second], 1, kills=False)
    assert course.seen == course.expected
    assert rows_of(course.rig) == course.expected[-1].keys()


@pytest.mark.parametrize("seed", range(4))
def test_a_kind_that_comes_back_begins_at_zero_for_everyone(seed: int) -> None:
    """Whether or not the user's row was written while the kind was gone."""
    course = play([WIDE, NARROW, BASE, WIDE], seed, kills=seed % 2 == 1)
    assert course.seen == course.expected
    described = [key for key in last_words(course.rig) if key.startswith(LAYOUT_KEY)]
    assert len(described) == 3


def test_other_rings_are_folded_anew_from_the_log() -> None:
    course = play([BASE, LONG], 5, kills=False)
    assert course.seen == course.expected
    assert rows_of(course.rig) == course.expected[-1].keys()


@pytest.mark.parametrize("seed", range(12))
def test_any_course_of_configs_is_what_the_log_says(seed: int) -> None:
    """Also where users are forgotten under one config whose rows were written under another."""
    chance = random.Random(100 + seed)
    courses = [chance.choice((BASE, WIDE, NARROW, LONG, BRIEF)) for _ in range(5)]
    course = play(courses, seed, kills=seed % 3 != 0, compact=seed % 2 == 0)
    assert course.seen == course.expected
    assert rows_of(course.rig) == course.expected[-1].keys()


def test_users_who_are_gone_when_folded_anew_leave_no_row(caplog: pytest.LogCaptureFixture) -> None:
    log.addHandler(caplog.handler)
    try:
        course = play([BASE, BRIEF, BASE, BRIEF], 3, kills=True)
    finally:
        log.removeHandler(caplog.handler)
    assert "all users are folded anew from offset 0 to" in caplog.text
    assert not any(user in caplog.text for user in ("user-1", "user-2"))
    assert rows_of(course.rig) == course.expected[-1].keys()
    assert any(value is None for key, value in last_words(course.rig).items() if key[:1] == ROW_KEY)


def test_where_the_log_is_cut_other_rings_are_refused() -> None:
    rig = rig_of(BASE)
    publish(rig, 50, random.Random(1))
    rig.work()
    rig.broker.log("events", 0).truncate(1)
    rig.config = LONG
    worker = rig.start()
    with pytest.raises(StateError, match="cannot be folded anew: the log begins at 1, the group began at 0"):
        rig.settle(worker)
    kill(rig, worker)
    rig.config = BASE
    rig.work()  # nothing has happened to it


def test_rings_do_not_change_under_records_that_are_left_to_replay() -> None:
    rig = rig_of(BASE)
    publish(rig, 50, random.Random(1))
    kill(rig, live(rig, BASE))
    with pytest.raises(StateError, match="left records to be replayed"):
        live(rig, LONG)


def test_rows_from_before_descriptions_are_carried_over_when_there_is_one() -> None:
    """An earlier version wrote none: the first commit of this one does, behind the rows."""
    rig = rig_of(BASE)
    naive = Naive(rig)
    naive.turn_to(BASE)
    publish(rig, 50, random.Random(1))
    leave(live(rig, BASE))
    naive.fold()
    state = rig.broker.log("user-state", 0)
    columns = state._columns()
    at = next(i for i, key in enumerate(columns[1]) if key and key.startswith(LAYOUT_KEY))
    for column in columns:
        del column[at]
    publish(rig, 1, random.Random(2))
    leave(live(rig, BASE))
    naive.fold()
    assert columns[1].index(LAYOUT_KEY + Workshop(BASE, None).format.layout.encode()) > 5
    naive.turn_to(NARROW)
    assert users_of(live(rig, NARROW)) == tell(naive.partition, NARROW)


def test_what_this_version_did_not_describe_is_folded_anew() -> None:
    rig = rig_of(BASE)
    publish(rig, 50, random.Random(1))
    leave(live(rig, BASE))
    columns = rig.broker.log("user-state", 0)._columns()
    at = next(i for i, key in enumerate(columns[1]) if key and key.startswith(LAYOUT_KEY))
    for column in columns:
        del column[at]
    naive = Naive(rig)
    naive.turn_to(NARROW)
    naive.fold()
    assert users_of(live(rig, NARROW)) == tell(naive.partition, NARROW)


def test_the_order_maps_cell_by_cell() -> None:
    order = carry_over(lay_out(WIDE), lay_out(NARROW), order_of(NARROW))
    assert order is not None
    kinds = lay_out(WIDE).kinds
    assert kinds == ["a-like", "buy", "mail", "view", "wish"]
    own = list(NARROW.events.kinds)
    assert order.cells[:5].tolist() == [-1, own.index("buy"), -1, own.index("view"), -1]
    assert carry_over(lay_out(LONG), lay_out(BASE), order_of(BASE)) is None


def test_a_commit_waits_for_the_change_of_the_config() -> None:
    rig = rig_of(BASE)
    publish(rig, 50, random.Random(1))
    leave(live(rig, BASE))
    rig.config = LONG  # everybody is dirty at once
    worker = rig.start()
    while not (worker.shares and worker.shares[0].phase is Phase.LIVE):
        worker._poll()
        worker._restore()
    before = rig.read("user-state", 0).keys.count(COMMIT_KEY)
    worker.commit()
    assert rig.read("user-state", 0).keys.count(COMMIT_KEY) == before
    worker.turn()
    worker.commit()
    assert rig.read("user-state", 0).keys.count(COMMIT_KEY) == before + 1


def test_users_whom_the_new_config_never_knew_leave_no_row() -> None:
    """All that they did are dead letters now, so that the fold does not come across them."""
    rig = rig_of(WIDE)
    publish(rig, 20, random.Random(1))
    known = list(rig.events(1, ["ghost"]))
    rig.send([(user, value.replace(b'"view"', b'"a-like"').replace(b'"buy"', b'"a-like"'), at)
              for user, value, at in known])  # fmt: skip
    assert b'"a-like"' in rig.read("events", 0).values[-1]  # type: ignore[operator]
    leave(live(rig, WIDE))
    assert last_words(rig)[ROW_KEY + b"ghost"]
    rig.config = LONG
    worker = rig.start()
    while rig.read("user-state", 0).keys.count(VOID_KEY) == 0:
        worker.turn()
        rig.clock.advance(1.0)
    kill(rig, worker)
    assert last_words(rig)[ROW_KEY + b"ghost"]  # not yet: the next life must see to it
    worker = live(rig, LONG)
    assert b"ghost" not in tell(worker.shares[0].engine, LONG)
    leave(worker)
    assert last_words(rig)[ROW_KEY + b"ghost"] is None
