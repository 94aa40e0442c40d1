"""Dropping items that nobody remembers: nothing that anyone sees depends on when it happens."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.random_bundle import random_bundle
from stream.bundle import Bundle, open_bundle
from stream.compaction import Compaction
from stream.config import Config
from stream.config_load import parse_config
from stream.records import Output, RecordBatch
from stream.rows import user_rows
from stream.workshop import Workshop

HOUR_MS = 3_600_000
T0_MS = 1_704_067_200_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path: Path = tmp_path_factory.mktemp("compaction") / "bundle"
    random_bundle(path, ["view", "buy"], items=20)
    return open_bundle(path)


@pytest.fixture(scope="module")
def config() -> Config:
    kinds = {"view": "engagement", "buy": "conversion"}
    return parse_config(
        {
            "events": {"kinds": kinds, "recommend": ["view", "buy"]},
            "policies": {"default": {"exclude": "seen"}},
        }
    )


def events(n: int, users: int = 8) -> RecordBatch:
    rng = np.random.default_rng(3)
    values: list[bytes | None] = [
        msgspec.json.encode({
            "user_id": f"u{rng.integers(users)}",
            "event_type": ("view", "buy")[rng.integers(2)],
            "event_time": T0_MS + i * HOUR_MS,
            "item_id": f"passing-{i}" if i % 3 else f"item-{rng.integers(20)}",
        })
        for i in range(n)
    ]  # fmt: skip
    keys = [msgspec.json.decode(value)["user_id"].encode() for value in values if value]
    return RecordBatch("events", 0, list(range(n)), keys, values, [T0_MS + n * HOUR_MS] * n, [None] * n)


def late_items(workshop: Workshop) -> None:
    """Let an item that no user remembers be listed, behind many that only pass."""
    model, items = workshop.model, workshop.items
    assert model is not None
    items.intern_all([f"elsewhere-{i}" for i in range(50)])
    width = model.candidates.vectors.shape[1]
    model.candidates.add([items.intern("late")], np.ones((1, width), np.float32), np.array([9.0], np.float32))


def run(bundle: Bundle, config: Config, *, compact: bool) -> tuple[list[Output], bytes, Workshop]:
    workshop = Workshop(config, bundle)
    late_items(workshop)
    partition = workshop.partition("events", 0, undo=True, snapshots=True)
    partition.tested = workshop.tested
    compaction = Compaction(workshop, spare=0)
    records = events(300)
    outputs: list[Output] = []
    for start in range(0, 300, 7):
        cut = [column[start : start + 7] for column in records[2:]]
        for part in partition.apply(RecordBatch("events", 0, *cut)):  # type: ignore[arg-type]
            outputs += part.outputs
        if start % 70 == 0:
            partition.table.commit()
        if compact and compaction.due:
            compaction.run([partition])
    return outputs, b"".join(user_rows(partition, config, workshop.items)), workshop


def test_outputs_and_users_are_the_same(bundle: Bundle, config: Config) -> None:
    outputs, users, kept = run(bundle, config, compact=False)
    again, users_again, dropped = run(bundle, config, compact=True)
    assert again == outputs
    assert users_again == users
    assert any(b'"late"' in (output.value or b"") for output in outputs)
    assert kept.tested.take() == dropped.tested.take()
    assert len(kept.items) > 20 + 200
    assert len(dropped.items) < 20 + 2 * (8 * 20 + 1)


def test_a_rollback_puts_back_rows_with_the_new_numbers(bundle: Bundle, config: Config) -> None:
    workshop = Workshop(config, bundle)
    partition = workshop.partition("events", 0, undo=True, snapshots=False)
    records = events(200, users=2)
    half = [column[:100] for column in records[2:]]
    for _ in partition.apply(RecordBatch("events", 0, *half)):  # type: ignore[arg-type]
        pass
    partition.table.commit()
    before = b"".join(user_rows(partition, config, workshop.items))
    savepoint = partition.table.savepoint()
    rest = [column[100:] for column in records[2:]]
    for _ in partition.apply(RecordBatch("events", 0, *rest)):  # type: ignore[arg-type]
        pass
    Compaction(workshop, spare=0).run([partition])
    assert b"".join(user_rows(partition, config, workshop.items)) != before
    partition.table.rollback(savepoint)
    assert b"".join(user_rows(partition, config, workshop.items)) == before
