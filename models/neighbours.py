"""A start for the items' vectors: what was taken near each other begins near each other.

    c_ij = Σ fade^(distance − 1)               over pairs of i and j at most `reach` events apart
    m_ij = max(0, log(c_ij / (c_i p_j)))       with p_j ∝ c_j^smoothing, and c_i, c_j the sums of c
    v    = U √S                                of the strongest D directions, m ≈ U S Vᵀ

Positive pointwise mutual information, factorised: what skip-gram embeddings come to (Levy and Goldberg,
2014), smoothed so that rare pairs do not mean too much (Levy et al., 2015). From vectors of chance an encoder
has to find this first, and needs epochs for it. Items that were seen a few times only are told apart better
by their attributes: where those are known, leave this out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.dataset import Sequences
from models.recipe import Neighbours

#: Further directions and rounds of the randomised factorisation (Halko et al., 2011): D become exact enough.
_OVERSAMPLED: Final = 16
_ROUNDS: Final = 4


def neighbour_codes(data: Sequences, size: int, recipe: Neighbours) -> Tensor:
    """Return vectors [I, size] to start from, `strength` long in the mean; zeros for an item alone."""
    information = mutual_information(count_pairs(data, recipe), recipe.smoothing)
    directions = min(size, information.shape[0])
    left, strengths, _ = torch.svd_lowrank(
        information, min(directions + _OVERSAMPLED, information.shape[0]), _ROUNDS
    )
    vectors = torch.zeros(information.shape[0], size)
    vectors[:, :directions] = left[:, :directions] * strengths[:directions].sqrt()
    length = vectors.norm(dim=1)
    return vectors * (recipe.strength / length[length > 0].mean() if length.any() else 1.0)


def count_pairs(data: Sequences, recipe: Neighbours) -> Tensor:
    """Return c [I, I], sparse and symmetric."""
    ahead = count_ahead(data, recipe.reach, recipe.fade)
    return (ahead + ahead.t()).coalesce()


def count_ahead(data: Sequences, reach: int, fade: float) -> Tensor:
    """Return Σ fade^(distance − 1) over pairs of i and a later j, [I, I], sparse."""
    shape = (len(data.item_ids), len(data.item_ids))
    item = torch.from_numpy(data.item.astype(np.int64))
    owner = torch.from_numpy(data.per_event(np.arange(data.users)))
    total = _sparse(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), shape)
    for distance in range(1, reach + 1):
        pair = torch.stack([item[:-distance], item[distance:]])
        pair = pair[:, (owner[:-distance] == owner[distance:]) & (pair >= 0).all(0)]
        weight = torch.full((pair.shape[1],), fade ** (distance - 1))
        total = (total + _sparse(pair, weight, shape)).coalesce()
    return total


def mutual_information(pairs: Tensor, smoothing: float) -> Tensor:
    """Return m [I, I], sparse: pairs [I, I] are the counts c."""
    (row, column), count = pairs.indices(), pairs.values()
    sums = torch.zeros(pairs.shape[0]).index_add_(0, row, count)
    share = sums**smoothing / (sums**smoothing).sum()
    information = (count / (sums[row] * share[column])).log()
    told = information > 0
    return _sparse(torch.stack([row, column])[:, told], information[told], tuple(pairs.shape))


def _sparse(at: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.sparse_coo_tensor(at, values, shape, check_invariants=True).coalesce()
