"""Heads and losses: the next item, the churn hazard, and values such as ratings and spend.

    next item   softmax over all items · sampled softmax with the samples' correction · gBCE
    hazard      P(next event in bin k of silence | none before it), censored by masking
    value       a number of the user, or of the user and an item; its losses are MAE and RMSE

N rows to learn from, I items, D embedding, K bins, M sampled items.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

#: A share of Newton's step below which a bin is left where it is: only rounding is in the way.
_STEP_MIN = 1e-6
#: Positions that are scored at once: few enough for their scores to stay in the cache.
_ROWS_AT_ONCE = 64

# ------------------------------------------------------------------------------------------- the next item


class Raised(NamedTuple):
    """Scores that are higher than the product says, M pairs rising by position and item, each once."""

    position: Tensor  # i64 [M]
    item: Tensor  # i64 [M]
    value: Tensor  # [M]

    def at(self, position: Tensor, item: Tensor, items: int) -> Tensor:
        """Return by how much each of these pairs [T] is raised, of so many items."""
        if not len(self.value):
            return self.value.new_zeros(len(position))
        pairs, wanted = self.position * items + self.item, position * items + item
        place = torch.searchsorted(pairs, wanted).clamp(max=len(pairs) - 1)
        return torch.where(pairs[place] == wanted, self.value[place], 0.0)

    def among(self, place: Tensor) -> Raised:
        """Return those of items that have a place of their own: place i64 [I] rises, −1 for none."""
        there = place[self.item] >= 0
        return Raised(self.position[there], place[self.item[there]], self.value[there])


class _Softmax(torch.autograd.Function):
    """Σ_n weight_n · logsumexp(query_n · rows + bias), its gradient taken along on the way.

    out, up: pairs of a position and an item that are left out, and raised by `value`. cuts: where those of
    each part of the positions begin.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        rows: Tensor,
        bias: Tensor,
        value: Tensor,
        weight: Tensor,
        out: Tensor,
        up: Tensor,
        cuts: list[tuple[int, int]],
    ) -> Tensor:
        of_query, of_rows, of_bias, of_value = (torch.zeros_like(p) for p in (query, rows, bias, value))
        total = query.new_zeros(())
        for number, first in enumerate(range(0, len(query), _ROWS_AT_ONCE)):
            part = slice(first, first + _ROWS_AT_ONCE)
            scores = torch.addmm(bias, query[part], rows.T)  # [n, I]
            left, raised = (slice(*edges) for edges in zip(cuts[number], cuts[number + 1], strict=True))
            higher = up[0, raised] - first, up[1, raised]
            scores[higher] += value[raised]
            scores[out[0, left] - first, out[1, left]] = -torch.inf
            most = scores.amax(1, keepdim=True)
            chance = scores.sub_(most).exp_()
            mass = chance.sum(1, keepdim=True)
            total += (weight[part] * (most + mass.log())[:, 0]).sum()
            chance.mul_(weight[part, None] / mass)  # the gradient of the scores
            of_value[raised] = chance[higher]
            torch.mm(chance, rows, out=of_query[part])
            of_rows.addmm_(chance.T, query[part])
            of_bias += chance.sum(0)
        ctx.save_for_backward(of_query, of_rows, of_bias, of_value)
        return total

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        return (*(grad[0] * part for part in ctx.saved_tensors), None, None, None, None)


def softmax_loss(
    query: Tensor,
    position: Tensor,
    target: Tensor,
    weight: Tensor,
    rows: Tensor,
    bias: Tensor,
    out: Tensor | None = None,
    raised: Raised | None = None,
) -> Tensor:
    """Return −Σ weight · log P(target) of a softmax over all items, a scalar.

    query [P, D]; position, target i64 [T], weight [T]; rows [I, D], bias [I]; out i64 [2, M]: positions,
    rising, and items that do not compete there, none of them a target; raised: what stands on top of the
    products. Scores are made for some positions at
    a time and never kept, so memory does not grow with P · I, and they stay in the cache.
    """
    none = position.new_zeros(0)
    raised = Raised(none, none, query.new_zeros(0)) if raised is None else raised
    own = (query[position] * rows[target]).sum(1) + bias[target]  # [T]
    own = own + raised.at(position, target, len(rows))
    of_position = query.new_zeros(len(query)).index_add_(0, position, weight)
    out = position.new_zeros((2, 0)) if out is None else out
    edges = torch.arange(0, len(query) + _ROWS_AT_ONCE, _ROWS_AT_ONCE)
    cuts = [torch.searchsorted(of.contiguous(), edges).tolist() for of in (out[0], raised.position)]
    up = torch.stack(raised[:2])
    total: Tensor = _Softmax.apply(  # type: ignore[no-untyped-call]
        query, rows, bias, raised.value, of_position, out, up, list(zip(*cuts, strict=True))
    )
    return total - (weight * own).sum()


class Sampler:
    """Draws items to stand for all others, in proportion to count ** power: 0 is uniform, 1 popularity."""

    def __init__(self, counts: Tensor, power: float = 0.5, *, seed: int = 0) -> None:
        """counts: how often each item occurs, [I]; an item that never does is drawn as if once."""
        share = counts.double().clamp(min=1.0) ** power
        self.share = (share / share.sum()).float()
        self._random = torch.Generator().manual_seed(seed)

    def draw(self, count: int) -> Tensor:
        """Return `count` items, i64 [M]; one may come more than once."""
        return torch.multinomial(self.share, count, replacement=True, generator=self._random)


def sampled_softmax(
    query: Tensor, target: Tensor, rows: Tensor, bias: Tensor, drawn: Tensor, share: Tensor
) -> Tensor:
    """Return −log P(target) [N] among it and the `drawn` [M], each corrected by how likely it was drawn.

    query [N, D], target i64 [N], rows [I, D], bias [I], share [I].

    The correction log(M · share) makes the gradient's mean that of the full softmax as M grows (Bengio and
    Senécal, 2008); a draw that is the row's own target counts for nothing.
    """
    hit = drawn[None, :] == target[:, None]  # [N, M]
    others = query @ rows[drawn].T + bias[drawn] - (share[drawn].log() + log(len(drawn)))  # [N, M]
    others = others.masked_fill(hit, -torch.inf)
    own = (query * rows[target]).sum(1, keepdim=True) + bias[target, None]  # [N, 1]
    return torch.cat([own, others], 1).logsumexp(1) - own[:, 0]


def gbce(
    query: Tensor, target: Tensor, rows: Tensor, bias: Tensor, drawn: Tensor, *, calibration: float = 0.75
) -> Tensor:
    """Return the generalised binary cross entropy [N] (gSASRec: Petrov and Macdonald, RecSys 2023).

    With few negatives the plain loss is overconfident; the target's probability is raised to
    β = α (t (1 − 1/α) + 1/α) with α = M / (I − 1) the share that is drawn and t the calibration, 0 to 1.
    drawn: uniform, [M].
    """
    sampled = min(1.0, len(drawn) / max(1, len(rows) - 1))
    beta = sampled * (calibration * (1.0 - 1.0 / sampled) + 1.0 / sampled)
    own = (query * rows[target]).sum(1) + bias[target]  # [N]
    others = query @ rows[drawn].T + bias[drawn]  # [N, M]
    hit = drawn[None, :] == target[:, None]
    pushed = softplus(others).masked_fill(hit, 0.0).sum(1)
    return (pushed - beta * logsigmoid(own)) / (len(drawn) + 1)


# ---------------------------------------------------------------------------------------------- the hazard


class Hazard(nn.Module):
    """Discrete-time hazards (Singer and Willett, 1993), calibrated bin by bin (Platt, 1999)."""

    def __init__(self, input_size: int, bins_ms: Sequence[int]) -> None:
        """bins_ms: the bins' upper edges, rising [K]."""
        super().__init__()
        self.logits = nn.Linear(input_size, len(bins_ms))
        self.edges = torch.tensor(bins_ms, dtype=torch.int64)
        self.register_buffer("slope", torch.ones(len(bins_ms)))
        self.register_buffer("shift", torch.zeros(len(bins_ms)))
        self.slope: Tensor
        self.shift: Tensor

    def forward(self, y: Tensor) -> Tensor:
        """Return the calibrated hazards [..., K] of what the encoder says [..., Y]."""
        return torch.sigmoid(self.slope * self.logits(y) + self.shift)

    def loss(self, y: Tensor, silence_ms: Tensor, censored: Tensor) -> Tensor:
        """Return the mean log loss of the bins seen: y [N, Y], silence_ms i64 [N], censored bool [N]."""
        happened, seen = outcomes(silence_ms, censored, self.edges)
        return log_loss(self.logits(y), happened, seen)

    @torch.no_grad()
    def calibrate(self, y: Tensor, silence_ms: Tensor, censored: Tensor) -> None:
        """Fit slope and shift of each bin on rows [N, …] that were not trained on."""
        happened, seen = outcomes(silence_ms, censored, self.edges)
        self.slope, self.shift = fit_platt(self.logits(y), happened, seen)


def outcomes(silence_ms: Tensor, censored: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each bin whether the next event fell into it, and whether that is known: float [N, K] both.

    silence_ms: until the next event, or until observation ended (censored). A bin that begins after the
    event says nothing, nor one that observation did not reach the end of.
    """
    start = torch.cat([edges.new_zeros(1), edges[:-1]])
    silence = silence_ms[:, None]
    inside = (silence >= start) & (silence < edges) & ~censored[:, None]
    passed = silence >= edges
    return inside.float(), (inside | passed).float()


def log_loss(logits: Tensor, happened: Tensor, seen: Tensor) -> Tensor:
    """Return the mean over what was seen of the binary log loss, all [N, K]."""
    loss = softplus(logits) - happened * logits
    return (loss * seen).sum() / seen.sum().clamp(min=1.0)


def fit_platt(
    logits: Tensor, happened: Tensor, seen: Tensor, *, pull: float = 1.0, rounds: int = 25
) -> tuple[Tensor, Tensor]:
    """Return the slope and shift [K] that minimise the log loss of sigmoid(slope · logit + shift).

    Newton's method, bin by bin, in float64, a step halved while it makes the loss larger; `pull` draws
    towards (1, 0), which an empty bin keeps.
    """
    x, y, seen = logits.double(), happened.double(), seen.double()

    def loss(slope: Tensor, shift: Tensor) -> Tensor:
        z = slope * x + shift
        total = ((softplus(z) - y * z) * seen).sum(0)
        return total + 0.5 * pull * ((slope - 1.0) ** 2 + shift**2)

    slope, shift = torch.ones_like(x[0]), torch.zeros_like(x[0])
    for _ in range(rounds):
        p = torch.sigmoid(slope * x + shift)
        error, curve = (p - y) * seen, p * (1.0 - p) * seen
        g_slope = (error * x).sum(0) + pull * (slope - 1.0)
        g_shift = error.sum(0) + pull * shift
        a, b, c = (curve * x * x).sum(0) + pull, (curve * x).sum(0), curve.sum(0) + pull
        determinant = a * c - b * b
        d_slope = (c * g_slope - b * g_shift) / determinant
        d_shift = (a * g_shift - b * g_slope) / determinant
        before, share = loss(slope, shift), torch.ones_like(slope)
        while (worse := loss(slope - share * d_slope, shift - share * d_shift) > before).any():
            share = torch.where(worse, 0.5 * share, share)
            share = torch.where(share < _STEP_MIN, 0.0, share)
        slope, shift = slope - share * d_slope, shift - share * d_shift
    return slope.float(), shift.float()


# --------------------------------------------------------------------------------------------- the value


class Value(nn.Module):
    """A number, of the user alone (spend to come) or for an item (a rating).

    value = mean + scale · (a · y + b · v + (P y) · v + c)         b and P only with an item
    """

    def __init__(self, input_size: int, item_size: int = 0, mean: float = 0.0, scale: float = 1.0) -> None:
        """mean, scale: of the values in training, so that the head learns numbers around 0."""
        super().__init__()
        self.mean, self.scale = mean, scale
        self.user = nn.Linear(input_size, 1)
        nn.init.zeros_(self.user.bias)
        self.item = nn.Linear(item_size, 1, bias=False) if item_size else None
        self.match = nn.Linear(input_size, item_size, bias=False) if item_size else None

    def forward(self, y: Tensor, item: Tensor | None = None) -> Tensor:
        """Return the values [...]: y [..., Y], item [..., D] if it was made for items."""
        value = self.user(y)
        if self.item is not None and self.match is not None:
            assert item is not None, "this head was made for items"
            value = value + self.item(item) + (self.match(y) * item).sum(-1, keepdim=True)
        result: Tensor = self.mean + self.scale * value[..., 0]
        return result

    def loss(self, value: Tensor, target: Tensor, kind: Literal["mae", "mse", "huber"]) -> Tensor:
        """Return the mean loss in units of the scale."""
        return value_loss((value - self.mean) / self.scale, (target - self.mean) / self.scale, kind)


def value_loss(value: Tensor, target: Tensor, kind: Literal["mae", "mse", "huber"] = "mse") -> Tensor:
    """Return the mean loss: `mae` and `mse` aim at what MAE and RMSE measure, `huber` lies between."""
    if kind == "mae":
        return nn.functional.l1_loss(value, target)
    if kind == "huber":
        return nn.functional.smooth_l1_loss(value, target)
    return nn.functional.mse_loss(value, target)
