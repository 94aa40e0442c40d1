"""The encoder at serving time: one step per event, one reading per list; all arithmetic in ONNX Runtime.

A state is a row of S floats, zeros for a user without history. The item that a step takes in comes from the
bundle's frozen tables only: its own row, a row chosen by hash for an item that the bundle does not know, or
the row for "no item". So a state depends on the events and the bundle, never on the live catalogue.

The same user must not stand twice in one call of `step`: that is what waves are for (stream/core/waves.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stream.bundle import Bundle
from stream.core.hashing import fnv1a_all
from stream.errors import BundleError
from stream.runtime import open_session

Floats = npt.NDArray[np.float32]

#: Features of a kind that the config does not have are constant; all others must be there.
_KIND: Final = "kind="

#: State of one call of the step. More leaves the core's cache: the step of an attention encoder with 33 KB a
#: user costs 15 µs an event in calls of 2 MB, 26 in calls of 16 MB, and far more beside a busy neighbour.
_STEP_BYTES: Final = 2 << 20
_STEP_ROWS_MIN: Final = 32


class Encoder:
    """The step, the head and the context of one bundle, bound to the features of one core."""

    def __init__(self, bundle: Bundle, feature_names: Sequence[str], item_ids: Sequence[str]) -> None:
        """feature_names: the columns of the core's matrix. item_ids: the item table's ids, by index.

        item_ids may grow afterwards; the bundle's own items come first in it. Raises BundleError if the model
        wants a feature that the core does not compute.
        """
        self.bundle = bundle
        self.state_size = bundle.manifest.state_size
        self._item_ids = item_ids
        self._known, self._unknown = len(bundle.step_items), np.ascontiguousarray(bundle.oov)
        self._oov_row = np.empty(0, np.int64)  # of the items behind the bundle's
        self._step_columns = _columns(bundle, bundle.manifest.step_features, feature_names)
        self._context_columns = _columns(bundle, bundle.manifest.context_features, feature_names)
        self._step = open_session(bundle.file("user_step.onnx"))
        self._head = open_session(bundle.file("user_head.onnx"))
        self._head_outputs = ["user", "hazard"] if bundle.manifest.hazard else ["user"]
        self._context: Any = None
        if bundle.manifest.context_features:
            self._context = open_session(bundle.file("context.onnx"))

    def step(self, state: Floats, item: npt.NDArray[np.int32], features: Floats) -> Floats:
        """Return the states after one event each.

        state [B, S]; item [B] index into the item table, or −1; features [B, all of the core's columns].
        """
        rows = {
            "state": state,
            "item": self.item_rows(item),
            "features": _pick(features, self._step_columns),
        }
        size = max(_STEP_ROWS_MIN, _STEP_BYTES // (4 * self.state_size))
        if len(state) <= size:
            whole: Floats = self._step.run(["next"], rows)[0]
            return whole
        after = np.empty_like(state)
        for i in range(0, len(state), size):
            part = {name: array[i : i + size] for name, array in rows.items()}
            after[i : i + size] = self._step.run(["next"], part)[0]
        return after

    def head(self, state: Floats) -> tuple[Floats, Floats | None]:
        """Return the user embeddings [B, D] and, if the bundle has it, the hazard [B, bins]."""
        outputs = self._head.run(self._head_outputs, {"state": state})
        return outputs[0], outputs[1] if len(outputs) > 1 else None

    def context(self, features: Floats) -> Floats | None:
        """Return the context's offset to the query [B, D], or None if the model has no context."""
        if self._context is None:
            return None
        offset: Floats = self._context.run(["offset"], {"features": _pick(features, self._context_columns)})[
            0
        ]
        return offset

    def item_rows(self, item: npt.NDArray[np.int32]) -> Floats:
        """Return the step's input [B, E] for the items [B]."""
        known = self._known
        if len(item) and (top := int(item.max())) >= known + len(self._oov_row):
            self._hash_to(top + 1)
        rows = self.bundle.step_rows(np.minimum(np.maximum(item, 0), known - 1))
        for i in np.flatnonzero((item < 0) | (item >= known)):
            rows[i] = self._unknown[-1 if item[i] < 0 else self._oov_row[item[i] - known]]
        return rows

    def renumber_items(self) -> None:
        """Look at the item table anew: the items behind the bundle's have other indices."""
        self._oov_row = np.empty(0, np.int64)

    def _hash_to(self, count: int) -> None:
        """Choose the rows of the items up to `count` of the item table."""
        first = self._known + len(self._oov_row)
        encoded = [self._item_ids[i].encode() for i in range(first, count)]
        start = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(item_id) for item_id in encoded], out=start[1:])
        hashes = fnv1a_all(np.frombuffer(b"".join(encoded), np.uint8), start)
        rows = (hashes % np.uint64(self.bundle.manifest.oov_rows)).astype(np.int64)
        self._oov_row = np.concatenate([self._oov_row, rows])


def _columns(bundle: Bundle, wanted: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return for each wanted feature its column, or −1 for a kind that never occurs."""
    column = {name: i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in column and not name.startswith(_KIND)]
    if missing:
        raise BundleError(
            f"the model wants features that this config does not give: {', '.join(missing)}",
            place=str(bundle.path),
            remedy="give the windows, event kinds and context entries of the config that it was trained with",
        )
    return np.array([column.get(name, -1) for name in wanted], np.int64)


def _pick(features: Floats, columns: npt.NDArray[np.int64]) -> Floats:
    picked = features[:, columns]
    if (columns < 0).any():
        picked[:, columns < 0] = 0.0
    return np.ascontiguousarray(picked)
