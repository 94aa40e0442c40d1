"""Tests; `tests/oracles.py` is the naive reference that the core is held against."""
