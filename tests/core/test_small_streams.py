"""Small streams by Hypothesis: three users whose every step lies at some threshold, shrunk where they differ.

A step says where in time it is in words ("the user's deadline, one millisecond before"), so that a stream
keeps its meaning while it shrinks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tests.compare import FULL, assert_equal
from tests.generators import record
from tests.generators_settings import HASTY
from tests.oracle_settings import DAY, HOUR, MINUTE, SECOND, T0, Json
from tests.oracles import Oracle
from tests.programs import Engine

#: Three lives of one sort: W close behind and strict, W close behind and patient, W far behind.
SETTINGS: Mapping[str, Json] = {
    "strict": HASTY,
    "patient": HASTY | {"lateness_max": 5 * DAY, "out_of_order_max": 0, "day_offset": HOUR},
    "trailing": HASTY | {"out_of_order_max": 4 * DAY, "active_days_min": 1, "rings": [(DAY, 30), (HOUR, 3)]}
    | {"windows": {"2h": (HOUR, 2), "7d": (DAY, 7)}},
}  # fmt: skip

DISTANCES = (
    "nothing", "session_gap", "visit_gap", "at_risk_min", "at_risk_default", "at_risk_max", "dormant_after",
    "churned_after", "forget_after", "lateness_max", "out_of_order_max", "a bucket", "a day", "a second",
)  # fmt: skip

LENGTHS = {"nothing": 0, "a bucket": 5 * MINUTE, "a day": DAY, "a second": SECOND}

ANCHORS = ("the latest event", "the user's last", "the user's deadline", "W", "the edge of a return")

KINDS = ("view", "purchase", "impression", "idle")


class Step(NamedTuple):
    """An event, or an idle step of W: at `anchor`, `sign` × `distance` and `jitter` milliseconds away."""

    user: str
    kind: str
    anchor: str
    sign: int
    distance: str
    jitter: int
    event_id: str | None = None
    value: float | None = None


steps = st.builds(
    Step,
    user=st.sampled_from(["a", "a\0", "b"]),
    kind=st.sampled_from(KINDS),
    anchor=st.sampled_from(ANCHORS),
    sign=st.sampled_from([1, 1, -1]),
    distance=st.just("nothing") | st.sampled_from(DISTANCES),
    jitter=st.sampled_from([0, 0, 1, -1]),
    event_id=st.sampled_from([None, "x", "y"]),
    value=st.sampled_from([None, 0.1, 0.2, -5]),
)


def make_inputs(made_of: Iterable[Step], settings: Json) -> tuple[list[bytes | int], Oracle]:
    """Return the records (bytes) and the idle steps (the W to reach), and the oracle that has taken them."""
    oracle, latest = Oracle(settings), T0
    inputs: list[bytes | int] = []
    for step in made_of:
        row = oracle.rows.get(step.user.encode())
        w = T0 if oracle.watermark is None else oracle.watermark
        anchor = {
            "the latest event": latest,
            "the user's last": row.last if row and row.last else latest,
            "the user's deadline": oracle.deadline(row) if row else latest,
            "W": w,
            "the edge of a return": w - oracle.at_risk_after(row) if row else w,
        }[step.anchor]
        length = LENGTHS[step.distance] if step.distance in LENGTHS else settings[step.distance]
        time = anchor + step.sign * length + step.jitter
        if step.kind == "idle":
            inputs.append(time)
            oracle.idle(time)
            continue
        if w - settings["lateness_max"] <= time:
            latest = max(latest, time)
        extra = {"event_id": step.event_id, "value": step.value}
        line = record(settings, user_id=step.user, event_type=step.kind, event_time=time, **extra)
        inputs.append(line)
        oracle.record(line)
    return inputs, oracle


def run_engine(inputs: Iterable[bytes | int], settings: Json, cuts: Iterable[bool], **options: Any) -> Engine:
    """Give the engine the inputs, in batches that end where a cut or an idle step is."""
    engine, batch = Engine(settings, **options), []
    for step, cut in zip(inputs, cuts, strict=False):
        if isinstance(step, bytes):
            batch.append(step)
        if batch and (cut or not isinstance(step, bytes)):
            engine.records(batch)
            batch = []
        if isinstance(step, int):
            engine.idle(step)
    if batch:
        engine.records(batch)
    return engine


settings_names = pytest.mark.parametrize("name", SETTINGS)


@settings_names
@limits(max_examples=5_000 if FULL else 150)
@given(
    made_of=st.lists(steps, max_size=30) | st.lists(steps, min_size=15, max_size=30),
    cuts=st.lists(st.booleans(), min_size=30, max_size=30),
    timers_max=st.integers(1, 5),
    undo=st.booleans(),
    snapshots=st.booleans(),
)
def test_the_engine_says_what_the_oracle_says(
    name: str, made_of: list[Step], cuts: list[bool], timers_max: int, undo: bool, snapshots: bool
) -> None:
    settings = SETTINGS[name]
    inputs, oracle = make_inputs(made_of, settings)
    told = {"timers_max": timers_max, "undo": undo, "snapshots": snapshots}
    engine = run_engine(inputs, settings, cuts, **told)
    records = [step for step in inputs if isinstance(step, bytes)]
    assert_equal(oracle.result(), engine.result(), records, settings)
    assert engine.ids == oracle.ids
    assert len(set(engine.ids)) == len(engine.ids), "consumers drop repeats by `id`"


def test_an_idle_step_and_the_record_after_it_share_no_id() -> None:
    """§ 3: `id` counts the outputs "to that topic at that offset", and an idle step has the next record's."""
    settings = SETTINGS["strict"]
    made_of = [
        Step("a", "view", "the latest event", 1, "nothing", 0),
        Step("a", "idle", "the user's deadline", 1, "nothing", 0),
        Step("a", "idle", "the user's deadline", 1, "nothing", 0),
        Step("b", "view", "W", 1, "nothing", 0),
    ]
    inputs, oracle = make_inputs(made_of, settings)
    engine = run_engine(inputs, settings, [False] * 4)
    assert engine.ids == oracle.ids == [
        ("lifecycle", "file-0-0"),
        ("lifecycle", "file-0-1"),
        ("churn_alerts", "file-0-1"),
        ("lifecycle", "file-0-1/1"),
        ("churn_alerts", "file-0-1/1"),
        ("lifecycle", "file-0-1/2"),
    ]  # fmt: skip
