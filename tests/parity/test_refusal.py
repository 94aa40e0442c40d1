"""The export lets no bundle pass that does not compute what was trained: broken on purpose, it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from export.graphs import Step
from export.parity import ParityError, prove_batches
from export.random_bundle import random_bundle
from export.write import compress, expand
from models.encoders.gru import GRU
from models.encoders.window import grow_older
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
    bundle = random_bundle(tmp_path / "b", ["view"], items=20, precision="float16")
    prove_batches(bundle, seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (bundle.path / MANIFEST).exists()
    assert isinstance(bundle, Bundle)
    assert np.isfinite(bundle.items).all()


def test_a_graph_that_is_not_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch agrees with itself; only what was exported is off."""

    def off(self: Step, state: Tensor, item: Tensor, features: Tensor) -> Tensor:
        return 1.001 * self.model.step(state, item, features)

    monkeypatch.setattr(Step, "forward", off)
    with pytest.raises(ParityError, match=r"the bundle's steps by [1-9]\.\d+e-0[1-3]"):
        random_bundle(tmp_path / "b", ["view"], items=20)


@pytest.mark.parametrize("strange", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["step", "forward"])
def test_numbers_that_are_none_are_no_agreement(
    where: str, strange: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether one of them says so or both: large values alone overflow, as they would in serving."""
    honest = getattr(GRU, where)

    def overflowing(self: GRU, *given: Tensor) -> Tensor:
        x = given[-2]
        out: Tensor = honest(self, *given)
        return torch.where(x.abs().amax(-1, keepdim=True) > 60.0, strange, out)

    monkeypatch.setattr(GRU, where, overflowing)
    with pytest.raises(ParityError, match=r"'values of hundreds': .* no finite numbers"):
        random_bundle(tmp_path / "b", ["view"], items=20)
    assert list(tmp_path.iterdir()) == []


def keep_the_oldest(ring: Tensor, row: Tensor) -> Tensor:
    return torch.cat([ring[..., :1, :], ring[..., 2:, :], row[..., None, :]], -2)


def a_year_at_most(ring: Tensor, gap_log: Tensor) -> Tensor:
    return grow_older(ring, gap_log.clamp(max=math.log1p(365 * 86_400.0)))


@pytest.mark.parametrize(
    ("name", "broken", "sequence"),
    [
        ("push", keep_the_oldest, "long after the window"),
        ("grow_older", a_year_at_most, "gaps of ten years|values of hundreds"),
    ],
)
def test_what_goes_wrong_only_in_long_histories_is_found(
    name: str, broken: Any, sequence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"models.encoders.transformer.{name}", broken)
    with pytest.raises(ParityError, match=f"sequence '({sequence})'"):
        random_bundle(tmp_path / "b", ["view"], items=20, encoder="transformer", context_features=())


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_compressed_items_are_those_that_the_bundle_scores(precision: Any, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    rows[7] = 0.0
    files = compress("items", rows, precision)
    read = expand("items", files)
    size = {"float16": 2, "int8": 1}[precision]
    assert files["items.npy"].itemsize == size
    assert (
        np.abs(read - rows).max()
        < {"float16": 2e-3, "int8": 0.5 * np.abs(rows).max() / 127 + 1e-6}[precision]
    )
    assert not read[7].any()
    bundle = random_bundle(tmp_path / "b", ["view"], items=50, precision=precision)
    again = expand("items", compress("items", bundle.items, precision))
    np.testing.assert_allclose(again, bundle.items, atol=1e-6)
    stored = np.load(bundle.file("items.npy"))
    assert (stored.dtype, stored.itemsize) == (np.dtype(precision), size)
    assert ("items_scale.npy" in bundle.manifest.files) == (precision == "int8")
