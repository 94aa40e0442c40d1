"""The proof that a bundle computes what was trained: no bundle leaves the export without it.

1. The sequence in torch, the steps in torch and the steps of the bundle give the same embeddings and hazards,
   within the bundle's tolerance, on the sequences given and on adversarial ones: much longer than in
   training, one item over and over, no item, unknown items, gaps of years, extreme values.
2. The ring of repeats, if there is one, holds the numbers of the last items that have one, newest last.
3. Every graph of the bundle gives a row the same bits in any batch of 1 to 255 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.graphs import Context, Head, LateItem
from models.ensemble import Model
from stream.bundle import Bundle
from stream.errors import EbbtideError
from stream.item_features import Category, ItemFeatures, Text
from stream.runtime import open_session

Floats = npt.NDArray[np.float32]

BATCHES: Final = range(1, 256)
#: Steps that are drawn for each of the users whose states the batches are tried with.
_STEPS: Final = 40


class ParityError(EbbtideError):
    """The bundle does not compute what was trained; it is not written."""


class History(NamedTuple):
    """The events of one user as a step sees them."""

    name: str
    item: Floats  # [T, E]
    features: Floats  # [T, F]


class Parity(NamedTuple):
    """The largest difference found, in parts of a sequence's largest number: of embeddings and hazards."""

    torch_steps: float
    onnx_steps: float
    sequences: int


def prove(model: Model, bundle: Bundle, real: Sequence[History] = (), *, seed: int = 0) -> Parity:
    """Return how close the bundle is to the model. Raises ParityError if it is not close enough."""
    model.eval()
    with _one_thread():
        return _prove(model, bundle, real, seed)


def _prove(model: Model, bundle: Bundle, real: Sequence[History], seed: int) -> Parity:
    sequences = [*real, *adversarial(model, bundle, seed)]
    step, head = open_session(bundle.file("user_step.onnx")), open_session(bundle.file("user_head.onnx"))
    worst_torch = worst_onnx = 0.0
    for sequence in sequences:
        reference = _torch_sequence(model, sequence)
        torch_steps, torch_state = _torch_steps(model, sequence)
        onnx_steps, onnx_state = _onnx_steps(step, head, model.state_size, sequence)
        if bundle.repeats is not None:
            prove_ring(bundle.repeats.length, sequence, torch_state, onnx_state)
        of_torch, of_onnx = _difference(reference, torch_steps), _difference(reference, onnx_steps)
        check_close(sequence.name, of_torch, of_onnx, bundle.manifest.tolerance)
        worst_torch, worst_onnx = max(worst_torch, of_torch), max(worst_onnx, of_onnx)
    prove_rows(model, bundle, seed=seed)
    prove_batches(bundle, seed=seed)
    return Parity(worst_torch, worst_onnx, len(sequences))


def check_close(name: str, of_torch: float, of_onnx: float, allowed: float) -> None:
    """Raise ParityError unless the steps of torch and of the bundle differ by no more than is allowed."""
    if not (np.isfinite(of_torch) and np.isfinite(of_onnx)):
        raise ParityError(
            f"sequence {name!r}: the torch sequence, its steps or the bundle's steps give no finite numbers",
            remedy="look for weights that are not finite, and for what overflows in the encoder",
        )
    if max(of_torch, of_onnx) > allowed:
        raise ParityError(
            f"sequence {name!r}: torch steps differ from the torch sequence by {of_torch:.2e}, the bundle's "
            f"steps by {of_onnx:.2e} of its largest number; allowed is {allowed:.0e}",
            remedy="the encoder's step must do what its forward does",
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: products of one row are so small that a second one only waits, and spins."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def adversarial(model: Model, bundle: Bundle, seed: int) -> list[History]:
    """Return sequences that are likely to tell a step from a sequence."""
    random = np.random.default_rng(seed)
    F = len(model.config.step_features)
    known, unknown = bundle.step_rows(np.arange(bundle.manifest.items)), bundle.oov

    def features(steps: int, scale: float) -> Floats:
        made = (scale * random.standard_normal((steps, F))).astype(np.float32)
        put_words(made, model.config.step_features, model.config.words, random)
        return made

    steps = max(600, 3 * int(model.config.encoder_config.get("window", 0)))
    long, last = random.integers(len(known), size=steps), len(known) - 1
    years = features(40, 1.0)
    for i, name in enumerate(model.config.step_features):
        if name == "gap_log":
            years[:, i] = np.log1p(np.float32(10 * 365 * 86_400.0))
    return [
        History("long after the window", known[long], features(steps, 1.0)),
        History("one item 300 times", known[np.full(300, last)], features(300, 1.0)),
        History("no item", unknown[np.full(50, -1)], features(50, 1.0)),
        History("unknown items", unknown[random.integers(len(unknown), size=50)], features(50, 1.0)),
        History("gaps of ten years", known[random.integers(len(known), size=40)], years),
        History("values of hundreds", known[long[:50]], features(50, 300.0)),
        History("one event", known[:1], features(1, 1.0)),
    ]


def put_words(
    rows: Floats, names: Sequence[str], words: Mapping[str, int], random: np.random.Generator
) -> None:
    """Let columns that tell a word's number tell any of them, 0 or one more than there are."""
    for column, name in enumerate(names):
        if name in words:
            rows[:, column] = random.integers(words[name] + 2, size=len(rows))


def prove_ring(length: int, sequence: History, *states: Floats) -> None:
    """Raise ParityError unless the states [S] that the sequence led to end with its last known items."""
    number = sequence.item[:, -1]
    last = np.append(np.zeros(length, np.float32), number[number > 0])[-length:]
    for state in states:
        if not np.array_equal(state[-length:], last):
            raise ParityError(
                f"sequence {sequence.name!r}: the ring of repeats ends with {state[-3:].tolist()}, the items "
                f"with {last[-3:].tolist()}",
                remedy="a step must put the item's number behind the others, or leave the ring alone",
            )


def prove_rows(model: Model, bundle: Bundle, *, seed: int = 0, rows: int = 100) -> None:
    """Raise ParityError if a graph that knows no state differs from its module, or the head of no history."""
    random = np.random.default_rng(seed)
    modules: dict[str, nn.Module] = {"user_head.onnx": Head(model)}
    if model.offset is not None:
        modules["context.onnx"] = Context(model)
    if model.reranker is not None:
        modules["rerank.onnx"] = model.reranker
    if model.items.encoder is not None:
        modules["item_encoder.onnx"] = LateItem(model.items)
    for name, module in modules.items():
        session = open_session(bundle.file(name))
        given = {put.name: _random_rows(random, put, rows) for put in session.get_inputs()}
        if name == "user_head.onnx":
            given["state"] = _reached_states(bundle, random)
            given["state"][0] = 0.0
        if name == "context.onnx":
            put_words(given["features"], model.config.context_features, model.config.words, random)
        if model.items.encoder is not None and name == "item_encoder.onnx":
            limits = _code_limits(model.items.encoder.features)
            given["codes"] = random.integers(limits, size=(rows, len(limits)))
        with torch.no_grad():
            expected = module(*(torch.from_numpy(value) for value in given.values()))
        found = np.concatenate(session.run(None, given), 1)
        whole = torch.cat(expected, 1) if isinstance(expected, tuple) else expected
        if not (difference := _difference(whole.numpy(), found)) <= bundle.manifest.tolerance:
            raise ParityError(f"{name} differs from the model by {difference:.2e}")


def _code_limits(features: ItemFeatures) -> npt.NDArray[np.int64]:
    """Return one more than the largest code of each column, i64 [C]."""
    limits = []
    for field in features.fields:
        limits += [len(field.values) + 1] * field.codes if isinstance(field, Category) else []
        limits += [field.buckets + 1] * field.codes if isinstance(field, Text) else []
    return np.array(limits or [1], np.int64)


def prove_batches(bundle: Bundle, *, seed: int = 0) -> None:
    """Raise ParityError if a row's result depends on the rows beside it."""
    random = np.random.default_rng(seed)
    reached = _reached_states(bundle, random)
    for name in sorted(bundle.manifest.files):
        if not name.endswith(".onnx"):
            continue
        block = bundle.manifest.block
        initializers = {"items": _first_block(bundle.items, block)} if name == "score.onnx" else None
        session = open_session(bundle.file(name), initializers)
        rows = {put.name: _random_rows(random, put, max(BATCHES)) for put in session.get_inputs()}
        if "state" in rows:
            rows["state"] = reached
        whole = session.run(None, rows)
        for n in BATCHES:
            part = session.run(None, {key: value[-n:] for key, value in rows.items()})
            if not all(np.array_equal(a[-n:], b) for a, b in zip(whole, part, strict=True)):
                raise ParityError(
                    f"{name}: a row's result differs in the last bits between a batch of {n} and one of "
                    f"{max(BATCHES)}",
                    remedy="products must have an initializer as their right side",
                )


def _reached_states(bundle: Bundle, random: np.random.Generator) -> Floats:
    """Return states [255, S] of histories of many lengths: a ring makes sense only as it was filled."""
    step = open_session(bundle.file("user_step.onnx"))
    state = np.zeros((max(BATCHES), bundle.manifest.state_size), np.float32)
    for _ in range(_STEPS):
        rows = {put.name: _random_rows(random, put, len(state)) for put in step.get_inputs()}
        after = step.run(["next"], rows | {"state": state})[0]
        state = np.where(random.random((len(state), 1)) < 0.5, after, state)
    return state


def _random_rows(random: np.random.Generator, put: Any, rows: int) -> npt.NDArray[Any]:
    """Return rows for an input of a graph; of codes only 0 and 1 are sure to be there."""
    shape = rows, put.shape[1]
    if put.type == "tensor(int64)":
        return random.integers(2, size=shape)
    return random.standard_normal(shape).astype(np.float32)


def _first_block(items: Floats, block: int) -> Floats:
    padded = np.zeros((items.shape[1], block), np.float32)
    padded[:, : min(block, len(items))] = items[:block].T
    return padded


def _torch_sequence(model: Model, sequence: History) -> Floats:
    with torch.no_grad():
        user, y = model.outputs(torch.tensor(sequence.item)[None], torch.tensor(sequence.features)[None])
        said = user[0] if model.hazard is None else torch.cat([user[0], model.hazard(y[0])], 1)
    result: Floats = said.numpy()
    return result


def _torch_steps(model: Model, sequence: History) -> tuple[Floats, Floats]:
    def step(state: Floats, item: Floats, features: Floats) -> Floats:
        result: Floats = model.step(torch.tensor(state), torch.tensor(item), torch.tensor(features)).numpy()
        return result

    def read(state: Floats) -> Floats:
        user = model.read(torch.tensor(state))
        said = user if model.hazard is None else torch.cat([user, model.hazards(torch.tensor(state))], 1)
        result: Floats = said.numpy()
        return result

    with torch.no_grad():
        return _walk(step, read, model.state_size, sequence)


def _onnx_steps(step: Any, head: Any, state_size: int, sequence: History) -> tuple[Floats, Floats]:
    def run(state: Floats, item: Floats, features: Floats) -> Floats:
        result: Floats = step.run(["next"], {"state": state, "item": item, "features": features})[0]
        return result

    def read(state: Floats) -> Floats:
        result: Floats = np.concatenate(head.run(None, {"state": state}), 1)
        return result

    return _walk(run, read, state_size, sequence)


def _walk(
    step: Callable[[Floats, Floats, Floats], Floats],
    read: Callable[[Floats], Floats],
    state_size: int,
    sequence: History,
) -> tuple[Floats, Floats]:
    """Return what is read after each step, and the last state [S]."""
    state = np.zeros((1, state_size), np.float32)
    users = []
    for t in range(len(sequence.item)):
        state = step(state, sequence.item[t : t + 1], sequence.features[t : t + 1])
        users.append(read(state)[0])
    return np.stack(users), state[0]


def _difference(a: Floats, b: Floats) -> float:
    """Return the largest difference, in parts of the largest number where that is above 1.

    NaN or infinite if any number is.
    """
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        return float(np.max(np.abs(a - b)) / max(1.0, float(np.max(np.abs(a)))))
