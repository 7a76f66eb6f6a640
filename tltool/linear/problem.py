"""What is to be classified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Problem"]


@dataclass(frozen=True)
class Problem:
    """What is to be classified.

    Args:
        features: `(n, d)`, float32.
        targets: `(n,)`, class numbers.
        n_classes: number of outputs.
        widths: how many of the columns each tap has.
        weights: of the rows, `(n,)`; None for one each.
        copies: several sets of features of each row `(n, m, d)`, to fit on instead of `features`;
            rows that are held out are judged by `features`. Together they weigh as much as one.

    `bases` keeps what was factorised of it, by transforms.
    """

    features: np.ndarray
    targets: np.ndarray
    n_classes: int
    widths: tuple[int, ...] | None = None
    weights: np.ndarray | None = None
    copies: np.ndarray | None = None
    bases: dict[tuple[str, ...], Any] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def to_fit(self, rows: np.ndarray) -> Problem:
        """Some of the rows, each of their copies a row."""
        weights = None if self.weights is None else self.weights[rows]
        targets = self.targets[rows]
        if self.copies is None:
            return Problem(self.features[rows], targets, self.n_classes, self.widths, weights)
        n, m, d = self.copies[rows].shape
        return Problem(
            self.copies[rows].reshape(n * m, d),
            np.repeat(targets, m),
            self.n_classes,
            self.widths,
            np.repeat(self.row_weights[rows] / m, m),
        )

    @property
    def row_weights(self) -> np.ndarray:
        """Weights `(n,)`, float64."""
        return np.ones(len(self.targets)) if self.weights is None else self.weights
