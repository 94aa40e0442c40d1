"""The item encoder at serving time: attributes in, a vector to score and its bias out, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stream.bundle import Bundle
from stream.item_features import ITEM_FEATURES, read_item_features
from stream.runtime import open_session

Floats = npt.NDArray[np.float32]

ITEM_ENCODER: Final = "item_encoder.onnx"
#: Rows of one call: the export proved that up to 255 the bits of a row do not depend on the others.
ROWS: Final = 64


class ItemEncoder:
    """The item encoder of a bundle; `open_item_encoder` returns None for a bundle without one."""

    def __init__(self, bundle: Bundle) -> None:
        self.features = read_item_features(bundle.file(ITEM_FEATURES))
        self._session = open_session(bundle.file(ITEM_ENCODER))

    def encode(self, attributes: Sequence[Mapping[str, Any]]) -> tuple[Floats, Floats]:
        """Return the items' vectors [n, D], as items.npy has them, and biases [n]."""
        codes, floats = self.features.encode(attributes)
        parts = [
            self._session.run(
                ["item", "bias"], {"codes": codes[row : row + ROWS], "floats": floats[row : row + ROWS]}
            )
            for row in range(0, len(codes), ROWS)
        ]
        vectors, bias = zip(*parts, strict=True)
        return np.concatenate(vectors), np.concatenate(bias)[:, 0]


def open_item_encoder(bundle: Bundle) -> ItemEncoder | None:
    return ItemEncoder(bundle) if ITEM_ENCODER in bundle.manifest.files else None
