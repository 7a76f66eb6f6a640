"""The linear classifiers and the transforms as scikit-learn estimators.

Thin faces: all computing is in the other modules, which know nothing of scikit-learn, so that a
run does not wait for its import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from tltool._validation import TltoolError, check_int, check_option
from tltool.linear.centred import Solution
from tltool.linear.closed import ClosedForms
from tltool.linear.linear_head import softmax
from tltool.linear.smooth import SmoothPath
from tltool.linear.spectrum import Spectrum
from tltool.linear.transforms import (
    DROPOUT_RATE,
    Affine,
    dropout_scaling,
    l2_normalise,
    signed_sqrt,
    standardisation,
    whitening,
)

__all__ = [
    "FeatureDropout",
    "L2PerTap",
    "LinearSVMHead",
    "LogisticHead",
    "PCAWhitening",
    "PerTap",
    "RidgeHead",
    "ShrinkageLDAHead",
    "SignedSquareRoot",
    "Standardise",
]

_FLOATS = [np.float64, np.float32]


class _Head(ClassifierMixin, BaseEstimator):
    """What all linear classifiers share: `coef_` `(k, d)`, `intercept_` `(k,)`, `classes_`."""

    temperature: float

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> _Head:
        """Learn from features `(n, d)` and labels `(n,)`.

        Raises:
            ValueError: fewer than two classes, or numbers that are not finite.
        """
        X, y = validate_data(self, X, y, dtype=_FLOATS)
        check_classification_targets(y)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}.")
        self.classes_, targets = np.unique(y, return_inverse=True)
        weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        counts = np.bincount(targets, weights)
        if np.count_nonzero(counts) < 2:
            raise ValueError(
                f"{type(self).__name__} needs images of at least two classes, got one class."
            )
        used = weights > 0
        found = self._solve(X[used], targets[used], len(self.classes_), weights[used])
        self.coef_, self.intercept_ = found[0].T, found[1]
        return self

    def _solve(
        self, X: np.ndarray, targets: np.ndarray, n_classes: int, weights: np.ndarray
    ) -> Solution:
        """Weights `(d, k)` and biases `(k,)`."""
        raise NotImplementedError

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS, reset=False)
        return X @ self.coef_.T + self.intercept_

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores `(n, k)`; of two classes the difference, `(n,)`."""
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `(n, k)`: the softmax of the scores divided by `temperature`."""
        return softmax(self._scores(X) / self.temperature)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest label of each row, `(n,)`."""
        best = self._scores(X).argmax(axis=1)
        return self.classes_[best]


class _SmoothHead(_Head):
    """What is found step by step."""

    loss: str

    def __init__(self, C: float = 1.0, temperature: float = 1.0) -> None:
        self.C = C
        self.temperature = temperature

    def _solve(
        self, X: np.ndarray, targets: np.ndarray, n_classes: int, weights: np.ndarray
    ) -> Solution:
        _check_positive("C", self.C)
        spectrum = Spectrum(X, weights)
        path = SmoothPath(spectrum, targets, n_classes, self.loss)
        return spectrum.lift(path.finish(self.C))


class LogisticHead(_SmoothHead):
    """Multinomial logistic regression, by warm-started L-BFGS in the features' eigenbasis.

    Args:
        C: inverse strength of the penalty `|W|^2 / 2`, as in scikit-learn's; of two classes each
            has weights of its own here, so that C is 2 C there.
        temperature: what scores are divided by before the softmax.
    """

    loss = "logistic-regression"


class LinearSVMHead(_SmoothHead):
    """One-against-rest linear SVM with squared hinge loss; its biases are not penalised.

    Args:
        C: inverse strength of the penalty `|W|^2 / 2`, as in scikit-learn's `LinearSVC`.
        temperature: what scores are divided by before the softmax.
    """

    loss = "svm"


class RidgeHead(_Head):
    """Ridge regression to the classes' indicators, as scikit-learn's `RidgeClassifier`.

    Args:
        alpha: strength of the penalty `|W|^2`.
        temperature: what scores are divided by before the softmax.
    """

    def __init__(self, alpha: float = 1.0, temperature: float = 1.0) -> None:
        self.alpha = alpha
        self.temperature = temperature

    def _solve(
        self, X: np.ndarray, targets: np.ndarray, n_classes: int, weights: np.ndarray
    ) -> Solution:
        _check_positive("alpha", self.alpha)
        forms = ClosedForms(X, targets, n_classes, weights)
        return forms.lift(forms.ridge(self.alpha))


class ShrinkageLDAHead(_Head):
    """Linear discriminant analysis whose covariance is drawn towards a sphere.

    Args:
        shrinkage: how far, above 0 and below 1.
        temperature: what scores are divided by before the softmax.
    """

    def __init__(self, shrinkage: float = 0.5, temperature: float = 1.0) -> None:
        self.shrinkage = shrinkage
        self.temperature = temperature

    def _solve(
        self, X: np.ndarray, targets: np.ndarray, n_classes: int, weights: np.ndarray
    ) -> Solution:
        if not 0 < self.shrinkage < 1:
            raise ValueError(f"shrinkage must be above 0 and below 1, got {self.shrinkage!r}.")
        forms = ClosedForms(X, targets, n_classes, weights)
        return forms.lift(forms.lda(self.shrinkage))


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value!r}.")


class _Transform(TransformerMixin, BaseEstimator):
    """What all transforms share: float32 stays float32."""

    def fit(self, X: Any, y: Any = None) -> _Transform:
        """Learn from features `(n, d)`."""
        self._learn(validate_data(self, X, dtype=_FLOATS))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features `(n, d)`, transformed."""
        check_is_fitted(self)
        return self._apply(validate_data(self, X, dtype=_FLOATS, reset=False))

    def _learn(self, X: np.ndarray) -> None:
        return None

    def _apply(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class SignedSquareRoot(OneToOneFeatureMixin, _Transform):
    """`sign(x) * sqrt(|x|)` of each feature."""

    def _apply(self, X: np.ndarray) -> np.ndarray:
        return signed_sqrt(X)


class L2PerTap(OneToOneFeatureMixin, _Transform):
    """Each image's features of each tap divided by their Euclidean length.

    Args:
        widths: how many of the columns each tap has; None for one tap.
    """

    def __init__(self, widths: Sequence[int] | None = None) -> None:
        self.widths = widths

    def _learn(self, X: np.ndarray) -> None:
        self.widths_ = _checked_widths(self.widths, X.shape[1])

    def _apply(self, X: np.ndarray) -> np.ndarray:
        return l2_normalise(X, self.widths_)


class Standardise(OneToOneFeatureMixin, _Transform):
    """Mean 0 and variance 1 of each feature; a constant one becomes 0 everywhere."""

    step_: Affine

    def _learn(self, X: np.ndarray) -> None:
        self.step_ = standardisation(X)

    def _apply(self, X: np.ndarray) -> np.ndarray:
        return self.step_.apply(X)


class FeatureDropout(OneToOneFeatureMixin, _Transform):
    """Noise on training features: each is dropped with some probability.

    Args:
        rate: that probability.
        method: "marginalised" scales each feature so that an ordinary ridge penalty on the result
            is the one that the noise amounts to (see `tltool.linear.transforms.dropout_scaling`);
            "sampled" draws the noise in `fit_transform`, and leaves other features as they are.
        random_state: of the sampling.
    """

    def __init__(
        self,
        rate: float = DROPOUT_RATE,
        method: str = "marginalised",
        random_state: Any = None,
    ) -> None:
        self.rate = rate
        self.method = method
        self.random_state = random_state

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Learn from features `(n, d)`, and return them as a classifier is to be trained on."""
        self.fit(X, y)
        if self.method == "marginalised":
            return self.transform(X)
        X = validate_data(self, X, dtype=_FLOATS, reset=False)
        kept = check_random_state(self.random_state).random_sample(X.shape) >= self.rate
        return X * (kept / (1.0 - self.rate)).astype(X.dtype)

    def _learn(self, X: np.ndarray) -> None:
        check_option("method", self.method, ("marginalised", "sampled"))
        if not 0 < self.rate < 1:
            raise TltoolError(f"rate must be above 0 and below 1, got {self.rate!r}.")
        self.step_ = dropout_scaling(X, rate=self.rate) if self.method == "marginalised" else None

    def _apply(self, X: np.ndarray) -> np.ndarray:
        return X.copy() if self.step_ is None else self.step_.apply(X)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.method == "sampled"
        return tags


class PCAWhitening(_Transform):
    """Principal components, each divided by its deviation, or a tenth of the mean one if larger.

    Args:
        n_components: how many are kept, the largest; None for all that vary.
    """

    def __init__(self, n_components: int | None = None) -> None:
        self.n_components = n_components

    def _learn(self, X: np.ndarray) -> None:
        if self.n_components is not None:
            check_int("n_components", self.n_components, low=1)
        self.step_ = whitening(X, components=self.n_components)

    def _apply(self, X: np.ndarray) -> np.ndarray:
        return self.step_.apply(X)


class PerTap(_Transform):
    """A transform of its own for each tap, the results side by side.

    Args:
        transformer: cloned for each tap; None for `Standardise()`.
        widths: how many of the columns each tap has; None for one tap.
    """

    def __init__(self, transformer: Any = None, widths: Sequence[int] | None = None) -> None:
        self.transformer = transformer
        self.widths = widths

    def _learn(self, X: np.ndarray) -> None:
        self.widths_ = _checked_widths(self.widths, X.shape[1])
        model = Standardise() if self.transformer is None else self.transformer
        self.transformers_ = [clone(model).fit(part) for part in self._parts(X)]

    def _apply(self, X: np.ndarray) -> np.ndarray:
        parts = zip(self.transformers_, self._parts(X), strict=True)
        return np.hstack([one.transform(part) for one, part in parts])

    def _parts(self, X: np.ndarray) -> list[np.ndarray]:
        return np.split(X, np.cumsum(self.widths_)[:-1], axis=1)


def _checked_widths(widths: Sequence[int] | None, d: int) -> tuple[int, ...]:
    """How many columns each tap has; all of them one tap where nothing is said."""
    known = (d,) if widths is None else tuple(int(width) for width in widths)
    if sum(known) != d or min(known, default=0) < 1:
        raise TltoolError(
            f"widths {known} do not add up to the {d} features that there are; give the number of "
            "columns of each tap."
        )
    return known
