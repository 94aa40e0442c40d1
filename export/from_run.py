"""From a run folder to a bundle: which numbers of the model become which table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.parity import History, Parity, prove
from export.write import Contents, Precision, write_bundle
from models.dataset import Sequences
from models.objective import duration_ms
from models.run import Run
from models.train import log_share
from stream.bundle import Bundle

#: An unknown item enters as nothing: it must not be taken for one that is known. The row for none is the
#: same.
OOV_ROWS = 1


def export_run(
    run: Run,
    path: Path,
    real: Sequence[History] = (),
    *,
    precision: Precision = "float32",
    metrics: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> tuple[Bundle, Parity]:
    """Write the bundle of a run once it is proved equal to the model. Raises ParityError if it is not.

    metrics: further figures for the manifest, beside those of the run.
    """
    model = run.model
    with torch.no_grad():
        table = model.items()
        rows, bias, taken = (part.numpy() for part in table)
    oov = np.zeros((OOV_ROWS + 1, model.item_size), np.float32)
    oov[-1, : taken.shape[1]] = taken[-1]
    contents = Contents(
        model=model,
        item_ids=run.item_ids,
        items=rows[:-1],
        step_items=None if table.tied else taken[:-1],
        item_bias=bias,
        item_prior=log_share(np.array(run.sold, np.float32)),
        oov=oov,
        kinds=run.kinds,
        vocabularies={name: words for name, words in run.recipe.contexts.items() if words},
        similarity=model.config.similarity,
        metrics={**run.record.metrics, **(metrics or {})},
        precision=precision,
        hazard_horizon_ms=duration_ms(run.recipe.hazard.horizon, "hazard.horizon")
        if run.recipe.hazard
        else 0,
        rerank_max=run.recipe.rerank.candidates if run.recipe.rerank else 0,
        near=model.near,
    )
    proved: list[Parity] = []
    bundle = write_bundle(
        path, contents, lambda bundle: proved.append(prove(model, bundle, real)), overwrite=overwrite
    )
    return bundle, proved[0]


def longest_histories(run: Run, data: Sequences, count: int) -> list[History]:
    """Return the longest real sequences of the data, as the model takes them in."""
    with torch.no_grad():
        rows = run.model.step_rows(run.model.items().taken).numpy()
    columns = data.column(run.model.config.step_features)
    longest = np.argsort(data.start[:-1] - data.start[1:], kind="stable")[:count]
    histories = []
    for user in longest.tolist():
        events = slice(data.start[user], data.start[user + 1])
        item = data.item[events]
        known = np.where(item < len(run.item_ids), item, -1)
        histories.append(History(f"real user {user}", rows[known], data.features[events][:, columns]))
    return histories
