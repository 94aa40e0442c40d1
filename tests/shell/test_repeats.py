"""Repeats in serving: what a ring raises, the ring itself step by step, and what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.random_bundle import random_bundle
from stream.bundle import Bundle, open_bundle
from stream.config_load import parse_config
from stream.errors import BundleError
from stream.items import ItemTable
from stream.model import Model, Reads
from stream.repeats import REPEAT_WEIGHT, Repeats, check_repeats
from stream.scorer import Scorer
from tests.shell.searching import check_search

ITEMS = 5_000  # three blocks
LENGTH = 6
FEATURES = {"step_features": ("gap_log",), "context_features": ()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("repeats") / "bundle"
    return random_bundle(folder, ["view"], items=ITEMS, repeats=LENGTH, repeats_decay=0.8, seed=5, **FEATURES)


def repeats_of(bundle: Bundle) -> Repeats:
    assert bundle.repeats is not None
    return bundle.repeats


def rings(rows: int, items: int = ITEMS, seed: int = 3) -> np.ndarray:
    """Return rings as steps fill them, some short, with items that come several times."""
    random = np.random.default_rng(seed)
    own = random.integers(1, items + 1, size=(rows, 3))
    ring = own[np.arange(rows)[:, None], random.integers(3, size=(rows, LENGTH))].astype(np.float32)
    ring[np.arange(LENGTH) < random.integers(LENGTH + 1, size=rows)[:, None]] = 0.0
    return ring


def by_formula(repeats: Repeats, ring: np.ndarray) -> np.ndarray:
    """Return the raises [B, I], a loop for each symbol of the formula."""
    raised = np.zeros((len(ring), len(repeats.weight)))
    for b, row in enumerate(ring.tolist()):
        for n, number in enumerate(reversed(row)):
            if number:
                raised[b, int(number) - 1] += repeats.decay**n
    return np.log1p(repeats.weight.astype(np.float64) * raised)


def dense(repeats: Repeats, ring: np.ndarray) -> np.ndarray:
    out = np.zeros((len(ring), len(repeats.weight)), np.float32)
    repeats.raises_of(ring).add_to(out)
    return out


def test_the_raises_are_those_of_the_formula(bundle: Bundle) -> None:
    repeats, ring = repeats_of(bundle), rings(70)
    expected = by_formula(repeats, ring)
    assert ((ring > 0).sum(1) == 0).any()
    assert ((expected > 0).sum(1) < (ring > 0).sum(1)).any()
    np.testing.assert_allclose(dense(repeats, ring), expected, rtol=1e-6, atol=1e-7)
    for rows in (1, 2, 69):
        assert np.array_equal(dense(repeats, ring[-rows:]), dense(repeats, ring)[-rows:])


def test_an_item_without_weight_is_not_raised() -> None:
    repeats = Repeats(np.array([0.0, 2.0], np.float32), 0.5, 3)
    raises = repeats.raises_of(np.array([[1, 2, 1]], np.float32))
    assert raises.item.tolist() == [1]
    assert raises.value[0] == pytest.approx(np.log1p(2.0 * 0.5))
    assert len(repeats.raises_of(np.zeros((2, 3), np.float32)).item) == 0
    assert len(repeats.raises_of(np.full((2, 3), 3.0, np.float32)).item) == 0


def test_a_step_keeps_the_last_items_that_the_bundle_knows(bundle: Bundle) -> None:
    names = ["a later item", "another"]
    config = parse_config({"events": {"kinds": {"view": "engagement"}}})
    model = Model(bundle, config, ItemTable([*bundle.item_ids, *names]))
    taken = [7, 7, ITEMS, 12, -1, 0, ITEMS + 1, ITEMS - 1, 9, 7, 30]
    state = np.zeros((1, model.state_size), np.float32)
    features = np.zeros((1, len(model.feature_names)), np.float32)
    for t, item in enumerate(taken):
        state = model.step(state, np.array([item], np.int32), features)
        had = [i + 1 for i in taken[: t + 1] if 0 <= i < ITEMS][-LENGTH:]
        assert state[0, -LENGTH:].tolist() == [0.0] * (LENGTH - len(had)) + had
    raised = np.zeros((1, ITEMS), np.float32)
    raises = model.raises(np.empty((1, 20), np.int32), state)
    assert raises is not None
    raises.add_to(raised)
    assert np.flatnonzero(raised).tolist() == [0, 7, 9, 12, 30, ITEMS - 1]


def test_the_search_finds_what_adding_up_everything_finds(bundle: Bundle) -> None:
    check_search(Scorer(bundle), repeats_of(bundle).raises_of(rings(150)))


def test_lists_have_it_with_thresholds_or_without(bundle: Bundle) -> None:
    lists = []
    for limits in ({}, {"min_similarity": -1e6, "min_context": -1e6}):
        config = parse_config({"events": {"kinds": {"view": "engagement"}}, "policies": {"default": limits}})
        model = Model(bundle, config, ItemTable(bundle.item_ids))
        random = np.random.default_rng(7)
        state = random.standard_normal((80, model.state_size)).astype(np.float32)
        state[:, -LENGTH:] = rings(80)
        reads = Reads(
            state,
            np.zeros((80, len(model.feature_names)), np.float32),
            np.ones(80, np.int32),
            np.full((80, 20), -1, np.int32),
            np.zeros((80, 20), np.bool_),
        )
        lists.append(model.rank(reads))
    for one, other in zip(*lists, strict=True):
        assert one.items == other.items
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    without = Model(bundle._replace(repeats=None), config, ItemTable(bundle.item_ids)).rank(reads)
    assert any(one.items != other.items for one, other in zip(without, lists[0], strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": np.array([1.0, -0.1], np.float32)}, "0 and above"),
        ({"decay": 0.0}, "decay above 0"),
        ({"length": 0}, "length of 1"),
        ({"weight": np.broadcast_to(np.float32(1.0), 1 << 24)}, "16,777,215 items apart"),
    ],
)
def test_repeats_that_make_no_sense_are_refused(change: dict[str, object], said: str) -> None:
    good = Repeats(np.array([1.0, 0.0], np.float32), 0.5, 3)
    assert check_repeats(good) == ""
    assert said in check_repeats(good._replace(**change))  # type: ignore[arg-type]


def test_a_bundle_whose_parts_do_not_fit_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    bundle = random_bundle(folder, ["view"], items=20, repeats=3, **FEATURES)
    assert REPEAT_WEIGHT in bundle.manifest.files
    manifest = folder / "manifest.json"
    good = msgspec.json.decode(manifest.read_bytes())
    for repeats, said in (
        (None, "repeats must be there"),
        ({"decay": 1.0, "length": good["state_size"]}, "shorter than the state"),
        ({"decay": 1.5, "length": 3}, "decay above 0"),
    ):
        manifest.write_bytes(msgspec.json.encode(good | {"repeats": repeats}))
        with pytest.raises(BundleError, match=said):
            open_bundle(folder)


def test_an_unknown_item_with_a_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "export.random_bundle.random_oov", lambda random, size, width: np.ones((17, width), np.float32)
    )
    with pytest.raises(BundleError, match="an unknown item has no number"):
        random_bundle(tmp_path / "bundle", ["view"], items=20, repeats=3, **FEATURES)


def test_repeats_beside_neighbours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="without co_occurrence"):
        random_bundle(tmp_path / "bundle", ["view"], items=20, repeats=3, neighbours=2, **FEATURES)
