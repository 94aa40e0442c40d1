"""A start for the items' vectors under which a memory says what is bought again.

In a shop the best guess at the next basket is the old ones. A memory (models/recommender.py) adds up the
vectors of what was bought, so the score of an item that is in it rises by the square of its vector's length,
provided that the others' vectors point elsewhere. Directions of chance do so, more or less: in D dimensions n
remembered items move the score of any other by about √(n / D) of that. Training goes on from there; from
short vectors it would have to find by itself that items resemble themselves, and learns the few purchases by
heart before it does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.recipe import Repurchase


def repurchase_codes(sold: Tensor, size: int, recipe: Repurchase) -> Tensor:
    """Return vectors [I, size] to start from: sold [I] is how often each item was sold.

    If an item has the share p of all sales, and one purchase raises the chance that it is the buyer's next by
    `share`, its logit in a softmax rises by log(1 + share / p): that is the square of the vector's length,
    times `strength`, which holds back what the others' vectors move by chance. Items sold less than
    `sold_min` times begin at zero: there are many of them, and each moves the others as much as a frequent
    one.
    """
    p = sold / sold.sum()
    length = torch.sqrt(recipe.strength * torch.log1p(recipe.share / p.clamp(min=1e-12)))
    length = torch.where(sold >= recipe.sold_min, length, 0.0)
    return torch.nn.functional.normalize(torch.randn(len(sold), size), dim=1) * length[:, None]
