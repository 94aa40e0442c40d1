"""Measurements: speed and memory of the engine, each with its command. Not tests: they have no limits."""
