"""The contract of all strategies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from tltool.data import Dataset, Example
from tltool.features import FeatureSource
from tltool.linear.calibration import Calibration
from tltool.linear.linear_head import softmax
from tltool.training import TrainingRecord

if TYPE_CHECKING:
    import keras

__all__ = ["FeatureFit", "FittedClassifier", "OutOfSample", "Strategy"]


@dataclass(frozen=True)
class OutOfSample:
    """What is said of images that were not fitted on: out of fold, or validation images.

    Args:
        examples: the images.
        scores: `(m, k)`, as the calibration that followed from them makes them.
    """

    examples: tuple[Example, ...]
    scores: np.ndarray


@dataclass(frozen=True)
class FittedClassifier(ABC):
    """What a strategy returns, whichever it is: plain values, that can be copied and sent.

    Args:
        labels: the classes, in the order of the outputs.
        choices: what was chosen on the way and by which figures, as JSON values.
        notes: what should be known of it, a sentence each.
        history: of what was trained by gradients, a mapping an epoch.
        calibration: what is done to scores before the softmax.
        held_out: what was said of images before they were fitted on; None where there are none.
    """

    labels: tuple[str, ...]
    choices: dict[str, Any]
    notes: tuple[str, ...]
    history: tuple[Mapping[str, Any], ...] = field(default=(), kw_only=True)
    calibration: Calibration | None = field(default=None, kw_only=True)
    held_out: OutOfSample | None = field(default=None, kw_only=True)

    @abstractmethod
    def described(self) -> list[tuple[str, str]]:
        """What was chosen, in words: names and values."""

    @abstractmethod
    def features_from(self, source: FeatureSource) -> FeatureSource:
        """Where the features come from that it tells classes by.

        Args:
            source: like the one that it was fitted with.
        """

    @abstractmethod
    def build_model(self, source: FeatureSource) -> keras.Model:
        """The one Keras model, its last layer called `predictions`.

        Args:
            source: like the one that it was fitted with.

        Returns:
            From raw pixels `(n, height, width, 3)`, uint8, to probabilities `(n, k)`.
        """

    @abstractmethod
    def scores(self, source: FeatureSource, examples: Sequence[Example]) -> np.ndarray:
        """Scores `(n, k)`, float32, of examples before the softmax, calibrated."""

    def predict_proba(self, source: FeatureSource, examples: Sequence[Example]) -> np.ndarray:
        """Probabilities `(n, k)`, float32, of examples, the same as that model's."""
        return softmax(self.scores(source, examples))


class FeatureClassifier(Protocol):
    """What tells classes from features: linear, or of several layers."""

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores `(n, k)` before the softmax, of features `(n, d)`, float32."""

    def scaled(self, scale: np.ndarray, offset: np.ndarray) -> Self:
        """The same with scores multiplied and added to, class by class; both `(k,)`."""

    def on(self, backbone: keras.Model) -> keras.Model:
        """A backbone with this behind it, the last layer called `predictions`."""


@dataclass(frozen=True)
class FeatureFit(FittedClassifier):
    """A classifier on the features of a network, which is as it was unless `features_from` says."""

    classifier: FeatureClassifier

    def features_from(self, source: FeatureSource) -> FeatureSource:
        """See `FittedClassifier`."""
        return source.for_prediction()

    def build_model(self, source: FeatureSource) -> keras.Model:
        """See `FittedClassifier`."""
        return self.classifier.on(self.features_from(source).model())

    def scores(self, source: FeatureSource, examples: Sequence[Example]) -> np.ndarray:
        """See `FittedClassifier`."""
        return self.classifier.scores(self.features_from(source).features(examples).values)

    def calibrated(
        self, calibration: Calibration, examples: Sequence[Example], scores: np.ndarray
    ) -> Self:
        """The same with its scores calibrated.

        Args:
            calibration: how.
            examples: that it follows from, `m` of them.
            scores: theirs before it, `(m, k)`.
        """
        said = {"method": calibration.method, "images": calibration.images}
        return replace(
            self,
            choices=self.choices | {"temperature": calibration.temperature, "calibration": said},
            classifier=self.classifier.scaled(calibration.scale, calibration.offset),
            calibration=calibration,
            held_out=OutOfSample(tuple(examples), calibration.apply(scores)) if examples else None,
        )


class Strategy(Protocol):
    """A way to adapt a backbone; made with its own settings, all of which have defaults."""

    name: str

    def extract(self, source: FeatureSource, dataset: Dataset) -> None:
        """Compute and store what `fit` and predictions of all splits will read.

        Args:
            source: where features come from.
            dataset: checked and split.
        """

    def fit(
        self,
        source: FeatureSource,
        dataset: Dataset,
        *,
        seed: int,
        weights: np.ndarray | None = None,
        record: TrainingRecord | None = None,
    ) -> FittedClassifier:
        """Adapt to the train and val splits of a dataset; its test split is not looked at.

        Args:
            source: where features come from.
            dataset: checked and split.
            seed: of all that is drawn.
            weights: of the train and val images, in their order, at least 0; their scale does
                not matter. None for one each.
            record: where a training is kept, to go on from there, and told; None for nowhere.
        """
