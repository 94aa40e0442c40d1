"""What may be listed: the scorer's rows, and which item each of them is.

The bundle's items are the first rows and keep their index in the item table. Items that the live catalogue
brings later come behind, in the order of their coming; their index in the item table is another number, as
events may have named any number of items before. So indices of items and rows are never mixed: `rows` and
`items` lead from one to the other, also for the recent items that a policy excludes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from stream.bundle import Bundle
from stream.core.events import NO_ITEM
from stream.scorer import Scorer

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

#: Late items at most: as many rows as the largest catalogue that the scorer was measured with.
LATE_MAX: Final = 1_000_000


class Candidates:
    """The items of one bundle and those that came later. R rows, D embedding."""

    def __init__(self, bundle: Bundle) -> None:
        self.scorer = self._frozen = Scorer(bundle)
        self._known = bundle.manifest.items
        self.vectors: Floats = bundle.items  # [R, D]
        self.prior: Floats = bundle.item_prior  # [R]
        self.withdrawn = np.zeros(self._known, np.float32)  # [R], −∞ where an item is withdrawn
        self._item_of = np.arange(self._known, dtype=np.int32)  # [R]
        self._row_of = np.empty(0, np.int32)  # by the item's index behind the known ones; NO_ITEM for none

    @property
    def late(self) -> int:
        """How many items came later than the bundle."""
        return len(self._item_of) - self._known

    def rows(self, items: Ints) -> Ints:
        """Return the rows of items of the item table, of any shape; NO_ITEM for what cannot be listed."""
        late = items - self._known
        rows = np.where(late < 0, items, np.int32(NO_ITEM))
        there = (late >= 0) & (late < len(self._row_of))
        rows[there] = self._row_of[late[there]]
        return rows.astype(np.int32, copy=False)

    def items(self, rows: Ints) -> Ints:
        """Return the items of rows, none of which is NO_ITEM."""
        return self._item_of[rows]

    @property
    def listed(self) -> Ints:
        """The items of all rows."""
        return self._item_of

    def renumber_items(self, moved: Ints) -> None:
        """Take the items' new indices, i32[items before]; those of all rows must still be there."""
        self._item_of = moved[self._item_of]
        late = self._item_of[self._known :]
        self._row_of = np.full(int(late.max()) + 1 - self._known if len(late) else 0, NO_ITEM, np.int32)
        self._row_of[late - self._known] = np.arange(self._known, len(self._item_of))

    def withdraw(self, item: int) -> None:
        """Never list the item again, until `restore`; an item that is not listed anyway stays so."""
        self._mark(item, -np.inf)

    def restore(self, item: int) -> None:
        self._mark(item, 0.0)

    def _mark(self, item: int, value: float) -> None:
        row = int(self.rows(np.array([item], np.int32))[0])
        if row != NO_ITEM:
            self.withdrawn[row] = value

    def add(self, items: Sequence[int], vectors: Floats, bias: Floats) -> int:
        """Let late items be listed, as these vectors [n, D] and biases [n]; return how many found room.

        Each item once. One that is there already takes its new vector; and is listed again if withdrawn.
        """
        rows = self.rows(np.array(items, np.int32))
        new = np.flatnonzero(rows == NO_ITEM)[: max(0, LATE_MAX - self.late)]
        old = np.flatnonzero(rows != NO_ITEM)
        late_bias = self.scorer.bias[self._known :].copy()
        if len(old):
            self.vectors = self.vectors.copy()
            self.vectors[rows[old]] = vectors[old]
            late_bias[rows[old] - self._known] = bias[old]
            self.withdrawn[rows[old]] = 0.0
        self._append(np.array(items, np.int32)[new], vectors[new])
        if len(old):
            late_bias = np.concatenate([late_bias, bias[new]])
            self.scorer = self._frozen.with_tail(self.vectors[self._known :], late_bias)
        else:
            self.scorer = self.scorer.with_tail(vectors[new], bias[new])
        return len(new) + len(old)

    def _append(self, items: Ints, vectors: Floats) -> None:
        if not len(items):
            return
        short = int(items.max()) - self._known + 1 - len(self._row_of)
        if short > 0:
            self._row_of = np.concatenate([self._row_of, np.full(short, NO_ITEM, np.int32)])
        self._row_of[items - self._known] = np.arange(len(items)) + len(self._item_of)
        self._item_of = np.concatenate([self._item_of, items])
        self.vectors = np.concatenate([self.vectors, vectors])
        self.withdrawn = np.concatenate([self.withdrawn, np.zeros(len(items), np.float32)])
        # Nobody has taken a late item yet: it is as popular as the least popular that is known.
        least = np.full(len(items), self.prior[: self._known].min(), np.float32)
        self.prior = np.concatenate([self.prior, least])
