"""One thread for torch: for products this small a second one costs ten times what it gives.

And so before each test, as the commands set as many as they are told: two threads add up in another order.
"""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
