"""Several models as one: an item's score is the weighted sum of the members' scores.

    v = [v_1 … v_n]      q = [w_1 q_1 … w_n q_n]      b = Σ w_k b_k        so that  q · v + b = Σ w_k score_k
    state = [state_1 … state_n]

Adding logits multiplies probabilities: what all members believe in comes first (a logarithmic opinion pool:
Heskes, 1998). Equally good models that err in different ways do better together. To serving an ensemble is a
model as any other: one step, one head, one table of items. Floats of state and of embeddings add up, and so
does the time of a step.

Members list items; a churn head is that of the first member that has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from models.heads import Hazard
from models.items.encoder import ItemEncoder
from models.items.table import ItemRows
from models.recommender import Recommender, RecommenderConfig
from stream.co_occurrence import Near
from stream.errors import UsageError


class Ensemble(nn.Module):
    """It has the face of a Recommender; M members, D and S are the sums of theirs."""

    def __init__(self, members: Sequence[Recommender], weights: Sequence[float] = ()) -> None:
        """weights: of the members' scores, equal and of sum 1 if none are given.

        Raises UsageError if the members do not fit together.
        """
        super().__init__()
        self.weights = list(weights) or [1.0 / len(members)] * len(members)
        check_members(members, self.weights)
        self.members: Any = nn.ModuleList(members)
        self.config = join_configs([member.config for member in members], self.weights)
        self.items = JoinedItems(members, self.weights)
        self.state_size = sum(member.state_size for member in members)
        self.reranker = self.value = self.repeats = None
        self.near = join_near([member.near for member in members], self.weights)
        self._step_columns = [self._columns(member, "step_features") for member in members]
        self._context_columns = [self._columns(member, "context_features") for member in members]
        self._leads = next((n for n, member in enumerate(members) if member.hazard is not None), 0)

    @property
    def hazard(self) -> Hazard | None:
        lead: Recommender = self.members[self._leads]
        return lead.hazard

    @property
    def offset(self) -> bool | None:
        """What a Recommender's says: None if no context moves the query."""
        return True if self.config.context_features else None

    @property
    def item_size(self) -> int:
        """What a step takes in of an item: the members' rows."""
        return self.config.embedding_size

    def step_rows(self, taken: Tensor) -> Tensor:
        """Return what steps take in of all items and of none."""
        return taken

    def forward(self, item: Tensor, features: Tensor) -> Tensor:
        """Return the users' embeddings after each event: item [B, T, D], features [B, T, F] → [B, T, D]."""
        return self.outputs(item, features)[0]

    def outputs(self, item: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the users' embeddings, and what the encoder under the churn head says."""
        users, said = [], []
        for member, part, columns in self._each(item, self._step_columns):
            user, y = member.outputs(part, features[..., columns])
            users.append(user)
            said.append(y)
        return self._weighted(users), said[self._leads]

    def step(self, state: Tensor, item: Tensor, features: Tensor) -> Tensor:
        """Return the states after one event each: state [B, S], item [B, D], features [B, F] → [B, S]."""
        after = [
            member.step(own, part, features[:, columns])
            for own, (member, part, columns) in zip(
                self._states(state), self._each(item, self._step_columns), strict=True
            )
        ]
        return torch.cat(after, 1)

    def read(self, state: Tensor) -> Tensor:
        """Return the users' embeddings: state [B, S] → [B, D]."""
        users = [member.read(own) for member, own in zip(self.members, self._states(state), strict=True)]
        return self._weighted(users)

    def hazards(self, state: Tensor) -> Tensor:
        """Return the calibrated churn hazards: state [B, S] → [B, K]."""
        lead: Recommender = self.members[self._leads]
        return lead.hazards(self._states(state)[self._leads])

    def context(self, features: Tensor) -> Tensor:
        """Return the context's offset to the query: features [B, Fc] → [B, D]."""
        offsets = [
            features.new_zeros(features.shape[0], member.config.embedding_size)
            if member.offset is None
            else member.context(features[:, columns])
            for member, columns in zip(self.members, self._context_columns, strict=True)
        ]
        return self._weighted(offsets)

    def _columns(self, member: Recommender, kind: str) -> list[int]:
        """Return where the member's features stand among those of all."""
        everyones = getattr(self.config, kind)
        return [everyones.index(name) for name in getattr(member.config, kind)]

    def _each(self, item: Tensor, columns: list[list[int]]) -> list[tuple[Recommender, Tensor, list[int]]]:
        sizes = [member.config.embedding_size for member in self.members]
        return list(zip(self.members, torch.split(item, sizes, -1), columns, strict=True))

    def _states(self, state: Tensor) -> tuple[Tensor, ...]:
        return torch.split(state, [member.state_size for member in self.members], 1)

    def _weighted(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([weight * part for weight, part in zip(self.weights, parts, strict=True)], -1)


#: What can be judged, explained and exported.
Model: TypeAlias = Recommender | Ensemble


class JoinedItems(nn.Module):
    """The members' items side by side."""

    def __init__(self, members: Sequence[Recommender], weights: Sequence[float]) -> None:
        super().__init__()
        self._items: Any = [member.items for member in members]  # not registered: the members own them
        self.weights = weights

    @property
    def encoder(self) -> ItemEncoder | None:
        """The first member's: the others read the same fields."""
        encoder: ItemEncoder | None = self._items[0].encoder
        return encoder

    def forward(self) -> ItemRows:
        """Return the rows of all items and of none."""
        parts = [items() for items in self._items]
        return ItemRows(
            *self._join([part[:2] for part in parts]), torch.cat([part.taken for part in parts], -1)
        )

    def late(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows [B, D] and biases [B, 1] of items of which only attributes are known."""
        return self._join([items.late(codes, floats) for items in self._items])

    def _join(self, parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        bias = torch.stack([w * bias for w, (_, bias) in zip(self.weights, parts, strict=True)]).sum(0)
        return torch.cat([rows for rows, _ in parts], -1), bias


def check_members(members: Sequence[Recommender], weights: Sequence[float]) -> None:
    """Raise UsageError if the members cannot be one model."""
    if not members or len(weights) != len(members):
        raise UsageError(f"{len(weights)} weights for {len(members)} members", remedy="give one for each")
    if not all(weight > 0 for weight in weights):
        raise UsageError("a member's weight must be above 0", remedy="leave the member out instead")
    for member in members:
        if member.reranker is not None or member.value is not None:
            raise UsageError(
                "a member has a reranker or a value head, which speak of its own embeddings",
                remedy="join runs without them",
            )
        if member.repeats is not None:
            raise UsageError(
                "a member has repeats, which raise scores by weights of its own",
                remedy="join runs without `repeats`",
            )
    fields = [None if m.items.encoder is None else m.items.encoder.features for m in members]
    if any(field != fields[0] for field in fields):
        raise UsageError(
            "the members read different attributes of the items",
            remedy="train all with the same `attributes`",
        )


def join_near(members: Sequence[Near | None], weights: Sequence[float]) -> Near | None:
    """Return the weighted sum of what the members' neighbours raise; None if no member has any.

    Raises UsageError if they are not the same but for their strength.
    """
    there = [(near, weight) for near, weight in zip(members, weights, strict=True) if near is not None]
    if not there:
        return None
    first = there[0][0]
    for near, _ in there:
        if near.decay != first.decay or not (
            np.array_equal(near.start, first.start)
            and np.array_equal(near.item, first.item)
            and np.array_equal(near.weight, first.weight)
        ):
            raise UsageError(
                "the members count co-occurrence differently",
                remedy="train all with the same `co_occurrence`, or all but one without",
            )
    return first._replace(strength=sum(weight * near.strength for near, weight in there))


def join_configs(configs: Sequence[RecommenderConfig], weights: Sequence[float]) -> RecommenderConfig:
    """Return what the ensemble looks like to whoever feeds or exports it."""
    members = [
        {"kind": config.encoder, "weight": weight, **config.encoder_config}
        for config, weight in zip(configs, weights, strict=True)
    ]
    window = max(config.encoder_config.get("window", 0) for config in configs)
    hazard = next((config.hazard_bins_ms for config in configs if config.hazard_bins_ms), ())
    return replace(
        configs[0],
        embedding_size=sum(config.embedding_size for config in configs),
        step_features=tuple(dict.fromkeys(name for config in configs for name in config.step_features)),
        context_features=tuple(dict.fromkeys(name for config in configs for name in config.context_features)),
        words={name: count for config in configs for name, count in config.words.items()},
        encoder="+".join(config.encoder for config in configs),
        encoder_config={"members": members} | ({"window": window} if window else {}),
        similarity="dot",  # each member's own is in its rows and its query
        hazard_bins_ms=hazard,
    )
