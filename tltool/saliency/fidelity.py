"""Whether a map is right about what matters: the classifier is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from tltool.saliency.occlusion import GREY, Classifier, batch_of

__all__ = ["Fidelity", "fidelity", "rank_correlation", "shuffled"]

_CELLS = 14
_STEPS = 20

# Random orders, and the places of each, between which it is smooth.
_RANDOM, _COARSE = 4, 5


@dataclass(frozen=True)
class Fidelity:
    """What becomes of a class's probability as parts of the image go, or come.

    Args:
        deletion: `(steps + 1,)`, with the parts that a map ranks highest covered in grey first.
        insertion: `(steps + 1,)`, with the same parts put into a blurred image first.
    """

    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> float:
        """Below the curve, 0 to 1: the lower, the sooner what matters was gone."""
        return _area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Below the curve, 0 to 1: the higher, the sooner what matters was there."""
        return _area(self.insertion)


def _area(curve: np.ndarray) -> float:
    return float(np.trapezoid(curve) / (len(curve) - 1))


def fidelity(
    classifier: Classifier,
    canvas: np.ndarray,
    maps: Mapping[str, np.ndarray],
    target: int,
    *,
    seed: int = 0,
    batch: int = 0,
) -> dict[str, Fidelity]:
    """Deletion and insertion curves of maps, and of parts in random order.

    The image is taken apart into 14 by 14 cells. Random orders are as smooth as maps are: cells
    scattered all over are a strange sight by themselves, which lowers a probability whatever they
    cover, and a map would be set against that rather than against chance.

    Args:
        classifier: from canvases `(n, height, width, 3)`, uint8, to probabilities `(n, k)`.
        canvas: the image, `(height, width, 3)`, uint8.
        maps: by name, each `(rows, columns)` of any size.
        target: number of the class.
        seed: of the random orders.
        batch: images at a time; 0 for 32 of usual size.

    Returns:
        By name of the map; "random" is the mean of some random orders.

    Source: Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box
    Models", 2018, https://arxiv.org/abs/1806.07421
    """
    height, width = canvas.shape[:2]
    cells = min(_CELLS, height, width)
    random = np.random.default_rng(seed)
    ranks = {name: _cells_of(one, cells) for name, one in maps.items()}
    ranks |= {
        f"random {i}": _cells_of(random.random((_COARSE, _COARSE)), cells) for i in range(_RANDOM)
    }
    cell_of = (np.arange(height) * cells // height)[:, None] * cells + np.arange(
        width
    ) * cells // width
    grey = np.full_like(canvas, GREY)
    radius = max(height, width) / 16
    blurred = np.asarray(Image.fromarray(canvas).filter(ImageFilter.GaussianBlur(radius)))
    steps = min(_STEPS, cells * cells)
    marks = np.linspace(0, cells * cells, steps + 1).round().astype(int)
    pictures: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for values in ranks.values():
        place = np.empty(cells * cells, np.int64)
        place[np.argsort(-values.ravel(), kind="stable")] = np.arange(cells * cells)
        order = place[cell_of]
        for start, end in ((canvas, grey), (blurred, canvas)):
            pictures += [(order < mark, start, end) for mark in marks]
    said = np.empty(len(pictures))
    at_once = batch or batch_of((height, width))
    for first in range(0, len(pictures), at_once):
        part = pictures[first : first + at_once]
        shown = np.stack([np.where(gone[..., None], end, start) for gone, start, end in part])
        said[first : first + len(part)] = classifier(shown)[:, target]
    curves = said.reshape(len(ranks), 2, len(marks))
    found = {name: Fidelity(*curves[i]) for i, name in enumerate(maps)}
    deletion, insertion = curves[len(maps) :].mean(axis=0)
    return found | {"random": Fidelity(deletion, insertion)}


def _cells_of(one: np.ndarray, cells: int) -> np.ndarray:
    """Means of a map over cells; of one with fewer places, what is between them."""
    image = Image.fromarray(np.asarray(one, np.float32))
    return np.asarray(image.resize((cells, cells), Image.Resampling.BILINEAR))


def shuffled(
    layers: Sequence[Any], draw: Callable[[], np.ndarray], *, seed: int = 0, stages: int = 8
) -> list[tuple[str, float]]:
    """How like itself a map stays while the network's weights are shuffled, from the top down.

    Each layer's kernel is shuffled in turn and stays so; maps are drawn after every one, or after
    `stages` of them spread evenly where there are more. The weights are put back in the end.

    Args:
        layers: of the network, those with kernels, the last one first.
        draw: draws the map, `(rows, columns)`.
        seed: of the shuffling.
        stages: how often it is drawn at most.

    Returns:
        The name of the last layer shuffled, and the rank correlation of the map with the first
        one, -1 to 1: a map that does not change says nothing of what was learned. Not a number
        where a map is blank: that tells nothing either way.

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", 2018,
    https://arxiv.org/abs/1810.03292
    """
    first = draw()
    random = np.random.default_rng(seed)
    last = len(layers) - 1
    drawn_after = set(np.linspace(0, last, min(stages, len(layers))).round().astype(int).tolist())
    kept = [layer.get_weights() for layer in layers]
    found = []
    try:
        for i, layer in enumerate(layers):
            layer.set_weights([_permuted(w, random) for w in kept[i]])
            if i in drawn_after:
                found.append((layer.name, rank_correlation(first, draw())))
    finally:
        for layer, weights in zip(layers, kept, strict=True):
            layer.set_weights(weights)
    return found


def _permuted(weights: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same numbers in another order; biases stay."""
    if weights.ndim < 2:
        return weights
    return random.permutation(weights.ravel()).reshape(weights.shape)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of two maps of one size; not a number where one is the same everywhere."""
    from scipy.stats import rankdata

    ranks = [rankdata(np.nan_to_num(m)) for m in (one, other)]
    if any(np.ptp(r) == 0 for r in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
