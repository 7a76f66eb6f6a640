"""Ridge regression and shrinkage LDA: closed forms over one factorisation.

Both need nothing but `(S + penalty)^-1 R^T Y`, S the scatter of the features, diagonal in the
spectrum's coordinates R, and Y the classes' indicators; so a further value costs a product.
"""

from __future__ import annotations

import numpy as np

from tltool.linear.spectrum import Solution, Spectrum

__all__ = ["ClosedForms"]


class ClosedForms:
    """Ridge and LDA for any penalty.

    Args:
        spectrum: of the features.
        targets: `(n,)`, class numbers.
        n_classes: number of outputs.
    """

    def __init__(self, spectrum: Spectrum, targets: np.ndarray, n_classes: int) -> None:
        self._spectrum = spectrum
        weights = spectrum.weights
        self._total = float(weights.sum())
        self._counts = np.bincount(targets, weights, n_classes).astype(np.float64)
        order = np.argsort(targets, kind="stable")
        present, starts = np.unique(targets[order], return_index=True)
        weighted = spectrum.coordinates[order] * weights[order, None]
        sums = np.zeros((n_classes, spectrum.coordinates.shape[1]), weighted.dtype)
        sums[present] = np.add.reduceat(weighted, starts, axis=0)
        self._sums = sums.T  # R^T Y; the coordinates' weighted mean is 0, so Y need not be centred

    def ridge(self, alpha: float) -> Solution:
        """Least squares to 1 for the right class and -1 for the others, plus `alpha * |W|^2`.

        Source: scikit-learn's `RidgeClassifier`, which it equals.
        """
        kernel = 2.0 * self._sums / (self._spectrum.scatter + alpha)[:, None]
        return kernel.astype(self._sums.dtype), 2.0 * self._counts / self._total - 1.0

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
        means = self._sums[:, present].astype(np.float64) / counts
        scatter = self._spectrum.scatter.astype(np.float64)
        within = max(float(scatter.sum() - (means**2 * counts).sum()), 1e-12 * scatter.sum())
        sphere = within / self._total / self._spectrum.n_features
        penalty = self._total * sphere * shrinkage / (1.0 - shrinkage)
        spread = means / (scatter + penalty)[:, None]  # A M^T
        between = means.T @ spread
        inverse = np.linalg.inv(np.eye(len(counts)) - counts[:, None] * between)
        scale = self._total / (1.0 - shrinkage)
        kernel = np.zeros(self._sums.shape)
        kernel[:, present] = scale * (spread @ inverse)
        bias = np.zeros(len(present))
        bias[present] = np.log(counts / self._total) - 0.5 * scale * np.diag(between @ inverse)
        if not present.all():  # further below all scores there are than those lie apart
            scores = self._spectrum.coordinates @ kernel[:, present] + bias[present]
            bias[~present] = 2.0 * scores.min() - scores.max()
        return kernel.astype(self._sums.dtype), bias
