"""Scores and the exact top k: a product in ONNX Runtime, then one pass that keeps the best.

    score[b, i] = query[b] · item[i] + bias[i]

The items stand in blocks of equal size, each the packed initializer of a session of its own. So the part of
the product that is being searched stays in the cache, items that the live catalogue adds need no second way,
and one small graph serves any number of items. The search is one compiled pass: a comparison with the k-th
best so far rules out 64 items at a time. benchmarks/scoring.py has the alternatives and what they cost.

Most blocks are never multiplied. By Cauchy and Schwarz no item scores more than

    ‖query‖ · ‖item‖ + bias

so a block whose greatest length and bias stay below a row's k-th best has nothing for that row (the LEMP
method of Teflioudi, Gemulla and Mykytiuk, SIGMOD 2015). The items are sorted so that the promising blocks
come first. It saves much where biases or lengths differ and costs next to nothing where they do not.

Raises (stream/co_occurrence.py) come on top. They are above 0, so whatever they bring into a list is raised
itself: of the raised items those that could get there, by the same bound, are scored once more, one by one.

A row's result does not depend on the other rows of the call, to the bit. Of equal scores the lower index
comes first. A score of −∞ (a bias of −∞: the item is withdrawn) is never returned.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from stream.bundle import Bundle
from stream.co_occurrence import Raises
from stream.core.events import NO_ITEM
from stream.runtime import open_session

Floats = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

#: Rows of one product: enough to pay for the calls, few enough that the scores of a block stay in the cache.
ROWS: Final = 64
_GROUP: Final = 64
#: Relative to a product or a score; D products of float32 are off by at most D · 6e-8 of ‖query‖ · ‖item‖.
ROUNDING: Final = 1e-4


class Scorer:
    """The items of one bundle and of the live catalogue, ready to be searched. I items in P places."""

    def __init__(self, bundle: Bundle) -> None:
        self._graph = bundle.file("score.onnx").read_bytes()
        self._block = bundle.manifest.block
        self._sessions: list[Any] = []
        self._item_of = np.empty(0, np.int32)  # [P], NO_ITEM where a block is not full
        self._vectors = bundle.items  # of the bundle alone: what came later is never raised
        self._lengths = np.sqrt(np.einsum("id,id->i", bundle.items, bundle.items))
        self._length = np.empty(0, np.float32)  # of the longest item of each block
        self._open = np.empty((0, bundle.manifest.embedding_size), np.float32)  # of the block not yet full
        self.bias = np.empty(0, np.float32)  # [I]
        self._extend(bundle.items, bundle.item_bias)

    @property
    def items(self) -> int:
        return len(self.bias)

    def with_tail(self, vectors: Floats, bias: Floats) -> Scorer:
        """Return a scorer with the items [n, D] behind those of this one; packed blocks are shared."""
        other = object.__new__(Scorer)
        other._graph, other._block = self._graph, self._block
        other._sessions, other._item_of, other._length = list(self._sessions), self._item_of, self._length
        other._open, other.bias = self._open, self.bias
        other._vectors, other._lengths = self._vectors, self._lengths
        other._extend(vectors, bias)
        return other

    def top(
        self,
        query: Floats,
        k: int,
        *,
        extra_bias: Floats | None = None,
        exclude: Items | None = None,
        raises: Raises | None = None,
    ) -> tuple[Floats, Items]:
        """Return the scores [B, k] and indices [B, k] of the k best items of each row, best first.

        query [B, D]; extra_bias [I] is added to the items' own; exclude [B, n] are items that a row must not
        get, −1 for none; raises are added to the rows' scores. Where fewer than k items are left, the rest of
        a row is −∞ and −1.
        """
        bias = self._placed(extra_bias)
        highest = bias.max(axis=1, initial=-np.inf)
        length = np.sqrt(np.einsum("bd,bd->b", query, query))
        scores = np.full((len(query), k), -np.inf, np.float32)
        items = np.full((len(query), k), NO_ITEM, np.int32)
        barred = np.empty((len(query), 0), np.int32) if exclude is None else np.sort(exclude, axis=1)
        for row in range(0, len(query), ROWS):
            rows = slice(row, row + ROWS)
            part = {"query": query[rows]}
            for j, session in enumerate(self._sessions):
                if may_improve(length[rows], self._length[j], highest[j], scores[rows]):
                    product = session.run(["scores"], part)[0]
                    items_of_block = self._item_of[j * self._block : (j + 1) * self._block]
                    keep_best(product, bias[j], items_of_block, barred[rows], scores[rows], items[rows])
        if raises is not None:
            own = self.bias if extra_bias is None else self.bias + extra_bias
            raise_best(query, length, self._vectors, self._lengths, own, barred, *raises, scores, items)
        return scores, items

    def scores(self, query: Floats, extra_bias: Floats | None = None) -> Floats:
        """Return the scores [B, I] of all items: for explanation and evaluation."""
        out = np.empty((len(query), self.items), np.float32)
        for j, session in enumerate(self._sessions):
            items = self._item_of[j * self._block : (j + 1) * self._block]
            full = items != NO_ITEM
            for row in range(0, len(query), ROWS):
                rows = slice(row, row + ROWS)
                out[rows, items[full]] = session.run(["scores"], {"query": query[rows]})[0][:, full]
        out += self.bias if extra_bias is None else self.bias + extra_bias
        return out

    def _placed(self, extra_bias: Floats | None) -> Floats:
        """Return the bias of every place, [blocks, block]; places without an item have −∞."""
        bias = self.bias if extra_bias is None else self.bias + extra_bias
        placed = np.append(bias, np.float32(-np.inf))[self._item_of]  # NO_ITEM is −1: the last
        return placed.reshape(-1, self._block)

    def _extend(self, vectors: Floats, bias: Floats) -> None:
        """Add items behind those that are there; the last block is packed anew if it was not full."""
        items = np.arange(self.items, self.items + len(vectors), dtype=np.int32)
        self.bias = np.concatenate([self.bias, bias]).astype(np.float32)
        if len(self._open):
            self._sessions.pop()
            self._length = self._length[:-1]
            self._item_of, last = np.split(self._item_of, [-self._block])
            items = np.concatenate([last[: len(self._open)], items])
            vectors = np.concatenate([self._open, vectors])
        vectors = vectors.astype(np.float32, copy=False)
        length = np.sqrt(np.einsum("id,id->i", vectors, vectors))
        # A query is about as long as an item: so much could an item score. A withdrawn one comes last.
        order = np.argsort(-(length * length.mean() + self.bias[items]), kind="stable")
        items, vectors, length = items[order], vectors[order], length[order]
        for first in range(0, len(items), self._block):
            places = slice(first, first + self._block)
            block = np.zeros((vectors.shape[1], self._block), np.float32)
            block[:, : len(items[places])] = vectors[places].T
            self._sessions.append(open_session(self._graph, {"items": block}))
            self._length = np.append(self._length, length[places].max())
        empty = np.full(-len(items) % self._block, NO_ITEM, np.int32)
        self._item_of = np.concatenate([self._item_of, items, empty])
        self._open = vectors[len(vectors) - len(vectors) % self._block :].copy()


@njit(cache=True, nogil=True)
def may_improve(query_length: Floats, item_length: float, bias: float, best: Floats) -> bool:
    """Whether a block may hold an item for one of the rows: its greatest length and bias against best [B, k].

    The bound is widened by more than the rounding of a product of a thousand terms.
    """
    k = best.shape[1]
    for b in range(len(query_length)):
        kth = best[b, k - 1]
        bound = query_length[b] * item_length * (1 + ROUNDING) + bias
        if not bound < kth - ROUNDING * abs(kth):
            return True
    return False


@njit(cache=True, nogil=True)
def _any_reaches(scores: Floats, bias: Floats, bound: np.float32) -> bool:
    reaching = np.int32(0)
    for i in range(scores.size):  # a count and no early exit, so that it is compiled to vector instructions
        reaching += np.int32(scores[i] + bias[i] >= bound)
    return bool(reaching > 0)


@njit(cache=True, nogil=True)
def keep_best(
    product: Floats, bias: Floats, item_of: Items, barred: Items, best: Floats, best_item: Items
) -> None:
    """Put the items of a block into the rows' running top k.

    product [B, block]; bias [block], −∞ in places without an item; item_of [block] the items in the places;
    barred [B, n] sorted items to leave out; best [B, k] falling, and best_item [B, k], are updated.
    """
    rows, width = product.shape
    k = best.shape[1]
    for b in range(rows):
        for start in range(0, width, _GROUP):
            stop = min(start + _GROUP, width)
            if not _any_reaches(product[b, start:stop], bias[start:stop], best[b, k - 1]):
                continue
            for i in range(start, stop):
                score, item = product[b, i] + bias[i], item_of[i]
                if not _goes_before(score, item, best[b, k - 1], best_item[b, k - 1]):
                    continue
                if _is_in(barred[b], item):
                    continue
                _put(score, item, k - 1, best[b], best_item[b])


@njit(cache=True, nogil=True)
def raise_best(
    query: Floats, length: Floats, vectors: Floats, lengths: Floats, bias: Floats, barred: Items,
    start: Offsets, item: Items, value: Floats, best: Floats, best_item: Items,
) -> None:  # fmt: skip
    """Raise scores, and put the raised items into the rows' top k that belong there.

    query [B, D] with length [B], vectors [I, D] with lengths [I], bias [I]; start, item and value as in
    `Raises`; the rest as in `keep_best`.
    """
    k = best.shape[1]
    raised = np.zeros(len(vectors), np.float32)  # of one row, what has not been added yet
    for b in range(len(query)):
        for at in range(start[b], start[b + 1]):
            raised[item[at]] = value[at]
        for place in range(k):
            listed = best_item[b, place]
            if listed != NO_ITEM and listed < len(raised) and raised[listed] > 0:
                score = best[b, place] + raised[listed]
                raised[listed] = 0
                _put(score, listed, place, best[b], best_item[b])
        for at in range(start[b], start[b + 1]):
            i = item[at]
            if raised[i] == 0:
                continue
            raised[i] = 0
            kth = best[b, k - 1]
            bound = length[b] * lengths[i] * (1 + ROUNDING) + bias[i] + value[at]
            if bound < kth - ROUNDING * abs(kth) or _is_in(barred[b], i):
                continue
            score = _product(query[b], vectors[i]) + bias[i] + value[at]
            if _goes_before(score, i, kth, best_item[b, k - 1]):
                _put(score, i, k - 1, best[b], best_item[b])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _product(query: Floats, vector: Floats) -> np.float32:
    total = np.float32(0)
    for d in range(len(query)):  # in the order that the vector registers have it, whatever the batch
        total += query[d] * vector[d]
    return total


@njit(cache=True, nogil=True)
def _put(score: float, item: int, place: int, best: Floats, best_item: Items) -> None:
    """Put an item into the row, from `place` on upwards: what stands there moves down, or out."""
    while place > 0 and _goes_before(score, item, best[place - 1], best_item[place - 1]):
        best[place] = best[place - 1]
        best_item[place] = best_item[place - 1]
        place -= 1
    best[place] = score
    best_item[place] = item


@njit(cache=True, nogil=True)
def _goes_before(score: float, item: int, other: float, other_item: int) -> bool:
    """The higher score first, of equal ones the lower item; −∞ is no score."""
    return bool(score > other or (score == other and item < other_item and score > -np.inf))


@njit(cache=True, nogil=True)
def _is_in(ordered: Items, item: int) -> bool:
    i = np.searchsorted(ordered, item)
    return bool(i < ordered.size and ordered[i] == item)
