"""Why a list is what it is: what each of a user's last events did to it, and what its scores are made of.

Each of the last M events is left out once, as `ebbtide explain` does for serving, but all M at once: a short
history goes through the model as M sequences of T − 1 events; a long one is stepped through once, and each
event that is left out branches a state off, which takes the rest of the steps beside the others. So the cost
grows with T, not with T² (`python -m benchmarks influence`).

Leaving an event out changes what later events say of the one before them. `without_each` sets those features
as the fold would have: `first`, `late`, `gap_log`, `events_log` and, given the session gap, `new_session` and
`sessions_log`. The rest is left as it was: windows, spend, lifecycle, orders, active days, the mean gap of
visits, and who is throttled or forgotten. `ebbtide explain` folds all of that anew, exactly.

T events of a user, the last M are left out, R = M + 1 queries (that of the whole history first), K places.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dataset import Sequences
from models.ensemble import Model
from models.recent import near_raises, repeat_raises
from models.recommender import GAP
from models.run import Run
from stream.core.events import NEVER
from stream.core.rules import RECENT_ITEMS
from stream.errors import UsageError
from stream.explain import Change

#: Histories up to this length go through the model side by side; longer ones are stepped through.
SIDE_BY_SIDE_MAX: Final = 128

#: ln(1 + seconds) in float32 tells gaps apart that differ by more than this.
_GAP_LOG_EPSILON: Final = 1e-5

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Listed(msgspec.Struct):
    """An item of the list; its parts sum to its score (stream/shares.py)."""

    item_id: str
    score: float
    history: float
    context: float
    prior: float
    co_occurrence: float
    repeats: float
    reranked: float


class Influence(Change, kw_only=True):
    """What leaving one event of a sequence out does to the list after it."""

    back: int  # 1 is the user's last event
    event_time: int | None  # type: ignore[assignment]  # None: the data have no times


class Explanation(msgspec.Struct):
    """The list after a user's last event."""

    user_id: str
    events: int  # T
    event_time: int | None  # of the last one; None: the data have no times
    items: list[Listed]
    influences: list[Influence]  # of the last M events, the most telling first


class Found(NamedTuple):
    """The list and its variants as numbers."""

    items: Ints  # [K]
    scores: Floats  # [K]
    parts: npt.NDArray[np.float64]  # [K, 6] history, context, prior, co-occurrence, repeats, reranked
    without: Floats  # [M, K] the listed items' scores without each event
    lists: Ints  # [M, K] the lists without each event


def explain_user(
    run: Run, data: Sequences, user: str, *, k: int = 10, last: int = 50, session_gap_ms: int | None = None
) -> Explanation:
    """Explain the list after the user's last event. `data` is folded with the run's items first.

    An item that the run does not know counts as none. Of a user who was forgotten and came back only the new
    row counts. Raises UsageError for a user who is not in the data, and for a run that makes no lists.
    """
    if not run.recipe.next_item.weight:
        raise UsageError("the run makes no lists", remedy="fit with next_item.weight above 0")
    if user not in data.user:
        raise UsageError(
            "the data hold no event of this user",
            place="--user",
            remedy="check the id's spelling, and that the encoder sees the user's events",
        )
    sequence = len(data.user) - 1 - data.user[::-1].index(user)
    candidates = run.recipe.rerank.candidates if run.recipe.rerank else 0
    found = leave_each_out(
        run.model, data, sequence, k=k, last=last, candidates=candidates, session_gap_ms=session_gap_ms
    )
    return put_in_words(found, data, sequence)


@torch.no_grad()
def leave_each_out(
    model: Model,
    data: Sequences,
    sequence: int,
    *,
    k: int = 10,
    last: int = 50,
    candidates: int = 0,
    session_gap_ms: int | None = None,
) -> Found:
    """Return the best K items after the sequence, and what they would be without each of its last M events.

    K and M are `k` and `last`, or as many as there are. candidates: how many of the best the reranker sees,
    of a model that has one. The context of a list is that of its last event; without any event there is none.
    """
    model.eval()
    start, stop = int(data.start[sequence]), int(data.start[sequence + 1])
    columns = data.column(model.config.step_features)
    vectors, bias, taken = model.items()
    item = data.item[start:stop].astype(np.int64)
    rows = model.step_rows(taken)[torch.from_numpy(np.where(item < len(bias), item, -1))]  # [T, E]
    changed = without_each(data, sequence, last, session_gap_ms)
    features, later = (torch.from_numpy(part[..., columns]) for part in (data.features[start:stop], changed))
    user = embed_each(model, rows, features, later)  # [R, D]
    offset = _offsets(model, data, start, stop, changed)
    query = user + offset
    raises = _raises(model, data, start, stop, len(changed))
    raw = query @ vectors[:-1].T + bias + raises  # [R, I]
    lists = _best(model, query, raw, vectors, min(k, len(bias)), candidates)
    items = lists[0]
    scores = _scores(model, query, raw, vectors, items.expand(len(query), -1))
    nobody = model.read(torch.zeros(1, model.state_size))[0].double()
    listed = vectors[items].double()  # [K, D]
    parts = [
        listed @ (user[0].double() - nobody),
        listed @ offset[0].double(),
        listed @ nobody + bias[items],
        raises[0, items].double() * (model.repeats is None),
        raises[0, items].double() * (model.repeats is not None),
        (scores[0] - raw[0, items]).double(),
    ]
    return Found(
        items.numpy(), scores[0].numpy(), torch.stack(parts, 1).numpy(), scores[1:].numpy(), lists[1:].numpy()
    )


def without_each(data: Sequences, sequence: int, last: int, session_gap_ms: int | None = None) -> Floats:
    """Return features [M, M, F]: row m has those of the last M events as they would be without the m-th.

    Row m's m-th event itself stays as it was. An event whose `gap_log` is not the time since the one before
    it in the sequence keeps what it says: the fold saw an event between that the sequence lacks.
    """
    start, stop = int(data.start[sequence]), int(data.start[sequence + 1])
    M = min(last, stop - start)
    rows = np.repeat(data.features[None, stop - M : stop], M, 0)
    column = {name: i for i, name in enumerate(data.feature_names)}
    if GAP not in column or not M:
        return rows
    time = data.time_ms[stop - M : stop]
    earlier = data.time_ms[start : stop - M].max(initial=NEVER)
    was = _latest_before(time, earlier)  # [M]
    now = _latest_before(np.where(np.eye(M, dtype=np.bool_), NEVER, time), earlier)  # [M, M]
    told = np.abs(rows[0, :, column[GAP]] - _gap_log(time, was)) <= _GAP_LOG_EPSILON
    changes = (now != was) & told & ~np.eye(M, dtype=np.bool_)
    first, late = now == NEVER, now > time
    after = np.arange(M) > np.arange(M)[:, None]
    new: dict[str, npt.NDArray[np.generic]] = {GAP: _gap_log(time, now), "first": first, "late": late}
    began = rows[..., column["new_session"]].copy()
    if session_gap_ms is not None:
        begins = ~late & (first | (time >= np.where(first, 0, now) + session_gap_ms))
        new["new_session"] = begins
        began = np.where(changes, begins, began)
        began[np.eye(M, dtype=np.bool_)] = 0.0
        fewer = np.cumsum(rows[..., column["new_session"]] - began, 1)
        rows[..., column["sessions_log"]] = _less(
            rows[..., column["sessions_log"]], np.where(after, fewer, 0)
        )
    for name, values in new.items():
        rows[..., column[name]] = np.where(changes, values, rows[..., column[name]])
    rows[..., column["events_log"]] = _less(rows[..., column["events_log"]], after)
    return rows


def _latest_before(time: Ints, earlier: int) -> Ints:
    """Return the latest time before each event: time [..., M] and `earlier` of all events before them."""
    before = np.concatenate([np.full((*time.shape[:-1], 1), earlier), time[..., :-1]], -1)
    latest: Ints = np.maximum.accumulate(before, -1)
    return latest


def _gap_log(time: Ints, before: Ints) -> npt.NDArray[np.float64]:
    gap = np.where(before == NEVER, 0, time - np.where(before == NEVER, time, before))
    return np.log1p(np.maximum(gap, 0) / 1000.0)


def _less(count_log: npt.NDArray[np.generic], by: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return ln(1 + count − by), of ln(1 + count)."""
    fewer: npt.NDArray[np.float64] = np.log1p(
        np.maximum(np.rint(np.expm1(count_log.astype(np.float64))) - by, 0)
    )
    return fewer


def embed_each(model: Model, rows: Tensor, features: Tensor, later: Tensor) -> Tensor:
    """Return the user's embedding after all events, then without each of the last M, [R, D].

    rows [T, D] of the items, features [T, F]; later [M, M, F]: those of the last M events without each.
    """
    if 1 < len(rows) <= SIDE_BY_SIDE_MAX:
        return side_by_side(model, rows, features, later)
    return branching(model, rows, features, later)


def side_by_side(model: Model, rows: Tensor, features: Tensor, later: Tensor) -> Tensor:
    """Return what `embed_each` does: the shortened histories as one batch of sequences, T ≥ 2."""
    T, M = len(rows), len(later)
    whole = model(rows[None], features[None])[:, -1]  # [1, D]
    left = torch.arange(T - M, T)[:, None]
    kept = torch.arange(T - 1).expand(M, -1)
    kept = kept + (kept >= left).long()  # [M, T − 1]
    given = torch.cat([features[: T - M].expand(M, -1, -1), later], 1)  # [M, T, F]
    shortened = model(rows[kept], given[torch.arange(M)[:, None], kept])[:, -1]
    return torch.cat([whole, shortened])


def branching(model: Model, rows: Tensor, features: Tensor, later: Tensor) -> Tensor:
    """Return what `embed_each` does, step by step: each event left out is a state that does not take it."""
    T, M = len(rows), len(later)
    state = torch.zeros(1, model.state_size)
    for t in range(T - M):
        state = model.step(state, rows[None, t], features[None, t])
    for m in range(M):
        t = T - M + m
        given = torch.cat([features[None, t], later[:m, m]])  # [1 + m, F]
        after = model.step(state, rows[t].expand(1 + m, -1), given)
        state = torch.cat([after, state[:1]])
    return model.read(state)


def _offsets(model: Model, data: Sequences, start: int, stop: int, changed: Floats) -> Tensor:
    """Return the context's part of each query, [R, D]; zeros if the model has none."""
    M = len(changed)
    offset = torch.zeros(1 + M, model.config.embedding_size)
    if model.offset is None:
        return offset
    moments = np.repeat(data.features[None, stop - 1], 1 + M, 0)  # [R, F]
    if M:
        moments[1:] = changed[:, -1]
        moments[-1] = data.features[max(start, stop - 2)]
    columns = data.column(model.config.context_features)
    offset = model.context(torch.from_numpy(moments[:, columns]))
    if M and stop - start == 1:
        offset[-1] = 0.0
    return offset


def _raises(model: Model, data: Sequences, start: int, stop: int, M: int) -> Tensor:
    """Return what the last items add to each query's scores, [R, I]; zeros if the model has nothing of it."""
    raises = torch.zeros(1 + M, model.config.items)
    events = np.arange(start, stop)
    for left, kept in enumerate([events, *(events[events != stop - M + m] for m in range(M))]):
        had = data.item[kept]
        if model.near is not None:
            raises[left] = near_raises(model.near, had[had >= 0][None, -RECENT_ITEMS:])[0]
        elif model.repeats is not None:
            known = had[(had >= 0) & (had < model.config.items)]
            raises[left] = repeat_raises(model.repeats, known[None, -model.repeats.length :])[0]
    return raises


def _best(model: Model, query: Tensor, raw: Tensor, vectors: Tensor, k: int, candidates: int) -> Tensor:
    """Return the best items of each query, i64 [R, K]: raw [R, I] are the products' scores."""
    if model.reranker is None:
        return raw.topk(k, 1).indices
    found = raw.topk(min(max(candidates, k), raw.shape[1]), 1).indices
    return found.gather(1, _scores(model, query, raw, vectors, found).topk(k, 1).indices)


def _scores(model: Model, query: Tensor, raw: Tensor, vectors: Tensor, items: Tensor) -> Tensor:
    """Return the final scores of items i64 [R, N], reranked if the model does that."""
    scores = raw.gather(1, items)
    if model.reranker is None:
        return scores
    pairs = query[:, None].expand(-1, items.shape[1], -1), vectors[items]
    again: Tensor = model.reranker(*pairs, scores[..., None])[..., 0]
    return again


def put_in_words(found: Found, data: Sequences, sequence: int) -> Explanation:
    """Name what was found about the sequence."""
    start, stop = data.start[sequence : sequence + 2].tolist()
    names = [data.item_ids[item] for item in found.items.tolist()]
    listed = [
        Listed(name, score, *parts)
        for name, score, parts in zip(names, found.scores.tolist(), found.parts.tolist(), strict=True)
    ]
    influences = []
    for m, (scores, items) in enumerate(zip(found.without, found.lists, strict=True)):
        event = stop - len(found.lists) + m
        others = [data.item_ids[item] for item in items.tolist()]
        influences.append(
            Influence(
                back=stop - event,
                event_time=int(data.time_ms[event]) if data.timed else None,
                event_type=data.kinds[data.kind[event]],
                item_id=data.item_ids[data.item[event]] if data.item[event] >= 0 else None,
                brought=[name for name in names if name not in others],
                kept_out=[name for name in others if name not in names],
                raised=dict(zip(names, (found.scores - scores).tolist(), strict=True)),
            )
        )
    influences.sort(key=lambda influence: influence.weight, reverse=True)
    at = int(data.time_ms[stop - 1]) if data.timed else None
    return Explanation(data.user[sequence], stop - start, at, listed, influences)
