"""The advice that a run follows, and its evidence, as it is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tltool._presets import advisor_rules
from tltool.report.charts import Chart, Series, line_chart

__all__ = ["AdviceFigures", "Placed", "advice_figures"]

# Of the table of size against similarity in pixels, and the ends of its axes: images of each
# class, and squared Hellinger distances.
_WIDTH, _HEIGHT = 400, 220
_INSET, _LINE = 6.0, 16.0
_ROOM = 40.0
_SIZES = (2.0, 5000.0)
_DISTANCES = (0.002, 0.4)


@dataclass(frozen=True)
class Placed:
    """The table with a data set's place in it, in pixels.

    Args:
        width, height: of it.
        small: how far the row of small sets goes across.
        far: how far down similar sets go.
        x, y: where this set is; y is None where its distance is not known.
        low, high: ends of the distance's interval.
        cells: x, y and text of each cell.
        references: y and name of known distances.
        threshold: images of each class below which a set is small.
    """

    width: int
    height: int
    small: float
    far: float
    x: float
    y: float | None
    low: float
    high: float
    cells: tuple[tuple[float, float, str], ...]
    references: tuple[tuple[float, str], ...]
    threshold: float


@dataclass(frozen=True)
class AdviceFigures:
    """What the report shows of an advice.

    Args:
        reasons: sentences.
        notes: what puts it in doubt.
        table: with the set's place.
        curve: accuracy over images; None where there was none.
        forecasts: strategy, accuracy and interval, seconds.
        evidence: rows of a layer, its probe with interval, neighbours, LogME.
        said: what the table alone would have said.
    """

    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    table: Placed
    curve: Chart | None
    forecasts: tuple[tuple[str, str, str, str], ...]
    evidence: tuple[tuple[str, str, str, str, str], ...]
    said: str


def advice_figures(advice: Mapping[str, Any]) -> AdviceFigures:
    """What is drawn of an advice as JSON values."""
    strategy, table = advice["strategy"], advice["table"]
    cell = advice["cell"]
    said = f"The table's cell: {cell['size']}, {cell['similarity']}; it names {table}"
    said += "." if table == strategy else f", the measurements {strategy}."
    return AdviceFigures(
        tuple(advice["reasons"]),
        tuple(advice["notes"]),
        _placed(advice),
        _curve(advice),
        tuple(
            (
                one["strategy"],
                f"{one['accuracy']['value']:.3f}",
                f"{one['accuracy']['low']:.3f} to {one['accuracy']['high']:.3f}",
                f"{one['seconds']['value']:,.0f}",
            )
            for one in advice["expected"]
        ),
        tuple(
            (
                tap["tap"],
                f"{tap['accuracy']['value']:.3f}",
                f"{tap['accuracy']['low']:.3f} to {tap['accuracy']['high']:.3f}",
                f"{tap['neighbours']:.3f}",
                f"{tap['log_evidence']:.3f}",
            )
            for tap in (*advice["evidence"], *([advice["pixels"]] if advice["pixels"] else []))
        ),
        said,
    )


def _log_place(value: float, ends: tuple[float, float], length: int) -> float:
    low, high = ends
    share = math.log(min(max(value, low), high) / low) / math.log(high / low)
    return round(length * share, 1)


def _placed(advice: Mapping[str, Any]) -> Placed:
    rules = advisor_rules()
    small = _log_place(rules.small, _SIZES, _WIDTH)
    near = advice["similarity"] or {}
    far = _log_place(near.get("far", rules.far), _DISTANCES, _HEIGHT)
    size = advice["size"]
    each = size["effective"] / max(size["classes"], 1)
    distance = near.get("distance")
    ends = [
        _log_place(distance[k], _DISTANCES, _HEIGHT) if distance else 0.0 for k in ("low", "high")
    ]
    # in the upper left of each cell, away from the set's place and the known distances
    lefts = {"small": _INSET, "big": small + _INSET}
    tops = {"similar": _LINE, "not similar": far + _LINE}
    cells = tuple(
        (lefts[row], tops[column], rules.table[row, column]) for row in lefts for column in tops
    )
    return Placed(
        _WIDTH,
        _HEIGHT,
        small,
        far,
        _log_place(each, _SIZES, _WIDTH),
        _log_place(distance["value"], _DISTANCES, _HEIGHT) if distance else None,
        ends[0],
        ends[1],
        cells,
        tuple(_apart(near.get("references", ()))),
        rules.small,
    )


def _apart(references: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, str]]:
    """Places and names of those that have room for their names."""
    last = -math.inf
    for one in sorted(references, key=lambda one: one["distance"]):
        place = _log_place(one["distance"], _DISTANCES, _HEIGHT)
        if place - last >= _ROOM:
            yield place, one["name"]
            last = place


def _curve(advice: Mapping[str, Any]) -> Chart | None:
    found = advice["learning_curve"]
    if found is None:
        return None
    measured, told = found["images"], advice["expected_with_more"]
    most = max(measured)
    times = sorted((int(t), one) for t, one in told.items())
    ahead = [most] + [advice["size"]["images"] * t for t, _ in times]
    last = found["accuracy"][-1]
    values = [last] + [one["value"] for _, one in times]
    low = [last] + [one["low"] for _, one in times]
    high = [last] + [one["high"] for _, one in times]
    return line_chart(
        "Accuracy of off-the-shelf features",
        [
            Series("a probe, cross-validated", measured, found["accuracy"], dots=True),
            Series("expected, 90 % interval", ahead, values, low, high, dots=True, style=3),
        ],
        "images to learn from",
        log_x=True,
        y_range=(min(*found["accuracy"], *low), 1.0),
    )
