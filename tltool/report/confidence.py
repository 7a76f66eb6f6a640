"""How far confidence can be believed, as charts to draw: reliability, and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tltool.metrics import coverage, reliability

__all__ = ["ConfidenceCharts", "confidence_charts"]

# Of a chart's area in pixels, without its margins; the template has the same.
_SIDE = 240

_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class _Bar:
    """Images of like confidence.

    Args:
        x, width, y, height: of a bar as high as their accuracy, in pixels.
        low, high: ends of its 95 % interval.
        middle: where the interval is drawn.
        strength: 0 to 1, by how many there are.
        title: what is said of it.
    """

    x: float
    width: float
    y: float
    height: float
    low: float
    high: float
    middle: float
    strength: float
    title: str


@dataclass(frozen=True)
class ConfidenceCharts:
    """Both charts, and the coverage as a table.

    Args:
        bars: of the reliability diagram.
        line: accuracy of the most confident images over their share, points of an SVG polyline.
        floor: the accuracy at the lower end of that chart.
        rows: confidence that is asked for, share that is answered, accuracy of these and the ends
            of its interval; None where nothing is answered.
    """

    bars: tuple[_Bar, ...]
    line: str
    floor: float
    rows: tuple[tuple[float, float, float | None, float, float], ...]


def confidence_charts(probabilities: np.ndarray, targets: np.ndarray) -> ConfidenceCharts:
    """What is drawn of the probabilities `(n, k)` of test images of classes `(n,)`."""
    bins = reliability(probabilities, targets)
    most = max(one.n for one in bins)
    bars = tuple(
        _Bar(
            x=round(_SIDE * one.start, 1),
            width=round(_SIDE * (one.end - one.start), 1),
            y=round(_SIDE * (1 - one.accuracy.value), 1),
            height=round(_SIDE * one.accuracy.value, 1),
            low=round(_SIDE * (1 - one.accuracy.low), 1),
            high=round(_SIDE * (1 - one.accuracy.high), 1),
            middle=round(_SIDE * one.confidence, 1),
            strength=0.25 + 0.75 * one.n / most,
            title=f"{one.n} images, mean confidence {one.confidence:.2f}: "
            f"{one.accuracy.value:.2f} right",
        )
        for one in bins
    )
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == targets)[order]
    shares = np.arange(1, len(right) + 1) / len(right)
    accuracies = np.cumsum(right) / np.arange(1, len(right) + 1)
    first = min(len(right) - 1, max(4, len(right) // 20))  # of a handful the line would jump
    floor = float(np.floor(10 * accuracies[first:].min()) / 10)
    floor = min(floor, 0.9)
    shown = np.unique(np.linspace(first, len(right) - 1, 200).round().astype(int))
    line = " ".join(
        f"{_SIDE * shares[i]:.1f},{_SIDE * (1 - accuracies[i]) / (1 - floor):.1f}" for i in shown
    )
    rows = []
    for threshold in _THRESHOLDS:
        share, found = coverage(probabilities, targets, threshold)
        value = None if found is None else found.value
        low, high = (0.0, 1.0) if found is None else (found.low, found.high)
        rows.append((threshold, share, value, low, high))
    return ConfidenceCharts(bars, line, floor, tuple(rows))
