"""The layers of a network, probed: what a classifier makes of each, and what changed images do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tltool._progress import progress
from tltool.backbones import Backbone, TapPart
from tltool.backbones.layers import layer_table
from tltool.changes import CHANGES
from tltool.data import Example, canvas
from tltool.features import FeatureSource, checked_bytes
from tltool.linear import Problem, choose, fit_candidate, out_of_fold_scores
from tltool.linear.calibration import fit_temperature
from tltool.linear.linear_head import softmax

__all__ = ["Changed", "Layer", "Probe", "layers_of", "named", "probed", "sample_of"]

_CHAIN = ("sqrt", "l2")
_CLASSIFIER = "lda"

# Images that go through the network at a time, all of whose activations are kept for a moment; and
# how many of these, drawn by lot, stand for all of a layer's.
_AT_ONCE = 8
_MOST_ACTIVATIONS = 20_000


@dataclass(frozen=True)
class Layer:
    """A layer that is looked at.

    Args:
        name: of the tap.
        end: the Keras layer up to which it needs the network.
        pooled: what a classifier is given of it.
        placed: its activations in their places; what a classifier is given, of the last one.
    """

    name: str
    end: str
    pooled: tuple[TapPart, ...]
    placed: tuple[TapPart, ...]


def layers_of(backbone: Backbone, *, every: bool = False) -> list[Layer]:
    """The blocks up to the last layer that its features come from, and those features.

    With `every`, all named taps, from the input up: beyond that layer, too.
    """
    preset = backbone.preset
    order = [row.name for row in layer_table(preset, backbone.input_size)]
    last = max((part.layer for part in backbone.parts), key=order.index)
    own = backbone.taps[0].name if len(backbone.taps) == 1 else "head"
    if own in preset.blocks:  # which has a row of its own, with places
        own = named(backbone.parts)
    found = []
    for tap in preset.named_taps if every else preset.blocks:
        (parsed,) = backbone.tapping(tap).taps
        end = parsed.parts[-1].layer
        lacking = parsed.in_head and backbone.built_classes is None
        beyond = not every and order.index(end) > order.index(last)
        again = tap not in preset.blocks and parsed.parts == backbone.parts
        if lacking or beyond or again:
            continue
        placed = parsed.parts
        if parsed.parts[0].pooling != "flatten":
            placed = backbone.tapping(f"{tap}:flatten").parts
        found.append(Layer(tap, end, parsed.parts, placed))
    found.append(Layer(own, last, backbone.parts, backbone.parts))
    return sorted(found, key=lambda layer: order.index(layer.end))


def named(parts: Sequence[TapPart]) -> str:
    return ",".join(map(str, parts))


def sample_of(examples: Sequence[Example], images: int, seed: int) -> np.ndarray:
    """Rows of some images, as many of each class as of any other; never more than half of it.

    Of near-duplicates one.
    """
    random = np.random.default_rng(seed)
    first = {examples[i].group: int(i) for i in random.permutation(len(examples))}
    by_class: dict[str, list[int]] = {}
    for i in first.values():
        by_class.setdefault(examples[i].label, []).append(i)
    spare = [rows[: len(rows) // 2] for rows in by_class.values()]
    most = max(map(len, spare), default=0)
    turns = [rows[i] for i in range(most) for rows in spare if i < len(rows)]
    return np.sort(np.array(turns[:images], np.int64))


class Changed:
    """What layers make of images that are changed more and more.

    Args:
        source: of the backbone.
        layers: which.
        examples: the images.
        seed: of which activations stand for all, where there are very many.
    """

    def __init__(
        self,
        source: FeatureSource,
        layers: Sequence[Layer],
        examples: Sequence[Example],
        seed: int,
    ) -> None:
        parts = list(dict.fromkeys(p for x in layers for p in (*x.pooled, *x.placed)))
        self._source = source.of_backbone(source.backbone.tapping(named(parts)))
        ends = np.cumsum(self._source.widths)
        starts = ends - self._source.widths
        random = np.random.default_rng(seed)
        self._columns = {
            part: np.arange(start, end)
            if part.pooling != "flatten" or end - start <= _MOST_ACTIVATIONS
            else np.sort(random.choice(np.arange(start, end), _MOST_ACTIVATIONS, replace=False))
            for part, start, end in zip(parts, starts, ends, strict=True)
        }
        size = self._source.for_prediction().canvas_size
        self._pixels = [canvas(checked_bytes(e), size) for e in examples]
        self.images = len(examples)
        self.distances: dict[str, list[list[float]]] = {x.name: [] for x in layers}
        self.pooled_distances: dict[str, list[list[float]]] = {x.name: [] for x in layers}
        self.pooled: dict[str, list[np.ndarray]] = {x.name: [] for x in layers}
        self._measure(layers)

    def _measure(self, layers: Sequence[Layer]) -> None:
        own = self._features(self._pixels, layers)
        apart = {name: tuple(map(_mean_distance, both)) for name, both in own.items()}
        with progress("changing", sum(len(change.amounts) for change in CHANGES)) as advance:
            for change in CHANGES:
                rows = []
                for amount in change.amounts:
                    pixels = [change.apply(one, amount, i) for i, one in enumerate(self._pixels)]
                    rows.append(self._features(pixels, layers))
                    advance(1)
                for layer in layers:
                    name = layer.name
                    for i, told in enumerate((self.pooled_distances, self.distances)):
                        gone = [np.linalg.norm(row[name][i] - own[name][i], axis=1) for row in rows]
                        told[name].append([float(d.mean()) / apart[name][i] for d in gone])
                    self.pooled[name].append(np.stack([row[name][0] for row in rows]))

    def _features(
        self, pixels: Sequence[np.ndarray], layers: Sequence[Layer]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Of each layer what a classifier is given `(n, d)`, and activations in their places."""
        found: list[dict[TapPart, np.ndarray]] = []
        for first in range(0, len(pixels), _AT_ONCE):
            values = self._source.of_canvases(np.stack(pixels[first : first + _AT_ONCE]))
            found.append({part: values[:, columns] for part, columns in self._columns.items()})
        parts = {part: np.concatenate([one[part] for one in found]) for part in self._columns}
        return {
            layer.name: (
                np.hstack([parts[part] for part in layer.pooled]),
                np.hstack([parts[part] for part in layer.placed]),
            )
            for layer in layers
        }


def _mean_distance(values: np.ndarray) -> float:
    """Between different images of `(n, d)`."""
    n = len(values)
    sums = [float(np.linalg.norm(values - one, axis=1).sum()) for one in values]
    return max(sum(sums) / max(n * (n - 1), 1), 1e-12)


@dataclass(frozen=True)
class Probe:
    """Hits of a probe `(n,)`, and of each change probabilities of the right class `(amounts,)`."""

    hits: np.ndarray
    width: int
    probabilities: list[np.ndarray]


def probed(
    problem: Problem,
    folds: np.ndarray,
    sample: np.ndarray,
    others: np.ndarray,
    changed: Sequence[np.ndarray],
) -> Probe:
    """Probe a layer.

    Args:
        problem: its features of all images.
        folds: of these.
        sample: rows of those that were changed.
        others: rows that none of these is like.
        changed: its features of them, `(amounts, len(sample), d)` a change.
    """
    candidate = choose(problem, folds, (_CLASSIFIER,), (_CHAIN,), nested=False).chosen.candidate
    scores = out_of_fold_scores(problem, candidate, folds)
    hits = scores.argmax(axis=1) == problem.targets
    rest = Problem(
        problem.features[others], problem.targets[others], problem.n_classes, problem.widths
    )
    classifier = fit_candidate(rest, candidate)  # the images that are changed are not known to it
    rows, right = np.arange(len(sample)), problem.targets[sample]
    temperature = fit_temperature(scores, problem.targets, problem.row_weights)
    said = [[softmax(classifier.scores(one) / temperature) for one in part] for part in changed]
    probabilities = [np.array([p[rows, right].mean() for p in part]) for part in said]
    return Probe(hits, problem.features.shape[1], probabilities)
