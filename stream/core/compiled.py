"""How the core is compiled: two decorators, one for what Python calls and one for what compiled code calls.

The user table is a tuple of many arrays. Handing it over, and counting a reference to each of its arrays,
cost ten times what the fold itself does: 2.7 µs an event. So a leaf is always inlined, and there is no
reference counting (`_nrt=False`): the core allocates nothing, and the caller's tuple keeps the arrays alive.
For the same reason copies are loops here, not slices. `error_model="numpy"` spares the check for a zero
divisor that config has already excluded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba.core.config as numba_config
import numpy as np
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def cache_folder() -> str:
    """Return where the machine code of exactly these sources is kept.

    numba looks only at the file of the function that it was asked for; a leaf that changed in another file
    would leave old code in the cache. So the folder's name is a hash of all sources of the core.
    """
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(home) / "ebbtide" / f"compiled-{sources.hexdigest()[:16]}")


if not getattr(numba_config, "CACHE_DIR", ""):  # NUMBA_CACHE_DIR decides where it is given
    setattr(numba_config, "CACHE_DIR", cache_folder())  # noqa: B010 (made at run time, unknown to types)


_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}


def unwarned(function: F) -> F:
    """Let hashes wrap and sums overflow without numpy's warnings where the function runs uncompiled.

    Compiled code does so and says nothing.
    """
    disabled = getattr(numba_config, "DISABLE_JIT", 0)
    return np.errstate(over="ignore", invalid="ignore")(function) if disabled else function


def kernel(function: F) -> F:
    """Compile a function that Python calls on a batch, or that the fold calls seldom; cached on disk."""
    return unwarned(cast(F, njit(**_OPTIONS)(function)))


def leaf(function: F) -> F:
    """Compile a function that kernels call on one user or one event, into its caller."""
    return cast(F, njit(**_OPTIONS, forceinline=True)(function))


@leaf
def copy(into: Any, source: Any) -> None:
    """into[:] = source, one dimension, without the temporary that numba would allocate."""
    for i in range(len(source)):
        into[i] = source[i]
