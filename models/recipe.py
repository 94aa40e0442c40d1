"""A recipe: every choice of a training run, in one TOML file that is kept with the run.

Whoever has the recipe, the data and the seed can train the same model again. The keys' meanings stand beside
them; docs/recipes.md is made from here.
"""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stream.config_values import parse_duration
from stream.errors import UsageError


def _says(text: str, **limits: Any) -> Meta:
    return Meta(description=text, **limits)


Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]


class Repurchase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items begin as codes that let a memory say what was bought before (models/repurchase.py)."""

    share: Annotated[float, _says("What one purchase adds to an item's chance of being the next.")] = 0.004
    sold_min: Annotated[int, _says("Items sold less often begin without a code.")] = 20
    strength: Annotated[float, _says("How much of the exact length the codes have.")] = 0.6


class Neighbours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items begin near those that were taken near them (models/neighbours.py)."""

    reach: Annotated[int, _says("Pairs further apart, in events, do not count.", ge=1)] = 10
    fade: Annotated[Share, _says("What one event further apart leaves of a pair.")] = 0.8
    smoothing: Annotated[Share, _says("Power of frequencies: 1 lets rare pairs mean most.")] = 0.75
    strength: Annotated[Positive, _says("Mean length of the vectors.")] = 1.0


class CoOccurrence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is taken near a user's last items is raised, beside the encoder (models/co_occurrence.py)."""

    reach: Annotated[int, _says("Pairs further apart, in events, do not count.", ge=1)] = 10
    fade: Annotated[Share, _says("What one event further apart leaves of a pair.")] = 0.8
    back: Annotated[Share, _says("What an item that came before counts beside one that came after.")] = 0.2
    power: Annotated[Share, _says("Of frequencies that weights are divided by: 0 prefers the popular.")] = 0.2
    decay: Annotated[
        float, _says("What each later item leaves of one of the user's last ones.", gt=0, le=1)
    ] = 0.6
    kept: Annotated[int, _says("Neighbours of an item.", ge=1)] = 50
    strength: Annotated[
        NotNegative | None, _says("How much they count; none: as NDCG@10 on what is held out has it.")
    ] = None


class Repeats(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user took raises itself (models/repeats.py): where things are taken again."""

    length: Annotated[int, _says("Items of a user that are remembered, four bytes each.", ge=1)] = 64
    decay: Annotated[float, _says("What each later item leaves of one.", gt=0, le=1)] = 0.99
    share: Annotated[
        Positive, _says("What one purchase adds to an item's chance of being the next, at the start.")
    ] = 0.003
    learning_rate: Annotated[NotNegative, _says("Of the items' weights; 0 leaves them at the start.")] = 0.05


class NextItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The loss of the next item (models/heads.py)."""

    kind: Annotated[
        Literal["softmax", "sampled", "gbce"],
        _says("`softmax` over all items, `sampled` softmax with correction, or `gbce`."),
    ] = "softmax"
    weight: Annotated[NotNegative, _says("Of the loss; 0 trains the other heads alone.")] = 1.0
    unseen: Annotated[
        bool, _says("Items that the user had do not compete (`softmax`): for what nobody takes twice.")
    ] = False
    negatives: Annotated[int, _says("Items drawn a batch, for `sampled` and `gbce`.", ge=1)] = 512
    power: Annotated[Share, _says("`sampled` draws by count ** power: 0 is uniform, 1 popularity.")] = 0.5
    calibration: Annotated[Share, _says("gBCE's t: 0 is plain cross entropy, 1 undoes the sampling.")] = 0.75

    def __post_init__(self) -> None:
        if self.unseen and self.kind != "softmax":
            raise ValueError(f'`unseen` is for kind = "softmax", not "{self.kind}"')


class HazardHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The churn head: P(next event in a bin of silence | none before it)."""

    bins: Annotated[list[str | int], _says("The bins' upper edges, rising durations.", min_length=1)] = (
        msgspec.field(default_factory=lambda: ["1d", "3d", "7d", "14d", "30d", "60d"])
    )
    horizon: Annotated[str | int, _says("What the risk is judged by: no event within it.")] = "30d"
    weight: Annotated[NotNegative, _says("Of the loss.")] = 1.0
    calibrate: Annotated[bool, _says("Fit slope and shift of each bin on what was held out.")] = True

    def __post_init__(self) -> None:
        edges = [0, *(parse_duration(edge) or 0 for edge in self.bins)]
        if any(low >= high for low, high in pairwise(edges)):
            raise ValueError(f"`bins` must be durations that rise: {', '.join(map(str, self.bins))}")


class ValueHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The value head: a rating of the next item, or the user's spend to come."""

    of: Annotated[
        Literal["item", "user"],
        _says("`item`: the value of the next event, given its item. `user`: the sum within `horizon`."),
    ] = "item"
    horizon: Annotated[str | int, _says("Of `user`: how far the sum reaches.")] = "30d"
    loss: Annotated[Literal["mae", "mse", "huber"], _says("What is made small.")] = "mse"
    weight: Annotated[NotNegative, _says("Of the loss.")] = 1.0


class Rerank(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The learned similarity that ranks the best candidates anew (models/rerank.py)."""

    hidden: Annotated[int, _says("Width of the network.", ge=1)] = 64
    candidates: Annotated[int, _says("How many of the best it sees, here and in serving.", ge=2)] = 50
    positions: Annotated[int, _says("Moments of a batch that it learns from.", ge=1)] = 256
    weight: Annotated[NotNegative, _says("Of the loss.")] = 1.0


class Validation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is held out of training, to stop early, to calibrate, and to choose (models/validate.py)."""

    by: Annotated[
        Literal["none", "users", "time", "last"],
        _says("`users`: a share of them; `time`: the last events; `last`: everyone's last basket or event."),
    ] = "none"
    share: Annotated[Share, _says("Of the users, or of the events.")] = 0.1
    measure: Annotated[
        Literal["loss", "ndcg"], _says("What is watched: the loss, or NDCG@10 among all items.")
    ] = "loss"
    unseen: Annotated[bool, _says("NDCG@10 among the items that the user had not had.")] = False
    patience: Annotated[
        int, _says("Stop after so many epochs that bring nothing, and keep the best; 0: never.", ge=0)
    ] = 0


class Augment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each epoch sees the sequences a little differently (models/augment.py); 0 leaves them alone."""

    crop: Annotated[Share, _says("Share of sequences cut to a stretch of half their length or more.")] = 0.0
    mask: Annotated[Share, _says("Share of events whose item is hidden.")] = 0.0
    substitute: Annotated[
        Share, _says("Share of events whose item is replaced by one that often stands next to it.")
    ] = 0.0
    reorder: Annotated[Share, _says("Share of sequences with a stretch of items in an order of chance.")] = (
        0.0
    )
    length_min: Annotated[
        int, _says("With it, each sequence is cut to a chance length from this to `length_max`.", ge=0)
    ] = 0
    stretches: Annotated[
        Literal["one", "all"],
        _says(
            "What an epoch sees of a history longer than `length_max`: a stretch, or all of it in stretches."
        ),
    ] = "one"


class Cleaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left out before training (models/clean.py); the fold has dropped repeated event ids already."""

    duplicates: Annotated[bool, _says("Drop an event equal to the one before in user, kind, item, time.")] = (
        False
    )
    missing: Annotated[bool, _says("Drop events without an item.")] = False
    item_events_min: Annotated[int, _says("Items with fewer events are dropped.", ge=0)] = 0
    user_events_min: Annotated[int, _says("Sequences with fewer events are dropped.", ge=0)] = 0
    events_per_day_max: Annotated[int, _says("Who ever has more is taken for a bot; 0: nobody.", ge=0)] = 0


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the training, after the ones before it: other keys, and parts of the model that stay."""

    freeze: Annotated[
        list[str],
        _says("Parts that stay as they are: `items`, `enter`, `encoder`, `leave`, `recall`, `hazard`, …"),
    ] = []
    set: Annotated[
        dict[str, Any], _says("Keys of the recipe that are different in it, by their full names.")
    ] = {}


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times are in epochs over the users, sizes in floats, lengths in events."""

    # the model
    encoder: Annotated[
        Literal["gru", "lstm", "lru", "cnn", "transformer", "hstu"], _says("What reads the events.")
    ] = "gru"
    encoder_config: Annotated[dict[str, Any], _says("Its own keys (models/encoders).")] = {}
    embedding_size: Annotated[int, _says("Of items and users.", ge=1)] = 64
    similarity: Annotated[Literal["dot", "cosine", "euclid"], _says("Of a user and an item.")] = "dot"
    untied: Annotated[
        bool, _says("Input embeddings of their own, not those that are scored: where order counts.")
    ] = False
    entrance: Annotated[
        Literal["relu", "norm", "straight"],
        _says(
            "What an event's row goes through: `relu` for short memories, `norm` where order counts, and"
            " `straight` for attention there: normed, and at first unmixed into and out of its layers."
        ),
    ] = "relu"
    memory_half_lives: Annotated[
        list[Positive], _says("A fading memory of what was taken for each, in events.")
    ] = []
    step_features: Annotated[
        list[str], _says("What a step sees of its event: see [features](#features).")
    ] = []
    gap_buckets: Annotated[int, _says("The time since the last event in log buckets too.", ge=0)] = 0
    context_features: Annotated[
        list[str], _says("What moves the query beside the user: see [features](#features).")
    ] = []
    contexts: Annotated[
        dict[str, list[str]],
        _says(
            "Entries of the events' context that become `context.NAME`: their words, each learnt by itself;"
            " none for a number."
        ),
    ] = {}
    attributes: Annotated[list[str], _says('Of the items; `["*"]` for all that tell anything.')] = []
    text: Annotated[list[str], _says("Attributes to be read as text.")] = []
    attributes_scale: Annotated[
        float, _says("Of the item encoder's weights at the start: little beside the codes.")
    ] = 1.0
    dropout: Annotated[Share, _says("Of what goes into the encoder and comes out of it.")] = 0.0
    id_dropout: Annotated[
        Share, _says("Share of items that must do with their attributes in a step of training.")
    ] = 0.0
    repurchase: Annotated[Repurchase | None, _says("Start from codes under which a memory repeats.")] = None
    neighbours: Annotated[Neighbours | None, _says("Start from vectors that co-occurrence gives.")] = None
    co_occurrence: Annotated[CoOccurrence | None, _says("Raise what is taken near the last items.")] = None
    repeats: Annotated[Repeats | None, _says("Raise what the user took before.")] = None
    # what is asked for
    next_item: Annotated[NextItem, _says("The list's head.")] = NextItem()
    hazard: Annotated[HazardHead | None, _says("The churn head.")] = None
    value: Annotated[ValueHead | None, _says("The value head.")] = None
    rerank: Annotated[Rerank | None, _says("A network for the best candidates.")] = None
    target_kinds: Annotated[list[str], _says("Kinds of events whose items are right; none: all.")] = []
    horizon: Annotated[int, _says("Groups of events (baskets) that are right.", ge=1)] = 1
    horizon_decay: Annotated[Positive, _says("Weight of a group that is one further off.")] = 1.0
    sold_min: Annotated[int, _says("Items seen less often are no targets.", ge=0)] = 1
    # how it is learnt
    cleaning: Annotated[Cleaning, _says("What is left out.")] = Cleaning()
    augment: Annotated[Augment, _says("What is varied.")] = Augment()
    validation: Annotated[Validation, _says("What is held out.")] = Validation()
    seed: Annotated[int, _says("Of everything that chance decides.")] = 0
    epochs: Annotated[int, _says("At most.", ge=1)] = 10
    users_per_batch: Annotated[int, _says("Sequences in a step of the optimizer.", ge=1)] = 64
    length_max: Annotated[int, _says("Longer sequences lose their oldest events; 0: none does.", ge=0)] = 0
    schedule: Annotated[
        Literal["one-cycle", "cosine", "constant"], _says("Of the learning rate, behind its warm-up.")
    ] = "one-cycle"
    learning_rate: Annotated[NotNegative, _says("AdamW's.")] = 1e-3
    items_learning_rate: Annotated[NotNegative, _says("Of the items' embeddings; 0 leaves them.")] = 1e-3
    bias_learning_rate: Annotated[NotNegative, _says("Of the items' biases, which begin as log shares.")] = (
        0.0
    )
    warm_up: Annotated[Share, _says("Of all steps.")] = 0.2
    weight_decay: Annotated[NotNegative, _says("AdamW's, which is L2.")] = 0.0
    l1: Annotated[NotNegative, _says("Times the sum of all weights' sizes.")] = 0.0
    gradient_norm_max: Annotated[Positive, _says("Longer gradients are cut.")] = 5.0
    stages: Annotated[list[Stage], _says("Trainings one after the other, as `[[stages]]`; none: one.")] = []

    def __post_init__(self) -> None:
        if self.co_occurrence and not self.next_item.weight:
            raise ValueError("`co_occurrence` raises items of a list, and next_item.weight = 0 makes none")
        if self.repurchase and self.neighbours:
            raise ValueError("the items' vectors can begin in one way only: `repurchase` or `neighbours`")
        if self.co_occurrence and self.rerank:
            raise ValueError("a reranker learns from scores without `co_occurrence`: leave one of them out")
        if self.repeats:
            self._check_repeats()
        self._check_cleaning()

    def _check_repeats(self) -> None:
        if self.co_occurrence or self.rerank:
            raise ValueError("`repeats` stand alone: leave out `co_occurrence` and `rerank`")
        if self.next_item.kind != "softmax" or not self.next_item.weight:
            raise ValueError('`repeats` are learnt with next_item.kind = "softmax" and a weight above 0')
        if self.next_item.unseen or self.validation.unseen:
            raise ValueError("`repeats` raise what the user had, and `unseen` takes it out")

    def _check_cleaning(self) -> None:
        """Refuse to drop single events that to serving end a silence, or are spend."""
        spend, rules = self.value is not None and self.value.of == "user", self.cleaning
        dropped = {
            "missing": rules.missing,
            "item_events_min": rules.item_events_min > 1,
            "duplicates": rules.duplicates and spend,
        }
        bad = [f"`cleaning.{rule}`" for rule, there in dropped.items() if there]
        if bad and (self.hazard or spend):
            head = "`hazard`" if self.hazard else 'value.of = "user"'
            raise ValueError(
                f"{' and '.join(bad)} would drop events that serving sees, and {head} learns when they come:"
                " leave it out (what has no item is never asked for, nor what `sold_min` calls rare)"
            )


def read_recipe(path: Path, settings: list[str]) -> Recipe:
    """Read a recipe, TOML or a run's recipe.json, and let `settings` ("key=value", in TOML) override it.

    Raises UsageError.
    """
    try:
        text = path.read_text("utf-8")
        tree = msgspec.json.decode(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.DecodeError) as error:
        raise UsageError(str(error), place=str(path), remedy="models/recipes has examples") from error
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            set_key(tree, key.strip(), tomllib.loads(f"value = {value}")["value"])
        except tomllib.TOMLDecodeError as error:
            raise UsageError(
                f"--set {setting}: {error}", remedy='write it as in TOML: encoder="gru"'
            ) from error
    return to_recipe(tree, str(path))


def to_recipe(tree: dict[str, Any], place: str) -> Recipe:
    """Check a tree of keys. Raises UsageError, which names `place`."""
    try:
        return msgspec.convert(tree, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(str(error), place=place, remedy="docs/recipes.md lists the keys") from error


def put(recipe: Recipe, chosen: dict[str, Any], place: str) -> Recipe:
    """Return the recipe with other values for some keys, given by their full names. Raises UsageError."""
    tree = msgspec.to_builtins(recipe)
    for key, value in chosen.items():
        set_key(tree, key, value)
    return to_recipe(tree, place)


def set_key(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a key, whose tables are parted by dots, in the tree."""
    *tables, name = key.split(".")
    for table in tables:
        if not isinstance(tree.get(table), dict):  # a table that is off is None
            tree[table] = {}
        tree = tree[table]
    tree[name] = value
