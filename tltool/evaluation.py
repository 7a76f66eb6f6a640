"""Predictions -> figures with 95 % intervals, beside what guessing would reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tltool.metrics import METRICS, Interval, resampling_counts, wilson_interval

__all__ = ["Evaluation", "Interval", "evaluate_predictions", "majority_class"]

_RESAMPLES = 1000
_BLOCK = 100
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Evaluation:
    """How good predictions are.

    Args:
        n: number of images.
        metrics: by name: accuracy, mean_class_accuracy, macro_f1, log_loss,
            expected_calibration_error.
        majority: number of the most frequent class in training.
        baselines: accuracy of always naming the most frequent training class, and of chance.
        confusion: `(k, k)`, int64, true classes in rows, predicted ones in columns.
    """

    n: int
    metrics: dict[str, Interval]
    majority: int
    baselines: dict[str, float]
    confusion: np.ndarray


def evaluate_predictions(
    probabilities: np.ndarray, targets: np.ndarray, *, majority: int, seed: int = 0
) -> Evaluation:
    """Figures of predictions on images that no choice was made on.

    Intervals come from 1,000 bootstrap resamples of the images (percentiles; for the calibration
    error, whose resamples lie above it, the basic interval), for accuracy from Wilson's formula.

    Args:
        probabilities: `(n, k)`, rows sum to one.
        targets: `(n,)`, true class numbers.
        majority: number of the most frequent class in training.
        seed: of the resampling.
    """
    n, k = probabilities.shape
    names = list(METRICS)
    ones = np.ones((1, n))
    values = {name: float(METRICS[name](probabilities, targets, ones)[0]) for name in names}
    random = np.random.default_rng(seed)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in names[1:]}
    for _ in range(0, _RESAMPLES, _BLOCK):
        weights = resampling_counts(random, _BLOCK, n)
        for name, drawn in samples.items():
            drawn.append(METRICS[name](probabilities, targets, weights))
    hits = round(values["accuracy"] * n)
    metrics = {"accuracy": Interval(values["accuracy"], *wilson_interval(hits, n))}
    for name, drawn in samples.items():
        low, high = np.percentile(np.concatenate(drawn), _LEVEL)
        if name == "expected_calibration_error":
            low, high = max(0.0, 2 * values[name] - high), max(0.0, 2 * values[name] - low)
        value = values[name]
        metrics[name] = Interval(value, float(min(low, value)), float(max(high, value)))
    confusion = np.zeros((k, k), np.int64)
    np.add.at(confusion, (targets, probabilities.argmax(axis=1)), 1)
    baselines = {"majority_class": float(np.mean(targets == majority)), "chance": 1.0 / k}
    return Evaluation(n, metrics, majority, baselines, confusion)


def majority_class(targets: Sequence[int] | np.ndarray, k: int) -> int:
    """The most frequent class number, the smallest of several."""
    return int(np.bincount(np.asarray(targets), minlength=k).argmax())
