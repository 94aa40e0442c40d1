"""The search with raises, held against adding up everything."""

from __future__ import annotations

import numpy as np

from stream.co_occurrence import Raises
from stream.scorer import Scorer


def check_search(scorer: Scorer, raises: Raises) -> None:
    """Fail unless the lists with raises are those of all scores, and others than without."""
    rows = len(raises.start) - 1
    # Queries of many lengths: short ones, whose blocks only a raise keeps in the search.
    random = np.random.default_rng(1)
    query = random.standard_normal((rows, 8)) * 10.0 ** random.uniform(-3, 1, (rows, 1))
    query = query.astype(np.float32)
    raised = np.zeros((rows, scorer.items), np.float32)
    raises.add_to(raised)
    full = (scorer.scores(query) - scorer.bias + raised) + scorer.bias
    expected = np.argsort(-full, axis=1, kind="stable")[:, :10]
    scores, items = scorer.top(query, 10, raises=raises)
    np.testing.assert_allclose(scores, np.take_along_axis(full, expected, 1), rtol=1e-5, atol=1e-5)
    assert (items == expected).mean() > 0.99
    assert (scorer.top(query, 10)[1] != items).any()
