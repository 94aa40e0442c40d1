"""NDCG of what is held out: a basket is a set of items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.judge import gains_of
from models.objective import Seen
from models.targets import Targets
from stream.demo.quality import judge


def test_an_item_that_is_twice_in_a_basket_gains_once() -> None:
    """The list is of items 0, 1, 2 …; one basket has its first twice, one another three times."""
    baskets = [[0, 0, 11], [3, 11, 3, 5, 3], [2]]
    query = torch.arange(12.0, 0.0, -1.0).repeat(3, 1)
    batch: Any = None
    seen = Seen(batch, torch.cat([torch.eye(12), torch.zeros(1, 12)]), torch.zeros(12), query, query)
    position = np.repeat(np.arange(3), [len(basket) for basket in baskets])
    weight = np.ones(len(position), np.float32)
    targets = Targets(np.zeros(3, np.int64), np.arange(3), position, np.concatenate(baskets), weight)
    listed = [str(item) for item in range(10)]
    for found, basket in zip(gains_of(query, seen, targets).tolist(), baskets, strict=True):
        assert found == pytest.approx(judge(listed, frozenset(map(str, basket)))[1])
