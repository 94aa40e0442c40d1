"""Items that were taken near each other begin near each other."""

from __future__ import annotations

from math import log
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from models.neighbours import count_pairs, mutual_information, neighbour_codes
from models.recipe import Neighbours, Recipe
from models.sequences import from_lists
from models.train import make_model


def lists_of(*lines: str) -> Any:
    return from_lists([f"u{n}" for n in range(len(lines))], [line.split() for line in lines])


def test_pairs_count_less_the_further_apart_they_stand() -> None:
    data = lists_of("a b c d", "b a")
    a, b, c, d = (data.item_ids.index(name) for name in "abcd")
    pairs = count_pairs(data, Neighbours(reach=2, fade=0.5)).to_dense()
    assert torch.equal(pairs, pairs.T)
    assert pairs[a, b] == 2.0  # next to each other, once for each user
    assert pairs[a, c] == pairs[b, d] == 0.5
    assert pairs[a, d] == 0.0  # three events apart


def test_information_is_what_the_formula_says() -> None:
    counts = torch.tensor([[0.0, 3.0, 1.0], [3.0, 0.0, 0.0], [1.0, 0.0, 2.0]])
    found = mutual_information(counts.to_sparse().coalesce(), 0.75).to_dense()
    sums = [4.0, 3.0, 3.0]
    power = [s**0.75 for s in sums]
    for i in range(3):
        for j in range(3):
            told = log(counts[i, j] / (sums[i] * power[j] / sum(power))) if counts[i, j] else 0.0
            assert found[i, j] == pytest.approx(max(0.0, told), abs=1e-6)


def test_codes_put_two_worlds_apart_and_leave_a_stranger_at_zero() -> None:
    chance = np.random.default_rng(1)
    worlds = [list("abcdef"), list("uvwxyz")]
    lines = [" ".join(chance.permutation(worlds[n % 2])[:4]) for n in range(60)]
    data = lists_of(*lines, "alone")
    torch.manual_seed(0)
    codes = neighbour_codes(data, 4, Neighbours(strength=2.0))
    length = codes.norm(dim=1)
    stranger = data.item_ids.index("alone")
    assert length[stranger] == 0.0
    assert length[length > 0].mean() == pytest.approx(2.0, rel=1e-5)
    near = normalize(codes, dim=1) @ normalize(codes, dim=1).T
    one, other = ([data.item_ids.index(name) for name in world] for world in worlds)
    assert near[one][:, one].mean() > near[one][:, other].mean() + 0.5


def test_there_may_be_fewer_items_than_dimensions() -> None:
    codes = neighbour_codes(lists_of("a b", "b c"), 8, Neighbours())
    assert codes.shape == (3, 8)
    assert codes.isfinite().all()


def test_a_model_begins_with_them_and_no_item_at_zero() -> None:
    data = lists_of("a b c", "b c a", "c d a")
    recipe = msgspec.convert({"embedding_size": 4, "neighbours": {}}, Recipe)
    weight = make_model(data, recipe, None).items.own.weight
    assert weight[:-1].norm(dim=1).mean().item() == pytest.approx(1.0, rel=1e-5)
    assert not weight[-1].any()


def test_items_begin_in_one_way_only() -> None:
    with pytest.raises(msgspec.ValidationError, match="one way only"):
        msgspec.convert({"repurchase": {}, "neighbours": {}}, Recipe)
