"""The bundle: a folder with everything that is known about the model, checked by hash when it is opened.

    manifest.json        what the model expects and how it did; sha256 of every other file
    items.npy            [I, D] float16, float32 or int8, transformed so that scoring is one product
    items_scale.npy      [I] float32, what the numbers of a row of int8 are multiplied by; only with int8
    item_ids.txt         the ids of its rows, a line each
    item_bias.npy        [I] float32, added to the product
    item_prior.npy       [I] float32, log share of each item at training, for policies with `popularity`
    step_items.npy       [I, E] the step's item input, if it is not items.npy; with repeats one column less,
                         as an item's number is not stored
    oov.npy              [oov_rows + 1, E] the step's input for unknown items, by hash; the last is "no item".
                         With repeats their numbers, the last column, are 0
    user_step.onnx       state [B, S], item [B, E], features [B, F] → next [B, S]
    user_head.onnx       state [B, S] → user [B, D], hazard [B, bins] if the manifest has one
    context.onnx         features [B, Fc] → offset [B, D]; only with context features
    score.onnx           query [B, D] → scores [B, block]: the product with a block of items
    item_encoder.onnx    codes [B, C], floats [B, F] → item [B, D], bias [B, 1]: of later items; optional
    item_features.json   how attributes become those codes and floats, see stream/item_features.py
    near_start.npy       [I + 1] int64, with near_item.npy [N] int32 and near_weight.npy [N] float32: each
                         item's neighbours, see stream/co_occurrence.py; optional
    repeat_weight.npy    [I] float32, how far what a user took raises itself, see stream/repeats.py; optional
    rerank.onnx          user [P, D], item [P, D], score [P, 1] → rescored [P, 1]: of pairs; optional

All of it is read-only. A file that is missing, altered or of the wrong shape is a BundleError that names it;
nothing of a bundle is used before all of it has been checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from stream.co_occurrence import NEAR_TYPES, Near, check_near
from stream.errors import BundleError
from stream.repeats import REPEAT_WEIGHT, Repeats, check_repeats

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
REQUIRED: Final = frozenset(
    {"items.npy", "item_ids.txt", "item_bias.npy", "item_prior.npy", "oov.npy"}
    | {"user_step.onnx", "user_head.onnx", "score.onnx"}
)
OPTIONAL: Final = frozenset(
    {
        "step_items.npy",
        "items_scale.npy",
        "step_items_scale.npy",
        "context.onnx",
        "item_encoder.onnx",
        "item_features.json",
        "rerank.onnx",
        *NEAR_TYPES,
        REPEAT_WEIGHT,
    }
)

_EXPORT_AGAIN: Final = "export the bundle again, or restore the folder from where it was published"


class Hazard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The churn head: P(next event falls into a bin | none before it), for bins of silence."""

    bins_ms: list[int]  # upper edges, rising
    horizon_ms: int


class CoOccurrence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the neighbours of a user's last items raise scores (stream/co_occurrence.py)."""

    decay: float  # of an item, by each that came after it
    strength: float


class Repetition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a user's own items raise themselves (stream/repeats.py): of each item that many are remembered."""

    decay: float  # of an item, by each that came after it
    length: int  # items in the state's ring


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """manifest.json, format 1."""

    format: int
    version: str  # goes into every recommendation
    encoder: dict[str, Any]  # kind and hyper-parameters
    state_size: int  # S
    embedding_size: int  # D
    item_size: int  # E; with repeats the last number is the item's, as the ring has it
    items: int  # I
    block: int  # items in one product of score.onnx
    kinds: list[str]  # the event vocabulary at training
    step_features: list[str]
    context_features: list[str]
    vocabularies: dict[str, list[str]]  # of the context entries that are words; code 0 is "unknown"
    oov_rows: int
    similarity: Literal["dot", "cosine", "euclid"]  # how the model was trained; the files hold it transformed
    hazard: Hazard | None
    metrics: dict[str, Any]  # as measured at training
    tolerance: float  # the export proved steps and sequence equal within this
    files: dict[str, str]  # sha256 in hex
    rerank_max: int = 0  # candidates that rerank.onnx ranks anew
    co_occurrence: CoOccurrence | None = None
    repeats: Repetition | None = None


class Bundle(NamedTuple):
    """An opened bundle; the arrays are mapped from the files where they are float32."""

    path: Path
    manifest: Manifest
    item_ids: list[str]
    items: npt.NDArray[np.float32]  # [I, D]
    step_items: npt.NDArray[np.float32]  # [I, E], the numbers left out; items itself if there is no other
    oov: npt.NDArray[np.float32]  # [oov_rows + 1, E]
    item_bias: npt.NDArray[np.float32]  # [I]
    item_prior: npt.NDArray[np.float32]  # [I]
    near: Near | None = None
    repeats: Repeats | None = None

    def step_rows(self, item: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return what a step takes in for items of the bundle: [n] → [n, E]."""
        rows: npt.NDArray[np.float32] = self.step_items[item]
        if self.repeats is None:
            return rows
        return np.concatenate([rows, (item[:, None] + 1).astype(np.float32)], 1)

    @property
    def version(self) -> str:
        return self.manifest.version

    def file(self, name: str) -> Path:
        return self.path / name


def open_bundle(path: Path | str) -> Bundle:
    """Open the folder and check all of it. Raises BundleError, which names what is wrong and where."""
    path = Path(path)
    manifest = _read_manifest(path)
    _check_files(path, manifest)
    sizes = manifest.items, manifest.embedding_size
    items = _read_rows(path, manifest, "items.npy", sizes)
    step_items, width = items, manifest.item_size - (manifest.repeats is not None)
    if "step_items.npy" in manifest.files:
        step_items = _read_rows(path, manifest, "step_items.npy", (manifest.items, width))
    elif width != manifest.embedding_size:
        raise BundleError(
            "item_size and embedding_size differ, so step_items.npy must be there", place=str(path)
        )
    oov = _read_array(path, "oov.npy", (manifest.oov_rows + 1, manifest.item_size))
    if manifest.repeats is not None and oov[:, -1].any():
        raise BundleError(
            "oov.npy must end with 0: an unknown item has no number", place=str(path), remedy=_EXPORT_AGAIN
        )
    return Bundle(
        path,
        manifest,
        _read_ids(path, manifest.items),
        items,
        step_items,
        oov,
        _read_array(path, "item_bias.npy", (manifest.items,)),
        _read_array(path, "item_prior.npy", (manifest.items,)),
        _read_near(path, manifest),
        _read_repeats(path, manifest),
    )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> Manifest:
    place = str(path / MANIFEST)
    try:
        content = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(
            f"cannot be read ({error.strerror})",
            place=place,
            remedy="name the folder of a bundle, as ebbtide-export writes it",
        ) from error
    try:
        found = msgspec.json.decode(content, type=_Format).format
        if found != FORMAT:
            raise BundleError(
                f"format {found}, this version reads {FORMAT}", place=place, remedy=_EXPORT_AGAIN
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise BundleError(f"no manifest: {error}", place=place, remedy=_EXPORT_AGAIN) from error
    _check_manifest(manifest, place)
    return manifest


class _Format(msgspec.Struct):
    format: int


#: What a manifest must say for the rest to make sense: the field, the test, what it should be.
_RULES: Final[tuple[tuple[str, Callable[[Manifest], bool], str], ...]] = (
    ("version", lambda m: m.version != "", "not empty"),
    ("state_size", lambda m: m.state_size > 0, "1 or more"),
    ("embedding_size", lambda m: m.embedding_size > 0, "1 or more"),
    ("item_size", lambda m: m.item_size > 0, "1 or more"),
    ("items", lambda m: m.items > 0, "1 or more"),
    ("block", lambda m: m.block > 0, "1 or more"),
    ("oov_rows", lambda m: m.oov_rows > 0, "1 or more"),
    ("kinds", lambda m: len(set(m.kinds)) == len(m.kinds), "without repeats"),
    (
        "hazard",
        lambda m: m.hazard is None or sorted(set(m.hazard.bins_ms)) == m.hazard.bins_ms != [],
        "with rising bins",
    ),
    (
        "context.onnx",
        lambda m: ("context.onnx" in m.files) == bool(m.context_features),
        "there if features are",
    ),
    (
        "item_features.json",
        lambda m: ("item_features.json" in m.files) == ("item_encoder.onnx" in m.files),
        "there if item_encoder.onnx is",
    ),
    (
        "rerank_max",
        lambda m: ("rerank.onnx" in m.files) == (m.rerank_max > 0) and m.rerank_max >= 0,
        "above 0 if rerank.onnx is there, else 0",
    ),
    (
        "co_occurrence",
        lambda m: {name in m.files for name in NEAR_TYPES} == {m.co_occurrence is not None},
        f"there if {', '.join(NEAR_TYPES)} are, all of them",
    ),
    (
        "repeats",
        lambda m: (REPEAT_WEIGHT in m.files) == (m.repeats is not None),
        f"there if {REPEAT_WEIGHT} is",
    ),
    (
        "repeats",
        lambda m: m.repeats is None or 0 < m.repeats.length < m.state_size,
        "shorter than the state, which ends with their ring",
    ),
    (
        "repeats",
        lambda m: m.repeats is None or m.co_occurrence is None,
        "without co_occurrence beside it",
    ),
)


def _check_manifest(manifest: Manifest, place: str) -> None:
    for field, holds, expected in _RULES:
        if not holds(manifest):
            raise BundleError(f"{field} must be {expected}", place=place, remedy=_EXPORT_AGAIN)
    if unknown := sorted(set(manifest.files) - REQUIRED - OPTIONAL):
        raise BundleError(f"names files that no bundle has: {', '.join(unknown)}", place=place)
    if missing := sorted(REQUIRED - set(manifest.files)):
        raise BundleError(f"lacks {', '.join(missing)}", place=place, remedy=_EXPORT_AGAIN)


def _check_files(path: Path, manifest: Manifest) -> None:
    for name, expected in sorted(manifest.files.items()):
        try:
            found = sha256(path / name)
        except OSError as error:
            raise BundleError(
                f"cannot be read ({error.strerror})", place=str(path / name), remedy=_EXPORT_AGAIN
            ) from error
        if found != expected:
            raise BundleError(
                f"is not the file that was exported (sha256 {found[:12]}…, manifest {expected[:12]}…)",
                place=str(path / name),
                remedy=_EXPORT_AGAIN,
            )


def _read_near(path: Path, manifest: Manifest) -> Near | None:
    if manifest.co_occurrence is None:
        return None
    start, item, weight = (np.array(_load(path, name, None, (dtype,))) for name, dtype in NEAR_TYPES.items())
    near = Near(start, item, weight, manifest.co_occurrence.decay, manifest.co_occurrence.strength)
    if wrong := check_near(near, manifest.items):
        raise BundleError(wrong, place=str(path), remedy=_EXPORT_AGAIN)
    return near


def _read_repeats(path: Path, manifest: Manifest) -> Repeats | None:
    if manifest.repeats is None:
        return None
    weight = np.array(_read_array(path, REPEAT_WEIGHT, (manifest.items,)))
    repeats = Repeats(weight, manifest.repeats.decay, manifest.repeats.length)
    if wrong := check_repeats(repeats):
        raise BundleError(wrong, place=str(path), remedy=_EXPORT_AGAIN)
    return repeats


def _read_array(
    path: Path, name: str, shape: tuple[int, ...], dtypes: Sequence[Any] = (np.float16, np.float32)
) -> npt.NDArray[np.float32]:
    array = _load(path, name, shape, dtypes)
    if not np.isfinite(array).all():
        raise BundleError("holds numbers that are not finite", place=str(path / name), remedy=_EXPORT_AGAIN)
    floats: npt.NDArray[np.float32] = np.ascontiguousarray(array, np.float32)
    floats.flags.writeable = False
    return floats


def _load(path: Path, name: str, shape: tuple[int, ...] | None, dtypes: Sequence[Any]) -> npt.NDArray[Any]:
    """Return an array as it is stored, mapped from its file. shape: None for one of any length."""
    place = str(path / name)
    try:
        array: npt.NDArray[Any] = np.load(path / name, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise BundleError(f"no array: {error}", place=place, remedy=_EXPORT_AGAIN) from error
    if array.dtype not in dtypes or (array.ndim != 1 if shape is None else array.shape != shape):
        expected = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise BundleError(
            f"{array.dtype} {array.shape}, expected {expected} {shape or '(n,)'}",
            place=place,
            remedy=_EXPORT_AGAIN,
        )
    return array


def _read_rows(path: Path, manifest: Manifest, name: str, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return a table of items, which may be stored as int8 and a scale for each row."""
    scale_name = name.replace(".npy", "_scale.npy")
    if scale_name not in manifest.files:
        return _read_array(path, name, shape)
    scale = _read_array(path, scale_name, shape[:1])
    rows: npt.NDArray[np.float32] = _read_array(path, name, shape, (np.int8,)) * scale[:, None]
    rows.flags.writeable = False
    return rows


def _read_ids(path: Path, count: int) -> list[str]:
    place = str(path / "item_ids.txt")
    try:
        ids = (path / "item_ids.txt").read_bytes().decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"is not UTF-8: {error}", place=place, remedy=_EXPORT_AGAIN) from error
    if len(ids) != count or len(set(ids)) != count or "" in ids:
        raise BundleError(f"must hold {count} different ids, a line each", place=place, remedy=_EXPORT_AGAIN)
    return ids
