"""The items that a model knows: what is learned of each by itself, on top of what its attributes say.

    v_i = encoder(attributes_i) + kept_i · own_i         and so the bias; laid out as the similarity wants it
    x_i = v_i, or v_i + kept_i · δ_i                     what a step takes in

In training `own` is dropped for a share of the items in each step, so that the attributes alone must do, as
they will for an item that comes later (DropoutNet, Volkovs et al., 2017). Without attributes there is only
`own`. The last row is "no item".

Mostly an item goes in by the vector that it is scored by (tied embeddings: Press and Wolf, 2017). Where the
order counts, what follows an item is another thing than what it follows: then it goes in by its own, which
begins as the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.items.encoder import ItemEncoder
from models.similarity import Similarity
from stream.item_features import Codes, Floats, ItemFeatures


class ItemRows(NamedTuple):
    """All items and, last, none; scores are q · row + bias."""

    scored: Tensor  # [I + 1, D] output embeddings
    bias: Tensor  # [I], of none there is no bias
    taken: Tensor  # [I + 1, D] input embeddings: what a step takes in

    @property
    def tied(self) -> bool:
        """Whether all go in by the rows that they are scored by."""
        return self.taken is self.scored or torch.equal(self.taken, self.scored)


class Items(nn.Module):
    def __init__(
        self,
        items: int,
        embedding_size: int,
        features: ItemFeatures | None = None,
        id_dropout: float = 0.0,
        similarity: Similarity | None = None,
        *,
        untied: bool = False,
    ) -> None:
        """untied: what goes in has vectors of its own."""
        super().__init__()
        self.similarity = similarity or Similarity("dot")
        self.own = nn.Embedding(items + 1, embedding_size)
        self.own_bias = nn.Parameter(torch.zeros(items))
        self.apart = nn.Parameter(torch.zeros(items + 1, embedding_size)) if untied else None  # δ
        self.id_dropout = id_dropout
        self.encoder = None if features is None else ItemEncoder(features, embedding_size)
        # The attributes' numbers are data: whoever trains or exports hands them in.
        self.codes: Tensor | None = None
        self.floats: Tensor | None = None
        nn.init.normal_(self.own.weight, std=embedding_size**-0.5 if features is None else 0.01)

    def describe(self, codes: Codes, floats: Floats) -> None:
        """Hand in the attributes of all items: codes i64 [I, C], floats f32 [I, F]."""
        items = len(self.own_bias)
        if len(codes) != items or len(floats) != items:
            raise ValueError(f"{len(codes)} items are described, there are {items}")
        self.codes, self.floats = torch.from_numpy(codes), torch.from_numpy(floats)

    def forward(self) -> ItemRows:
        """Return the rows of all items and of none."""
        kept = self._keep()
        vectors, bias = self._raw(kept)
        rows, row_bias = self.similarity.items(vectors, nn.functional.pad(bias, (0, 1)))
        taken = rows if self.apart is None else rows + kept(self.apart)
        return ItemRows(rows, row_bias[:-1], taken)

    def late(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows [B, D] and biases [B, 1] of items of which only attributes are known."""
        assert self.encoder is not None, "the model knows nothing of attributes"
        vectors, bias = self.encoder(codes, floats)
        rows, row_bias = self.similarity.items(vectors, bias[:, 0])
        return rows, row_bias[:, None]

    def _keep(self) -> Callable[[Tensor], Tensor]:
        """Return what leaves of a number or row for each item what this step of training knows of it."""
        if self.encoder is None or not self.training or not self.id_dropout:
            return lambda own: own
        kept = (torch.rand(len(self.own_bias)) >= self.id_dropout).to(self.own_bias.dtype)
        rows = torch.cat([kept, kept.new_ones(1)])[:, None]
        return lambda own: own * (kept if own.dim() == 1 else rows)

    def _raw(self, kept: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        if self.encoder is None:
            return self.own.weight, self.own_bias
        if self.codes is None:
            raise ValueError("the items' attributes were not handed in: call describe")
        vectors, bias = self.encoder(self.codes, self.floats)
        vectors = nn.functional.pad(vectors, (0, 0, 0, 1))
        return vectors + kept(self.own.weight), bias[:, 0] + kept(self.own_bias)
