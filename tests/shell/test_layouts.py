"""Other layouts: rows are carried over, or folded anew, and are never misread; however often, killed or not.

The oracle carries users over in plain Python, column by column and kind by kind, and where more than the
kinds changed it folds the whole log under the new config.
"""

from __future__ import annotations

import random
from typing import Any, Final

import numpy as np
import pytest

from stream.config import Config
from stream.config_load import parse_config
from stream.core import catching_up
from stream.core.hashing import fnv1a
from stream.core.rules import DEDUP_IDS, RECENT_ITEMS
from stream.core.users import ROW, create
from stream.engine import Partition
from stream.errors import StateError
from stream.journal import RulesChange, apply_entry
from stream.layouts import carry_over, lay_out, order_of
from stream.log import log
from stream.phases import Phase
from stream.snapshot import COMMIT_KEY, LAYOUT_KEY, ROW_KEY, VOID_KEY
from stream.testing import MemoryClient
from stream.worker import Worker
from stream.workshop import Workshop
from tests.upkeep.rig import SETTINGS, Rig

KINDS: Final = {"view": "engagement", "buy": "conversion", "mail": "contact"}
RINGS: Final = [{"bucket": "1h", "buckets": 24}, {"bucket": "1d", "buckets": 30}]
WINDOWS: Final = {"24h": "1h", "7d": "1d", "30d": "1d"}
#: What only this table understands.
_OWN: Final = ("hash", "id_start", "id_length", "")


def make(kinds: dict[str, str] = KINDS, **changes: Any) -> Config:
    tree: dict[str, Any] = {
        **SETTINGS,
        "events": {"kinds": kinds},
        "time": {"lateness_max": "90d", "idle_after": "3650d"},
    }
    tree["windows"] = {"rings": RINGS, "windows": WINDOWS}
    tree["worker"] = {**SETTINGS["worker"], "snapshot_rows_max": 2}
    for name, table in changes.items():
        tree[name] = {**tree.get(name, {}), **table}
    return parse_config(tree)


MORE: Final = {"a-like": "engagement", **KINDS, "wish": "contact"}
LESS: Final = {"buy": "conversion", "view": "engagement"}
BASE, WIDE, NARROW = make(), make(MORE), make(LESS)
LONG = make(windows={"rings": [{"bucket": "1h", "buckets": 48}, {"bucket": "1d", "buckets": 30}]})
BRIEF = make(
    LESS,
    windows={
        "rings": [{"bucket": "2h", "buckets": 12}, {"bucket": "1d", "buckets": 30}],
        "windows": {"24h": "2h", "7d": "1d", "30d": "1d"},
    },
    lifecycle={
        "at_risk_min": "1h", "at_risk_max": "12h", "at_risk_default": "12h", "dormant_after": "1d",
        "churned_after": "2d", "forget_after": "3d",
    },
)  # fmt: skip


def rig_of(config: Config) -> Rig:
    rig = Rig(partitions=1)
    rig.config = config
    return rig


def publish(rig: Rig, count: int, chance: random.Random) -> None:
    """Publish clicks of every kind that any of the configs knows."""
    events = []
    for user, value, at in rig.events(count):
        kind = chance.choice(("view", "view", "buy", "mail", "wish", "a-like"))
        for known in (b'"view"', b'"buy"', b'"mail"'):
            value = value.replace(known, f'"{kind}"'.encode())
        events.append((user, value, at))
    rig.send(events)


# ------------------------------------------------------------------------------------------------ the oracle


def tell(partition: Partition, config: Config) -> dict[bytes, dict[str, Any]]:
    """Tell all that a partition knows of its users, in words that do not depend on the table."""
    users, told = partition.table.users, {}
    for slot in partition.table.slots().tolist():
        row = users.rows[slot]
        about: dict[str, Any] = {name: row[name].item() for name in ROW.names or () if name not in _OWN}
        place = 0
        for r, ring in enumerate(config.windows.rings):
            about[f"head {ring.bucket_ms}"] = int(users.heads[slot, r])
            for bucket in range(ring.buckets):
                for k, kind in enumerate(config.events.kinds):
                    if n := int(users.cells[slot, place + bucket, k]):
                        about[f"cell {ring.bucket_ms} {bucket} {kind}"] = n
            place += ring.buckets
        about["spend"] = users.spend[slot].tolist()
        about["seen"] = users.seen[slot, : min(row.seen_count, DEDUP_IDS)].tolist()
        items = users.recent[slot, : min(row.recent_count, RECENT_ITEMS)].tolist()
        about["recent"] = [partition.items.name(item) for item in items]
        told[partition.table.row_id(slot)] = about
    return told


class Naive:
    """What the log makes of the users, config by config."""

    def __init__(self, rig: Rig) -> None:
        self._rig, self._folded = rig, 0
        self._config: Config | None = None
        self._changes: list[int] = []

    def turn_to(self, config: Config) -> None:
        before, self._config = self._config, config
        if before is None:
            self.partition = self._fresh(config)
            return
        offset, engine = self._folded, self._fresh(config)
        if lay_out(before).shape == lay_out(config).shape:
            self._carry(tell(self.partition, before), engine, config)
            self.partition = engine
        else:
            self.partition, self._folded = engine, 0
            for at in [*self._changes]:
                self.fold(at)
                self._change(at)
            self.fold(offset)
        if before.meaning != config.meaning:
            self._changes.append(offset)
            self._change(offset)

    def fold(self, stop: int | None = None) -> None:
        records = self._rig.read("events", 0)
        stop = len(records.offsets) if stop is None else stop
        for _ in self.partition.apply(records.slice(self._folded, stop)):
            self.partition.table.commit()
        self._folded = stop

    def _change(self, offset: int) -> None:
        for _ in apply_entry(self.partition, RulesChange(offset, "", "")):
            self.partition.table.commit()

    def _fresh(self, config: Config) -> Partition:
        return Workshop(config, None).partition("events", 0, undo=True, snapshots=False)

    def _carry(self, told: dict[bytes, dict[str, Any]], engine: Partition, config: Config) -> None:
        table = engine.table
        table.clock[:] = self.partition.table.clock
        for user, about in told.items():
            table.reserve(1, len(user), 0, timers=1)
            users = table.users
            data = np.frombuffer(user, np.uint8)
            hash_ = np.uint64(fnv1a(data, 0, len(user)))
            slot = create(users, table.undo, table.rules, data, 0, len(user), hash_, 0)
            for name in ROW.names or ():
                if name not in _OWN:
                    users.rows[slot][name] = about[name]
            place = 0
            for r, ring in enumerate(config.windows.rings):
                users.heads[slot, r] = about[f"head {ring.bucket_ms}"]
                for bucket in range(ring.buckets):
                    for k, kind in enumerate(config.events.kinds):
                        n = about.get(f"cell {ring.bucket_ms} {bucket} {kind}", 0)
                        users.cells[slot, place + bucket, k] = n
                place += ring.buckets
            users.spend[slot] = about["spend"]
            users.seen[slot, : len(about["seen"])] = about["seen"]
            users.recent[slot, : len(about["recent"])] = [engine.items.intern(i) for i in about["recent"]]
        table.commit()
        table.reserve(0, 0, 0, timers=len(table))
        catching_up.wind_up(table.users)


# ---------------------------------------------------------------------------------------------- the lives


def live(rig: Rig, config: Config) -> Worker:
    rig.config = config
    worker = rig.start()
    rig.settle(worker)
    for _ in range(100):
        if worker.shares[0].phase is Phase.LIVE:
            return worker
        worker.turn()
    raise AssertionError("it does not go live")


def kill(rig: Rig, worker: Worker) -> None:
    client = worker.broker
    assert isinstance(client, MemoryClient)
    client.kill()
    rig.clock.advance(60_000.0)


def leave(worker: Worker) -> None:
    worker.stop()
    worker.close()


def last_words(rig: Rig) -> dict[bytes, bytes | None]:
    batch = rig.read("user-state", 0)
    return {key or b"": value for key, value in zip(batch.keys, batch.values, strict=True)}


def check(rig: Rig, worker: Worker, naive: Naive) -> None:
    assert tell(worker.shares[0].engine, worker.config) == tell(naive.partition, worker.config)


def play(configs: list[Config], seed: int, *, kills: bool, compact: bool = False) -> Rig:
    """Live through the configs, one after the other, each with records of its own, and compare."""
    chance = random.Random(seed)
    rig = rig_of(configs[0])
    naive = Naive(rig)
    for config in configs:
        naive.turn_to(config)
        for _ in range(chance.randint(1, 3) if kills else 0):  # killed while old rows are written anew
            rig.config = config
            worker = rig.start()
            for _ in range(chance.randint(1, 60)):
                worker.turn()
                rig.clock.advance(float(chance.choice((1, 50, 400))))
            kill(rig, worker)
        worker = live(rig, config)
        naive.fold()
        check(rig, worker, naive)
        if kills:
            kill(rig, worker)
            worker = live(rig, config)
            check(rig, worker, naive)
        publish(rig, chance.randint(3, 60), chance)
        rig.settle(worker)
        naive.fold()
        check(rig, worker, naive)
        leave(worker)
        if compact:
            state = rig.broker.log("user-state", 0)
            state.compact(chance.randint(state.start, state.end), keep_nulls=chance.random() < 0.5)
    worker = live(rig, configs[-1])
    check(rig, worker, naive)
    leave(worker)
    users = {ROW_KEY + user for user in tell(naive.partition, configs[-1])}
    assert {key for key, value in last_words(rig).items() if key[:1] == ROW_KEY and value} == users
    return rig


@pytest.mark.parametrize("second", [WIDE, NARROW], ids=["a kind more", "a kind less"])
def test_rows_are_carried_over_to_other_kinds(second: Config) -> None:
    play([BASE, second], 1, kills=False)


@pytest.mark.parametrize("seed", range(4))
def test_a_kind_that_comes_back_begins_at_zero_for_everyone(seed: int) -> None:
    """Whether or not the user's row was written while the kind was gone."""
    rig = play([WIDE, NARROW, BASE, WIDE], seed, kills=seed % 2 == 1)
    described = [key for key in last_words(rig) if key.startswith(LAYOUT_KEY)]
    assert len(described) == 3


def test_other_rings_are_folded_anew_from_the_log() -> None:
    play([BASE, LONG], 5, kills=False)


@pytest.mark.parametrize("seed", range(12))
def test_any_course_of_configs_is_what_the_log_says(seed: int) -> None:
    """Also where users are forgotten under one config whose rows were written under another."""
    chance = random.Random(100 + seed)
    courses = [chance.choice((BASE, WIDE, NARROW, LONG, BRIEF)) for _ in range(5)]
    play(courses, seed, kills=seed % 3 != 0, compact=seed % 2 == 0)


def test_users_who_are_gone_when_folded_anew_leave_no_row(caplog: pytest.LogCaptureFixture) -> None:
    log.addHandler(caplog.handler)
    try:
        rig = play([BASE, BRIEF, BASE, BRIEF], 3, kills=True)
    finally:
        log.removeHandler(caplog.handler)
    assert "all users are folded anew from offset 0 to" in caplog.text
    assert not any(user in caplog.text for user in ("user-1", "user-2"))
    assert any(value is None for key, value in last_words(rig).items() if key[:1] == ROW_KEY)


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
    check(rig, live(rig, NARROW), naive)


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
    check(rig, live(rig, NARROW), naive)


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
