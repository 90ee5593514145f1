"""Rows come in blocks that cover them once, in order, whatever they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy import stats

import gmm
from gmm.kmeans import kmeans
from gmm.rows import BlockRows, as_rows, blocks

Floats = NDArray[np.float64]


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


# ---------------------------------------------------------------- rows that arrive in blocks


def as_blocks(X: Floats, size: int = 100) -> list[Floats]:
    return [X[i : i + size] for i in range(0, len(X), size)]


@pytest.mark.derives("thm-merging")
def test_surveys_of_blocks_merge_to_that_of_all_rows() -> None:
    X = 1e5 + np.random.default_rng(0).standard_normal((1050, 3))
    whole, blocks_ = as_rows(X).survey, BlockRows(as_blocks(X)).survey
    assert whole.n_rows == blocks_.n_rows == 1050
    np.testing.assert_allclose(blocks_.mean, X.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(blocks_.scatter / 1050, np.cov(X.T, ddof=0), rtol=1e-10)
    np.testing.assert_array_equal(blocks_.least, X.min(axis=0))
    np.testing.assert_array_equal(blocks_.greatest, X.max(axis=0))


@pytest.mark.parametrize("kind", ["list", "function", "pairs", "npy", "table", "dataset"])
def test_every_source_gives_the_fit_of_the_array(kind: str, tmp_path: Path) -> None:
    X = gmm.datasets.iris().X
    start = gmm.Mixture(np.full(3, 1 / 3), X[[0, 60, 120]], np.tile(np.cov(X.T), (3, 1, 1)))
    weights = None
    source: object
    if kind == "list":
        source = BlockRows(as_blocks(X, 40))
    elif kind == "function":
        source = BlockRows(lambda: iter(as_blocks(X, 7)))
    elif kind == "pairs":
        weights = np.arange(150.0) % 3
        source = BlockRows(list(zip(as_blocks(X, 40), as_blocks(weights, 40), strict=True)))
    elif kind == "npy":
        np.save(tmp_path / "x.npy", X)
        source = tmp_path / "x.npy"
    else:
        table = pa.table({str(j): X[:, j] for j in range(4)})
        batches = table.to_batches(max_chunksize=60)
        table = pa.Table.from_batches([batches[0].slice(0, 0), *batches])
        source = table
        if kind == "dataset":
            pq.write_table(table, tmp_path / "x.parquet", row_group_size=50)
            source = ds.dataset(tmp_path / "x.parquet")
    plain = gmm.fit(X, 3, start=start, sample_weight=weights, tol=0, max_iter=20)
    other = gmm.fit(source, 3, start=start, tol=0, max_iter=20)
    assert other.n_rows == plain.n_rows
    assert other.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(other.mixture.means, plain.mixture.means, rtol=1e-10)


@pytest.mark.parametrize("start", ["k-means", "k-means++", "random", "octant"])
def test_named_starts_work_on_blocks(start: str) -> None:
    X = gmm.datasets.old_faithful().X
    fit = gmm.fit(BlockRows(as_blocks(X, 50)), 2, start=start, n_starts=1, random_state=0)
    assert fit.log_likelihood == pytest.approx(-1130.2640, abs=1e-4)


def test_a_sample_of_blocks_is_uniform() -> None:
    rows = BlockRows(as_blocks(np.arange(1000.0)[:, None]))
    counts = np.zeros(1000)
    for seed in range(200):
        sample = rows.sample(100, np.random.default_rng(seed))
        assert len(np.unique(sample.X)) == 100
        counts[sample.X[:, 0].astype(int)] += 1
    # each row is expected in twenty of the samples, with a deviation of 4.2
    assert stats.chisquare(counts.reshape(20, 50).sum(axis=1)).pvalue > 0.001


def test_a_block_without_weight_is_passed_over() -> None:
    X = gmm.datasets.old_faithful().X
    weights = np.repeat([1.0, 0.0, 2.0], [100, 100, 72])
    pairs = [(X[i : i + 50], weights[i : i + 50]) for i in range(0, 272, 50)]
    start = gmm.initial.starting_mixture(X, 2, random_state=0)
    whole = gmm.fit(X, 2, start=start, sample_weight=weights)
    parts = gmm.fit(BlockRows(pairs), 2, start=start)
    assert parts.n_rows == whole.n_rows == 172
    np.testing.assert_allclose(parts.mixture.means, whole.mixture.means, rtol=1e-12)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ([(np.zeros((3, 1)), np.zeros(3))], ValueError, "sample_weight: .*got zeros only"),
        ([], ValueError, "blocks: expected at least one block"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], ValueError, "block: expected 2 features, got 1"),
        ([np.zeros((3, 2)), np.full((1, 2), np.nan)], ValueError, r"X: .*NaN at \[3, 0\]"),
        ([np.zeros(3)], ValueError, "block: expected a 2-D array"),
        ([(np.zeros((3, 1)), [1.0, -1.0, 1.0])], ValueError, "sample_weight: expected no negative"),
    ],
)
def test_bad_blocks_are_refused(source: list[object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gmm.fit(BlockRows(source), 2)


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="blocks: expected an iterable that can be read more than"):
        BlockRows(iter([np.zeros((3, 1))]))
    with pytest.raises(ValueError, match=r"X: expected the path of a \.npy file"):
        gmm.fit("data.csv", 2)
    with pytest.raises(FileNotFoundError):
        gmm.fit(tmp_path / "absent.npy", 2)
    (tmp_path / "text.npy").write_text("1.0, 2.0")
    with pytest.raises(
        gmm.FileFormatError, match=r"X: expected a file of an array, got .*text\.npy"
    ):
        gmm.fit(tmp_path / "text.npy", 2)
    X = np.random.default_rng(0).standard_normal((9, 1))
    with pytest.raises(ValueError, match="sample_weight: expected None, as blocks bring their own"):
        gmm.fit(BlockRows([X]), 2, sample_weight=np.ones(9))
    with pytest.raises(ValueError, match="X: expected at least 12 rows"):
        gmm.fit(BlockRows([X]), 12)
    with pytest.raises(TypeError, match="X: expected an array, got rows that arrive in blocks"):
        kmeans(BlockRows([X]), 2)
    with pytest.raises(TypeError, match="X: expected an array, got rows that arrive in blocks"):
        gmm.fit(X, 2, random_state=0).mixture.predict(BlockRows([X]))  # type: ignore[arg-type]  # the error is what is tested


def test_standardised_rows_have_no_units() -> None:
    X = np.column_stack([np.arange(5.0), 1e3 * np.arange(5.0) ** 2, np.full(5, 7.0)])
    weights = np.array([1.0, 2.0, 1.0, 3.0, 1.0])
    scaled = as_rows(X, weights).standardised()
    np.testing.assert_allclose(scaled.mean, 0.0, atol=1e-15)
    np.testing.assert_allclose(scaled.variances, [1.0, 1.0, 0.0], rtol=1e-14)
    np.testing.assert_array_equal(scaled.X[:, 2], 0.0)
    assert scaled.weights is not None
    np.testing.assert_array_equal(scaled.weights, weights)
