"""Chunks cover every row of every fit once, and their shares are responsibilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from gmm import chunks as module
from gmm.chunks import chunks, room_for, weighted_shares


@pytest.mark.parametrize("block", [200, 1000, 10**9])
def test_chunks_cover_all_rows_of_all_fits_once(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    sizes = np.array([1, 1, 2, 3, 3, 3, 7, 9])
    seen = np.zeros((sizes.sum(), 300), dtype=int)
    for part, mine, fits, runs in chunks(sizes, 300):
        seen[mine, part] += 1
        assert sum(k * (own.stop - own.start) for k, own, _ in runs) == mine.stop - mine.start
        assert mine.start == sizes[: fits.start].sum()
        for k, own, components in runs:
            whole = sizes[fits][own]
            assert (whole == k).all()
            assert components.stop - components.start == whole.sum()
    assert (seen == 1).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("far", [0.0, 5000.0])
def test_shares_and_sums_are_those_of_logsumexp(weighted: bool, far: float) -> None:
    """Powers of two of fits with one, two, two and three components, near and far rows."""
    rng = np.random.default_rng(0)
    sizes = np.array([1, 2, 2, 3])
    theta, block = rng.standard_normal((8, 4)), rng.standard_normal((4, 50))
    block[0, :5] = far
    theta[:, 0] = -1 - rng.random(8)
    weights = rng.uniform(0.5, 2, 50) if weighted else None
    (chunk,) = chunks(sizes, 50)
    shares, sums = weighted_shares(theta, block, weights, chunk[3], room_for([chunk]))
    exponents = np.log(2) * (theta @ block)
    start = 0
    for i, k in enumerate(sizes.tolist()):
        mine = exponents[start : start + k]
        totals = logsumexp(mine, axis=0)
        factor = np.ones(50) if weights is None else weights
        wanted = np.exp(mine - totals) * factor
        np.testing.assert_allclose(shares[start : start + k], wanted, rtol=1e-9, atol=1e-200)
        assert sums[i] == pytest.approx(float(factor @ totals), rel=1e-12)
        start += k
