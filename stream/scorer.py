"""Scores and the exact top k: a product in ONNX Runtime, then one pass that keeps the best.

    score[b, i] = query[b] · item[i] + bias[i]

The items stand in blocks of equal size, each the packed initializer of a session of its own. So the part of
the product that is being searched stays in the cache, items that the live catalogue adds need no second way,
and one small graph serves any number of items. The search is one compiled pass: a comparison with the k-th
best so far rules out 64 items at a time. benchmarks/scoring.py has the alternatives and what they cost.

A row's result does not depend on the other rows of the call, to the bit. Of equal scores the lower index
comes first. A score of −∞ (a bias of −∞: the item is withdrawn) is never returned.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from stream.bundle import Bundle
from stream.core.events import NO_ITEM
from stream.runtime import open_session

Floats = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]

#: Rows of one product: enough to pay for the calls, few enough that the scores of a block stay in the cache.
ROWS: Final = 64
_GROUP: Final = 64


class Scorer:
    """The items of one bundle and of the live catalogue, ready to be searched."""

    def __init__(self, bundle: Bundle) -> None:
        self._graph = bundle.file("score.onnx").read_bytes()
        self._block = bundle.manifest.block
        self._sessions: list[Any] = []
        self._vectors = np.empty(
            (0, bundle.manifest.embedding_size), np.float32
        )  # of the last, unfilled block
        self.bias = np.empty(0, np.float32)  # [I]
        self._extend(bundle.items, bundle.item_bias)

    @property
    def items(self) -> int:
        return len(self.bias)

    def with_tail(self, vectors: Floats, bias: Floats) -> Scorer:
        """Return a scorer with the items [n, D] behind those of this one; packed blocks are shared."""
        other = object.__new__(Scorer)
        other._graph, other._block = self._graph, self._block
        other._sessions, other._vectors, other.bias = list(self._sessions), self._vectors, self.bias
        if len(self._vectors):
            other._sessions.pop()
            other.bias = self.bias[: -len(self._vectors)]
            vectors = np.concatenate([self._vectors, vectors])
            bias = np.concatenate([self.bias[-len(self._vectors) :], bias])
        other._extend(vectors, bias)
        return other

    def top(
        self,
        query: Floats,
        k: int,
        *,
        extra_bias: Floats | None = None,
        exclude: Items | None = None,
    ) -> tuple[Floats, Items]:
        """Return the scores [B, k] and indices [B, k] of the k best items of each row, best first.

        query [B, D]; extra_bias [I] is added to the items' own; exclude [B, n] are items that a row must not
        get, −1 for none. Where fewer than k items are left, the rest of a row is −∞ and −1.
        """
        bias = self._padded(extra_bias)
        scores = np.full((len(query), k), -np.inf, np.float32)
        items = np.full((len(query), k), NO_ITEM, np.int32)
        barred = np.empty((len(query), 0), np.int32) if exclude is None else np.sort(exclude, axis=1)
        for row in range(0, len(query), ROWS):
            rows = slice(row, row + ROWS)
            for first, product in self._products(query[rows]):
                block_bias = bias[first : first + self._block]
                keep_best(product, block_bias, first, barred[rows], scores[rows], items[rows])
        return scores, items

    def scores(self, query: Floats, extra_bias: Floats | None = None) -> Floats:
        """Return the scores [B, I] of all items: for explanation and evaluation."""
        bias = self._padded(extra_bias)
        out = np.empty((len(query), self.items), np.float32)
        for row in range(0, len(query), ROWS):
            rows = slice(row, row + ROWS)
            for first, product in self._products(query[rows]):
                width = min(self._block, self.items - first)
                np.add(
                    product[:, :width],
                    bias[first : first + width],
                    out=out[rows, first : first + width],
                )
        return out

    def _products(self, query: Floats) -> Any:
        for i, session in enumerate(self._sessions):
            yield i * self._block, session.run(["scores"], {"query": query})[0]

    def _padded(self, extra_bias: Floats | None) -> Floats:
        """Return the bias of every place in the blocks; places without an item have −∞."""
        bias = np.full(len(self._sessions) * self._block, -np.inf, np.float32)
        bias[: self.items] = self.bias if extra_bias is None else self.bias + extra_bias
        return bias

    def _extend(self, vectors: Floats, bias: Floats) -> None:
        for first in range(0, len(vectors), self._block):
            block = np.zeros((vectors.shape[1], self._block), np.float32)
            part = vectors[first : first + self._block]
            block[:, : len(part)] = part.T
            self._sessions.append(open_session(self._graph, {"items": block}))
        self._vectors = vectors[len(vectors) - len(vectors) % self._block :].copy()
        self.bias = np.concatenate([self.bias, bias]).astype(np.float32)


@njit(cache=True, nogil=True)
def _any_above(scores: Floats, bias: Floats, bound: np.float32) -> bool:
    above = np.int32(0)
    for i in range(scores.size):  # a count and no early exit, so that it is compiled to vector instructions
        above += np.int32(scores[i] + bias[i] > bound)
    return bool(above > 0)


@njit(cache=True, nogil=True)
def keep_best(
    product: Floats, bias: Floats, first: int, barred: Items, best: Floats, best_item: Items
) -> None:
    """Put the items of a block into the rows' running top k.

    product [B, block]; bias [block]; first: index of the block's first item; barred [B, n] sorted items to
    leave out; best [B, k] falling, and best_item [B, k], are updated.
    """
    rows, width = product.shape
    k = best.shape[1]
    for b in range(rows):
        for start in range(0, width, _GROUP):
            stop = min(start + _GROUP, width)
            if not _any_above(product[b, start:stop], bias[start:stop], best[b, k - 1]):
                continue
            for i in range(start, stop):
                score = product[b, i] + bias[i]
                if score > best[b, k - 1] and not _is_in(barred[b], first + i):
                    place = k - 1
                    while place > 0 and best[b, place - 1] < score:
                        best[b, place] = best[b, place - 1]
                        best_item[b, place] = best_item[b, place - 1]
                        place -= 1
                    best[b, place] = score
                    best_item[b, place] = first + i


@njit(cache=True, nogil=True)
def _is_in(ordered: Items, item: int) -> bool:
    i = np.searchsorted(ordered, item)
    return bool(i < ordered.size and ordered[i] == item)
