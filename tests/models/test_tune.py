"""The tuner compares like with like: no trial changes what is asked, no study goes on with other items."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.recipe import Recipe
from models.sequences import from_lists
from models.tune import Range, Space, read_space, tune
from stream.errors import UsageError

BASE: dict[str, Any] = {
    "embedding_size": 4,
    "encoder_config": {"hidden": 4},
    "epochs": 1,
    "validation": {"by": "users", "share": 0.4, "measure": "ndcg"},
}
DATA = from_lists([f"u{n}" for n in range(20)], [[f"i{(n + k) % 5}" for k in range(4)] for n in range(20)])


def search(folder: Path, space: dict[str, Any], base: dict[str, Any] = BASE, **options: Any) -> Any:
    recipe = msgspec.convert(base, Recipe)
    return tune(DATA, recipe, space, folder, **{"trials": 1} | options)


@pytest.mark.parametrize(
    "space",
    [
        {"sold_min": [1, 400]},
        {"horizon": [1, 3]},
        {"target_kinds": [["view"], []]},
        {"cleaning.missing": [True, False]},
        {"contexts": [{"device": ["phone"]}, {}]},
        {"validation.share": [0.1, 0.2]},
        {"validation": [{"by": "last"}, {"by": "users"}]},
        {"seed": [1, 2]},
        {"stages": [[], [{"set": {"epochs": 1, "sold_min": 9}}]]},
    ],
    ids=lambda space: next(iter(space)),
)
def test_what_decides_the_question_is_not_tuned(space: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"decides what is read or judged\n.* take it out of the space"):
        search(tmp_path, space)


@pytest.mark.parametrize(
    "space",
    [
        {"horizon_decay": [0.5, 1.0]},
        {"rerank.weight": [0.1, 1.0]},
        {"rerank.candidates": [10, 50]},
        {"hazard": [{"weight": 0.1}, {"weight": 1.0}]},
        {"next_item.kind": ["softmax", "gbce"]},
        {"stages": [[], [{"set": {"next_item.weight": 0.1}}]]},
    ],
    ids=lambda space: next(iter(space)),
)
def test_what_decides_what_a_loss_is_of_is_not_tuned_by_the_loss(
    space: dict[str, Any], tmp_path: Path
) -> None:
    by_loss = BASE | {"validation": {"by": "users", "share": 0.4, "measure": "loss"}}
    with pytest.raises(UsageError, match=r"do not compare\n.* choose by \"ndcg\""):
        search(tmp_path, space, by_loss)


@pytest.mark.parametrize(
    "space", [{"horizon_decay": [0.5]}, {"stages": [[], [{"freeze": ["items"], "set": {"epochs": 1}}]]}]
)
def test_what_only_training_sees_is_tuned(space: dict[str, Any], tmp_path: Path) -> None:
    assert search(tmp_path, space, BASE | {"horizon": 2}).trials == 1


def test_a_study_keeps_to_the_items_that_it_was_begun_with(tmp_path: Path) -> None:
    first, other = ({f"i{n}": {"end": "ab"[n % parts]} for n in range(5)} for parts in (1, 2))
    space, base = {"dropout": [0.1]}, BASE | {"attributes": ["end"]}
    search(tmp_path, space, base, catalogue=first)
    assert search(tmp_path, space, base, trials=2, catalogue=first).trials == 2
    with pytest.raises(UsageError, match="belongs to other data or items"):
        search(tmp_path, space, base, trials=3, catalogue=other)


def test_a_study_that_reads_no_attribute_goes_on_with_others(tmp_path: Path) -> None:
    for trials, word in enumerate("ab", 1):
        found = search(tmp_path, {"dropout": [0.1]}, trials=trials, catalogue={"i0": {"end": word}})
        assert found.trials == trials


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"encodr": ["gru", "lru"]}, 'encodr = "gru": .*unknown field `encodr`'),
        ({"encoder": ["gru", "mamba"]}, "encoder = \"mamba\": Invalid enum value 'mamba'"),
        ({"dropout": [0.1, "much"]}, 'dropout = "much": Expected `float`'),
        ({"dropout": Range(0.1, 1.5)}, "dropout = 1.5: Expected `float` <= 1.0"),
        ({"epochs": Range(1.0, 5.0)}, "epochs = .*Expected `int`"),
        ({"similarity": []}, "similarity: no choice"),
        ({"augment.mask": [0.1], "augment.crp": [0.1]}, ".*unknown field `crp`"),
        ({"epochs.most": [1]}, "epochs.most = 1: Expected `int`"),
        ({"stages": [[], [{"set": {"epoch": 1}}]]}, ".*unknown field `epoch`"),
        (
            {"encoder_config.hiden": [4, 8]},
            "encoder_config.hiden: no such key of gru\n.*they have hidden",
        ),
        ({"encoder": ["gru", "lru"]}, "encoder: lru has no hidden, which the recipe's encoder_config sets"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else None,
)
def test_a_choice_that_cannot_be_is_refused_before_the_study_begins(
    space: Space, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        search(tmp_path / "study", space)
    assert re.search(f"the space, {said}", str(refused.value), re.DOTALL)
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{ low = 0.5, high = 0.1 }", "`low` must not be above `high`: 0.5, 0.1"),
        ("{ low = 0.0, high = 0.1, log = true }", "`log` wants a `low` above 0"),
        ("{ low = 1e-3, high = 0.1, log = true, step = 0.1 }", "no `step`"),
        ("{ low = 2, high = 8, step = 0.5 }", "`step` must be whole"),
        ("{ low = 2, high = 8, step = 0 }", "`step` must be above 0"),
        ("{ high = 8 }", "missing required field `low`"),
        ("{ low = 2, high = inf }", "`low` must not be above"),
        ("0.5", "neither a range nor a list"),
    ],
)
def test_a_range_that_cannot_be_is_refused_when_the_space_is_read(
    given: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "space.toml").write_text(f"[augment]\nmask = {given}\n")
    with pytest.raises(UsageError) as refused:
        read_space(tmp_path / "space.toml")
    assert re.search(f"the space, augment.mask: .*{said}", str(refused.value))


def test_a_table_that_the_recipe_leaves_out_can_be_tuned(tmp_path: Path) -> None:
    found = search(tmp_path, {"repeats.decay": [0.9]})
    assert found.recipe.repeats is not None
    assert found.recipe.repeats.decay == 0.9


def test_a_trial_that_failed_says_why_and_is_no_trial_that_was_cut_short(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: dict[int, float | str] = {}
    space: Space = {"encoder_config": [{"hidden": 4}, {"width": 4}]}
    found = search(tmp_path, space, trials=12, on_trial=lambda n, value, best: told.update({n: value}))
    failed = [value for value in told.values() if isinstance(value, str)]
    assert 0 < len(failed) < 12
    assert all(value.startswith("failed: encoder_config: ") and "width" in value for value in failed)
    assert found.params == {"encoder_config": {"hidden": 4}}
    assert "Traceback" not in capfd.readouterr().err


def test_where_no_trial_came_to_its_end_the_last_error_and_its_remedy_are_said(tmp_path: Path) -> None:
    space: Space = {"encoder_config": [{"width": 4}]}
    for trials in (2, 2):  # the second call trains nothing, and knows it still
        with pytest.raises(UsageError) as refused:
            search(tmp_path, space, trials=trials)
        assert re.search("the last that failed said: encoder_config: .*width", refused.value.what)
        assert refused.value.remedy == "models/encoders/gru.py has its keys"
