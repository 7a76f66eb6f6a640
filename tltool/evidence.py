"""What is measured of a data set and a backbone before any training: from stored features alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tltool._presets import advisor_rules, backbone_preset, views_for
from tltool._validation import TltoolError
from tltool.advice import Evidence, Similarity, Size, TapEvidence
from tltool.backbones import Backbone
from tltool.backbones.kept import with_source_classes
from tltool.data import Dataset, Example
from tltool.domain import measured_distance
from tltool.features import FeatureSource
from tltool.learning_curve import LearningCurve, fit_curve
from tltool.linear import Problem
from tltool.linear.linear_head import softmax
from tltool.linear.probing import Probe, probe
from tltool.metrics import Interval, wilson_interval
from tltool.strategies.folds import stratified_folds
from tltool.transferability import h_score, leep, log_evidence, nce, nearest_neighbours

__all__ = ["TooFewImagesError", "measure_evidence", "probed_taps", "source_of"]

# Blocks whose features are looked at besides the backbone's own tap, at most.
_BLOCKS = 4

_FOLDS = 5

# Cross-validation is repeated until so many images have been held out, at most so often: chance
# decides more where they are few.
_HELD_OUT = 300
_MOST_ROUNDS = 8

_CHAINS = (("standardise",), ("sqrt", "l2"))

# Shares of the images that the learning curve is drawn through, and the fewest images of a class.
_SHARES = (0.125, 0.25, 0.5, 1.0)
_FEWEST_OF_CLASS = 2

# What a network is given, as averages over an 8x8 grid: what can be told without any network.
_PIXELS = "preprocessing:grid8"

# Images that the network is timed on, and how often.
_TIMED = 16
_TIMES = 3


class TooFewImagesError(TltoolError):
    """Nothing can be told of so few images."""


def measure_evidence(source: FeatureSource, dataset: Dataset, *, seed: int) -> Evidence:
    """Measure all that the advice follows from; no test image is looked at.

    Args:
        source: of the backbone; features are those of one view.
        dataset: checked and split.
        seed: of the folds and resamples.

    Raises:
        TooFewImagesError: fewer than two classes, or none with two images.
    """
    examples = dataset.of("train", "val")
    source = source.showing(views_for("1", source.backbone.input_size))
    folds = stratified_folds(examples, _FOLDS, seed) if examples else None
    of_class = Counter(label for label, _ in {(e.label, e.group) for e in examples})
    if folds is None or sum(n >= 2 for n in of_class.values()) < 2:
        raise TooFewImagesError(
            "Advice needs at least two classes of two images each to learn from, near-duplicates "
            "counted once; give more images."
        )
    rounds = min(_MOST_ROUNDS, -(-_HELD_OUT // len(examples)))
    all_folds = [folds]
    for more in range(1, rounds):
        again = stratified_folds(examples, _FOLDS, seed + more)
        all_folds += [] if again is None else [again]
    backbone = source.backbone
    blocks = probed_taps(backbone)
    head = with_source_classes(source.backbone)
    names = dict.fromkeys([*(tap.name for tap in backbone.taps), *blocks, _PIXELS])
    everything = (backbone if head is None else head).tapping(
        ",".join([*names, *(() if head is None else ("logits",))])
    )
    source.of_backbone(everything).extract(examples)  # in one pass
    targets = dataset.targets(examples)
    classes = len(dataset.labels)
    told = None
    if head is not None:
        told = softmax(source.of_backbone(head.tapping("logits")).features(examples).values)
    groups = _numbers([e.group for e in examples])
    own = source.features(examples)
    problem = Problem(own.values, targets, classes, own.widths)
    found = {chain: probe(problem, all_folds, chain) for chain in _CHAINS}
    chain = min(found, key=lambda one: float(found[one].losses[-1].mean()))
    name = ", ".join(tap.name for tap in backbone.taps)
    taps = [_tap_evidence(name, problem, found[chain], groups, told)]

    def problem_of(tap: str) -> Problem:
        features = source.of_backbone(backbone.tapping(tap)).features(examples)
        return Problem(features.values, targets, classes, features.widths)

    for block in blocks:
        if backbone.tapping(block).parts != backbone.parts:
            part = problem_of(block)
            taps.append(_tap_evidence(block, part, probe(part, all_folds[:1], chain), groups, told))
    pixels = problem_of(_PIXELS)
    of_pixels = probe(pixels, all_folds, ("standardise",))
    return Evidence(
        backbone.preset.name,
        _size(examples, classes),
        _similarity(source, examples),
        tuple(taps),
        _curve(problem, all_folds, chain, seed, found[chain], groups),
        _seconds_an_image(source),
        _seconds_an_image(source.of_backbone(Backbone(_scratch_backbone()))),
        _multiply_adds(backbone),
        views_for("auto", backbone.input_size).count,
        _tap_evidence("pixels", pixels, of_pixels, groups, None),
    )


def _multiply_adds(backbone: Backbone) -> float:
    """Of an image through the network: they grow with its pixels."""
    (height, width), (usual, across) = backbone.input_size, backbone.preset.input_size
    return backbone.preset.multiply_adds * height * width / (usual * across)


def probed_taps(backbone: Backbone) -> list[str]:
    """Blocks whose features are looked at: the last one, and others spread evenly below it."""
    blocks = list(backbone.preset.blocks)
    places = np.linspace(len(blocks) - 1, 0, _BLOCKS + 1)[:-1].round().astype(int)
    return [blocks[i] for i in sorted(set(places.tolist()), reverse=True)]


def _scratch_backbone() -> str:
    return advisor_rules().backbones["from-scratch"]


def _size(examples: Sequence[Example], classes: int) -> Size:
    counts = Counter(e.label for e in examples)
    groups = {(e.label, e.group) for e in examples}
    smallest = min(counts.values()) if len(counts) == classes else 0
    return Size(len(examples), classes, smallest, len(groups))


def _similarity(source: FeatureSource, examples: Sequence[Example]) -> Similarity | None:
    found = measured_distance(source, examples)
    if found is None:
        return None
    distance = Interval(found.value, found.low, found.high)
    return Similarity(distance, found.by_block, found.backbone, source_of(found.backbone))


def source_of(backbone: str) -> str:
    """What a network was trained on, of those that the advisor has a scale for."""
    trained_on = backbone_preset(backbone).accuracy.on
    return next((s for s in advisor_rules().sources if trained_on.startswith(s)), "ImageNet")


def _tap_evidence(
    name: str, problem: Problem, found: Probe, groups: np.ndarray, told: np.ndarray | None
) -> TapEvidence:
    features, targets = problem.features, problem.targets
    n = len(np.unique(groups))  # near-duplicates tell the same
    right = float(found.hits[-1].mean())
    low, high = wilson_interval(round(right * n), n)
    return TapEvidence(
        name,
        Interval(right, min(low, right), max(high, right)),
        float(nearest_neighbours(features, targets, groups).mean()),
        log_evidence(features, targets, problem.n_classes),
        h_score(features, targets),
        None if told is None else leep(told, targets),
        None if told is None else nce(told.argmax(axis=1), targets),
    )


def _curve(
    problem: Problem,
    rounds: Sequence[np.ndarray],
    chain: tuple[str, ...],
    seed: int,
    complete: Probe,
    groups: np.ndarray,
) -> LearningCurve | None:
    """What more images would bring, after a probe with all; None with too few for three sizes."""
    k = len(np.unique(problem.targets))
    of_class = len(problem.targets) * (1 - 1 / (rounds[0].max() + 1)) / k
    shares = [share for share in _SHARES if share * of_class >= _FEWEST_OF_CLASS]
    if len(shares) < 3:
        whole = round(of_class)
        shares = [n / whole for n in range(_FEWEST_OF_CLASS, whole + 1)]
    if len(shares) < 3:
        return None
    parts = probe(problem, rounds, chain, shares[:-1], seed)
    sizes = np.concatenate([parts.sizes, complete.sizes])
    hits = np.concatenate([parts.hits, complete.hits])
    return fit_curve(sizes, hits, seed, advisor_rules().curve_widening, groups)


def _numbers(groups: Sequence[bytes]) -> np.ndarray:
    """The same number for the same group."""
    number: dict[bytes, int] = {}
    return np.array([number.setdefault(group, len(number)) for group in groups])


def _seconds_an_image(source: FeatureSource) -> float:
    """What one image takes through the network, the quickest of some tries."""
    height, width = source.canvas_size
    pixels = np.zeros((_TIMED, height, width, 3), np.uint8)
    source.of_canvases(pixels)
    taken = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        source.of_canvases(pixels)
        taken.append(time.perf_counter() - started)
    return min(taken) / _TIMED
