"""The collector's settings while events flow, and that nothing is left of them."""

from __future__ import annotations

import gc
import weakref

import pytest

from stream.garbage import THRESHOLDS, settled


class Node:
    """One that can be part of a cycle."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_loaded_is_left_out_and_everything_is_put_back() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), settled():  # noqa: PT012
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > 0
        raise KeyError
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_cycle_that_is_made_meanwhile_is_still_found() -> None:
    with settled():
        node = weakref.ref(Node())
        gc.collect()
        assert node() is None
