"""Lists judged after training: which list a basket is held against, and small or cut data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.clean import clean
from models.dataset import Sequences
from models.evaluate import Listed, by_state, make_lists
from models.judge_last import judge_last
from models.list_quality import hold, judge_held
from models.recipe import Recipe
from models.run import Run, make_record
from models.sequences import make_sequences, without_last
from models.train import count_sales, make_model
from stream.demo.quality import LISTED, answers, baskets_of
from tests.models.clicks import fold_clicks

SMALL: dict[str, Any] = {"embedding_size": 8, "encoder_config": {"hidden": 8}}


def recipe(**keys: Any) -> Recipe:
    return msgspec.convert(SMALL | keys, Recipe)


def views(times: list[int], items: int) -> Sequences:
    """Return the sequence of one user, new for ever, who takes item after item, in the order of arrival."""
    count = len(times)
    data = make_sequences(
        np.array([0, count]),
        ["a"],
        np.arange(count, dtype=np.int32) % items,
        np.array(times, np.int64),
        [str(i) for i in range(items)],
    )
    features = np.concatenate([data.features, np.ones((count, 1), np.float32)], 1)
    return data._replace(feature_names=[*data.feature_names, "lifecycle=new"], features=features)


def judged_by(made: Listed) -> dict[int, list[str]]:
    """Return the list that each basket is held against, by the basket's time."""
    found = answers(baskets_of(made.purchases), made.lists, 0)
    return {basket.at_ms: list(given[LISTED]) for basket, given in found if given}


def test_no_basket_is_judged_by_a_list_that_had_seen_it_be_it_late() -> None:
    data = views([0, 100, 50, 200, 150, 150, 300], 12)
    made = make_lists(make_model(data, recipe(), None), data, ["view"], 0)
    lists = made.lists["a"]
    assert lists.at_ms == [0, 100, 100, 200, 200, 300]  # the two of instant 150 are one basket
    # After which list of them in the order of arrival each basket came, but for what had its time or a later.
    expected = {50: 0, 100: 0, 150: 2, 200: 2, 300: 4}
    assert judged_by(made) == {at: lists.items[n] for at, n in expected.items()}
    assert by_state(made, 0)["new"].baskets == len(expected)


@pytest.mark.parametrize("rerank", [None, {"hidden": 4, "candidates": 20}])
def test_a_catalogue_of_fewer_than_ten_items_is_listed_whole(rerank: dict[str, int] | None) -> None:
    data = views([0, 100, 200, 300], 3)
    model = make_model(data, recipe(rerank=rerank), None)
    assert {tuple(sorted(items)) for items in make_lists(model, data, ["view"], 20).lists["a"].items} == {
        ("0", "1", "2")
    }
    held = hold(make_lists(model, data, ["view"], 20), data, 100)
    assert judge_held(held, 3, np.ones(3), np.eye(3)).rivals[LISTED].hit_rate.value == 1.0


def fit_until(data: Sequences, until_ms: int | None, chosen: Recipe) -> Run:
    """Return an untrained run as `fit --last` writes it."""
    cut = data if until_ms is None else data.before(until_ms)
    learnt = without_last(clean(cut, chosen.cleaning)[0])
    record = make_record(
        learnt, [], source="clicks", items=None, config=None, until_ms=until_ms, last_left_out=True
    )
    sold = count_sales(learnt).astype(int).tolist()
    return Run(chosen, record, data.item_ids, data.kinds, sold, make_model(learnt, chosen, None).eval())


@pytest.mark.parametrize("part", [None, 0.6])
def test_everyones_last_event_before_until_is_judged(part: float | None, tmp_path: Path) -> None:
    data = fold_clicks(tmp_path)
    until_ms = None if part is None else int(np.quantile(data.time_ms, part))
    run = fit_until(data, until_ms, recipe())
    rows = judge_last(run, data).rows
    shown = data if until_ms is None else data.before(until_ms)
    users = {row["users"] for name, row in rows.items() if name.endswith("all items")}
    assert users == {int((np.diff(shown.start) > 1).sum())}
