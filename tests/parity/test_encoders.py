"""Stepping equals the sequence, for every kind of encoder, in torch and in the bundle.

Each bundle is made by the real export, which proves it on adversarial sequences and on batches of 1 to 255
rows before it lets it out. The options differ from kind to kind, so that all of them are exported once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from export.random_bundle import SMALL, random_bundle, random_model
from models.encoders import ENCODERS
from models.encoders.lru import multiply
from models.encoders.transformer import Transformer
from models.encoders.window import Blocks, TimeBias, ages, grow_older, hats
from models.recommender import RecommenderConfig

KINDS = ["view", "buy"]
ITEMS = 30
DAYS_MS = 86_400_000
ATTRIBUTES = [
    {"name": f"a blue thing, number {i}", "price": 1.5 * i, "brand": "ab"[i % 2], "picture": [1.0, float(i)]}
    for i in range(ITEMS)
]

#: Every option of a model with one of the kinds.
OPTIONS: dict[str, dict[str, Any]] = {
    "gru": {"similarity": "euclid", "repeats": 7},
    "lstm": {
        "step_features": (),
        "context_features": (),
        "memory_half_lives": (),
    },  # plain sequences of items
    "lru": {"gap_buckets": 4, "context_features": ()},
    "cnn": {"precision": "int8", "context_features": (), "untied": True},
    "transformer": {
        "hazard_bins_ms": (7 * DAYS_MS, 30 * DAYS_MS),
        "context_features": (),
        "untied": True,
        "entrance": "norm",
    },
    "hstu": {"similarity": "cosine", "rerank_hidden": 8, "attributes": ATTRIBUTES, "context_features": ()},
}


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_the_export_proves_every_kind(kind: str, tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "b", KINDS, items=ITEMS, encoder=kind, **OPTIONS[kind])
    assert bundle.version.startswith(kind)
    assert bundle.manifest.encoder["kind"] == kind


def test_the_options_cover_every_kind() -> None:
    assert OPTIONS.keys() == SMALL.keys() == ENCODERS.keys()


def small_encoder(kind: str, seed: int = 3, **other: Any) -> Any:
    config = RecommenderConfig(
        items=3, embedding_size=8, step_features=(), encoder=kind, encoder_config=SMALL[kind] | other
    )
    return random_model(config, seed).encoder


def walk(encoder: Any, x: Tensor, gap_log: Tensor) -> Tensor:
    state = torch.zeros(len(x), encoder.state_size)
    said = []
    with torch.no_grad():
        for t in range(x.shape[1]):
            state = encoder.step(state, x[:, t], gap_log[:, t])
            said.append(encoder.read(state))
    return torch.stack(said, 1)


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_steps_equal_the_sequence_over_many_windows(kind: str) -> None:
    encoder = small_encoder(kind)
    x, gap_log = torch.randn(4, 50, 8), 21.0 * torch.rand(4, 50)
    with torch.no_grad():
        torch.testing.assert_close(walk(encoder, x, gap_log), encoder(x, gap_log), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_no_event_sees_a_later_one(kind: str) -> None:
    encoder = small_encoder(kind)
    x, gap_log = torch.randn(1, 20, 8), torch.rand(1, 20)
    other = x.clone()
    other[:, 10:] += 1.0
    with torch.no_grad():
        before, after = encoder(x, gap_log), encoder(other, gap_log)
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.equal(before[:, 10], after[:, 10])


@pytest.mark.parametrize(
    ("kind", "reach"),
    [("cnn", 1 + 2 * (1 + 2)), ("transformer", 1 + 2 * (6 - 1)), ("hstu", 1 + 2 * (6 - 1))],
)
def test_a_window_forgets_what_is_older_and_nothing_else(kind: str, reach: int) -> None:
    encoder = small_encoder(kind)
    x, gap_log = torch.randn(1, 40, 8), torch.rand(1, 40)
    other = x.clone()
    other[:, 5] += 10.0
    with torch.no_grad():
        differs = (encoder(x, gap_log) != encoder(other, gap_log)).any(-1)[0]
    assert differs[5 : 5 + reach].all()
    assert not differs[5 + reach :].any()


@pytest.mark.parametrize("kind", ["transformer", "hstu"])
def test_attention_tells_a_minute_from_a_year(kind: str) -> None:
    encoder = small_encoder(kind)
    x, gap_log = torch.randn(1, 4, 8), torch.full((1, 4), 4.0)
    later = gap_log.clone()
    later[:, 2] = 17.0
    with torch.no_grad():
        before, after = encoder(x, gap_log), encoder(x, later)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 3], after[:, 3])


@pytest.mark.parametrize("kind", ["transformer", "hstu"])
def test_attention_does_without_time(kind: str) -> None:
    encoder = small_encoder(kind, time_buckets=0)
    assert encoder.state_size < small_encoder(kind).state_size
    x, gap_log = torch.randn(4, 50, 8), 21.0 * torch.rand(4, 50)
    with torch.no_grad():
        said = encoder(x, gap_log)
        assert torch.equal(said, encoder(x, torch.zeros(4, 50)))
        torch.testing.assert_close(walk(encoder, x, gap_log), said, atol=1e-5, rtol=0)


@pytest.mark.parametrize("time_buckets", [0, 5])
def test_attention_over_a_recurrence_forgets_nothing(time_buckets: int) -> None:
    encoder = small_encoder("transformer", recurrent=12, time_buckets=time_buckets)
    assert encoder.state_size == 12 + small_encoder("transformer", time_buckets=time_buckets).state_size
    x, gap_log = torch.randn(4, 40, 8), 21.0 * torch.rand(4, 40)
    other = x.clone()
    other[:, 5] += 10.0
    with torch.no_grad():
        said = encoder(x, gap_log)
        differs = (said != encoder(other, gap_log)).any(-1).any(0)
        torch.testing.assert_close(walk(encoder, x, gap_log), said, atol=1e-5, rtol=0)
    assert not differs[:5].any()
    assert differs[5:].all()


def test_the_export_proves_attention_over_a_recurrence(tmp_path: Path) -> None:
    config = SMALL["transformer"] | {"recurrent": 12}
    bundle = random_bundle(tmp_path / "b", KINDS, items=ITEMS, encoder="transformer", encoder_config=config)
    assert bundle.manifest.encoder["recurrent"] == 12


def test_ages_tell_seconds_after_centuries() -> None:
    gap_log = torch.log1p(torch.tensor([[0.0, 10 * 365 * 86_400.0, *([3e9] * 8), 5.0]]))
    ring = torch.zeros(1, 4)
    for t in range(gap_log.shape[1]):
        ring = grow_older(ring, gap_log[:, t])
    age = ages(gap_log, Blocks(gap_log.shape[1], 4))[0, -1]  # [C, K] of the last block
    last = (gap_log.shape[1] - 1) % len(age)
    assert age[last, last + 2].item() == pytest.approx(5.0, rel=1e-5)
    torch.testing.assert_close(age[last, last : last + 4], ring[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8, 9, 23])
def test_blocks_look_at_the_window_before_each_event(steps: int) -> None:
    blocks = Blocks(steps, 4)
    number = 1.0 + torch.arange(float(steps))[None, :, None]
    own, seen = (part(number)[0, :, 0, :, 0] for part in (blocks.own, blocks.seen))  # [N, C], [N, K]
    assert torch.equal(blocks.join(blocks.own(number)), number)
    for block, row in np.ndindex(own.shape):
        if event := int(own[block, row]):
            looked_at = seen[block][blocks.allowed[block, row]].tolist()
            assert looked_at == list(range(max(1, event - 3), event + 1))
            places = blocks.place[row][blocks.allowed[block, row]].tolist()
            assert places == [3 - (event - int(other)) for other in looked_at]


def test_time_buckets_do_not_jump() -> None:
    age = torch.tensor([0.0, 1.0, 60.0, 3_600.0, 1e6, 1e12])
    bias = TimeBias(2, 7)
    torch.nn.init.normal_(bias.weight)
    nearly = age * (1 + 1e-6)
    torch.testing.assert_close(bias(age), bias(nearly), atol=1e-4, rtol=0)
    shares = hats(torch.log1p(age), 20.4, 7)
    torch.testing.assert_close(shares.sum(-1), torch.ones(6))
    assert shares[-1, -1] == 1.0


def test_pairs_of_reals_multiply_like_complex_numbers() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 5, 2))
    product = multiply(torch.tensor(a).T.contiguous(), torch.tensor(b).T.contiguous()).numpy()
    expected = (a[:, 0] + 1j * a[:, 1]) * (b[:, 0] + 1j * b[:, 1])
    np.testing.assert_allclose(product[0] + 1j * product[1], expected)


def test_memories_of_a_linear_recurrence_fade() -> None:
    encoder = small_encoder("lru")
    radius = torch.exp(-torch.exp(encoder.layers[0].fade))
    assert (radius > 0.4).all()
    assert (radius < 0.99).all()


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        Transformer(ENCODERS["transformer"][0](width=10, heads=4), 8)
