"""What a classifier says of an image with parts of it covered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["GREY", "OcclusionMap", "batch_of", "default_patch", "occlusion_map"]

GREY = 127
"""What covers a part: the middle of 0 to 255."""

Classifier = Callable[[np.ndarray], np.ndarray]
"""From canvases `(n, height, width, 3)`, uint8, to probabilities `(n, k)`."""

# Images at a time, and pixels: 32 images of Inception's size.
_BATCH = 32
_BATCH_PIXELS = 32 * 299 * 299

# Side of a patch and distance between patches, as parts of the canvas: 32 and 8 pixels of 224.
_PATCHES_A_SIDE = 7
_PLACES_A_SIDE = 28

# Between places that change the probability by less, those in between are interpolated.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class OcclusionMap:
    """The probability of a class, wherever a square covers the image.

    Args:
        probability: of the whole image.
        covered: `(rows, columns)`, of the image with a square around each place.
        asked: how many images the classifier was shown.
        patch: side of the square in pixels of the canvas.
        stride: pixels between places, at most: they are spread evenly.
    """

    probability: float
    covered: np.ndarray
    asked: int
    patch: int
    stride: int

    @property
    def drop(self) -> np.ndarray:
        """What covering a place takes off the probability, `(rows, columns)`, -1 to 1."""
        return self.probability - self.covered


def default_patch(size: tuple[int, int]) -> tuple[int, int]:
    """Side of the square and distance between squares, in pixels of a canvas of that size."""
    side = min(size)
    return max(3, round(side / _PATCHES_A_SIDE)), max(1, round(side / _PLACES_A_SIDE))


def batch_of(size: tuple[int, int], views: int = 1) -> int:
    """How many canvases of a size a classifier is shown at a time."""
    return max(1, min(_BATCH, _BATCH_PIXELS // (size[0] * size[1])) // views)


def occlusion_map(
    classifier: Classifier,
    canvas: np.ndarray,
    target: int,
    *,
    patch: int = 0,
    stride: int = 0,
    batch: int = 0,
    tolerance: float = _TOLERANCE,
    refine: bool = True,
) -> OcclusionMap:
    """Slide a grey square over an image, coarsely first, then finely where that changes something.

    The first squares lie side by side, so that every part of the image is covered once. Between
    places that all change the probability by less than `tolerance` the others are interpolated.

    Args:
        classifier: from canvases `(n, height, width, 3)`, uint8, to probabilities `(n, k)`.
        canvas: the image, `(height, width, 3)`, uint8.
        target: number of the class.
        patch: side of the square in pixels; 0 for a seventh of the canvas.
        stride: pixels between places in the end, at most; 0 for a 28th.
        batch: images at a time; 0 for 32 of usual size.
        tolerance: 0 asks the classifier about every place.
        refine: go beyond the first, coarse places.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014,
    https://doi.org/10.1007/978-3-319-10590-1_53
    """
    size = canvas.shape[:2]
    usual = default_patch(size)
    patch, stride = patch or usual[0], stride or usual[1]
    rows, columns = (-(-side // stride) for side in size)
    apart = size[0] / rows, size[1] / columns
    ask = _Asked(classifier, canvas, target, patch, apart, batch or batch_of(size))
    step = 1
    while 2 * step * stride <= patch and 2 * step < max(rows, columns):
        step *= 2
    probability = float(classifier(canvas[None])[0, target])
    lattice = _lattice(rows, step), _lattice(columns, step)
    values = ask.at([(r, c) for r in lattice[0] for c in lattice[1]])
    values = values.reshape(len(lattice[0]), len(lattice[1]))
    while refine and step > 1:
        step //= 2
        finer = _lattice(rows, step), _lattice(columns, step)
        values = _refined(values, lattice, finer, ask, probability, tolerance)
        lattice = finer
    whole = np.arange(rows), np.arange(columns)
    covered = _interpolated(values, lattice, whole)
    return OcclusionMap(probability, covered, ask.count + 1, patch, stride)


class _Asked:
    """A classifier that is asked about covered copies of one image.

    The copies stay where they are from batch to batch; only what is covered is painted and put
    back, so that the classifier is nearly all that takes time.
    """

    def __init__(
        self,
        classifier: Classifier,
        canvas: np.ndarray,
        target: int,
        patch: int,
        apart: tuple[float, float],
        batch: int,
    ) -> None:
        self._classifier, self._canvas, self._target = classifier, canvas, target
        self._patch, self._apart = patch, apart
        self._copies = np.repeat(canvas[None], batch, axis=0)
        self.count = 0

    def at(self, places: list[tuple[int, int]]) -> np.ndarray:
        """Probabilities `(n,)` with a square around each place."""
        found = []
        for start in range(0, len(places), len(self._copies)):
            part = [self._window(place) for place in places[start : start + len(self._copies)]]
            for copy, window in zip(self._copies, part, strict=False):
                copy[window] = GREY
            said = self._classifier(self._copies[: len(part)])
            found.append(np.array(said[:, self._target]))
            for copy, window in zip(self._copies, part, strict=False):
                copy[window] = self._canvas[window]
            self.count += len(part)
        return np.concatenate(found)

    def _window(self, place: tuple[int, int]) -> tuple[slice, slice]:
        centres = ((i + 0.5) * apart for i, apart in zip(place, self._apart, strict=True))
        starts = [round(centre - self._patch / 2 + 1e-9) for centre in centres]
        down, right = (slice(max(0, start), max(1, start + self._patch)) for start in starts)
        return down, right


def _lattice(n: int, step: int) -> np.ndarray:
    """Every `step`-th of n numbers, and the last one."""
    return np.unique([*range(0, n, step), n - 1])


def _refined(
    values: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    wanted: tuple[np.ndarray, np.ndarray],
    ask: _Asked,
    probability: float,
    tolerance: float,
) -> np.ndarray:
    """Values on a finer lattice: asked for where covering changes something, else interpolated."""
    finer = _interpolated(values, known, wanted)
    below, above = zip(
        *(_neighbours(k, w) for k, w in zip(known, wanted, strict=True)), strict=True
    )
    corners = np.stack(
        [values[np.ix_(r, c)] for r in (below[0], above[0]) for c in (below[1], above[1])]
    )
    old = np.isin(wanted[0], known[0])[:, None] & np.isin(wanted[1], known[1])[None]
    open_ = ~old & (np.abs(corners - probability).max(axis=0) >= tolerance)
    places = [(int(wanted[0][r]), int(wanted[1][c])) for r, c in np.argwhere(open_)]
    if places:
        finer[open_] = ask.at(places)
    return finer


def _neighbours(known: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the known numbers around each wanted one."""
    below = np.searchsorted(known, wanted, side="right") - 1
    above = np.searchsorted(known, wanted, side="left")
    return below, above


def _interpolated(
    values: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    wanted: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Between known rows and columns, linearly."""
    down = np.stack([np.interp(wanted[0], known[0], column) for column in values.T], axis=1)
    return np.stack([np.interp(wanted[1], known[1], row) for row in down])
