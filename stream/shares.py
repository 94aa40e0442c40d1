"""What each score of a list is made of: the user's history, the context, and what everyone is told.

    history         (u − u₀) · v      what the user's events add; u₀ is the embedding of someone without any
    context         g(context) · v
    prior           u₀ · v + b        what someone without history, context and policy would see
    co-occurrence   what the neighbours of the user's last items add
    repeats         what the user's own items add to themselves
    popularity      the policy's weight times the log share of sales
    reranked        what the network over the best candidates changed

They sum to the score. Every model scores by a product with the query, so this holds for any encoder and
similarity; the query's parts under cosine are those of the normalised user.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np

from stream.model import Model, RankedList, Reads


class Share(msgspec.Struct):
    """The parts of one item's score, in the list's order."""

    item_id: str
    history: float
    context: float
    prior: float
    co_occurrence: float
    repeats: float
    popularity: float
    reranked: float


class Heard:
    """The last list that a model made, and what it was made from."""

    def __init__(self) -> None:
        self.made: RankedList | None = None
        self.reads: Reads | None = None


@contextmanager
def listening(model: Model | None) -> Iterator[Heard]:
    """Note what lists the model makes."""
    heard = Heard()
    if model is None:
        yield heard
        return
    rank = model.rank

    def note(reads: Reads) -> list[RankedList]:
        ranked = rank(reads)
        if ranked:
            heard.made, heard.reads = (
                ranked[-1],
                reads._replace(
                    state=reads.state[-1:],
                    features=reads.features[-1:],
                    lifecycle=reads.lifecycle[-1:],
                    recent=reads.recent[-1:],
                ),
            )
        return ranked

    model.rank = note  # type: ignore[method-assign]
    try:
        yield heard
    finally:
        del model.rank  # the method of the class is seen again


def share_out(model: Model, heard: Heard, item_ids: list[str]) -> list[Share]:
    """Return the parts of the scores of the list that was heard last; item_ids name its items."""
    made, reads = heard.made, heard.reads
    if made is None or reads is None or not made.items:
        return []
    user = model.encoder.head(reads.state)[0][0]  # [D]
    nobody = model.encoder.head(np.zeros_like(reads.state))[0][0]
    offset = model.encoder.context(reads.features)
    rows = model.candidates.rows(np.array(made.items, np.int32))
    vectors = model.candidates.vectors[rows].astype(np.float64)  # [k, D]
    history = vectors @ (user.astype(np.float64) - nobody)
    context = vectors @ offset[0] if offset is not None else np.zeros(len(rows))
    prior = vectors @ nobody + model.candidates.scorer.bias[rows]
    raised = np.zeros((1, model.candidates.scorer.items), np.float32)
    if (raises := model.raises(reads.recent, reads.state)) is not None:
        raises.add_to(raised)
    added = raised[0, rows].astype(np.float64)
    co_occurrence, repeats = (added, 0.0 * added) if model.bundle.repeats is None else (0.0 * added, added)
    weight = model.policies[int(reads.lifecycle[0])].popularity
    popularity = weight * model.candidates.prior[rows].astype(np.float64)
    rest = np.array(made.scores) - history - context - prior - added - popularity
    rest = rest if model.reranks else 0.0 * rest
    columns = np.stack([history, context, prior, co_occurrence, repeats, popularity, rest], 1)
    return [Share(item, *map(float, parts)) for item, parts in zip(item_ids, columns, strict=True)]
