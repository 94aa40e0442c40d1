"""The baselines that stand beside a model in `evaluate`: each knows what the model knew, and no more.

Settings are those that models/baselines.py has; nothing is chosen by what is judged. Recency and item-kNN
need scipy, BPR and ALS the package implicit (the extra `quality`); what is not installed is left out, and
that is said.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Final

from models.baselines import Factors, ItemNeighbours, Popularity, Recency
from models.dataset import Sequences
from models.ranking import Scorer

POPULARITY: Final = "popularity"
RECENCY: Final = "recency"
ITEM_KNN: Final = "item-kNN"

#: How a baseline is made of sequences.
Maker = Callable[[Sequences], Scorer]


def own_and_near() -> tuple[dict[str, Maker], list[str]]:
    """Return recency and item-kNN, and a note if they are left out."""
    if not _installed("scipy"):
        return {}, [f"{RECENCY} and {ITEM_KNN} are left out: scipy is not installed"]
    return {RECENCY: Recency, ITEM_KNN: ItemNeighbours}, []


def factors(seed: int) -> tuple[dict[str, Maker], list[str]]:
    """Return BPR and ALS, and a note if they are left out."""
    if not (_installed("scipy") and _installed("implicit")):
        return {}, ["BPR and ALS are left out: the package implicit is not installed"]
    return {kind.upper(): partial(_factors, kind, seed) for kind in ("bpr", "als")}, []


def everyone(seed: int) -> tuple[dict[str, Maker], list[str]]:
    """Return all baselines, popularity first, and notes on those that are left out."""
    (near, note), (vectors, notes) = own_and_near(), factors(seed)
    return {POPULARITY: Popularity} | near | vectors, note + notes


def _factors(kind: str, seed: int, data: Sequences) -> Scorer:
    """Fit factors as implicit asks for it: BLAS's own threads are in its way, and it warns of them."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1, "blas"):
        return Factors(data, kind, seed=seed)


def _installed(package: str) -> bool:
    return find_spec(package) is not None
