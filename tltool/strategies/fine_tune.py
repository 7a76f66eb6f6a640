"""Fine-tuning: the upper layers of a network are trained on, from where a linear head left off."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tltool._presets import training_views, views
from tltool._validation import check_option
from tltool.backbones import Backbone, Boundary, boundary
from tltool.data import Dataset
from tltool.features import DrawnPictures, FeatureSource, StoredActivations
from tltool.linear import Classifier
from tltool.strategies.cutting import CACHES, Cache, choose_cache
from tltool.strategies.distance import measured_distance, rate_factor
from tltool.strategies.lesson import Lesson, source_facts
from tltool.strategies.off_the_shelf import OffTheShelf
from tltool.strategies.precision import choose_precision
from tltool.strategies.strategy import FittedClassifier
from tltool.strategies.tuning import TunedFit, TunedNetwork
from tltool.training import Pictures, Trainer, TrainingPlan
from tltool.training.learning_rate import range_test

__all__ = ["FineTune"]

_log = logging.getLogger(__name__)

# What a head can be fitted behind so that its gradient is finite everywhere: no square root.
_START_CHAINS = (("standardise",), ("l2",), ("dropout",))

# Where `auto` unfreezes all blocks; the upper third below both.
_MANY_IMAGES = 5000
_FAR = 0.05

# Images that are judged at a time.
_JUDGED = 32


class FineTune:
    """The upper blocks of a network, trained on together with the head fitted on its features.

    It begins with a linear head in closed form, never with a random one, and ends with what does
    best on the validation images, which may be that beginning. Below the boundary nothing
    changes, so what crosses it can be stored.

    Args:
        plan: how it is trained.
        budget: seconds after which training ends; None for no limit.
        unfreeze: the lowest block that is trained, "last2", "all" or "auto".
        cache: of the activations at the boundary: "auto", "on" or "off".
        classifier: the head that it begins with.

    Raises:
        TltoolError: an unknown option.
    """

    name = "fine-tune"

    def __init__(
        self,
        plan: TrainingPlan | None = None,
        budget: float | None = None,
        unfreeze: str = "auto",
        cache: str = "auto",
        classifier: str = "lda",
    ) -> None:
        check_option("--cache", cache, CACHES)
        self.plan = plan or TrainingPlan(epochs=10, learning_rate=1e-4)
        self.budget, self.unfreeze, self.cache = budget, unfreeze, cache
        self.classifier = classifier

    def extract(self, source: FeatureSource, dataset: Dataset) -> None:
        """See `Strategy.extract`."""
        source.for_prediction().extract(dataset.of("train", "val"))

    def fit(
        self,
        source: FeatureSource,
        dataset: Dataset,
        *,
        seed: int,
        weights: np.ndarray | None = None,
        folder: Path | None = None,
    ) -> FittedClassifier:
        """See `Strategy.fit`."""
        lesson = Lesson.of(dataset, weights, self.plan, seed)
        source = source.for_prediction()
        cut = self._cut(source, lesson)
        opening = OffTheShelf(self.classifier, chains=_START_CHAINS)
        started = opening.fit(source, lesson.dataset, seed=seed, weights=lesson.weights)
        said = started.described()[0][1]
        return fit_network(
            source,
            lesson,
            cut,
            started.classifier,
            cache=self.cache,
            folder=folder,
            budget=self.budget,
            may_stay=True,
            near=True,
            said={"start": said},
        )

    def _cut(self, source: FeatureSource, lesson: Lesson) -> Boundary:
        """The boundary asked for, or chosen by size and similarity."""
        backbone, wanted = source.backbone, self.unfreeze
        if wanted == "auto":
            wanted = f"last{-(-len(backbone.preset.blocks) // 3)}"
            many = len(lesson.fitting) >= _MANY_IMAGES
            if many or (measured_distance(source, lesson.fitting) or 0.0) >= _FAR:
                wanted = "all"
        return boundary(backbone.preset, backbone.input_size, wanted)


def fit_network(
    source: FeatureSource,
    lesson: Lesson,
    cut: Boundary,
    start: Classifier,
    *,
    cache: str,
    folder: Path | None,
    budget: float | None,
    may_stay: bool,
    near: bool,
    said: dict[str, str],
) -> TunedFit:
    """Train what lies above a boundary, and the head with it.

    Args:
        source: of the network that it begins with.
        lesson: what is learned from, and how.
        cut: the boundary.
        start: the head that it begins with.
        cache: of activations: "auto", "on" or "off".
        folder: of the run; None to keep nothing.
        budget: seconds; None for no limit.
        may_stay: whether the beginning is a candidate.
        near: whether a learning rate that is left open follows the distance from the source.
        said: what is to be told of it.
    """
    backbone = source.backbone
    shown = training_views(lesson.plan.views, backbone.input_size)
    n_images = len(lesson.fitting) + len(lesson.judging)
    held = choose_cache(
        cache,
        backbone,
        cut,
        lesson.plan,
        shown.count if shown.random else 1,
        n_images,
        source.store.max_bytes,
    )
    plan = replace(lesson.plan, views=held.views)

    def network_of(plan: TrainingPlan) -> TunedNetwork:
        return TunedNetwork(backbone, cut, start, plan, lesson.seed, from_activations=held.used)

    def trainer_in(precision: str) -> Trainer:
        tried = replace(plan, precision=precision)
        return network_of(tried).trainer(tried)

    pictures, judged = _pictures(source, lesson, cut, held)
    batches = replace(lesson, plan=plan).batches(pictures, of_pixels=not held.used)
    if plan.precision == "auto":
        key = f"{backbone.key} {cut.unfrozen} {held.used}"
        first = next(batches.epoch(0))
        chosen = choose_precision(key, source.store, trainer_in, first)
        plan = replace(plan, precision=chosen)
        batches = replace(batches, plan=plan)
    network = network_of(plan)
    trainer = network.trainer(plan)
    if plan.learning_rate == "auto":
        found = range_test(trainer, batches, plan.optimizer).chosen
        factor = rate_factor(measured_distance(source, lesson.fitting)) if near else 1.0
        plan = replace(plan, learning_rate=found * factor)
        batches = replace(batches, plan=plan)
    notes = list(lesson.notes)
    for note in notes:
        _log.warning(note)
    history = lesson.train(
        trainer,
        batches,
        lesson.validation(judged, _JUDGED),
        (*source_facts(source), cut.unfrozen, held.used),
        folder=folder,
        budget=budget,
        may_stay=may_stay,
    )
    fit = TunedFit(
        lesson.labels,
        {},
        (*notes, *lesson.stopped_in_words(history)),
        network.classifier(),
        network.arrays(),
        history=tuple(asdict(epoch) for epoch in history.epochs),
    )
    scores = np.empty((0, 0))
    if lesson.judging:
        scores = fit.classifier.scores(fit.features_from(source).features(lesson.judging).values)
    temperature = lesson.temperature(scores)
    choices: dict[str, Any] = lesson.choices(history, plan, temperature)
    choices |= {"unfrozen": ", ".join(cut.unfrozen), "cache": held.said, "start": ""} | said
    choices["transforms"] = list(start.steps)
    return replace(fit, choices=choices, classifier=network.classifier(temperature))


def _pictures(
    source: FeatureSource, lesson: Lesson, cut: Boundary, held: Cache
) -> tuple[Pictures, Pictures]:
    """What the network is shown of the images to fit on, and of those to judge by."""
    backbone: Backbone = source.backbone
    shown, whole = training_views(held.views, backbone.input_size), views("1")
    if not held.used:
        size = backbone.input_size
        return DrawnPictures(lesson.fitting, shown, size), DrawnPictures(
            lesson.judging, whole, size
        )
    crossing = source.of_backbone(backbone.tapping(f"{cut.block}:flatten"))
    return (
        StoredActivations(crossing.showing(shown), lesson.fitting, cut.shape),
        StoredActivations(crossing.showing(whole), lesson.judging, cut.shape),
    )
