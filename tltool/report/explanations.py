"""Maps over images, and what tests told of them, as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tltool.report.charts import Chart, Series, line_chart
from tltool.report.pages import render_page
from tltool.report.thumbnails import data_address

__all__ = ["ExplainedImage", "ExplainedMap", "render_explanations"]


@dataclass(frozen=True)
class ExplainedMap:
    """A map over its image.

    Args:
        kind: of map.
        over: the image with the map over it.
        drop: of an occlusion map, the most that was taken off the probability.
    """

    kind: str
    over: Image.Image
    drop: float | None = None


@dataclass(frozen=True)
class ExplainedImage:
    """An image and its maps.

    Args:
        name: of its file.
        picture: itself.
        top: likeliest classes and their probabilities.
        label: the class that maps are of.
        probability: of that class.
        maps: over it.
        curves: by kind of map, and "random", deletion and insertion curves; empty where they were
            not drawn.
    """

    name: str
    picture: Image.Image
    top: Sequence[tuple[str, float]]
    label: str
    probability: float
    maps: Sequence[ExplainedMap]
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def render_explanations(
    title: str,
    images: Sequence[ExplainedImage],
    checks: Sequence[tuple[str, Sequence[str], Sequence[float | None]]],
    square: tuple[int, int],
    more: int = 0,
    tried: int = 0,
    verdicts: Sequence[str] = (),
) -> str:
    """The page.

    Args:
        title: above it.
        images: one by one.
        checks: of each kind of map, the layers shuffled and how like itself it stayed.
        square: side and stride of the one that covered, in pixels.
        more: images whose maps are files beside the page.
        tried: images that the checks were made on.
        verdicts: sentences on how maps did against random orders.
    """
    shown = [
        {
            "image": one,
            "picture": data_address(one.picture),
            "maps": [(m, data_address(m.over)) for m in one.maps],
            "charts": _charts(one),
            "areas": _areas(one),
        }
        for one in images
    ]
    chart = None
    if checks:
        series = []
        for kind, _, likeness in checks:
            known = [(i, v) for i, v in enumerate((1.0, *likeness)) if v is not None]
            series.append(Series(kind, [i for i, _ in known], [v for _, v in known], dots=True))
        names = ["as learned", *checks[0][1]]
        chart = line_chart(
            "Likeness of maps to those of the network as it learned",
            series,
            "shuffled from the top down to this layer",
            y_range=(-1.0, 1.0),
            names=names,
        )
    return render_page(
        "explanations.html.j2",
        title=title,
        images=shown,
        checks=checks,
        chart=chart,
        square=square,
        more=more,
        tried=tried,
        verdicts=verdicts,
    )


def _charts(one: ExplainedImage) -> list[Chart]:
    if not one.curves:
        return []
    charts = []
    for place, title in enumerate(
        ("Covered, most important first", "Put in, most important first")
    ):
        series = []
        for name, curves in one.curves.items():
            values = curves[place]
            shares = np.linspace(0, 100, len(values))
            style = 3 if name == "random" else None
            series.append(Series(name, shares.tolist(), values.tolist(), style=style))
        charts.append(line_chart(title, series, "% of the image", y_range=(0.0, 1.0)))
    return charts


def _areas(one: ExplainedImage) -> list[tuple[str, ...]]:
    """Of each map, areas under both curves."""
    return [
        (name, *(f"{np.trapezoid(curve) / (len(curve) - 1):.3f}" for curve in curves))
        for name, curves in one.curves.items()
    ]
