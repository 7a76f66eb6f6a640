"""Multinomial logistic regression over stored features, with its regularisation chosen cheaply.

The optimum is scikit-learn's (a test compares them); what differs is the way there. Features are
standardised and turned into the eigenbasis of their covariance, each direction scaled by the
curvature that the loss has along it. L-BFGS then takes fewer steps, and
the path over the regularisation values starts each fit at the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from tltool.strategies.linear_head import LinearHead

__all__ = ["fit_logistic", "fit_logistic_path"]

# A step that lowers the objective by less ends the search: tight for a head that is kept, loose
# for one that only tells which C is best.
_FINAL_TOLERANCE = 1e-10
_PATH_TOLERANCE = 1e-5
_MAX_STEPS = 1000

# Numbers in the features up to which the search runs in float64: a few images can be fitted so
# well that float32 no longer tells one step's loss from the next.
_SMALL = 2**18


def fit_logistic(features: np.ndarray, targets: np.ndarray, n_classes: int, C: float) -> LinearHead:
    """Logistic regression on standardised features.

    Minimises `sum of log losses + |W|^2 / (2 C)` as scikit-learn's `LogisticRegression(C=C)` does
    after `StandardScaler`; the bias is not penalised.

    Args:
        features: `(n, d)`, float32.
        targets: `(n,)`, class numbers below `n_classes`.
        n_classes: number of outputs.
        C: inverse strength of the regularisation.

    Returns:
        A head on the raw features: the standardisation is folded into it.
    """
    path = _Path(features, targets, n_classes)
    path.advance(C * 0.01, _PATH_TOLERANCE)
    path.advance(C * 0.1, _PATH_TOLERANCE)
    return path.advance(C, _FINAL_TOLERANCE)


def fit_logistic_path(
    features: np.ndarray, targets: np.ndarray, n_classes: int, values: Iterable[float]
) -> Iterator[LinearHead]:
    """Logistic regressions for ascending values of C, each started at the one before it.

    Args:
        features: `(n, d)`, float32.
        targets: `(n,)`, class numbers.
        n_classes: number of outputs.
        values: of C.

    Yields:
        A head for each value, close enough to the optimum to compare values by.
    """
    path = _Path(features, targets, n_classes)
    for value in values:
        yield path.advance(value, _PATH_TOLERANCE)


class _Path:
    """The solution as it follows C: one factorisation serves every value."""

    def __init__(self, features: np.ndarray, targets: np.ndarray, n_classes: int) -> None:
        self._mean = features.mean(axis=0, dtype=np.float64)
        self._deviation = features.std(axis=0, dtype=np.float64)
        constant = self._deviation <= 1e-6 * np.maximum(1e-3, np.abs(self._mean))
        self._deviation[constant] = np.inf  # a constant feature says nothing: its weight is 0
        standard = ((features - self._mean) / self._deviation).astype(np.float32)
        self._basis, self._variances = _eigenbasis(standard)
        dtype = np.float64 if standard.size <= _SMALL else np.float32
        self._rotated = standard.astype(dtype, copy=False) @ self._basis.astype(dtype)
        self._targets = targets
        self._n_classes = n_classes
        self._solution = np.zeros((self._rotated.shape[1] + 1, n_classes))

    def advance(self, C: float, tolerance: float) -> LinearHead:
        """The head for the next value of C."""
        from scipy.optimize import minimize

        n = len(self._targets)
        penalty = 1.0 / (C * n)  # of |W|^2 / 2, beside the mean log loss
        # The log loss curves by p (1 - p), about 1 / k, times the variance of a direction.
        scale = 1.0 / np.sqrt(self._variances / self._n_classes + penalty)
        scale = np.append(scale, np.sqrt(self._n_classes))[:, None]
        design = np.ones((n, len(scale)), self._rotated.dtype)
        design[:, :-1] = self._rotated
        design *= scale[:, 0].astype(design.dtype)
        weights = penalty * scale**2
        weights[-1] = 0.0
        found = minimize(
            _loss_and_gradient,
            (self._solution / scale).ravel(),
            args=(design, self._targets, weights),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": _MAX_STEPS, "ftol": tolerance, "gtol": 0.0},
        )
        self._solution = found.x.reshape(self._solution.shape) * scale
        kernel = (self._basis @ self._solution[:-1]) / self._deviation[:, None]
        bias = self._solution[-1] - self._mean @ kernel
        return LinearHead(kernel.astype(np.float32), bias.astype(np.float32))


def _eigenbasis(standard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal directions that hold all variance, `(d, r)`, and the variance along each, `(r,)`.

    With fewer images than features there are at most n of them; by the representer theorem the
    optimum lies in their span, so the search can stay there.
    """
    n, d = standard.shape
    if n >= d:
        variances, basis = np.linalg.eigh((standard.T @ standard).astype(np.float64) / n)
    else:
        variances, left = np.linalg.eigh((standard @ standard.T).astype(np.float64) / n)
        basis = standard.T.astype(np.float64) @ left
        basis /= np.maximum(np.linalg.norm(basis, axis=0), 1e-30)
    kept = variances > 1e-7 * max(float(variances.max(initial=0.0)), 1e-30)
    return basis[:, kept], variances[kept]


def _loss_and_gradient(
    flat: np.ndarray, design: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Mean log loss plus `sum(weights * W^2) / 2`, and its gradient."""
    solution = flat.reshape(design.shape[1], -1)
    rows = np.arange(len(targets))
    scores = design @ solution.astype(design.dtype)
    scores -= scores.max(axis=1, keepdims=True)
    right = float(scores[rows, targets].sum(dtype=np.float64))
    np.exp(scores, out=scores)
    sums = scores.sum(axis=1, keepdims=True)
    loss = (float(np.log(sums).sum(dtype=np.float64)) - right) / len(targets)
    scores /= sums
    scores[rows, targets] -= 1.0
    gradient = (design.T @ scores).astype(np.float64) / len(targets) + weights * solution
    return loss + 0.5 * float((weights * solution**2).sum()), gradient.ravel()
