"""Courses of configs: workers live through one after the other, killed or not, and an oracle beside them.

The oracle carries users over in plain Python, column by column and kind by kind, and where more than the
kinds changed it folds the whole log under the new config.
"""

from __future__ import annotations

import random
from typing import Any, Final, NamedTuple

import numpy as np

from stream.config import Config
from stream.config_load import parse_config
from stream.core import catching_up
from stream.core.hashing import fnv1a
from stream.core.rules import DEDUP_IDS, RECENT_ITEMS
from stream.core.users import ROW, create
from stream.engine import Partition
from stream.journal import RulesChange, apply_entry
from stream.layouts import lay_out
from stream.phases import Phase
from stream.snapshot import ROW_KEY
from stream.testing import MemoryClient
from stream.worker import Worker
from stream.workshop import Workshop
from tests.upkeep.rig import SETTINGS, Rig

#: What is known of each user, in words.
Users = dict[bytes, dict[str, Any]]

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


def tell(partition: Partition, config: Config) -> Users:
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


def users_of(worker: Worker) -> Users:
    return tell(worker.shares[0].engine, worker.config)


class Course(NamedTuple):
    """What was seen at each place of a course of configs, and what the log makes of it."""

    rig: Rig
    seen: list[Users]
    expected: list[Users]


def play(configs: list[Config], seed: int, *, kills: bool, compact: bool = False) -> Course:
    """Live through the configs, one after the other, each with records of its own."""
    chance = random.Random(seed)
    rig = rig_of(configs[0])
    naive, course = Naive(rig), Course(rig, [], [])

    def look(worker: Worker) -> None:
        course.seen.append(users_of(worker))
        course.expected.append(tell(naive.partition, worker.config))

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
        look(worker)
        if kills:
            kill(rig, worker)
            worker = live(rig, config)
            look(worker)
        publish(rig, chance.randint(3, 60), chance)
        rig.settle(worker)
        naive.fold()
        look(worker)
        leave(worker)
        if compact:
            state = rig.broker.log("user-state", 0)
            state.compact(chance.randint(state.start, state.end), keep_nulls=chance.random() < 0.5)
    worker = live(rig, configs[-1])
    look(worker)
    leave(worker)
    return course


def rows_of(rig: Rig) -> set[bytes]:
    """Return whose rows the state topic holds."""
    words = last_words(rig)
    return {key[len(ROW_KEY) :] for key, value in words.items() if key[:1] == ROW_KEY and value}
