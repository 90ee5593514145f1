"""The mixture as a value: its densities, moments, marginals, samples and files."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import mpmath
import numpy as np
import pytest
from conftest import random_mixture
from scipy import stats

import gmm
from gmm.mixture import Mixture, log_sum_exp


def brute_log_density(mixture: Mixture, X: np.ndarray) -> np.ndarray:
    """The definition, by SciPy."""
    total = np.zeros(len(X))
    for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        total += w * stats.multivariate_normal(m, c).pdf(X)
    return np.log(total)


@pytest.mark.derives("eq-mixture-density", "eq-log-likelihood")
@pytest.mark.parametrize("d", [1, 2, 5])
def test_log_density_is_its_definition(family: str, d: int) -> None:
    mixture = random_mixture(family, 3, d, seed=d)
    X = mixture.sample(200, 0)[0]
    expected = brute_log_density(mixture, X)
    np.testing.assert_allclose(mixture.log_density(X), expected, rtol=1e-11)
    assert mixture.log_likelihood(X) == pytest.approx(expected.sum(), rel=1e-12)
    weights = np.arange(200.0)
    assert mixture.log_likelihood(X, weights) == pytest.approx(weights @ expected, rel=1e-12)


def test_results_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = random_mixture("VVV", 3, 2, seed=1)
    X = mixture.sample(1000, 0)[0]
    whole = (mixture.log_density(X), mixture.responsibilities(X), mixture.predict(X))
    monkeypatch.setattr("gmm.rows.BLOCK_NUMBERS", 200)
    for a, b in zip(
        whole,
        (mixture.log_density(X), mixture.responsibilities(X), mixture.predict(X)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-300)


@pytest.mark.derives("eq-responsibilities", "eq-latent")
def test_responsibilities_are_the_posterior_of_bayes_rule(family: str) -> None:
    mixture = random_mixture(family, 4, 2, seed=2)
    X = mixture.sample(100, 1)[0]
    joint = np.array(
        [
            w * stats.multivariate_normal(m, c).pdf(X)
            for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        ]
    ).T
    np.testing.assert_allclose(
        mixture.responsibilities(X), joint / joint.sum(axis=1, keepdims=True), rtol=1e-10
    )
    np.testing.assert_array_equal(mixture.predict(X), joint.argmax(axis=1))
    np.testing.assert_allclose(mixture.component_log_densities(X), np.log(joint), rtol=1e-11)


@pytest.mark.derives("eq-log-sum-exp", "thm-log-sum-exp-error")
def test_log_sum_exp_is_exact_to_a_few_roundings_and_never_overflows() -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 1e3, 1e300):
        values = scale * rng.standard_normal(5)
        with mpmath.workdps(50):
            exact = mpmath.log(sum(mpmath.exp(mpmath.mpf(float(v))) for v in values))
            error = abs(mpmath.mpf(float(log_sum_exp(values))) - exact)
            # one rounding of the result, one of the sum of five exponentials
            assert error <= (abs(exact) + 8) * mpmath.mpf(2) ** -52
    assert log_sum_exp(np.array([-np.inf, -np.inf])) == -np.inf
    assert log_sum_exp(np.array([-np.inf, 2.0])) == 2.0


def test_a_row_60_deviations_away_has_a_density_and_responsibilities() -> None:
    mixture = Mixture([0.5, 0.5], [[0.0], [10.0]], [1.0, 1.0], "VII")
    with mpmath.workdps(50):
        exact = mpmath.log(mpmath.exp(mpmath.mpf(-1800)) + mpmath.exp(mpmath.mpf(-2450)))
        exact += mpmath.log(mpmath.mpf("0.5")) - mpmath.log(2 * mpmath.pi) / 2
    assert mixture.log_density([[-60.0]])[0] == pytest.approx(float(exact), rel=1e-15)
    np.testing.assert_array_equal(mixture.responsibilities([[-60.0]]).sum(axis=1), 1.0)


@pytest.mark.derives("eq-mixture-mean", "eq-mixture-covariance", "thm-mixture-moments")
def test_moments_agree_with_a_large_sample(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=3)
    X, _ = mixture.sample(400_000, 0)
    # six standard errors, from the mixture's own covariance
    bound = 6 * np.sqrt(np.diag(mixture.covariance) / len(X))
    assert (np.abs(X.mean(axis=0) - mixture.mean) < bound).all()
    np.testing.assert_allclose(np.cov(X.T), mixture.covariance, rtol=0.03, atol=0.05)


@pytest.mark.derives("eq-latent")
def test_sampled_labels_have_the_weights_and_their_rows_the_components(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=4)
    X, labels = mixture.sample(60_000, 7)
    counts = np.bincount(labels, minlength=3)
    assert stats.chisquare(counts, mixture.weights * len(X)).pvalue > 0.01
    distances = mixture.component(1).mahalanobis(X[labels == 1])
    assert stats.kstest(distances, stats.chi2(2).cdf).pvalue > 0.01


@pytest.mark.derives("thm-mixture-marginal")
def test_marginal_integrates_the_others_out(family: str) -> None:
    mixture = random_mixture(family, 2, 2, seed=5)
    marginal = mixture.marginal([1])
    assert marginal.family == family
    grid = np.linspace(-30, 30, 6001)
    for y in (-1.0, 0.5, 3.0):
        line = np.column_stack([grid, np.full_like(grid, y)])
        integral = np.trapezoid(np.exp(mixture.log_density(line)), grid)
        assert np.exp(marginal.log_density([[y]])[0]) == pytest.approx(integral, rel=1e-10)


@pytest.mark.derives("thm-mixture-conditional", "eq-conditional-weights")
def test_joint_density_is_marginal_times_conditional(family: str) -> None:
    mixture = random_mixture(family, 3, 3, seed=6)
    x = np.array([0.5, -1.0, 2.0])
    conditional = mixture.conditional([2, 0], x[[2, 0]])
    total = mixture.marginal([2, 0]).log_density([x[[2, 0]]]) + conditional.log_density([x[[1]]])
    np.testing.assert_allclose(total, mixture.log_density([x]), rtol=1e-12)
    assert conditional.family == family


@pytest.mark.derives("thm-identifiability")
def test_a_reordered_mixture_is_the_same_distribution(family: str) -> None:
    mixture = random_mixture(family, 4, 2, seed=7)
    X = mixture.sample(50, 0)[0]
    other = mixture.reordered([2, 0, 3, 1])
    np.testing.assert_allclose(other.log_density(X), mixture.log_density(X), rtol=1e-14)
    np.testing.assert_array_equal(other.means, mixture.means[[2, 0, 3, 1]])
    with pytest.raises(ValueError, match="order: expected a permutation of 4"):
        mixture.reordered([0, 1])


def test_all_shapes_of_covariances_are_accepted_and_others_refused(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=8)
    again = Mixture(mixture.weights, mixture.means, mixture.covariances, family)
    np.testing.assert_allclose(again.stored, mixture.stored, rtol=1e-15)
    with pytest.raises(ValueError, match="covariances: expected shape"):
        Mixture(mixture.weights, mixture.means, np.ones(5), family)


def test_matrices_of_another_family_are_refused() -> None:
    matrices = [[[1.0, 0.5], [0.5, 1.0]], [[2.0, 0.0], [0.0, 1.0]]]
    for family in ("EEE", "VVI", "VII"):
        with pytest.raises(ValueError, match=f"expected matrices of the family {family}"):
            Mixture([0.5, 0.5], np.zeros((2, 2)), matrices, family)


@pytest.mark.parametrize(
    ("weights", "means", "message"),
    [
        ([0.5, 0.6], [[0.0], [1.0]], "weights: expected non-negative numbers that sum to 1"),
        ([-0.5, 1.5], [[0.0], [1.0]], "weights: expected non-negative"),
        ([], [[0.0], [1.0]], "weights: expected non-negative"),
        ([0.5, 0.5], [[0.0]], "means: expected 2 rows, one for each weight, got 1"),
        ([0.5, 0.5], [[0.0], [np.inf]], "means: expected finite numbers"),
        ([[1.0]], [[0.0]], "weights: expected a 1-D array"),
    ],
)
def test_bad_weights_and_means_are_refused(
    weights: list[float], means: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture(weights, means, np.ones((2, 1, 1)))


def test_a_component_of_weight_zero_takes_no_part() -> None:
    mixture = Mixture([1.0, 0.0], [[0.0], [5.0]], [1.0, 1.0], "VII")
    np.testing.assert_array_equal(mixture.responsibilities([[5.0]]), [[1.0, 0.0]])
    assert np.isfinite(mixture.log_density([[5.0]])).all()


def test_a_mixture_cannot_be_changed(family: str) -> None:
    mixture = random_mixture(family, 2, 2, seed=9)
    for array in (mixture.weights, mixture.means, mixture.stored, mixture.covariances):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0
    with pytest.raises(AttributeError):
        mixture.weights = np.ones(2) / 2  # type: ignore[misc]  # the error is what is tested


def test_the_repr_names_family_and_components() -> None:
    text = repr(random_mixture("EEE", 12, 2, seed=0))
    assert text.startswith("Mixture(EEE, 12 components, 2 features)")
    assert text.endswith("... and 2 more")


# ---------------------------------------------------------------- files


def test_a_saved_mixture_is_the_same_to_the_last_bit(family: str, tmp_path: Path) -> None:
    mixture = random_mixture(family, 3, 2, seed=10)
    path = tmp_path / "mixture.npz"
    mixture.save(path)
    loaded = Mixture.load(path)
    assert loaded.family == mixture.family
    for name in ("weights", "means", "stored"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(mixture, name))
    assert os.listdir(tmp_path) == ["mixture.npz"]


def test_a_pickled_mixture_is_the_same(family: str) -> None:
    mixture = random_mixture(family, 3, 2, seed=10)
    X = mixture.sample(10, 0)[0]
    loaded = pickle.loads(pickle.dumps(mixture))
    np.testing.assert_array_equal(loaded.log_density(X), mixture.log_density(X))


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mixture.npz"
    old = random_mixture("VVV", 2, 2, seed=11)
    old.save(path)

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        random_mixture("VVV", 3, 2, seed=12).save(path)
    assert os.listdir(tmp_path) == ["mixture.npz"]
    assert Mixture.load(path).n_components == 2


def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "mixture.npz"
    random_mixture("VVV", 2, 2, seed=13).save(path)
    content = path.read_bytes()
    cut = tmp_path / "cut.npz"
    for length in range(0, len(content) - 1, 37):
        cut.write_bytes(content[:length])
        with pytest.raises(gmm.FileFormatError, match=r"cut\.npz: expected a saved mixture"):
            Mixture.load(cut)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, weights=np.ones(1))
    with pytest.raises(gmm.FileFormatError, match="expected a saved mixture"):
        Mixture.load(foreign)
    names = ("format", "version", "family", "weights", "means", "covariances")
    write(foreign, {name: np.array("other") for name in names})
    with pytest.raises(gmm.FileFormatError, match="another format"):
        Mixture.load(foreign)
    foreign.write_text("a,b\n1,2\n")
    with pytest.raises(gmm.FileFormatError, match="expected a saved mixture"):
        Mixture.load(foreign)
    with pytest.raises(FileNotFoundError):
        Mixture.load(tmp_path / "absent.npz")


def write(path: Path, fields: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in fields.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class Trap:
    """Unpickling this would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for name, content in (("a.npz", None), ("b.npz", pickle.dumps(Trap(trap)))):
        path = tmp_path / name
        if content is None:
            array = np.array([Trap(trap)], dtype=object)
            np.savez(path, format=np.array("gmm.Mixture"), version=array)
        else:
            path.write_bytes(content)
        with pytest.raises(gmm.FileFormatError):
            Mixture.load(path)
    assert not trap.exists()


def test_a_newer_file_and_one_with_bad_parameters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixture.npz"
    fields = {
        "format": np.array("gmm.Mixture"),
        "version": np.array(99),
        "family": np.array("VVV"),
        "weights": np.ones(1),
        "means": np.zeros((1, 1)),
        "covariances": -np.ones((1, 1, 1)),
    }
    write(path, fields)
    with pytest.raises(gmm.FileFormatError, match="written by a newer version"):
        Mixture.load(path)
    write(path, {**fields, "version": np.array(1)})
    with pytest.raises(gmm.FileFormatError, match="positive definite"):
        Mixture.load(path)
