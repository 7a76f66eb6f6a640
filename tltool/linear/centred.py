"""Features less their mean, and the products among them that linear classifiers follow from."""

from __future__ import annotations

import numpy as np

__all__ = ["Centred", "Solution", "moments"]

# Numbers in the features up to which all is computed in float64: a few images can be fitted so
# well that float32 no longer tells one step's loss from the next.
_SMALL = 2**18

# The same where the median feature varies by less than this share of the largest one: in float32
# it would drown in the other's rounding errors.
_UNEVEN = 1e-4

# Numbers that are cast to float64 at a time: they stay in the processor's cache.
_CHUNK = 2**16

Solution = tuple[np.ndarray, np.ndarray]
"""Weights `(r, k)` and biases `(k,)` in some coordinates of the images."""


class Centred:
    """Features less their weighted mean.

    With fewer images than features there are at most as many directions as images; by the
    representer theorem every classifier with a quadratic penalty lies in their span, so the
    search for it can stay there: a direction is then given by its weights on the images.

    Args:
        features: `(n, d)`; computed with in float32 where they are, many, and of like size, else
            in float64.
        weights: of the images, `(n,)`; None for one each.

    `rows` are the features less `mean`, `(n, d)`; `weighted` the same times the square roots of
    the `weights`; `by_images` whether directions are told by images.
    """

    def __init__(self, features: np.ndarray, weights: np.ndarray | None = None) -> None:
        n, d = features.shape
        dtype = _dtype(features)
        self.n_features = d
        self.by_images = n < d
        self.weights: np.ndarray = np.ones(n, dtype) if weights is None else weights.astype(dtype)
        features = features.astype(dtype, copy=False)
        shares = self.weights / dtype(max(float(self.weights.sum()), 1e-30))
        mean = shares @ features
        self.rows: np.ndarray = features - mean
        rest = shares @ self.rows  # what rounding left of the mean
        self.rows -= rest
        self.mean: np.ndarray = mean + rest
        self.weighted = self.rows if weights is None else self.rows * np.sqrt(self.weights)[:, None]

    def products(self) -> np.ndarray:
        """The scatter of the features, `(d, d)`, or by images their inner products, `(n, n)`."""
        rows = self.weighted
        return np.asarray(rows @ rows.T if self.by_images else rows.T @ rows)

    def inner(self, features: np.ndarray) -> np.ndarray:
        """Other images' features `(m, d)`, centred, or by images their inner products `(m, n)`."""
        centred = features.astype(self.mean.dtype, copy=False) - self.mean
        return centred @ self.weighted.T if self.by_images else centred

    def lift(self, solution: Solution) -> Solution:
        """Weights on what `inner` gives as weights `(d, k)` and biases `(k,)` on the features."""
        kernel = solution[0].astype(np.float64)
        if self.by_images:
            kernel = self.weighted.T.astype(np.float64) @ kernel
        return kernel, solution[1] - self.mean.astype(np.float64) @ kernel


def moments(
    features: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and deviation of each feature `(d,)`, float64.

    In float64 and in two passes, a few rows at a time: a cast of all of them takes five times as
    long.
    """
    n, d = features.shape
    shares = np.ones(n) if weights is None else weights.astype(np.float64)
    shares = shares / max(float(shares.sum()), 1e-30)
    rows = max(1, _CHUNK // max(d, 1))
    parts = [slice(start, start + rows) for start in range(0, n, rows)]
    mean, variance = np.zeros(d), np.zeros(d)
    for part in parts:
        mean += shares[part] @ features[part].astype(np.float64)
    for part in parts:
        centred = features[part] - mean
        variance += shares[part] @ np.square(centred, out=centred)
    return mean, np.sqrt(variance)


def _dtype(features: np.ndarray) -> type[np.floating]:
    """What is precise enough to compute in."""
    if features.dtype == np.float64 or features.size <= _SMALL:
        return np.float64
    variances = moments(features)[1] ** 2
    varying = variances[variances > 0]
    uneven = len(varying) > 0 and np.median(varying) < _UNEVEN * varying.max()
    return np.float64 if uneven else np.float32
