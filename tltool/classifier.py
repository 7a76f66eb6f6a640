"""All of it as one scikit-learn classifier of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from tltool._validation import TltoolError
from tltool.data import Dataset
from tltool.data.in_memory import examples_of
from tltool.features import shared_store
from tltool.settings import AdaptSettings
from tltool.strategies import FittedClassifier

if TYPE_CHECKING:
    import keras

__all__ = ["TransferClassifier"]


class TransferClassifier(ClassifierMixin, BaseEstimator):
    """A pretrained network adapted to images and their labels.

    Args:
        strategy: how to adapt, "off-the-shelf".
        backbone: name of a preset; None for the best whose weights can be had.
        weights: "imagenet", "none" (random), a file, or None for the backbone's own.
        tap: feature layers, `stage3:max,avgpool`; None for the recipe's or the backbone's own.
        input_size: height and width in pixels of the network's input; None for its own.
        views: pictures of an image that features are averaged over; None for the recipe's, or "1".
        classifier: "lda", "ridge", "logistic-regression", "svm", or "auto"; None for the
            recipe's, or "auto".
        transforms: steps between features and classifier, "sqrt,l2"; None for the recipe's, or to
            choose.
        recipe: a named combination of tap, views, transforms and classifier.
        engine: "auto", "keras" or "openvino".
        precision: "float32" or "bfloat16".
        seed: of the folds.
        store: folder of the feature store; None for the user's own.

    Images are paths, or pixels `(n, height, width, 3)`, uint8, 0-255, RGB. After `fit`, `classes_`
    are the labels, `choices_` what was chosen and by which figures, `notes_` what should be known
    of it.

    Example:
        >>> model = TransferClassifier(backbone="mobilenet-0.25", recipe="recommended")
        >>> model.fit(paths, labels).predict(["new.jpg"])
        array(['cat'], dtype='<U3')
    """

    def __init__(
        self,
        strategy: str = "off-the-shelf",
        *,
        backbone: str | None = None,
        weights: str | None = None,
        tap: str | None = None,
        input_size: str | int | None = None,
        views: str | None = None,
        classifier: str | None = None,
        transforms: str | None = None,
        recipe: str | None = None,
        engine: str = "auto",
        precision: str = "float32",
        seed: int = 0,
        store: str | Path | None = None,
    ) -> None:
        self.strategy = strategy
        self.backbone = backbone
        self.weights = weights
        self.tap = tap
        self.input_size = input_size
        self.views = views
        self.classifier = classifier
        self.transforms = transforms
        self.recipe = recipe
        self.engine = engine
        self.precision = precision
        self.seed = seed
        self.store = store

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TransferClassifier:
        """Adapt to images and labels `(n,)` of any type.

        Args:
            X: images.
            y: labels.
            sample_weight: `(n,)`, at least 0; None for one each.

        Raises:
            TltoolError: what is wrong and what to do, in a sentence.
        """
        given = self.get_params() | {
            "input_size": None if self.input_size is None else str(self.input_size)
        }
        given.pop("store")
        settings = AdaptSettings(**given)
        labels = column_or_1d(y)
        check_classification_targets(labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise TltoolError(
                f"All {len(labels)} images are of one class, {self.classes_[:1]!s}; a classifier "
                "needs at least two."
            )
        # numbers stand for labels, padded: a dataset keeps its classes in natural order
        names = tuple(f"{number:06d}" for number in range(len(self.classes_)))
        examples = examples_of(X, [names[target] for target in targets])
        dataset = Dataset("memory", examples, names)
        source = settings.make_source(shared_store(self.store))
        self._fitted = settings.make_strategy().fit(
            source, dataset, seed=settings.seed, weights=_checked_weights(sample_weight, examples)
        )
        self.choices_ = self._fitted.choices
        self.notes_ = self._fitted.notes
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `(n, k)`, float32, in the order of `classes_`."""
        return self._known().predict_proba(examples_of(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest label of each image, `(n,)`."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def to_keras(self) -> keras.Model:
        """One Keras model from raw pixels to probabilities `(n, k)`; save it as `model.keras`."""
        return self._known().build_model()

    def _known(self) -> FittedClassifier:
        check_is_fitted(self)
        return self._fitted

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _checked_weights(weights: Any, examples: Any) -> np.ndarray | None:
    if weights is None:
        return None
    checked = np.asarray(weights, np.float64)
    if checked.shape != (len(examples),) or not np.isfinite(checked).all() or (checked < 0).any():
        raise TltoolError(
            f"sample_weight must be {len(examples)} finite numbers of at least 0, one an image."
        )
    return checked
