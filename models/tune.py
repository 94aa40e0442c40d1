"""Automatic tuning: Optuna looks for the recipe that does best on what is held out.

A space is a TOML file: each key of the recipe that may vary, with a list of choices or a range.

    learning_rate = { low = 1e-4, high = 1e-2, log = true }
    encoder_config.hidden = { low = 32, high = 128, step = 32 }
    similarity = ["dot", "cosine"]

The study is kept in a file, with each trial as it ended, so a search that was killed goes on; it belongs to
one set of data and one base recipe. Trials that fall behind the median of the others are cut short. The best
recipe was chosen by what is held out: its figure is the best of many, so judge it on other data.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import optuna

from models.checkpoint import Epoch
from models.dataset import Sequences
from models.recipe import Recipe, put
from models.train import Described, fit, make_model
from models.validate import hold_out
from stream.errors import UsageError

STUDY: Final = "study.db"
#: Trials at random before the others are learnt from, and before any is cut short.
_RANDOM_TRIALS: Final = 8
#: Epochs of a trial that are never cut.
_EPOCHS_MIN: Final = 2


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers from low to high, both included; whole ones if both are whole."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None


Space = dict[str, Range | list[Any]]


class Found(NamedTuple):
    recipe: Recipe
    value: float
    trials: int  # all of the study
    params: dict[str, Any]


def read_space(path: Path) -> Space:
    """Read a space. Raises UsageError."""
    try:
        return flatten(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(str(error), place=str(path), remedy="models/recipes has an example") from error


def flatten(tree: dict[str, Any], prefix: str = "") -> Space:
    """Return the choices and ranges by their full keys."""
    space: Space = {}
    for key, value in tree.items():
        if isinstance(value, list):
            space[prefix + key] = value
        elif isinstance(value, dict) and "low" not in value:
            space |= flatten(value, f"{prefix}{key}.")
        else:
            space[prefix + key] = msgspec.convert(value, Range)
    return space


def tune(
    data: Sequences,
    base: Recipe,
    space: Space,
    folder: Path,
    *,
    describe: Callable[[Recipe], Described | None] = lambda recipe: None,
    trials: int = 50,
    minutes: float | None = None,
    on_trial: Callable[[int, float | None, float | None], None] = lambda number, value, best: None,
) -> Found:
    """Run the study up to `trials` trials, earlier ones counted, or for `minutes`, and return the best.

    on_trial: gets the trial's number, its value (None if it was cut short or failed), and the best so far.
    Raises UsageError if nothing is held out, or if the folder's study was begun with something else.
    """
    _check(base, space)
    study = open_study(data, base, space, folder)
    sign = -1.0 if base.validation.measure == "ndcg" else 1.0  # the study minimises
    split = hold_out(data, base.validation, base.seed)

    def run(trial: optuna.Trial) -> float:
        recipe = vary(base, space, trial)
        best = np.inf

        def on_epoch(epoch: Epoch) -> None:
            nonlocal best
            best = min(best, sign * epoch.held.get(base.validation.measure, np.inf))
            trial.report(best, epoch.number)
            if trial.should_prune():
                raise optuna.TrialPruned

        fit(make_model(split.learn, recipe, describe(recipe)), data, recipe, on_epoch, split=split)
        return best

    def report(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        done = trial.state == optuna.trial.TrialState.COMPLETE and trial.value is not None
        on_trial(
            trial.number, sign * trial.value if done and trial.value is not None else None, _best(study, sign)
        )

    left = max(0, trials - len(study.trials))
    seconds = None if minutes is None else 60.0 * minutes
    if left:
        study.optimize(run, left, seconds, catch=(UsageError, FloatingPointError), callbacks=[report])
    if _best(study, sign) is None:
        raise UsageError(
            "no trial came to its end", place=str(folder), remedy="give it more trials or minutes"
        )
    chosen = {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in study.best_params.items()
    }
    return Found(put(base, chosen, "the space"), sign * study.best_value, len(study.trials), chosen)


def open_study(data: Sequences, base: Recipe, space: Space, folder: Path) -> optuna.Study:
    """Open the folder's study, or begin one."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    belongs = hashlib.sha256(msgspec.json.encode([base, space]) + data.fingerprint().encode()).hexdigest()
    study = optuna.create_study(study_name="tune", storage=f"sqlite:///{folder / STUDY}", load_if_exists=True)
    if study.user_attrs.setdefault("belongs", belongs) != belongs:
        raise UsageError(
            "the study there belongs to other data, another recipe or another space",
            place=str(folder),
            remedy="name another folder, or give what it was begun with",
        )
    study.set_user_attr("belongs", belongs)
    # A search that goes on draws from another seed than the trials before it.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=_RANDOM_TRIALS, seed=base.seed + len(study.trials)
    )
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=_RANDOM_TRIALS, n_warmup_steps=_EPOCHS_MIN)
    return study


def vary(base: Recipe, space: Space, trial: optuna.Trial) -> Recipe:
    """Return the recipe with the trial's choices."""
    chosen: dict[str, Any] = {}
    for key, choice in space.items():
        if isinstance(choice, list):
            chosen[key] = json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in choice]))
        elif isinstance(choice.low, int) and isinstance(choice.high, int):
            step = 1 if choice.step is None else int(choice.step)
            chosen[key] = trial.suggest_int(key, choice.low, choice.high, step=step, log=choice.log)
        else:
            chosen[key] = trial.suggest_float(key, choice.low, choice.high, step=choice.step, log=choice.log)
    return put(base, chosen, "the space")


def _check(base: Recipe, space: Space) -> None:
    if base.validation.by == "none":
        raise UsageError(
            "nothing is held out to choose by", place="validation.by", remedy="hold out users, time or last"
        )
    if base.validation.measure == "loss" and any(
        key.startswith(("next_item.", "hazard.", "value.")) for key in space
    ):
        raise UsageError(
            "losses of different kinds or weights do not compare",
            place="validation.measure",
            remedy='choose by "ndcg"',
        )
    fixed = [key for key in space if key.split(".")[0] in ("validation", "cleaning", "seed", "target_kinds")]
    if fixed:
        raise UsageError(f"{', '.join(fixed)}: decides what is judged", remedy="take it out of the space")


def _best(study: optuna.Study, sign: float) -> float | None:
    values = [
        trial.value for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    ]
    return sign * min(value for value in values if value is not None) if values else None
