"""Scores to probabilities that can be believed."""

from __future__ import annotations

import numpy as np

from tltool.linear.linear_head import softmax

__all__ = ["calibrated_log_loss", "calibrated_losses", "fit_temperature"]


def fit_temperature(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, start: float | None = None
) -> float:
    """The number to divide scores by that gives the lowest log loss.

    One image more, of which every class is as likely, keeps confidence finite where all the others
    are right, as in Platt's method. Newton's method on the inverse, in which the log loss is
    convex. Source: Guo et al., "On Calibration of Modern Neural Networks", 2017,
    https://arxiv.org/abs/1706.04599; Platt, "Probabilistic Outputs for Support Vector Machines",
    1999.
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    rows = np.arange(len(targets))
    spread = float(np.abs(scores).mean())
    if not spread > 0 or not len(targets) or not weights.sum() > 0:
        return 1.0
    shares = weights / weights.sum()
    unsure = 1.0 / (1.0 + float(weights.sum()))
    low, high = 1e-2 / spread, 1e2 / spread
    inverse = min(max(1.0 / (start or spread), low), high)
    right = (1 - unsure) * float(shares @ scores[rows, targets])
    right += unsure * float(shares @ scores.mean(axis=1))
    for _ in range(20):
        p = softmax(inverse * scores)
        mean = np.einsum("ij,ij->i", p, scores)
        slope = float(shares @ mean) - right
        bend = float(shares @ (np.einsum("ij,ij,ij->i", p, scores, scores) - mean**2))
        if slope > 0:
            high = inverse
        else:
            low = inverse
        step = inverse - slope / max(bend, 1e-30)
        step = step if low < step < high else float(np.sqrt(low * high))
        if abs(step - inverse) < 1e-2 * inverse:
            break
        inverse = step
    return 1.0 / inverse


def calibrated_log_loss(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Log loss of scores `(n, k)` at the temperature that makes it least, and that temperature."""
    losses, temperature = calibrated_losses(scores, targets)
    return float(losses.mean()), temperature


def calibrated_losses(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
    """The same of each image, `(n,)`."""
    rows = np.arange(len(scores))
    with np.errstate(over="ignore", invalid="ignore"):  # scores as large as that are hopeless
        temperature = fit_temperature(scores, targets, np.ones(len(rows)))
        p = softmax(scores / temperature)[rows, targets]
    return -np.log(np.maximum(p, np.finfo(np.float32).eps)), temperature
