"""The learned similarity at serving time: the best candidates of each list, ranked anew.

The product finds `rerank_max` candidates among all items; the network of the bundle sees each of them beside
the query and gives it its final score. Of equal scores the earlier row comes first, as in the scorer.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stream.bundle import Bundle
from stream.runtime import open_session

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

RERANK: Final = "rerank.onnx"


class Reranker:
    """The network of a bundle that has one. B lists, N candidates, D embedding."""

    def __init__(self, bundle: Bundle) -> None:
        self.candidates = bundle.manifest.rerank_max
        self._session = open_session(bundle.file(RERANK))

    def rank(self, query: Floats, scores: Floats, rows: Ints, vectors: Floats) -> tuple[Floats, Ints]:
        """Return scores and rows [B, N] in their new order.

        query [B, D]; scores and rows [B, N] as the scorer gives them, −∞ and −1 where there is none;
        vectors [R, D] of all rows.
        """
        list_, place = np.nonzero(rows >= 0)
        again = scores.copy()
        if len(list_):
            pairs = {
                "user": query[list_],
                "item": vectors[rows[list_, place]],
                "score": scores[list_, place][:, None],
            }
            again[list_, place] = self._session.run(["rescored"], pairs)[0][:, 0]
        order = np.lexsort((rows, -again), axis=-1)
        return np.take_along_axis(again, order, 1), np.take_along_axis(rows, order, 1)
