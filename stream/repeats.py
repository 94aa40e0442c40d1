"""What is taken again: a user's own items raise their own scores, by how often and how lately.

    e_j     = Σ_n decay^n · [item n places back = j]      over the `length` items that the state's ring holds
    raise_j = ln(1 + weight_j · e_j)                      0 for an item that is not in the ring

In a shop most of the next basket is old baskets (repeat consumption: Anderson et al., WWW 2014). A score is
the logarithm of a share; if one purchase adds a share ρ to an item of share p, the logarithm rises by
ln(1 + ρ/p). The weights are learnt with the encoder (models/repeats.py), an item each.

The ring is the end of the encoder's state, newest last: 1 + the item's row in the bundle, 0 where nothing is.
user_step.onnx keeps it as it keeps the rest; what has no item, or one that the bundle does not know, leaves
it as it is. B rows, I items, N places.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from stream.co_occurrence import Raises

Floats = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

#: The file of a bundle whose users' items raise themselves: [I] float32, 0 and above.
REPEAT_WEIGHT: Final = "repeat_weight.npy"
#: A ring holds row numbers as float32, which knows every whole number up to here.
ITEMS_MAX: Final = (1 << 24) - 1


class Repeats(NamedTuple):
    """How the items of a ring raise themselves."""

    weight: Floats  # [I]
    decay: float  # above 0, up to 1
    length: int  # N

    def raises(self, state: Floats) -> Raises:
        """Return what the states' rings raise: state [B, S], the ring in its last N columns."""
        return self.raises_of(state[:, -self.length :])

    def raises_of(self, ring: Floats) -> Raises:
        """Return what rings [B, N] raise."""
        start = np.zeros(len(ring) + 1, np.int64)
        item, value = np.empty(ring.size, np.int32), np.empty(ring.size, np.float32)
        raise_repeats(self.weight, self.decay, np.ascontiguousarray(ring), start, item, value)
        return Raises(start, item[: start[-1]], value[: start[-1]])


def check_repeats(repeats: Repeats) -> str:
    """Return what is wrong with them, "" if nothing is."""
    weight, decay, length = repeats
    if not (weight >= 0).all():
        return f"{REPEAT_WEIGHT} must hold numbers of 0 and above"
    if len(weight) > ITEMS_MAX:
        return f"a ring of repeats can tell {ITEMS_MAX:,} items apart, here are {len(weight):,}"
    if not (0 < decay <= 1 and length > 0):
        return "repeats must have a decay above 0, up to 1, and a length of 1 or more"
    return ""


@njit(cache=True, nogil=True)
def raise_repeats(
    weight: Floats, decay: float, ring: Floats, out_start: Offsets, out_item: Items, out_value: Floats
) -> None:
    """Write the raises of rings [B, N]; `out_item` and `out_value` have room for B · N."""
    n, (rows, places) = 0, ring.shape
    earned = np.zeros(len(weight), np.float64)
    for b in range(rows):
        first, fade = n, 1.0
        for place in range(places - 1, -1, -1):
            item = int(ring[b, place]) - 1
            if item < 0 or item >= len(weight):
                continue
            if weight[item] > 0:
                if earned[item] == 0.0:
                    out_item[n] = item
                    n += 1
                earned[item] += fade
            fade *= decay
        for at in range(first, n):
            item = out_item[at]
            out_value[at] = np.log1p(weight[item] * earned[item])
            earned[item] = 0.0
        out_start[b + 1] = n
