"""The one factorisation under every linear classifier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tltool.linear.linear_head import LinearHead

__all__ = ["Design", "Solution", "Spectrum"]

# Numbers in the features up to which all is computed in float64: a few images can be fitted so
# well that float32 no longer tells one step's loss from the next.
_SMALL = 2**18

# The same where the median feature varies by less than this share of the largest one: in float32
# it would drown in the other's rounding errors.
_UNEVEN = 1e-4

# Directions with less than this share of the largest one's variance are rounding errors.
_NEGLIGIBLE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}

Solution = tuple[np.ndarray, np.ndarray]
"""Weights `(r, k)` and biases `(k,)` in the coordinates of a spectrum."""


@dataclass
class Design:
    """Images in coordinates along which they vary independently, or nearly so.

    Args:
        coordinates: `(n, r)`, their weighted mean 0.
        scatter: the weighted sum of squares along each, `(r,)`.
        weights: of the images, `(n,)`.
    """

    coordinates: np.ndarray
    scatter: np.ndarray
    weights: np.ndarray


class Spectrum(Design):
    """Features in the eigenbasis of their scatter, from which each classifier is had cheaply.

    With fewer images than features there are at most as many directions as images; by the
    representer theorem every classifier with a quadratic penalty lies in their span, so the
    search for it can stay there.

    Args:
        features: `(n, d)`; computed with in float32 where they are, many, and of like size, else
            in float64.
        weights: of the images, `(n,)`; None for one each.

    `coordinates` are the images along each direction, `(n, r)`, their weighted mean 0; `scatter`
    the weighted sum of squares along each, `(r,)`, falling; `mean` `(d,)`; `weights` `(n,)`.
    """

    def __init__(self, features: np.ndarray, weights: np.ndarray | None = None) -> None:
        from scipy.linalg import eigh

        n, d = features.shape
        dtype = _dtype(features)
        self.weights: np.ndarray = np.ones(n, dtype) if weights is None else weights.astype(dtype)
        self.n_features = d
        features = features.astype(dtype, copy=False)
        shares = self.weights / dtype(max(float(self.weights.sum()), 1e-30))
        mean = shares @ features
        centred = features - mean
        rest = shares @ centred  # what rounding left of the mean
        centred -= rest
        self.mean: np.ndarray = mean + rest
        roots = np.sqrt(self.weights)[:, None]
        weighted = centred if weights is None else centred * roots
        scatter, vectors = eigh(
            weighted.T @ weighted if n >= d else weighted @ weighted.T,
            driver="evd",
            overwrite_a=True,
            check_finite=False,
        )
        largest = max(float(scatter.max(initial=0.0)), 1e-30)
        kept = np.flatnonzero(scatter > _NEGLIGIBLE[np.dtype(dtype)] * largest)[::-1]
        self.scatter = scatter[kept]
        vectors = np.ascontiguousarray(vectors[:, kept])
        if n >= d:
            self._inputs, self._directions = None, vectors
            self.coordinates = centred @ vectors
        else:  # directions are the images, weighted, times `_directions`
            self._inputs, self._directions = weighted, vectors / np.sqrt(self.scatter)
            if weights is None:
                self.coordinates = vectors * np.sqrt(self.scatter)
            else:
                self.coordinates = centred @ self.basis

    @cached_property
    def basis(self) -> np.ndarray:
        """Orthonormal directions `(d, r)`."""
        if self._inputs is None:
            return self._directions
        return self._inputs.T @ self._directions

    def project(self, features: np.ndarray) -> np.ndarray:
        """Coordinates `(m, r)` of other images' features `(m, d)`."""
        centred = features.astype(self.mean.dtype, copy=False) - self.mean
        if self._inputs is None or "basis" in self.__dict__:
            return centred @ self.basis
        return (centred @ self._inputs.T) @ self._directions  # quicker for a few images

    def lift(self, solution: Solution) -> Solution:
        """A solution in these coordinates as weights `(d, k)` and biases `(k,)` on the features."""
        kernel = self.basis.astype(np.float64) @ solution[0].astype(np.float64)
        return kernel, solution[1] - self.mean.astype(np.float64) @ kernel

    def head(self, solution: Solution) -> LinearHead:
        """A solution in these coordinates as a head on the features."""
        kernel, bias = self.lift(solution)
        return LinearHead(kernel.astype(np.float32), bias.astype(np.float32))


def _dtype(features: np.ndarray) -> type[np.floating]:
    """What is precise enough to compute in."""
    if features.dtype == np.float64 or features.size <= _SMALL:
        return np.float64
    variances = features.var(axis=0, dtype=np.float64)
    varying = variances[variances > 0]
    uneven = len(varying) > 0 and np.median(varying) < _UNEVEN * varying.max()
    return np.float64 if uneven else np.float32
