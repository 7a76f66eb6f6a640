"""All of it as one scikit-learn classifier of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from tltool._validation import TltoolError
from tltool.advising import settle
from tltool.data import Dataset
from tltool.data.in_memory import examples_of
from tltool.image_estimator import ImageEstimator
from tltool.settings import AdaptSettings
from tltool.strategies import FittedClassifier

if TYPE_CHECKING:
    import keras

__all__ = ["TransferClassifier"]


class TransferClassifier(ClassifierMixin, ImageEstimator):
    """A pretrained network adapted to images and their labels.

    Args:
        strategy: how to adapt, "off-the-shelf", "frozen-head", "fine-tune" or "from-scratch"; or
            "auto" for what `tltool.advise` finds best in each call of `fit`. None for the recipe's,
            or "off-the-shelf".
        backbone: name of a preset; None for the best whose weights can be had.
        weights: "imagenet", "none" (random), a file, or None for the backbone's own.
        tap: feature layers, `stage3:max,avgpool`; None for the recipe's or the backbone's own.
        input_size: height and width in pixels of the network's input; None for its own.
        views: pictures of an image that features are averaged over; None for the recipe's, or "1".
        classifier: "lda", "ridge", "logistic-regression", "svm", or "auto"; None for the
            recipe's, or "auto".
        transforms: steps between features and classifier, "sqrt,l2"; None for the recipe's, or to
            choose.
        recipe: a named combination of settings.
        unfreeze: of fine-tuning, the lowest block of the network that is trained, "last2", "all" or
            "auto"; this and what follows up to `budget` is for strategies that train, None for the
            recipe's.
        cache: of fine-tuning, whether activations below are stored: "auto", "on" or "off".
        train_views: what is shown of an image in training: "1", "auto", "auto-4".
        augment: what is done to that, "mixup,erasing".
        norms: batch normalisation, "frozen" or "adapt".
        layer_decay: from each block of the network to the one below, the factor on the rate.
        l2_sp: of fine-tuning, whether weights decay towards the pretrained ones instead of zero.
        train_precision: "float32", "bfloat16" or "auto".
        units: of the hidden layers of a frozen network's head, "512,256".
        dropout: share of what reaches each layer of the head that is dropped.
        epochs: times that every image is seen, at most.
        batch_size: images a step.
        optimizer: "sgd" or "adamw".
        learning_rate: its peak, or "auto".
        weight_decay: a share of the learning rate.
        balance: of classes of unequal size: "none", "weights" or "sampling".
        patience: epochs without improvement on images held back that end it; 0 for never.
        budget: time after which training ends with the best so far: "90s", "10m", "1h".
        engine: "auto", "keras" or "openvino".
        precision: "float32" or "bfloat16".
        seed: of the folds.
        store: folder of the feature store; None for the user's own.

    Images are paths, or pixels `(n, height, width, 3)`, uint8, 0-255, RGB. After `fit`, `classes_`
    are the labels, `choices_` what was chosen and by which figures, `notes_` what should be known
    of it, `held_out_` what was said of images before they were fitted on (scores in the order of
    `labels_`, the classes as text), and `advice_` the advice that the strategy "auto" followed,
    else None.

    Example:
        >>> model = TransferClassifier(backbone="mobilenet-0.25", recipe="recommended")
        >>> model.fit(paths, labels).predict(["new.jpg"])
        array(['cat'], dtype='<U3')
    """

    _followed: AdaptSettings | None = None

    def __init__(
        self,
        strategy: str | None = None,
        *,
        backbone: str | None = None,
        weights: str | None = None,
        tap: str | None = None,
        input_size: str | int | None = None,
        views: str | None = None,
        classifier: str | None = None,
        transforms: str | None = None,
        recipe: str | None = None,
        unfreeze: str | None = None,
        cache: str | None = None,
        train_views: str | None = None,
        augment: str | None = None,
        norms: str | None = None,
        layer_decay: float | None = None,
        l2_sp: bool | None = None,
        train_precision: str | None = None,
        units: str | None = None,
        dropout: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        optimizer: str | None = None,
        learning_rate: float | str | None = None,
        weight_decay: float | None = None,
        balance: str | None = None,
        patience: int | None = None,
        budget: str | None = None,
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
        self.unfreeze = unfreeze
        self.cache = cache
        self.train_views = train_views
        self.augment = augment
        self.norms = norms
        self.layer_decay = layer_decay
        self.l2_sp = l2_sp
        self.train_precision = train_precision
        self.units = units
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.balance = balance
        self.patience = patience
        self.budget = budget
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
        self._followed = None
        labels = column_or_1d(y)
        check_classification_targets(labels)
        classes, targets = np.unique(labels, return_inverse=True)
        names = tuple(map(str, classes))
        if len(set(names)) < len(names):  # 1 and "1"
            names = tuple(map(repr, classes))
        examples = examples_of(X, [names[target] for target in targets])
        if len(classes) < 2:
            raise TltoolError(
                f"All {len(labels)} images are of one class, {names[0]!r}; a classifier needs at "
                "least two."
            )
        dataset = Dataset("memory", examples, names)
        asked, store = self._settings(), self._source_to_fit().store
        settings, advice = settle(asked, store, dataset)
        if settings != asked:
            self._followed = settings
        source = self._source()
        fitted = settings.make_strategy().fit(
            source,
            dataset,
            seed=settings.seed,
            weights=_checked_weights(sample_weight, examples),
        )
        source.store.trim()
        self._fitted_with(source)
        self._fitted = fitted
        self.classes_ = classes
        self.choices_ = fitted.choices
        self.notes_ = fitted.notes
        self.held_out_, self.labels_ = fitted.held_out, fitted.labels
        self.advice_ = advice
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `(n, k)`, float32, in the order of `classes_`."""
        fitted, source = self._known(), self._source()
        probabilities = fitted.predict_proba(source, examples_of(X))
        source.store.trim()
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest label of each image, `(n,)`."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def to_keras(self) -> keras.Model:
        """One Keras model from raw pixels to probabilities `(n, k)`; save it as `model.keras`."""
        return self._known().build_model(self._source())

    def _settings(self) -> AdaptSettings:
        """What was asked for; or, where that left the strategy open, what the fit followed."""
        return self._followed or super()._settings()

    def _known(self) -> FittedClassifier:
        check_is_fitted(self)
        return self._fitted


def _checked_weights(weights: Any, examples: Any) -> np.ndarray | None:
    if weights is None:
        return None
    checked = np.asarray(weights, np.float64)
    if checked.shape != (len(examples),) or not np.isfinite(checked).all() or (checked < 0).any():
        raise TltoolError(
            f"sample_weight must be {len(examples)} finite numbers of at least 0, one an image."
        )
    return checked
