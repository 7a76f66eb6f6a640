"""Predictions -> figures with 95 % intervals, beside what guessing would reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tltool.linear.calibration import Calibration
from tltool.linear.linear_head import softmax
from tltool.metrics import METRIC_NAMES, METRICS, Interval, resampling_counts, wilson_interval

__all__ = ["Evaluation", "Interval", "Judged", "evaluate_predictions", "judge", "majority_class"]

_RESAMPLES = 1000
_BLOCK = 100
_LEVEL = (2.5, 97.5)

# What calibration is for.
_OF_CALIBRATION = ("log_loss", "expected_calibration_error")


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


@dataclass(frozen=True)
class Judged:
    """What is said of test images, and how good it is, calibrated and as it was before.

    Args:
        probabilities: `(n, k)`.
        evaluation: their figures.
        calibration: what was done to the scores; None where that is not known.
        before: log loss and calibration error without it.
    """

    probabilities: np.ndarray
    evaluation: Evaluation
    calibration: Calibration | None
    before: Mapping[str, float]

    def calibration_facts(self) -> dict[str, Any] | None:
        """How scores were calibrated, and what it did to the test images, as JSON values."""
        found = self.calibration
        if found is None:
            return None
        return {
            "method": found.method,
            "temperature": found.temperature,
            "images": found.images,
            "before": dict(self.before),
            "after": {name: self.evaluation.metrics[name].value for name in _OF_CALIBRATION},
        }

    def calibration_in_words(self) -> list[tuple[str, str]]:
        """The same as a name and a value, if there is something to say."""
        if self.calibration is None:
            return []
        changes = (
            f"{METRIC_NAMES[name].title.lower()} {self.before[name]:.3f} before, "
            f"{self.evaluation.metrics[name].value:.3f} after"
            for name in _OF_CALIBRATION
        )
        return [("Calibration", f"{self.calibration.in_words()}; {', '.join(changes)}")]


def judge(
    scores: np.ndarray,
    targets: np.ndarray,
    calibration: Calibration | None,
    *,
    majority: int,
    seed: int = 0,
) -> Judged:
    """Figures of scores on test images.

    Args:
        scores: `(n, k)`, calibrated.
        targets: `(n,)`, true class numbers.
        calibration: how they were.
        majority: number of the most frequent class in training.
        seed: of the resampling.
    """
    probabilities = softmax(scores)
    evaluation = evaluate_predictions(probabilities, targets, majority=majority, seed=seed)
    before = {}
    if calibration is not None:
        raw = softmax(calibration.undo(scores.astype(np.float64)))
        ones = np.ones((1, len(targets)))
        before = {name: float(METRICS[name](raw, targets, ones)[0]) for name in _OF_CALIBRATION}
    return Judged(probabilities, evaluation, calibration, before)


def majority_class(targets: Sequence[int] | np.ndarray, k: int) -> int:
    """The most frequent class number, the smallest of several."""
    return int(np.bincount(np.asarray(targets), minlength=k).argmax())
