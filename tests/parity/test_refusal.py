"""The export lets no bundle pass that does not compute what was trained: broken on purpose, it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from export.parity import ParityError, prove_batches
from export.random_bundle import random_bundle
from models.encoders.gru import GRU
from stream.bundle import MANIFEST, Bundle


def test_a_step_that_is_not_the_sequence_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GRU.step

    def forgetful(self: GRU, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        return honest(self, 0.99 * state, x, gap_log)

    monkeypatch.setattr(GRU, "step", forgetful)
    with pytest.raises(ParityError, match=r"torch steps differ from the torch sequence by"):
        random_bundle(tmp_path / "b", ["view"], items=20)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_whose_rows_see_each_other_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = GRU.step

    def sociable(self: GRU, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        after = honest(self, state, x, gap_log)
        return after + 1e-6 * (after - after.mean(0, keepdim=True))

    monkeypatch.setattr(GRU, "step", sociable)
    with pytest.raises(ParityError, match=r"user_step\.onnx: a row's result differs"):
        random_bundle(tmp_path / "b", ["view"], items=20)


def test_an_honest_bundle_passes_and_leaves_no_scraps(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "b", ["view"], items=20, half=True)
    prove_batches(bundle, seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (bundle.path / MANIFEST).exists()
    assert isinstance(bundle, Bundle)
    assert np.isfinite(bundle.items).all()
