"""Rows come in blocks that cover them once, in order, whatever they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmm.rows import as_rows, blocks


@pytest.mark.parametrize(("n", "d"), [(1, 1), (63, 2), (100_000, 3), (1000, 5000)])
def test_blocks_cover_the_rows_once_in_order(n: int, d: int) -> None:
    seen = np.concatenate([np.arange(n)[part] for part in blocks(n, d)])
    np.testing.assert_array_equal(seen, np.arange(n))


def test_moments_of_weighted_rows_equal_those_of_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    X = 1e6 + rng.standard_normal((40_000, 2))
    weights = rng.integers(0, 3, 40_000)
    weighted, repeated = as_rows(X, weights), as_rows(np.repeat(X, weights, axis=0))
    assert weighted.total_weight == repeated.n_rows
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-14)
    # variances of order one at an offset of 1e6: the offset is subtracted first, nothing cancels
    np.testing.assert_allclose(weighted.covariance, repeated.covariance, rtol=1e-9)
    np.testing.assert_allclose(
        weighted.covariance, np.cov(X.T, fweights=weights, ddof=0), rtol=1e-9
    )


def test_a_memory_map_is_read_block_by_block(tmp_path: Path) -> None:
    X = np.random.default_rng(1).standard_normal((50_000, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    mapped = as_rows(np.load(tmp_path / "x.npy", mmap_mode="r"))
    parts = [block for block, _ in mapped]
    assert len(parts) > 1
    assert all(part.dtype == np.float64 for part in parts)
    np.testing.assert_array_equal(np.vstack(parts), X)


def test_a_nan_in_a_late_block_is_found_and_placed() -> None:
    X = np.zeros((50_000, 2))
    X[49_999, 0] = np.nan
    with pytest.raises(ValueError, match=r"got NaN at \[49999, 0\]"):
        as_rows(X)


def test_a_sample_of_rows_is_distinct_and_keeps_its_weights() -> None:
    X = np.arange(1000.0)[:, None]
    sample = as_rows(X, np.arange(1.0, 1001.0)).sample(100, np.random.default_rng(0))
    assert len(np.unique(sample.X)) == 100
    assert sample.weights is not None
    np.testing.assert_array_equal(sample.weights, sample.X[:, 0] + 1)
