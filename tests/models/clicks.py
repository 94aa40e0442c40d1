"""Clicks with something to learn, for tests of training: few users, and chance from a seed."""

from __future__ import annotations

import json
import random
from pathlib import Path

from models.dataset import Sequences, fold_events
from stream.config import Config
from stream.config_load import parse_config

ITEMS = 12
HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000
CONFIG: Config = parse_config({"events": {"kinds": {"view": "engagement", "buy": "conversion"}}})


def write_clicks(path: Path, users: int = 60, days: int = 60, seed: int = 1) -> Path:
    """Write events of users who take item i + 1 after item i, come daily or weekly, and rate by the item.

    The n-th user begins at item n; everyone stops for good some day, in 40 on average.
    """
    chance = random.Random(seed)
    lines = []
    for user in range(users):
        daily = user % 2 == 0
        at, item = START_MS + chance.randrange(48) * HOUR_MS, user
        until = START_MS + int(24 * HOUR_MS * chance.expovariate(1 / 40))
        while at < min(until, START_MS + 24 * HOUR_MS * days):
            item = (item + 1 if chance.random() < 0.9 else chance.randrange(ITEMS)) % ITEMS
            event = {
                "user_id": f"user-{user}",
                "event_type": "buy" if item % 3 == 0 else "view",
                "event_time": at,
                "item_id": f"item-{item}",
                "value": 1.0 + item / 4,
            }
            lines.append((at, json.dumps(event)))
            at += int(24 * HOUR_MS * (1 if daily else 7) * chance.uniform(0.5, 1.5))
    path.write_text("".join(line + "\n" for _, line in sorted(lines)))
    return path


def fold_clicks(folder: Path, **options: int) -> Sequences:
    """Return the sequences of such events, all items known beforehand."""
    path = write_clicks(folder / "clicks.jsonl", **options)
    return fold_events(str(path), CONFIG, [f"item-{i}" for i in range(ITEMS)])
