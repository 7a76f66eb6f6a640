"""Fine-tuning: the upper layers of a network are trained on, from where a linear head left off."""

from __future__ import annotations

import numpy as np

from tltool._validation import check_option
from tltool.backbones import Boundary, boundary
from tltool.data import Dataset
from tltool.domain import measured_distance
from tltool.features import FeatureSource
from tltool.strategies.cutting import CACHES
from tltool.strategies.lesson import Lesson
from tltool.strategies.network_training import NetworkTraining
from tltool.strategies.off_the_shelf import OffTheShelf
from tltool.strategies.strategy import FittedClassifier
from tltool.strategies.teaching import Teacher
from tltool.training import TrainingPlan, TrainingRecord

__all__ = ["FineTune"]

# Steps whose gradient is finite everywhere, before a head that is trained on: no square root.
_START_CHAINS = (("standardise",), ("l2",), ("dropout",))

# Where `auto` unfreezes all blocks; the upper third below both.
_MANY_IMAGES = 5000
_FAR = 0.05


class FineTune:
    """The upper blocks of a network, trained on together with the head fitted on its features.

    It begins with a linear head fitted on features, never with a random one. It ends with the
    best epoch, with a linear head fitted on the features of that, or with one on those of the
    start: whichever does best on the validation images. Below the boundary nothing changes, so
    what crosses it can be stored.

    Args:
        plan: how it is trained.
        budget: seconds after which training ends; None for no limit.
        unfreeze: the lowest block that is trained, "last2", "all" or "auto".
        cache: of the activations at the boundary: "auto", "on" or "off".
        classifier: the head that it begins with.
        teacher: another model that is learned from beside the labels, if there is one.

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
        teacher: Teacher | None = None,
    ) -> None:
        check_option("--cache", cache, CACHES)
        self.plan = plan or TrainingPlan(epochs=10, learning_rate=1e-4)
        self.budget, self.unfreeze, self.cache = budget, unfreeze, cache
        self.classifier, self.teacher = classifier, teacher

    def extract(self, source: FeatureSource, dataset: Dataset) -> None:
        """See `Strategy.extract`."""
        if self.unfreeze != "auto":  # a wrong name is told before anything is computed
            boundary(source.backbone.preset, source.backbone.input_size, self.unfreeze)
        source.for_prediction().extract(dataset.of("train", "val"))

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
        cut = self._cut(source, lesson)
        linear = OffTheShelf(self.classifier, chains=_START_CHAINS)
        started = linear.fit(source, lesson.to_fit, seed=seed, weights=lesson.fitting_weights)
        training = NetworkTraining(source, lesson, cut, self.cache, pretrained=True)
        history = training.run(started.classifier, record, self.budget)
        return training.fit(history, started.in_words, OffTheShelf(self.classifier))

    def _cut(self, source: FeatureSource, lesson: Lesson) -> Boundary:
        """The boundary asked for, or chosen by size and similarity."""
        backbone, wanted = source.backbone, self.unfreeze
        if wanted == "auto":
            wanted = f"last{-(-len(backbone.preset.blocks) // 3)}"
            distance = measured_distance(source, lesson.fitting)
            far = distance is not None and distance.value >= _FAR
            if far or len(lesson.fitting) >= _MANY_IMAGES:
                wanted = "all"
        return boundary(backbone.preset, backbone.input_size, wanted)
