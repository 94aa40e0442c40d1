"""One thread for torch: for products this small a second one costs ten times what it gives."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
