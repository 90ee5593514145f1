"""When EM may stop: the last change of what it maximises is small.

Four rules say what small means (:eq:`eq-stop-mean`, :eq:`eq-stop-absolute`,
:eq:`eq-stop-relative`, :eq:`eq-aitken`).
"""

from __future__ import annotations

__all__ = ["STOPPING_RULES", "StoppingRule"]

#: The names of the stopping rules.
STOPPING_RULES = ("mean", "absolute", "relative", "aitken")


class StoppingRule:
    """Whether the last change of the log-likelihood is small enough; one for each run."""

    def __init__(self, name: str, tol: float, total_weight: float) -> None:
        self.name = name
        self.tol = tol
        self.total_weight = total_weight
        self.rate = 1.0  # of EM's gains, as far as they have told
        self.em_steps = 2 if name == "aitken" else 1  # that must have come last

    def is_met(self, log_likelihoods: list[float], em_steps: int) -> bool:
        """Whether the last change is small, once the log-likelihoods up to it are known.

        Parameters
        ----------
        log_likelihoods : list of float
        em_steps : int
            How many of the last steps were EM steps, without interruption.
        """
        now, gain = log_likelihoods[-1], log_likelihoods[-1] - log_likelihoods[-2]
        if self.name == "mean":
            return abs(gain) < self.tol * self.total_weight
        if self.name == "absolute":
            return abs(gain) < self.tol
        if self.name == "relative":
            return abs(gain) < self.tol * abs(now)
        if len(log_likelihoods) < 3:
            return False
        if gain == 0:
            return self.tol > 0
        before = log_likelihoods[-2] - log_likelihoods[-3]
        rate = gain / before if before else 1.0
        if em_steps == len(log_likelihoods) - 1:
            self.rate = rate
        elif em_steps > 1 and rate < 1:  # what an accelerator has stirred up hides slow directions
            self.rate = max(self.rate, rate) if self.rate < 1 else rate
        return 0 <= self.rate < 1 and gain * self.rate / (1 - self.rate) < self.tol
