"""A linear classifier on features: what every linear method folds into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tltool._keras import import_keras

if TYPE_CHECKING:
    import keras

__all__ = ["HIDDEN", "LinearHead", "softmax"]

HIDDEN = "head_hidden"
"""In a saved model, names of layers between the features and `predictions` begin so."""


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities `(n, k)` of scores `(n, k)`."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class LinearHead:
    """Scores linear in raw features, and their softmax.

    Args:
        kernel: `(d, k)`, float32.
        bias: `(k,)`, float32.
    """

    kernel: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, kernel: np.ndarray, bias: np.ndarray) -> LinearHead:
        """A head of weights and biases in any precision."""
        return cls(kernel.astype(np.float32), bias.astype(np.float32))

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Scores `(n, k)` before the softmax, of features `(n, d)`, float32."""
        return features @ self.kernel + self.bias

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities `(n, k)`, float32, of features `(n, d)`, float32."""
        return softmax(self.scores(features))

    def scaled(self, scale: np.ndarray, offset: np.ndarray) -> LinearHead:
        """The head whose scores are multiplied and added to, class by class; both `(k,)`."""
        return LinearHead.of(self.kernel * scale, self.bias * scale + offset)

    def on(self, backbone: keras.Model) -> keras.Model:
        """The backbone with this head as a `Dense` layer named `predictions`."""
        keras = import_keras()
        dense = keras.layers.Dense(len(self.bias), activation="softmax", name="predictions")
        model = keras.Model(backbone.input, dense(backbone.output), name="classifier")
        dense.set_weights([self.kernel, self.bias])
        return model
