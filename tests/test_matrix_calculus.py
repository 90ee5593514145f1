"""The identities of the appendix on matrix calculus, symbolically or with fifty digits."""

from __future__ import annotations

from itertools import combinations

import mpmath
import numpy as np
import pytest
import sympy
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float64]


def symbols(name: str, rows: int, columns: int) -> sympy.Matrix:
    return sympy.Matrix(rows, columns, lambda i, j: sympy.Symbol(f"{name}{i}{j}"))


def vech_places(d: int) -> list[tuple[int, int]]:
    return [(i, j) for j in range(d) for i in range(j, d)]


def duplication(d: int) -> Floats:
    """The matrix that puts the repeated entries of a symmetric matrix in their places."""
    places = vech_places(d)
    result = np.zeros((d * d, len(places)))
    for column, (i, j) in enumerate(places):
        result[i + d * j, column] = result[j + d * i, column] = 1
    return result


def positive_definite(d: int, seed: int) -> Floats:
    a = np.random.default_rng(seed).standard_normal((d, d))
    return a @ a.T + 0.5 * np.eye(d)


@pytest.mark.derives("lem-trace-rules")
def test_the_rules_for_the_trace_are_polynomial_identities() -> None:
    a, b = symbols("a", 2, 3), symbols("b", 3, 2)
    assert sympy.expand((a * b).trace() - (b * a).trace()) == 0
    c = symbols("c", 2, 3)
    assert sympy.expand((a.T * c).trace() - sum(x * y for x, y in zip(a, c, strict=True))) == 0
    m, v = symbols("m", 3, 3), symbols("v", 3, 1)
    assert sympy.expand((v.T * m * v)[0] - (m * v * v.T).trace()) == 0
    assert sympy.expand(((m + m.T) * (b * a - (b * a).T)).trace()) == 0


@pytest.mark.derives("eq-vec-kronecker")
def test_vec_of_a_product_of_three() -> None:
    p, h, q = symbols("p", 2, 3), symbols("h", 3, 2), symbols("q", 2, 4)
    left = (p * h * q).T.reshape(8, 1)  # sympy reshapes row by row: columns, after transposing
    right = sympy.kronecker_product(q.T, p) * h.T.reshape(6, 1)
    assert (left - right).expand() == sympy.zeros(8, 1)


@pytest.mark.derives("lem-kronecker")
def test_kronecker_products_multiply_and_their_determinants_too() -> None:
    kron = sympy.kronecker_product
    a, b = symbols("a", 2, 2), symbols("b", 2, 3)
    c, d = symbols("c", 2, 2), symbols("d", 3, 1)
    assert (kron(a, b) * kron(c, d) - kron(a * c, b * d)).expand() == sympy.zeros(4, 2)
    assert kron(a, b).T == kron(a.T, b.T)
    q = sympy.Matrix([[2, 1, 0], [1, 3, 1], [0, 1, 5]])
    p = sympy.Matrix([[1, 2], [3, 4]])
    assert kron(p, q).inv() == kron(p.inv(), q.inv())
    assert kron(p, q).det() == p.det() ** 3 * q.det() ** 2
    assert kron(p, q).det() != p.det() ** 2 * q.det() ** 3  # the exponents are not exchanged


@pytest.mark.derives("lem-duplication")
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_the_duplication_matrix_and_its_pseudo_inverse(d: int) -> None:
    rng = np.random.default_rng(d)
    matrix = duplication(d)
    diagonal = [1 if i == j else 2 for i, j in vech_places(d)]
    np.testing.assert_array_equal(matrix.T @ matrix, np.diag(diagonal))
    inverse = np.linalg.pinv(matrix)  # the book's D⁺ must be Moore and Penrose's
    np.testing.assert_allclose(
        np.linalg.inv(matrix.T @ matrix) @ matrix.T, inverse, rtol=0, atol=1e-14
    )
    a, b, h = rng.standard_normal((3, d, d))
    symmetric = (h + h.T) / 2
    np.testing.assert_allclose(
        inverse @ h.ravel("F"), [symmetric[i, j] for i, j in vech_places(d)], atol=1e-14
    )
    projection = matrix @ inverse
    np.testing.assert_allclose(projection @ h.ravel("F"), symmetric.ravel("F"), atol=1e-14)
    double = np.kron(a, a)
    np.testing.assert_allclose(projection @ double, double @ projection, atol=1e-12)

    def k(x: Floats) -> Floats:
        return np.asarray(inverse @ np.kron(x, x) @ matrix)

    np.testing.assert_allclose(k(a) @ k(b), k(a @ b), atol=1e-11)
    shifted = a + 3 * np.eye(d)
    np.testing.assert_allclose(np.linalg.inv(k(shifted)), k(np.linalg.inv(shifted)), atol=1e-9)


@pytest.mark.derives("lem-sylvester", "eq-sylvester")
def test_sylvester_is_an_identity_of_polynomials() -> None:
    x, y, t = symbols("x", 2, 3), symbols("y", 3, 2), sympy.Symbol("t")
    one = (sympy.eye(2) + x * y).det(method="berkowitz")
    two = (sympy.eye(3) + y * x).det(method="berkowitz")
    assert sympy.expand(one - two) == 0
    left = t**3 * (t * sympy.eye(2) - x * y).det(method="berkowitz")
    right = t**2 * (t * sympy.eye(3) - y * x).det(method="berkowitz")
    assert sympy.expand(left - right) == 0


@pytest.mark.derives("prop-cauchy-binet", "eq-cauchy-binet")
@pytest.mark.parametrize(("m", "n"), [(1, 3), (2, 3), (2, 4), (3, 3)])
def test_cauchy_and_binet(m: int, n: int) -> None:
    a, b = symbols("a", m, n), symbols("b", n, m)
    terms = (
        a[:, list(s)].det(method="berkowitz") * b[list(s), :].det(method="berkowitz")
        for s in combinations(range(n), m)
    )
    assert sympy.expand((a * b).det(method="berkowitz") - sum(terms)) == 0


@pytest.mark.derives("prop-block-inverse", "eq-block-inverse")
def test_the_blocks_of_the_inverse_in_exact_arithmetic() -> None:
    root = sympy.Matrix([[2, 0, 0, 0], [1, 3, 0, 0], [-1, 2, 1, 0], [4, 0, 1, 2]])
    s = root * root.T
    aa, ab, bb = s[:2, :2], s[:2, 2:], s[2:, 2:]
    gamma = ab * bb.inv()
    schur = aa - gamma * ab.T
    precision = s.inv()
    assert precision[:2, :2] == schur.inv()
    assert precision[:2, 2:] == -schur.inv() * gamma
    assert precision[2:, 2:] == bb.inv() + gamma.T * schur.inv() * gamma
    assert -precision[:2, :2].inv() * precision[:2, 2:] == gamma  # the regression on x_b


@pytest.mark.derives("prop-woodbury", "eq-woodbury", "eq-determinant-lemma", "eq-sherman-morrison")
def test_woodbury_in_exact_arithmetic() -> None:
    a = sympy.Matrix([[2, 1, 0], [0, 3, 1], [1, 0, 4]])
    u, v = sympy.Matrix([[1, 2], [0, 1], [3, 1]]), sympy.Matrix([[1, 0, 2], [2, 5, 1]])
    c = sympy.Matrix([[1, 2], [3, 1]])
    n = c.inv() + v * a.inv() * u
    changed = a + u * c * v
    assert changed.det() == a.det() * c.det() * n.det()
    assert changed.inv() == a.inv() - a.inv() * u * n.inv() * v * a.inv()
    x, y = u[:, 0], v[1, :].T
    pivot = 1 + (y.T * a.inv() * x)[0]
    assert (a + x * y.T).det() == pivot * a.det()
    assert (a + x * y.T).inv() == a.inv() - a.inv() * x * y.T * a.inv() / pivot


def test_the_table_of_first_derivatives() -> None:
    """Each row of the table, against the symbolic derivative along a line."""
    t = sympy.Symbol("t")
    x = sympy.Matrix([[3, 1], [1, 2]])
    h = sympy.Matrix([[2, -1], [-1, 5]])
    a = sympy.Matrix([[1, 4], [2, 7]])
    r = sympy.Matrix([2, -3])
    line = x + t * h
    u = x.inv() * r
    rows = [
        ((a * line).trace(), (a * h).trace()),
        ((line.T * a * line).trace(), (x.T * (a + a.T) * h).trace()),
        (sympy.log(line.det()), (x.inv() * h).trace()),
        (line.det(), x.det() * (x.inv() * h).trace()),
        ((a * line.inv()).trace(), -(x.inv() * a * x.inv() * h).trace()),
        ((r.T * line.inv() * r)[0], -(u.T * h * u)[0]),
    ]
    for function, derivative in rows:
        assert sympy.simplify(sympy.diff(function, t).subs(t, 0) - derivative) == 0


@pytest.mark.derives("lem-second-differentials", "eq-second-differentials")
def test_second_differentials_symbolically() -> None:
    s, t = sympy.symbols("s t")
    x = sympy.Matrix([[3, 1], [2, 2]])
    h, k = sympy.Matrix([[1, 2], [-1, 4]]), sympy.Matrix([[2, 0], [5, 1]])
    line = x + s * h + t * k
    at = {s: 0, t: 0}
    i = x.inv()
    second = sympy.diff(sympy.log(line.det()), s, t).subs(at)
    assert sympy.simplify(second + (i * k * i * h).trace()) == 0
    second_inverse = line.inv().diff(s).diff(t).subs(at)
    expected = i * k * i * h * i + i * h * i * k * i
    assert (second_inverse - expected).applyfunc(sympy.simplify) == sympy.zeros(2, 2)


@pytest.mark.derives("lem-second-differentials")
def test_the_curvature_of_the_log_determinant_is_a_squared_norm() -> None:
    x = positive_definite(3, 1)
    h = positive_definite(3, 2) - positive_definite(3, 3)
    root = linalg.inv(linalg.sqrtm(x)).real
    with mpmath.workdps(50):
        curve = mpmath.diff(
            lambda t: mpmath.log(mpmath.det(mpmath.matrix(x) + t * mpmath.matrix(h))), 0, 2
        )
    assert float(curve) == pytest.approx(-np.sum((root @ h @ root) ** 2), rel=1e-10)


@pytest.mark.derives("prop-log-det-concave", "eq-log-det-tangent", "eq-log-det-jensen")
def test_the_log_determinant_lies_below_its_tangents_and_chords_below_it() -> None:
    def log_det(m: Floats) -> float:
        return float(np.linalg.slogdet(m)[1])

    matrices = [positive_definite(3, seed) for seed in range(20)]
    for one, two in combinations(matrices, 2):
        tangent = log_det(two) + np.trace(np.linalg.solve(two, one - two))
        assert log_det(one) < tangent
        assert log_det((one + 2 * two) / 3) > (log_det(one) + 2 * log_det(two)) / 3
    assert log_det(np.mean(matrices, axis=0)) > np.mean([log_det(m) for m in matrices])


@pytest.mark.derives("cor-hadamard")
def test_hadamard() -> None:
    for seed in range(20):
        s = positive_definite(4, seed)
        assert np.linalg.det(s) < np.prod(np.diag(s))
    diagonal = np.diag([1.0, 2.0, 5.0])
    assert np.linalg.det(diagonal) == pytest.approx(10.0, rel=1e-14)


@pytest.mark.derives("prop-matrix-jacobians")
def test_the_jacobian_of_a_product_on_both_sides() -> None:
    x = symbols("x", 2, 3)
    a = sympy.Matrix([[1, 2], [3, 5]]) * 2
    b = sympy.Matrix([[2, 0, 1], [1, 1, 0], [0, 3, 1]])
    jacobian = sympy.Matrix(list(a * x * b)).jacobian(list(x))
    assert abs(jacobian.det()) == abs(a.det()) ** 3 * abs(b.det()) ** 2


@pytest.mark.derives("prop-matrix-jacobians")
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_jacobian_of_a_congruence_on_symmetric_matrices(d: int) -> None:
    a = sympy.Matrix(d, d, lambda i, j: (2 * i + 3 * j * j + 1) % 7 - 2)
    assert a.det() != 0
    places = vech_places(d)
    free = {place: sympy.Symbol(f"x{place[0]}{place[1]}") for place in places}
    x = sympy.Matrix(d, d, lambda i, j: free[max(i, j), min(i, j)])
    image = a * x * a.T
    jacobian = sympy.Matrix([image[p] for p in places]).jacobian([free[p] for p in places])
    assert abs(jacobian.det()) == abs(a.det()) ** (d + 1)


@pytest.mark.derives("prop-matrix-jacobians")
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_jacobian_of_the_inverse_on_symmetric_matrices(d: int) -> None:
    places = vech_places(d)
    free = {place: sympy.Symbol(f"x{place[0]}{place[1]}") for place in places}
    x = sympy.Matrix(d, d, lambda i, j: free[max(i, j), min(i, j)])
    root = sympy.Matrix(d, d, lambda i, j: 2 * i - j + 2 if i >= j else 0)
    value = root * root.T
    at = {free[p]: value[p] for p in places}
    inverse = x.inv()
    jacobian = sympy.Matrix([inverse[p] for p in places]).jacobian([free[p] for p in places])
    assert abs(jacobian.subs(at).det()) == sympy.Rational(1, value.det() ** (d + 1))
