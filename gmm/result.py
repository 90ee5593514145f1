"""What a fit returns and shows: values that say what was found, and how.

:class:`Fit` is the answer. It holds a :class:`Trace` of the best run and one :class:`Run` for each
start. A callback is shown a :class:`Progress` while the fit goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

import numpy as np

from gmm.checks import FloatArray, IntArray
from gmm.criteria import aic, bic
from gmm.mixture import Mixture
from gmm.statistics import Statistics

__all__ = ["Fit", "Progress", "Run", "Trace"]


@dataclass(frozen=True, eq=False)
class Progress:
    """What a callback is shown after each iteration.

    Parameters
    ----------
    iteration : int
        The number of M-steps so far; 0 is the start.
    mixture : Mixture
        The parameters after this iteration.
    log_likelihood : float
        Their log-likelihood.
    statistics : Statistics
        Their expected statistics, from which the next iteration will start.
    """

    iteration: int
    mixture: Mixture
    log_likelihood: float
    statistics: Statistics


@dataclass(frozen=True, eq=False)
class Trace:
    """How a run went; index i tells of the parameters after i iterations, 0 of the start.

    Parameters
    ----------
    log_likelihood : array (n_iter + 1,)
    seconds : array (n_iter + 1,)
        Time since the run began.
    passes : array (n_iter + 1,) of int
        How often the rows had been read by then: once for each iteration, and once for each
        candidate of an accelerator that was not taken.
    mixtures : dict
        The parameters at the iterations that ``keep`` chose.
    """

    log_likelihood: FloatArray
    seconds: FloatArray
    passes: IntArray
    mixtures: dict[int, Mixture] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """The end of one run from one start: its log-likelihood, iterations, reason and passes."""

    log_likelihood: float
    n_iter: int
    reason: str
    n_passes: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Fit:
    """The result of :func:`gmm.em.fit`: a mixture, and how it was found.

    Parameters
    ----------
    mixture : Mixture
        The parameters after the last iteration of the best run.
    log_likelihood : float
        Their log-likelihood.
    trace : Trace
        The best run, iteration by iteration.
    reason : str
        Why the run ended: "converged", "max_iter", "interrupted" or "callback".
    starts : tuple of Run
        Every run, in the order of the starts; "singular" is the reason of one that collapsed.
    n_rows : int
        Rows of positive weight.
    total_weight : float
        The sum of their weights.
    log_prior : float
        The logarithm of the prior's density at the mixture, but for a constant; zero without one.
    fixed : frozenset of str
        Which parameters were held at their start.
    """

    mixture: Mixture
    log_likelihood: float
    trace: Trace
    reason: str
    starts: tuple[Run, ...]
    n_rows: int
    total_weight: float
    log_prior: float = 0.0
    fixed: frozenset[str] = frozenset()

    @property
    def converged(self) -> bool:
        """Whether the stopping rule was met."""
        return self.reason == "converged"

    @property
    def objective(self) -> float:
        """What the fit has maximised: the log-likelihood and the log-prior."""
        return self.log_likelihood + self.log_prior

    @property
    def n_iter(self) -> int:
        """The number of iterations (M-steps) of the best run."""
        return len(self.trace.log_likelihood) - 1

    @property
    def n_passes(self) -> int:
        """How often the rows were read, in all runs; candidates that were not taken count too."""
        return sum(run.n_passes for run in self.starts)

    @property
    def n_parameters(self) -> int:
        """The number of free parameters (:eq:`eq-parameter-count`); those held do not count."""
        k, d = self.mixture.means.shape
        counts = {"weights": k - 1, "means": k * d}
        counts["covariances"] = self.mixture.n_parameters - sum(counts.values())
        return sum(count for name, count in counts.items() if name not in self.fixed)

    @property
    def aic(self) -> float:
        """Akaike's criterion (:eq:`eq-aic`); smaller is better."""
        return aic(self.log_likelihood, self.n_parameters)

    @property
    def bic(self) -> float:
        """The Bayesian information criterion (:eq:`eq-bic`); smaller is better."""
        return bic(self.log_likelihood, self.n_parameters, self.total_weight)

    def _facts(self) -> list[tuple[str, str]]:
        mixture = self.mixture
        ended = {
            "converged": "converged",
            "max_iter": "stopped at max_iter, not converged",
            "interrupted": "interrupted, not converged",
            "callback": "stopped by the callback",
        }[self.reason]
        facts = [
            ("family", f"{mixture.family}, {mixture.n_components} components"),
            ("data", f"{self.n_rows} rows, {mixture.n_features} features"),
            ("log-likelihood", f"{self.log_likelihood:.4f}"),
            ("BIC", f"{self.bic:.3f} with {self.n_parameters} parameters"),
            ("iterations", f"{self.n_iter}, {ended}"),
        ]
        if len(self.starts) > 1:
            best = sum(
                run.reason != "singular" and self.log_likelihood - run.log_likelihood < 1e-3
                for run in self.starts
            )
            facts.append(("starts", f"{len(self.starts)}, of which {best} ended here"))
        return facts

    def __repr__(self) -> str:
        lines = ["Fit"] + [f"  {name:<15} {value}" for name, value in self._facts()]
        for weight, mean in zip(self.mixture.weights, self.mixture.means, strict=True):
            lines.append(f"  weight {weight:.4f}   mean {np.array2string(mean, precision=4)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>"
            for name, value in self._facts()
        )
        return f"<table>{rows}</table>"
