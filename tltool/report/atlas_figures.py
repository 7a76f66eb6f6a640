"""An atlas of layers as it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tltool.report.charts import Chart, Series, line_chart
from tltool.report.pages import render_page

__all__ = ["AtlasFigures", "atlas_figures", "render_atlas"]

_MOST_LINES = 5


@dataclass(frozen=True)
class AtlasFigures:
    """What is shown of an atlas.

    Args:
        said: sentences.
        accuracy: of probes by layer, with interval, and invariance beside it.
        rows: of a table: layer, features, accuracy, interval, behind, parameters, multiply-adds,
            invariance in places and averaged, robustness, probabilities of the right class.
        distances, probabilities: a chart a change.
        changed: how many images were.
        images: that probes were judged by.
    """

    said: tuple[str, ...]
    accuracy: Chart
    invariance: Chart
    rows: tuple[tuple[str, ...], ...]
    distances: tuple[Chart, ...]
    probabilities: tuple[Chart, ...]
    changed: int
    images: int


def atlas_figures(atlas: Mapping[str, Any]) -> AtlasFigures:
    """What is drawn of an atlas as JSON values."""
    layers = atlas["layers"]
    names = [layer["tap"] for layer in layers]
    places = list(range(len(layers)))
    accuracy = line_chart(
        "Accuracy of a linear probe",
        [
            Series(
                "accuracy, 95 % interval",
                places,
                [layer["accuracy"]["value"] for layer in layers],
                [layer["accuracy"]["low"] for layer in layers],
                [layer["accuracy"]["high"] for layer in layers],
                dots=True,
            )
        ],
        "layer, from the input up",
        names=names,
        mark=names.index(atlas["best"]),
    )
    invariance = line_chart(
        "How alike activations stay",
        [
            Series("moved, in places", places, [x["invariance"] for x in layers], dots=True),
            Series("moved, averaged", places, [x["pooled_invariance"] for x in layers], dots=True),
            Series("spoiled, in places", places, [x["robustness"] for x in layers], dots=True),
        ],
        "layer, from the input up",
        names=names,
    )
    rows = tuple(
        (
            layer["tap"],
            f"{layer['features']:,}",
            f"{layer['accuracy']['value']:.3f}",
            f"{layer['accuracy']['low']:.3f} to {layer['accuracy']['high']:.3f}",
            f"{layer['behind']:.3f}{'' if layer['as_good'] else ' *'}",
            f"{layer['parameters']:.0%}",
            f"{layer['multiply_adds']:.0%}",
            f"{layer['invariance']:.3f}",
            f"{layer['pooled_invariance']:.3f}",
            f"{layer['robustness']:.3f}",
            f"{layer['moved']:.3f}",
            f"{layer['spoiled']:.3f}",
        )
        for layer in layers
    )
    shown = _spread(names)
    return AtlasFigures(
        tuple(atlas["in_words"]),
        accuracy,
        invariance,
        rows,
        _charts(atlas["changes"], "distance", shown),
        _charts(atlas["changes"], "probability", shown),
        atlas["changed"],
        atlas["images"],
    )


def _spread(names: Sequence[str]) -> list[str]:
    """Some of the layers, evenly, the first and the last among them."""
    last = len(names) - 1
    places = {round(i * last / (_MOST_LINES - 1)) for i in range(_MOST_LINES)}
    return [names[i] for i in sorted(places)]


def _charts(
    changes: Sequence[Mapping[str, Any]], what: str, shown: Sequence[str]
) -> tuple[Chart, ...]:
    return tuple(
        line_chart(
            change["name"],
            [Series(tap, change["amounts"], change[what][tap]) for tap in shown],
            change["unit"],
            y_range=(0.0, max(1.0, *(v for tap in shown for v in change[what][tap]))),
        )
        for change in changes
    )


def render_atlas(atlas: Mapping[str, Any]) -> str:
    """A page of its own."""
    return render_page(
        "atlas.html.j2",
        title=f"The layers of {atlas['backbone']} on {atlas['images']:,} images",
        atlas=atlas_figures(atlas),
    )
