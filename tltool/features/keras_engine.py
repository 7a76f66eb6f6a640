"""Keras as an engine: the model as one TensorFlow graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tltool._keras import import_keras
from tltool.backbones.twins import in_bfloat16

if TYPE_CHECKING:
    import keras

__all__ = ["KerasEngine"]


class KerasEngine:
    """A Keras model in a `tf.function`, about twice as fast as `model.predict`.

    Args:
        model: from uint8 pixels to float32 `(n, d)`.
        precision: with "bfloat16" a copy of the model computes in it, its weights stay float32.
    """

    name = "keras"
    lanes = 1

    def __init__(self, model: keras.Model, precision: str = "float32") -> None:
        import_keras()
        import tensorflow as tf

        shape = (None, *model.input_shape[1:])
        network = in_bfloat16(model) if precision == "bfloat16" else model
        self._run: Any = tf.function(
            lambda pixels: tf.cast(network(pixels, training=False), tf.float32),
            input_signature=[tf.TensorSpec(shape, model.inputs[0].dtype)],
        )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self._run(pixels).numpy()
