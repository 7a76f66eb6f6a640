"""Figures over plain arrays: probabilities `(n, k)` and class numbers `(n,)`.

Each function takes the images' weights as well, `(b, n)`, and returns `(b,)`: a row of ones gives
the figure itself, rows of resampling counts give its bootstrap distribution in one go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = [
    "METRICS",
    "METRIC_NAMES",
    "Interval",
    "MetricName",
    "ReliabilityBin",
    "accuracy",
    "coverage",
    "expected_calibration_error",
    "is_clearly_lower",
    "log_loss",
    "log_losses",
    "logit_of_share",
    "macro_f1",
    "mean_class_accuracy",
    "reliability",
    "resampling_counts",
    "simplest_of_the_best",
    "wilson_interval",
]

# Bins of confidence of the expected calibration error (Guo et al. 2017 use 15).
_BINS = 15

# Probabilities are kept this far from 0: the resolution of float32.
_SMALLEST = float(np.finfo(np.float32).eps)

# 97.5 % quantile of the normal distribution.
_Z = 1.959963984540054


def accuracy(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of images whose likeliest class is the true one."""
    right = probabilities.argmax(axis=1) == targets
    return weights @ right / weights.sum(axis=1)


def mean_class_accuracy(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Each class's share of right answers, averaged over the classes that have images."""
    right = probabilities.argmax(axis=1) == targets
    totals = _by_class(weights, targets, probabilities.shape[1])
    hits = _by_class(weights * right, targets, probabilities.shape[1])
    present = totals > 0
    return (hits / np.where(present, totals, 1)).sum(axis=1) / present.sum(axis=1)


def macro_f1(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each class's F1, averaged over the classes that have images or were predicted."""
    predicted = probabilities.argmax(axis=1)
    k = probabilities.shape[1]
    totals = _by_class(weights, targets, k) + _by_class(weights, predicted, k)
    hits = _by_class(weights * (predicted == targets), targets, k)
    present = totals > 0
    return (2 * hits / np.where(present, totals, 1)).sum(axis=1) / present.sum(axis=1)


def log_loss(probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of minus the natural logarithm of the true class's probability."""
    return weights @ log_losses(probabilities, targets) / weights.sum(axis=1)


def log_losses(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Of each image, minus the natural logarithm of the true class's probability, `(n,)`."""
    own = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return -np.log(np.maximum(own, _SMALLEST))


def expected_calibration_error(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Distance between confidence and accuracy over 15 equal bins, weighted by their images.

    Source: Guo et al., "On Calibration of Modern Neural Networks", 2017,
    https://arxiv.org/abs/1706.04599
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    bins = _bins(confidence)
    gaps = _by_class(weights * (confidence - right), bins, _BINS)
    return np.abs(gaps).sum(axis=1) / weights.sum(axis=1)


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval, of 95 % where nothing else is said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of like confidence.

    Args:
        start, end: of the confidence.
        n: number of images.
        confidence: their mean confidence.
        accuracy: share of them that is named right, with its 95 % interval.
    """

    start: float
    end: float
    n: int
    confidence: float
    accuracy: Interval


def reliability(probabilities: np.ndarray, targets: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy, in the bins of the calibration error that hold images.

    Source: Niculescu-Mizil and Caruana, "Predicting Good Probabilities With Supervised Learning",
    2005.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    bins = _bins(confidence)
    return tuple(
        ReliabilityBin(
            number / _BINS,
            (number + 1) / _BINS,
            int((bins == number).sum()),
            float(confidence[bins == number].mean()),
            _share(right[bins == number]),
        )
        for number in np.unique(bins)
    )


def coverage(
    probabilities: np.ndarray, targets: np.ndarray, threshold: float
) -> tuple[float, Interval | None]:
    """What comes of answering only where the confidence is high enough.

    Returns:
        The share of images that is answered, and of these the share named right, with its 95 %
        interval; None where there are none.
    """
    answered = probabilities.max(axis=1) >= threshold
    right = (probabilities.argmax(axis=1) == targets)[answered]
    return float(answered.mean()), _share(right) if len(right) else None


def _bins(confidence: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(confidence * _BINS).astype(np.int64) - 1, 0, _BINS - 1)


def _share(right: np.ndarray) -> Interval:
    hits, n = int(right.sum()), len(right)
    return Interval(hits / n, *wilson_interval(hits, n))


class MetricName(NamedTuple):
    """What a person calls a figure, and what it says."""

    title: str
    meaning: str


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "mean_class_accuracy": mean_class_accuracy,
    "macro_f1": macro_f1,
    "log_loss": log_loss,
    "expected_calibration_error": expected_calibration_error,
}


METRIC_NAMES = {
    "accuracy": MetricName("Accuracy", "share of test images named right"),
    "mean_class_accuracy": MetricName("Mean class accuracy", "every class counts the same"),
    "macro_f1": MetricName("Macro F1", "precision and recall, every class counts the same"),
    "log_loss": MetricName("Log loss", "natural logarithm; lower is better"),
    "expected_calibration_error": MetricName(
        "Expected calibration error",
        "distance of confidence from accuracy; lower is better",
    ),
}


def logit_of_share(share: float, n: int) -> float:
    """The logit of a share of n images; of none and all of them, half an image is taken off."""
    least = 0.5 / (n + 1)
    share = min(max(share, least), 1 - least)
    return math.log(share / (1 - share))


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    share = hits / n
    centre = share + _Z**2 / (2 * n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale))


def simplest_of_the_best(losses: Mapping[str, np.ndarray]) -> str:
    """Of ways to end, simplest first, the first that is not told apart from the best.

    That is, whose losses of the same images are higher by one standard error at most. Source: the
    rule of Breiman et al., "Classification and Regression Trees", 1984.
    """
    best = min(losses, key=lambda name: float(losses[name].mean()))
    for name, found in losses.items():
        apart = found - losses[best]
        error = float(apart.std()) / np.sqrt(max(1, len(apart) - 1))
        if float(apart.mean()) <= error:
            return name
    return best


def is_clearly_lower(losses: np.ndarray, others: np.ndarray) -> bool:
    """Whether losses `(n,)` of some images are lower than others of the same, beyond chance.

    That is, by a one-sided paired t-test at 95 %.
    """
    from scipy.special import stdtrit

    gained = np.asarray(others, np.float64) - losses
    n = len(gained)
    if n < 2:
        return False
    error = float(gained.std(ddof=1)) / np.sqrt(n)
    return bool(gained.mean() > stdtrit(n - 1, 0.95) * error)


def resampling_counts(random: np.random.Generator, b: int, n: int) -> np.ndarray:
    """How often each of n images is drawn in n draws, `(b, n)`, float64."""
    drawn = random.integers(0, n, (b, n)) + n * np.arange(b)[:, None]
    return np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)


def _by_class(values: np.ndarray, classes: np.ndarray, k: int) -> np.ndarray:
    """Sums of columns by class: `(b, n)` to `(b, k)`."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    sums = np.zeros((len(values), k))
    sums[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums
