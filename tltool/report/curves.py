"""A training, epoch by epoch, as lines to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tltool.report.charts import Chart, Series, line_chart

__all__ = ["training_charts"]


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
    series = []
    for what, key, style in (("training", name, 3), ("validation", f"val_{name}", 0)):
        rows = [row for row in history if row[key] is not None]
        xs, ys = [float(row["epoch"]) for row in rows], [float(row[key]) for row in rows]
        series.append(Series(what, xs, ys, style=style))
    values = [value for one in series for value in one.ys]
    bounds = (0.0, max(values)) if name == "loss" else (min(values), 1.0)
    return line_chart(title, series, "epochs", y_range=bounds, mark=float(best))
