"""What each layer of a network knows of some images, and what it overlooks when they change."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tltool._files import printable, write_atomically
from tltool._progress import progress
from tltool._validation import TltoolError, check_int, storage_error
from tltool.backbones import Backbone, TapPart
from tltool.backbones.kept import with_source_classes
from tltool.backbones.layers import layer_table
from tltool.changes import CHANGES
from tltool.data import Dataset, Example, canvas, check_listing, split_dataset
from tltool.features import FeatureSource, FeatureStore, checked_bytes
from tltool.linear import Problem, choose, fit_candidate, out_of_fold_scores
from tltool.linear.linear_head import softmax
from tltool.metrics import Interval, is_clearly_lower, wilson_interval
from tltool.report import check_page_name, default_page, render_atlas
from tltool.reporting import finish_report
from tltool.runs import Run
from tltool.settings import AdaptSettings
from tltool.strategies.folds import stratified_folds
from tltool.trained_networks import trained_arrays

__all__ = ["Atlas", "ChangeCurve", "LayerFacts", "atlas"]

_FOLDS = 5
_CHAIN = ("sqrt", "l2")
_CLASSIFIER = "lda"

# Images that go through the network at a time, all of whose activations are kept for a moment; and
# how many of these, drawn by lot, stand for all of a layer's.
_AT_ONCE = 8
_MOST_ACTIVATIONS = 20_000

_OF_ATLAS = (
    "backbone",
    "weights",
    "input_size",
    "seed",
    "test",
    "val",
    "engine",
    "precision",
    "bad_images",
    "relabel",
    "image_column",
    "label_column",
    "split_column",
)


@dataclass(frozen=True)
class LayerFacts:
    """What one layer's features are worth.

    Args:
        tap: the layer.
        features: how many there are.
        accuracy: of a cross-validated linear probe, with a 95 % interval.
        parameters: of the network up to it, as a share of the whole.
        multiply_adds: the same of its multiply-adds.
        behind: by how much it is less accurate than the most useful layer.
        as_good: whether nothing tells it from that one: a one-sided paired t-test at 95 %.
        invariance: 1 where images that were moved, scaled or turned give the same activations in
            the same places, 0 where they give others as different as those of another image; of
            what the classifier is given, places pooled away.
        robustness: the same of images that were spoiled.
        pooled_invariance: the same as `invariance` of features as the probe sees them, averaged
            over places, so that all layers can be compared.
        moved, spoiled: mean probability of the right class of such images.
    """

    tap: str
    features: int
    accuracy: Interval
    parameters: float
    multiply_adds: float
    behind: float
    as_good: bool
    invariance: float
    robustness: float
    pooled_invariance: float
    moved: float
    spoiled: float


@dataclass(frozen=True)
class ChangeCurve:
    """What becomes of features as images change more and more.

    Args:
        name: of the change.
        unit: of its amounts.
        amounts: the first leaves an image as it is.
        distance: by tap, mean distance of activations from those of the image itself, in units of
            the mean distance between different images.
        probability: by tap, mean probability of the right class.
    """

    name: str
    unit: str
    amounts: tuple[float, ...]
    distance: dict[str, tuple[float, ...]]
    probability: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Atlas:
    """A network's layers on some images.

    Args:
        backbone: the network.
        images: that the probes were fitted on and judged by.
        changed: of them changed.
        classes: how many.
        layers: from the input up.
        best: the most useful: the most accurate probe.
        turns: the last layer before features serve the source's classes more than these: beyond it
            the probe is clearly less accurate; None where that is nowhere.
        changes: what was done to images.
        page: where it is drawn.
        seconds: that it took.
        weights: "pretrained"; "trained", if on these very images, on which the network then does
            better than it would on others; or "random".
        left_out: classification layers that the weights at hand do not hold.
    """

    backbone: str
    images: int
    changed: int
    classes: int
    layers: tuple[LayerFacts, ...]
    best: str
    turns: str | None
    changes: tuple[ChangeCurve, ...]
    page: Path
    seconds: float
    weights: str = "pretrained"
    left_out: tuple[str, ...] = ()

    @property
    def in_words(self) -> tuple[str, ...]:
        """Sentences: the most useful layer, where features turn task-specific, what flatters, and
        what was left out."""
        best = next(layer for layer in self.layers if layer.tap == self.best)
        others = [x.tap for x in self.layers if x.as_good and x.tap != self.best]
        level = f"; nothing tells it from {', '.join(others)}" if others else ""
        useful = f"The most useful layer is {self.best}: {best.accuracy.value:.1%}{level}."
        turning = "Up to the last layer features gain or stay as good for these classes."
        if self.turns is not None:
            last = self.layers[-1]
            why = "features tell less"
            if self.weights == "pretrained":
                why = "features turn to the classes that the network was trained on"
            turning = (
                f"Beyond {self.turns} {why}: at {last.tap} the probe is "
                f"{last.behind:.1%} less accurate, beyond chance."
            )
        said = [useful, turning]
        if self.weights == "trained":
            said.append(
                "This network was trained on these very images, which flatters its upper layers."
            )
        if self.left_out:
            said.append(
                "Left out, as these weights hold no classification layers: "
                f"{', '.join(self.left_out)}."
            )
        return tuple(said)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self) | {
            "page": printable(str(self.page)),
            "seconds": round(self.seconds, 2),
            "in_words": list(self.in_words),
        }


def atlas(
    where: str | Path,
    *,
    out: str | Path | None = None,
    images: int = 48,
    force: bool = False,
    store: str | Path | None = None,
    **settings: Any,
) -> Atlas:
    """Look at a data set through every layer of a network; test images are left out.

    Of each tap's features, those of the classification layers included where the weights hold them
    (of a run, of those up to its own): a linear probe, and how they and its probability for the
    right class change as images are moved, scaled, turned or spoiled.

    Args:
        where: images, as for `adapt`; or a run folder, whose images and backbone are taken and
            whose report then shows the atlas.
        out: the page; None for `atlas-NAME.html`, or for the run's report.
        images: how many are changed.
        force: replace the page.
        store: folder of the feature store; None for the user's.
        **settings: `backbone`, `weights`, `input_size`, `seed`, `test`, `val`, `engine`,
            `precision`, `bad_images`, `relabel` and a table's columns, as in `AdaptSettings`; of a
            run, none.

    Raises:
        TltoolError: in one sentence, what is wrong and what to do.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014;
    Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions", 2019.

    Example:
        >>> tltool.atlas("photos", backbone="resnet50").best
        'stage4'
    """
    check_int("--images", images, low=2)
    started = time.perf_counter()
    folder = Path(where).expanduser()
    run = Run(folder) if (folder / "run.json").is_file() else None
    page = _page_of(where, run, out, force)
    if run is not None:
        run.tested()  # without which it has no report to show the atlas in
    with FeatureStore(store) as kept:
        if run is None:
            chosen = AdaptSettings.checked("atlas", settings, _OF_ATLAS)
            data: str | Path = where
        else:
            data, chosen = _of_run(run, settings)
        listing = chosen.listing(data)
        source = chosen.make_source(kept)
        weights = "pretrained" if source.backbone.weights.seed is None else "random"
        if run is not None and run.trained_network:
            weights = "trained"
            trained = source.backbone.with_weights(trained_arrays(run), str(run.folder))
            source = source.of_backbone(trained)
        checked, _ = check_listing(listing, bad_images=chosen.bad_images, cache=kept)
        dataset, _ = split_dataset(
            checked, seed=chosen.seed_of_splits, test=chosen.test, val=chosen.val
        )
        left_out: tuple[str, ...] = ()
        if run is None:
            whole = with_source_classes(source.backbone)
            source = source if whole is None else source.of_backbone(whole)
            left_out = () if whole is not None else tuple(source.backbone.preset.head_taps)
        every = run is None
        found = _measured(source, dataset, images, chosen.seed, page, started, every=every)
        found = replace(found, weights=weights, left_out=left_out)
        kept.trim()
    _write(found, run, page)
    return found


def _page_of(where: str | Path, run: Run | None, out: str | Path | None, force: bool) -> Path:
    if out is None and run is not None:
        return run.folder / "report.html"
    page = Path(out).expanduser() if out else default_page("atlas", where)
    check_page_name(page, force=force)
    return page


def _of_run(run: Run, settings: dict[str, Any]) -> tuple[str, AdaptSettings]:
    """The images and settings of a run.

    Raises:
        TltoolError: others were named, or it is an ensemble.
    """
    for name, value in settings.items():
        if value is not None and value != getattr(AdaptSettings, name, None):
            raise TltoolError(
                f"--{name.replace('_', '-')} {value} is for images; {run.folder} is a run, which "
                "has its own."
            )
    if run.facts.get("members"):
        raise TltoolError(
            f"{run.folder} is an ensemble of several networks; name a member, such as "
            f"{run.facts['members'][0]['run']}."
        )
    begun = run.facts.get("begun") or {}
    given = begun.get("settings") or {}
    if not given:
        raise TltoolError(f"{run.folder} does not say how it was begun; name its images instead.")
    wanted = (*_OF_ATLAS, "tap", "split_seed")
    kept: dict[str, Any] = {n: given[n] for n in wanted if given.get(n) is not None}
    own = {"backbone": run.facts["backbone"], "relabel": run.relabel}
    return begun["data"], AdaptSettings(**kept | own)


@dataclass(frozen=True)
class _Layer:
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


def _layers(backbone: Backbone, *, every: bool = False) -> list[_Layer]:
    """The blocks up to the last layer that its features come from, and those features.

    With `every`, all named taps, from the input up: beyond that layer, too.
    """
    preset = backbone.preset
    order = [row.name for row in layer_table(preset, backbone.input_size)]
    last = max((part.layer for part in backbone.parts), key=order.index)
    own = backbone.taps[0].name if len(backbone.taps) == 1 else "head"
    if own in preset.blocks:  # which has a row of its own, with places
        own = _named(backbone.parts)
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
        found.append(_Layer(tap, end, parsed.parts, placed))
    found.append(_Layer(own, last, backbone.parts, backbone.parts))
    return sorted(found, key=lambda layer: order.index(layer.end))


def _measured(
    source: FeatureSource,
    dataset: Dataset,
    images: int,
    seed: int,
    page: Path,
    started: float,
    *,
    every: bool,
) -> Atlas:
    examples = dataset.of("train", "val")
    folds = stratified_folds(examples, _FOLDS, seed) if examples else None
    sample = _sample(examples, images, seed)
    if folds is None or len(sample) < 2 or len({e.label for e in examples}) < 2:
        raise TltoolError(
            "An atlas needs at least two classes of two images each besides the test images; give "
            "more images."
        )
    backbone = source.backbone
    layers = _layers(backbone, every=every)
    pooled = list(dict.fromkeys(part for layer in layers for part in layer.pooled))
    source.of_backbone(backbone.tapping(_named(pooled))).extract(examples)  # in one pass
    changed = _Changed(source, layers, [examples[i] for i in sample], seed)
    targets, k = dataset.targets(examples), len(dataset.labels)
    shown_changed = {examples[i].group for i in sample}
    others = np.flatnonzero([e.group not in shown_changed for e in examples])
    probes = []
    with progress("probing", len(layers)) as advance:
        for layer in layers:
            shown = source.of_backbone(backbone.tapping(_named(layer.pooled)))
            features = shown.features(examples)
            problem = Problem(features.values, targets, k, features.widths)
            probes.append(_probe(problem, folds, sample, others, changed.pooled[layer.name]))
            advance(1)
    return _atlas(backbone, dataset, layers, probes, changed, page, started)


def _named(parts: Sequence[TapPart]) -> str:
    return ",".join(map(str, parts))


def _sample(examples: Sequence[Example], images: int, seed: int) -> np.ndarray:
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


class _Changed:
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
        layers: Sequence[_Layer],
        examples: Sequence[Example],
        seed: int,
    ) -> None:
        parts = list(dict.fromkeys(p for x in layers for p in (*x.pooled, *x.placed)))
        self._source = source.of_backbone(source.backbone.tapping(_named(parts)))
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

    def _measure(self, layers: Sequence[_Layer]) -> None:
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
        self, pixels: Sequence[np.ndarray], layers: Sequence[_Layer]
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
class _Probe:
    """Hits of a probe `(n,)`, and of each change probabilities of the right class `(amounts,)`."""

    hits: np.ndarray
    width: int
    probabilities: list[np.ndarray]


def _probe(
    problem: Problem,
    folds: np.ndarray,
    sample: np.ndarray,
    others: np.ndarray,
    changed: Sequence[np.ndarray],
) -> _Probe:
    """Probe a layer.

    Args:
        problem: its features of all images.
        folds: of these.
        sample: rows of those that were changed.
        others: rows that none of these is like.
        changed: its features of them, `(amounts, len(sample), d)` a change.
    """
    choice = choose(problem, folds, (_CLASSIFIER,), (_CHAIN,), nested=False)
    candidate = choice.chosen.candidate
    scores = out_of_fold_scores(problem, candidate, folds)
    hits = scores.argmax(axis=1) == problem.targets
    rest = Problem(
        problem.features[others], problem.targets[others], problem.n_classes, problem.widths
    )
    classifier = fit_candidate(rest, candidate)  # the images that are changed are not known to it
    rows, right = np.arange(len(sample)), problem.targets[sample]
    temperature = choice.chosen.temperature
    said = [[softmax(classifier.scores(one) / temperature) for one in part] for part in changed]
    probabilities = [np.array([p[rows, right].mean() for p in part]) for part in said]
    return _Probe(hits, problem.features.shape[1], probabilities)


def _atlas(
    backbone: Backbone,
    dataset: Dataset,
    layers: Sequence[_Layer],
    probes: Sequence[_Probe],
    changed: _Changed,
    page: Path,
    started: float,
) -> Atlas:
    accuracies = [float(probe.hits.mean()) for probe in probes]
    top = int(np.argmax(accuracies))
    best = probes[top].hits
    rows = layer_table(backbone.preset, backbone.input_size)
    order = [row.name for row in rows]
    total = [sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)]
    facts = []
    for layer, probe, accuracy in zip(layers, probes, accuracies, strict=True):
        upto = rows[: order.index(layer.end) + 1]
        low, high = wilson_interval(int(probe.hits.sum()), len(best))
        moves, spoils = _by_kind(changed.distances[layer.name])
        pooled_moves, _ = _by_kind(changed.pooled_distances[layer.name])
        said_moved, said_spoiled = _by_kind(probe.probabilities)
        facts.append(
            LayerFacts(
                layer.name,
                probe.width,
                Interval(accuracy, min(low, accuracy), max(high, accuracy)),
                sum(row.parameters for row in upto) / max(total[0], 1),
                sum(row.multiply_adds for row in upto) / max(total[1], 1),
                accuracies[top] - accuracy,
                not is_clearly_lower(1.0 - best, 1.0 - probe.hits),
                1.0 - moves,
                1.0 - spoils,
                1.0 - pooled_moves,
                said_moved,
                said_spoiled,
            )
        )
    turns = None if facts[-1].as_good else next(x.tap for x in reversed(facts) if x.as_good)
    curves = tuple(
        ChangeCurve(
            change.name,
            change.unit,
            change.amounts,
            {x.name: tuple(changed.distances[x.name][i]) for x in layers},
            {
                x.name: tuple(map(float, p.probabilities[i]))
                for x, p in zip(layers, probes, strict=True)
            },
        )
        for i, change in enumerate(CHANGES)
    )
    return Atlas(
        backbone.preset.name,
        len(best),
        changed.images,
        len(dataset.labels),
        tuple(facts),
        layers[top].name,
        turns,
        curves,
        page,
        time.perf_counter() - started,
    )


def _by_kind(values: Sequence[Sequence[float] | np.ndarray]) -> tuple[float, float]:
    """Means over the changes that move an image, and over those that spoil it.

    Args:
        values: of each change `(amounts,)`, the first of which leaves the image as it is.
    """
    means = [float(np.mean(one[1:])) for one in values]
    kinds = [
        [mean for mean, change in zip(means, CHANGES, strict=True) if change.moves == moves]
        for moves in (True, False)
    ]
    return float(np.mean(kinds[0])), float(np.mean(kinds[1]))


def _write(found: Atlas, run: Run | None, page: Path) -> None:
    facts = found.as_json()
    try:
        if run is not None:
            text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
            write_atomically(run.folder / "atlas.json", text)
            run.add(finish_report(run))
        if run is None or page.resolve() != (run.folder / "report.html").resolve():
            write_atomically(page, render_atlas(facts))
    except OSError as error:
        raise storage_error("write", page, error, "name another place with --out") from error
