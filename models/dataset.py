"""Sequences: what every user's encoder saw, event by event.

They are made by the very fold that serves: the codec reads the events, the core applies them, and each step
that the encoder would have taken is kept with its row of features. So training and serving cannot disagree on
what a feature means, on what counts as a duplicate, or on when a user is forgotten and begins anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stream.codec import Decoder
from stream.config import Config
from stream.core import fold as core
from stream.core.effects import allocate
from stream.core.events import EventBatch
from stream.core.rules import Rules
from stream.core.table import UserTable
from stream.errors import InputError
from stream.items import ItemTable
from stream.records import RecordBatch
from stream.replay import read_records
from stream.semantics import make_rules, name_features

#: Effects that a fold call has room for beside its events'.
_EFFECTS = 4096


class Sequences(NamedTuple):
    """U sequences of N events together; sequence u is the rows start[u] .. start[u + 1] − 1.

    A user who was forgotten and came back has two. Items are indices into `item_ids`, −1 for none.
    """

    start: npt.NDArray[np.int64]  # [U + 1]
    user: list[str]  # [U]
    item: npt.NDArray[np.int32]  # [N]
    kind: npt.NDArray[np.uint8]  # [N] index into `kinds`
    time_ms: npt.NDArray[np.int64]  # [N]
    features: npt.NDArray[np.float32]  # [N, F]
    feature_names: list[str]
    kinds: list[str]
    item_ids: list[str]

    @property
    def users(self) -> int:
        return len(self.user)

    def column(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the columns of the named features. Raises InputError for one that there is not."""
        missing = [name for name in names if name not in self.feature_names]
        if missing:
            raise InputError(f"the events give no feature {', '.join(missing)}", place="step_features")
        return np.array([self.feature_names.index(name) for name in names], np.int64)

    def before(self, time_ms: int) -> Sequences:
        """Return the sequences up to a moment; who had no event yet is left out."""
        return self.keep(self.time_ms < time_ms)

    def keep(self, kept: npt.NDArray[np.bool_]) -> Sequences:
        """Return the sequences of the events that are `kept` [N]; one without any is left out."""
        length = (
            np.add.reduceat(kept, self.start[:-1], dtype=np.int64) if len(kept) else np.empty(0, np.int64)
        )
        return self._replace(
            start=np.concatenate([[0], np.cumsum(length[length > 0])]),
            user=[user for user, n in zip(self.user, length.tolist(), strict=True) if n],
            item=self.item[kept],
            kind=self.kind[kept],
            time_ms=self.time_ms[kept],
            features=self.features[kept],
        )

    def per_event(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return for each event [N] what its sequence has, [U]."""
        return np.repeat(values, self.start[1:] - self.start[:-1])

    def fingerprint(self) -> str:
        """Return the sha256 of all that is in the sequences, wherever they came from."""
        digest = hashlib.sha256()
        for column in (self.start, self.item, self.kind, self.time_ms, self.features):
            digest.update(np.ascontiguousarray(column).data)
        for names in (self.user, self.feature_names, self.kinds, self.item_ids):
            digest.update("\0".join(names).encode() + b"\1")
        return digest.hexdigest()


def fold_events(
    input: str,
    config: Config,
    item_ids: Sequence[str] = (),
    vocabularies: Mapping[str, Sequence[str]] | None = None,
) -> Sequences:
    """Fold a file of events (JSON lines, `.gz`, or `-`) and return the encoder's sequences."""
    partitions = [read_records(input, config.worker.batch_records_max)]
    return fold_records(partitions, config, item_ids, vocabularies)


def fold_records(
    partitions: Iterable[Iterable[RecordBatch]],
    config: Config,
    item_ids: Sequence[str] = (),
    vocabularies: Mapping[str, Sequence[str]] | None = None,
) -> Sequences:
    """Fold the records of each partition by themselves, and return the encoder's sequences of all.

    item_ids: items that are known beforehand; others get the indices behind them, in order of appearance.
    vocabularies: context entries to keep, with their words (none for numbers).
    """
    contexts = list(vocabularies or {})
    items = ItemTable(item_ids)
    decoder = Decoder(
        config.events.kinds,
        items,
        fields=config.events.fields,
        context=contexts,
        vocabularies={name: words for name, words in (vocabularies or {}).items() if words},
    )
    rules = make_rules(config, model=True, contexts=len(contexts))
    rules = rules._replace(recommend=np.zeros_like(rules.recommend), win_back=False, model_risk=False)
    names = name_features(config, contexts)
    steps = _Steps()
    for partition in partitions:
        table = UserTable(rules, 0)
        for records in partition:
            _fold(decoder.decode(records).events, rules, table, steps, len(names), config.worker.timers_max)
    return steps.sequences(names, list(config.events.kinds), list(items.names))


def _fold(
    events: EventBatch, rules: Rules, table: UserTable, steps: _Steps, features: int, timers_max: int
) -> None:
    at = 0
    while at < events.size or table.clock[0].ringing:
        table.reserve(events.size, len(events.user_bytes), timers_max)
        folded = allocate(events.size, events.size + _EFFECTS, features)
        at = core.fold(rules, events, table.users, table.undo, table.clock, folded, at, timers_max)
        steps.add(events, folded)
    table.commit()


def data_hash(*files: Path) -> str:
    """Return the sha256 of the files together, for the run's record."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


class _Steps:
    """The encoder's steps in the order of the log, until they are sorted by user."""

    def __init__(self) -> None:
        self._users: dict[bytes, int] = {}
        self._user: list[int] = []
        self._columns: list[tuple[Any, ...]] = []  # item, kind, time, features of each fold call

    def add(self, events: Any, folded: Any) -> None:
        n = int(folded.n[0].steps)
        event = folded.step_event[:n]
        for i in event.tolist():
            self._user.append(self._users.setdefault(events.user_id(i), len(self._users)))
        features = folded.features[folded.step_features[:n]]
        self._columns.append((events.item[event], events.kind[event], events.event_time_ms[event], features))

    def sequences(self, names: list[str], kinds: list[str], item_ids: list[str]) -> Sequences:
        if not self._user:
            raise InputError("holds no event that an encoder would see", remedy="look at the dead letters")
        user = np.array(self._user)
        item, kind, time_ms, features = (
            np.concatenate(column) for column in zip(*self._columns, strict=True)
        )
        order = np.argsort(user, kind="stable")
        user, features = user[order], features[order]
        begins = features[:, names.index("first")] == 1.0  # of a row, which is more than of a user
        names_of = [user_id.decode() for user_id in self._users]
        return Sequences(
            start=np.append(np.flatnonzero(begins), len(user)),
            user=[names_of[u] for u in user[begins].tolist()],
            item=item[order],
            kind=kind[order],
            time_ms=time_ms[order],
            features=features,
            feature_names=names,
            kinds=kinds,
            item_ids=item_ids,
        )
