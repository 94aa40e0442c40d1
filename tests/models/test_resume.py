"""A run goes on only with the items it was begun with, a finished one stays, a stage keeps to its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from typer.testing import CliRunner

from models import cli, options
from models.recipe import Recipe
from models.run import checkpoint_of, describe
from models.sequences import from_lists
from models.train import fit, make_model

BASE: dict[str, Any] = {"embedding_size": 4, "encoder_config": {"hidden": 4}, "epochs": 2}
DATA = from_lists([f"u{n}" for n in range(20)], [[f"i{(n + k) % 5}" for k in range(4)] for n in range(20)])


def test_a_checkpoint_goes_with_the_attributes_of_its_items(tmp_path: Path) -> None:
    recipe = msgspec.convert(BASE | {"attributes": ["end", "size"]}, Recipe)

    def place(end: str, size: float) -> Path:
        catalogue = {f"i{n}": {"end": end[n % len(end)], "size": n * size} for n in range(5)}
        described = describe(DATA.item_ids, catalogue, recipe)
        return checkpoint_of(tmp_path, recipe, DATA, described, resume=True)

    places = {place("ab", 1.0), place("ba", 1.0), place("ac", 1.0), place("ab", 2.0)}
    assert len(places) == 4
    assert place("ab", 1.0) in places
    assert checkpoint_of(tmp_path, recipe, DATA, None, resume=True) not in places


def test_a_run_with_another_items_file_begins_anew_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [" ".join(f"i{(n + k) % 5}" for k in range(4)) for n in range(20)]
    (tmp_path / "data.txt").write_text("\n".join(events))
    (tmp_path / "recipe.toml").write_text(
        'embedding_size = 4\nencoder_config = { hidden = 4 }\nepochs = 2\nattributes = ["end"]\n'
    )

    def run(words: str) -> Any:
        items = [json.dumps({"item_id": f"i{n}", "attributes": {"end": words[n % 2]}}) for n in range(5)]
        (tmp_path / "items.jsonl").write_text("\n".join(items))
        given = ["fit", "--recipe", "recipe.toml", "--items", "items.jsonl", "--input", "data.txt"]
        given += ["--format", "bare", "--out", "run", "--threads", "1", "--resume"]
        return CliRunner().invoke(cli.app, given)

    monkeypatch.chdir(tmp_path)
    # As if it were killed before the run was written.
    monkeypatch.setattr("models.run.forget_checkpoints", lambda checkpoint: None)
    monkeypatch.setattr("models.run.save_run", lambda folder, *what: None)
    first = run("ab")
    assert first.exit_code == 0
    assert "begins anew" not in first.output
    again, other = run("ab"), run("ba")
    assert "begins anew" not in again.output
    assert other.exit_code == 0, other.output
    assert "belongs to other data, other items or another recipe: this run begins anew" in other.output


def test_what_a_stage_leaves_alone_does_not_count_in_the_length_of_its_gradients() -> None:
    stages = [{"set": {}}, {"set": {"items_learning_rate": 0.0}}]
    recipe = msgspec.convert(BASE | {"stages": stages, "gradient_norm_max": 1e-3}, Recipe)
    usual, cleared = make_model(DATA, recipe, None), make_model(DATA, recipe, None)
    fit(usual, DATA, recipe)
    fit(cleared, DATA, recipe, lambda epoch: cleared.zero_grad())
    for name, weight in usual.state_dict().items():
        assert torch.equal(weight, cleared.state_dict()[name]), name


def test_an_item_that_a_later_line_withdraws_has_no_attributes(tmp_path: Path) -> None:
    lines = [("a", {"x": 1}), ("b", {"x": 2}), ("c", None), ("a", None), ("c", {"x": 3}), ("d", None)]
    text = "".join(json.dumps({"item_id": name, "attributes": given}) + "\n" for name, given in lines)
    (tmp_path / "items.jsonl").write_text(text)
    assert options.read_catalogue(tmp_path / "items.jsonl") == {"b": {"x": 2}, "c": {"x": 3}}


@pytest.fixture
def fit_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what fits a run into a folder with other options each time."""
    events = [" ".join(f"i{(n + k) % 5}" for k in range(4)) for n in range(20)]
    (tmp_path / "data.txt").write_text("\n".join(events))
    (tmp_path / "recipe.toml").write_text("embedding_size = 4\nencoder_config = { hidden = 4 }\nepochs = 2\n")
    monkeypatch.chdir(tmp_path)

    def fit_into(*more: str) -> Any:
        given = ["fit", "--recipe", "recipe.toml", "--input", "data.txt", "--format", "bare", "--out", "run"]
        return CliRunner().invoke(cli.app, [*given, "--threads", "1", *more])

    assert fit_into("--seed", "1").exit_code == 0
    return fit_into


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_finished_run_is_not_overwritten_unless_that_is_asked_for(fit_into: Any, tmp_path: Path) -> None:
    first = contents(tmp_path / "run")
    (tmp_path / "run" / "lists.svg").touch()
    for more in ([], ["--seed", "1"], ["--set", "epochs=1"]):
        refused = fit_into(*more)
        assert refused.exit_code == 2
        assert "run: a finished run is there already" in refused.output
        assert "name another folder, or use --overwrite" in refused.output
    assert first.items() <= contents(tmp_path / "run").items()
    assert fit_into("--overwrite", "--set", "epochs=1").exit_code == 0
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert len(record["loss"]) == 1
    assert not (tmp_path / "run" / "lists.svg").exists()  # it judged the run before


def test_a_finished_run_has_nothing_to_resume(fit_into: Any, tmp_path: Path) -> None:
    first = contents(tmp_path / "run")
    again = fit_into("--resume", "--seed", "1")
    assert again.exit_code == 0, again.output
    assert "run: is finished" in again.output
    assert contents(tmp_path / "run") == first


@pytest.mark.parametrize(
    "more", [["--seed", "2"], ["--set", "epochs=3", "--seed", "1"], ["--last", "--seed", "1"]]
)
def test_another_finished_run_is_neither_resumed_nor_lost(
    fit_into: Any, tmp_path: Path, more: list[str]
) -> None:
    first = contents(tmp_path / "run")
    refused = fit_into("--resume", *more)
    assert refused.exit_code == 2
    assert "is of another recipe, other data or other items" in refused.output
    assert "use --overwrite" in refused.output
    assert contents(tmp_path / "run") == first
    assert fit_into("--resume", "--overwrite", *more).exit_code == 0
    assert contents(tmp_path / "run") != first


def test_a_run_that_was_judged_by_folds_first_is_the_same_run_only_with_them(fit_into: Any) -> None:
    folds = ("--seed", "1", "--folds", "2")
    assert fit_into(*folds, "--overwrite").exit_code == 0
    assert "is finished" in fit_into(*folds, "--resume").output
    assert fit_into("--seed", "1", "--resume").exit_code == 2


def test_a_run_that_was_killed_while_it_replaced_another_goes_on(
    fit_into: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr("models.run.forget_checkpoints", lambda checkpoint: None)
        killed.setattr("models.run.save_run", lambda folder, *what: None)
        fit_into("--overwrite", "--seed", "2")
    assert any((tmp_path / "run").glob("checkpoint-*"))
    assert fit_into("--resume", "--seed", "2").exit_code == 0
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["seed"] == 2
    assert not any((tmp_path / "run").glob("checkpoint-*"))
