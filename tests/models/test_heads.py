"""Losses and heads against what they are said to be, computed the naive way."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from torch import Tensor

from models.heads import (
    Hazard,
    Sampler,
    Value,
    fit_platt,
    gbce,
    log_loss,
    outcomes,
    sampled_softmax,
    softmax_loss,
    value_loss,
)
from models.rerank import Reranker
from models.similarity import SCALE_MAX, SCALE_START, Similarity

ITEMS, D, N = 40, 6, 25
DAY_MS = 86_400_000


@pytest.fixture
def scene() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(N, D), torch.randint(ITEMS, (N,)), torch.randn(ITEMS, D), 0.5 * torch.randn(ITEMS)


def full_softmax(query: Tensor, target: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
    weight = torch.full((len(target),), 1.0 / len(target))
    return softmax_loss(query, torch.arange(len(target)), target, weight, rows, bias)


def test_full_softmax_is_the_mean_log_loss(scene: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    query, target, rows, bias = scene
    scores = (query.double() @ rows.double().T + bias).exp()
    chance = scores[torch.arange(N), target] / scores.sum(1)
    assert full_softmax(*scene).item() == pytest.approx(-chance.log().mean().item(), rel=1e-5)


def test_softmax_in_parts_has_the_loss_and_the_gradients_of_the_whole() -> None:
    torch.manual_seed(3)
    positions, several = 150, 400  # more than are scored at once, and positions with several targets
    parts = [torch.randn(n, D, dtype=torch.float64) for n in (positions, ITEMS)]
    parts.append(torch.randn(ITEMS, dtype=torch.float64))
    position, target = torch.randint(positions, (several,)), torch.randint(ITEMS, (several,))
    weight = torch.rand(several, dtype=torch.float64)
    for part in parts:
        part.requires_grad_()
    query, rows, bias = parts
    plain = -((query @ rows.T + bias).log_softmax(1)[position, target] * weight).sum()
    found = softmax_loss(query, position, target, weight, rows, bias)
    torch.testing.assert_close(found, plain)
    for one, other in zip(
        torch.autograd.grad(3 * found, parts), torch.autograd.grad(3 * plain, parts), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_items_taken_out_of_a_softmax_neither_compete_nor_learn() -> None:
    torch.manual_seed(4)
    positions = 150  # more than are scored at once
    parts = [torch.randn(n, D, dtype=torch.float64) for n in (positions, ITEMS)]
    parts.append(torch.randn(ITEMS, dtype=torch.float64))
    position, target = torch.arange(positions), torch.randint(ITEMS, (positions,))
    weight = torch.rand(positions, dtype=torch.float64)
    gone = torch.rand(positions, ITEMS) < 0.3
    gone[position, target] = False
    gone[70] = False
    for part in parts:
        part.requires_grad_()
    query, rows, bias = parts
    scores = (query @ rows.T + bias).masked_fill(gone, -torch.inf)
    plain = -(scores.log_softmax(1)[position, target] * weight).sum()
    found = softmax_loss(query, position, target, weight, rows, bias, torch.nonzero(gone).T)
    torch.testing.assert_close(found, plain)
    for one, other in zip(torch.autograd.grad(found, parts), torch.autograd.grad(plain, parts), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_sampled_softmax_tends_to_the_full_one_whatever_is_drawn(
    scene: tuple[Tensor, Tensor, Tensor, Tensor], power: float
) -> None:
    sampler = Sampler(torch.arange(ITEMS), power, seed=1)
    drawn = sampler.draw(40_000)
    sampled = sampled_softmax(*scene, drawn, sampler.share).mean()
    assert sampled.item() == pytest.approx(full_softmax(*scene).item(), abs=0.05)


def test_without_its_correction_the_sampled_softmax_would_be_off(
    scene: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    sampler = Sampler(torch.arange(ITEMS), 1.0, seed=1)
    drawn = sampler.draw(40_000)
    wrong = sampled_softmax(*scene, drawn, torch.full((ITEMS,), 1 / ITEMS)).mean()
    assert abs(wrong.item() - full_softmax(*scene).item()) > 0.06


def test_a_draw_of_the_own_target_counts_for_nothing(scene: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    query, _, rows, bias = scene
    drawn = torch.tensor([3, 5, 3])
    share = torch.full((ITEMS,), 1 / ITEMS)
    only = sampled_softmax(query[:1], torch.tensor([3]), rows, bias, drawn, share)
    scores = query[0] @ rows.T + bias
    against = scores[5] - log(3 / ITEMS)
    assert only.item() == pytest.approx((torch.logaddexp(scores[3], against) - scores[3]).item(), rel=1e-5)


def test_a_sampler_draws_by_power_and_repeats_by_seed() -> None:
    counts = torch.tensor([0, 1, 100, 10_000])
    drawn = Sampler(counts, 0.5, seed=4).draw(20_000)
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(share, torch.tensor([1.0, 1.0, 10.0, 100.0]) / 112, atol=0.01, rtol=0)
    assert torch.equal(drawn, Sampler(counts, 0.5, seed=4).draw(20_000))


def test_gbce_with_every_item_and_no_calibration_is_plain_bce(
    scene: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    query, target, rows, bias = scene
    drawn = torch.arange(ITEMS)
    scores = query @ rows.T + bias
    labels = torch.nn.functional.one_hot(target, ITEMS).float()
    total = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="sum")
    plain = gbce(*scene, drawn, calibration=0.0).mean()
    assert plain.item() == pytest.approx(total.item() / N / (ITEMS + 1), rel=1e-5)


def test_calibration_lowers_the_pull_of_the_target(scene: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    query, target, rows, bias = scene
    grown = []
    for calibration in (0.0, 0.75, 1.0):
        free = bias.clone().requires_grad_()
        gbce(query, target, rows, free, torch.tensor([0, 1]), calibration=calibration).mean().backward()
        assert free.grad is not None
        grown.append(free.grad[target[target > 1]].abs().sum().item())
    assert grown[0] > grown[1] > grown[2]


def test_the_only_item_has_no_others_to_be_told_from() -> None:
    query, rows, target = torch.randn(2, 3), torch.randn(1, 3), torch.zeros(2, dtype=torch.int64)
    loss = gbce(query, target, rows, torch.zeros(1), torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(loss, -torch.nn.functional.logsigmoid(query @ rows[0]) / 5)


EDGES = torch.tensor([DAY_MS, 7 * DAY_MS, 30 * DAY_MS])


@pytest.mark.parametrize(
    ("days", "censored", "happened", "seen"),
    [
        (0.5, False, [1, 0, 0], [1, 0, 0]),
        (1.0, False, [0, 1, 0], [1, 1, 0]),
        (29.9, False, [0, 0, 1], [1, 1, 1]),
        (400.0, False, [0, 0, 0], [1, 1, 1]),  # beyond the last bin nothing is asked
        (0.5, True, [0, 0, 0], [0, 0, 0]),  # the first bin was not seen to its end
        (7.0, True, [0, 0, 0], [1, 1, 0]),
        (8.0, True, [0, 0, 0], [1, 1, 0]),
        (30.0, True, [0, 0, 0], [1, 1, 1]),
    ],
)
def test_bins_that_were_not_seen_say_nothing(
    days: float, censored: bool, happened: list[int], seen: list[int]
) -> None:
    silence = torch.tensor([int(days * DAY_MS)])
    found = outcomes(silence, torch.tensor([censored]), EDGES)
    assert [part[0].tolist() for part in found] == [happened, seen]


def test_a_hazard_head_learns_the_share_of_each_bin() -> None:
    random = np.random.default_rng(0)
    silence = torch.from_numpy((random.exponential(10, 4_000) * DAY_MS).astype(np.int64))
    censored = silence > 20 * DAY_MS
    silence = silence.clamp(max=20 * DAY_MS)
    head = Hazard(1, EDGES.tolist())
    y = torch.zeros(4_000, 1)
    optimizer = torch.optim.Adam(head.parameters(), 0.1)
    for _ in range(200):
        loss = head.loss(y, silence, censored)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = 1 - np.exp(-np.array([1.0, 6.0]) / 10)
    np.testing.assert_allclose(head(y)[0, :2].detach(), expected, atol=0.02)


def test_calibration_undoes_a_wrong_scale_and_leaves_an_unseen_bin_alone() -> None:
    torch.manual_seed(0)
    truth = torch.randn(20_000, 2)
    happened = (torch.rand(20_000, 2) < torch.sigmoid(truth)).float()
    seen = torch.ones(20_000, 2)
    seen[:, 1] = 0.0
    overconfident = 3.0 * truth + 1.0
    slope, shift = fit_platt(overconfident, happened, seen)
    assert slope[0].item() == pytest.approx(1 / 3, abs=0.03)
    assert shift[0].item() == pytest.approx(-1 / 3, abs=0.06)
    assert (slope[1].item(), shift[1].item()) == (1.0, 0.0)
    before, after = (
        log_loss(x, happened, seen).item() for x in (overconfident, slope * overconfident + shift)
    )
    assert after < before


def test_a_calibrated_head_says_so() -> None:
    head = Hazard(2, EDGES.tolist())
    y = torch.randn(500, 2)
    before = head(y)
    head.calibrate(y, torch.full((500,), 3 * DAY_MS), torch.zeros(500, dtype=torch.bool))
    after = head(y)
    assert (after[:, 1] > before[:, 1]).float().mean() > 0.9  # all came back within the second bin
    assert torch.equal(after[:, 2], before[:, 2])


def test_a_value_may_depend_on_the_item_or_not() -> None:
    y, item = torch.randn(3, 4), torch.randn(3, D)
    alone, rating = Value(4, mean=3.5), Value(4, D, mean=3.5)
    assert alone(torch.zeros(1, 4)).item() == pytest.approx(3.5)
    assert alone(y).shape == rating(y, item).shape == (3,)
    moved = rating(y, item) - rating(y, torch.zeros(3, D))
    assert (moved.abs() > 1e-6).all()


@pytest.mark.parametrize(("kind", "best"), [("mae", 1.0), ("mse", 4.0)])
def test_each_loss_aims_at_its_own_middle(kind: str, best: float) -> None:
    target = torch.tensor([0.0, 1.0, 11.0])
    around = [value_loss(torch.full((3,), best + d), target, kind).item() for d in (-0.1, 0.0, 0.1)]  # type: ignore[arg-type]
    assert around[1] == min(around)


# ------------------------------------------------------------------------------------------ similarities


@pytest.mark.parametrize("kind", ["dot", "cosine", "euclid"])
def test_a_product_and_a_bias_rank_as_the_similarity_says(kind: str) -> None:
    torch.manual_seed(1)
    user, vectors, bias = torch.randn(5, D), torch.randn(ITEMS, D), torch.zeros(ITEMS)
    similarity = Similarity(kind)  # type: ignore[arg-type]
    rows, row_bias = similarity.items(vectors, bias)
    scores = similarity.user(user) @ rows.T + row_bias
    said = {
        "dot": user @ vectors.T,
        "cosine": SCALE_START * torch.nn.functional.cosine_similarity(user[:, None], vectors[None], dim=-1),
        "euclid": -0.5 * torch.cdist(user, vectors) ** 2,
    }[kind]
    apart = scores - said
    torch.testing.assert_close(apart, apart[:, :1].expand_as(apart), atol=1e-4, rtol=0)
    if kind != "euclid":
        torch.testing.assert_close(scores, said, atol=1e-4, rtol=0)


def test_the_temperature_is_learned_within_bounds() -> None:
    similarity = Similarity("cosine")
    assert similarity.log_scale is not None
    user = torch.randn(2, D)
    similarity.user(user).sum().backward()
    assert similarity.log_scale.grad is not None
    with torch.no_grad():
        similarity.log_scale.fill_(20.0)
        assert similarity.user(user).norm(dim=1).tolist() == pytest.approx([SCALE_MAX] * 2, rel=1e-5)


def test_a_reranker_begins_with_the_order_it_was_given_and_learns_what_no_product_says() -> None:
    torch.manual_seed(2)
    user, item, score = torch.randn(512, 2), torch.randn(512, 2), torch.zeros(512, 1)
    reranker = Reranker(2, 32)
    assert torch.equal(reranker(user, item, score + 1.0), score + 1.0)
    near = ((user - item).norm(dim=1, keepdim=True) < 1.5).float()
    optimizer = torch.optim.Adam(reranker.parameters(), 0.01)
    for _ in range(200):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(reranker(user, item, score), near)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
