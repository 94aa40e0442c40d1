"""Files of item sequences in every program: the same items, the same refusals, as events have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from export import cli as export_cli
from models.options import read_file
from models.run import load_run
from stream.bundle import open_bundle
from stream.errors import InputError, UsageError
from tests.models.reading import HEAD, fit, run, write_place


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return write_place(tmp_path)


# ------------------------------------------------------------------------------- the same items everywhere


@pytest.mark.parametrize("form", ["sequences", "bare", "atomic"])
def test_items_that_are_known_keep_their_places_in_another_file(tmp_path: Path, form: str) -> None:
    """A run's table is in the order of the file that it learnt from; another file begins with others."""
    lists = [["c", "d"], ["b", "e", "c"]]
    text = {
        "sequences": "".join(f"u{n} {' '.join(items)}\n" for n, items in enumerate(lists)),
        "bare": "".join(f"{' '.join(items)}\n" for items in lists),
        "atomic": HEAD
        + "".join(f"u{n}\t{i}\t{k}\t3\n" for n, items in enumerate(lists) for k, i in enumerate(items)),
    }[form]
    (tmp_path / "f").write_text(text)
    data = read_file(str(tmp_path / "f"), form, ["a", "b", "c"])
    assert data.item_ids[:3] == ["a", "b", "c"]
    assert sorted(data.item_ids) == ["a", "b", "c", "d", "e"]
    assert [data.item_ids[i] for i in data.item] == ["c", "d", "b", "e", "c"]
    assert data.item.dtype == np.int32


# ---------------------------------------------------------------------------------------------- the export


def test_an_export_with_input_needs_the_config_of_events(at: Path) -> None:
    assert fit(at).exit_code == 0
    ran = CliRunner().invoke(
        export_cli.app, [str(at / "run"), str(at / "bundle"), "--input", str(at / "none.jsonl")]
    )
    assert isinstance(ran.exception, UsageError)
    assert "config" in str(ran.exception)
    assert not (at / "bundle").exists()


def test_an_export_with_input_that_is_not_there_is_refused(at: Path) -> None:
    assert fit(at).exit_code == 0
    for words in (["--format", "bare"], ["--config", str(at / "ebbtide.toml")]):
        ran = CliRunner().invoke(
            export_cli.app, [str(at / "run"), str(at / "bundle"), "--input", str(at / "none"), *words]
        )
        assert isinstance(ran.exception, InputError)
        assert "none" in ran.exception.place


@pytest.mark.parametrize("form", ["sequences", "atomic"])
def test_runs_of_item_sequences_are_proved_on_them_and_their_compression_is_measured(
    at: Path, form: str
) -> None:
    text = "".join(f"u{n} {' '.join(f'i{(n + k) % 7}' for k in range(9))}\n" for n in range(30))
    if form == "atomic":
        rows = (f"u{n}\ti{(n + k) % 7}\t{86_400 * k}\t3\n" for n in range(30) for k in range(9))
        text = HEAD + "".join(rows)
    (at / "s.txt").write_text(text)
    assert fit(at, "--format", form, "--set", "epochs=20", input="s.txt").exit_code == 0
    given = (at / "run", at / "bundle", "--input", at / "s.txt", "--format", form, "--precision", "int8")
    ran = run(*given, app=export_cli.app)
    assert ran.exit_code == 0, ran.output
    assert "over 37 sequences" in ran.output, "7 that are made, 30 of the file"
    assert "of the largest number of a sequence" in ran.output
    loss = open_bundle(at / "bundle").manifest.metrics["compression"]
    assert loss["positions"] == 30
    assert 0.9 < loss["items_kept"] <= 1.0


# ---------------------------------------------------------------------------------------------- evaluate


def write_ratings(path: Path) -> None:
    """Write ratings that follow from the item, of thirty days."""
    chance = np.random.default_rng(0)
    rows = [
        f"u{n}\ti{item}\t{1_700_000_000 + 86_400 * k + n}\t{1 + item % 5}\n"
        for n in range(30)
        for k, item in enumerate(np.cumsum(chance.integers(1, 3, 30)) % 10)
    ]
    path.write_text(HEAD + "".join(rows))


def test_a_value_head_is_judged_on_an_atomic_file_without_a_config(at: Path) -> None:
    write_ratings(at / "r.inter")
    form, until = ("--format", "atomic"), "2023-12-05T00:00:00Z"
    words = ("--set", "epochs=30", "--set", "learning_rate=0.03", "--set", 'value={of="item"}')
    ran = fit(at, *form, *words, "--until", until, input="r.inter")
    assert ran.exit_code == 0, ran.output
    ran = run("evaluate", at / "run", "--from", until, "--input", at / "r.inter", *form, "--threads", 1)
    assert ran.exit_code == 0, ran.output
    metrics = load_run(at / "run").record.metrics
    assert metrics.keys() == {"value"}
    assert metrics["value"]["value head"]["values"] > 100
    assert metrics["value"]["value head"]["MAE"] < metrics["value"]["mean in training"]["MAE"]
    assert "--last" in ran.stderr, "what the lists are judged by"


def test_a_run_of_lists_alone_is_not_judged_from_an_instant_of_an_atomic_file(at: Path) -> None:
    write_ratings(at / "r.inter")
    form, until = ("--format", "atomic"), "2023-12-05T00:00:00Z"
    assert fit(at, *form, "--until", until, input="r.inter").exit_code == 0
    ran = run("evaluate", at / "run", "--from", until, "--input", at / "r.inter", *form)
    assert ran.exit_code == 2
    assert "--last" in ran.stderr


def test_what_has_no_times_is_not_judged_from_an_instant(at: Path) -> None:
    (at / "s.txt").write_text("".join(f"u{n} a b c d\n" for n in range(9)))
    form = ("--format", "sequences")
    assert fit(at, *form, "--until", "2023-12-05", input="s.txt").exit_code == 2
    assert fit(at, *form, input="s.txt").exit_code == 0
    ran = run("evaluate", at / "run", "--from", "2023-12-05", "--input", at / "s.txt", *form)
    assert ran.exit_code == 2
    assert "no times" in ran.stderr


def test_events_need_the_config_to_be_judged(at: Path) -> None:
    assert fit(at, "--until", "2023-12-05").exit_code == 0
    ran = run("evaluate", at / "run", "--from", "2023-12-05", "--input", at / "clicks.jsonl")
    assert ran.exit_code == 2
    assert "--config" in ran.stderr
