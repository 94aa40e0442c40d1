"""The items that a model knows: what is learned of each by itself, on top of what its attributes say.

    v_i = encoder(attributes_i) + kept_i · own_i         and so the bias; laid out as the similarity wants it

In training `own` is dropped for a share of the items in each step, so that the attributes alone must do, as
they will for an item that comes later (DropoutNet, Volkovs et al., 2017). Without attributes there is only
`own`. The last row is "no item".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.items.encoder import ItemEncoder
from models.similarity import Similarity
from stream.item_features import Codes, Floats, ItemFeatures


class Items(nn.Module):
    def __init__(
        self,
        items: int,
        embedding_size: int,
        features: ItemFeatures | None = None,
        id_dropout: float = 0.0,
        similarity: Similarity | None = None,
    ) -> None:
        super().__init__()
        self.similarity = similarity or Similarity("dot")
        self.own = nn.Embedding(items + 1, embedding_size)
        self.own_bias = nn.Parameter(torch.zeros(items))
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

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the rows of all items and of none [I + 1, D], and the biases [I], for q · row + bias."""
        vectors, bias = self._raw()
        rows, row_bias = self.similarity.items(vectors, nn.functional.pad(bias, (0, 1)))
        return rows, row_bias[:-1]

    def late(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows [B, D] and biases [B, 1] of items of which only attributes are known."""
        assert self.encoder is not None, "the model knows nothing of attributes"
        vectors, bias = self.encoder(codes, floats)
        rows, row_bias = self.similarity.items(vectors, bias[:, 0])
        return rows, row_bias[:, None]

    def _raw(self) -> tuple[Tensor, Tensor]:
        if self.encoder is None:
            return self.own.weight, self.own_bias
        if self.codes is None:
            raise ValueError("the items' attributes were not handed in: call describe")
        vectors, bias = self.encoder(self.codes, self.floats)
        own: Tensor = self.own.weight
        own_bias: Tensor = self.own_bias
        if self.training and self.id_dropout:
            kept = (torch.rand(len(own_bias)) >= self.id_dropout).to(own.dtype)
            own_bias = own_bias * kept
            own = own * torch.cat([kept, kept.new_ones(1)])[:, None]
        return nn.functional.pad(vectors, (0, 0, 0, 1)) + own, bias[:, 0] + own_bias
