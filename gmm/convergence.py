r"""Acceleration of EM: larger steps along the directions in which EM creeps.

Near a maximum the EM map :math:`M` is almost linear, and its errors shrink by the eigenvalues of
the missing-information fraction. An accelerator looks at a few iterates and their images and
proposes where the sequence is heading. Its proposals are only ever *candidates*: :func:`gmm.fit`
takes one if it is feasible and its log-likelihood is at least the present one, and an EM step
otherwise, so that the likelihood still never falls (:prf:ref:`thm-safeguard`).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gmm.checks import FloatArray

__all__ = ["ACCELERATIONS", "Accelerator", "Anderson", "Squarem", "WhenSlow", "accelerator"]

#: The names of the accelerations.
ACCELERATIONS = ("none", "auto", "squarem", "anderson")


class Accelerator(Protocol):
    """Proposes a next point from the present one and its image under the EM map."""

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """A candidate for the next point, or None for the image itself.

        Parameters
        ----------
        point, image : array
            The present parameters as a vector, and what an EM step makes of them.
        gain : float
            What the last step has added to the log-likelihood.
        """

    def rejected(self) -> None:
        """Take note that the last candidate was infeasible or lowered the likelihood."""


class Squarem:
    """SQUAREM: two EM steps, then a step of the length that squares their extrapolation.

    Notes
    -----
    With r the first of two EM steps and v the change from the first to the second, the candidate is
    θ + 2 α r + α² v for α = ‖r‖ / ‖v‖ (:eq:`eq-squarem`), the scheme S3 of Varadhan and Roland
    (2008). With α = 1 it is the second EM step. An EM step follows each candidate that was taken,
    to settle what the extrapolation has stirred up.
    """

    def __init__(self) -> None:
        self.longest = 16.0
        self.first: tuple[FloatArray, FloatArray] | None = None
        self.settling = False

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """See :class:`Accelerator`."""
        if self.settling:
            self.settling = False
            return None
        if self.first is None:
            self.first = point, image - point
            return None
        origin, r = self.first
        self.first = None
        v = (image - point) - r
        squared = float(v @ v)
        alpha = float(np.sqrt(r @ r / squared)) if squared > 0 else 1.0
        if not alpha > 1.0:
            return None
        if alpha >= self.longest:
            alpha = self.longest
            self.longest *= 4.0
        self.settling = True
        return origin + 2.0 * alpha * r + alpha**2 * v

    def rejected(self) -> None:
        """See :class:`Accelerator`."""
        self.settling = False
        self.longest = max(4.0, self.longest / 4.0)


class Anderson:
    """Damped Anderson acceleration of the EM map, with a memory of a few steps.

    Parameters
    ----------
    memory : int
        How many differences of iterates are combined.

    Notes
    -----
    The candidate is the image less the combination of past changes that fits the present EM step
    best (:eq:`eq-anderson`), with a ridge that keeps the combination short while the map is not yet
    linear; the damping grows with each rejection and fades with success (Henderson and Varadhan
    2019).
    """

    def __init__(self, memory: int = 5) -> None:
        self.memory = memory
        self.points: list[FloatArray] = []
        self.steps: list[FloatArray] = []
        self.damping = 1e-4

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """See :class:`Accelerator`."""
        self.points.append(point)
        self.steps.append(image - point)
        del self.points[: -self.memory - 1], self.steps[: -self.memory - 1]
        if len(self.points) < 2:
            return None
        d_points = np.diff(self.points, axis=0)  # (m, p)
        d_steps = np.diff(self.steps, axis=0)
        gram = d_steps @ d_steps.T
        ridge = self.damping * float(np.trace(gram)) + 1e-300
        gamma = np.linalg.solve(gram + ridge * np.eye(len(gram)), d_steps @ self.steps[-1])
        self.damping = max(1e-12, self.damping / 4.0)
        candidate: FloatArray = image - gamma @ (d_points + d_steps)
        return candidate

    def rejected(self) -> None:
        """See :class:`Accelerator`."""
        self.points, self.steps = self.points[-1:], self.steps[-1:]
        self.damping = min(1.0, 64.0 * self.damping)


class WhenSlow:
    """Leaves EM alone until its gains shrink slowly, then hands over to an accelerator.

    Parameters
    ----------
    helper : Accelerator
    rate : float
        The ratio of two successive gains from which EM counts as slow.
    """

    def __init__(self, helper: Accelerator, rate: float = 0.6) -> None:
        self.helper = helper
        self.rate = rate
        self.last_gain = np.inf
        self.slow = False

    def propose(self, point: FloatArray, image: FloatArray, gain: float) -> FloatArray | None:
        """See :class:`Accelerator`."""
        if self.slow:
            return self.helper.propose(point, image, gain)
        self.slow = self.rate * self.last_gain < gain < self.last_gain
        self.last_gain = gain
        return None

    def rejected(self) -> None:
        """See :class:`Accelerator`."""
        self.helper.rejected()


def accelerator(name: str) -> Accelerator | None:
    """A new accelerator of this name; None for plain EM.

    Parameters
    ----------
    name : {"none", "auto", "squarem", "anderson"}
        "auto" is SQUAREM from the moment at which EM is seen to be slow; "anderson" too waits for
        that moment, because it needs a map that is nearly linear.
    """
    if name == "none":
        return None
    if name == "squarem":
        return Squarem()
    return WhenSlow(Squarem() if name == "auto" else Anderson())
