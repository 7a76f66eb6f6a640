"""The page of a map: images where their features put them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tltool.report.pages import render_page
from tltool.report.sprites import Sprites

__all__ = ["MapContent", "MapImage", "map_page"]

# Rows of a list in words; the map marks all.
_MOST_LISTED = 500

# Decimals of a place on the map, whose longer side is 1: a tenth of a pixel at tenfold zoom.
_DECIMALS = 5


@dataclass(frozen=True)
class MapImage:
    """What is known of an image.

    Args:
        file: its printable name.
        label: the class that it is labelled with.
        split: "train", "val", "test" or "".
        predicted: the class that was predicted by what was not fitted on it, "" where none was.
        mistake: it is a test image and was named wrong.
        suggested: the class that it seems to be of where its label is doubted, else "".
        margin: what its label is less probable by than that, 0 to 1.
    """

    file: str
    label: str
    split: str = ""
    predicted: str = ""
    mistake: bool = False
    suggested: str = ""
    margin: float = 0.0


@dataclass(frozen=True)
class MapContent:
    """What a map shows.

    Args:
        title: of the page.
        notes: what is to be known of it, a sentence each.
        labels: the classes in their order.
        images: all of them.
        points: where each is, `(n, 2)`.
        neighbours: row numbers of those nearest to each, `(n, k)`.
        sprites: a thumbnail of each.
    """

    title: str
    notes: Sequence[str]
    labels: Sequence[str]
    images: Sequence[MapImage]
    points: np.ndarray
    neighbours: np.ndarray
    sprites: Sprites


def map_page(content: MapContent) -> str:
    """One HTML page that fetches nothing.

    Args:
        content: what it shows.
    """
    mistakes = [i for i, image in enumerate(content.images) if image.mistake]
    doubted = [i for i, image in enumerate(content.images) if image.suggested]
    doubted.sort(key=lambda i: (-content.images[i].margin, i))
    return render_page(
        "map.html.j2",
        title=content.title,
        notes=content.notes,
        images=content.images,
        classes=_classes(content),
        mistakes=mistakes,
        doubted=doubted,
        most=_MOST_LISTED,
        data=_data(content),
    )


def _classes(content: MapContent) -> list[tuple[str, int, int, int]]:
    """Of each class its name, its images, mistakes among them, and doubted labels."""
    images = Counter(image.label for image in content.images)
    mistakes = Counter(image.label for image in content.images if image.mistake)
    doubted = Counter(image.label for image in content.images if image.suggested)
    return [(name, images[name], mistakes[name], doubted[name]) for name in content.labels]


def _data(content: MapContent) -> dict[str, Any]:
    """What the script draws; classes by number, -1 for none."""
    number = {"": -1} | {label: i for i, label in enumerate(content.labels)}
    images = content.images
    return {
        "labels": list(content.labels),
        "files": [image.file for image in images],
        "label": [number[image.label] for image in images],
        "split": [image.split for image in images],
        "predicted": [number[image.predicted] for image in images],
        "mistake": [int(image.mistake) for image in images],
        "suggested": [number[image.suggested] for image in images],
        "points": _in_unit_square(content.points).tolist(),
        "neighbours": content.neighbours.tolist(),
        "missing": sorted(content.sprites.missing),
        "sprites": content.sprites.as_json(),
    }


def _in_unit_square(points: np.ndarray) -> np.ndarray:
    """The same picture with its least coordinates at 0 and its longer side 1, float64."""
    moved = points.astype(np.float64) - points.min(axis=0)
    return np.round(moved / (float(moved.max()) or 1.0), _DECIMALS)
