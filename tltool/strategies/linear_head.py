"""A linear classifier on features: what every linear method folds into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tltool._keras import import_keras

if TYPE_CHECKING:
    import keras

__all__ = ["LinearHead"]


@dataclass(frozen=True)
class LinearHead:
    """Scores linear in raw features, and their softmax.

    Args:
        kernel: `(d, k)`, float32.
        bias: `(k,)`, float32.
    """

    kernel: np.ndarray
    bias: np.ndarray

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Probabilities `(n, k)`, float32, of features `(n, d)`, float32."""
        scores = features @ self.kernel + self.bias
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        return scores / scores.sum(axis=1, keepdims=True)

    def on(self, backbone: keras.Model) -> keras.Model:
        """The backbone with this head as a `Dense` layer named `predictions`."""
        keras = import_keras()
        dense = keras.layers.Dense(len(self.bias), activation="softmax", name="predictions")
        model = keras.Model(backbone.input, dense(backbone.output), name="classifier")
        dense.set_weights([self.kernel, self.bias])
        return model
