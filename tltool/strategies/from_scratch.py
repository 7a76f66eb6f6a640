"""From scratch: a network with random weights, all of it trained."""

from __future__ import annotations

import numpy as np

from tltool._keras import import_keras
from tltool.backbones import boundary
from tltool.data import Dataset
from tltool.features import FeatureSource
from tltool.linear import Classifier, LinearHead
from tltool.strategies.lesson import Lesson
from tltool.strategies.network_training import NetworkTraining
from tltool.strategies.strategy import FittedClassifier
from tltool.strategies.teaching import Teacher
from tltool.training import TrainingPlan, TrainingRecord

__all__ = ["FromScratch"]


class FromScratch:
    """A network and a linear head, both with random weights to begin with.

    Args:
        plan: how it is trained.
        budget: seconds after which training ends; None for no limit.
        teacher: another model that is learned from beside the labels, if there is one.
    """

    name = "from-scratch"

    def __init__(
        self,
        plan: TrainingPlan | None = None,
        budget: float | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.plan = plan or TrainingPlan(
            epochs=20, optimizer="sgd", learning_rate=0.05, norms="adapt", views="auto"
        )
        self.budget, self.teacher = budget, teacher

    def extract(self, source: FeatureSource, dataset: Dataset) -> None:
        """See `Strategy.extract`: the features to come are others."""

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
        lesson = Lesson.of(dataset, weights, self.plan, seed, self.teacher)
        source = source.for_prediction()
        keras = import_keras()
        draw = keras.initializers.GlorotUniform(seed=seed)
        kernel = np.asarray(draw((sum(source.widths), len(dataset.labels))))
        start = Classifier((), None, LinearHead.of(kernel, np.zeros(len(dataset.labels))))
        cut = boundary(source.backbone.preset, source.backbone.input_size, "all")
        training = NetworkTraining(source, lesson, cut, "off", pretrained=False)
        return training.fit(training.run(start, record, self.budget), "random weights")
