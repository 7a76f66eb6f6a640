"""The contract of all strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tltool.data import Dataset, Example
from tltool.features import FeatureSource

if TYPE_CHECKING:
    import keras

__all__ = ["FittedClassifier", "Strategy"]


@dataclass(frozen=True)
class FittedClassifier:
    """What a strategy returns, whichever it is.

    Args:
        labels: the classes, in the order of the outputs.
        build_model: makes the one Keras model from raw pixels `(n, height, width, 3)`, uint8, to
            probabilities `(n, k)`; its last layer is called `predictions`.
        predict_proba: probabilities `(n, k)`, float32, of examples, the same as that model's.
        choices: what was chosen on the way and by which figures, as JSON values.
        notes: what should be known of it, a sentence each.
    """

    labels: tuple[str, ...]
    build_model: Callable[[], keras.Model]
    predict_proba: Callable[[Sequence[Example]], np.ndarray]
    choices: dict[str, Any]
    notes: tuple[str, ...] = ()


class Strategy(Protocol):
    """A way to adapt a backbone; made with its own settings, all of which have defaults."""

    name: str

    def fit(
        self,
        source: FeatureSource,
        dataset: Dataset,
        *,
        seed: int,
        weights: np.ndarray | None = None,
    ) -> FittedClassifier:
        """Adapt to the train and val splits of a dataset; its test split is not looked at.

        Args:
            source: where features come from.
            dataset: checked and split.
            seed: of all that is drawn.
            weights: of the train and val images, in their order; None for one each.
        """
