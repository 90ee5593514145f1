"""A photograph in K colours: what the case states of its fits."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

import gmm

Floats = NDArray[np.float64]

RIDGE = 1 / 12 / 255**2


@pytest.fixture(scope="module")
def pixels() -> Floats:
    picture = load_sample_image("china.jpg")
    assert picture.shape == (427, 640, 3)
    return np.asarray(picture.reshape(-1, 3) / 255.0)


@pytest.fixture(scope="module")
def few(pixels: Floats) -> Floats:
    return pixels[::20]


def test_more_colours_are_nearer_to_the_picture_and_bic_wants_more(pixels: Floats) -> None:
    fits = [gmm.fit(pixels, k, ridge=RIDGE, tol=1e-5, random_state=0) for k in (2, 4, 8)]
    errors, criteria = [], []
    for fit in fits:
        r = fit.mixture.responsibilities(pixels)
        hard = fit.mixture.means[r.argmax(axis=1)]
        errors.append([np.mean((pixels - p) ** 2) for p in (hard, r @ fit.mixture.means)])
        criteria.append(fit.bic / len(pixels))
    errors_of = np.array(errors)
    assert (np.diff(errors_of, axis=0) < 0).all()
    assert (errors_of[:, 1] < errors_of[:, 0]).all()  # soft below hard
    assert (np.diff(criteria) < -0.3).all()


def test_with_fewer_pixels_bic_has_enough_sooner() -> None:
    picture = load_sample_image("china.jpg")
    chosen = []
    for side in (16, 32):
        sparse = picture[side // 2 :: side, side // 2 :: side].reshape(-1, 3) / 255.0
        criteria = [
            gmm.fit(sparse, k, ridge=RIDGE, n_starts=5, random_state=0).bic for k in range(1, 15)
        ]
        chosen.append(1 + int(np.argmin(criteria)))
    assert chosen[1] < chosen[0] < 14


def test_the_rarest_pixels_are_strongly_coloured(pixels: Floats) -> None:
    log_p = gmm.fit(pixels, 4, ridge=RIDGE, tol=1e-5, random_state=0).mixture.log_density(pixels)
    rare = log_p < np.quantile(log_p, 0.01)
    strength = pixels.max(axis=1) - pixels.min(axis=1)
    assert strength[rare].mean() > 2.5 * strength.mean()
    assert np.mean((pixels[:, 0] > 1.5 * pixels[:, 2])[rare]) > 0.5


@pytest.mark.derives("prop-soft-picture")
def test_the_soft_colour_is_the_best_guess_of_the_components_mean(few: Floats) -> None:
    """By sampling labels and pixels from a fit; and its mean over the rows is theirs."""
    mixture = gmm.fit(few, 4, ridge=RIDGE, random_state=0, tol=1e-13, max_iter=4000).mixture
    rows, labels = mixture.sample(20_000, random_state=0)
    r = mixture.responsibilities(rows)
    wanted = mixture.means[labels]
    soft = r @ mixture.means
    best = np.mean((wanted - soft) ** 2)
    rng = np.random.default_rng(0)
    for other in (
        mixture.means[r.argmax(axis=1)],
        np.full_like(soft, mixture.mean),
        soft + 0.02 * rng.standard_normal((len(soft), 1)),
        1.1 * soft,
    ):
        assert np.mean((wanted - other) ** 2) > best
    free = gmm.fit(few, 4, start=mixture, tol=0, max_iter=300).mixture  # a fixed point, no ridge
    soft = free.responsibilities(few) @ free.means
    np.testing.assert_allclose(soft.mean(axis=0), few.mean(axis=0), atol=1e-9)


def test_white_pixels_are_a_trap_without_a_ridge(pixels: Floats) -> None:
    assert np.sum((pixels == 1.0).all(axis=1)) > 3
    narrow = gmm.Mixture(
        [0.99, 0.01],
        np.array([pixels.mean(axis=0), np.ones(3)]),
        np.array([np.cov(pixels.T), 1e-6 * np.eye(3)]),
    )
    with pytest.raises(gmm.SingularCovarianceError, match="component 1"):
        gmm.fit(pixels, 2, start=narrow, max_iter=50)
    kept = gmm.fit(pixels, 2, start=narrow, max_iter=50, ridge=RIDGE)
    assert kept.mixture.variances.min() >= RIDGE


def test_a_linear_change_of_colours_changes_no_label(few: Floats) -> None:
    change = np.array([[0.299, -0.147, 0.615], [0.587, -0.289, -0.515], [0.114, 0.436, -0.1]])
    begin = gmm.initial.starting_mixture(few, 4, random_state=0)
    moved = gmm.Mixture(begin.weights, begin.means @ change, change.T @ begin.covariances @ change)
    one = gmm.fit(few, 4, start=begin, tol=0, max_iter=40).mixture
    two = gmm.fit(few @ change, 4, start=moved, tol=0, max_iter=40).mixture
    assert np.mean(one.predict(few) == two.predict(few @ change)) > 0.999
