"""The exact top ten of a catalogue: Ebbtide's search beside the ways to do it that come to mind first.

One thread, batches of BATCH queries, two catalogues of the same size: that of the demo, where few products
sell much and most blocks can be left out, and one of vectors of equal length without biases, where none can.
The searches must agree before they are timed. The last rows add to Ebbtide's search what is raised after the
last items of BATCH moments drawn from the demo's year: by co-occurrence (stream/co_occurrence.py), with
neighbours as a recipe counts them in that year, and by repeats (stream/repeats.py), as the demo's bundle has
them. µs of one core a list; the best of RUNS.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from models.co_occurrence import count_near
from models.dataset import Sequences, fold_events
from models.recent import recent_items
from models.recipe import CoOccurrence
from stream.bundle import Bundle, open_bundle
from stream.co_occurrence import Raises
from stream.config_load import load_config
from stream.demo.brokers import CONFIG
from stream.demo.journey import EVENTS
from stream.runtime import open_session
from stream.scorer import Scorer

BATCH = 256
RUNS = 20
K = 10

Search = Callable[[np.ndarray], np.ndarray]


def run() -> None:
    path = load_config(CONFIG).bundle.path
    assert path is not None, "the demo has a bundle"
    demo = open_bundle(path)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal(demo.items.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    even = demo._replace(items=vectors, item_bias=np.zeros(len(vectors), np.float32))
    query = rng.standard_normal((BATCH, demo.items.shape[1])).astype(np.float32)

    table = Table(title=f"the ten best of {len(vectors):,} items, {demo.items.shape[1]} wide: µs a list")
    for heading in ("search", "the demo's items", "items of equal length"):
        table.add_column(heading, justify="left" if heading == "search" else "right")
    year = fold_events(str(EVENTS), load_config(CONFIG), demo.item_ids)
    columns = [measure(demo, query, year), measure(even, query, year)]
    for name in columns[0]:
        table.add_row(name, *(f"{column[name]:.1f}" for column in columns))
    Console(width=100).print(table)


def measure(bundle: Bundle, query: np.ndarray, year: Sequences) -> dict[str, float]:
    """Return µs a list of each search."""
    scorer = Scorer(bundle)
    searches: dict[str, Search] = {
        "Ebbtide": lambda query: scorer.top(query, K)[1],
        "one ONNX graph, MatMul + TopK": one_graph(bundle),
        "numpy, product + argpartition": partitioned(bundle),
    }
    expected = searches["Ebbtide"](query)
    costs = {}
    for name, search in searches.items():
        found = search(query)
        # Products of another order of summation differ in the last bits: where scores tie, so may the ranks.
        assert (found == expected).mean() > 0.999, f"{name} found other items"
        costs[name] = min(timed(search, query) for _ in range(RUNS)) / len(query) * 1e6
    for name, raises in raised_by(bundle, year).items():
        raised = with_raises(scorer, query, raises)
        costs[f"Ebbtide, with {name}"] = min(timed(raised, query) for _ in range(RUNS)) / len(query) * 1e6
    return costs


def raised_by(bundle: Bundle, year: Sequences) -> dict[str, Callable[[], Raises]]:
    """Return what raises scores at BATCH moments of the year."""
    near, repeats = count_near(year, CoOccurrence())._replace(strength=0.5), bundle.repeats
    assert repeats is not None, "the demo's bundle has repeats"
    moments = np.random.default_rng(2).integers(len(year.item), size=BATCH)
    recent = recent_items(year, moments)
    ring = (recent_items(year, moments, repeats.length, len(bundle.item_ids)) + 1).astype(np.float32)
    return {
        "co-occurrence": lambda: near.raises(recent),
        "repeats": lambda: repeats.raises_of(ring),
    }


def with_raises(scorer: Scorer, query: np.ndarray, raises: Callable[[], Raises]) -> Search:
    """Return Ebbtide's search with raises, made anew for each list as in serving."""

    def search(query: np.ndarray) -> np.ndarray:
        return scorer.top(query, K, raises=raises())[1]

    expected = scorer.scores(query)
    raises().add_to(expected)
    best = np.argsort(-expected, axis=1, kind="stable")[:, :K]
    assert (search(query) == best).mean() > 0.999, "raises found other items"
    return search


def timed(search: Search, query: np.ndarray) -> float:
    began_s = time.perf_counter()
    search(query)
    return time.perf_counter() - began_s


def one_graph(bundle: Bundle) -> Search:
    """Return a search by one graph, in chunks of 64 rows, the items a constant of the graph."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["query", "items"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["scores"]),
            helper.make_node("TopK", ["scores", "k"], ["best", "indices"]),
        ],
        "top",
        [helper.make_tensor_value_info("query", TensorProto.FLOAT, ["rows", bundle.items.shape[1]])],
        [helper.make_tensor_value_info("indices", TensorProto.INT64, ["rows", K])],
        [
            numpy_helper.from_array(np.ascontiguousarray(bundle.items.T, np.float32), "items"),
            numpy_helper.from_array(bundle.item_bias.astype(np.float32), "bias"),
            numpy_helper.from_array(np.array([K]), "k"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_session(model.SerializeToString())

    def search(query: np.ndarray) -> np.ndarray:
        chunks = [query[row : row + 64] for row in range(0, len(query), 64)]
        return np.concatenate([session.run(["indices"], {"query": chunk})[0] for chunk in chunks])

    return search


def partitioned(bundle: Bundle) -> Search:
    items, bias = np.ascontiguousarray(bundle.items.T, np.float32), bundle.item_bias

    def search(query: np.ndarray) -> np.ndarray:
        scores = query @ items + bias
        best = np.argpartition(-scores, K - 1, axis=1)[:, :K]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)

    return search
