"""Ridge regression and shrinkage LDA: closed forms over one factorisation.

Both need nothing but `(S + penalty)^-1 X^T Y`, S the scatter of the features X and Y the classes'
indicators; or, by images, `(X X^T + penalty)^-1 Y`. So a further value costs little.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from tltool.linear.centred import Centred, Solution
from tltool.linear.linear_head import LinearHead
from tltool.linear.tridiagonal import Tridiagonal

__all__ = ["ClosedForms"]


class ClosedForms:
    """Ridge and LDA for any penalty.

    Args:
        features: `(n, d)`.
        targets: `(n,)`, class numbers.
        n_classes: number of outputs.
        weights: of the images, `(n,)`; None for one each.

    Solutions are weights on what `project` gives.
    """

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        n_classes: int,
        weights: np.ndarray | None = None,
    ) -> None:
        self._centred = centred = Centred(features, weights)
        self._total = float(centred.weights.sum())
        self._counts = np.bincount(targets, centred.weights, n_classes).astype(np.float64)
        roots = np.sqrt(centred.weights)
        indicators = np.zeros((len(targets), n_classes), roots.dtype)
        indicators[np.arange(len(targets)), targets] = roots
        self._factors = Tridiagonal(centred.products())
        # columns to solve for, and what the solutions are multiplied with: X^T Y, whose rows'
        # weighted mean is 0, so that Y need not be centred
        if centred.by_images:
            indicators -= roots[:, None] * (self._counts / self._total).astype(roots.dtype)
            self._known = self._factors.turn(indicators)
            self._sums = self._factors.times(self._known)
        else:
            self._known = self._sums = self._factors.turn(centred.weighted.T @ indicators)

    def project(self, features: np.ndarray) -> np.ndarray:
        """Coordinates `(m, r)` of other images' features `(m, d)`."""
        return self._factors.turn(self._centred.inner(features).T).T

    def lift(self, solution: Solution) -> Solution:
        """A solution as weights `(d, k)` and biases `(k,)` on the features, float64."""
        return self._centred.lift((self._factors.turn_back(solution[0]), solution[1]))

    def head(self, solution: Solution) -> LinearHead:
        """A solution as a head on the features."""
        return LinearHead.of(*self.lift(solution))

    def solution(self, name: str, value: float) -> Solution:
        """Ridge, alpha a share of the images' weight, or LDA of some shrinkage."""
        return self.lda(value) if name == "lda" else self.ridge(value * self._total)

    def ridge(self, alpha: float) -> Solution:
        """Least squares to 1 for the right class and -1 for the others, plus `alpha * |W|^2`.

        Source: scikit-learn's `RidgeClassifier`, which it equals.
        """
        kernel = 2.0 * self._factors.solve(alpha, self._known)
        return kernel, 2.0 * self._counts / self._total - 1.0

    def lda(self, shrinkage: float) -> Solution:
        """Linear discriminant analysis, its covariance drawn towards a sphere.

        The covariance within classes C becomes `(1 - shrinkage) C + shrinkage * trace(C) / d`, as
        in scikit-learn's `LinearDiscriminantAnalysis(solver="lsqr")`, which this equals. With
        A the inverse of the total scatter and its penalty, M the class means and D their weights,
        `(A^-1 - M^T D M)^-1 M^T = A M^T (1 - D M A M^T)^-1`, so only a matrix of the classes is
        inverted. A class without images gets a score below all others. Source: Hastie, Buja,
        Tibshirani, "Penalized Discriminant Analysis", 1995.
        """
        present = self._counts > 0
        counts = self._counts[present]
        sums, known = self._means
        penalty = self._total * self._sphere * shrinkage / (1.0 - shrinkage)
        spread = self._factors.solve(penalty, known)  # A M^T
        products = sums.T @ spread.astype(np.float64)  # M A M^T
        inverse = np.linalg.inv(np.eye(len(counts)) - counts[:, None] * products)
        scale = self._total / (1.0 - shrinkage)
        kernel = np.zeros(self._known.shape, self._known.dtype)
        kernel[:, present] = spread @ (scale * inverse).astype(spread.dtype)
        bias = np.zeros(len(present))
        bias[present] = np.log(counts / self._total) - 0.5 * scale * np.diag(products @ inverse)
        if not present.all():  # further below all scores there are than those lie apart
            bias[~present] = self._below((kernel[:, present], bias[present]))
        return kernel, bias

    @cached_property
    def _means(self) -> tuple[np.ndarray, np.ndarray]:
        """`_sums` and `_known` divided by the weights of the classes, of those with images."""
        present = self._counts > 0
        counts = self._counts[present]
        sums = self._sums[:, present].astype(np.float64) / counts
        return sums, self._known[:, present] / counts.astype(self._known.dtype)

    @cached_property
    def _sphere(self) -> float:
        """The mean variance of a feature within classes."""
        sums, known = self._means
        counts = self._counts[self._counts > 0]
        between = float(np.einsum("ij,ij->j", sums, known.astype(np.float64)) @ counts)
        trace = self._factors.trace
        return max(trace - between, 1e-12 * trace) / self._total / self._centred.n_features

    def _below(self, solution: Solution) -> float:
        """A number as far below all scores of the images as those lie apart at most."""
        kernel, _ = self.lift(solution)
        scores = self._centred.rows @ kernel + solution[1]
        return float(2.0 * scores.min() - scores.max())
