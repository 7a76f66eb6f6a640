"""Multinomial logistic regression and one-against-rest linear SVM, followed along values of C.

Both are the minimum of `C * (sum of losses) + |W|^2 / 2`, the biases not penalised. Logistic
regression's is scikit-learn's optimum (a test compares them). In the spectrum's coordinates, each
direction scaled by the curvature that the loss has along it, few steps lead there; each value of C
starts where the last two lead, with the curvature seen on the way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tltool.linear.centred import Solution
from tltool.linear.descent import Curvature, minimise
from tltool.linear.spectrum import Design

__all__ = ["LOSSES", "SmoothPath"]

# A step that lowers the mean loss by less, of what it is and at all, ends the search: enough to
# compare values of C by.
_ROUGH = (1e-3, 3e-5)

# The same for a head that is kept; in float64 it ends where nothing is left to gain.
_FINE = {np.dtype(np.float32): 2e-7, np.dtype(np.float64): -np.inf}

# The way to a head that is kept goes over stronger penalties.
_WAY = (0.01, 0.1)

Loss = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, np.ndarray, float]]


def _log_loss(
    scores: np.ndarray, targets: np.ndarray, shares: np.ndarray
) -> tuple[float, np.ndarray, float]:
    """Log loss of the softmax."""
    rows = np.arange(len(targets))
    scores -= scores.max(axis=1, keepdims=True)
    right = float(np.vdot(scores[rows, targets], shares))
    np.exp(scores, out=scores)
    sums = scores.sum(axis=1)
    value = float(np.vdot(np.log(sums), shares)) - right
    scores *= (1.0 / sums)[:, None]
    spread = float(np.vdot(shares, 1.0 - np.einsum("ij,ij->i", scores, scores)))
    scores[rows, targets] -= 1.0
    scores *= shares[:, None]
    return value, scores, spread / scores.shape[1]


def _squared_hinge(
    scores: np.ndarray, targets: np.ndarray, shares: np.ndarray
) -> tuple[float, np.ndarray, float]:
    """Sum over the classes of `max(0, 1 - s)^2`, s the score with the sign that is right."""
    rows = np.arange(len(targets))
    scores[rows, targets] *= -1.0
    scores += 1.0
    np.maximum(scores, 0.0, out=scores)
    weighted = scores * shares[:, None]
    value = float(np.vdot(scores, weighted))
    active = float(np.vdot(shares, (scores > 0).mean(axis=1)))
    weighted *= 2.0
    weighted[rows, targets] *= -1.0
    return value, weighted, 2.0 * active


LOSSES: dict[str, Loss] = {"logistic-regression": _log_loss, "svm": _squared_hinge}
"""Value, gradient by the scores, and mean curvature by a score, of scores `(n, k)`, class numbers
`(n,)` and the images' shares of the total weight; the scores may be written over."""


class SmoothPath:
    """The solution as it follows C.

    Args:
        design: the images.
        targets: `(n,)`, class numbers.
        n_classes: number of outputs.
        loss: one of `LOSSES`.
    """

    def __init__(self, design: Design, targets: np.ndarray, n_classes: int, loss: str) -> None:
        self._loss = LOSSES[loss]
        self._targets = targets
        self._total = float(design.weights.sum())
        dtype = design.coordinates.dtype
        self._shares = (design.weights / self._total).astype(dtype)
        n, r = design.coordinates.shape
        self._design = np.ones((n, r + 1), dtype)  # the last column is the bias
        self._design[:, :-1] = design.coordinates
        self._variances = np.append(design.scatter / self._total, 1.0)
        self._solution = np.zeros((r + 1, n_classes), dtype)
        self._before: np.ndarray | None = None
        self._penalty = np.zeros((r + 1, 1))
        self._bend = 1.0
        self._curvature = Curvature()

    def advance(self, C: float) -> Solution:
        """The solution for the next value of C, near enough to compare values by."""
        relative, absolute = _ROUGH
        return self._advance(C, lambda gain, value: gain < max(relative * value, absolute))

    def finish(self, C: float) -> Solution:
        """The solution for a value of C, to the last digits that matter."""
        for step in _WAY:
            self.advance(step * C)
        fine = _FINE[self._design.dtype]
        return self._advance(C, lambda gain, value: gain <= fine * value)

    def _advance(self, C: float, stop: Callable[[float, float], bool]) -> Solution:
        penalty = np.full((len(self._solution), 1), 1.0 / (C * self._total))
        penalty[-1] = 0.0
        self._curvature.shift(penalty - self._penalty)
        self._penalty = penalty
        small = penalty.astype(self._design.dtype)

        def objective(solution: np.ndarray) -> tuple[float, np.ndarray]:
            value, slopes, self._bend = self._loss(
                self._design @ solution, self._targets, self._shares
            )
            pull = small * solution
            gradient = self._design.T @ slopes
            gradient += pull
            return value + 0.5 * float(np.vdot(solution, pull)), gradient

        start, known = self._solution, objective(self._solution)
        if self._before is not None:  # on along the line through the last two solutions
            further = 2 * self._solution - self._before
            if (there := objective(further))[0] < known[0]:
                start, known = further, there
        bend = max(self._bend, 1e-4 / self._solution.shape[1])
        scale = 1.0 / (self._variances[:, None] * bend + penalty)
        self._before = self._solution
        self._solution = minimise(
            objective, start, scale.astype(self._design.dtype), stop, self._curvature, known
        )
        return self._solution[:-1], self._solution[-1]
