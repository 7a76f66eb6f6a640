"""Which images a step is given, drawn anew each epoch and the same again by seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tltool.training.plan import TrainingPlan

__all__ = ["ArrayBatches", "Batch"]

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Inputs `(m, ...)`, targets `(m, k)` that sum to 1, weights `(m,)`."""


@dataclass(frozen=True)
class ArrayBatches:
    """Batches of arrays, each epoch one of several views of each image.

    Args:
        values: `(n, n_views, ...)`, float32.
        targets: `(n,)`, class numbers.
        n_classes: number of outputs.
        weights: of the images, 1 in the mean.
        plan: batch size, mixing and balance.
        seed: of all that is drawn.
    """

    values: np.ndarray
    targets: np.ndarray
    n_classes: int
    weights: np.ndarray
    plan: TrainingPlan
    seed: int

    @property
    def steps(self) -> int:
        """Batches an epoch; their sizes differ by one at most, so that none is tiny."""
        return max(1, -(-len(self.targets) // self.plan.batch_size))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, from 0; they follow from its number and the seed alone."""
        random = np.random.default_rng([self.seed, number])
        weights = self._image_weights()
        rows = self._rows(random)
        shown = random.integers(0, self.values.shape[1], len(rows))
        for places in np.array_split(np.arange(len(rows)), self.steps):
            chosen = rows[places]
            inputs = self.values[chosen, shown[places]]
            targets = np.eye(self.n_classes, dtype=np.float32)[self.targets[chosen]]
            counted = weights[chosen]
            if self.plan.mixup > 0:
                inputs, targets = _mixed(inputs, targets, self.plan.mixup, random)
            yield inputs, targets, counted.astype(np.float32)

    def _rows(self, random: np.random.Generator) -> np.ndarray:
        """The images of an epoch in the order in which they come."""
        n = len(self.targets)
        if self.plan.balance != "sampling":
            return random.permutation(n)
        counts = np.bincount(self.targets, minlength=self.n_classes)
        chances = 1.0 / counts[self.targets]
        return random.choice(n, n, p=chances / chances.sum())

    def _image_weights(self) -> np.ndarray:
        if self.plan.balance != "weights":
            return self.weights
        of_classes = np.bincount(self.targets, self.weights, self.n_classes)
        balanced = self.weights / np.maximum(of_classes[self.targets], 1e-30)
        return np.asarray(balanced / balanced.mean())


def _mixed(
    inputs: np.ndarray, targets: np.ndarray, alpha: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each image mixed with another of the batch, and their classes with them.

    Source: Zhang et al., "mixup", 2017, https://arxiv.org/abs/1710.09412
    """
    share = random.beta(alpha, alpha, len(inputs)).astype(np.float32)
    other = random.permutation(len(inputs))
    of_inputs = share.reshape(-1, *[1] * (inputs.ndim - 1))
    inputs = of_inputs * inputs + (1 - of_inputs) * inputs[other]
    targets = share[:, None] * targets + (1 - share[:, None]) * targets[other]
    return inputs, targets
