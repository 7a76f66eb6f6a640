"""Soups: fine-tunings of one backbone made into a single network, by averaging their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tltool._clock import Clock
from tltool._files import counted
from tltool._keras import import_keras
from tltool._presets import views
from tltool.backbones import Backbone
from tltool.comparing import named
from tltool.data import CheckReport, Dataset, Example, SplitReport, canvas
from tltool.features import FeatureSource, FeatureStore, checked_bytes
from tltool.linear.calibration import calibrated_losses, choose_calibration
from tltool.runs import Run, RunWriter
from tltool.strategies import OffTheShelf
from tltool.strategies.folds import stratified_folds
from tltool.strategies.off_the_shelf import scores_held_out
from tltool.strategies.tuning import TunedFit
from tltool.trained_networks import backbone_of, trained_arrays
from tltool.workflow import Settled, finish_run

__all__ = ["SOUPS", "can_be_averaged", "held_out_of_all", "make_soup"]

SOUPS = ("greedy", "uniform")
"""Ways to choose what is averaged."""

_FOLDS = 5

# Training images that tell batch normalisation what averaged layers give, and how many at a time.
_SEEN, _BATCH = 1024, 32

# The head of a soup, as of fine-tuning.
_CLASSIFIER = "lda"

Arrays = tuple[np.ndarray, ...]


def can_be_averaged(run: Run) -> str:
    """Tells runs whose networks can be averaged with each other; empty where none can."""
    if run.is_ensemble or not run.trained_network or run.facts.get("strategy") != "fine-tune":
        return ""
    settings = run.facts["settings"]
    names = ("backbone", "weights", "tap", "input_size", "precision")
    return repr([settings.get(name) for name in names] + [run.facts.get("views"), run.labels])


def make_soup(
    runs: Sequence[Run],
    kind: str,
    dataset: Dataset,
    check: CheckReport,
    splits: SplitReport,
    out: Path,
    store: FeatureStore,
    engine: str,
    seed: int,
) -> Run | None:
    """A run whose network has the mean weights of several, and a linear head fitted on that.

    "uniform" averages all of them. "greedy" begins with the best and takes each of the others, from
    the best on, unless the log loss of the validation images rises; where it takes none, there is
    no soup: it would be that one a second time. Where batch normalisation remembers other things in
    each, it is shown training images anew.

    Args:
        runs: which `can_be_averaged` with each other, and held out images in common.
        kind: one of `SOUPS`.
        dataset: their images, with splits.
        check: data findings.
        splits: how the splits came about.
        out: the run folder; a soup of the same runs that is there already is taken.
        store: where features are kept.
        engine: "auto", "keras" or "openvino".
        seed: of folds and intervals.

    Source: Wortsman et al., "Model soups", 2022, https://arxiv.org/abs/2203.05482; there the heads
    are averaged, too.
    """
    members = [{"run": named(run), "model": run.key} for run in runs]
    given = runs[0].facts["settings"]
    kept = ("backbone", "weights", "tap", "input_size", "precision", "data", "views", "relabel")
    facts = {name: given.get(name) for name in kept} | {
        "strategy": "soup",
        "kind": kind,
        "members": members,
        "engine": engine,
        "seed": seed,
    }
    finished = Run.finished(out)
    if finished is not None and finished.facts["settings"] == facts:
        return finished
    clock = Clock()
    backbone = backbone_of(runs[0])
    shown = views(str(runs[0].facts.get("views", "1")))
    source = FeatureSource(backbone, store, engine, str(given["precision"]), shown)
    with clock.phase("fit"):
        kitchen = _Kitchen(source, dataset, held_out_of_all(runs, dataset), seed)
        arrays = [trained_arrays(run) for run in runs]
        fitted = kitchen.cook(arrays, [named(run) for run in runs], kind)
    if fitted is None:
        return None
    writer = RunWriter(out, facts, force=out.exists())
    writer.update({"corrections": runs[0].corrections})
    settled = Settled("soup", seed, runs[0].columns, source)
    finish_run(writer, settled, dataset, check, splits, fitted, [], list(fitted.notes), clock)
    return Run(out)


def held_out_of_all(runs: Sequence[Run], dataset: Dataset) -> tuple[Example, ...]:
    """Images that none of the runs was fitted on, though they may be used."""
    told = [run.held_out() for run in runs]
    common = set.intersection(*(set() if one is None else set(one.hashes) for one in told))
    return tuple(e for e in dataset.of("train", "val") if e.hash.hex() in common)


@dataclass(frozen=True)
class SoupFit(TunedFit):
    """A network of mean weights, and the head on it."""

    def described(self) -> list[tuple[str, str]]:
        """See `FittedClassifier`."""
        used, tried = self.choices["ingredients"], self.choices["tried"]
        return [
            ("Averaged", f"{len(used)} of {counted(len(tried), 'network')}: {', '.join(used)}"),
            ("Head", self.choices["head"]),
            ("Validation log loss", f"{self.choices['log_loss']:.3f}"),
        ]


class _Kitchen:
    """Tries averages of weights."""

    def __init__(
        self, source: FeatureSource, dataset: Dataset, judging: Sequence[Example], seed: int
    ) -> None:
        held = {e.hash for e in judging}
        rows = [replace(e, split="train") for e in dataset.of("train", "val")]
        self._fitting = [e for e in rows if e.hash not in held]
        self._judging = [e for e in rows if e.hash in held]
        self._source, self._seed = source, seed
        self._labels = dataset.labels
        self._targets = dataset.targets(self._judging)

    def cook(self, arrays: Sequence[Arrays], names: Sequence[str], kind: str) -> SoupFit | None:
        """The soup of some networks; None where it has one ingredient."""
        tried: dict[str, float] = {}
        for name, one in zip(names, arrays, strict=True):
            tried[name] = float(self._judged(one)[0].mean())
        order = sorted(range(len(arrays)), key=lambda i: tried[names[i]])
        order = [i for n, i in enumerate(order) if not _is_among(arrays, i, order[:n])]
        used = order if kind == "uniform" else order[:1]
        if kind == "greedy":
            best = tried[names[order[0]]]
            for i in order[1:]:
                loss = float(self._judged(self._mean([arrays[j] for j in (*used, i)]))[0].mean())
                if loss <= best:
                    used, best = [*used, i], loss
        if len(used) == 1:
            return None
        mean = self._mean([arrays[i] for i in used])
        losses, scores = self._judged(mean)
        head, source = OffTheShelf(_CLASSIFIER), self._source_of(mean)
        whole = Dataset("soup", (*self._fitting, *self._judging), self._labels)
        fit = head.fit(source, whole, seed=self._seed)
        held = scores_held_out(source, whole, fit, self._judging, seed=self._seed)
        scores = scores if held is None else held
        folds = stratified_folds(self._judging, _FOLDS, self._seed)
        calibration = choose_calibration(scores, self._targets, folds)
        choices = {
            "kind": kind,
            "tried": tried,
            "ingredients": [names[i] for i in used],
            "log_loss": float(losses.mean()),
            "head": f"{fit.in_words}, on all {len(whole.examples)} images",
            "transforms": list(fit.classifier.steps),
        }
        made = SoupFit(self._labels, choices, fit.notes, fit.classifier, mean)
        return made.calibrated(calibration, self._judging, scores)

    def _source_of(self, arrays: Arrays) -> FeatureSource:
        return self._source.of_backbone(self._source.backbone.with_weights(arrays, "averaged"))

    def _judged(self, arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """Log losses of the images held out, and their scores, by a head fitted on the others."""
        source = self._source_of(arrays)
        part = Dataset("soup", tuple(self._fitting), self._labels)
        fit = OffTheShelf(_CLASSIFIER).fit(source, part, seed=self._seed)
        scores = fit.classifier.scores(source.features(self._judging).values)
        return calibrated_losses(scores, self._targets)[0], scores

    def _mean(self, arrays: Sequence[Arrays]) -> Arrays:
        """Weight by weight, with statistics that fit."""
        mean = tuple(
            np.mean(np.stack(each).astype(np.float64), axis=0).astype(each[0].dtype)
            for each in zip(*arrays, strict=True)
        )
        return normalised_anew(self._source.backbone, arrays, mean, self._pictures())

    def _pictures(self) -> Iterator[np.ndarray]:
        some = np.random.default_rng(self._seed).permutation(len(self._fitting))[:_SEEN]
        size = self._source.backbone.input_size
        for start in range(0, len(some), _BATCH):
            rows = some[start : start + _BATCH]
            yield np.stack([canvas(checked_bytes(self._fitting[i]), size) for i in rows])


def _is_among(arrays: Sequence[Arrays], i: int, others: Sequence[int]) -> bool:
    """Whether one network is the same as another, such as where both ended as they began."""
    return any(all(map(np.array_equal, arrays[i], arrays[j])) for j in others)


def normalised_anew(
    backbone: Backbone, arrays: Sequence[Arrays], mean: Arrays, pictures: Iterator[np.ndarray]
) -> Arrays:
    """Mean weights with statistics of batch normalisation that are those of its own activations.

    Args:
        backbone: of these weights.
        arrays: what was averaged; where all remember the same, there is nothing to do.
        mean: the average.
        pictures: batches of images `(n, height, width, 3)`, uint8.
    """
    keras = import_keras()
    network = backbone.with_weights(mean, "averaged").network
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    statistics = {id(v) for x in norms for v in (x.moving_mean, x.moving_variance)}
    places = [i for i, weight in enumerate(network.weights) if id(weight) in statistics]
    if all(np.array_equal(one[i], arrays[0][i]) for one in arrays for i in places):
        return mean
    before = [(norm, norm.momentum, norm.trainable) for norm in norms]
    for norm in norms:
        norm.trainable = True
    try:
        for seen, batch in enumerate(pictures):
            for norm in norms:
                norm.momentum = seen / (seen + 1.0)  # the mean over all batches
            network(batch, training=True)
    finally:
        for norm, momentum, trainable in before:
            norm.momentum, norm.trainable = momentum, trainable
    found = tuple(network.get_weights())
    network.set_weights(mean)  # others may ask the backbone for that network
    return found
