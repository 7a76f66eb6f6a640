"""A training, epoch by epoch, as lines to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Chart", "Line", "training_charts"]

# Of a chart's area in pixels, without its margins; the template has the same.
_WIDTH, _HEIGHT = 420, 200


@dataclass(frozen=True)
class Line:
    """One series.

    Args:
        name: what it is of.
        kind: "train" or "val".
        points: of an SVG polyline.
    """

    name: str
    kind: str
    points: str


@dataclass(frozen=True)
class Chart:
    """Lines over epochs.

    Args:
        title: what is drawn.
        lines: one for the training images, one for the validation images if there are any.
        marks: heights in pixels and values of the horizontal lines.
        first: number of the first epoch; 0 where it began with what was good for something.
        last: number of the last one.
        best: where the best one is, in pixels.
    """

    title: str
    lines: tuple[Line, ...]
    marks: tuple[tuple[float, str], ...]
    first: int
    last: int
    best: float


def training_charts(history: Sequence[Mapping[str, Any]], best: int) -> list[Chart]:
    """Loss and accuracy of each epoch; nothing of fewer than two.

    Args:
        history: a mapping an epoch, as in `history.csv`.
        best: number of the epoch that was kept.
    """
    if len(history) < 2:
        return []
    return [_chart("Loss", history, "loss", best), _chart("Accuracy", history, "accuracy", best)]


def _chart(title: str, history: Sequence[Mapping[str, Any]], name: str, best: int) -> Chart:
    series = [
        (
            what,
            kind,
            [(int(row["epoch"]), float(row[key])) for row in history if row[key] is not None],
        )
        for what, kind, key in (("training", "train", name), ("validation", "val", f"val_{name}"))
    ]
    values = [value for _, _, points in series for _, value in points]
    low, high = min(values), max(values)
    low, high = (0.0, high) if name == "loss" else (low, 1.0)
    extent = max(high - low, 1e-9)
    first, last = int(history[0]["epoch"]), int(history[-1]["epoch"])

    def across(epoch: int) -> float:
        return round(_WIDTH * (epoch - first) / (last - first), 1)

    def down(value: float) -> float:
        return round(_HEIGHT * (high - value) / extent, 1)

    lines = tuple(
        Line(what, kind, " ".join(f"{across(epoch)},{down(value)}" for epoch, value in points))
        for what, kind, points in series
        if points
    )
    marks = tuple(
        (down(low + extent * part / 2), f"{low + extent * part / 2:.2f}") for part in range(3)
    )
    return Chart(title, lines, marks, first, last, across(best))
