"""How Python's cyclic garbage collector is set while events flow.

Reference counts free what a batch leaves behind: nothing that an event makes is part of a cycle. The
collector looks all the same, once in 700 containers made, and every so often through all that the process
has ever loaded, mostly compiler and model runtime: a quarter of the cost of an event.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Containers made, and not freed, before the young are looked through: more than the outputs of a batch
#: hold, so that they have come and gone by then. The older generations follow as seldom.
THRESHOLDS: Final = (50_000, 20, 100)


@contextmanager
def settled() -> Iterator[None]:
    """Leave what is loaded by now out of every collection, and collect seldom; afterwards as before.

    Both hold for the whole process. Cycles that come from outside are still found.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
