"""Waves: the encoder's steps of one fold call, cut so that no user is stepped twice at once.

Wave w holds each user's step number w, so a batch of many users is a few big steps, and a hot user costs one
step an event. A read takes a user's state when exactly `read_after` of its steps are done: before the
win-back of a user who comes back later in the same batch, after the event that asks for a list.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from stream.core.effects import Folded
from stream.core.users import Users

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


class Step(Protocol):
    """One step of an encoder: (state [n, S], item [n], features [n, F]) → state [n, S]."""

    def __call__(self, state: Floats, item: Ints, features: Floats) -> Floats: ...


def run_waves(users: Users, folded: Folded, step: Step) -> tuple[Floats, Floats]:
    """Step the users' states in place; return those that reads and looks ask for, [reads, S] and [looks, S].

    Raises FloatingPointError, with the event's index in the batch, if a step's result is not finite.
    """
    n = folded.n[0]
    steps, reads, looks = int(n.steps), int(n.reads), int(n.looks)
    wave, slot = folded.step_wave[:steps], folded.step_slot[:steps]
    states = np.empty((reads + looks, users.state.shape[1]), np.float32)
    by_wave = np.argsort(wave, kind="stable")
    wave_start = np.searchsorted(wave[by_wave], np.arange(wave.max(initial=-1) + 2))
    after = np.concatenate([folded.read_after[:reads], folded.look_after[:looks]])
    asked = np.concatenate([folded.read_slot[:reads], folded.look_slot[:looks]])
    by_after = np.argsort(after, kind="stable")
    read_start = np.searchsorted(after[by_after], np.arange(len(wave_start) + 1))
    for w in range(len(wave_start)):
        due = by_after[read_start[w] : read_start[w + 1]]
        states[due] = users.state[asked[due]]
        if w + 1 == len(wave_start):
            break
        now = by_wave[wave_start[w] : wave_start[w + 1]]
        result = step(
            users.state[slot[now]], folded.step_item[now], folded.features[folded.step_features[now]]
        )
        if not np.isfinite(result).all():
            first = now[~np.isfinite(result).all(axis=1)][0]
            raise FloatingPointError(
                f"the encoder's state after event {folded.step_event[first]} is not finite"
            )
        users.state[slot[now]] = result
    return states[:reads], states[reads:]
