"""Effects as the fold writes them, for tests of what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stream.core.effects import ALERT, BY_TIMER, EFFECT, LIST, TRANSITION
from stream.core.events import NEVER
from stream.core.lifecycle import BY_ENGAGEMENT, BY_SILENCE, STATES, STATUSES, TRIGGERS

EVIDENCE = {"first_event_time": 11, "events": 22, "sessions": 33, "orders": 44, "active_days": 5}


def transition(before: str = "none", to: str = "new", trigger: str = "engagement", **columns: int) -> Any:
    last, at = columns.get("last_event_time", NEVER), columns.setdefault("at", 9)
    return effect(
        TRANSITION,
        before=STATES.index(before),
        to=STATES.index(to),
        trigger=TRIGGERS.index(trigger),
        last_event_time=last,
        silent_ms=NEVER if last == NEVER else at - last,
        **EVIDENCE,
        **{name: value for name, value in columns.items() if name != "last_event_time"},
    )


def alert(status: str = "opened", stage: str = "at_risk", **columns: int) -> Any:
    columns = {"at": 9, "last_event_time": 7} | columns
    return effect(
        ALERT, status=STATUSES.index(status), to=STATES.index(stage), event=BY_TIMER, **EVIDENCE, **columns
    )


def listed(state: str = "active", *, by_timer: bool = False, **columns: int) -> Any:
    columns = {"at": 9, "trigger": BY_SILENCE if by_timer else BY_ENGAGEMENT} | columns
    return effect(LIST, to=STATES.index(state), event=BY_TIMER if by_timer else 0, **columns)


def effect(what: int, **columns: int) -> Any:
    """Return an effect at offset 70, EFFECT[1]; columns that are not given hold what was there before."""
    row = np.full(len(EFFECT.names or ()), 77, np.int64).view(EFFECT)
    for name, value in {"what": what, "offset": 70, "nth": 0, **columns}.items():
        row[name] = value
    return row.view(np.recarray)


def of_users(users: Sequence[bytes], effects: Sequence[Any]) -> tuple[Any, npt.NDArray[np.uint8]]:
    """Return the effects as one table, EFFECT[E], the i-th of users[i], and `Users.ids`."""
    table = np.concatenate(effects).view(np.recarray)
    ends = np.cumsum([len(user) for user in users])
    table.id_length = [len(user) for user in users]
    table.id_start = 3 + ends - table.id_length
    return table, np.frombuffer(b"id " + b"".join(users), np.uint8)
