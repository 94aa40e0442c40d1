"""Values: what the head is to tell, whatever huge number one event brings."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from models.dataset import Sequences
from models.judge import judge, read_values
from models.objective import Objective, learnt_items
from models.recipe import Recipe
from models.targets import coming_values, next_values, winsorise
from models.targets import read_values as read_events
from models.train import fit, make_model, measure_values
from models.validate import end_of
from stream.errors import UsageError
from tests.models.clicks import fold_clicks

BASE: dict[str, Any] = {
    "encoder_config": {"hidden": 16},
    "embedding_size": 16,
    "step_features": ["gap_log", "value_log"],
    "epochs": 20,
    "users_per_batch": 16,
    "learning_rate": 0.02,
    "items_learning_rate": 0.02,
}
HUGE = [1e12, 1e20, 1e40, 1.7e308, -1e40]


def recipe(**keys: Any) -> Recipe:
    return msgspec.convert(BASE | keys, Recipe)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    return fold_clicks(tmp_path_factory.mktemp("clicks"))


def with_value(data: Sequences, value: float) -> Sequences:
    """Return the sequences with one event, in the midst of one, of that value."""
    features = data.features.copy()
    features[data.start[5] + 2, data.column(["value_log"])] = np.sign(value) * np.log1p(abs(value))
    return data._replace(features=features)


def ask(data: Sequences, chosen: Recipe) -> Objective:
    return Objective(data, chosen, learnt_items(data, 0), np.ones(len(data.item), np.bool_), end_of(data))


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize("of", ["item", "user"])
def test_one_huge_value_leaves_mean_and_scale_about_as_they_were(
    data: Sequences, of: str, value: float
) -> None:
    chosen = recipe(value={"of": of, "horizon": "14d"})
    mean, scale = measure_values(data, chosen)
    found = measure_values(with_value(data, value), chosen)
    assert np.isfinite(found).all()
    assert found[0] == pytest.approx(mean, rel=0.2)
    assert scale <= found[1] < 3 * scale


@pytest.mark.parametrize("value", HUGE[1:3])
def test_the_head_learns_the_other_values_beside_a_huge_one(data: Sequences, value: float) -> None:
    chosen, made = recipe(value={"of": "item"}), with_value(data, value)
    model = make_model(made, chosen, None)
    history = fit(model, made, chosen)
    assert np.isfinite([epoch.loss for epoch in history]).all()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    asked = ask(made, chosen)
    assert np.isfinite(list(judge(model, asked).values())).all()
    _, said, true = read_values(model, asked)
    usual = np.abs(true) < 100
    error = np.abs(said - true)[usual].mean()
    assert error < 0.5 * np.abs(true[usual] - true[usual].mean()).mean()


def test_values_beyond_ten_times_the_usual_largest_are_cut_to_that() -> None:
    values = np.concatenate([np.arange(1.0, 101.0), [0.0] * 900, [991.0, -1e300, np.nan]])
    cut = winsorise(values)
    assert cut[:-3].tolist() == values[:-3].tolist()
    assert cut[-3:-1].tolist() == [991.0, -1000.0]  # ten times the 100th of 102 sizes above 0
    assert np.isnan(cut[-1])
    assert winsorise(np.array([1e300])).tolist() == [1e30], "alone it has no usual one to be held against"
    assert winsorise(np.array([np.nan, 0.0]))[1] == 0.0


def test_values_are_read_as_exactly_as_they_were_written(data: Sequences) -> None:
    read = read_events(with_value(data, 1e40))
    assert read.dtype == np.float64
    assert read.max() == pytest.approx(1e40, rel=1e-4)
    assert np.isfinite(read_events(with_value(data, 1.7e308))).all()


def test_equal_values_have_scale_one(data: Sequences) -> None:
    features = data.features.copy()
    features[:, data.column(["value_log"])] = np.log1p(10.1)
    mean, scale = measure_values(data._replace(features=features), recipe(value={"of": "item"}))
    assert (mean, scale) == (pytest.approx(10.1, rel=1e-5), 1.0)


@pytest.mark.parametrize("of", ["item", "user"])
def test_mean_and_scale_are_those_of_the_values_that_the_head_learns(data: Sequences, of: str) -> None:
    chosen = recipe(value={"of": of, "horizon": "14d"}, target_kinds=["buy"])
    learnt = ask(data, chosen).values
    learnt = learnt[~np.isnan(learnt)].astype(np.float64)
    model = make_model(data, chosen, None)
    assert model.config.value_mean == pytest.approx(learnt.mean())
    assert model.config.value_scale == pytest.approx(learnt.std())
    every = measure_values(data, recipe(value={"of": of, "horizon": "14d"}))
    assert every[0] != pytest.approx(learnt.mean(), rel=0.01)


def test_a_kind_without_values_is_refused(data: Sequences) -> None:
    features = data.features.copy()
    features[data.kind == data.kinds.index("buy"), data.column(["has_value"])] = 0.0
    silent = data._replace(features=features)
    chosen = recipe(value={"of": "item"}, target_kinds=["buy"])
    assert np.isnan(next_values(silent, silent.kind == data.kinds.index("buy"))).all()
    with pytest.raises(UsageError, match="no event has a value"):
        measure_values(silent, chosen)
    with pytest.raises(UsageError, match="no such kind: sale"):
        measure_values(silent, recipe(value={"of": "item"}, target_kinds=["sale"]))


def test_spend_to_come_is_the_sum_of_what_is_cut(data: Sequences) -> None:
    made, everything = with_value(data, 1e40), np.ones(len(data.item), np.bool_)
    coming = coming_values(made, everything, 10**15, 10**16)
    start, stop = data.start[5:7].tolist()
    values = winsorise(read_events(made))
    expected = [values[start + n : stop].sum() for n in range(1, stop - start + 1)]
    assert stop - start > 4
    assert coming[start:stop] == pytest.approx(expected, rel=1e-6)
