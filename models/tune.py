"""Automatic tuning: Optuna looks for the recipe that does best on what is held out.

A space is a TOML file: each key of the recipe that may vary, with a list of choices or a range.

    learning_rate = { low = 1e-4, high = 1e-2, log = true }
    encoder_config.hidden = { low = 32, high = 128, step = 32 }
    similarity = ["dot", "cosine"]

The study is kept in a file, with each trial as it ended, so a search that was killed goes on; it belongs to
one set of data and items, and one base recipe. Every choice is put into the recipe, alone, before the first
trial. Trials that fall behind the median of the others are cut short; what fails in training fails its trial,
not the search. The best recipe was chosen by what is held out: its figure is the best of many, so judge it on
other data.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import optuna

from models.checkpoint import Epoch
from models.dataset import Sequences
from models.encoders import ENCODERS
from models.recipe import Recipe, put
from models.run import describe
from models.train import fit, make_model
from models.validate import Split, hold_out
from stream.errors import EbbtideError, UsageError

STUDY: Final = "study.db"
#: Trials at random before the others are learnt from, and before any is cut short.
_RANDOM_TRIALS: Final = 8
#: Epochs of a trial that are never cut.
_EPOCHS_MIN: Final = 2
#: Keys that decide which events there are, what is asked about them, and how that is judged.
_JUDGED: Final = {"validation", "cleaning", "contexts", "seed", "target_kinds", "sold_min", "horizon"}
#: Keys and tables that decide what a loss is the loss of.
_LOSSES: Final = {"next_item", "hazard", "value", "rerank", "horizon_decay"}
#: Under which a trial keeps its error: what, place, remedy.
_ERROR: Final = "error"


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers from low to high, both included; whole ones if both are whole."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"`low` must not be above `high`: {self.low}, {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("`log` wants a `low` above 0 and no `step`")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"`step` must be above 0: {self.step}")
        if self.step is not None and self.whole and not isinstance(self.step, int):
            raise ValueError(f"`step` must be whole, as `low` and `high` are: {self.step}")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def examples(self) -> list[int | float]:
        """Return both ends, and between those of broken numbers one that is not whole."""
        between = [] if self.whole else [self.low + (self.high - self.low) / math.pi]
        return [self.low, self.high, *between]


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
        elif isinstance(value, dict) and not value.keys() & {"low", "high"}:
            space |= flatten(value, f"{prefix}{key}.")
        else:
            try:
                space[prefix + key] = msgspec.convert(value, Range)
            except msgspec.ValidationError as error:
                raise UsageError(
                    f"neither a range nor a list of choices: {error}",
                    place=f"the space, {prefix}{key}",
                    remedy="write { low = 1e-4, high = 1e-2 } or [32, 64]",
                ) from error
    return space


def tune(
    data: Sequences,
    base: Recipe,
    space: Space,
    folder: Path,
    *,
    catalogue: dict[str, Any] | None = None,
    trials: int = 50,
    minutes: float | None = None,
    on_trial: Callable[[int, float | str, float | None], None] = lambda number, value, best: None,
) -> Found:
    """Run the study up to `trials` trials, earlier ones counted, or for `minutes`, and return the best.

    catalogue: item id → attributes.
    on_trial: gets the trial's number, its value or the words why it has none, and the best so far.
    Raises UsageError if nothing is held out, if a choice cannot be, if the folder's study was begun with
    something else, or if no trial came to its end.
    """
    _check(base, space)
    check_choices(base, space)
    study = open_study(data, base, space, folder, catalogue or {})
    sign = _sign(base)
    split = hold_out(data, base.validation, base.seed)

    def run(trial: optuna.Trial) -> float:
        try:
            return train(trial, vary(base, space, trial), data, split, catalogue or {})
        except EbbtideError as error:
            trial.set_user_attr(_ERROR, [error.what, error.place, error.remedy])
            raise

    def report(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        value: float | str = "cut short"
        if error := error_of(trial):
            value = f"failed: {_said(error)}"
        elif trial.state == optuna.trial.TrialState.COMPLETE and trial.value is not None:
            value = sign * trial.value
        on_trial(trial.number, value, _best(study, sign))

    left = max(0, trials - len(study.trials))
    seconds = None if minutes is None else 60.0 * minutes
    if left:
        study.optimize(run, left, seconds, catch=(EbbtideError,), callbacks=[report])
    if _best(study, sign) is None:
        raise no_best(study, folder)
    chosen = {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in study.best_params.items()
    }
    return Found(put(base, chosen, "the space"), sign * study.best_value, len(study.trials), chosen)


def train(
    trial: optuna.Trial, recipe: Recipe, data: Sequences, split: Split, catalogue: dict[str, Any]
) -> float:
    """Train the trial's recipe, and return the best that it came to, as the study minimises it."""
    best, sign = np.inf, _sign(recipe)

    def on_epoch(epoch: Epoch) -> None:
        nonlocal best
        best = min(best, sign * epoch.held.get(recipe.validation.measure, np.inf))
        trial.report(best, epoch.number)
        if trial.should_prune():
            raise optuna.TrialPruned

    described = describe(data.item_ids, catalogue, recipe)
    fit(make_model(split.learn, recipe, described), data, recipe, on_epoch, split=split)
    return best


def _sign(recipe: Recipe) -> float:
    """Return what makes the measure one that is small where it is good."""
    return -1.0 if recipe.validation.measure == "ndcg" else 1.0


def error_of(trial: optuna.trial.FrozenTrial) -> UsageError | None:
    """Return the error that a trial failed with, None if it did not."""
    if _ERROR not in trial.user_attrs:
        return None
    what, place, remedy = trial.user_attrs[_ERROR]
    return UsageError(what, place=place, remedy=remedy)


def no_best(study: optuna.Study, folder: Path) -> UsageError:
    """Return why no trial of the study came to its end: the last one's error, or that there were too few."""
    last = [error for error in map(error_of, study.get_trials(deepcopy=False)) if error][-1:]
    if not last:
        return UsageError(
            "no trial came to its end", place=str(folder), remedy="give it more trials or minutes"
        )
    return UsageError(
        f"no trial came to its end; the last that failed said: {_said(last[0])}",
        place=str(folder),
        remedy=last[0].remedy or "mend the recipe or the space, and name another folder",
    )


def _said(error: EbbtideError) -> str:
    return f"{error.place}: {error.what}" if error.place else error.what


def open_study(
    data: Sequences, base: Recipe, space: Space, folder: Path, catalogue: dict[str, Any]
) -> optuna.Study:
    """Open the folder's study, or begin one."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial would be a traceback
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(msgspec.json.encode([base, space]) + data.fingerprint().encode())
    if catalogue and (base.attributes or "attributes" in space):
        digest.update(msgspec.json.encode(catalogue))
    belongs = digest.hexdigest()
    study = optuna.create_study(study_name="tune", storage=f"sqlite:///{folder / STUDY}", load_if_exists=True)
    if study.user_attrs.setdefault("belongs", belongs) != belongs:
        raise UsageError(
            "the study there belongs to other data or items, another recipe or another space",
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
        elif choice.whole:
            step = 1 if choice.step is None else int(choice.step)
            chosen[key] = trial.suggest_int(key, int(choice.low), int(choice.high), step=step, log=choice.log)
        else:
            chosen[key] = trial.suggest_float(key, choice.low, choice.high, step=choice.step, log=choice.log)
    return put(base, chosen, "the space")


def varied(space: Space) -> list[str]:
    """Return the keys that differ between trials, those that stages set among them."""
    choices = space.get("stages", [])
    stages = [stage for choice in choices for stage in choice] if isinstance(choices, list) else []
    sets = [stage.get("set", {}) for stage in stages if isinstance(stage, dict)]
    return [*space, *dict.fromkeys(key for chosen in sets for key in chosen)]


def check_choices(base: Recipe, space: Space) -> None:
    """Put every choice of every key into the recipe, alone. Raises UsageError for one that cannot be."""
    for key, choice in space.items():
        if isinstance(choice, list) and not choice:
            raise UsageError("no choice", place=f"the space, {key}", remedy="name one or more, or a range")
        for value in choice if isinstance(choice, list) else choice.examples():
            place = f"the space, {key} = {json.dumps(value)}"
            recipe = put(base, {key: value}, place)
            for stage in recipe.stages:
                put(msgspec.structs.replace(recipe, stages=[]), stage.set, place)
    _check_encoders(base, space)


def _check_encoders(base: Recipe, space: Space) -> None:
    """Refuse a key of `encoder_config` that no encoder has, and an encoder without one that always stands."""
    given = space.get("encoder")
    encoders = [str(name) for name in given] if isinstance(given, list) else [base.encoder]
    known = {name: {field.name for field in fields(ENCODERS[name][0])} for name in encoders}
    for key in space:
        table, _, name = key.partition(".")
        if table == "encoder_config" and name and not any(name in names for names in known.values()):
            raise UsageError(
                f"no such key of {' or '.join(encoders)}",
                place=f"the space, {key}",
                remedy=f"they have {', '.join(sorted(set().union(*known.values())))}",
            )
    for encoder, names in known.items():
        if strange := sorted(set() if "encoder_config" in space else set(base.encoder_config) - names):
            raise UsageError(
                f"{encoder} has no {', '.join(strange)}, which the recipe's encoder_config sets",
                place="the space, encoder",
                remedy="take it out of the recipe: --set 'encoder_config={}'",
            )


def _check(base: Recipe, space: Space) -> None:
    if base.validation.by == "none":
        raise UsageError(
            "nothing is held out to choose by", place="validation.by", remedy="hold out users, time or last"
        )
    keys = varied(space)
    if base.validation.measure == "loss" and any(key.split(".")[0] in _LOSSES for key in keys):
        raise UsageError(
            "losses of different kinds or weights do not compare",
            place="validation.measure",
            remedy='choose by "ndcg"',
        )
    fixed = [key for key in keys if key.split(".")[0] in _JUDGED]
    if fixed:
        raise UsageError(
            f"{', '.join(fixed)}: decides what is read or judged", remedy="take it out of the space"
        )


def _best(study: optuna.Study, sign: float) -> float | None:
    values = [
        trial.value for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    ]
    return sign * min(value for value in values if value is not None) if values else None
