"""Several classifiers of images as one, in scikit-learn's vocabulary."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import Bunch, Tags
from sklearn.utils.validation import check_is_fitted

from tltool._validation import TltoolError, check_option
from tltool.classifier import TransferClassifier
from tltool.combining import CANDIDATES, METHODS, Combination, choose_combination
from tltool.image_estimator import of_images
from tltool.linear.calibration import Calibration, choose_calibration
from tltool.linear.linear_head import softmax
from tltool.merging import combined_model
from tltool.strategies.folds import stratified_folds

if TYPE_CHECKING:
    import keras

    from tltool.strategies.strategy import OutOfSample

__all__ = ["Ensemble"]

_FITTED = ("auto", *(name for name in METHODS if name not in ("mean", "geometric-mean")))
_VOTING = ("soft", "hard", "geometric-mean", *_FITTED)

_FOLDS, _SEED = 5, 0

_log = logging.getLogger(__name__)


class Ensemble(ClassifierMixin, BaseEstimator):
    """Transfer classifiers that vote.

    Args:
        estimators: pairs of a name and a `TransferClassifier`; two or more. They are cloned and
            fitted.
        voting: "soft" for the mean of their probabilities, "hard" for the class that most name,
            "geometric-mean"; or, fitted on images that no member was fitted on, "weights" (of the
            mean with the lowest log loss), "greedy" (Caruana's selection), "stacking"
            (multinomial logistic regression), and "auto" for what has the lowest cross-validated
            log loss, one member alone among them. With too few such images the mean is taken.
        weights: of the members, at least 0, for "soft", "hard" and "geometric-mean"; None for one
            each.

    Images are paths, or pixels `(n, height, width, 3)`, uint8, 0-255, RGB. After `fit`, `classes_`
    are the labels, `estimators_` the fitted members, `named_estimators_` the same by name,
    `weights_` what they weigh, 1 together, and `voting_` how they vote; `notes_` is what should be
    known of it.

    Example:
        >>> members = [(name, TransferClassifier(backbone=name)) for name in ("resnet50", "vgg16")]
        >>> Ensemble(members).fit(paths, labels).predict(["new.jpg"])
        array(['cat'], dtype='<U3')
    """

    def __init__(
        self,
        estimators: Sequence[tuple[str, TransferClassifier]],
        *,
        voting: str = "soft",
        weights: Sequence[float] | None = None,
    ) -> None:
        self.estimators = estimators
        self.voting = voting
        self.weights = weights

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Ensemble:
        """Fit every member to images and labels `(n,)`, and how they vote.

        Args:
            X: images.
            y: labels of any type.
            sample_weight: `(n,)`, at least 0; None for one each. Members are fitted with it; where
                it is fitted how they vote, images count alike.

        Raises:
            TltoolError: what is wrong and what to do, in a sentence.
        """
        shares = self._checked()
        self.estimators_ = [clone(member).fit(X, y, sample_weight) for _, member in self.estimators]
        names = [name for name, _ in self.estimators]
        self.named_estimators_ = Bunch(**dict(zip(names, self.estimators_, strict=True)))
        self.classes_ = self.estimators_[0].classes_
        self.notes_: tuple[str, ...] = ()
        k = len(self.classes_)
        self._calibration = Calibration.of_temperature(1.0, k, 0)
        method = "geometric-mean" if self.voting == "geometric-mean" else "mean"
        self._combination = Combination(method, shares)
        if self.voting in _FITTED:
            self._weigh()
        self.voting_ = "hard" if self.voting == "hard" else self._combination.method
        self.weights_ = self._combination.weights
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `(n, k)`, float64, in the order of `classes_`; of hard votes shares."""
        check_is_fitted(self)
        said = np.stack([member.predict_proba(X) for member in self.estimators_]).astype(np.float64)
        if self.voting == "hard":
            votes = np.eye(said.shape[2])[said.argmax(axis=2)]
            return np.asarray(np.einsum("m,mnk->nk", self.weights_, votes))
        return softmax(self._calibration.apply(self._combination.scores(said)))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest label of each image, `(n,)`; of equal votes the first class."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def to_keras(self) -> keras.Model:
        """One Keras model from raw pixels to probabilities `(n, k)`; what members share runs once.

        Members whose input is smaller than the largest see it resized.

        Raises:
            TltoolError: the votes are hard.
        """
        check_is_fitted(self)
        if self.voting == "hard":
            raise TltoolError('A model gives probabilities; take voting="soft".')
        models = [member.to_keras() for member in self.estimators_]
        sizes = [tuple(model.input_shape[1:3]) for model in models]
        height, width = max(sizes, key=lambda size: size[0] * size[1])
        return combined_model(models, self._combination, self._calibration, (height, width))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters; with `deep` members by name, and theirs as `name__parameter`."""
        found = dict(super().get_params(deep=False))
        for name, member in self.estimators if deep else ():
            found[name] = member
            found |= {f"{name}__{key}": value for key, value in member.get_params().items()}
        return found

    def set_params(self, **params: Any) -> Ensemble:
        """Set parameters, members by name among them."""
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        names = [name for name, _ in self.estimators]
        changed = {name: params.pop(name) for name in names if name in params}
        if changed:
            self.estimators = [(n, changed.get(n, member)) for n, member in self.estimators]
        super().set_params(**params)
        return self

    def __sklearn_tags__(self) -> Tags:
        return of_images(super().__sklearn_tags__())

    def _checked(self) -> np.ndarray:
        """Weights, 1 together, once the parameters are known to be good."""
        check_option("voting", self.voting, _VOTING)
        if not _are_pairs(self.estimators):
            raise TltoolError(
                f"estimators must be pairs of a name and a classifier, got {self.estimators!r}."
            )
        pairs = list(self.estimators)
        names = [name for name, _ in pairs]
        if len(pairs) < 2:
            raise TltoolError(f"An ensemble has two members or more, got {len(pairs)}.")
        for name in names:
            if names.count(name) > 1 or "__" in name or name in super().get_params(deep=False):
                raise TltoolError(
                    f"Member {name!r} cannot be called so: names are different, have no '__', and "
                    "are no parameter's."
                )
        for name, member in pairs:
            if not isinstance(member, TransferClassifier):
                raise TltoolError(
                    f"Member {name!r} is a {type(member).__name__}; expected a TransferClassifier."
                )
        if self.weights is None:
            return np.full(len(pairs), 1.0 / len(pairs))
        if self.voting in _FITTED:
            raise TltoolError(f"voting={self.voting!r} fits the weights; leave weights out.")
        try:
            weights = np.asarray(self.weights, np.float64)
        except (TypeError, ValueError):
            weights = np.empty(0)
        good = (
            weights.shape == (len(pairs),) and np.isfinite(weights).all() and (weights >= 0).all()
        )
        if not good or not weights.sum() > 0:
            raise TltoolError(
                f"weights must be {len(pairs)} finite numbers of at least 0, not all of them 0; "
                f"got {self.weights!r}."
            )
        return np.asarray(weights / weights.sum())

    def _weigh(self) -> None:
        """By what members said of images that none of them was fitted on."""
        told: list[OutOfSample] = [
            member.held_out_ for member in self.estimators_ if member.held_out_ is not None
        ]
        labels = self.estimators_[0].labels_
        common: list[bytes] = []
        if len(told) == len(self.estimators_):
            common = sorted(set.intersection(*({e.hash for e in one.examples} for one in told)))
        said, targets, folds = np.empty((len(self.estimators_), 0, len(self.classes_))), None, None
        if common:
            places = [{e.hash: i for i, e in enumerate(one.examples)} for one in told]
            rows = [[place[content] for content in common] for place in places]
            said = np.stack([softmax(one.scores[own]) for one, own in zip(told, rows, strict=True)])
            examples = [told[0].examples[i] for i in rows[0]]
            targets = np.array([labels.index(e.label) for e in examples])
            folds = stratified_folds(examples, _FOLDS, _SEED)
        methods = CANDIDATES if self.voting == "auto" else (self.voting,)
        known = np.empty(0, np.int64) if targets is None else targets
        choice = choose_combination(said, known, folds, methods, seed=_SEED)
        self._combination = choice.chosen
        if len(known):
            self._calibration = choose_calibration(choice.scores, known, folds, calibrated=True)
        self.notes_ = (choice.note,) if choice.note else ()
        for note in self.notes_:
            _log.warning(note)


def _are_pairs(given: Any) -> bool:
    """Whether these are names with something each, one by one."""
    return isinstance(given, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in given
    )
