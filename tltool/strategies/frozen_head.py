"""Frozen head: the network as it is, and a head of its own trained on its stored features."""

from __future__ import annotations

import logging
from dataclasses import asdict

import numpy as np

from tltool._presets import training_views
from tltool._validation import TltoolError
from tltool.data import Dataset
from tltool.features import FeatureSource
from tltool.linear.transforms import standardisation
from tltool.strategies.examples import constant_features
from tltool.strategies.lesson import Lesson, source_facts, training_in_words
from tltool.strategies.network_head import folded, head_network
from tltool.strategies.strategy import FeatureFit, FittedClassifier
from tltool.training import HeldPictures, Trainer, TrainingPlan, TrainingRecord

__all__ = ["FrozenHead"]

_log = logging.getLogger(__name__)

# A random head needs so many, however few the images.
_FEWEST_STEPS = 500


class FrozenHead:
    """A linear head, or one of several layers, trained on stored features.

    Each epoch shows what predictions are made from or one of an image's stored random views, drawn
    by lot, so that no image goes through the network twice. The validation images say when to stop,
    which epoch was best, and how confident the scores are to be.

    Args:
        plan: how it is trained.
        budget: seconds after which training ends; None for no limit.
    """

    name = "frozen-head"

    def __init__(self, plan: TrainingPlan | None = None, budget: float | None = None) -> None:
        self.plan = plan or TrainingPlan(fewest_steps=_FEWEST_STEPS)
        self.budget = budget

    def extract(self, source: FeatureSource, dataset: Dataset) -> None:
        """See `Strategy.extract`."""
        source.for_prediction().extract(dataset.examples)
        drawn = self._drawn(source)
        if drawn is not None:
            drawn.extract(dataset.of("train", "val"))

    def fit(
        self,
        source: FeatureSource,
        dataset: Dataset,
        *,
        seed: int,
        weights: np.ndarray | None = None,
        record: TrainingRecord | None = None,
    ) -> FittedClassifier:
        """See `Strategy.fit`."""
        lesson = Lesson.of(dataset, weights, self.plan, seed)
        predicting, drawn = source.for_prediction(), self._drawn(source)
        features = predicting.features([*lesson.fitting, *lesson.judging])
        notes = [*lesson.notes, *constant_features(features, source)]
        for note in notes:
            _log.warning(note)

        shown = features.values[: len(lesson.fitting)][:, None]
        if drawn is not None:
            shown = np.concatenate([shown, drawn.each_view(lesson.fitting)], axis=1)
        step = standardisation(shown.reshape(-1, shown.shape[-1]))
        shown = step.apply(shown.reshape(-1, shown.shape[-1])).reshape(shown.shape)
        judged = HeldPictures(step.apply(features.values[len(lesson.fitting) :])[:, None])
        validation = lesson.validation(judged)
        network = head_network(sum(features.widths), len(dataset.labels), lesson.plan, seed)
        trainer = Trainer(network, lesson.plan)
        history = lesson.train(
            trainer,
            lesson.batches(HeldPictures(shown)),
            validation,
            source_facts(predicting),
            record=record,
            budget=self.budget,
        )
        scores = validation.scores(trainer) if validation else np.empty((0, 0))
        fit = _HeadFit(
            dataset.labels,
            lesson.choices(history, lesson.plan) | {"transforms": []},
            (*notes, *lesson.stopped_in_words(history)),
            folded(network, step),
            history=tuple(asdict(epoch) for epoch in history.epochs),
        )
        return fit.calibrated(lesson.calibration(scores), lesson.judging, scores)

    def _drawn(self, source: FeatureSource) -> FeatureSource | None:
        """Where features of random views come from; None where there are none."""
        shown = training_views(self.plan.views, source.backbone.input_size)
        if not shown.random:
            return None
        if not shown.drawn:
            raise TltoolError(
                f"--train-views {self.plan.views}: a head is trained on stored features, so say of "
                f"how many views, such as {self.plan.views}-8."
            )
        return source.showing(shown)


class _HeadFit(FeatureFit):
    """A head of several layers on features."""

    def described(self) -> list[tuple[str, str]]:
        """See `FittedClassifier`."""
        layers = [f"{units} units" for units in self.choices["training"]["units"]]
        head = ("Head", ", ".join([*layers, "linear"]))
        return [head, *training_in_words(self.choices, len(self.history))]
