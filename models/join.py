"""Several runs as one run: its model is the ensemble of theirs (models/ensemble.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.ensemble import Ensemble
from models.run import Member, Run, load_run
from stream.errors import UsageError


def join_runs(folders: Sequence[Path], weights: Sequence[float] = ()) -> Run:
    """Return the runs as one. weights: of their scores, equal and of sum 1 if none are given.

    The recipe is the first run's, with what all members see; the record has theirs. Raises UsageError if the
    runs do not fit together: only what learnt from the same sequences can be judged by the same events later.
    """
    runs = [load_run(folder) for folder in folders]
    if any(run.record.members for run in runs):
        raise UsageError("a run is an ensemble already", remedy="name the runs that it was joined from")
    for folder, run in zip(folders[1:], runs[1:], strict=True):
        _check_same(folders[0], runs[0], folder, run)
    ensemble = Ensemble([run.model for run in runs], weights)
    members = [
        Member(folder.name, weight, run.recipe)
        for folder, weight, run in zip(folders, ensemble.weights, runs, strict=True)
    ]
    first = runs[0]
    record = msgspec.structs.replace(
        first.record,
        seconds=round(sum(run.record.seconds for run in runs), 1),
        members=members,
        loss=[],
        history=[],
        metrics={},
    )
    recipe = msgspec.structs.replace(
        first.recipe,
        step_features=list(ensemble.config.step_features),
        context_features=list(ensemble.config.context_features),
        hazard=next((run.recipe.hazard for run in runs if run.recipe.hazard), None),
    )
    return Run(recipe, record, first.item_ids, first.kinds, first.sold, ensemble.eval())


def _check_same(one: Path, first: Run, other: Path, run: Run) -> None:
    """Raise UsageError if two runs did not learn from the same, or read other contexts."""

    def basis(run: Run) -> dict[str, Any]:
        return {
            "sequences": run.record.fingerprint,
            "items": run.item_ids,
            "kinds": run.kinds,
            "span": run.record.until_ms,
            "last events": run.record.last_left_out,
            "contexts": run.recipe.contexts,
        }

    pairs = zip(basis(first).items(), basis(run).values(), strict=True)
    if different := [name for (name, value), again in pairs if value != again]:
        raise UsageError(
            f"{one} and {other} learnt from different {', '.join(different)}",
            remedy="fit all with the same events, span, cleaning and contexts",
        )
