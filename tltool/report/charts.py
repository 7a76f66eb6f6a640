"""Lines over numbers, as what a template draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

__all__ = ["HEIGHT", "WIDTH", "Chart", "Line", "Series", "line_chart"]

# Of the area that lines are drawn in, in pixels; margins are the template's.
WIDTH, HEIGHT = 400, 200

# Width of a letter below the axis, and how many of a name are shown there.
_LETTER, _LONGEST = 7.0, 14

_TICKS = 5


@dataclass(frozen=True)
class Series:
    """Numbers that belong together.

    Args:
        name: what they are of.
        xs: where.
        ys: as many values.
        low, high: ends of their intervals, if they have any.
        dots: whether each is marked, too.
        style: number of its colour; by default its place among the series.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = False
    style: int | None = None


@dataclass(frozen=True)
class Line:
    """One series as it is drawn.

    Args:
        name: what it is of.
        style: number of its colour.
        points: of an SVG polyline.
        band: points of an SVG polygon; empty for none.
        dots: x, y and what is said of each.
    """

    name: str
    style: int
    points: str
    band: str = ""
    dots: tuple[tuple[float, float, str], ...] = ()


@dataclass(frozen=True)
class Chart:
    """Lines, and what stands at the axes.

    Args:
        title: what is drawn.
        lines: one a series.
        x_title: what goes across.
        y_marks: heights in pixels and what is written there.
        x_marks: places in pixels and what is written there.
        mark: where something is to be seen, in pixels across; None for nothing.
        description: the same in words, for those who cannot see it.
    """

    title: str
    lines: tuple[Line, ...]
    x_title: str
    y_marks: tuple[tuple[float, str], ...]
    x_marks: tuple[tuple[float, str], ...]
    mark: float | None = None
    description: str = ""
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)


def line_chart(
    title: str,
    series: Sequence[Series],
    x_title: str,
    *,
    y_range: tuple[float, float] | None = None,
    names: Sequence[str] = (),
    log_x: bool = False,
    mark: float | None = None,
) -> Chart:
    """A chart of some series.

    Args:
        title: what is drawn.
        series: the numbers; what is not finite is left out, and so is one without any.
        x_title: what goes across.
        y_range: lowest and highest value; None for those of the numbers. Where they are equal, 0 is
            the other end.
        names: what is written below the numbers 0, 1, 2 ... instead of these.
        log_x: whether equal ratios are equally far apart.
        mark: a number across where something is to be seen.
    """
    shown = [s for s in map(_finite, series) if s.xs]
    xs = [x for s in shown for x in s.xs]
    values = [v for s in shown for part in (s.ys, s.low, s.high) for v in part]
    low, high = y_range or (min(values, default=0.0), max(values, default=0.0))
    if not high > low:
        low, high = min(low, 0.0), max(high, 0.0) or 1.0
    first, last = min(xs, default=0.0), max(xs, default=0.0)

    def scaled(x: float) -> float:
        return math.log(x) if log_x else x

    extent = scaled(last) - scaled(first) or 1.0

    def across(x: float) -> float:
        return round(WIDTH * (scaled(x) - scaled(first)) / extent, 1)

    def down(y: float) -> float:
        return round(HEIGHT * (high - min(max(y, low), high)) / (high - low), 1)

    lines = []
    for number, s in enumerate(shown):
        places = [(across(x), down(y)) for x, y in zip(s.xs, s.ys, strict=True)]
        ends = [
            *((across(x), down(y)) for x, y in zip(s.xs, s.high, strict=False)),
            *((across(x), down(y)) for x, y in reversed([*zip(s.xs, s.low, strict=False)])),
        ]
        said = (f"{s.name}: {y:.3g} at {_word(x, names)}" for x, y in zip(s.xs, s.ys, strict=True))
        dots = tuple((*place, text) for place, text in zip(places, said, strict=True))
        style = number if s.style is None else s.style
        lines.append(
            Line(s.name, style % 8, _points(places), _points(ends), dots if s.dots else ())
        )
    if names:
        widest = _LETTER * (min(max(map(len, names)), _LONGEST) + 1)
        every = max(1, math.ceil(widest * max(len(names) - 1, 1) / WIDTH))
        x_marks = [(across(i), name) for i, name in enumerate(names) if i % every == 0]
    elif log_x:
        x_marks = [(across(x), f"{x:,.0f}") for x in sorted({first, (first * last) ** 0.5, last})]
    else:
        x_marks = [(across(x), f"{x:g}") for x in _ticks(first, last)]
    y_marks = [(down(y), f"{y:g}") for y in _ticks(low, high)]
    told = "; ".join(
        f"{s.name} from {s.ys[0]:.3g} at {_word(s.xs[0], names)} to {s.ys[-1]:.3g} at "
        f"{_word(s.xs[-1], names)}"
        for s in shown
    )
    return Chart(
        title,
        tuple(lines),
        x_title,
        tuple(y_marks),
        tuple(x_marks),
        None if mark is None else across(mark),
        f"{title} by {x_title}: {told}.",
    )


def _finite(series: Series) -> Series:
    """The points of which all is finite."""
    columns = [c for c in (series.xs, series.ys, series.low, series.high) if len(c)]
    rows = [row for row in zip(*columns, strict=True) if all(map(math.isfinite, row))]
    xs, ys, *ends = zip(*rows, strict=True) if rows else ((), ())
    low, high = ends or ((), ())
    return replace(series, xs=xs, ys=ys, low=low, high=high)


def _word(x: float, names: Sequence[str]) -> str:
    return names[int(x)] if names else f"{x:g}"


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in places)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others, about five; of one number this alone."""
    if high == low:
        return [low]
    rough = (high - low) / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-6)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-6) + 1)]
