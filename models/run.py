"""The run folder: what a second person needs to train the same model, and what an export needs.

recipe.json     the recipe as it was used, overrides included
record.json     data and their hashes, the span, how many events were read and refused, what cleaning dropped,
                versions, threads, how the loss fell
items.json      the item ids in the order of the table, and the item encoder's fields
model.pt        weights and the recommender's config, or those of an ensemble's members
learning-curve.svg, and reliability.svg once `evaluate` has judged a churn head
checkpoint-….pt how far a run has come, named after recipe, data and items; gone when it is done
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch

from models.checkpoint import Epoch
from models.dataset import Sequences, data_hash
from models.ensemble import Ensemble, Model
from models.recipe import Recipe
from models.recommender import Recommender, RecommenderConfig
from models.train import Described, count_sales
from stream.co_occurrence import Near
from stream.errors import UsageError

RECIPE, RECORD, ITEMS, MODEL = "recipe.json", "record.json", "items.json", "model.pt"
CURVE, RELIABILITY = "learning-curve.svg", "reliability.svg"


class Member(msgspec.Struct, frozen=True):
    """A run that is part of an ensemble."""

    run: str  # its folder's name
    weight: float
    recipe: Recipe


class Record(msgspec.Struct, frozen=True):
    """Where a model comes from."""

    input: str
    input_sha256: str
    items: str | None
    items_sha256: str | None
    config: str
    until_ms: int | None
    users: int
    events: int
    seconds: float
    loss: list[float]  # by epoch
    environment: dict[str, str]
    metrics: dict[str, Any] = {}
    fingerprint: str = ""  # of the sequences that were trained on
    read: dict[str, Any] = {}  # how many events were accepted, duplicates, and dead letters by reason
    dropped: dict[str, int] = {}  # events, by rule of cleaning
    last_left_out: bool = False  # everyone's last event was not learnt from
    digest: str = ""  # of what was asked for: recipe, sequences, items
    history: list[Epoch] = []
    members: list[Member] = []  # of an ensemble (models/ensemble.py)


class Run(msgspec.Struct, frozen=True):
    """A finished run, read back."""

    recipe: Recipe
    record: Record
    item_ids: list[str]
    kinds: list[str]
    sold: list[int]  # [I] sales at training
    model: Any  # Model; a torch module is nothing msgspec knows


class _Items(msgspec.Struct, frozen=True):
    item_ids: list[str]
    kinds: list[str]
    sold: list[int]


def environment() -> dict[str, str]:
    packages = {name: version(name) for name in ("ebbtide", "torch", "numpy", "onnxruntime", "numba")}
    machine = {"python": platform.python_version(), "threads": str(torch.get_num_threads())}
    return packages | machine | {"cpu": torch.backends.cpu.get_cpu_capability(), "system": platform.system()}


def make_record(
    data: Sequences,
    history: list[Epoch],
    *,
    source: str,
    items: Path | None,
    config: Path | None,
    until_ms: int | None,
    **more: Any,
) -> Record:
    """Return the record of a run. source: a file, whose hash is kept, or a topic. more: further fields."""
    file = Path(source)
    return Record(
        input=file.name,
        input_sha256=data_hash(file) if file.is_file() else "",
        items=items.name if items else None,
        items_sha256=data_hash(items) if items else None,
        config=config.read_text("utf-8") if config else "",
        until_ms=until_ms,
        users=data.users,
        events=len(data.item),
        seconds=round(sum(epoch.seconds for epoch in history), 1),
        loss=[round(epoch.loss, 5) for epoch in history],
        environment=environment(),
        fingerprint=data.fingerprint(),
        read=data.read._asdict() if data.read else {},
        history=history,
        **more,
    )


def checkpoint_of(
    folder: Path, recipe: Recipe, data: Sequences, described: Described | None = None, *, resume: bool
) -> Path:
    """Return where the checkpoint of this recipe on these data and items is: no other run can go on from it.

    Unless the run is to `resume`, what an earlier one left there is removed.
    """
    checkpoint = _checkpoint(folder, digest_of(recipe, data, described))
    if not resume:
        forget_checkpoints(checkpoint)
    return checkpoint


def digest_of(recipe: Recipe, data: Sequences, described: Described | None, *judged: int) -> str:
    """Return the sha256 of what a run is of: recipe, sequences, items, and what folds judge it first."""
    digest = hashlib.sha256(msgspec.json.encode(recipe) + data.fingerprint().encode())
    if described is not None:
        digest.update(msgspec.json.encode(described.features))
        digest.update(described.codes.tobytes() + described.floats.tobytes())
    if any(judged):
        digest.update(repr(judged).encode())
    return digest.hexdigest()


def _checkpoint(folder: Path, digest: str) -> Path:
    return folder / f"checkpoint-{digest[:12]}.pt"


def refuse_finished(folder: Path) -> None:
    """Raise UsageError if the folder holds a finished run."""
    if (folder / RECORD).exists() or (folder / MODEL).exists():
        raise UsageError(
            "a finished run is there already",
            place=str(folder),
            remedy="name another folder, or use --overwrite",
        )


def is_finished(folder: Path, digest: str) -> bool:
    """Return whether the folder holds this run, done. Raises UsageError if it holds another one, done."""
    done = (folder / RECORD).exists() and (folder / MODEL).exists()
    if not done or _checkpoint(folder, digest).exists():
        return False
    try:
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except msgspec.MsgspecError:
        record = None
    if record is None or record.members or record.digest != digest:
        raise UsageError(
            "the finished run there is of another recipe, other data or other items",
            place=str(folder),
            remedy="name another folder, or use --overwrite",
        )
    return True


def forget_checkpoints(checkpoint: Path) -> None:
    """Remove the checkpoints of all stages."""
    for path in checkpoint.parent.glob(f"{checkpoint.stem}*.pt"):
        path.unlink()


def save_run(folder: Path, model: Model, data: Sequences, recipe: Recipe, record: Record) -> None:
    sold = count_sales(data).astype(int).tolist()
    write_run(folder, Run(recipe, record, data.item_ids, data.kinds, sold, model))


def write_run(folder: Path, run: Run) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for drawn in folder.glob("*.svg"):  # of the run that was there
        drawn.unlink()
    write_recipe(folder / RECIPE, run.recipe)
    _write(folder / RECORD, run.record)
    (folder / ITEMS).write_bytes(msgspec.json.encode(_Items(run.item_ids, run.kinds, run.sold)))
    torch.save(pack(run.model), folder / MODEL)


def pack(model: Model) -> dict[str, Any]:
    """Return all that a model is, as what torch saves and loads without running code."""
    near = None
    if model.near is not None:
        near = [*map(torch.from_numpy, model.near[:3]), model.near.decay, model.near.strength]
    if isinstance(model, Ensemble):
        members = [pack(member) for member in model.members]
        return {"members": members, "weights": model.weights, "near": near}
    described = (model.items.codes, model.items.floats)
    weights = model.state_dict()
    return {"config": model.config.asdict(), "weights": weights, "described": described, "near": near}


def unpack(packed: dict[str, Any]) -> Model:
    """Return the model that was packed."""
    if "members" in packed:
        members = [unpack(member) for member in packed["members"]]
        ensemble = Ensemble([m for m in members if isinstance(m, Recommender)], packed["weights"])
        ensemble.near = _unpack_near(packed)
        return ensemble
    model = Recommender(msgspec.convert(packed["config"], RecommenderConfig))
    model.load_state_dict(packed["weights"])
    codes, floats = packed["described"]
    if codes is not None:
        model.items.describe(codes.numpy(), floats.numpy())
    model.near = _unpack_near(packed)
    return model


def _unpack_near(packed: dict[str, Any]) -> Near | None:
    near = packed.get("near")  # older runs say nothing of it
    if near is None:
        return None
    start, item, weight, decay, strength = near
    return Near(start.numpy(), item.numpy(), weight.numpy(), decay, strength)


def load_run(folder: Path) -> Run:
    """Read a run back. Raises UsageError if the folder holds none."""
    try:
        items = msgspec.json.decode((folder / ITEMS).read_bytes(), type=_Items)
        recipe = msgspec.json.decode((folder / RECIPE).read_bytes(), type=Recipe)
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
        checkpoint = torch.load(folder / MODEL, weights_only=True)
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(
            f"holds no finished run: {error}", place=str(folder), remedy="name a folder that `fit` wrote"
        ) from error
    return Run(recipe, record, items.item_ids, items.kinds, items.sold, unpack(checkpoint).eval())


def add_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Note what was measured in the run's record; an export carries it into the manifest."""
    record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    _write(folder / RECORD, msgspec.structs.replace(record, metrics=record.metrics | metrics))


def describe(item_ids: Sequence[str], catalogue: dict[str, Any], recipe: Recipe) -> Described | None:
    """Return the catalogue as the item encoder takes it, None if the recipe names no attributes.

    Raises UsageError for an attribute that no item has.
    """
    from models.items.fit import fit_features

    if not recipe.attributes:
        return None
    attributes = [catalogue.get(item_id) or {} for item_id in item_ids]
    there = sorted({name for given in attributes for name in given})
    remedy = f"there are: {', '.join(there)}" if there else "give items with attributes: --items"
    if missing := sorted({*recipe.attributes} - {"*", *there}):
        raise UsageError(f"no item has {', '.join(missing)}", place="attributes", remedy=remedy)
    if recipe.attributes != ["*"]:
        attributes = [
            {name: given[name] for name in recipe.attributes if name in given} for given in attributes
        ]
    try:
        features = fit_features(attributes, text=recipe.text)
    except ValueError as error:
        raise UsageError(str(error), place="attributes", remedy=remedy) from error
    return Described(features, *features.encode(attributes))


def write_recipe(path: Path, recipe: Recipe) -> None:
    _write(path, recipe)


def _write(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
