"""Folding anew when the layout differs: the journal is obeyed, states are made again, gaps are refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from export.random_bundle import random_bundle
from stream.core.users import NO_DEADLINE
from stream.errors import StateError
from stream.journal import apply_entry, read_entry
from stream.renew import renew_states
from stream.workshop import Workshop
from tests.courses import (
    BASE,
    KINDS,
    LONG,
    Naive,
    kill,
    leave,
    live,
    make,
    publish,
    rig_of,
    tell,
    users_of,
)  # fmt: skip
from tests.upkeep.rig import Rig

QUIET: Final = {
    "time": {"lateness_max": "90d", "idle_after": "30s"},
    "worker": {"alerts_share_per_hour_max": 1.0},
}
LONGER: Final = {"rings": [{"bucket": "1h", "buckets": 48}, {"bucket": "1d", "buckets": 30}]}


def quiet_night(rig: Rig) -> None:
    """Publish, and let idle steps follow; then leave."""
    rig.config = make(**QUIET)
    publish(rig, 60, random.Random(4))
    worker = live(rig, rig.config)
    rig.turn_until(worker, lambda: rig.read("journal", 0).offsets, step_ms=1_000.0)
    leave(worker)


def test_idle_steps_are_taken_again_from_the_journal() -> None:
    rig = rig_of(BASE)
    quiet_night(rig)
    entries = [read_entry(value, place="journal") for value in rig.read("journal", 0).values]
    config = make(**QUIET, windows=LONGER)
    naive = Naive(rig)
    naive.turn_to(config)
    naive.fold()
    plain = tell(naive.partition, config)
    for entry in entries:
        for _ in apply_entry(naive.partition, entry):
            naive.partition.table.commit()
    assert plain != tell(naive.partition, config)
    worker = live(rig, config)
    assert users_of(worker) == tell(naive.partition, config)
    kill(rig, worker)
    assert users_of(live(rig, config)) == tell(naive.partition, config)


def test_where_the_journal_is_cut_other_rings_are_refused() -> None:
    rig = rig_of(BASE)
    quiet_night(rig)
    journal = rig.broker.log("journal", 0)
    journal.truncate(journal.end)
    rig.config = make(**QUIET, windows=LONGER)
    worker = rig.start()
    with pytest.raises(StateError, match="of the journal entries 0 to"):
        rig.turn_until(worker, lambda: False, step_ms=1_000.0)


@pytest.mark.parametrize("change", [{}, {"bundle": "new"}], ids=["the same bundle", "another bundle"])
def test_encoder_states_are_made_anew_with_the_users(tmp_path: Path, change: dict[str, str]) -> None:
    bundles = {
        name: random_bundle(
            tmp_path / name, list(KINDS), items=[f"item-{i}" for i in range(12)], seed=seed,
            step_features=("kind=view", "kind=buy"), context_features=(),
        )
        for seed, name in enumerate(("old", "new"))
    }  # fmt: skip
    rig = rig_of(BASE)
    rig.bundle = bundles["old"]
    publish(rig, 80, random.Random(4))
    leave(live(rig, BASE))
    rig.bundle = bundles[change.get("bundle", "old")]
    worker = live(rig, LONG)
    table = worker.shares[0].engine.table
    states = {table.row_id(slot): table.users.state[slot].copy() for slot in table.slots().tolist()}
    engine = Workshop(LONG, rig.bundle).partition("events", 0, undo=True, snapshots=False)
    for _ in engine.apply(rig.read("events", 0)):
        engine.table.commit()
    if change:
        engine.table.users.state[:] = 0.0
        renew_states(engine, NO_DEADLINE)
    assert len(states) > 5
    for slot in engine.table.slots().tolist():
        expected = engine.table.users.state[slot]
        assert expected.any()
        np.testing.assert_allclose(states[engine.table.row_id(slot)], expected, atol=1e-5)
    kill(rig, worker)
    again = live(rig, LONG).shares[0].engine.table
    for slot in again.slots().tolist():
        np.testing.assert_allclose(states[again.row_id(slot)], again.users.state[slot], atol=1e-5)
