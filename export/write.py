"""Writes a bundle folder: the tables, the graphs, and the manifest with the hash of each.

A bundle appears whole or not at all: it is written beside its place, proved there, and then moved. Equal
models give equal bytes, and the version is made from them, so that two bundles with one version are the same.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from export.graphs import model_graphs, score_graph
from models.ensemble import Model
from stream.bundle import FORMAT, MANIFEST, Bundle, CoOccurrence, Hazard, Manifest, Repetition, open_bundle
from stream.co_occurrence import NEAR_TYPES, Near
from stream.errors import EbbtideError
from stream.item_features import ITEM_FEATURES
from stream.repeats import REPEAT_WEIGHT

#: Items in one product of the scorer: 2,048 rows of 64 floats are 512 KB, half of a core's own cache.
BLOCK_MAX = 2048
#: A block is a multiple of the widest vector register, in floats.
BLOCK_STEP = 16

#: The largest number of a row of int8; −128 is left out, so that rows are symmetric.
INT8_MAX = 127

Floats = npt.NDArray[np.float32]
Precision = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle. Tables are float32; items are stored as `precision` says."""

    model: Model
    item_ids: Sequence[str]
    items: Floats  # [I, D] for scoring
    item_bias: Floats  # [I]
    item_prior: Floats  # [I]
    oov: Floats  # [oov_rows + 1, E]
    kinds: Sequence[str]
    step_items: Floats | None = None  # [I, E] if not the same, without the numbers of repeats
    vocabularies: dict[str, list[str]] = field(default_factory=dict)
    similarity: Literal["dot", "cosine", "euclid"] = "dot"
    metrics: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-4
    precision: Precision = "float32"
    hazard_horizon_ms: int = 0  # of a model with a hazard head
    rerank_max: int = 100  # of a model with a reranker
    near: Near | None = None  # of a model that counts co-occurrence


def write_bundle(
    path: Path, contents: Contents, prove: Callable[[Bundle], None], *, overwrite: bool = False
) -> Bundle:
    """Write the bundle to `path` once `prove` has accepted it (it raises otherwise), and open it."""
    if path.exists() and not (overwrite and (path / MANIFEST).exists()):
        raise EbbtideError(
            "is there already", place=str(path), remedy="name another folder, or use --overwrite"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as beside:
        folder = Path(beside) / "bundle"
        folder.mkdir()
        _write_files(folder, contents)
        prove(open_bundle(folder))
        if path.exists():
            shutil.rmtree(path)
        folder.rename(path)
    return open_bundle(path)


def _write_tables(folder: Path, contents: Contents) -> None:
    bad = [item_id for item_id in contents.item_ids if not item_id or "\n" in item_id]
    if bad:
        raise EbbtideError(
            f"{len(bad)} item ids are empty or hold a line end, the first is {bad[0]!r}",
            remedy="leave these items out of training",
        )
    arrays = {
        **compress("items", contents.items, contents.precision),
        "oov.npy": contents.oov.astype(np.float32),
        "item_bias.npy": contents.item_bias.astype(np.float32),
        "item_prior.npy": contents.item_prior.astype(np.float32),
    }
    if contents.step_items is not None:
        arrays |= compress("step_items", contents.step_items, contents.precision)
    if contents.near is not None:
        arrays |= dict(zip(NEAR_TYPES, contents.near[:3], strict=True))
    if contents.model.repeats is not None:
        arrays[REPEAT_WEIGHT] = contents.model.repeats.served().weight
    for name, array in arrays.items():
        np.save(folder / name, array, allow_pickle=False)
    (folder / "item_ids.txt").write_bytes("".join(f"{i}\n" for i in contents.item_ids).encode())


def compress(name: str, rows: Floats, precision: Precision) -> dict[str, npt.NDArray[Any]]:
    """Return the files that hold the rows: float32, float16, or int8 with a scale for each row."""
    if precision != "int8":
        return {f"{name}.npy": rows.astype(precision)}
    scale = (np.abs(rows).max(1) / INT8_MAX).astype(np.float32)
    whole = np.rint(rows / np.maximum(scale, np.finfo(np.float32).tiny)[:, None])
    return {f"{name}.npy": whole.astype(np.int8), f"{name}_scale.npy": scale}


def expand(name: str, files: dict[str, npt.NDArray[Any]]) -> Floats:
    """Return the rows as a bundle with these files has them."""
    rows: Floats = files[f"{name}.npy"].astype(np.float32)
    scale = files.get(f"{name}_scale.npy")
    return rows if scale is None else rows * scale[:, None]


def _write_files(folder: Path, contents: Contents) -> None:
    _write_tables(folder, contents)
    model, block = contents.model, block_size(len(contents.item_ids))
    graphs = model_graphs(model) | {"score.onnx": score_graph(contents.items.shape[1], block)}
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph)
    if model.items.encoder is not None:
        (folder / ITEM_FEATURES).write_bytes(msgspec.json.encode(model.items.encoder.features))
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
    config, near = model.config, contents.near
    manifest = Manifest(
        format=FORMAT,
        version="",
        encoder={"kind": config.encoder, **config.encoder_config},
        state_size=model.state_size,
        embedding_size=contents.items.shape[1],
        item_size=contents.oov.shape[1],
        items=len(contents.item_ids),
        block=block,
        kinds=list(contents.kinds),
        step_features=list(config.step_features),
        context_features=list(config.context_features),
        vocabularies=contents.vocabularies,
        oov_rows=len(contents.oov) - 1,
        similarity=contents.similarity,
        hazard=Hazard(list(config.hazard_bins_ms), contents.hazard_horizon_ms) if model.hazard else None,
        metrics=contents.metrics,
        tolerance=contents.tolerance,
        files=files,
        rerank_max=contents.rerank_max if model.reranker else 0,
        co_occurrence=CoOccurrence(near.decay, near.strength) if near else None,
        repeats=Repetition(config.repeats_decay, config.repeats) if config.repeats else None,
    )
    digest = hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
    manifest = msgspec.structs.replace(manifest, version=f"{config.encoder}-{digest[:12]}")
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def block_size(items: int) -> int:
    """Return the size of a block: the items in as few blocks as may be, of equal size."""
    blocks = -(-items // BLOCK_MAX)
    return -(-items // (blocks * BLOCK_STEP)) * BLOCK_STEP
