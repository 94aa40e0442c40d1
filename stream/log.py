"""The log: what an operator reads. No user id and no record ever enters it."""

from __future__ import annotations

import logging
import sys
import time
from typing import Final

log: Final = logging.getLogger("ebbtide")


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write the log to the error stream, one line an entry, with the time in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    log.addHandler(handler)
    log.setLevel(level)
