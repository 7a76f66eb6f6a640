"""The factorisation under every classifier that is found step by step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tltool.linear.centred import Centred, Solution
from tltool.linear.linear_head import LinearHead

__all__ = ["Design", "Spectrum"]

# Directions with less than this share of the largest one's variance are rounding errors.
_NEGLIGIBLE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}


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

    Args:
        features: `(n, d)`; computed with in float32 where they are, many, and of like size, else
            in float64.
        weights: of the images, `(n,)`; None for one each.

    `coordinates` are the images along each direction, `(n, r)`, their weighted mean 0; `scatter`
    the weighted sum of squares along each, `(r,)`, falling; `mean` `(d,)`; `weights` `(n,)`.
    """

    def __init__(self, features: np.ndarray, weights: np.ndarray | None = None) -> None:
        from scipy.linalg import eigh

        self._centred = centred = Centred(features, weights)
        self.weights, self.mean = centred.weights, centred.mean
        self.n_features = centred.n_features
        scatter, vectors = eigh(
            centred.products(), driver="evd", overwrite_a=True, check_finite=False
        )
        largest = max(float(scatter.max(initial=0.0)), 1e-30)
        kept = np.flatnonzero(scatter > _NEGLIGIBLE[scatter.dtype] * largest)[::-1]
        self.scatter = scatter[kept]
        vectors = np.ascontiguousarray(vectors[:, kept])
        self._directions = vectors / np.sqrt(self.scatter) if centred.by_images else vectors
        if centred.by_images and weights is None:
            self.coordinates = vectors * np.sqrt(self.scatter)
        else:
            self.coordinates = centred.rows @ self.basis

    @cached_property
    def basis(self) -> np.ndarray:
        """Orthonormal directions `(d, r)`."""
        inputs = self._centred.weighted
        return inputs.T @ self._directions if self._centred.by_images else self._directions

    def project(self, features: np.ndarray) -> np.ndarray:
        """Coordinates `(m, r)` of other images' features `(m, d)`."""
        if "basis" in self.__dict__:
            return (features.astype(self.mean.dtype, copy=False) - self.mean) @ self.basis
        return self._centred.inner(features) @ self._directions  # quicker for a few images

    def lift(self, solution: Solution) -> Solution:
        """A solution in these coordinates as weights `(d, k)` and biases `(k,)` on the features."""
        kernel = self._directions.astype(np.float64) @ solution[0].astype(np.float64)
        return self._centred.lift((kernel, solution[1]))

    def head(self, solution: Solution) -> LinearHead:
        """A solution in these coordinates as a head on the features."""
        return LinearHead.of(*self.lift(solution))
