"""What is done to features before a linear classifier.

Some steps follow each image alone and become layers of the saved model; the others are learned,
linear, and fold into the classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._keras import import_keras
from tltool._validation import TltoolError, check_option
from tltool.linear.centred import moments
from tltool.linear.linear_head import LinearHead

if TYPE_CHECKING:
    import keras

__all__ = [
    "DROPOUT_RATE",
    "Affine",
    "Classifier",
    "Transforms",
    "apply_of_one_image",
    "check_transforms",
    "dropout_scaling",
    "l2_normalise",
    "learns",
    "signed_sqrt",
    "standardisation",
    "whitening",
]

# Hinton's, and that of the DeCAF paper.
DROPOUT_RATE = 0.5

# A feature that varies by less, of its mean and at all, is constant.
_CONSTANT = (1e-6, 1e-30)

# Directions with less than this share of the mean variance are not blown up to the size of the
# others by whitening.
_WHITENING_FLOOR = 1e-2


@dataclass(frozen=True)
class Affine:
    """`(x - mean) * scale`, or `(x - mean) @ scale` where it is a matrix.

    Args:
        mean: `(d,)`, float64.
        scale: `(d,)` or `(d, m)`, float64.
    """

    mean: np.ndarray
    scale: np.ndarray

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Features `(n, d)` to `(n, m)`, in their own dtype."""
        scale = self.scale.astype(features.dtype)
        if scale.ndim == 1 and not self.mean.any():
            return features * scale
        centred = features - self.mean.astype(features.dtype)
        return np.multiply(centred, scale, out=centred) if scale.ndim == 1 else centred @ scale

    def fold(self, head: LinearHead) -> LinearHead:
        """A classifier of what comes out as one of what goes in."""
        kernel = head.kernel.astype(np.float64)
        kernel = self.scale[:, None] * kernel if self.scale.ndim == 1 else self.scale @ kernel
        bias = head.bias - self.mean @ kernel
        return LinearHead.of(kernel, bias)


def signed_sqrt(features: np.ndarray) -> np.ndarray:
    """`sign(x) * sqrt(|x|)`: evens out what a few strong activations dominate.

    Source: Perronnin, Sánchez, Mensink, "Improving the Fisher Kernel", 2010.
    """
    return np.copysign(np.sqrt(np.abs(features)), features)


def l2_normalise(features: np.ndarray, widths: Sequence[int] | None = None) -> np.ndarray:
    """Each image's features of each tap divided by their Euclidean length; zeros stay zeros.

    Args:
        features: `(n, d)`.
        widths: how many of the columns each tap has; None for one tap.
    """
    result = np.empty_like(features)
    start = 0
    for width in widths or (features.shape[1],):
        part = features[:, start : start + width]
        length = np.linalg.norm(part, axis=1, keepdims=True)
        result[:, start : start + width] = part / np.maximum(length, 1e-12)
        start += width
    return result


def standardisation(features: np.ndarray, weights: np.ndarray | None = None) -> Affine:
    """Mean 0 and variance 1 of each feature; a constant one becomes 0 everywhere."""
    return _standardising(*moments(features, weights))


def _standardising(mean: np.ndarray, deviation: np.ndarray) -> Affine:
    relative, absolute = _CONSTANT
    constant = deviation <= np.maximum(relative * np.abs(mean), absolute)
    with np.errstate(divide="ignore"):
        return Affine(mean, np.where(constant, 0.0, 1.0 / deviation))


def dropout_scaling(
    features: np.ndarray, weights: np.ndarray | None = None, rate: float = DROPOUT_RATE
) -> Affine:
    """Feature dropout with its noise marginalised.

    To drop feature j with probability p and divide the others by 1 - p leaves the mean of a linear
    score as it is and adds `p / (1 - p) * E[x_j^2] * w_j^2` to its variance. To second order the
    expected loss is thus the loss without noise and a quadratic penalty on the weights; for
    features divided by `sqrt(p / (1 - p) * E[x_j^2])` that is the ordinary `|w|^2`.

    Source: Hinton et al., 2012, https://arxiv.org/abs/1207.0580; Wager, Wang, Liang, "Dropout
    Training as Adaptive Regularization", 2013, https://arxiv.org/abs/1307.1493
    """
    return _dropping(*moments(features, weights), rate)


def _dropping(mean: np.ndarray, deviation: np.ndarray, rate: float = DROPOUT_RATE) -> Affine:
    size = np.sqrt((mean**2 + deviation**2) * rate / (1.0 - rate))
    with np.errstate(divide="ignore"):
        scale = np.where(size <= _CONSTANT[1], 0.0, 1.0 / size)
    return Affine(np.zeros(len(scale)), scale)


def whitening(
    features: np.ndarray, weights: np.ndarray | None = None, components: int | None = None
) -> Affine:
    """Principal components, each divided by its deviation, or a tenth of the mean one if larger.

    Args:
        features: `(n, d)`.
        weights: of the images.
        components: how many are kept, the largest; None for all that vary.
    """
    from tltool.linear.spectrum import Spectrum

    spectrum = Spectrum(features, weights)
    total = max(float(spectrum.weights.sum()), 1e-30)
    variances = spectrum.scatter.astype(np.float64) / total
    floor = _WHITENING_FLOOR * float(variances.sum()) / features.shape[1]
    kept = slice(components)
    scale = spectrum.basis[:, kept] / np.sqrt(np.maximum(variances[kept], floor))
    return Affine(spectrum.mean.astype(np.float64), scale)


def _unit_variance(deviation: np.ndarray) -> Affine:
    """All features times one number, so that they vary by 1 in the mean."""
    mean_square = float((deviation**2).mean()) if len(deviation) else 0.0
    scale = 1.0 / np.sqrt(mean_square) if mean_square > 0 else 1.0
    return Affine(np.zeros(len(deviation)), np.full(len(deviation), scale))


# Steps that follow each image alone, in order of the taps' widths; and those that are learned.
_OF_ONE_IMAGE = ("sqrt", "l2")
_OF_MOMENTS: dict[str, Callable[[np.ndarray, np.ndarray], Affine]] = {
    "standardise": _standardising,
    "dropout": _dropping,
}
_LEARNED = (*_OF_MOMENTS, "whiten")
_TRANSFORMS = (*_OF_ONE_IMAGE, *_LEARNED)


def check_transforms(wanted: str | Sequence[str]) -> tuple[str, ...]:
    """Names of steps, in an order that can be: `"sqrt,l2"`; "none" for no step.

    Raises:
        TltoolError: an unknown step, one named twice, or a learned one before one that is not.
    """
    names = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    names = [name.strip() for name in names if name.strip() not in ("", "none")]
    for name in names:
        check_option("--transforms", name, _TRANSFORMS)
        if names.count(name) > 1:
            raise TltoolError(f"--transforms names {name} twice; name each step once.")
    learned = [name in _LEARNED for name in names]
    if learned != sorted(learned):
        raise TltoolError(
            f"--transforms {','.join(names)}: {' and '.join(_OF_ONE_IMAGE)} come before the "
            f"others, such as {','.join(sorted(names, key=lambda name: name in _LEARNED))}."
        )
    return tuple(names)


def learns(names: Sequence[str]) -> bool:
    """Whether steps learn more of the images than a factor for all features."""
    return any(name in _LEARNED for name in names)


class Transforms:
    """Steps in a row, learned from features; at the end all is scaled to vary by 1 in the mean.

    That last factor makes one scale of penalties fit all features.

    Args:
        names: of the steps; see `check_transforms`.
        widths: how many columns each tap has; None for one tap.
    """

    def __init__(self, names: Sequence[str], widths: Sequence[int] | None = None) -> None:
        self.names = check_transforms(names)
        self.widths = tuple(widths) if widths else None
        self._learned: list[Affine] = []

    def fit(self, features: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Learn from features `(n, d)`, float32, and return them transformed."""
        self._learned = []
        features = apply_of_one_image(self.names, self.widths, features)
        mean, deviation = moments(features, weights)
        for name in (name for name in self.names if name in _LEARNED):
            if name in _OF_MOMENTS:
                step = _OF_MOMENTS[name](mean, deviation)
                features = step.apply(features)
                mean, deviation = (mean - step.mean) * step.scale, deviation * step.scale
            else:
                step = whitening(features, weights)
                features = step.apply(features)
                mean, deviation = moments(features, weights)
            self._learned.append(step)
        self._learned.append(_unit_variance(deviation))
        return self._learned[-1].apply(features)

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Other images' features `(m, d)`, transformed."""
        features = apply_of_one_image(self.names, self.widths, features)
        for step in self._learned:
            features = step.apply(features)
        return features

    def classifier(self, head: LinearHead) -> Classifier:
        """A head on transformed features as a classifier of features."""
        for step in reversed(self._learned):
            head = step.fold(head)
        kept = tuple(name for name in self.names if name in _OF_ONE_IMAGE)
        return Classifier(kept, self.widths, head)


def apply_of_one_image(
    names: Sequence[str], widths: Sequence[int] | None, features: np.ndarray
) -> np.ndarray:
    """Features `(n, d)` after those of some steps that follow each image alone."""
    for name in names:
        if name == "sqrt":
            features = signed_sqrt(features)
        elif name == "l2":
            features = l2_normalise(features, widths)
    return features


@dataclass(frozen=True)
class Classifier:
    """A linear classifier of features, after steps that follow each image alone.

    Args:
        steps: "sqrt" and "l2", in their order.
        widths: how many columns each tap has.
        head: the linear part.
    """

    steps: tuple[str, ...]
    widths: tuple[int, ...] | None
    head: LinearHead

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores `(n, k)` before the softmax, of features `(n, d)`, float32."""
        return self.head.scores(apply_of_one_image(self.steps, self.widths, features))

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities `(n, k)`, float32, of features `(n, d)`, float32."""
        return self.head.predict_proba(apply_of_one_image(self.steps, self.widths, features))

    def scaled(self, scale: np.ndarray, offset: np.ndarray) -> Classifier:
        """The classifier whose scores are multiplied and added to, class by class; both `(k,)`."""
        return Classifier(self.steps, self.widths, self.head.scaled(scale, offset))

    def on(self, backbone: keras.Model) -> keras.Model:
        """A backbone with these steps as layers, and the head as a `Dense` one, `predictions`."""
        keras = import_keras()
        features = backbone.output
        for name in self.steps:
            if name == "sqrt":
                size = keras.ops.sqrt(keras.ops.abs(features))
                features = keras.ops.sign(features) * size
            else:
                features = self._normalised(features)
        return self.head.on(keras.Model(backbone.input, features))

    def _normalised(self, features: Any) -> Any:
        keras = import_keras()
        if self.widths is None or len(self.widths) == 1:
            return keras.layers.UnitNormalization(name="l2")(features)
        parts = keras.ops.split(features, np.cumsum(self.widths)[:-1].tolist(), axis=-1)
        parts = [
            keras.layers.UnitNormalization(name=f"l2_{i}")(part) for i, part in enumerate(parts)
        ]
        return keras.layers.Concatenate(name="l2")(parts)
