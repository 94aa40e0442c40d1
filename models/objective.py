"""The objective: what a batch costs, one part for each head of the model.

    next_item   −Σ weight · log P(item) over the items that are learnt, full or sampled; or gBCE
    hazard      log loss of the bins of silence that were seen
    value       of the next event's value, or of the sum to come
    rerank      −log P(item) among the best candidates, as the network ranks them

The same parts are measured on what is held out. B sequences, T steps, P positions, D embedding, I items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.batches import Batch, pad_batch
from models.dataset import Sequences
from models.ensemble import Model
from models.heads import Sampler, gbce, sampled_softmax, softmax_loss
from models.recent import repeated_items
from models.recipe import Recipe
from models.targets import (
    Targets,
    coming_values,
    find_silences,
    group_events,
    had_before,
    make_targets,
    next_values,
)
from stream.config_values import parse_duration
from stream.errors import UsageError

Bools = npt.NDArray[np.bool_]


class Learnt(NamedTuple):
    """The items that are targets, C of them: enough was seen of each."""

    items: Tensor  # i64 [C]
    place: Tensor  # i64 [I] among them, −1 for the others
    counts: Tensor  # [C]


def learnt_items(data: Sequences, sold_min: int) -> Learnt:
    counts = np.bincount(data.item[data.item >= 0], minlength=len(data.item_ids))
    items = torch.from_numpy(np.flatnonzero(counts >= sold_min))
    place = torch.full((len(counts),), -1).scatter_(0, items, torch.arange(len(items)))
    return Learnt(items, place, torch.from_numpy(counts)[items].float())


class Seen(NamedTuple):
    """What the model said of a batch."""

    batch: Batch
    vectors: Tensor  # [I + 1, D]
    bias: Tensor  # [I]
    user: Tensor  # [B, T, D]
    y: Tensor  # [B, T, Y]


class Objective:
    """What is asked of a model about some sequences."""

    def __init__(self, data: Sequences, recipe: Recipe, learnt: Learnt, wanted: Bools, until_ms: int) -> None:
        """wanted: [N] events that are asked about. until_ms: when observation ended."""
        self.data, self.recipe, self.learnt = data, recipe, learnt
        self._groups = group_events(data)
        if unknown := set(recipe.target_kinds) - set(data.kinds):
            raise UsageError(f"no such kind: {', '.join(sorted(unknown))}", place="target_kinds")
        kinds = np.isin(data.kind, [data.kinds.index(kind) for kind in recipe.target_kinds or data.kinds])
        self._wanted = wanted & kinds & (data.item >= 0) & (learnt.place.numpy()[data.item] >= 0)
        self.silences = find_silences(data, until_ms)
        self.silent = wanted & self.silences.known
        if recipe.value:
            if recipe.value.of == "item":
                self.values = next_values(data, wanted & kinds)
            else:
                horizon_ms = duration_ms(recipe.value.horizon, "value.horizon")
                self.values = coming_values(data, kinds, horizon_ms, until_ms)
                self.values[~self.silent] = np.nan
        self._context = data.column(recipe.context_features)
        self._step = data.column(recipe.step_features)
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Let chance begin anew, so that an epoch is the same whether or not a run was resumed before it."""
        seed = self.recipe.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        uniform = self.recipe.next_item.kind == "gbce"
        power = 0.0 if uniform else self.recipe.next_item.power
        self._sampler = Sampler(self.learnt.counts, power, seed=seed)

    def look(self, model: Model, batch: Batch, items: npt.NDArray[np.int32]) -> Seen:
        """Take a batch through the model; items [N] are what goes in, be it varied."""
        vectors, bias, taken = model.items()
        item, features = pad_batch(self.data._replace(item=items), batch, self._step)
        return Seen(batch, vectors, bias, *model.outputs(taken[item], features))

    def losses(self, model: Model, seen: Seen) -> dict[str, Tensor]:
        """Return each head's loss; a batch that does not ask anything of a head leaves it out."""
        recipe, parts = self.recipe, {}
        if recipe.next_item.weight or recipe.rerank:
            targets = self.targets(seen.batch)
            if len(targets.item):
                query = self.query(model, seen, targets)
                if recipe.next_item.weight:
                    parts["next_item"] = self._next_item(model, seen, query, targets)
                if model.reranker is not None:
                    parts["rerank"] = self._rerank(model, seen, query, targets)
        if model.hazard is not None:
            row, event = self.moments(seen.batch, self.silent)
            if len(event):
                y = seen.y[seen.batch.at(event, row)]
                silence, censored = (torch.from_numpy(part[event]) for part in self.silences[:2])
                parts["hazard"] = model.hazard.loss(y, silence, censored)
        if model.value is not None and recipe.value:
            row, event = self.moments(seen.batch, ~np.isnan(self.values))
            if len(event):
                said = self.value(model, seen, row, event)
                true = torch.from_numpy(self.values[event])
                parts["value"] = model.value.loss(said, true, recipe.value.loss)
        return parts

    def total(self, parts: dict[str, Tensor]) -> Tensor:
        """Return the losses' weighted sum."""
        recipe = self.recipe
        weights = {
            "next_item": recipe.next_item.weight,
            "hazard": recipe.hazard.weight if recipe.hazard else 0.0,
            "value": recipe.value.weight if recipe.value else 0.0,
            "rerank": recipe.rerank.weight if recipe.rerank else 0.0,
        }
        return torch.stack([weights[name] * part for name, part in parts.items()]).sum()

    def targets(self, batch: Batch) -> Targets:
        recipe = self.recipe
        return make_targets(
            self.data, self._groups, batch.users, self._wanted, recipe.horizon, recipe.horizon_decay, batch
        )

    def query(self, model: Model, seen: Seen, targets: Targets) -> Tensor:
        """Return the queries at the targets' positions, context included, [P, D]."""
        row = torch.from_numpy(targets.row)
        query = seen.user[row, torch.from_numpy(targets.step)]
        if model.offset is None:
            return query
        event = targets.events(seen.batch)
        return query + model.context(torch.from_numpy(self.data.features[event][:, self._context]))

    def moments(self, batch: Batch, asked: Bools) -> tuple[np.ndarray, np.ndarray]:
        """Return row and event of the batch's events that are `asked` about [N]."""
        row = np.repeat(np.arange(len(batch.users)), batch.stop - batch.start)
        first = np.cumsum(batch.stop - batch.start) - (batch.stop - batch.start)
        event = np.arange(len(row)) - first[row] + batch.start[row]
        chosen = asked[event]
        return row[chosen], event[chosen]

    def value(self, model: Model, seen: Seen, row: np.ndarray, event: np.ndarray) -> Tensor:
        """Return the values that the model expects after the events."""
        assert model.value is not None
        y = seen.y[seen.batch.at(event, row)]
        if model.value.item is None:
            said: Tensor = model.value(y)
        else:
            said = model.value(y, seen.vectors[torch.from_numpy(self.data.item[event + 1]).long()])
        return said

    def _next_item(self, model: Model, seen: Seen, query: Tensor, targets: Targets) -> Tensor:
        """Return the mean over positions of Σ weight · loss(item)."""
        asked, learnt = self.recipe.next_item, self.learnt
        rows, bias = seen.vectors[learnt.items], seen.bias[learnt.items]
        position, weight = torch.from_numpy(targets.position), torch.from_numpy(targets.weight)
        target = learnt.place[torch.from_numpy(targets.item)]
        if asked.kind == "softmax":
            out = self._had(seen.batch, targets) if asked.unseen else None
            raised = None
            if model.repeats is not None:
                taken = repeated_items(model.repeats, self.data, targets.events(seen.batch))
                raised = model.repeats.raised(taken).among(learnt.place)
            return softmax_loss(query, position, target, weight, rows, bias, out, raised) / len(query)
        drawn = self._sampler.draw(asked.negatives)
        if asked.kind == "sampled":
            loss = sampled_softmax(query[position], target, rows, bias, drawn, self._sampler.share)
        else:
            loss = gbce(query[position], target, rows, bias, drawn, calibration=asked.calibration)
        return (loss * weight).sum() / len(query)

    def _had(self, batch: Batch, targets: Targets) -> Tensor:
        """Return positions and items, as places among the learnt, that do not compete there, i64 [2, M]."""
        position, item = (torch.from_numpy(part) for part in had_before(self.data, batch, targets))
        place = self.learnt.place[item]
        return torch.stack([position, place])[:, place >= 0]

    def _rerank(self, model: Model, seen: Seen, query: Tensor, targets: Targets) -> Tensor:
        """Return the mean of −log P(item) among the candidates; the table and the query are given.

        An item that is no candidate teaches nothing: put among them it would stand out by its low score, and
        the network would learn that low scores are right.
        """
        assert model.reranker is not None
        assert self.recipe.rerank is not None
        chosen = torch.randperm(len(targets.item))[: self.recipe.rerank.positions]
        query = query.detach()[torch.from_numpy(targets.position)[chosen]]  # [R, D]
        target = torch.from_numpy(targets.item)[chosen, None]
        rows, bias = seen.vectors.detach()[:-1], seen.bias.detach()
        scores = query @ rows.T + bias
        best = scores.topk(min(self.recipe.rerank.candidates, len(rows)), 1).indices
        right = best == target  # [R, N]
        pairs = query[:, None].expand(-1, best.shape[1], -1), rows[best]
        again = model.reranker(*pairs, scores.gather(1, best)[..., None])[..., 0].log_softmax(1)
        loss: Tensor = -(again * right).sum() / right.sum().clamp(min=1)
        return loss


def duration_ms(value: str | int, key: str) -> int:
    """Return a duration of the recipe in milliseconds. Raises UsageError."""
    parsed = parse_duration(value)
    if not parsed:
        raise UsageError(f"{value!r} is no duration", place=key, remedy='write "30d"')
    return parsed
