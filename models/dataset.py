"""Sequences: what every user's encoder saw, event by event.

They are made by the very fold that serves: the codec reads the events, the core applies them, and each step
that the encoder would have taken is kept with its row of features. So training and serving cannot disagree on
what a feature means, on what counts as a duplicate, or on when a user is forgotten and begins anew.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stream.codec import Decoder
from stream.config import Config
from stream.core import fold as core
from stream.core.effects import allocate
from stream.core.events import ACCEPTED, DUPLICATE, FROM_FUTURE, TOO_LATE, EventBatch
from stream.core.rules import Rules
from stream.core.table import UserTable
from stream.dead_letters import FROM_FUTURE as FROM_FUTURE_REASON
from stream.dead_letters import TOO_LATE as TOO_LATE_REASON
from stream.errors import InputError
from stream.items import ItemTable
from stream.records import RecordBatch
from stream.replay import read_records
from stream.semantics import make_rules, name_features

#: Effects that a fold call has room for beside its events'.
_EFFECTS = 4096


class Read(NamedTuple):
    """What became of the records that were folded: each is one of these."""

    accepted: int
    duplicates: int
    dead_letters: dict[str, int]  # by reason

    @property
    def total(self) -> int:
        return self.accepted + self.duplicates + sum(self.dead_letters.values())

    def describe(self) -> str:
        """Say the sum, and what it is made of."""
        parts = [f"{self.accepted:,} accepted"]
        if self.duplicates:
            parts.append(f"{self.duplicates:,} duplicates")
        if self.dead_letters:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in self.dead_letters.items())
            parts.append(f"{sum(self.dead_letters.values()):,} dead letters ({reasons})")
        return f"read {self.total:,} events: {', '.join(parts)}"


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
    timed: bool = True  # not if the times are made up, a second between events
    read: Read | None = None  # of events alone

    @property
    def users(self) -> int:
        return len(self.user)

    def column(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the columns of the named features. Raises InputError for one that there is not."""
        missing = [name for name in names if name not in self.feature_names]
        if missing:
            near = get_close_matches(missing[0], self.feature_names, n=5, cutoff=0.0)
            raise InputError(
                f"the events give no feature {', '.join(missing)}",
                place="step_features or context_features",
                remedy=f"the nearest are {', '.join(near)}; docs/recipes.md, Features, lists all",
            )
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
    return fold_records(partitions, config, item_ids, vocabularies, place=input, look=look_into(input))


def look_into(input: str = "") -> str:
    """Say how to see the dead letters of a file, or of a topic if it is none."""
    if not input:
        return "`ebbtide dlq list --config CONFIG` names those that the workers met"
    command = f"ebbtide replay --input {input} --no-model --config CONFIG --out DIR"
    return f"`{command}` writes them to DIR/dead-letters.jsonl"


def fold_records(
    partitions: Iterable[Iterable[RecordBatch]],
    config: Config,
    item_ids: Sequence[str] = (),
    vocabularies: Mapping[str, Sequence[str]] | None = None,
    *,
    place: str = "",
    look: str = "",
) -> Sequences:
    """Fold the records of each partition by themselves, and return the encoder's sequences of all.

    item_ids: items that are known beforehand; others get the indices behind them, in order of appearance.
    vocabularies: context entries to keep, with their words (none for numbers).
    place: where the records come from; look: how to see the dead letters.

    Raises InputError if the encoder would see none of them.
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
            decoded = decoder.decode(records)
            steps.dead.update(letter.reason for letter in decoded.dead)
            _fold(decoded.events, rules, table, steps, len(names), config.worker.timers_max)
    read = steps.read()
    if not steps.count:
        raise _no_step(read, place, look)
    return steps.sequences(names, list(config.events.kinds), list(items.names))._replace(read=read)


def _no_step(read: Read, place: str, look: str) -> InputError:
    if not read.total:
        return InputError("holds no event", place=place, remedy="give events, one JSON object each")
    remedy = look if read.dead_letters else "contacts are no steps: see events.kinds of the config"
    return InputError(
        f"holds no event that an encoder would see: {read.describe()}", place=place, remedy=remedy
    )


def _fold(
    events: EventBatch, rules: Rules, table: UserTable, steps: _Steps, features: int, timers_max: int
) -> None:
    at = 0
    while at < events.size or table.clock[0].ringing:
        table.reserve(events.size, len(events.user_bytes), timers_max)
        folded = allocate(events.size, events.size + _EFFECTS, features)
        start = at
        at = core.fold(rules, events, table.users, table.undo, table.clock, folded, start, timers_max)
        steps.add(events, folded, folded.status[start:at])
    table.commit()


def data_hash(*files: Path) -> str:
    """Return the sha256 of the files together, for the run's record."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


class _Steps:
    """The encoder's steps in the order of the log, until they are sorted by user; and what gave no step."""

    def __init__(self) -> None:
        self.dead: Counter[str] = Counter()
        self._status = np.zeros(TOO_LATE + 1, np.int64)
        self._users: dict[bytes, int] = {}
        self._user: list[int] = []
        self._columns: list[tuple[Any, ...]] = []  # item, kind, time, features of each fold call

    @property
    def count(self) -> int:
        return len(self._user)

    def read(self) -> Read:
        """Return what became of all the records."""
        dead = self.dead.copy()
        dead.update({FROM_FUTURE_REASON: int(self._status[FROM_FUTURE])})
        dead.update({TOO_LATE_REASON: int(self._status[TOO_LATE])})
        return Read(int(self._status[ACCEPTED]), int(self._status[DUPLICATE]), dict(sorted((+dead).items())))

    def add(self, events: Any, folded: Any, status: npt.NDArray[np.uint8]) -> None:
        self._status += np.bincount(status, minlength=len(self._status))
        n = int(folded.n[0].steps)
        event = folded.step_event[:n]
        for i in event.tolist():
            self._user.append(self._users.setdefault(events.user_id(i), len(self._users)))
        features = folded.features[folded.step_features[:n]]
        self._columns.append((events.item[event], events.kind[event], events.event_time_ms[event], features))

    def sequences(self, names: list[str], kinds: list[str], item_ids: list[str]) -> Sequences:
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
