"""A bundle opens whole and unaltered, or says what is wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from export.random_bundle import random_bundle
from stream.bundle import MANIFEST, Bundle, open_bundle, sha256
from stream.core.hashing import fnv1a_all
from stream.encoder import Encoder
from stream.errors import BundleError

NAMES = [
    "hour_cos",
    "kind=view",
    "kind=buy",
    "gap_log",
    "hour_sin",
    "value_log",
    "weekday_sin",
    "weekday_cos",
]
NAMES += ["context.device"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return random_bundle(
        tmp_path_factory.mktemp("bundle") / "b", ["view", "buy"], {"device": ["desk", "phone"]}, items=50
    )


@pytest.fixture
def folder(made: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.path, tmp_path / "b"))


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))


def test_it_opens_with_all_its_parts(made: Bundle) -> None:
    assert made.item_ids[0] == "item-0"
    assert made.items.shape == (50, 8)
    assert made.items.dtype == made.item_bias.dtype == made.oov.dtype == np.float32
    assert made.manifest.vocabularies == {"device": ["desk", "phone"]}
    assert made.version.startswith("gru-")


def test_the_same_seed_makes_the_same_bundle_and_another_seed_another(made: Bundle, tmp_path: Path) -> None:
    contexts = {"device": ["desk", "phone"]}
    again = random_bundle(tmp_path / "again", ["view", "buy"], contexts, items=50)
    other = random_bundle(tmp_path / "other", ["view", "buy"], contexts, items=50, seed=1)
    assert again.manifest == made.manifest
    assert other.version != made.version


@pytest.mark.parametrize("name", ["items.npy", "user_step.onnx", "item_ids.txt"])
def test_an_altered_file_is_refused_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}: is not the file that was exported"):
        open_bundle(folder)


def test_a_missing_file_is_refused_by_name(folder: Path) -> None:
    (folder / "oov.npy").unlink()
    with pytest.raises(BundleError, match=r"oov\.npy: cannot be read"):
        open_bundle(folder)


def test_a_folder_without_manifest_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: cannot be read[^→]*→ name the folder"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "format 2, this version reads 1"),
        (lambda m: m.update(colour="blue"), "unknown field `colour`"),
        (lambda m: m.pop("state_size"), "missing required field `state_size`"),
        (lambda m: m.update(similarity="taxi"), "taxi"),
        (lambda m: m.update(block=0), "block must be 1 or more"),
        (lambda m: m.update(kinds=["view", "view"]), "kinds must be without repeats"),
        (lambda m: m.update(hazard={"bins_ms": [2, 1], "horizon_ms": 5}), "rising bins"),
        (lambda m: m["files"].pop("score.onnx"), r"lacks score\.onnx"),
        (lambda m: m["files"].update({"../secret": "00"}), r"names files that no bundle has: \.\./secret"),
        (lambda m: m.update(context_features=[]), r"context\.onnx must be there if"),
        (lambda m: m.update(items=51), r"expected float16 or float32 \(51, 8\)"),
        (lambda m: m.update(item_size=9), r"step_items\.npy must be there"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(folder, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


def replace(folder: Path, name: str, content: bytes | np.ndarray) -> None:
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        np.save(folder / name, content)
    edit(folder, lambda m: m["files"].update({name: sha256(folder / name)}))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("items.npy", np.zeros((50, 8)), "float64"),
        ("items.npy", np.full((50, 8), np.nan, np.float32), "not finite"),
        ("items.npy", np.array([{}], object), "no array"),
        ("items.npy", b"nonsense", "no array"),
        ("item_ids.txt", b"a\n" * 50, "50 different ids"),
        ("item_ids.txt", b"\xff\n", "not UTF-8"),
    ],
)
def test_a_file_with_the_right_hash_and_nonsense_inside_is_refused(
    folder: Path, name: str, content: bytes | np.ndarray, message: str
) -> None:
    replace(folder, name, content)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


def test_a_model_that_is_none_is_refused_when_it_is_loaded(folder: Path) -> None:
    replace(folder, "user_step.onnx", b"nonsense")
    with pytest.raises(BundleError, match=r"user_step\.onnx: ONNX Runtime .* refuses the model"):
        Encoder(open_bundle(folder), NAMES, [])


def test_a_feature_that_the_core_does_not_give_is_named(made: Bundle) -> None:
    with pytest.raises(BundleError, match=r"does not give: hour_sin"):
        Encoder(made, [name for name in NAMES if name != "hour_sin"], made.item_ids)


def test_a_kind_that_the_config_does_not_have_counts_as_never_seen(made: Bundle) -> None:
    fewer = [name for name in NAMES if name != "kind=buy"]
    features = np.random.default_rng(0).standard_normal((4, len(NAMES))).astype(np.float32)
    features[:, NAMES.index("kind=buy")] = 0.0
    state, item = np.zeros((4, made.manifest.state_size), np.float32), np.arange(4, dtype=np.int32)
    expected = Encoder(made, NAMES, made.item_ids).step(state, item, features)
    without = np.delete(features, NAMES.index("kind=buy"), axis=1)
    assert np.array_equal(Encoder(made, fewer, made.item_ids).step(state, item, without), expected)


def test_unknown_items_enter_by_hash_and_no_item_has_a_row_of_its_own(made: Bundle) -> None:
    ids = list(made.item_ids)
    encoder = Encoder(made, NAMES, ids)
    ids += ["new", "newer", "ü"]
    rows = encoder.item_rows(np.array([3, -1, 51, 52, 50], np.int32))
    data = "".join(ids[50:]).encode()
    hashes = fnv1a_all(np.frombuffer(data, np.uint8), np.array([0, 3, 8, 10]))
    new, newer, umlaut = (hashes % np.uint64(16)).astype(int)
    expected = [made.items[3], made.oov[-1], made.oov[newer], made.oov[umlaut], made.oov[new]]
    assert np.array_equal(rows, np.stack(expected))


def test_columns_are_found_by_name(made: Bundle) -> None:
    encoder, mixed = Encoder(made, NAMES, made.item_ids), Encoder(made, NAMES[::-1], made.item_ids)
    features = np.random.default_rng(1).standard_normal((3, len(NAMES))).astype(np.float32)
    state, item = np.zeros((3, made.manifest.state_size), np.float32), np.zeros(3, np.int32)
    assert np.array_equal(encoder.step(state, item, features), mixed.step(state, item, features[:, ::-1]))
    first, second = encoder.context(features), mixed.context(features[:, ::-1])
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)


def test_a_large_state_is_stepped_in_parts_of_equal_bits(
    made: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    encoder = Encoder(made, NAMES, made.item_ids)
    state = random.standard_normal((100, encoder.state_size)).astype(np.float32)
    item = random.integers(-1, 50, size=100).astype(np.int32)
    features = random.standard_normal((100, len(NAMES))).astype(np.float32)
    whole = encoder.step(state, item, features)
    monkeypatch.setattr("stream.encoder._STEP_BYTES", 0)
    assert np.array_equal(encoder.step(state, item, features), whole)
